"""Reading folders: a snapshot per open folder, fetched in batches as the program reads on.

A position is an index into the snapshot, so it stays valid while the folder changes: 0 is `.`, 1 is `..`,
then the entries. Attributes come from the listing itself. Names that we changed after they were
fetched are taken from the inode table, not from the outdated snapshot.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import Final

import trio

from engine import SmbError
from smbmount.vfs.attributes import DIRECTORY, Attributes
from smbmount.vfs.core import Core
from smbmount.vfs.errors import PosixError
from smbmount.vfs.handles import HandleTable
from smbmount.vfs.inodes import Dentry, Inode
from smbmount.vfs.listings import MAX_ENTRIES, Entry, FolderWatch, Listing, ListingCache
from smbmount.vfs.liststream import ListingStream
from smbmount.vfs.prefetch import ListingsAhead, is_wanted
from smbmount.vfs.renewal import RENEWED_WITHIN, Renewal
from smbmount.vfs.scanner import Scanner
from smbmount.vfs.vouching import Word

log = logging.getLogger(__name__)

_DOTS: Final = 2
_KEPT_BEHIND: Final = 20_000
"""Entries that stay for a program that seeks back; beyond this, its seek lists the folder again."""
_MISSES: Final = 2
"""The name asked for one by one at which the whole folder is listed instead."""
_ENTRIES_PER_MISS: Final = 1000
"""A large folder is listed again after one more miss for each so many entries: that is what it costs."""
_NOT_AGAIN_FOR: Final = 60.0
"""Seconds for which a folder that is too large to be listed for a look-up, or must not be, is spared."""

Reply = Callable[[bytes, Attributes, int], bool]
"""Takes a name, its attributes and the position behind it; False if there was no room for it."""


def _worth(listing: Listing | None) -> int:
    """The look-ups that are worth a listing as large as the last one."""
    return _MISSES + (listing.size // _ENTRIES_PER_MISS if listing is not None else 0)


class DirectoryHandle(FolderWatch):
    """One open folder and the part of its snapshot that is in memory.

    Invariant: `entries[i]` is at position `first + i`; `changed` holds the names that we changed since the
    snapshot began.
    """

    def __init__(self, inode: Inode) -> None:
        super().__init__()
        self.inode = inode
        self.lock = trio.Lock()
        self.rewound = False
        self.restart()

    def restart(self) -> None:
        """Begin a new snapshot; the old one's stream has been closed."""
        self.entries: list[Entry] = []
        self.first = _DOTS
        self.stream: ListingStream | None = None
        self.complete = False
        self.broken = False
        self.started = False
        self.began = 0.0
        self.word: Word | None = None
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
        self._not_before: dict[Inode, float] = {}
        self._priming: dict[Inode, trio.Event] = {}
        self._renewing: set[Inode] = set()
        self._scanner = Scanner(core)
        self.listings = ListingCache()
        self._renewal = Renewal(core, self._list_again, self.enter)
        self.ahead = ListingsAhead(core, self._scanner, self.listings, self.enter, self._renewal.begin)

    @property
    def dropped_names(self) -> int:
        """How many names of the server could not be shown."""
        return self._scanner.dropped_names

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
                await self._rewind(handle)
            if await self._core.shedding.make_room():
                # The kernel distrusts the attributes of a request during which it forgets others.
                reply = _once(reply)
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
        await self.ahead.close()
        for handle in self._handles.all():
            await self._close(handle)

    def enter(self, parent: Inode, entry: Entry) -> Dentry:
        """Record an entry of a listing in the inode table."""
        inodes = self._core.inodes
        known = parent.children.get(entry.name)
        inode = inodes.identify(parent, entry.stat, entry.kind, known.inode if known else None)
        inode.target = entry.target
        inode.update_from_listing(entry.stat, entry.asked, entry.fresh_until)
        return inodes.enter(parent, entry.name, entry.smb_name, inode, entry.fresh_until, entry.word)

    async def prime(self, parent: Inode) -> bool:
        """List a folder whose names are asked for one by one; whether there is a listing now.

        Only one task lists; the others wait for it.
        """
        core = self._core
        if parent in self._priming:
            await self._priming[parent].wait()
            return True
        now, time_to_live, last = core.now(), core.time_to_live(DIRECTORY), parent.listing
        needed = _worth(last)
        parent.misses = [moment for moment in parent.misses if moment > now - time_to_live][-needed:]
        parent.misses.append(now)
        goes_on = last is not None and last.served >= needed and last.fresh_until > now - time_to_live
        if (len(parent.misses) < needed and not goes_on) or self._not_before.get(parent, 0.0) > now:
            return False
        return await self._prime(parent)

    async def _prime(self, parent: Inode) -> bool:
        self._priming[parent] = trio.Event()
        try:
            return await self._list_for_lookups(parent)
        finally:
            self._priming.pop(parent).set()

    def note_served(self, parent: Inode, listing: Listing) -> None:
        """A listing has answered a look-up. One that answers many is renewed before it expires, and so are
        the names that lead to its folder."""
        core = self._core
        listing.served += 1
        now = core.now()
        if listing.served < _worth(listing) or not is_wanted(core):
            return
        self._renewal.note_used(parent)
        if listing.validity(now) <= core.time_to_live(DIRECTORY) * RENEWED_WITHIN and self._may_renew(parent):
            core.spawn(self._renew, parent)

    def note_used(self, folder: Inode) -> None:
        """A program opens a file of this folder, by a name that a listing told."""
        if folder.listing is not None and folder.listing.validity(self._core.now()):
            self.note_served(folder, folder.listing)

    def _may_renew(self, parent: Inode) -> bool:
        """Whether to list a folder again; if so it is marked as being listed."""
        if parent in self._renewing or self._not_before.get(parent, 0.0) > self._core.now():
            return False
        self._renewing.add(parent)
        return True

    async def _list_again(self, parent: Inode) -> None:
        """List a folder in use, if nobody else does at the moment."""
        if self._may_renew(parent):
            await self._renew(parent)

    async def _renew(self, parent: Inode) -> None:
        try:
            async with self._core.moves.using(parent):
                # Only here, as whoever waits for it may keep folders from being renamed.
                if parent not in self._priming:
                    await self._prime(parent)
        except OSError as exc:
            log.debug("%r was not listed again: %s", parent, exc)
        except Exception:
            log.exception("listing a folder again ended in a mistake of this program")
        finally:
            self._renewing.discard(parent)

    async def _list_for_lookups(self, parent: Inode) -> bool:
        core = self._core
        watch = FolderWatch()
        parent.directory_handles.append(watch)
        try:
            with core.downloads.waiting():
                scan = await self._scanner.read(parent, MAX_ENTRIES)
        except SmbError:
            # Who may not list a folder may still ask for its names.
            self._spare(parent)
            return False
        finally:
            parent.directory_handles.remove(watch)
        time_to_live = core.time_to_live(DIRECTORY)
        fresh_until = scan.asked_at + time_to_live
        if not scan.complete or fresh_until - core.now() < time_to_live / 2:
            # Another listing as slow as this one would be outdated before it has served enough names.
            self._spare(parent)
        listing = Listing(scan.entries, complete=scan.complete, fresh_until=fresh_until, word=scan.word)
        self._keep(parent, listing, watch.changed)
        return True

    def _spare(self, parent: Inode) -> None:
        """Do not list this folder for look-ups for a while."""
        now = self._core.now()
        self._not_before = {folder: until for folder, until in self._not_before.items() if until > now}
        self._not_before[parent] = now + _NOT_AGAIN_FOR

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
            told = dentry.inode.told, dentry.inode.kernel_size
            attributes = core.reply(dentry.inode, dentry.number, dentry.validity(core.now()))
            if not reply(entry.name, attributes, position):
                dentry.inode.told, dentry.inode.kernel_size = told
                inodes.discard_if_unused(dentry.inode)
                return True, position
            inodes.add_lookup(dentry.number)
        return replied, position

    async def _load(self, handle: DirectoryHandle, position: int) -> bool:
        """Have the entry at `position` in memory; False at the end of the folder."""
        if position < handle.first:
            await self._rewind(handle)
        while position >= handle.end:
            if handle.broken:
                raise PosixError(errno.EIO, "the listing was interrupted")
            if handle.complete:
                return False
            await self._fetch(handle, position)
        return True

    async def _fetch(self, handle: DirectoryHandle, position: int) -> None:
        """Have one batch more in memory, or know the end."""
        with self._core.downloads.waiting():
            if handle.stream is None and await self._take_ahead(handle):
                return
            await self._fetch_batch(handle, position)

    async def _fetch_batch(self, handle: DirectoryHandle, position: int) -> None:
        core = self._core
        async with core.moves.using(handle.inode):
            if handle.stream is None:
                handle.began = core.now()
                handle.started = True
                handle.stream = ListingStream(core, handle.inode)
            handle.broken = True
            batch = await handle.stream.next_batch()
            path = core.inodes.path(handle.inode)
            entries = [] if batch is None else await self._scanner.check(path, batch)
            handle.word = handle.word if batch is None else batch.word
            handle.broken = False
        surplus = position - handle.first - _KEPT_BEHIND
        if surplus > 0:
            del handle.entries[:surplus]
            handle.first += surplus
        handle.entries += entries
        if batch is None:
            handle.complete = True
            self._keep_listing(handle, self._core.now())

    async def _take_ahead(self, handle: DirectoryHandle) -> bool:
        """Take the snapshot from memory if this folder was foreseen: a rewound one is read anew."""
        folder = handle.inode
        if not handle.rewound:
            self.ahead.observe(folder)
            listing = await self.ahead.take(folder) or self._current_listing(folder)
            if listing is not None:
                handle.entries = list(listing.entries)
                handle.started = handle.complete = True
                # What we changed after the open, we changed before this was asked for.
                handle.changed.clear()
                self.ahead.listed(folder)
                return True
        return False

    def _current_listing(self, folder: Inode) -> Listing | None:
        """The kept listing, if nothing can have changed since. Else it serves look-ups only: a program that
        lists a folder again wants to see what is new."""
        listing = folder.listing
        return listing if listing is not None and listing.is_current(self._core.now()) else None

    def _keep_listing(self, handle: DirectoryHandle, now: float) -> None:
        entries = handle.entries
        fresh_until = handle.began + self._core.time_to_live(DIRECTORY)
        listing = Listing(entries, complete=True, fresh_until=fresh_until, word=handle.word)
        if handle.first != _DOTS or len(entries) > MAX_ENTRIES or not listing.validity(now):
            return
        self._keep(handle.inode, listing, handle.changed)
        self.ahead.listed(handle.inode)

    def _keep(self, folder: Inode, listing: Listing, changed: set[bytes]) -> None:
        """Keep a listing, but for the names that we changed while it was made."""
        for name in changed:
            listing.forget(self._core.names.encode(name))
        self.listings.keep(folder, listing, self._core.now())

    async def _rewind(self, handle: DirectoryHandle) -> None:
        await self._close(handle)
        handle.restart()
        handle.rewound = True

    async def _close(self, handle: DirectoryHandle) -> None:
        if handle.stream is not None:
            await handle.stream.aclose()
            handle.stream = None


def _once(reply: Reply) -> Reply:
    """Has room for one entry."""
    rooms = iter((True,))
    return lambda *entry: next(rooms, False) and reply(*entry)
