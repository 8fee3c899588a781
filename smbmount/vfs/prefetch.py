"""What was foreseen is fetched: listings ahead of a walk, small files ahead of a reader.

Everything here is background work, bounded in number and memory, and forgotten if it fails: a program that
needs what could not be fetched asks for it itself, and is told then.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from engine import SmbError
from smbmount.vfs.attributes import DIRECTORY, FILE
from smbmount.vfs.core import Core
from smbmount.vfs.errors import PosixError
from smbmount.vfs.foresight import FileTrail, HitRate, Name, Walks, WalkTrail
from smbmount.vfs.inodes import Dentry, Inode
from smbmount.vfs.listings import Entry, FolderWatch, Listing, ListingCache
from smbmount.vfs.scanner import Scanner

log = logging.getLogger(__name__)

_IN_FLIGHT: Final = 8
"""Guesses under way at a time: programs' own requests find credits and a server that is not busy."""
_LARGEST: Final = 2_000
"""Entries of a folder that is listed ahead: larger ones are worth a program's own request."""
_SHARE_OF_CACHE: Final = 2
"""The part of all kept listings that may be ahead of programs: so they are not the oldest, which give way."""
_FILE_SECONDS: Final = 5.0
"""A file that was fetched ahead and not opened within this time was a wrong guess."""

Enter = Callable[[Inode, Entry], Dentry]
"""Records an entry of a listing in the inode table."""


def is_wanted(core: Core) -> bool:
    """Whether anything is fetched ahead on this mount."""
    return core.config.prefetch and core.config.cache != "none"


class _ListingAhead:
    """A folder's listing, on its way or here. `listing` stays None if it failed or was overtaken.

    Invariant: `watch` stands in the folder's `directory_handles` until this is dropped, which also keeps
    the inode in its table.
    """

    def __init__(self, trail: WalkTrail, until: float) -> None:
        self.trail = trail
        self.until = until
        self.watch = FolderWatch()
        self.listing: Listing | None = None
        self.done = trio.Event()
        self.scope = trio.CancelScope()


