"""rename(2) on a server that does not replace folders, open files or read-only files."""

from __future__ import annotations

import errno
import logging
from contextlib import ExitStack
from typing import Final

import trio

from engine import AccessDenied, AlreadyExists, CannotDelete, Lease, NotFound, SharingViolation, SmbError
from smbmount.vfs.attributes import DIRECTORY
from smbmount.vfs.core import Core
from smbmount.vfs.errors import PosixError
from smbmount.vfs.inodes import Dentry, Inode
from smbmount.vfs.names import fold
from smbmount.vfs.namespace import Namespace
from smbmount.vfs.silly import Place, replace_file
from smbmount.vfs.vouching import Word

log = logging.getLogger(__name__)

_OTHERS_WERE_ASKED: Final = 20.0
"""Seconds after which a refusal says that the server waited for other clients to close what they keep open.
Samba 4.22 can miss that they did, and gives up after 35 s: a second try finds it closed."""

RENAME_NOREPLACE: Final = 1
"""renameat2(2); the other flags cannot be done on SMB."""

_MAKE_AGAIN_SECONDS: Final = 10.0
"""For a folder that could not be replaced after all: also while the mount is being ended."""

_REFUSED_TO_REPLACE = (AccessDenied, AlreadyExists, CannotDelete, SharingViolation)


