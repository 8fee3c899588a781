"""One target under atheris, as `runner` starts it: `python -m tests.fuzz.guided TARGET [ARGUMENT…]`."""

from __future__ import annotations

import importlib
import sys
from typing import Final

_GUIDES: Final = {
    **dict.fromkeys(("client.connect", "client.log_on"), ("engine", "spnego")),
    **dict.fromkeys(("wire.", "crypto.", "proto.", "client."), ("engine",)),
    "": ("engine", "smbmount"),
}
"""The packages whose branches count, by how a target's name begins: to instrument them all takes seconds."""


def main() -> None:
    """Instrument, then import what is to be followed, then hand over: this does not return."""
    atheris = importlib.import_module("atheris")
    name, *arguments = sys.argv[1:]
    packages = next(packages for prefix, packages in _GUIDES.items() if name.startswith(prefix))
    with atheris.instrument_imports(include=list(packages), enable_loader_override=False):
        table = importlib.import_module("tests.fuzz.table")
    atheris.Setup([sys.argv[0], *arguments], table.BY_NAME[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
