"""Names come and go: lookup, mkdir, mknod, rmdir, unlink, link, symlink, readlink."""

from __future__ import annotations

import errno
import stat as stat_module
from collections import OrderedDict
from typing import Final

import trio

from engine import Access, CannotDelete, CreateOptions, Disposition, FileAttributes, OutcomeUnknown
from smbmount.vfs import symlinks
from smbmount.vfs.attributes import (
    DIRECTORY,
    FILE,
    SYMLINK,
    Attributes,
    attributes_for_new,
    is_readonly,
    settable,
)
from smbmount.vfs.core import Answer, Core
from smbmount.vfs.directories import Directories
from smbmount.vfs.errors import ABSENT, NoSuchName, PosixError
from smbmount.vfs.inodes import Dentry, Inode
from smbmount.vfs.lateclose import experience_in
from smbmount.vfs.listings import Listing
from smbmount.vfs.moves import uses_path
from smbmount.vfs.opening import Opening
from smbmount.vfs.silly import remove_file

_REMOVED_KEPT: Final = 4096
"""Names that we removed and about which listings are not believed: enough for a program that makes and
removes its files over and over."""

_TRIES = 3
"""How often a look-up is repeated because we changed the folder meanwhile; then the answer is taken."""


class _Question:
    """A name that is being asked for; `absent_until` is the server's answer that there is none."""

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.absent_until = 0.0