class ListingsAhead:
    """Folders that a walk will list next, listed before it gets there.

    `renew(folder)` asks again for the names that lead to a folder.

    Invariant: entries here and those that may be on their way never exceed half of what `cache` keeps, each
    listing in flight counted with the most that it may have.
    """

    def __init__(
        self,
        core: Core,
        scanner: Scanner,
        cache: ListingCache,
        enter: Enter,
        renew: Callable[[Inode], None],
    ) -> None:
        self._core = core
        self._renew = renew
        self._scanner = scanner
        self._cache = cache
        self._enter = enter
        self._walks = Walks()
        self._ahead: dict[Inode, _ListingAhead] = {}
        self._in_flight = 0
        self._entries = 0
        self._is_wanted = is_wanted(core) and core.time_to_live(DIRECTORY) > 0
        self.rate = HitRate()
        self.waits = 0
        self.largest = _LARGEST

    @property
    def in_flight(self) -> int:
        """Listings on their way."""
        return self._in_flight

    @property
    def entries(self) -> int:
        """Entries that are here and not used yet."""
        return self._entries

    def observe(self, folder: Inode) -> None:
        """A program begins to list a folder. If it has to ask the server itself, nothing may be asked before
        that: what comes next is then fetched when this folder is `listed`."""
        if not self._is_wanted:
            return
        guess = self._ahead.get(folder)
        trail = self._walks.observe(folder, self._core.now(), guess.trail if guess is not None else None)
        if trail is None:
            return
        for name in trail.place:
            self._cache.touch(name.parent)
            if name.parent.listing is not None:
                name.parent.listing.passed += 1
        if guess is not None and (guess.listing is not None or not guess.done.is_set()):
            trail.grow()
            self._fill(trail)

    def listed(self, folder: Inode) -> None:
        """The folder that a walk has come to is listed: what is inside and behind it is foreseen now."""
        trail = self._walks.at(folder)
        if trail is not None:
            self._fill(trail)

    def behind(self, folder: Inode) -> Inode | None:
        """The folder that a walk will list after this one, which it is about to leave, if that is listed
        already; else it is listed now. So a program that is too slow for more to be foreseen finds it."""
        now = self._core.now()
        self._drop_expired(now)
        trail = self._walks.at(folder)
        name = trail.next_folder() if trail is not None else None
        following = self._inode(name) if name is not None else None
        if trail is None or following is None:
            return None
        guess = self._ahead.get(following)
        if guess is not None:
            return following if guess.listing is not None and guess.listing is following.listing else None
        if self._is_known(following):
            return following
        if self._is_wanted and self.rate.allows(now) and self._has_room():
            self._start(following, trail)
            self._renew(following)
        return None

    async def take(self, folder: Inode) -> Listing | None:
        """The listing of a folder that was foreseen, waited for if it is on its way; None if there is none.

        It is as fresh as any, and nothing in the folder was changed by us since it was asked for. It is
        given once.
        """
        guess = self._ahead.get(folder)
        if guess is None:
            return None
        self.waits += not guess.done.is_set()
        await guess.done.wait()
        if self._ahead.get(folder) is not guess:
            return None
        listing = guess.listing
        if listing is not None and (listing is not folder.listing or guess.until <= self._core.now()):
            listing = None
        if guess.watch.changed:
            listing = None
        self._drop(folder, used=listing is not None)
        return listing

    async def close(self) -> None:
        """Give everything up; nothing is under way when this returns."""
        self._is_wanted = False
        for folder, guess in list(self._ahead.items()):
            guess.scope.cancel()
            await guess.done.wait()
            self._forget(folder)

    def _fill(self, trail: WalkTrail) -> None:
        """Ask for what this trail wants, as far as the bounds allow."""
        now = self._core.now()
        self._drop_expired(now)
        if not self._is_wanted or not self.rate.allows(now):
            return
        for name in trail.ahead(self._core.time_to_live(DIRECTORY)):
            if not self._has_room():
                return
            folder = self._inode(name)
            if folder is not None and folder not in self._ahead and not self._is_known(folder):
                self._start(folder, trail)

    def _is_known(self, folder: Inode) -> bool:
        return folder.listing is not None and folder.listing.is_current(self._core.now())

    def _has_room(self) -> bool:
        if self._in_flight >= _IN_FLIGHT:
            return False
        needed = self._entries + (self._in_flight + 1) * self.largest
        return needed * _SHARE_OF_CACHE <= self._cache.limit

    def _inode(self, name: Name) -> Inode | None:
        """The inode of a folder that is foreseen: known, or as its parent's fresh listing tells."""
        return _inode(self._core, self._enter, name, DIRECTORY)

    def _start(self, folder: Inode, trail: WalkTrail) -> None:
        until = self._core.now() + self._core.time_to_live(DIRECTORY)
        guess = self._ahead[folder] = _ListingAhead(trail, until)
        folder.directory_handles.append(guess.watch)
        self._in_flight += 1
        self._core.spawn(self._fetch, folder, guess)

    async def _fetch(self, folder: Inode, guess: _ListingAhead) -> None:
        try:
            with guess.scope:
                await self._read(folder, guess)
        except (SmbError, OSError) as exc:
            log.debug("%r was not listed ahead: %s", folder, exc)
        except Exception:
            log.exception("listing ahead ended in a mistake of this program")
        finally:
            self._in_flight -= 1
            guess.done.set()
        self._fill(guess.trail)

    async def _read(self, folder: Inode, guess: _ListingAhead) -> None:
        core, place = self._core, _place(folder)
        scan = await self._scanner.read(folder, self.largest, ahead=True)
        is_overtaken = guess.watch.changed or folder.changed > scan.asked or _place(folder) != place
        guess.until = scan.asked_at + core.time_to_live(DIRECTORY)
        if is_overtaken or not scan.complete or guess.until <= core.now():
            return
        guess.listing = Listing(scan.entries, complete=True, fresh_until=guess.until, word=scan.word)
        self._entries += guess.listing.size
        self._cache.keep(folder, guess.listing, core.now())

    def _drop_expired(self, now: float) -> None:
        for folder, guess in list(self._ahead.items()):
            if guess.until <= now and guess.done.is_set():
                guess.trail.shrink()
                self._drop(folder, used=False)

    def _drop(self, folder: Inode, *, used: bool) -> None:
        self.rate.note(used, self._core.now())
        self._forget(folder)

    def _forget(self, folder: Inode) -> None:
        guess = self._ahead.pop(folder)
        if guess.listing is not None:
            self._entries -= guess.listing.size
        folder.directory_handles.remove(guess.watch)
        self._core.inodes.discard_if_unused(folder)


