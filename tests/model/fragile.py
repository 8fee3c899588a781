"""What does not outlive the connection, and is left out where a line is cut: nothing else is.

Where the server keeps open files over a loss (durable handles) it may outlive it; nobody can count on that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from tests.model.differences import Situation
from tests.model.operations import Operation

_WRITE_BITS: Final = 0o222


def is_fragile(situation: Situation, operation: Operation) -> bool:
    """Whether the operation makes an open file one that cannot be opened again after a loss."""
    check = _CHECKS.get(operation.name)
    return check is not None and check(situation, operation)


def _takes_name(situation: Situation, operation: Operation) -> bool:
    """A file without a name ends with its last open, which a lost connection is."""
    path = operation.arguments[0 if operation.name == "unlink" else 1]
    return situation.identity(operation, path) in situation.open_files()


def _takes_right(situation: Situation, operation: Operation) -> bool:
    """A read-only file cannot be opened for writing again."""
    if operation.arguments[1] & _WRITE_BITS:
        return False
    if operation.name == "fchmod":
        slot = situation.local.slots.get(operation.arguments[0])
        file = situation.local.identity_of(slot) if slot is not None else None
    else:
        file = situation.target(operation, operation.arguments[0])
    # What was opened with O_TRUNC is open for writing on the server, be it with O_RDONLY.
    truncated = {
        situation.local.identity_of(slot)
        for slot in situation.local.slots.values()
        if slot.flags & os.O_TRUNC
    }
    return file in situation.open_files(writable=True) | truncated


def _makes_read_only(situation: Situation, operation: Operation) -> bool:
    _, path, flags, mode = operation.arguments
    writes = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
    makes = flags & os.O_CREAT and situation.target(operation, path) is None
    return bool(makes and writes and not mode & _WRITE_BITS)


_CHECKS: Final[dict[str, Callable[[Situation, Operation], bool]]] = {
    "unlink": _takes_name,
    "rename": _takes_name,
    "rename_with": _takes_name,
    "fchmod": _takes_right,
    "chmod": _takes_right,
    "open": _makes_read_only,
}
