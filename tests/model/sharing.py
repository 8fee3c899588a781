"""What two clients may do at a time so that the outcome is still decided.

SMB is close-to-open: what one client does to a file that another has open is seen by it in the end, or by
the next open. So an operation is left out if it depends on a moment: it changes or removes a file that the
other has open, looks at data that the other has not brought to the server yet, or sets what no lease covers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from tests.model.operations import Operation
from tests.model.world import World

Identity = tuple[int, int]

_READ_SLOT: Final = {"read": 0, "pread": 0, "mmap_read": 0, "fstat": 0, "lseek": 0, "sendfile": 1,
                     "copy_file_range": 1}  # fmt: skip
_WRITE_SLOT: Final = {"write": 0, "pwrite": 0, "ftruncate": 0, "mmap_write": 0, "sendfile": 0,
                      "copy_file_range": 0}  # fmt: skip
_SET_SLOT: Final = ("fchmod", "futimens")
_LOOKED_AT: Final = ("stat", "lstat", "read_file", "access", "getxattr", "listxattr")
_WRITTEN: Final = ("truncate", "write_file")
_SET: Final = ("chmod", "utimens", "touch", "setxattr", "removexattr")
_SYNCED: Final = ("fsync", "fdatasync", "close")


@dataclass(slots=True)
class Sharing:
    """Who has what open, and what is not on the server yet: looked up in the local folder."""

    local: World
    _unwritten: set[tuple[int, Identity]] = field(default_factory=set)
    """Clients, and the files that they have changed through a descriptor since they last brought all of it to
    the server."""
    keeps_files: bool = True
    """Whether a client keeps closed files under a lease, and with them attributes that no lease covers."""

    def is_undecided(self, operation: Operation) -> bool:
        """Whether the outcome depends on more than what was done before."""
        name, client = operation.name, operation.client
        read = self._file(operation, _READ_SLOT, _LOOKED_AT)
        written = self._file(operation, _WRITE_SLOT, _WRITTEN)
        if name == "open":
            truncates = operation.arguments[2] & (os.O_TRUNC | os.O_APPEND)
            read, written = (None, self._named(operation, 1)) if truncates else (None, None)
        if read is not None and self._is_unwritten_elsewhere(read, client):
            return True
        if written is not None and self._is_open_elsewhere(written, client):
            return True
        return self._removes_what_is_open(operation) or self._sets_what_another_sees(operation)

    def done(self, operation: Operation) -> None:
        """Note what was done."""
        written = self._file(operation, _WRITE_SLOT, ())
        if written is not None:
            self._unwritten.add((operation.client, written))

    def about_to(self, operation: Operation) -> None:
        """Note what brings data to the server; before it is done, because a descriptor may be gone then."""
        number = operation.arguments[0] if operation.name in _SYNCED else None
        if number is None and operation.name in ("open", "dup"):
            # Whatever was in the slot is closed.
            number = operation.arguments[0 if operation.name == "open" else 1]
        if number in self.local.slots:
            self._unwritten.discard((operation.client, self.local.identity(number)))

    def _file(self, operation: Operation, slots: dict[str, int], paths: tuple[str, ...]) -> Identity | None:
        if operation.name in slots:
            number = operation.arguments[slots[operation.name]]
            return self.local.identity(number) if number in self.local.slots else None
        return self._named(operation, 0) if operation.name in paths else None

    def _named(self, operation: Operation, argument: int) -> Identity | None:
        self.local.enter(operation.client)
        try:
            info = os.stat(operation.arguments[argument])
        except (OSError, ValueError):
            return None
        return info.st_dev, info.st_ino

    def _open_elsewhere(self, client: int) -> set[Identity]:
        slots = self.local.slots
        return {self.local.identity(number) for number, slot in slots.items() if slot.client != client}

    def _is_open_elsewhere(self, file: Identity, client: int) -> bool:
        return file in self._open_elsewhere(client)

    def _is_unwritten_elsewhere(self, file: Identity, client: int) -> bool:
        return any(file == other and client != writer for writer, other in self._unwritten)

    def _removes_what_is_open(self, operation: Operation) -> bool:
        if operation.name == "unlink":
            removed = [operation.arguments[0]]
        elif operation.name in ("rename", "rename_with"):
            # Of a renamed folder all that is below counts.
            removed = [operation.arguments[1], *self._below(operation)]
        else:
            return False
        elsewhere = self._open_elsewhere(operation.client)
        self.local.enter(operation.client)
        for path in removed:
            try:
                info = os.lstat(path)
            except OSError:
                continue
            if (info.st_dev, info.st_ino) in elsewhere:
                return True
        return False

    def _below(self, operation: Operation) -> list[str]:
        self.local.enter(operation.client)
        source = operation.arguments[0]
        if os.path.islink(source):
            return []
        walk = os.walk(source)
        return [os.path.join(folder, name) for folder, _, files in walk for name in files]

    def _sets_what_another_sees(self, operation: Operation) -> bool:
        slot = operation.arguments[0] if operation.name in _SET_SLOT else None
        if slot in self.local.slots:
            file: Identity | None = self.local.identity(slot)
        else:
            file = self._named(operation, 0) if operation.name in _SET else None
        return file is not None and (self.keeps_files or self._is_open_elsewhere(file, operation.client))
