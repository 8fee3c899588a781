"""Open files and open folders, as the kernel's file handles name them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Generic, TypeVar

from engine import SmbError
from smbmount.vfs.errors import PosixError
from smbmount.vfs.readahead import ReadAhead
from smbmount.vfs.remote import RemoteFile

if TYPE_CHECKING:
    from smbmount.vfs.inodes import Inode

Handle = TypeVar("Handle")


class FileHandle:
    """One open file: its server handle, and what the kernel asked for when it was opened.

    `wrote`: it may write, and has written, truncated or made the file, so the server sets times anew when it
    is closed.
    `content` is the whole content of a small file as it came with the open, until the file changes.
    Invariant: it stands in `inode.handles` from the open until its data is drained at release.
    """

    __slots__ = (
        "_error",
        "append",
        "content",
        "direct",
        "file",
        "inode",
        "number",
        "readahead",
        "syncs",
        "writable",
        "wrote",
    )

    def __init__(
        self,
        inode: Inode,
        file: RemoteFile,
        *,
        writable: bool,
        append: bool,
        direct: bool,
        syncs: bool,
        readahead: ReadAhead | None,
        content: memoryview | None = None,
    ) -> None:
        self.number = 0
        self.inode = inode
        self.file = file
        self.writable = writable
        self.append = append
        self.direct = direct
        """Whether the server answers each write itself."""
        self.syncs = syncs
        """Whether each write is to be on the server's disk when it is answered."""
        self.readahead = readahead
        self.content = content
        self.wrote = False
        self._error: SmbError | OSError | None = None

    def fail(self, error: SmbError | OSError) -> None:
        """Remember the first error of write-behind since the last report."""
        if self._error is None:
            self._error = error

    @property
    def failed(self) -> bool:
        """Whether there is an error to report."""
        return self._error is not None

    def take_error(self) -> SmbError | OSError | None:
        """The error to report now; it is reported once."""
        error, self._error = self._error, None
        return error

    def raise_error(self) -> None:
        """Report the error of write-behind, if there is one."""
        error = self.take_error()
        if error is not None:
            raise error


class HandleTable(Generic[Handle]):
    """The numbers that the kernel knows handles by. They are never inode numbers, never used twice."""

    def __init__(self) -> None:
        self._handles: dict[int, Handle] = {}
        self._last = 0

    def add(self, handle: Handle) -> int:
        """The number of a new handle."""
        self._last += 1
        self._handles[self._last] = handle
        return self._last

    def __getitem__(self, number: int) -> Handle:
        try:
            return self._handles[number]
        except KeyError:
            raise PosixError(errno.EBADF) from None

    def remove(self, number: int) -> Handle:
        """Forget a handle and return it."""
        handle = self[number]
        del self._handles[number]
        return handle

    def all(self) -> list[Handle]:
        """Every handle, the oldest first."""
        return list(self._handles.values())
