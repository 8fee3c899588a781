"""The adapter between pyfuse3 and the file system: it translates, and decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
    XAttrNameT,
)

from smbmount.guard import guarded
from smbmount.vfs.attributes import PREFERRED_IO, AttributeChanges, Attributes
from smbmount.vfs.errors import NoSuchName
from smbmount.vfs.files import OpenedFile
from smbmount.vfs.filesystem import FileSystem


def entry_from(attributes: Attributes) -> EntryAttributes:
    """A reply of the file system as pyfuse3 wants it."""
    entry = EntryAttributes()
    entry.st_ino = attributes.number
    entry.st_mode = attributes.mode
    entry.st_nlink = attributes.links
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_size = attributes.size
    entry.st_blocks = attributes.blocks
    entry.st_blksize = PREFERRED_IO
    entry.st_atime_ns = attributes.access_ns
    entry.st_mtime_ns = attributes.write_ns
    entry.st_ctime_ns = attributes.change_ns
    entry.attr_timeout = attributes.attribute_timeout
    entry.entry_timeout = attributes.entry_timeout
    return entry


def info_from(opened: OpenedFile) -> FileInfo:
    """An opened file as pyfuse3 wants it."""
    return FileInfo(fh=opened.number, direct_io=opened.direct_io, keep_cache=opened.keep_cache)


class Operations(pyfuse3.Operations):
    """pyfuse3's handlers. `timeout` is the seconds without progress after which a call fails with EIO."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, filesystem: FileSystem, timeout: float) -> None:
        super().__init__()
        self._fs = filesystem
        self.timeout = timeout

    @guarded
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        try:
            return entry_from(await self._fs.names.lookup(parent_inode, name))
        except NoSuchName as absent:
            entry = EntryAttributes()
            entry.st_ino = 0
            entry.entry_timeout = absent.valid_for
            return entry

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        self._fs.forget(inode_list)

    @guarded
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return entry_from(await self._fs.metadata.getattr(inode))

    @guarded
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        changes = AttributeChanges(
            size=attr.st_size if fields.update_size else None,
            mode=attr.st_mode if fields.update_mode else None,
            access_ns=attr.st_atime_ns if fields.update_atime else None,
            write_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return entry_from(await self._fs.metadata.setattr(inode, changes, fh))

    @guarded
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        return await self._fs.names.readlink(inode)

    @guarded
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        return entry_from(await self._fs.names.mknod(parent_inode, name, mode))

    @guarded
    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        return entry_from(await self._fs.names.mkdir(parent_inode, name))

    @guarded
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        await self._fs.names.unlink(parent_inode, name)

    @guarded
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        await self._fs.names.rmdir(parent_inode, name)

    @guarded
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        return entry_from(await self._fs.names.symlink(parent_inode, name, target))

    @guarded
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        await self._fs.renames.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    @guarded
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        return entry_from(await self._fs.names.link(inode, new_parent_inode, new_name))

    @guarded
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        return info_from(await self._fs.files.open(inode, flags))

    @guarded
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        opened, attributes = await self._fs.files.create(parent_inode, name, mode, flags)
        return info_from(opened), entry_from(attributes)

    @guarded
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        # pyfuse3 replies with any contiguous buffer; its annotation is narrower than its code.
        return cast(bytes, await self._fs.files.read(fh, off, size))

    @guarded
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return await self._fs.files.write(fh, off, buf)

    @guarded
    async def flush(self, fh: FileHandleT) -> None:
        await self._fs.files.flush(fh)

    @guarded
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._fs.files.fsync(fh)

    @guarded
    async def release(self, fh: FileHandleT) -> None:
        await self._fs.files.release(fh)

    @guarded
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        return await self._fs.folders.opendir(inode)

    @guarded
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        def reply(name: bytes, attributes: Attributes, next_id: int) -> bool:
            return pyfuse3.readdir_reply(token, name, entry_from(attributes), next_id)

        await self._fs.folders.readdir(fh, start_id, reply)

    @guarded
    async def releasedir(self, fh: FileHandleT) -> None:
        await self._fs.folders.releasedir(fh)

    @guarded
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        """Servers keep their folders themselves; every change has been confirmed."""

    @guarded
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        status = await self._fs.metadata.statfs()
        data = StatvfsData()
        data.f_bsize = data.f_frsize = status.block_size
        data.f_blocks = status.blocks
        data.f_bfree = status.free_blocks
        data.f_bavail = status.available_blocks
        data.f_namemax = status.max_name
        return data

    @guarded
    async def access(self, inode: InodeT, mode: ModeT, ctx: RequestContext) -> bool:
        return await self._fs.metadata.access(inode, mode, ctx.uid, ctx.gid)

    @guarded
    async def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext) -> None:
        await self._fs.xattrs.set(inode, name, value)

    @guarded
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        return await self._fs.xattrs.get(inode, name)

    @guarded
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        return await self._fs.xattrs.list(inode)

    @guarded
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        await self._fs.xattrs.remove(inode, name)
