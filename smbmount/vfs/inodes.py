"""Inodes and names: what the kernel knows, and how it maps to the server's files.

An inode's identity never changes: the server's file id where ids are to be trusted, else a number of
our own. Names (dentries) hang off it and may change; a path is computed by walking from a name to
the root, so that a renamed folder takes its subtree along.

Invariants: `dentry.parent.children[dentry.name] is dentry` and `dentry in dentry.inode.names`; an inode
is in the table while the kernel counts a look-up, a handle is open or a child is known. Nothing in this
module awaits, so look-up counts and table always change in one step; inodes, names and table stay in one
module for that reason.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from engine import FileStat, Lease, LeaseState, was_not_written
from smbmount.vfs.attributes import DIRECTORY, FILE
from smbmount.vfs.errors import PosixError
from smbmount.vfs.handles import FileHandle
from smbmount.vfs.lookups import Lookups
from smbmount.vfs.names import fold, join
from smbmount.vfs.vouching import Word

if TYPE_CHECKING:
    from smbmount.vfs.idle import IdleFile
    from smbmount.vfs.lateclose import Experience, LateClose
    from smbmount.vfs.listings import FolderWatch, Listing
    from smbmount.vfs.writebehind import WriteBehind

LEASED_SECONDS: Final = 30.0
"""The validity of attributes while the server vouches for the file: it says when data and size change,
but not when another client sets times or DOS attributes."""

_EXCLUSIVE: Final = int(LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING | LeaseState.WRITE_CACHING)
_READ_CACHING: Final = int(LeaseState.READ_CACHING)

ROOT_NUMBER: Final = 1
"""FUSE's number for the root."""
FIRST_OWN_NUMBER: Final = 1 << 63
"""Numbers of our own: servers rarely give ids up there, and a collision is stepped over."""
_UNUSABLE_IDS: Final = frozenset((0, 1, (1 << 64) - 1))
"""0 and all ones mean "no id" ([MS-FSCC] 2.1.9), 1 is FUSE's root."""
_SAME_CREATION_NS: Final = 2_000_000_000
"""File systems use the ids of deleted files again; a creation time that is this far off tells. Less
is the rounding of servers that keep it in seconds."""


