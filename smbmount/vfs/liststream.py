"""A folder's listing as it comes: while a program takes one batch, the server is asked for the next."""

from __future__ import annotations

import errno
import logging
from contextlib import aclosing
from typing import NamedTuple

import trio

from engine import DirectoryEntry, SmbError
from smbmount.vfs.core import Core
from smbmount.vfs.errors import PosixError
from smbmount.vfs.inodes import Inode
from smbmount.vfs.vouching import Word

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Some entries, and when they were asked for: the inode table's tick, and trio's clock; and the word of
    the folder's lease, which they were listed under."""

    entries: list[DirectoryEntry]
    asked: int
    asked_at: float
    word: Word | None


class ListingStream:
    """One listing under way; exactly one batch ahead of its reader, who owns it and has to close it."""

    def __init__(self, core: Core, folder: Inode) -> None:
        self._core = core
        self._folder = folder
        self._sender, self._receiver = trio.open_memory_channel[Batch](0)
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._error: SmbError | OSError | None = PosixError(errno.EIO, "the listing was interrupted")
        core.spawn(self._run)

    async def next_batch(self) -> Batch | None:
        """The next entries, None at the end; raises what the server said instead of them."""
        try:
            return await self._receiver.receive()
        except trio.EndOfChannel:
            if self._error is not None:
                raise self._error from None
            return None

    async def aclose(self) -> None:
        """Give the listing up; when this returns, nothing of it is under way."""
        self._scope.cancel()
        await self._ended.wait()

    async def _run(self) -> None:
        try:
            with self._scope, self._sender:
                await self._list()
        finally:
            self._ended.set()

    async def _list(self) -> None:
        core = self._core
        try:
            asked, asked_at = core.inodes.tick, core.now()
            async with (
                core.folder_leases.opened(self._folder) as (remote, word),
                aclosing(remote.batches()) as batches,
            ):
                async for entries in batches:
                    await self._sender.send(Batch(entries, asked, asked_at, word))
                    asked, asked_at = core.inodes.tick, core.now()
            self._error = None
        except (SmbError, OSError) as exc:
            self._error = exc
        except Exception:
            log.exception("a listing ended in a mistake of this program")
