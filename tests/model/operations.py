"""One operation as a plain value: what is generated, played, shrunk, sent to the player and printed."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any, Final

FLAGS: Final = {
    name: getattr(os, name)
    for name in ("O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_SYNC", "O_DSYNC", "O_DIRECTORY", "O_NOFOLLOW")
}
_MODES: Final = {os.O_RDONLY: "O_RDONLY", os.O_WRONLY: "O_WRONLY", os.O_RDWR: "O_RDWR"}


@dataclass(frozen=True, slots=True)
class Operation:
    """What one client does: the name of a method of `World`, and its arguments (numbers and texts).

    Arguments do not depend on what earlier operations brought, so any part of a list can be played: files
    are named by path, descriptors by the number of a slot, data by a seed and a length.
    """

    name: str
    arguments: tuple[Any, ...]
    client: int = 0

    def as_json(self) -> list[Any]:
        """The operation as a list for `from_json`."""
        return [self.client, self.name, *self.arguments]

    def __str__(self) -> str:
        shown = ", ".join(_show(self, index, value) for index, value in enumerate(self.arguments))
        return f"client {self.client}: {self.name}({shown})"


def from_json(values: list[Any]) -> Operation:
    """The inverse of `Operation.as_json`."""
    client, name, *arguments = values
    return Operation(name, tuple(arguments), client)


def content(seed: int, length: int) -> bytes:
    """The data that a seed stands for."""
    return random.Random(seed).randbytes(length)


def show_flags(flags: int) -> str:
    """Flags of open(2) by their names."""
    names = [_MODES[flags & os.O_ACCMODE]]
    # O_SYNC holds the bit of O_DSYNC.
    names += [name for name, bits in FLAGS.items() if flags & bits == bits and not _is_part(name, flags)]
    return "|".join(names)


def _is_part(name: str, flags: int) -> bool:
    return name == "O_DSYNC" and flags & os.O_SYNC == os.O_SYNC


def _show(operation: Operation, index: int, value: object) -> str:
    if operation.name == "open" and index == 2 and isinstance(value, int):
        return show_flags(value)
    if index == _MODE_ARGUMENT.get(operation.name) and isinstance(value, int):
        return f"0o{value:o}"
    return repr(value)


_MODE_ARGUMENT: Final = {"open": 3, "chmod": 1, "fchmod": 1}
