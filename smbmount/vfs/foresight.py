"""Foreseeing what a program will ask for next, from what it asked for so far: decisions, no input or output.

Programs that go through a tree (`find`, `grep -r`, `cp -r`, `rsync`, `git status`) list folders, and open
files, one after another in an order that the listing above tells. A `WalkTrail` follows one such program
from folder to folder, a `FileTrail` from file to file. Neither believes in a pattern at its first sign: a
walk is one when a second folder is listed that a known order puts behind the first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from smbmount.vfs.attributes import DIRECTORY
from smbmount.vfs.inodes import Inode
from smbmount.vfs.listings import ORDERS, is_small

FIRST_WINDOW: Final = 2
MAX_WINDOW: Final = 32
"""Folders ahead of a walk: four times what may be in flight, so that the next ones are here already."""
FIRST_FILES: Final = 4
MAX_FILES: Final = 64
"""Files ahead of a reader: 4 MiB of content at most."""

_TIMELY: Final = 0.5
"""The part of its validity after which a listing should be used: the program may become slower."""
_TRAILS: Final = 4
"""Programs that are followed at a time; the one that has been still for longest is forgotten."""
_TRAIL_SECONDS: Final = 10.0
"""After so long a pause the next listing has nothing to do with the last."""
_JUDGED: Final = 32
"""Guesses that count: older ones are forgotten."""
_ENOUGH: Final = 8
"""Guesses before they are judged."""
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 600.0
"""Seconds without guesses after too many wrong ones; the pause doubles each time, up to this."""


class HitRate:
    """How many of the guesses were right; when fewer than half were, there are none for a while."""

    def __init__(self) -> None:
        self.used = 0
        self.unused = 0
        self._last: deque[bool] = deque(maxlen=_JUDGED)
        self._pause = _FIRST_PAUSE
        self._paused_until = 0.0

    def note(self, used: bool, now: float) -> None:
        """One more guess turned out right or wrong; `now` are monotonic seconds."""
        self.used += used
        self.unused += not used
        self._last.append(used)
        right = sum(self._last)
        if len(self._last) >= _ENOUGH and right * 2 < len(self._last):
            self._paused_until = now + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            self._last.clear()
        elif right == _JUDGED:
            self._pause = _FIRST_PAUSE

    def allows(self, now: float) -> bool:
        """Whether guesses are made at the moment."""
        return now >= self._paused_until


class Name(NamedTuple):
    """A name in a folder; there may be no inode of it yet."""

    parent: Inode
    name: bytes


class Mode(NamedTuple):
    """How a program walks: in which of the `ORDERS`, and whether into each folder before the next one."""

    order: int
    descends: bool


_MODES: Final = [Mode(order, descends) for descends in (True, False) for order in ORDERS]


class WalkTrail:
    """One program's way through the folders. `window` is how many folders ahead of it are wanted, `pace` the
    seconds that it takes for one, smoothed.

    Invariant: `place` are the names of `last` and of the folders above it, the nearest first, as they
    were when the program came there: it may have removed them since (`rm -r`).
    """

    def __init__(self, folder: Inode, now: float) -> None:
        self.last = folder
        self.window = FIRST_WINDOW
        self.pace = 0.0
        self.place = _place(folder)
        self._top = folder
        self._mode: Mode | None = None
        self._moved_at = now

    def follow(self, folder: Inode, now: float) -> bool:
        """Whether listing `folder` is this trail's next step; if so it is taken."""
        if now - self._moved_at > _TRAIL_SECONDS:
            return False
        mode = next((mode for mode in self._modes() if self._predicts(mode, folder)), None)
        if mode is None:
            return False
        self._mode = mode
        self.step(folder, now)
        return True

    def step(self, folder: Inode, now: float) -> None:
        """The program has come to `folder`."""
        self.last = folder
        self.pace = (self.pace + now - self._moved_at) / 2
        self.place = _place(folder)
        self._moved_at = now
        is_inside = folder is self._top or any(name.parent is self._top for name in self.place)
        if not is_inside and self.place:
            self._top = self.place[0].parent

    def ahead(self, valid_for: float) -> Iterator[Name]:
        """The folders that will be listed next, as far as the window reaches and the listings tell, but none
        that the program will not reach in good time if a listing is valid for so many seconds."""
        if self._mode is None:
            return iter(())
        reach = self.window if self.pace <= 0 else int(min(self.window, valid_for * _TIMELY / self.pace))
        return islice(self._successors(self._mode, self._top), reach)

    def next_folder(self) -> Name | None:
        """The folder that will be listed next, whenever that is."""
        return None if self._mode is None else next(self._successors(self._mode, self._top), None)

    def grow(self) -> None:
        """A guess was right."""
        self.window = min(self.window * 2, MAX_WINDOW)

    def shrink(self) -> None:
        """A guess was wrong, or too early."""
        self.window = max(self.window // 2, FIRST_WINDOW)

    def _modes(self) -> list[Mode]:
        """All, the one that held so far first."""
        if self._mode is None:
            return _MODES
        return [self._mode, *(mode for mode in _MODES if mode != self._mode)]

    def _predicts(self, mode: Mode, folder: Inode) -> bool:
        name = next(self._successors(mode, None), None)
        return name is not None and any(
            dentry.parent is name.parent and dentry.name == name.name for dentry in folder.names
        )

    def _successors(self, mode: Mode, top: Inode | None) -> Iterator[Name]:
        """The folders that come next, none that is not below `top`. What no listing tells is left out."""
        if mode.descends:
            yield from _children(self.last, mode, None)
        if self.last is top:
            return
        for parent, name in self.place:
            yield from _children(parent, mode, name)
            if parent is top:
                return


class Walks:
    """The programs that list folders at the moment, told apart by where they go."""

    def __init__(self) -> None:
        self._trails: list[WalkTrail] = []

    def observe(self, folder: Inode, now: float, guessed_by: WalkTrail | None) -> WalkTrail | None:
        """A program lists `folder`, foreseen by the trail `guessed_by` or not; the trail that it is on."""
        if guessed_by is not None and guessed_by in self._trails:
            if not guessed_by.follow(folder, now):
                guessed_by.step(folder, now)
            return guessed_by
        trail_here = self.at(folder)
        if trail_here is not None:
            # Some look into each folder twice: `rm -r` first wants to know whether it is empty.
            return trail_here
        for trail in self._trails:
            if trail.follow(folder, now):
                self._trails.remove(trail)
                self._trails.append(trail)
                return trail
        self._trails = [*self._trails[-_TRAILS + 1 :], WalkTrail(folder, now)]
        return None

    def at(self, folder: Inode) -> WalkTrail | None:
        """The trail whose last step was to `folder`."""
        return next((trail for trail in self._trails if trail.last is folder), None)


def _place(folder: Inode) -> list[Name]:
    place: list[Name] = []
    while folder.names:
        dentry = folder.names[-1]
        place.append(Name(dentry.parent, dentry.name))
        folder = dentry.parent
    return place


def _children(folder: Inode, mode: Mode, behind: bytes | None) -> Iterator[Name]:
    """The folders in `folder` behind a name, each with what is inside if the program goes there first."""
    if folder.listing is None:
        return
    names, index = folder.listing.folders.after(mode.order, behind)
    for position in range(index, len(names)):
        yield Name(folder, names[position])
        known = folder.children.get(names[position])
        if mode.descends and known is not None and known.inode.kind == DIRECTORY:
            yield from _children(known.inode, mode, None)


class FileTrail:
    """One program's way through the small files of folders. `window` is how many ahead of it are wanted,
    `pace` the seconds that it takes for one, smoothed."""

    def __init__(self) -> None:
        self.window = FIRST_FILES
        self.pace = 0.0
        self._opened_at = 0.0
        self._last: Name | None = None
        self._order: int | None = None

    def opened(self, file: Inode, foreseen: bool, now: float) -> bool:
        """A file is opened for reading, foreseen or not; whether the ones behind it are wanted now."""
        dentry = file.names[-1] if file.names else None
        if dentry is None or dentry.parent.listing is None or not is_small(file.stat):
            return False
        here = Name(dentry.parent, dentry.name)
        if foreseen:
            self.window = min(self.window * 2, MAX_FILES)
        elif here != self._last:
            self._order = self._order_that_leads_to(here)
        self.pace = (self.pace + now - self._opened_at) / 2 if self._order is not None else 0.0
        self._opened_at = now
        self._last = here
        return self._order is not None

    def ahead(self, valid_for: float, folder_behind: Callable[[Inode], Inode | None]) -> list[Name]:
        """The files that will be opened next, but none that the program will not reach in good time if what
        is fetched is valid for so many seconds. `folder_behind` is asked near the end of a folder: the one
        that goes on with the row, if its listing is here."""
        if self._last is None or self._order is None or self._last.parent.listing is None:
            return []
        folder, reach = self._last.parent, self._reach(valid_for)
        names, index = self._last.parent.listing.small_files.after(self._order, self._last.name)
        wanted = [Name(folder, name) for name in names[index : index + reach]]
        following = folder_behind(folder) if len(wanted) < reach else None
        if following is not None and following.listing is not None:
            names, _ = following.listing.small_files.after(self._order, None)
            wanted += [Name(following, name) for name in names[: reach - len(wanted)]]
        return wanted

    def _reach(self, valid_for: float) -> int:
        return self.window if self.pace <= 0 else int(min(self.window, valid_for * _TIMELY / self.pace))

    def shrink(self) -> None:
        """A guess was wrong, or too early."""
        self.window = max(self.window // 2, FIRST_FILES)

    def _order_that_leads_to(self, here: Name) -> int | None:
        """The order in which this file is the next one, or the first one of another folder."""
        last, listing = self._last, here.parent.listing
        if last is None or listing is None:
            return None
        if last.parent is here.parent:
            behind: bytes | None = last.name
            orders = list(ORDERS) if self._order is None else [self._order, *ORDERS]
        else:
            behind = None
            orders = [] if self._order is None else [self._order]
        for order in orders:
            names, index = listing.small_files.after(order, behind)
            if index < len(names) and names[index] == here.name:
                return order
        return None
