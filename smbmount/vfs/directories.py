"""Reading folders: a snapshot per open folder, fetched in batches as the program reads on.

A position is an index into the snapshot, so it stays valid while the folder changes: 0 is `.`, 1 is `..`,
then the entries. Attributes come from the listing itself. Names that we changed after they were
fetched are taken from the inode table, not from the outdated snapshot.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import trio

from engine import DirectoryEntry, SmbError
from smbmount.vfs.attributes import DIRECTORY, FILE, SYMLINK, Attributes, may_be_symlink
from smbmount.vfs.core import Core
from smbmount.vfs.errors import PosixError
from smbmount.vfs.handles import HandleTable
from smbmount.vfs.inodes import Dentry, Inode
from smbmount.vfs.listings import MAX_ENTRIES, Entry, Listing
from smbmount.vfs.names import join
from smbmount.vfs.silly import is_silly

log = logging.getLogger(__name__)

_DOTS: Final = 2
_KEPT_BEHIND: Final = 20_000
"""Entries that stay for a program that seeks back; beyond this, its seek lists the folder again."""
_LINK_READERS: Final = 16
"""Files of a symbolic link's size that are looked into at once."""
_MISSES: Final = 2
"""Names asked for one by one before the whole folder is listed instead."""
_HUGE_FOR: Final = 60.0
"""Seconds for which a folder that was too large to be listed for a look-up is not tried again."""

Reply = Callable[[bytes, Attributes, int], bool]
"""Takes a name, its attributes and the position behind it; False if there was no room for it."""


class DirectoryHandle:
    """One open folder and the part of its snapshot that is in memory.

    Invariant: `entries[i]` is at position `first + i`; `changed` holds the names that we changed since the
    snapshot began.
    """

    def __init__(self, inode: Inode) -> None:
        self.inode = inode
        self.lock = trio.Lock()
        self.changed: set[bytes] = set()
        self.restart()

    def restart(self) -> None:
        """Begin a new snapshot; the old one's generator has been closed."""
        self.entries: list[Entry] = []
        self.first = _DOTS
        self.batches: AsyncGenerator[list[DirectoryEntry], None] | None = None
        self.complete = False
        self.broken = False
        self.started = False
        self.began = 0.0
        self.changed.clear()

    @property
    def end(self) -> int:
        """The position behind what is in memory."""
        return self.first + len(self.entries)