class Inode:
    """A file, folder or symbolic link.

    `fresh_until` is the end of the attributes' validity, in trio's clock. `changed` is the table's tick of
    our own last change: an answer asked for before it is not the truth after it. `stale` says that our
    own writes changed the server's times, which only the server knows. `clean_size` is the size on the
    server when all was written. `told` is the version of the content that the kernel was told last, and
    `kernel_size` the size that it goes by: what it was told, or has written.
    `dated` says that a program has set the time of writing while the file was open: servers leave it alone
    until their last close, of idle handles too; `written_ns` is when it was written, if they have to be told.
    `unsynced`: we have changed the content since the server was last told to write it to its disk.
    `resizing` are the sizes that it is just being given, `dating` the times of writing.
    `closing` has an event for each open file whose last close is under way; `late` is one that waits for it.

    `lease` is what the server vouches with; its `term` is the same as long as it did so without a gap.
    The attributes hold until `vouched_until` if the term is still `vouched_term`; what the kernel has cached
    of the content holds while it is `pages_term`. `pages` is the version of the content when the kernel
    last began to cache it. `is_kept` says of a folder that its handle is kept open, `broken_at` when its
    lease was broken last, `experience` what the server did with the times of new files in it.

    `lost_depth` is the least depth of a name that was forgotten here while the kernel may know it still.

    `details_until` limits this for the number of links and the size of the extended attributes: an open or a
    close may tell all but these, which are then as old as they were.
    """

    __slots__ = (
        "broken_at",
        "changed",
        "children",
        "clean_size",
        "closing",
        "dated",
        "dating",
        "details_until",
        "directory_handles",
        "experience",
        "file_id",
        "fresh_until",
        "handles",
        "idle",
        "is_kept",
        "kernel_size",
        "kind",
        "late",
        "lease",
        "listing",
        "lost_depth",
        "misses",
        "names",
        "number",
        "numbers",
        "pages",
        "pages_term",
        "resizing",
        "stale",
        "stat",
        "target",
        "told",
        "unlinked",
        "unsynced",
        "vouched_term",
        "vouched_until",
        "writes",
        "written_ns",
    )

    def __init__(self, number: int, kind: int, file_id: int, stat: FileStat) -> None:
        self.number = number
        self.numbers = [number]
        self.kind = kind
        self.file_id = file_id
        self.stat = stat
        self.fresh_until = 0.0
        self.details_until = math.inf
        self.clean_size = stat.size
        self.closing: tuple[trio.Event, ...] = ()
        self.changed = 0
        self.stale = False
        self.resizing: tuple[int, ...] = ()
        self.dating: tuple[int, ...] = ()
        self.dated = False
        self.written_ns: int | None = None
        self.unlinked = False
        self.unsynced = False
        self.names: list[Dentry] = []
        self.lost_depth = math.inf
        self.children: dict[bytes, Dentry] = {}
        self.handles: list[FileHandle] = []
        self.idle: list[IdleFile] = []
        self.late: LateClose | None = None
        self.experience: Experience | None = None
        self.lease: Lease | None = None
        self.vouched_term = 0
        self.vouched_until = 0.0
        self.is_kept = False
        self.broken_at = float("-inf")
        self.pages_term = 0
        self.pages: tuple[int, int, int] | None = None
        self.directory_handles: list[FolderWatch] = []
        self.writes: WriteBehind | None = None
        self.target: bytes | None = None
        self.listing: Listing | None = None
        self.misses: list[float] = []
        self.told: tuple[int, int, int] | None = None
        self.kernel_size = 0

    def __repr__(self) -> str:
        return f"<Inode {self.number:#x} {[dentry.name for dentry in self.names]}>"

    @property
    def is_dirty(self) -> bool:
        """Whether there is data that the server does not have yet."""
        return self.writes is not None and self.writes.dirty > 0

    @property
    def links(self) -> int:
        """`st_nlink`: the server's count, or, where a listing did not tell it, the names that we know."""
        if self.unlinked:
            return 0
        if self.kind == DIRECTORY:
            return 1
        return self.stat.number_of_links or self.known_names()

    @property
    def content_version(self) -> tuple[int, int, int]:
        """What differs when the content does: the time of change moves at once, that of writing late."""
        return _content_version(self.stat)

    def known_names(self) -> int:
        """How many different names we know of it, at least 1."""
        if len(self.names) < 2:
            return 1
        return sum(dentry.number == self.number for dentry in self.names) or 1

    def validity(self, now: float) -> float:
        """The seconds for which the attributes may still be used: none while a close will change them."""
        if self.late is not None:
            return 0.0
        return min(self.content_validity(now), max(0.0, self.details_until - now))

    def content_validity(self, now: float) -> float:
        """The same for all but the details: for the content, its size and its times."""
        if self.stale or self.is_dirty:
            return 0.0
        return max(0.0, self._known_until() - now)

    def is_fresh(self, now: float) -> bool:
        """Whether what others may have changed is known; our own writes may have moved the times since."""
        return self._known_until() > now

    def knows_details(self, now: float) -> bool:
        """Whether the details need not be asked for; no lease says when another client changes these."""
        return min(self.fresh_until, self.details_until) > now

    def _known_until(self) -> float:
        until = self.fresh_until
        if self._is_vouched():
            until = max(until, self.vouched_until)
        return until

    def _is_vouched(self) -> bool:
        """Whether the lease has had no gap since, and the folder's no break, which tells of times set."""
        if not self.vouched_term or self.vouched_term != self.vouching:
            return False
        return not self.names or self.names[-1].parent.broken_at + LEASED_SECONDS <= self.vouched_until

    @property
    def vouching(self) -> int:
        """The lease's term while the server vouches for the content, else 0."""
        return self.lease.term if self.lease is not None and self.lease.state & _READ_CACHING else 0

    @property
    def is_exclusive(self) -> bool:
        """Whether the server would say at once if another client opened the file."""
        return self.lease is not None and self.lease.state & _EXCLUSIVE == _EXCLUSIVE

    @property
    def knowledge(self) -> tuple[int, int]:
        """Is another when the content may have changed, here or under a lease elsewhere."""
        return self.changed, self.vouching

    def vouch(self, term: int, asked_at: float) -> None:
        """The attributes were asked for at `asked_at`, in this term of the lease: they hold for longer."""
        self.vouched_term = term
        self.vouched_until = asked_at + LEASED_SECONDS

    def expire(self) -> None:
        """The attributes have to be asked for again."""
        self.fresh_until = self.vouched_until = 0.0

    def update(self, stat: FileStat, asked: int, fresh_until: float) -> None:
        """Take the server's answer to a question asked at the table's tick `asked`."""
        if asked < self.changed:
            return
        if stat.ea_size is None:
            self.details_until = min(self.details_until, self.fresh_until)
            stat.ea_size = self.stat.ea_size
        else:
            self.details_until = math.inf
        if not stat.number_of_links:
            stat.number_of_links = self.stat.number_of_links
        if self.is_dirty:
            stat.size = max(stat.size, self.stat.size)
            self._take(stat)
        else:
            self._take(stat)
            self.stale = False
            self.clean_size = stat.size
        self.fresh_until = max(fresh_until, self.fresh_until)

    @contextmanager
    def resized(self, size: int) -> Iterator[None]:
        """Around giving it a size on the server."""
        self.resizing += (size,)
        try:
            yield
        finally:
            left = list(self.resizing)
            left.remove(size)
            self.resizing = tuple(left)

    @contextmanager
    def dated_as(self, write_ns: int | None) -> Iterator[None]:
        """Around giving it a time of writing on the server."""
        times = () if write_ns is None else (write_ns,)
        self.dating += times
        try:
            yield
        finally:
            left = list(self.dating)
            for time_ns in times:
                left.remove(time_ns)
            self.dating = tuple(left)

    def may_be_like(self, stat: FileStat, lost_ns: int) -> bool:
        """Whether nobody but us needs to have changed the file for it to be like this now. The connection was
        lost at `lost_ns` by the server's clock."""
        sizes = [self.clean_size, self.stat.size, *self.resizing]
        if self.is_dirty or self.stale or self.resizing or any(handle.wrote for handle in self.handles):
            return min(sizes) <= stat.size <= max(sizes)
        if stat.size != self.stat.size:
            return False
        return stat.write_ns in self.dating or was_not_written(self.stat, stat, lost_ns)

    def update_details(self, stat: FileStat, asked: int, fresh_until: float) -> None:
        """Take only the details of an answer, as all else is vouched for: of a file that is open here Samba
        may tell, by its name, the time of writing as it was before."""
        if asked >= self.changed and stat.ea_size is not None:
            self.stat.ea_size = stat.ea_size
            self.stat.number_of_links = stat.number_of_links or self.stat.number_of_links
            self.details_until = math.inf
            self.fresh_until = max(fresh_until, self.fresh_until)

    def update_from_listing(self, stat: FileStat, asked: int, fresh_until: float) -> None:
        """Take a listing's attributes, unless we know better: servers update them late while a file is open
        for writing, and they have no link counts."""
        if asked < self.changed:
            return
        is_written = self.stale or any(handle.writable for handle in self.handles)
        if is_written or fresh_until <= self._known_until():
            self.stat.ea_size = stat.ea_size
            self.details_until = max(self.details_until, fresh_until)
            return
        stat.number_of_links = self.stat.number_of_links
        self._take(stat)
        self.clean_size = stat.size
        self.fresh_until = fresh_until
        self.details_until = math.inf

    def _take(self, stat: FileStat) -> None:
        if self.written_ns is not None:
            stat.write_ns = self.written_ns
        if self.content_version != _content_version(stat):
            self.drop_readahead()
            if not self.stale:
                # Not our doing, whatever the lease says: files are also changed on the server itself.
                self.pages_term = 0
        self.stat = stat

    def drop_readahead(self) -> None:
        """The content has changed: what was fetched ahead is outdated."""
        for handle in self.handles:
            handle.content = None
            if handle.readahead is not None:
                handle.readahead.drop()
        for parked in self.idle:
            parked.content = None

    async def wait_for_closes(self) -> None:
        """Have no file that wrote open any more: a server sets the time of writing with its close."""
        while self.closing:
            if self.late is not None:
                self.late.begin()
                continue
            await self.closing[-1].wait()

    def ancestors(self) -> Iterator[Inode]:
        """The folder itself and all folders above it, through every name; each once, the nearest first."""
        for level in self._levels():
            yield from level

    def depth(self) -> int:
        """How many names lead to it from the mount's root: the fewest, by any name that the kernel may know.

        The kernel keeps a name for its time to live, and a folder that a program works in for longer, also if
        the server says meanwhile that the file is elsewhere.
        """
        least = math.inf
        for distance, level in enumerate(self._levels()):
            if distance >= least:
                break
            tops = (inode.lost_depth if inode.names else 0 for inode in level)
            least = min(least, distance + min(tops))
        return 0 if least == math.inf else int(least)

    def _levels(self) -> Iterator[list[Inode]]:
        """Itself, then what is above it by one name, by two and so on. A hostile server can give a folder
        many names at every level, so none is visited twice."""
        level, seen = [self], {self}
        while level:
            yield level
            parents = dict.fromkeys(dentry.parent for inode in level for dentry in inode.names)
            level = [inode for inode in parents if inode not in seen]
            seen.update(level)


