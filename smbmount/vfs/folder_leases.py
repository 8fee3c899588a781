"""Folders that the server vouches for: their leases, and the handles that are kept open for these.

A folder is opened to be listed, under its lease. Afterwards its handle is kept, and with it the lease: no
name in the folder comes or goes, and no file there changes, without a break. What we change there ourselves
breaks nothing, as each change says which folder it is in. A break closes the handle in its own step, and the
lease ends with it, so there is nothing to acknowledge unless a listing is just under way.

Invariants: `_kept` is ordered by the moment at which each handle is closed; a handle is kept only while its
lease lasts, and only if the server says that it is of the inode's own folder.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from engine import FileStat, Lease
from smbmount.vfs.inodes import Inode, InodeTable
from smbmount.vfs.remote import RemoteFolder, RemoteShare
from smbmount.vfs.vouching import Word

MAX_KEPT: Final = 256
"""Handles kept at once; beyond that the one that has been kept longest goes."""


class FolderLeases:
    """The leases of a mount's folders; none where the server has none or `seconds`, for which a handle is
    kept, is 0. Names in them are believed for no longer, as programs on the server itself break no lease."""

    def __init__(
        self,
        share: RemoteShare,
        inodes: InodeTable,
        spawn: Callable[..., object],
        seconds: float,
        *,
        enabled: bool,
    ) -> None:
        self._share = share
        self._inodes = inodes
        self._spawn = spawn
        self._seconds = seconds
        self._enabled = enabled and seconds > 0 and share.supports_directory_leases
        self._kept: dict[Inode, tuple[RemoteFolder, float]] = {}
        self._reaping = False

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, folder: Inode) -> Lease | None:
        """The lease of a folder, granted or not."""
        if folder.lease is None and self._enabled:
            folder.lease = self._share.lease(lambda lease: self._broken(folder, lease))
        return folder.lease

    def word(self, folder: Inode) -> Word | None:
        """What is to be asked for now in a folder will hold by this; None if nobody vouches for it."""
        return self._word(folder, trio.current_time())

    def _word(self, folder: Inode, asked_at: float) -> Word | None:
        if not folder.vouching:
            return None
        return Word(folder, folder.vouching, asked_at + self._seconds)

    @asynccontextmanager
    async def opened(self, folder: Inode) -> AsyncIterator[tuple[RemoteFolder, Word | None]]:
        """Open a folder to list it; what is listed holds by the word. Raises the engine's errors."""
        asked, asked_at = self._inodes.tick, trio.current_time()
        path = self._inodes.path(folder)
        # A folder without a number cannot be told from another that took its name.
        lease = self.of(folder) if folder.file_id else None
        remote, word = await self._share.open_folder(path, lease=lease), None
        if remote.lease is not None and not self._inodes.is_surely(folder, remote.stat):
            # The lease is another folder's, under this one's key: with the handle it goes.
            remote.close_later()
            remote = await self._share.open_folder(path)
        if remote.lease is not None:
            word = self._word(folder, asked_at)
            self._take_attributes(folder, remote.stat, asked, word)
        try:
            yield remote, word
        except BaseException:
            remote.close_later()
            raise
        if word is None or not word.is_kept:
            remote.close_later()
        else:
            self._keep(folder, remote, word.until)

    @staticmethod
    def _take_attributes(folder: Inode, stat: FileStat, asked: int, word: Word | None) -> None:
        if word is not None and asked >= folder.changed:
            stat.ea_size, stat.reparse_tag = folder.stat.ea_size, folder.stat.reparse_tag
            folder.update(stat, asked, 0.0)
            folder.word = word

    def close(self, folder: Inode) -> None:
        """Close what is kept of a folder, without waiting for the server: it is to be renamed or removed."""
        remote, _ = self._kept.pop(folder, (None, 0.0))
        if remote is not None:
            folder.is_kept = False
            remote.close_later()
            self._inodes.discard_if_unused(folder)

    def close_below(self, folder: Inode) -> None:
        """The same for a folder and all below it."""
        for kept in tuple(self._kept):
            if folder in kept.ancestors():
                self.close(kept)

    def close_all(self) -> None:
        """Close everything, without waiting for the server."""
        for folder in tuple(self._kept):
            self.close(folder)

    def _keep(self, folder: Inode, remote: RemoteFolder, until: float) -> None:
        outdated, _ = self._kept.pop(folder, (None, 0.0))
        if outdated is not None:
            outdated.close_later()
        while len(self._kept) >= MAX_KEPT:
            self.close(next(iter(self._kept)))
        self._kept[folder] = remote, until
        folder.is_kept = True
        if not self._reaping:
            self._reaping = True
            self._spawn(self._reap)

    def _broken(self, folder: Inode, lease: Lease) -> None:
        self.close(folder)
        folder.broken_at = trio.current_time()
        folder.expire()
        if folder.listing is not None:
            folder.listing.fresh_until = 0.0
        if lease.needs_acknowledgement:
            self._spawn(lease.acknowledge)

    async def _reap(self) -> None:
        try:
            while self._kept:
                await trio.sleep_until(next(iter(self._kept.values()))[1])
                now = trio.current_time()
                for folder in [folder for folder, (_, until) in self._kept.items() if until <= now]:
                    self.close(folder)
        finally:
            self._reaping = False
