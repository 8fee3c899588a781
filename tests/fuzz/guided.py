"""One target under atheris, as `runner` starts it: `python -m tests.fuzz.guided TARGET [ARGUMENT…]`."""

from __future__ import annotations

import importlib
import sys
from typing import Final

_OURS: Final = ("engine", "smbmount")
_LOG_ON: Final = ("spnego",)
"""The library that reads the log-on's tokens. Instrumenting it takes seconds: only for those who use it."""
_TALKS: Final = ("client.connect", "client.log_on")


def main() -> None:
    """Instrument, then import what is to be followed, then hand over: this does not return."""
    atheris = importlib.import_module("atheris")
    name, *arguments = sys.argv[1:]
    packages = [*_OURS, *(_LOG_ON if name.startswith(_TALKS) else ())]
    with atheris.instrument_imports(include=packages, enable_loader_override=False):
        table = importlib.import_module("tests.fuzz.table")
    atheris.Setup([sys.argv[0], *arguments], table.BY_NAME[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
