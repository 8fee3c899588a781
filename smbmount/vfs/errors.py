"""The file system's own refusals, next to the engine's `SmbError`."""

from __future__ import annotations

import errno
import os

from engine import DeletePending, NameInvalid, NotFound, SmbError


class PosixError(OSError):
    """A refusal decided here, without the server's help; `errno` is never None."""

    errno: int

    def __init__(self, number: int, what: str = "") -> None:
        super().__init__(number, what or os.strerror(number))


class NoSuchName(PosixError):
    """ENOENT; `valid_for` are the seconds for which that may be believed."""

    def __init__(self, valid_for: float) -> None:
        super().__init__(errno.ENOENT)
        self.valid_for = max(0.0, valid_for)


def errno_of(error: SmbError | OSError) -> int:
    """The errno that a program is told; never 0."""
    return error.errno or errno.EIO


ABSENT = (NotFound, DeletePending, NameInvalid)
"""What a look-up takes for "there is no such name": a deleted file that somebody still holds open
cannot be opened any more, and a name that the server refuses cannot exist."""