class Directories:
    """opendir, readdir, releasedir; and listing a folder for the sake of look-ups."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._handles: HandleTable[DirectoryHandle] = HandleTable()
        self._huge_until: dict[int, float] = {}
        self._priming: dict[Inode, trio.Event] = {}
        self._link_readers = trio.CapacityLimiter(_LINK_READERS)
        self.dropped_names = 0

    async def opendir(self, number: int) -> int:
        """Open a folder; the handle. Nothing is asked of the server yet."""
        inode = self._core.folder(number)
        handle = DirectoryHandle(inode)
        inode.directory_handles.append(handle)
        return self._handles.add(handle)

    async def readdir(self, number: int, position: int, reply: Reply) -> None:
        """Call `reply` for the entries from `position` on until it refuses one, or a batch is used up.

        Each entry that `reply` takes, but `.` and `..`, is counted as a look-up.
        """
        handle = self._handles[number]
        async with handle.lock:
            if position == 0 and handle.started:
                await self._close(handle)
                handle.restart()
            while position < _DOTS:
                if not self._reply_dot(handle.inode, position, reply):
                    return
                position += 1
            while await self._load(handle, position):
                replied, position = self._reply_entries(handle, position, reply)
                if replied:
                    return

    async def releasedir(self, number: int) -> None:
        """Close a folder."""
        handle = self._handles.remove(number)
        handle.inode.directory_handles.remove(handle)
        self._core.inodes.discard_if_unused(handle.inode)
        await self._close(handle)

    async def close_all(self) -> None:
        """Give up all listings under way."""
        for handle in self._handles.all():
            await self._close(handle)

    def enter(self, parent: Inode, entry: Entry) -> Dentry:
        """Record an entry of a listing in the inode table."""
        inodes = self._core.inodes
        known = parent.children.get(entry.name)
        inode = inodes.identify(parent, entry.stat, entry.kind, known.inode if known else None)
        inode.target = entry.target
        inode.update_from_listing(entry.stat, entry.asked, entry.fresh_until)
        return inodes.enter(parent, entry.name, entry.smb_name, inode, entry.fresh_until)

    async def prime(self, parent: Inode) -> bool:
        """List a folder whose names are asked for one by one; whether there is a listing now.

        Only one task lists; the others wait for it.
        """
        core = self._core
        now, time_to_live = core.now(), core.time_to_live(DIRECTORY)
        if parent in self._priming:
            await self._priming[parent].wait()
            return True
        parent.misses = [moment for moment in parent.misses if moment > now - time_to_live][-_MISSES:]
        parent.misses.append(now)
        if len(parent.misses) <= _MISSES or self._huge_until.get(parent.number, 0.0) > now:
            return False
        self._priming[parent] = trio.Event()
        try:
            await self._list_for_lookups(parent)
        finally:
            self._priming.pop(parent).set()
        return True

    async def _list_for_lookups(self, parent: Inode) -> None:
        core = self._core
        asked, asked_at = core.inodes.tick, core.now()
        path = core.inodes.path(parent)
        entries: list[Entry] = []
        complete = True
        async with aclosing(core.share.scandir(path)) as batches:
            async for batch in batches:
                entries += await self._check(path, batch, asked, asked_at)
                if len(entries) > MAX_ENTRIES:
                    self._huge_until[parent.number] = asked_at + _HUGE_FOR
                    complete = False
                    break
        if parent.changed <= asked:
            fresh_until = asked_at + core.time_to_live(DIRECTORY)
            parent.listing = Listing(entries, complete=complete, fresh_until=fresh_until)

    def _reply_dot(self, inode: Inode, position: int, reply: Reply) -> bool:
        shown = inode
        if position == 1 and inode.names:
            shown = inode.names[-1].parent
        return reply(b"." if position == 0 else b"..", self._core.reply(shown, shown.number), position + 1)

    def _reply_entries(self, handle: DirectoryHandle, position: int, reply: Reply) -> tuple[bool, int]:
        """Reply with what is in memory; whether anything was replied or refused, and the new position."""
        core, parent = self._core, handle.inode
        inodes, changed = core.inodes, handle.changed
        replied = False
        for entry in handle.entries[position - handle.first :]:
            position += 1
            dentry: Dentry | None
            if changed and entry.name in changed:
                dentry = parent.children.get(entry.name)
                if dentry is None:
                    continue
            else:
                dentry = self.enter(parent, entry)
            replied = True
            told = dentry.inode.told
            attributes = core.reply(dentry.inode, dentry.number, dentry.fresh_until)
            if not reply(entry.name, attributes, position):
                dentry.inode.told = told
                inodes.discard_if_unused(dentry.inode)
                return True, position
            inodes.add_lookup(dentry.number)
        return replied, position

    async def _load(self, handle: DirectoryHandle, position: int) -> bool:
        """Have the entry at `position` in memory; False at the end of the folder."""
        if position < handle.first:
            await self._close(handle)
            handle.restart()
        while position >= handle.end:
            if handle.broken:
                raise PosixError(errno.EIO, "the listing was interrupted")
            if handle.complete:
                return False
            await self._fetch(handle, position)
        return True

    async def _fetch(self, handle: DirectoryHandle, position: int) -> None:
        core = self._core
        path = core.inodes.path(handle.inode)
        asked, asked_at = core.inodes.tick, core.now()
        if handle.batches is None:
            handle.batches = core.share.scandir(path)
            handle.began = asked_at
            handle.started = True
        handle.broken = True
        batch = await anext(handle.batches, None)
        entries = [] if batch is None else await self._check(path, batch, asked, asked_at)
        handle.broken = False
        if batch is None:
            handle.complete = True
            self._keep_listing(handle, core.now())
        surplus = position - handle.first - _KEPT_BEHIND
        if surplus > 0:
            del handle.entries[:surplus]
            handle.first += surplus
        handle.entries += entries

    def _keep_listing(self, handle: DirectoryHandle, now: float) -> None:
        entries = handle.entries
        if handle.first != _DOTS or handle.changed or len(entries) > MAX_ENTRIES:
            return
        fresh_until = handle.began + self._core.time_to_live(DIRECTORY)
        if fresh_until > now:
            handle.inode.listing = Listing(entries, complete=True, fresh_until=fresh_until)

    async def _check(
        self, path: str, batch: list[DirectoryEntry], asked: int, asked_at: float
    ) -> list[Entry]:
        """The entries of a batch that may be shown."""
        core = self._core
        decode = core.names.decode_untrusted
        looks_like_link = may_be_symlink if core.config.shows_symlinks else lambda stat: False
        folder_until = asked_at + core.time_to_live(DIRECTORY)
        file_until = asked_at + core.time_to_live(FILE)
        entries: list[Entry] = []
        suspects: list[int] = []
        for found in batch:
            smb_name, stat = found.name, found.stat
            name = decode(smb_name)
            if name is None:
                self._drop(path, smb_name)
            elif is_silly(smb_name):
                continue
            elif stat.is_directory:
                entries.append(Entry(name, smb_name, stat, DIRECTORY, None, asked, folder_until))
            else:
                if looks_like_link(stat):
                    suspects.append(len(entries))
                entries.append(Entry(name, smb_name, stat, FILE, None, asked, file_until))
        if suspects:
            await self._look_into(path, entries, suspects)
        return entries

    def _drop(self, path: str, smb_name: str) -> None:
        if not self.dropped_names and smb_name not in (".", ".."):
            log.warning("the server lists names that cannot be shown, first %r in %r", smb_name, path)
        self.dropped_names += 1

    async def _look_into(self, path: str, entries: list[Entry], suspects: list[int]) -> None:
        """Tell symbolic links from files that only have their size."""
        failures: list[SmbError] = []

        async def look(index: int) -> None:
            async with self._link_readers:
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

    async def _close(self, handle: DirectoryHandle) -> None:
        if handle.batches is not None:
            await handle.batches.aclose()
            handle.batches = None
