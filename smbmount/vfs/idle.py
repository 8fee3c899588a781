"""Closed files whose handle on the server lives on for the next open (deferred close).

A handle is parked here only while nobody else has the file open: the lease then includes WRITE caching.
Whoever opens it elsewhere breaks that, and whoever renames or removes it through this mount says so; either
closes the handle at once. With less of a lease Samba would let another client delete the file, and then
keep the name until our handle is closed.

What a lease does not vouch for on Samba is the name: a file that is replaced by a rename breaks nothing. So a
parked handle is for the data; that its name still leads to it is asked at the open.

Invariants: `_files` is ordered by `due`; `file in file.inode.idle` exactly while it is in `_files`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from smbmount.vfs.lateclose import LateCloses
from smbmount.vfs.remote import RemoteFile

if TYPE_CHECKING:
    from smbmount.vfs.inodes import Inode

MAX_IDLE: Final = 512
"""Handles kept at once; beyond that the one that has waited longest goes. Their contents: 32 MiB at most."""


class IdleFile:
    """A parked handle: what it may do, and the file's content if that came with the open.

    Until `named_until` the name needs not be asked for: the handle was opened ahead of a program's open.
    """

    __slots__ = ("content", "due", "file", "inode", "named_until", "writable")

    def __init__(
        self,
        inode: Inode,
        file: RemoteFile,
        *,
        writable: bool,
        content: memoryview | None,
        due: float,
        named_until: float,
    ) -> None:
        self.inode = inode
        self.file = file
        self.writable = writable
        self.content = content
        self.due = due
        self.named_until = named_until


class IdleFiles:
    """All parked handles of a mount; each is kept for `seconds`, none if that is 0.

    `on_closed(inode)` is called when a parked handle was closed. What `late` keeps of written files is closed
    with them.
    """

    def __init__(
        self,
        spawn: Callable[..., object],
        on_closed: Callable[[Inode], None],
        seconds: float,
        late: LateCloses,
        limit: int = MAX_IDLE,
    ) -> None:
        self.late = late
        self._spawn = spawn
        self._on_closed = on_closed
        self._seconds = seconds
        self._limit = limit
        self._files: dict[IdleFile, None] = {}
        self._reaping = False

    def __len__(self) -> int:
        return len(self._files)

    def park(
        self,
        inode: Inode,
        file: RemoteFile,
        *,
        writable: bool,
        content: memoryview | None = None,
        named_until: float = 0.0,
    ) -> bool:
        """Take over a readable handle that nobody uses; False if it is the caller's still: not to be kept."""
        if self._seconds <= 0 or inode.unlinked or inode.idle or not inode.is_exclusive:
            return False
        while len(self._files) >= self._limit:
            self._close(next(iter(self._files)))
        due = trio.current_time() + self._seconds
        parked = IdleFile(inode, file, writable=writable, content=content, due=due, named_until=named_until)
        self._files[parked] = None
        inode.idle.append(parked)
        if not self._reaping:
            self._reaping = True
            self._spawn(self._reap)
        return True

    def take(self, inode: Inode, *, writable: bool) -> IdleFile | None:
        """A parked handle of an inode that may read, and write if asked; it is the caller's then."""
        found = next((parked for parked in inode.idle if parked.writable or not writable), None)
        if found is not None:
            self._remove(found)
        return found

    def close(self, inode: Inode) -> None:
        """Close what is parked of an inode, without waiting for the server."""
        self.late.close(inode)
        for parked in tuple(inode.idle):
            self._close(parked)

    def close_below(self, folder: Inode) -> None:
        """Close what is parked in a folder and below: servers do not rename it otherwise."""
        self.late.close_below(folder)
        inodes = dict.fromkeys(parked.inode for parked in self._files)
        for inode in inodes:
            if folder in inode.ancestors():
                self.close(inode)

    def close_all(self) -> None:
        """Close everything, without waiting for the server."""
        self.late.close_all()
        for parked in tuple(self._files):
            self._close(parked)

    def _close(self, parked: IdleFile) -> None:
        self._remove(parked)
        parked.file.close_later()
        self._on_closed(parked.inode)

    def _remove(self, parked: IdleFile) -> None:
        del self._files[parked]
        parked.inode.idle.remove(parked)

    async def _reap(self) -> None:
        try:
            while self._files:
                oldest = next(iter(self._files))
                await trio.sleep_until(oldest.due)
                while self._files and next(iter(self._files)).due <= trio.current_time():
                    self._close(next(iter(self._files)))
        finally:
            self._reaping = False
