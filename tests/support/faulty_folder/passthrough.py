"""The file system behind a faulty folder: another folder, seen through the kernel, with its troubles."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

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

from tests.support.faulty_folder.troubles import Troubles

_P = ParamSpec("_P")
_R = TypeVar("_R")

_IS_ROOT: Final = os.geteuid() == 0
_STAT: Final = (
    *("st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_blocks", "st_blksize"),
    *("st_atime_ns", "st_mtime_ns", "st_ctime_ns"),
)
_STATVFS: Final = (
    *("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"),
    "f_namemax",
)


def _troubled(
    handler: Callable[Concatenate[PassThrough, _P], Coroutine[Any, Any, _R]],
) -> Callable[Concatenate[PassThrough, _P], Coroutine[Any, Any, _R]]:
    """Let a handler meet its trouble first, and turn its `OSError` into what pyfuse3 wants."""

    @wraps(handler)
    async def run(self: PassThrough, /, *arguments: _P.args, **more: _P.kwargs) -> _R:
        await self.troubles.meet(handler.__name__)
        try:
            return await handler(self, *arguments, **more)
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or 0) from None

    return run


@dataclass(slots=True)
class _Inode:
    """What the kernel knows: a descriptor without rights (O_PATH), which outlives every name."""

    descriptor: int
    lookups: int

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self.descriptor}"


class PassThrough(pyfuse3.Operations):
    """Inode numbers are those of the folder behind, which has to be on one file system.

    Nothing is cached here or in the kernel, so that each call of the server is one that can fail.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, backing: Path, troubles: Troubles) -> None:
        super().__init__()
        self.troubles = troubles
        self._inodes = {pyfuse3.ROOT_INODE: _Inode(os.open(backing, os.O_PATH | os.O_DIRECTORY), 1)}
        self._listings: dict[int, tuple[InodeT, list[FileNameT]]] = {}
        self._last_listing = 0

    # Names

    @_troubled
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        return self._enter(parent_inode, name)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for number, count in inode_list:
            inode = self._inodes[number]
            inode.lookups -= count
            if not inode.lookups:
                os.close(self._inodes.pop(number).descriptor)

    @_troubled
    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        os.mkdir(name, mode, dir_fd=self._descriptor(parent_inode))
        return self._enter_new(parent_inode, name, ctx)

    @_troubled
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        os.symlink(target, name, dir_fd=self._descriptor(parent_inode))
        return self._enter_new(parent_inode, name, ctx)

    @_troubled
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        os.link(
            self._path(inode), new_name, dst_dir_fd=self._descriptor(new_parent_inode), follow_symlinks=True
        )
        return self._enter(new_parent_inode, new_name)

    @_troubled
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        os.unlink(name, dir_fd=self._descriptor(parent_inode))

    @_troubled
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        os.rmdir(name, dir_fd=self._descriptor(parent_inode))

    @_troubled
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        if flags:
            raise OSError(errno.EINVAL, "flags")
        source, target = self._descriptor(parent_inode_old), self._descriptor(parent_inode_new)
        os.rename(name_old, name_new, src_dir_fd=source, dst_dir_fd=target)

    @_troubled
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        return FileNameT(os.fsencode(os.readlink("", dir_fd=self._descriptor(inode))))

    # Attributes

    @_troubled
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self._attributes(inode)

    @_troubled
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        path = self._path(inode)
        if fields.update_size:
            os.truncate(path if fh is None else fh, attr.st_size)
        if fields.update_mode:
            os.chmod(path, stat.S_IMODE(attr.st_mode))
        if fields.update_uid or fields.update_gid:
            os.chown(path, attr.st_uid if fields.update_uid else -1, attr.st_gid if fields.update_gid else -1)
        if fields.update_atime or fields.update_mtime:
            known = os.stat(path)
            os.utime(
                path,
                ns=(
                    attr.st_atime_ns if fields.update_atime else known.st_atime_ns,
                    attr.st_mtime_ns if fields.update_mtime else known.st_mtime_ns,
                ),
            )
        return self._attributes(inode)

    @_troubled
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        known = os.statvfs(self._path(pyfuse3.ROOT_INODE))
        answer = StatvfsData()
        for field in _STATVFS:
            setattr(answer, field, getattr(known, field))
        return answer

    @_troubled
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        return os.getxattr(self._path(inode), name)

    @_troubled
    async def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext) -> None:
        os.setxattr(self._path(inode), name, value)

    @_troubled
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        return [XAttrNameT(os.fsencode(name)) for name in os.listxattr(self._path(inode))]

    @_troubled
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        os.removexattr(self._path(inode), name)

    # Files

    @_troubled
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        wanted = flags & ~(os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL)
        return FileInfo(fh=FileHandleT(os.open(self._path(inode), wanted | os.O_CLOEXEC)), direct_io=True)

    @_troubled
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        wanted = flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, wanted, mode, dir_fd=self._descriptor(parent_inode))
        return FileInfo(fh=FileHandleT(descriptor), direct_io=True), self._enter_new(parent_inode, name, ctx)

    @_troubled
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return os.pread(fh, self.troubles.read_size(size), off)

    @_troubled
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return os.pwrite(fh, memoryview(buf)[: self.troubles.write_size(len(buf))], off)

    @_troubled
    async def flush(self, fh: FileHandleT) -> None:
        os.close(os.dup(fh))

    @_troubled
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        os.fsync(fh)

    async def release(self, fh: FileHandleT) -> None:
        os.close(fh)

    # Folders

    @_troubled
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        self._last_listing += 1
        names = os.listdir(self._path(inode))
        self._listings[self._last_listing] = (inode, [FileNameT(os.fsencode(name)) for name in names])
        return FileHandleT(self._last_listing)

    @_troubled
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        folder, names = self._listings[fh]
        for place, name in enumerate(names[start_id:], start_id + 1):
            try:
                entry = self._enter(folder, name)
            except FileNotFoundError:
                continue
            if not pyfuse3.readdir_reply(token, name, entry, place):
                await self.forget([(entry.st_ino, 1)])
                return

    async def releasedir(self, fh: FileHandleT) -> None:
        del self._listings[fh]

    @_troubled
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        """Nothing is buffered here."""

    # Inodes

    def _descriptor(self, number: InodeT) -> int:
        return self._inodes[number].descriptor

    def _path(self, number: InodeT) -> str:
        return self._inodes[number].path

    def _enter(self, parent: InodeT, name: FileNameT) -> EntryAttributes:
        """The attributes of a name, one look-up of which is counted."""
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=self._descriptor(parent))
        number = InodeT(os.fstat(descriptor).st_ino)
        inode = self._inodes.setdefault(number, _Inode(descriptor, 0))
        if inode.descriptor != descriptor:
            os.close(descriptor)
        inode.lookups += 1
        return self._attributes(number)

    def _enter_new(self, parent: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """The same of a name that was made for whoever asked."""
        if _IS_ROOT:
            os.chown(name, ctx.uid, ctx.gid, dir_fd=self._descriptor(parent), follow_symlinks=False)
        return self._enter(parent, name)

    def _attributes(self, number: InodeT) -> EntryAttributes:
        known = os.fstat(self._descriptor(number))
        entry = EntryAttributes()
        for field in _STAT:
            setattr(entry, field, getattr(known, field))
        entry.st_ino = number
        entry.entry_timeout = entry.attr_timeout = 0
        return entry