def _content_version(stat: FileStat) -> tuple[int, int, int]:
    return stat.size, stat.write_ns, stat.change_ns


class Dentry:
    """A name in a folder, known until `fresh_until` and as long as `word` holds. `number` is what the kernel
    calls the inode under this name."""

    __slots__ = ("fresh_until", "inode", "name", "number", "parent", "smb_name", "word")

    def __init__(
        self, parent: Inode, name: bytes, smb_name: str, inode: Inode, number: int, fresh_until: float
    ) -> None:
        self.word: Word | None = None
        self.parent = parent
        self.name = name
        self.smb_name = smb_name
        self.inode = inode
        self.number = number
        self.fresh_until = fresh_until

    def validity(self, now: float) -> float:
        """The seconds for which the name is still believed to lead to this inode."""
        until = self.fresh_until
        if self.word is not None:
            until = max(until, self.word.holds_until())
        return max(0.0, until - now)

    def is_vouched(self, now: float) -> bool:
        """Whether the server vouches for that."""
        return self.word is not None and self.word.holds_until() > now

    def expire(self) -> None:
        """Where the name leads has to be asked for again."""
        self.fresh_until = 0.0
        self.word = None


class InodeTable:
    """All inodes that are known, by number and by file id.

    `trust_file_ids` says whether the server's ids identify files.
    """

    def __init__(self, root: FileStat, *, trust_file_ids: bool) -> None:
        self._trust_file_ids = trust_file_ids
        self._by_number: dict[int, Inode] = {}
        self._by_file_id: dict[int, Inode] = {}
        self._lookups = Lookups()
        self._next_own = FIRST_OWN_NUMBER
        self.tick = 0
        self.root = Inode(ROOT_NUMBER, DIRECTORY, self._usable_id(root), root)
        self._by_number[ROOT_NUMBER] = self.root
        if self.root.file_id:
            self._by_file_id[self.root.file_id] = self.root

    def __getitem__(self, number: int) -> Inode:
        try:
            return self._by_number[number]
        except KeyError:
            raise PosixError(errno.ESTALE) from None

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Inode]:
        return iter(dict.fromkeys(self._by_number.values()))

    def path(self, inode: Inode) -> str:
        """The SMB path below the share's root; `PosixError` ESTALE if no name is known any more."""
        parts: list[str] = []
        while inode.names:
            dentry = inode.names[-1]
            parts.append(dentry.smb_name)
            inode = dentry.parent
        if inode is not self.root:
            raise PosixError(errno.ESTALE, "the file has no name any more")
        return "\\".join(reversed(parts))

    def child_path(self, parent: Inode, smb_name: str) -> str:
        """The SMB path of a name in a folder."""
        return join(self.path(parent), smb_name)

    def identify(self, parent: Inode, stat: FileStat, kind: int, known: Inode | None) -> Inode:
        """The inode of what the server calls `stat`; made if it is new.

        `known` is the inode that the name had so far: where there are no ids, the name is the identity.
        """
        file_id = self._usable_id(stat)
        inode = self._by_file_id.get(file_id) if file_id else None
        if inode is not None:
            if kind == DIRECTORY and inode in parent.ancestors():
                file_id = 0
            elif self._is_same(inode, stat, kind):
                return inode
        if known is not None and known.kind == kind and not known.unlinked:
            if not file_id:
                return known
            if not known.file_id and inode is None:
                known.file_id = file_id
                self._by_file_id[file_id] = known
                return known
        return self._new(stat, kind, file_id)

    def find(self, stat: FileStat) -> Inode | None:
        """The inode that has the server's file id of `stat`."""
        return self._by_file_id.get(self._usable_id(stat)) if stat.file_id else None

    def describes(self, inode: Inode, stat: FileStat) -> bool:
        """Whether an answer that was asked for by a name is about this inode, not about a successor."""
        if stat.is_directory != (inode.kind == DIRECTORY):
            return False
        file_id = self._usable_id(stat)
        return not file_id or not inode.file_id or file_id == inode.file_id

    def is_surely(self, inode: Inode, stat: FileStat) -> bool:
        """Whether an answer that was asked for by a name is about this inode by the server's own numbers."""
        return bool(inode.file_id) and inode.file_id == self._usable_id(stat)

    def touch(self, inode: Inode) -> None:
        """We have changed it: answers under way, and its folder's listing, are outdated."""
        self.tick += 1
        inode.changed = self.tick
        for dentry in inode.names:
            if dentry.parent.listing is not None:
                dentry.parent.listing.forget(dentry.smb_name)

    def enter(
        self,
        parent: Inode,
        name: bytes,
        smb_name: str,
        inode: Inode,
        fresh_until: float,
        word: Word | None = None,
    ) -> Dentry:
        """Record that `name` in `parent` is `inode`. A name that differs only by case from another of
        the same inode gets a number of its own, so that the kernel lets it be renamed to that."""
        dentry = parent.children.get(name)
        if dentry is not None:
            if dentry.inode is inode:
                dentry.fresh_until = max(fresh_until, dentry.fresh_until)
                dentry.word = word or dentry.word
                self.confirm(dentry)
                return dentry
            self.remove(dentry)
        number = inode.number
        if inode.names and any(self._is_case_alias(other, parent, smb_name) for other in inode.names):
            number = self._own_number()
            self._by_number[number] = inode
            inode.numbers.append(number)
        dentry = Dentry(parent, name, smb_name, inode, number, fresh_until)
        dentry.word = word
        parent.children[name] = dentry
        inode.names.append(dentry)
        return dentry

    @staticmethod
    def confirm(dentry: Dentry) -> None:
        """Of its inode's names this is the one to use: a program, or the server, has just named it."""
        names = dentry.inode.names
        if names[-1] is not dentry:
            names.remove(dentry)
            names.append(dentry)

    def confirm_only(self, dentry: Dentry) -> None:
        """The server says that the file has this name alone: others are what another client renamed."""
        names = dentry.inode.names
        if len(names) > 1:
            right = self.siblings(dentry)
            for other in [other for other in names if other not in right]:
                self.remove(other)

    def remove(self, dentry: Dentry) -> None:
        """Forget a name, though the kernel may know it still."""
        inode = dentry.inode
        if inode.kind != FILE and any(number in self._lookups for number in inode.numbers):
            inode.lost_depth = min(inode.lost_depth, dentry.parent.depth() + 1)
        self._remove(dentry)

    def _remove(self, dentry: Dentry) -> None:
        if dentry.parent.children.get(dentry.name) is dentry:
            del dentry.parent.children[dentry.name]
        if dentry in dentry.inode.names:
            dentry.inode.names.remove(dentry)
        self.discard_if_unused(dentry.inode)
        self.discard_if_unused(dentry.parent)

    def move(self, dentry: Dentry, parent: Inode, name: bytes, smb_name: str) -> Dentry:
        """Give a name another name: the kernel keeps the inode's number. What had it before loses it."""
        inode, number = dentry.inode, dentry.number
        replaced = parent.children.get(name)
        if replaced is not None and replaced is not dentry:
            self.remove(replaced)
        moved = Dentry(parent, name, smb_name, inode, number, dentry.fresh_until)
        inode.names.append(moved)
        parent.children.pop(name, None)
        self._remove(dentry)
        parent.children[name] = moved
        if inode.kind == DIRECTORY:
            # A folder has one place in the kernel's tree, and this is where the kernel has just put it.
            inode.lost_depth = math.inf
        return moved

    def siblings(self, dentry: Dentry) -> list[Dentry]:
        """The names of its inode in its folder that differ at most by case: one name to the server."""
        key = fold(dentry.smb_name)
        return [d for d in dentry.inode.names if d.parent is dentry.parent and fold(d.smb_name) == key]

    def mark_unlinked(self, inode: Inode) -> None:
        """The file's last name is gone: only open handles still reach it, and its id may be used again."""
        inode.unlinked = True
        if self._by_file_id.get(inode.file_id) is inode:
            del self._by_file_id[inode.file_id]
        for dentry in tuple(inode.names):
            self.remove(dentry)

    def add_lookup(self, number: int) -> None:
        """The kernel has been told this number once more."""
        self._lookups.add(number)

    def forget(self, number: int, count: int) -> None:
        """The kernel forgets `count` look-ups of a number."""
        if not self._lookups.subtract(number, count):
            return
        inode = self._by_number.get(number)
        if inode is None:
            return
        if number != inode.number:
            inode.numbers.remove(number)
            del self._by_number[number]
            for dentry in [dentry for dentry in inode.names if dentry.number == number]:
                self.remove(dentry)
        self.discard_if_unused(inode)

    def lookups(self, number: int) -> int:
        """How often the kernel has been told a number."""
        return self._lookups.count(number)

    @property
    def remembered(self) -> int:
        """How many numbers the kernel knows and has not been asked to forget."""
        return self._lookups.kept

    def release_oldest(self, most: int) -> list[int]:
        """The numbers that the kernel is to forget, of the `most` that it was told longest ago."""

        def is_needed(number: int) -> bool:
            inode = self._by_number.get(number)
            return inode is not None and self._is_needed(inode)

        return self._lookups.release_oldest(most, is_needed)

    def discard_if_unused(self, inode: Inode) -> None:
        """Drop an inode that nobody needs any more, and the folders that were kept for it."""
        candidates = [inode]
        while candidates:
            inode = candidates.pop()
            if self._is_needed(inode) or any(number in self._lookups for number in inode.numbers):
                continue
            for number in inode.numbers:
                if self._by_number.get(number) is inode:
                    del self._by_number[number]
            if self._by_file_id.get(inode.file_id) is inode:
                del self._by_file_id[inode.file_id]
            names, inode.names = inode.names, []
            for dentry in names:
                if dentry.parent.children.get(dentry.name) is dentry:
                    del dentry.parent.children[dentry.name]
                candidates.append(dentry.parent)

    def _is_needed(self, inode: Inode) -> bool:
        """Whether it has to stay even if the kernel forgets it."""
        return bool(
            inode is self.root
            or inode.children
            or inode.is_kept
            or inode.handles
            or inode.idle
            or inode.late
            or inode.directory_handles
            or inode.is_dirty
        )

    def _usable_id(self, stat: FileStat) -> int:
        return stat.file_id if self._trust_file_ids and stat.file_id not in _UNUSABLE_IDS else 0

    @staticmethod
    def _is_same(inode: Inode, stat: FileStat, kind: int) -> bool:
        if inode.kind != kind:
            return False
        # What is open keeps its id. Some servers make the creation time up from others, which move.
        is_open = bool(inode.handles or inode.directory_handles)
        return is_open or abs(inode.stat.creation_ns - stat.creation_ns) <= _SAME_CREATION_NS

    def _new(self, stat: FileStat, kind: int, file_id: int) -> Inode:
        number = file_id if file_id and file_id not in self._by_number else self._own_number()
        inode = Inode(number, kind, file_id, stat)
        self._by_number[number] = inode
        if file_id:
            self._by_file_id[file_id] = inode
        return inode

    def _own_number(self) -> int:
        while self._next_own in self._by_number:
            self._next_own += 1
        self._next_own += 1
        return self._next_own - 1

    @staticmethod
    def _is_case_alias(other: Dentry, parent: Inode, smb_name: str) -> bool:
        if other.parent is not parent or other.smb_name == smb_name:
            return False
        return fold(other.smb_name) == fold(smb_name)
