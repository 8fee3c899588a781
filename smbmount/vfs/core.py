"""What all parts of the file system share: the share, the tables, and how an answer becomes an inode."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio

from engine import DeletePending, FileStat, NtStatusError, SessionDeleted, SessionExpired, TreeGone
from smbmount.vfs.attributes import (
    DIRECTORY,
    FILE,
    SYMLINK,
    Attributes,
    blocks_of,
    may_be_symlink,
    mode_of,
    shown_ns,
    size_of,
)
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.downloads import Downloads
from smbmount.vfs.errors import ABSENT, PosixError
from smbmount.vfs.folder_leases import FolderLeases
from smbmount.vfs.handles import FileHandle, HandleTable
from smbmount.vfs.idle import IdleFiles
from smbmount.vfs.inodes import Dentry, Inode, InodeTable
from smbmount.vfs.kernel import KernelCache
from smbmount.vfs.lateclose import LateCloses
from smbmount.vfs.leases import Leases
from smbmount.vfs.moves import Moves
from smbmount.vfs.names import NameMap
from smbmount.vfs.remote import RemoteFile, RemoteShare
from smbmount.vfs.shedding import Shedding
from smbmount.vfs.streams import ReadBudget
from smbmount.vfs.symlinks import FILE_SIZE, decode_untrusted
from smbmount.vfs.targets import LinkTargets
from smbmount.vfs.vouching import Word
from smbmount.vfs.writebehind import WriteBudget

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What the server told of a file, and when it was asked: the table's tick, and trio's clock.

    `target` is a symbolic link's; `word` that of the folder's lease, taken before the server was asked.
    """

    stat: FileStat
    kind: int
    target: bytes | None
    asked: int
    asked_at: float
    word: Word | None = None