class Namespace:
    """The operations on names. Numbers are the kernel's, names its bytes."""

    def __init__(self, core: Core, directories: Directories) -> None:
        self._core = core
        self._directories = directories
        self._opening = Opening(core)
        self._asked: dict[tuple[Inode, bytes], _Question] = {}
        self._removed: OrderedDict[tuple[Inode, bytes], None] = OrderedDict()

    async def lookup(self, parent_number: int, name: bytes) -> Attributes:
        """The attributes of a name, counted as one look-up; `NoSuchName`."""
        core = self._core
        parent = core.folder(parent_number)
        smb_name = core.names.encode(name)
        await core.wait_for_replacement(parent, name)
        if name in parent.children:
            await parent.children[name].inode.wait_for_closes()
        dentry = self._known(parent, name, smb_name)
        return core.reply_entry(dentry or await self._ask(parent, name, smb_name))

    def _known(self, parent: Inode, name: bytes, smb_name: str) -> Dentry | None:
        """The name as the caches know it; `NoSuchName` if they know that it does not exist."""
        core = self._core
        now = core.now()
        dentry = parent.children.get(name)
        # Whoever opens a file or passes a folder needs no attributes; who does is made to ask for them.
        if (
            dentry is not None
            and dentry.validity(now)
            and (dentry.inode.kind == DIRECTORY or dentry.inode.content_validity(now))
        ):
            core.inodes.confirm(dentry)
            return dentry
        listing = parent.listing
        if listing is None or not listing.validity(now) or (parent, name) in self._removed:
            return None
        entry = listing.find(smb_name)
        if entry is not None:
            dentry = self._directories.enter(parent, entry)
            if not dentry.inode.content_validity(now):
                return None
            self._directories.note_served(parent, listing)
            return dentry
        if dentry is None and listing.excludes(smb_name):
            self._directories.note_served(parent, listing)
            raise NoSuchName(min(listing.validity(now), core.time_to_live(DIRECTORY)))
        return None

    @uses_path
    async def _ask(self, parent: Inode, name: bytes, smb_name: str) -> Dentry:
        """Ask the server; what is asked for at this moment is waited for instead. `NoSuchName`."""
        key = parent, name
        if key in self._asked:
            dentry = await self._answer_to(self._asked[key], parent, name, smb_name)
            return dentry or await self.resolve(parent, name, smb_name)
        question = self._asked[key] = _Question()
        try:
            if key not in self._removed and await self._directories.prime(parent):
                dentry = self._known(parent, name, smb_name)
                if dentry is not None:
                    return dentry
            dentry = await self.resolve(parent, name, smb_name)
            self._removed.pop(key, None)
            return dentry
        except NoSuchName as absent:
            question.absent_until = self._core.now() + absent.valid_for
            raise
        finally:
            del self._asked[key]
            question.answered.set()

    async def _answer_to(
        self, question: _Question, parent: Inode, name: bytes, smb_name: str
    ) -> Dentry | None:
        """What another task's question brought, if that is still to be believed."""
        core = self._core
        await question.answered.wait()
        left = question.absent_until - core.now()
        if left > 0 and name not in parent.children:
            raise NoSuchName(left)
        return self._known(parent, name, smb_name)

    async def resolve(self, parent: Inode, name: bytes, smb_name: str) -> Dentry:
        """Ask the server for a name; `NoSuchName`."""
        core = self._core
        for attempt in range(1, _TRIES + 1):
            asked, asked_at = core.inodes.tick, core.now()
            word = core.folder_leases.word(parent)
            try:
                stat = await core.share.stat(core.inodes.child_path(parent, smb_name))
            except ABSENT:
                if parent.changed > asked and attempt < _TRIES:
                    continue
                if name in parent.children:
                    core.inodes.remove(parent.children[name])
                raise NoSuchName(asked_at + core.time_to_live(DIRECTORY) - core.now()) from None
            kind, target = await core.classify(core.inodes.child_path(parent, smb_name), stat)
            if parent.changed <= asked:
                break
        return core.adopt(parent, name, smb_name, Answer(stat, kind, target, asked, asked_at, word))

    @uses_path
    async def mkdir(self, parent_number: int, name: bytes) -> Attributes:
        """Make a folder."""
        core = self._core
        core.require_writable()
        parent = core.folder(parent_number)
        smb_name = core.names.encode(name)
        with core.creating(parent, name):
            asked_at, word = core.now(), core.folder_leases.word(parent)
            path = core.inodes.child_path(parent, smb_name)
            stat = await core.share.mkdir(path, lease=core.leases.for_change(parent))
        answer = Answer(stat, DIRECTORY, None, core.inodes.tick, asked_at, word)
        dentry = core.adopt_new(parent, name, smb_name, answer)
        dentry.inode.experience = experience_in(parent)
        empty = Listing((), complete=True, fresh_until=dentry.fresh_until)
        self._directories.listings.keep(dentry.inode, empty, core.now())
        return core.reply_entry(dentry)

    @uses_path
    async def mknod(self, parent_number: int, name: bytes, mode: int) -> Attributes:
        """Make an empty regular file; SMB has nothing for the other kinds: `PosixError` EPERM."""
        core = self._core
        core.require_writable()
        if not stat_module.S_ISREG(mode):
            raise PosixError(errno.EPERM, "only regular files can be made on a share")
        parent = core.folder(parent_number)
        smb_name = core.names.encode(name)
        with core.creating(parent, name):
            asked_at, word = core.now(), core.folder_leases.word(parent)
            file = await core.share.open(
                core.inodes.child_path(parent, smb_name),
                access=Access.READ_ATTRIBUTES,
                disposition=Disposition.CREATE,
                options=CreateOptions.NON_DIRECTORY_FILE,
                attributes=attributes_for_new(mode),
                lease=core.leases.for_change(parent),
                details=False,
            )
        file.close_later()
        answer = Answer(file.stat, FILE, None, core.inodes.tick, asked_at, word)
        return core.reply_entry(core.adopt_new(parent, name, smb_name, answer))

    @uses_path
    async def unlink(self, parent_number: int, name: bytes) -> None:
        """Remove a name of a file; a file that is open stays usable until it is closed."""
        core = self._core
        core.require_writable()
        parent = core.folder(parent_number)
        smb_name = core.names.encode(name)
        dentry = parent.children.get(name)
        if dentry is not None and dentry.inode.kind == DIRECTORY:
            raise PosixError(errno.EISDIR)
        with core.changing(parent, name):
            await remove_file(core, parent, smb_name, dentry.inode if dentry is not None else None)
        self._note_removed(parent, name)
        if dentry is None:
            return
        self.forget_name(dentry)
        await self.restore_readonly(dentry.inode)

    def _note_removed(self, parent: Inode, name: bytes) -> None:
        """Servers list a removed file while another client has it open; to a look-up it does not exist."""
        self._removed[parent, name] = None
        self._removed.move_to_end((parent, name))
        if len(self._removed) > _REMOVED_KEPT:
            self._removed.popitem(last=False)

    async def restore_readonly(self, inode: Inode) -> None:
        """Removing one name of a read-only file took the attribute from all its names: it is set again if
        there are others."""
        if not is_readonly(inode.stat.attributes) or not inode.names:
            return
        attributes = settable(inode.stat.attributes)
        async with self._opening.checked(inode, Access.WRITE_ATTRIBUTES) as file:
            await file.set_basic(attributes=attributes)
        self._core.inodes.touch(inode)
        inode.stat.attributes = int(attributes)

    @uses_path
    async def rmdir(self, parent_number: int, name: bytes) -> None:
        """Remove an empty folder."""
        core = self._core
        core.require_writable()
        parent = core.folder(parent_number)
        smb_name = core.names.encode(name)
        dentry = parent.children.get(name)
        if dentry is not None:
            core.folder_leases.close(dentry.inode)
        with core.changing(parent, name):
            await self.remove_folder(parent, smb_name)
        dentry = parent.children.get(name)
        if dentry is not None:
            self.forget_name(dentry)

    async def remove_folder(self, parent: Inode, smb_name: str) -> None:
        """Remove an empty folder on the server, read-only or not."""
        share, path = self._core.share, self._core.inodes.child_path
        lease = self._core.leases.for_change(parent)
        try:
            await share.rmdir(path(parent, smb_name), lease=lease)
        except CannotDelete:
            attributes = (await share.stat(path(parent, smb_name))).attributes
            if not is_readonly(attributes):
                raise
            writable = settable(attributes & ~FileAttributes.READONLY)
            await share.set_basic(path(parent, smb_name), attributes=writable, lease=lease)
            await share.rmdir(path(parent, smb_name), lease=lease)

    def forget_name(self, dentry: Dentry) -> None:
        """A name is gone from the server, and with it all that differ from it only by case."""
        inodes, inode = self._core.inodes, dentry.inode
        # What was closed meanwhile is kept open under a lease that our own changes do not break.
        self._core.idle.close(inode)
        siblings = inodes.siblings(dentry)
        links = inode.stat.number_of_links or inode.known_names()
        inodes.touch(inode)
        if links <= 1 or inode.kind == DIRECTORY:
            inodes.mark_unlinked(inode)
            return
        if inode.stat.number_of_links:
            inode.stat.number_of_links -= 1
        for sibling in siblings:
            inodes.remove(sibling)

    async def link(self, number: int, parent_number: int, name: bytes) -> Attributes:
        """Give a file another name."""
        core = self._core
        core.require_writable()
        inode, parent = core.inodes[number], core.folder(parent_number)
        smb_name = core.names.encode(name)
        core.late.close(inode)
        async with core.moves.using(inode, parent):
            word = core.folder_leases.word(parent)
            with core.creating(parent, name):
                if self._opening.is_named(inode):
                    path, new_path = core.inodes.path(inode), core.inodes.child_path(parent, smb_name)
                    await core.share.link(path, new_path, lease=core.leases.for_change(parent, inode))
                else:
                    await self._link_opened(inode, parent, smb_name)
        fresh_until = core.now() + core.time_to_live(inode.kind)
        dentry = core.inodes.enter(parent, name, smb_name, inode, fresh_until, word)
        if inode.stat.number_of_links:
            core.inodes.touch(inode)
            inode.stat.number_of_links += 1
        else:
            await core.refresh(inode)
        return core.reply_entry(dentry)

    async def _link_opened(self, inode: Inode, parent: Inode, smb_name: str) -> None:
        """Give a file another name that cannot be trusted to have its own."""
        new = self._core.inodes.child_path(parent, smb_name)
        async with self._opening.checked(inode, Access.WRITE_ATTRIBUTES) as file:
            while True:
                try:
                    await file.link(new)
                except OutcomeUnknown:
                    if await self._is_name_of(inode, new):
                        return
                else:
                    return

    async def _is_name_of(self, inode: Inode, path: str) -> bool:
        try:
            return self._core.inodes.is_surely(inode, await self._core.share.stat(path))
        except ABSENT:
            return False

    @uses_path
    async def symlink(self, parent_number: int, name: bytes, target: bytes) -> Attributes:
        """Make a symbolic link; `PosixError` EPERM where it is switched off or leads out of the mount."""
        core = self._core
        core.require_writable()
        if not core.config.shows_symlinks:
            raise PosixError(errno.EPERM, "symbolic links are switched off")
        parent = core.folder(parent_number)
        smb_name = core.names.encode(name)
        content = symlinks.encode(target)
        self._require_contained(target, parent.depth())
        with core.creating(parent, name):
            asked_at, path = core.now(), core.inodes.child_path(parent, smb_name)
            word, lease = core.folder_leases.word(parent), core.leases.for_change(parent)
            stat = await core.share.write_file(path, content, disposition=Disposition.CREATE, lease=lease)
            core.targets.keep(path, stat, target)
        answer = Answer(stat, SYMLINK, target, core.inodes.tick, asked_at, word)
        return core.reply_entry(core.adopt_new(parent, name, smb_name, answer))

    async def readlink(self, number: int) -> bytes:
        """A symbolic link's target; `PosixError` EPERM if it leads out of the mount."""
        inode = self._core.inodes[number]
        if inode.target is None:
            raise PosixError(errno.EINVAL)
        self._require_contained(inode.target, max(0, inode.depth() - 1))
        return inode.target

    def _require_contained(self, target: bytes, depth: int) -> None:
        if self._core.config.symlinks == "contain" and not symlinks.is_contained(target, depth):
            raise PosixError(errno.EPERM, "the symbolic link leads out of the mount")
