"""rename(2) on a server that does not replace folders, open files or read-only files."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from typing import Final

from engine import AccessDenied, AlreadyExists, CannotDelete, Lease, NotFound, SharingViolation, SmbError
from smbmount.vfs.attributes import DIRECTORY
from smbmount.vfs.core import Core
from smbmount.vfs.errors import PosixError
from smbmount.vfs.inodes import Dentry, Inode
from smbmount.vfs.names import fold
from smbmount.vfs.namespace import Namespace
from smbmount.vfs.silly import replace_file
from smbmount.vfs.vouching import Word

RENAME_NOREPLACE: Final = 1
"""renameat2(2); the other flags cannot be done on SMB."""

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
        smb_name, new_smb_name = core.names.encode(name), core.names.encode(new_name)
        source = parent.children.get(name) or await self._namespace.resolve(parent, name, smb_name)
        target = new_parent.children.get(new_name)
        if source.inode in new_parent.ancestors():
            raise PosixError(errno.EINVAL, "a folder cannot be moved into itself")
        with ExitStack() as changing:
            changing.enter_context(core.changing(parent, name))
            changing.enter_context(core.changing(new_parent, new_name))
            path = core.inodes.child_path(parent, smb_name)
            new_path = core.inodes.child_path(new_parent, new_smb_name)
            word = core.folder_leases.word(new_parent)
            self._close_idle(source.inode, target)
            if flags & RENAME_NOREPLACE or _is_case_change(source, target, new_parent, new_smb_name):
                lease = core.leases.for_change(parent, source.inode)
                await core.share.rename(path, new_path, replace=False, lease=lease)
            else:
                await self._replace(path, new_path, parent, new_parent, new_name, source.inode, target)
        self._moved(source, target, new_parent, new_name, new_smb_name, word)

    async def _replace(
        self,
        path: str,
        new_path: str,
        parent: Inode,
        new_parent: Inode,
        new_name: bytes,
        source: Inode,
        target: Dentry | None,
    ) -> None:
        core = self._core
        lease = core.leases.for_change(parent, source)
        if source.kind == DIRECTORY:
            await self._replace_folder(path, new_path, target, lease)
            return
        if target is not None and target.inode.kind == DIRECTORY:
            raise PosixError(errno.EISDIR)
        folder = core.inodes.path(new_parent)
        replaced = target.inode if target is not None else None
        with core.replacing(new_parent, new_name):
            if replaced is not None and replaced.handles:
                await replace_file(core, path, folder, new_path, lease=lease, replaced=replaced)
                return
            try:
                await core.share.rename(path, new_path, replace=True, lease=lease)
            except _REFUSED_TO_REPLACE as refusal:
                try:
                    await replace_file(core, path, folder, new_path, lease=lease, replaced=replaced)
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
        self, path: str, new_path: str, target: Dentry | None, lease: Lease | None
    ) -> None:
        share = self._core.share
        if target is None:
            await share.rename(path, new_path, replace=False, lease=lease)
            return
        if target.inode.kind != DIRECTORY:
            raise PosixError(errno.ENOTDIR)
        await self._namespace.remove_folder(new_path, lease)
        try:
            await share.rename(path, new_path, replace=False, lease=lease)
        except SmbError:
            await share.mkdir(new_path)
            raise

    def _moved(
        self,
        source: Dentry,
        target: Dentry | None,
        parent: Inode,
        name: bytes,
        smb_name: str,
        word: Word | None,
    ) -> None:
        core, inode = self._core, source.inode
        if target is not None and target.inode is not inode and parent.children.get(name) is target:
            self._namespace.forget_name(target)
        for sibling in core.inodes.siblings(source):
            if sibling is not source:
                core.inodes.remove(sibling)
        core.inodes.touch(inode)
        if source.parent.children.get(source.name) is not source:
            return
        moved = core.inodes.move(source, parent, name, smb_name)
        moved.fresh_until = core.now() + core.time_to_live(inode.kind)
        moved.word = word


def _is_case_change(source: Dentry, target: Dentry | None, new_parent: Inode, new_smb_name: str) -> bool:
    if source.parent is not new_parent or fold(source.smb_name) != fold(new_smb_name):
        return False
    return target is None or target.inode is source.inode