class Core:
    """The state of one mount. `spawn(task, *args)` starts a task that lives as long as the mount."""

    def __init__(
        self,
        share: RemoteShare,
        config: FileSystemConfig,
        root: FileStat,
        spawn: Callable[..., object],
        kernel: KernelCache,
    ) -> None:
        self.share = share
        self.config = config
        self.spawn = spawn
        self.names = NameMap(map_reserved=config.map_names)
        trust = config.server_inode_numbers and share.supports_file_ids
        self.inodes = InodeTable(root, trust_file_ids=trust)
        self.files: HandleTable[FileHandle] = HandleTable()
        self.moves = Moves()
        self.kernel = kernel
        self.shedding = Shedding(self.inodes, kernel, spawn)
        self.late = LateCloses(
            spawn,
            self.inodes,
            time_to_live=config.attribute_timeout_file,
            seconds=config.close_timeout,
        )
        self.idle = IdleFiles(spawn, self.inodes.discard_if_unused, config.close_timeout, self.late)
        caches = config.cache != "none"
        self.folder_leases = FolderLeases(share, self.inodes, spawn, config.close_timeout, enabled=caches)
        self.leases = Leases(share, spawn, self.idle, kernel, self.folder_leases, enabled=caches)
        self.write_budget = WriteBudget()
        self.read_budget = ReadBudget()
        self.downloads = Downloads(spawn, share.download)
        self._replacements: dict[tuple[Inode, bytes], trio.Event] = {}
        self.targets = LinkTargets()

    def keep(self, inode: Inode, file: RemoteFile) -> None:
        """Have an open file found again, should the connection be lost and the server have forgotten it."""

        def locate() -> str | None:
            try:
                return self.inodes.path(inode)
            except PosixError:
                return None

        def recognise(stat: FileStat, lost_ns: int) -> bool:
            return self.inodes.describes(inode, stat) and inode.may_be_like(stat, lost_ns)

        file.keep(locate, recognise)

    @staticmethod
    def now() -> float:
        """Monotonic seconds."""
        return trio.current_time()

    def time_to_live(self, kind: int) -> float:
        """How long attributes of such an inode are used, in seconds."""
        config = self.config
        return config.attribute_timeout_directory if kind == DIRECTORY else config.attribute_timeout_file

    def folder(self, number: int) -> Inode:
        """The inode of a folder by number; `PosixError` ENOTDIR."""
        inode = self.inodes[number]
        if inode.kind != DIRECTORY:
            raise PosixError(errno.ENOTDIR)
        return inode

    def require_writable(self) -> None:
        """`PosixError` EROFS on a read-only mount."""
        if self.config.read_only:
            raise PosixError(errno.EROFS)

    def reply(self, inode: Inode, number: int, entry_validity: float = 0.0) -> Attributes:
        """The attributes as the kernel gets them, under one of the inode's numbers."""
        now = self.now()
        stat = inode.stat
        inode.told, inode.kernel_size = inode.content_version, stat.size
        return Attributes(
            number,
            mode_of(inode.kind, stat.attributes, self.config),
            inode.links,
            self.config.uid,
            self.config.gid,
            size_of(inode.kind, stat, inode.target),
            blocks_of(stat),
            shown_ns(stat.access_ns),
            shown_ns(stat.write_ns),
            shown_ns(stat.change_ns),
            # Not longer under a lease: its end by a close of ours would have to be told to the kernel.
            min(inode.validity(now), self.time_to_live(inode.kind)),
            min(entry_validity, self.time_to_live(inode.kind)),
        )

    def reply_entry(self, dentry: Dentry) -> Attributes:
        """The reply that makes the kernel count a look-up of this name; it is counted here."""
        self.inodes.add_lookup(dentry.number)
        self.shedding.note()
        return self.reply(dentry.inode, dentry.number, dentry.validity(self.now()))

    def adopt(
        self,
        parent: Inode,
        name: bytes,
        smb_name: str,
        entry: Answer,
    ) -> Dentry:
        """Record what the server told of a name."""
        known = parent.children.get(name)
        inode = self.inodes.identify(parent, entry.stat, entry.kind, known.inode if known else None)
        inode.target = entry.target
        fresh_until = entry.asked_at + self.time_to_live(entry.kind)
        inode.update(entry.stat, entry.asked, fresh_until)
        dentry = self.inodes.enter(parent, name, smb_name, inode, fresh_until, entry.word)
        if entry.kind != DIRECTORY and entry.stat.number_of_links == 1:
            self.inodes.confirm_only(dentry)
        return dentry

    def adopt_new(self, parent: Inode, name: bytes, smb_name: str, answer: Answer) -> Dentry:
        """Record what we have just made: whatever had the name before is another inode, with other links, and
        so is whatever had the server's number, which is used again at once."""
        outdated = parent.children.get(name)
        if outdated is not None:
            self.inodes.remove(outdated)
        predecessor = self.inodes.find(answer.stat)
        if predecessor is not None and (outdated is None or predecessor is not outdated.inode):
            self.inodes.mark_unlinked(predecessor)
        answer.stat.number_of_links = answer.stat.number_of_links or 1
        answer.stat.ea_size = answer.stat.ea_size or 0
        return self.adopt(parent, name, smb_name, answer)

    async def classify(self, path: str, stat: FileStat) -> tuple[int, bytes | None]:
        """Whether it is a folder, a file, or a symbolic link with which target."""
        if stat.is_directory:
            return DIRECTORY, None
        if not self.config.shows_symlinks or not may_be_symlink(stat):
            return FILE, None
        known = self.inodes.find(stat)
        if known is not None and known.handles:
            return known.kind, known.target
        target = await self._read_target(path, stat)
        return (FILE, None) if target is None else (SYMLINK, target)

    async def _read_target(self, path: str, stat: FileStat) -> bytes | None:
        known = self.targets.find(path, stat)
        if known is not None:
            return known.target
        before = self.targets.latest(path, stat)
        try:
            target = decode_untrusted(await self.share.read_file(path, FILE_SIZE))
        except (SessionDeleted, SessionExpired, TreeGone):
            raise
        except NtStatusError:
            # One file that cannot be read (locked, no right, a bad disk) must not spoil its folder's listing.
            return None
        if self.targets.latest(path, stat) is before:
            # Else we have made a link meanwhile that got the id of this one.
            self.targets.keep(path, stat, target)
        return target

    async def refresh(self, inode: Inode) -> None:
        """Ask the server for the attributes; dirty data is written first, so that they are the truth.

        `PosixError` ESTALE if it has no name any more, and no open handle.
        """
        while True:
            await inode.wait_for_closes()
            if inode.validity(self.now()):
                return
            if inode.writes is not None and inode.is_dirty:
                await inode.writes.drain()
            asked, asked_at, term = self.inodes.tick, self.now(), inode.vouching
            knows_content = inode.content_validity(asked_at) > 0
            if inode.handles:
                stat = await inode.handles[0].file.query()
            else:
                found = await self._stat_by_name(inode)
                if found is None:
                    continue
                stat = found
            fresh_until = asked_at + self.time_to_live(inode.kind)
            if knows_content and inode.content_validity(self.now()):
                inode.update_details(stat, asked, fresh_until)
                return
            inode.update(stat, asked, fresh_until)
            inode.vouch(term, asked_at)
            return

    async def _stat_by_name(self, inode: Inode) -> FileStat | None:
        """The attributes through the inode's newest name; None if that name is gone or another's."""
        async with self.moves.using(inode):
            path = self.inodes.path(inode)
            name = inode.names[-1] if inode.names else None
            try:
                stat = await self.share.stat(path)
                if name is None or self.inodes.describes(inode, stat):
                    return stat
            except ABSENT:
                if name is None:
                    raise
            self.disown(name)
            return None

    def disown(self, dentry: Dentry) -> None:
        """The server says that this name is gone, or another file's: the caches are wrong about it."""
        if dentry.parent.listing is not None:
            dentry.parent.listing.forget(dentry.smb_name)
        self.inodes.remove(dentry)
        if not dentry.inode.names:
            self.idle.close(dentry.inode)

    def changed(self, parent: Inode, *names: bytes) -> None:
        """We have changed these names of a folder: what is known of it is outdated."""
        self.inodes.touch(parent)
        parent.expire()
        for name in names:
            if parent.listing is not None:
                parent.listing.forget(self.names.encode(name))
            for handle in parent.directory_handles:
                handle.changed.add(name)

    @contextmanager
    def changing(self, parent: Inode, name: bytes) -> Iterator[None]:
        """Around a change of a name on the server. If it fails, the outcome may be unknown."""
        try:
            yield
        except BaseException:
            dentry = parent.children.get(name)
            if dentry is not None:
                dentry.expire()
                dentry.inode.expire()
            raise
        finally:
            self.changed(parent, name)

    @contextmanager
    def replacing(self, parent: Inode, name: bytes) -> Iterator[None]:
        """Around the replacement of a file, during which its name may be missing on the server."""
        done = self._replacements[parent, name] = trio.Event()
        try:
            yield
        finally:
            del self._replacements[parent, name]
            done.set()

    async def wait_for_replacement(self, parent: Inode, name: bytes) -> None:
        """Return once the name is not being replaced: to programs of this mount it never is missing."""
        while (parent, name) in self._replacements:
            await self._replacements[parent, name].wait()

    @contextmanager
    def creating(self, parent: Inode, name: bytes) -> Iterator[None]:
        """Around the making of a name. `PosixError` EBUSY while somebody has its deleted file open."""
        try:
            with self.changing(parent, name):
                yield
        except DeletePending:
            raise PosixError(errno.EBUSY, "the deleted file of that name is still open") from None
