"""Finds what takes bytes from elsewhere: every public function or method whose name ends in `_untrusted`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Final

import engine
import smbmount

_UNTRUSTED: Final = "_untrusted"


def find() -> set[str]:
    """The full names; a decoder that a class inherits counts as its own: what it decodes is another thing."""
    return {name for module in _modules() for name in _in_module(module)}


def _modules() -> Iterator[ModuleType]:
    for package in (engine, smbmount):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def _in_module(module: ModuleType) -> Iterator[str]:
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value) and name.endswith(_UNTRUSTED):
            yield f"{module.__name__}.{name}"
        elif inspect.isclass(value) and not getattr(value, "_is_protocol", False):
            yield from (
                f"{module.__name__}.{name}.{attribute}"
                for attribute in dir(value)
                if attribute.endswith(_UNTRUSTED) and not attribute.startswith("_")
            )
