"""What a folder's listing told, kept for the attributes' time to live.

Programs ask for many names of one folder, often for names that do not exist: a recent listing answers
both without the server. An expired one still tells in which order programs will go through the folder.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from engine import FileAttributes, FileStat
from smbmount.vfs.attributes import DIRECTORY, FILE
from smbmount.vfs.names import fold
from smbmount.vfs.vouching import Word

if TYPE_CHECKING:
    from smbmount.vfs.inodes import Inode

MAX_ENTRIES: Final = 10_000
"""A listing beyond this is not kept: it would cost more memory and time than it saves."""

CACHE_LIMIT: Final = 65_536
"""Entries of all listings that are kept: some 64 MiB, at about 1 KiB each."""

SMALL_FILE: Final = 65_536
"""Bytes of a file that comes with its open, in one reply."""

_ELSEWHERE: Final = int(
    FileAttributes.OFFLINE | FileAttributes.RECALL_ON_OPEN | FileAttributes.RECALL_ON_DATA_ACCESS
)
"""The content is on a tape or in a cloud, and fetching it is for those who ask for it."""

_OUTDATED_AFTER: Final = 30.0
"""Seconds after its expiry for which a listing still tells the order; then its memory is given back."""

_SORT_KEYS: Final[tuple[Callable[[bytes], bytes] | None, ...]] = (None, lambda name: name, bytes.lower)
"""As listed (`find`, `cp -r`, `grep -r`), by bytes (`rsync`, globs), without case (globs of most locales)."""

ORDERS: Final = range(len(_SORT_KEYS))


class Entry(NamedTuple):
    """One checked name of a listing. `asked` and `fresh_until` are as for `Inode.update`; the name also holds
    by `word`, that of the folder's lease."""

    name: bytes
    smb_name: str
    stat: FileStat
    kind: int
    target: bytes | None
    asked: int
    fresh_until: float
    word: Word | None = None


class Sequences:
    """Some names of a folder in each of the `ORDERS` in which programs go through them."""

    __slots__ = ("_listed", "_sorted")

    def __init__(self, listed: Sequence[bytes]) -> None:
        self._listed = listed
        self._sorted: dict[int, tuple[Sequence[bytes], dict[bytes, int]]] = {}

    def after(self, order: int, name: bytes | None) -> tuple[Sequence[bytes], int]:
        """All names in an order, and the index behind `name`: 0 for None, the end for an unknown one."""
        if order not in self._sorted:
            key = _SORT_KEYS[order]
            names = self._listed if key is None else sorted(self._listed, key=key)
            self._sorted[order] = names, {name: index for index, name in enumerate(names)}
        names, positions = self._sorted[order]
        return names, 0 if name is None else positions.get(name, len(names)) + 1


class FolderWatch:
    """Notes which names of a folder we change, while it stands in the folder's `directory_handles`."""

    def __init__(self) -> None:
        self.changed: set[bytes] = set()


class Listing:
    """The names of a folder as listed at one moment.

    `entries` are in the server's order, as they were; `find` and `excludes` know of what we changed since.
    """

    def __init__(
        self, entries: Iterable[Entry], *, complete: bool, fresh_until: float, word: Word | None = None
    ) -> None:
        self.entries = list(entries)
        self.fresh_until = fresh_until
        self.served = 0
        """Look-ups that it has answered."""
        self.passed = 0
        """Folders in it that a walk has come to."""
        self._word = word
        self._changed: set[str] = set()
        self._complete = complete
        self._by_name: dict[str, Entry] | None = None
        self._sequences: dict[int, Sequences] = {}

    @property
    def size(self) -> int:
        """How many entries it has."""
        return len(self.entries)

    def validity(self, now: float) -> float:
        """The seconds for which it is still believed."""
        until = self.fresh_until if self._word is None else max(self.fresh_until, self._word.holds_until())
        return max(0.0, until - now)

    def is_current(self, now: float) -> bool:
        """Whether its attributes are fresh, the server vouches for all its names, and we changed nothing."""
        is_vouched = self._word is not None and self._word.holds_until() > now
        return is_vouched and self.fresh_until > now and not self._changed

    def find(self, smb_name: str) -> Entry | None:
        """The entry of exactly this name, if the listing had it and we have not changed it since."""
        key = fold(smb_name)
        entry = None if key in self._changed else self._index().get(key)
        return entry if entry is not None and entry.smb_name == smb_name else None

    def excludes(self, smb_name: str) -> bool:
        """Whether no such name exists. A tilde may be the short alias of any other name."""
        if not self._complete or "~" in smb_name:
            return False
        key = fold(smb_name)
        return key not in self._changed and key not in self._index()

    def forget(self, smb_name: str) -> None:
        """The name, or its file, was made, changed, removed or replaced by us: only the server knows it."""
        self._changed.add(fold(smb_name))

    def _index(self) -> dict[str, Entry]:
        """By folded name; made when it is first needed, as a walk looks no name up."""
        if self._by_name is None:
            self._by_name = {fold(entry.smb_name): entry for entry in self.entries}
        return self._by_name

    @property
    def folders(self) -> Sequences:
        """The folders in it."""
        return self._sequence(DIRECTORY)

    @property
    def small_files(self) -> Sequences:
        """The files in it that have content, and come with their open."""
        return self._sequence(FILE)

    def _sequence(self, kind: int) -> Sequences:
        if kind not in self._sequences:
            found = (entry for entry in self.entries if entry.kind == kind)
            if kind == FILE:
                found = (entry for entry in found if is_small(entry.stat))
            self._sequences[kind] = Sequences([entry.name for entry in found])
        return self._sequences[kind]


def is_small(stat: FileStat) -> bool:
    """Whether a file has content, at hand and so little that it comes with its open."""
    return 0 < stat.size <= SMALL_FILE and not stat.attributes & _ELSEWHERE


class ListingCache:
    """The listings that inodes keep, bounded together; the one kept or used longest ago gives way.

    Invariant: `used` is the sum over `_kept`; a listing has one entry more than it tells, so that empty
    ones count too.
    """

    def __init__(self, limit: int = CACHE_LIMIT) -> None:
        self.limit = limit
        self.used = 0
        self._kept: OrderedDict[Inode, Listing] = OrderedDict()

    def keep(self, folder: Inode, listing: Listing, now: float) -> None:
        """Have `folder` keep its listing, until there is no room or nobody can need it any more."""
        self._drop(folder)
        folder.listing = self._kept[folder] = listing
        self.used += listing.size + 1
        while self.used > self.limit or self._oldest().fresh_until + _OUTDATED_AFTER < now:
            self._drop(next(iter(self._kept)))
            if not self._kept:
                return

    def touch(self, folder: Inode) -> None:
        """A walk goes by this folder's listing: others give way first."""
        if folder in self._kept:
            self._kept.move_to_end(folder)

    def _oldest(self) -> Listing:
        return next(iter(self._kept.values()))

    def _drop(self, folder: Inode) -> None:
        listing = self._kept.pop(folder, None)
        if listing is None:
            return
        self.used -= listing.size + 1
        if folder.listing is listing:
            folder.listing = None