class FilesAhead:
    """Small files that a program will open next, fetched before it opens them.

    `fetch_file(inode)` opens a file and reads its content, to be found by the open that follows; False, or
    an error of the engine's or the system's, if that was not possible. `folder_behind` is as for `FileTrail`.
    """

    def __init__(
        self,
        core: Core,
        enter: Enter,
        fetch_file: Callable[[Inode], Awaitable[bool]],
        folder_behind: Callable[[Inode], Inode | None],
    ) -> None:
        self._core = core
        self._folder_behind = folder_behind
        self._enter = enter
        self._fetch_file = fetch_file
        self._trail = FileTrail()
        self._until: dict[Inode, float] = {}
        self._in_flight: dict[Inode, trio.CancelScope] = {}
        self._idle = trio.Event()
        self._idle.set()
        self._is_wanted = is_wanted(core)
        self.rate = HitRate()

    @property
    def in_flight(self) -> int:
        """Files on their way."""
        return len(self._in_flight)

    def note_open(self, file: Inode, from_prefetch: bool) -> None:
        """A program opens a file for reading. `from_prefetch`: what was fetched ahead has served it."""
        if not self._is_wanted:
            return
        now = self._core.now()
        self._drop_expired(now)
        if self._until.pop(file, None) is not None:
            self.rate.note(from_prefetch, now)
        if self._trail.opened(file, from_prefetch, now):
            self._fill()

    async def close(self) -> None:
        """Give everything up; nothing is under way when this returns."""
        self._is_wanted = False
        for scope in self._in_flight.values():
            scope.cancel()
        await self._idle.wait()

    def _fill(self) -> None:
        if not self._is_wanted or not self.rate.allows(self._core.now()):
            return
        for name in self._trail.ahead(self._core.time_to_live(FILE), self._folder_behind):
            if len(self._in_flight) >= _IN_FLIGHT:
                return
            file = _inode(self._core, self._enter, name, FILE)
            if file is None or file.handles or file in self._until or file in self._in_flight:
                # The last: a program has opened it under another of its names.
                continue
            self._start(file)

    def _start(self, file: Inode) -> None:
        self._until[file] = self._core.now() + _FILE_SECONDS
        self._in_flight[file] = trio.CancelScope()
        self._idle = trio.Event()
        self._core.spawn(self._fetch, file)

    async def _fetch(self, file: Inode) -> None:
        is_here = False
        try:
            with self._in_flight[file]:
                is_here = await self._fetch_file(file)
        except (SmbError, OSError) as exc:
            log.debug("%r was not fetched ahead: %s", file, exc)
        except Exception:
            log.exception("fetching ahead ended in a mistake of this program")
        finally:
            del self._in_flight[file]
            if not self._in_flight:
                self._idle.set()
            self._core.inodes.discard_if_unused(file)
        if not is_here:
            self._until[file] = self._core.now() + _FILE_SECONDS
        self._fill()

    def _drop_expired(self, now: float) -> None:
        for file, until in list(self._until.items()):
            if until <= now and file not in self._in_flight:
                del self._until[file]
                self._trail.shrink()
                self.rate.note(False, now)


def _inode(core: Core, enter: Enter, name: Name, kind: int) -> Inode | None:
    dentry = name.parent.children.get(name.name)
    if dentry is None:
        listing = name.parent.listing
        if listing is None or not listing.validity(core.now()):
            return None
        try:
            entry = listing.find(core.names.encode(name.name))
        except PosixError:
            return None
        if entry is None:
            return None
        dentry = enter(name.parent, entry)
    return dentry.inode if dentry.inode.kind == kind else None


def _place(folder: Inode) -> list[Dentry]:
    """The names by which its path is found. A rename or a new folder of the same name makes other ones."""
    place: list[Dentry] = []
    while folder.names:
        place.append(folder.names[-1])
        folder = place[-1].parent
    return place