class Renames:
    """Renaming files and folders."""

    def __init__(self, core: Core, namespace: Namespace) -> None:
        self._core = core
        self._namespace = namespace

    async def rename(
        self, parent_number: int, name: bytes, new_parent_number: int, new_name: bytes, flags: int
    ) -> None:
        """Rename; what had the new name is replaced unless `RENAME_NOREPLACE` is in `flags`.

        `PosixError` EINVAL for exchanging two names and other flags.
        """
        core = self._core
        core.require_writable()
        if flags & ~RENAME_NOREPLACE:
            raise PosixError(errno.EINVAL, "SMB cannot exchange two names")
        parent, new_parent = core.folder(parent_number), core.folder(new_parent_number)
        source = parent.children.get(name)
        if source is None:
            async with core.moves.using(parent):
                source = await self._namespace.resolve(parent, name, core.names.encode(name))
        exclusive = bool(flags & RENAME_NOREPLACE)
        if source.inode.kind == DIRECTORY:
            async with core.moves.moving(source.inode):
                await self._rename(source, new_parent, new_name, exclusive)
        else:
            async with core.moves.using(parent, new_parent):
                await self._rename(source, new_parent, new_name, exclusive)

    async def _rename(self, source: Dentry, new_parent: Inode, new_name: bytes, exclusive: bool) -> None:
        core, parent = self._core, source.parent
        source = parent.children.get(source.name, source)
        target = new_parent.children.get(new_name)
        if source.inode in new_parent.ancestors():
            raise PosixError(errno.EINVAL, "a folder cannot be moved into itself")
        old = Place(parent, core.names.encode(source.name))
        new = Place(new_parent, core.names.encode(new_name))
        with ExitStack() as changing:
            changing.enter_context(core.changing(parent, source.name))
            changing.enter_context(core.changing(new_parent, new_name))
            word, lease = core.folder_leases.word(new_parent), core.leases.for_change(parent, source.inode)
            self._close_idle(source.inode, target)
            if exclusive or _is_case_change(source, target, new):
                await self._rename_freely(old, new, lease, source.inode)
            elif source.inode.kind == DIRECTORY:
                await self._replace_folder(old, new, lease, source.inode, target)
            else:
                await self._replace(old, new, new_name, lease, source.inode, target)
        self._moved(source, target, new, new_name, word)
        if target is not None and target.inode is not source.inode:
            await self._namespace.restore_readonly(target.inode)

    async def _rename_freely(self, old: Place, new: Place, lease: Lease | None, inode: Inode) -> None:
        """Rename to a name that is free, as the server sees it."""
        core, path, file_id = self._core, self._core.inodes.child_path, inode.file_id
        began = core.now()
        try:
            await core.share.rename(path(*old), path(*new), replace=False, lease=lease, file_id=file_id)
        except AccessDenied:
            if core.now() - began < _OTHERS_WERE_ASKED:
                raise
            await core.share.rename(path(*old), path(*new), replace=False, lease=lease, file_id=file_id)

    async def _replace(
        self,
        old: Place,
        new: Place,
        new_name: bytes,
        lease: Lease | None,
        inode: Inode,
        target: Dentry | None,
    ) -> None:
        if target is not None and target.inode.kind == DIRECTORY:
            raise PosixError(errno.EISDIR)
        core, path = self._core, self._core.inodes.child_path
        replaced = target.inode if target is not None else None
        with core.replacing(new.folder, new_name):
            if replaced is not None and replaced.handles:
                await replace_file(core, old, new, lease=lease, replaced=replaced)
                return
            try:
                await core.share.rename(
                    path(*old), path(*new), replace=True, lease=lease, file_id=inode.file_id
                )
            except _REFUSED_TO_REPLACE as refusal:
                try:
                    await replace_file(core, old, new, lease=lease, replaced=replaced)
                except NotFound:
                    raise refusal from None

    def _close_idle(self, source: Inode, target: Dentry | None) -> None:
        """Servers do not rename or replace what is open elsewhere, nor a folder with open files in it."""
        idle, folders = self._core.idle, self._core.folder_leases
        if source.kind == DIRECTORY:
            idle.close_below(source)
            folders.close_below(source)
        else:
            idle.close(source)
        if target is not None:
            idle.close(target.inode)
            folders.close(target.inode)

    async def _replace_folder(
        self, old: Place, new: Place, lease: Lease | None, inode: Inode, target: Dentry | None
    ) -> None:
        if target is None:
            await self._rename_freely(old, new, lease, inode)
            return
        if target.inode.kind != DIRECTORY:
            raise PosixError(errno.ENOTDIR)
        if any(inode in handle.inode.ancestors() for handle in self._core.files.all()):
            # Before anything is changed: the folder that is replaced would be another one afterwards.
            raise PosixError(errno.EACCES, "servers do not rename a folder with open files in it")
        try:
            await self._namespace.remove_folder(*new)
        except trio.Cancelled:
            # The server may have removed it all the same.
            await self._make_again(new)
            raise
        try:
            await self._rename_freely(old, new, lease, inode)
        except BaseException:
            await self._make_again(new)
            raise

    async def _make_again(self, place: Place) -> None:
        """Make a folder that was removed for one that did not take its place, unless there is one."""
        core = self._core
        with trio.move_on_after(_MAKE_AGAIN_SECONDS, shield=True):
            try:
                await core.share.mkdir(core.inodes.child_path(*place))
            except AlreadyExists:
                log.debug("%s is there", place.smb_name)
            except SmbError as exc:
                log.error("%s was removed to be replaced, and is not there again: %s", place.smb_name, exc)

    def _moved(
        self, source: Dentry, target: Dentry | None, new: Place, name: bytes, word: Word | None
    ) -> None:
        core, inode, parent = self._core, source.inode, new.folder
        if target is not None and target.inode is not inode:
            # Also what was closed, or lost its name to a look-up, in the moment in which it was missing.
            core.idle.close(target.inode)
        if target is not None and target.inode is not inode and parent.children.get(name) is target:
            self._namespace.forget_name(target)
        for sibling in core.inodes.siblings(source):
            if sibling is not source:
                core.inodes.remove(sibling)
        core.inodes.touch(inode)
        if source.parent.children.get(source.name) is not source:
            return
        moved = core.inodes.move(source, parent, name, new.smb_name)
        moved.fresh_until = core.now() + core.time_to_live(inode.kind)
        moved.word = word


def _is_case_change(source: Dentry, target: Dentry | None, new: Place) -> bool:
    if source.parent is not new.folder or fold(source.smb_name) != fold(new.smb_name):
        return False
    return target is None or target.inode is source.inode
