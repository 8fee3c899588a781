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

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Some entries, and when they were asked for: the inode table's tick, and trio's clock."""

    entries: list[DirectoryEntry]
    asked: int
    asked_at: float


class ListingStream:
    """One listing under way; exactly one batch ahead of its reader, who owns it and has to close it."""

    def __init__(self, core: Core, path: str) -> None:
        self._core = core
        self._path = path
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
            async with aclosing(core.share.scandir(self._path)) as batches:
                while True:
                    asked, asked_at = core.inodes.tick, core.now()
                    entries = await anext(batches, None)
                    if entries is None:
                        break
                    await self._sender.send(Batch(entries, asked, asked_at))
            self._error = None
        except (SmbError, OSError) as exc:
            self._error = exc
        except Exception:
            log.exception("a listing ended in a mistake of this program")
