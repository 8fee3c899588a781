"""From what the server lists to the entries that may be shown: names checked, symbolic links found."""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import Final, NamedTuple

import trio

from engine import SmbError
from smbmount.vfs.attributes import DIRECTORY, FILE, SYMLINK, may_be_symlink
from smbmount.vfs.core import Core
from smbmount.vfs.inodes import Inode
from smbmount.vfs.listings import Entry
from smbmount.vfs.liststream import Batch
from smbmount.vfs.names import join
from smbmount.vfs.silly import is_silly
from smbmount.vfs.vouching import Word

log = logging.getLogger(__name__)

_LINK_READERS: Final = 16
"""Files of a symbolic link's size that are looked into at once, for programs and as many ahead of them."""


class Scan(NamedTuple):
    """A folder, read at once; `complete` unless it had more entries than were wanted."""

    entries: list[Entry]
    complete: bool
    asked: int
    asked_at: float
    word: Word | None


class Scanner:
    """Reads folders. What is read `ahead` of programs has its own bounds: they never wait for it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._link_readers = trio.CapacityLimiter(_LINK_READERS)
        self._link_readers_ahead = trio.CapacityLimiter(_LINK_READERS)
        self.dropped_names = 0

    async def read(self, folder: Inode, most: int, *, ahead: bool = False) -> Scan:
        """List a folder, until there are more than `most` entries. Raises the engine's errors."""
        core = self._core
        asked, asked_at = core.inodes.tick, core.now()
        path = core.inodes.path(folder)
        entries: list[Entry] = []
        async with (
            core.folder_leases.opened(folder) as (remote, word),
            aclosing(remote.batches()) as batches,
        ):
            async for batch in batches:
                entries += await self.check(path, Batch(batch, asked, asked_at, word), ahead=ahead)
                if len(entries) > most:
                    break
        return Scan(entries, len(entries) <= most, asked, asked_at, word)

    async def check(self, path: str, batch: Batch, *, ahead: bool = False) -> list[Entry]:
        """The entries of a batch that may be shown; `path` is the folder's."""
        core, asked, word = self._core, batch.asked, batch.word
        decode = core.names.decode_untrusted
        looks_like_link = may_be_symlink if core.config.shows_symlinks else lambda stat: False
        folder_until = batch.asked_at + core.time_to_live(DIRECTORY)
        file_until = batch.asked_at + core.time_to_live(FILE)
        entries: list[Entry] = []
        suspects: list[int] = []
        for found in batch.entries:
            smb_name, stat = found.name, found.stat
            name = decode(smb_name)
            if name is None:
                self._drop(path, smb_name)
            elif is_silly(smb_name):
                continue
            elif stat.is_directory:
                entries.append(Entry(name, smb_name, stat, DIRECTORY, None, asked, folder_until, word))
            else:
                if looks_like_link(stat):
                    suspects.append(len(entries))
                entries.append(Entry(name, smb_name, stat, FILE, None, asked, file_until, word))
        if suspects:
            readers = self._link_readers_ahead if ahead else self._link_readers
            await self._look_into(path, entries, suspects, readers)
        return entries

    def _drop(self, path: str, smb_name: str) -> None:
        if not self.dropped_names and smb_name not in (".", ".."):
            log.warning("the server lists names that cannot be shown, first %r in %r", smb_name, path)
        self.dropped_names += 1

    async def _look_into(
        self, path: str, entries: list[Entry], suspects: list[int], readers: trio.CapacityLimiter
    ) -> None:
        """Tell symbolic links from files that only have their size."""
        failures: list[SmbError] = []

        async def look(index: int) -> None:
            async with readers:
                try:
                    entry = entries[index]
                    kind, target = await self._core.classify(join(path, entry.smb_name), entry.stat)
                except SmbError as exc:
                    failures.append(exc)
                    return
            if kind == SYMLINK:
                entries[index] = entry._replace(kind=kind, target=target)

        async with trio.open_nursery() as nursery:
            for index in suspects:
                nursery.start_soon(look, index)
        if failures:
            raise failures[0]
