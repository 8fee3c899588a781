"""Imports only point down: the floors of docs/ARCHITECTURE.md, read from the sources with `ast`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

CHECKOUT: Final = Path(__file__).resolve().parents[2]

_FLOORS: Final = {
    "engine.errors": 0,
    "engine.ntstatus": 0,
    "engine.wire": 1,
    "engine.crypto": 1,
    "engine.proto": 2,
    "engine.client": 3,
    "engine": 3,
    "smbmount.vfs": 4,
    "smbmount.operations": 5,
    "smbmount.guard": 5,
    "smbmount.notify": 5,
    "smbmount": 6,
}
"""The floor of a module is that of its longest name here; what stands on no floor of its own is on top."""

_PYFUSE3_MODULES: Final = {
    "smbmount.operations",
    "smbmount.guard",
    "smbmount.notify",
    "smbmount.daemon",
    "smbmount.fusemount",
}
_TRIO_FLOOR: Final = 3


def complaints(module: str, source: str, exists: Callable[[str], bool], public: frozenset[str]) -> list[str]:
    """Return what is wrong with the imports of one module, a sentence each.

    `module` of a package ends in `.__init__`. `exists` tells whether a dotted name is a module of this
    project; `public` is `engine.__all__`.
    """
    found = []
    for line, target, name in _imports(module.rpartition(".")[0], source):
        full = f"{target}.{name}" if name and exists(f"{target}.{name}") else target
        problem = _problem(module, full, name, public)
        if problem is not None:
            found.append(f"{module}:{line}: {problem}")
    return found


def _imports(package: str, source: str) -> Iterator[tuple[int, str, str | None]]:
    """Yield line, module and imported name (None for `import module`), imports inside functions too.

    `engine.name`, written after `import engine`, counts as an import of that name.
    """
    above = package.split(".")
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    yield node.lineno, alias.name, None
            case ast.ImportFrom(names=aliases, level=level, module=module):
                base = above[: len(above) + 1 - level] if level else []
                target = ".".join([*base, *([module] if module else [])])
                for alias in aliases:
                    yield node.lineno, target, alias.name
            case ast.Attribute(value=ast.Name(id="engine"), attr=name):
                yield node.lineno, "engine", name


def _problem(module: str, target: str, name: str | None, public: frozenset[str]) -> str | None:
    package, root = module.partition(".")[0], target.partition(".")[0]
    floor = _floor(module)
    if root == "trio" and floor < _TRIO_FLOOR:
        return f"trio on floor {floor}"
    if root == "pyfuse3" and module not in _PYFUSE3_MODULES:
        return "pyfuse3 outside the modules that mount and notify"
    if root == "smbmount" and package == "engine":
        return "engine imports smbmount"
    if root == "engine" and package == "smbmount":
        return _face_problem(target, name, public)
    if root == package and _floor(target) > floor:
        return f"floor {floor} imports {target} of floor {_floor(target)}"
    if module in ("engine.errors", "engine.ntstatus") and root == "engine" and _floor(target) > 0:
        return f"{module} imports {target}"
    return None


def _face_problem(target: str, name: str | None, public: frozenset[str]) -> str | None:
    if target != "engine":
        return f"{target} is behind the engine's public face; write `from engine import …`"
    return None if name is None or name in public else f"engine does not export {name}"


def _floor(module: str) -> int:
    parts = module.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next(_FLOORS[name] for name in names if name in _FLOORS)


def _modules() -> dict[str, Path]:
    found = {}
    for package in ("engine", "smbmount"):
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            parts = path.relative_to(CHECKOUT).with_suffix("").parts
            found[".".join(parts)] = path
    return found


def _public_names() -> frozenset[str]:
    tree = ast.parse((CHECKOUT / "engine" / "__init__.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                return frozenset(ast.literal_eval(node.value))
    raise AssertionError("engine/__init__.py has no literal __all__")


def test_our_own_imports() -> None:
    modules, public = _modules(), _public_names()
    names = {*modules, *(module.removesuffix(".__init__") for module in modules)}
    found = [
        complaint
        for module, path in modules.items()
        for complaint in complaints(module, path.read_text(), names.__contains__, public)
    ]
    assert not found, "\n".join(found)


_EXAMPLE_MODULES: Final = frozenset(
    {
        *("engine", "engine.errors", "engine.wire", "engine.wire.read", "engine.crypto.kdf", "engine.client"),
        *("engine.client.share", "engine.proto.machine", "smbmount", "smbmount.cli", "smbmount.vfs.names"),
    }
)


@pytest.mark.parametrize(
    ("module", "source", "problem"),
    [
        ("engine.wire.read", "import trio", "trio on floor 1"),
        ("engine.proto.machine", "from trio import Event", "trio on floor 2"),
        ("engine.wire.read", "def f():\n  from engine.proto import machine", "imports engine.proto.machine"),
        ("engine.proto.machine", "import engine.client.share", "floor 2 imports engine.client.share"),
        ("engine.crypto.kdf", "from engine.client import share", "floor 1 imports engine.client.share"),
        ("engine.wire.read", "from engine import connect", "floor 1 imports engine of floor 3"),
        ("engine.errors", "from engine.wire import read", "imports engine.wire.read"),
        ("engine.client.share", "from smbmount.vfs import names", "engine imports smbmount"),
        ("engine.client.share", "import pyfuse3", "pyfuse3 outside"),
        ("smbmount.vfs.names", "import pyfuse3", "pyfuse3 outside"),
        ("smbmount.vfs.names", "from smbmount.cli import main", "floor 4 imports smbmount.cli of floor 6"),
        ("smbmount.vfs.names", "from engine.client import share", "behind the engine's public face"),
        ("smbmount.vfs.names", "import engine\nengine.hidden()", "engine does not export hidden"),
        ("smbmount.vfs.names", "import engine.client", "behind the engine's public face"),
        ("smbmount.vfs.names", "from engine import wire", "behind the engine's public face"),
        ("smbmount.vfs.names", "from engine import hidden", "engine does not export hidden"),
        ("smbmount.vfs.names", "from ..cli import main", "floor 4 imports smbmount.cli of floor 6"),
        ("engine.wire.__init__", "from ..client import share", "floor 1 imports engine.client.share"),
    ],
)
def test_bad_imports_are_found(module: str, source: str, problem: str) -> None:
    found = complaints(module, source, _EXAMPLE_MODULES.__contains__, frozenset({"connect"}))
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("engine.wire.read", "import struct\nfrom engine.errors import RemoteProtocolError"),
        ("engine.proto.machine", "from engine.wire import read"),
        ("engine.client.share", "import trio\nfrom engine.proto.machine import Machine"),
        ("engine.__init__", "from engine.client.share import Share"),
        ("engine.client.__init__", "from .share import Share\nfrom . import share"),
        ("smbmount.vfs.names", "import trio\nfrom engine import connect"),
        ("smbmount.vfs.names", "import engine\nengine.connect()"),
        ("smbmount.operations", "import pyfuse3\nfrom smbmount.vfs.names import map_name"),
        ("smbmount.daemon", "import pyfuse3\nfrom smbmount.operations import Operations"),
    ],
)
def test_good_imports_pass(module: str, source: str) -> None:
    assert complaints(module, source, _EXAMPLE_MODULES.__contains__, frozenset({"connect"})) == []
