"""`user.*` extended attributes on SMB's extended attributes; no other namespace exists on a share."""

from __future__ import annotations

import errno
from typing import Final

from engine import Access, FileStat
from smbmount.vfs.attributes import has_no_eas
from smbmount.vfs.core import Core
from smbmount.vfs.errors import PosixError
from smbmount.vfs.inodes import Inode
from smbmount.vfs.moves import uses_path
from smbmount.vfs.opening import Opening

_PREFIX: Final = b"user."
_MAX_NAME: Final = 255
_MAX_VALUE: Final = 0xFFFF
"""Both are length fields of FILE_FULL_EA_INFORMATION ([MS-FSCC] 2.4.15)."""


class ExtendedAttributes:
    """getxattr, setxattr, listxattr, removexattr. Names are the kernel's, with their prefix."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._opening = Opening(core)

    @uses_path
    async def get(self, number: int, name: bytes) -> bytes:
        """A value; `PosixError` ENODATA if absent, EOPNOTSUPP (at no cost) for other namespaces."""
        ea_name = _ea_name(name)
        inode = self._core.inodes[number]
        if has_no_eas(await self._stat(inode)):
            raise PosixError(errno.ENODATA)
        self._core.late.close(inode)
        try:
            return bytes(await self._core.share.get_ea(self._core.inodes.path(inode), ea_name))
        except KeyError:
            raise PosixError(errno.ENODATA) from None

    @uses_path
    async def list(self, number: int) -> list[bytes]:
        """All names, sorted."""
        inode = self._core.inodes[number]
        if has_no_eas(await self._stat(inode)):
            return []
        self._core.late.close(inode)
        eas = await self._core.share.list_eas(self._core.inodes.path(inode))
        return sorted(_PREFIX + name.encode() for name in eas if name and name.isascii() and "\0" not in name)

    async def set(self, number: int, name: bytes, value: bytes) -> None:
        """Set a value. SMB cannot hold an empty one: `PosixError` EOPNOTSUPP, which cp and rsync forgive."""
        ea_name = _ea_name(name)
        if not value:
            raise PosixError(errno.EOPNOTSUPP, "SMB cannot hold an empty extended attribute")
        if len(value) > _MAX_VALUE:
            raise PosixError(errno.ENOSPC, "the value is too long for SMB")
        await self._set(number, ea_name, value)

    async def remove(self, number: int, name: bytes) -> None:
        """Remove one; `PosixError` ENODATA if absent."""
        await self.get(number, name)
        await self._set(number, _ea_name(name), b"")

    @uses_path
    async def _set(self, number: int, ea_name: str, value: bytes) -> None:
        core = self._core
        core.require_writable()
        inode = core.inodes[number]
        core.late.close(inode)
        handle = next((handle for handle in inode.handles if handle.writable), None)
        try:
            if handle is not None:
                await handle.file.set_ea(ea_name, value)
            elif self._opening.is_named(inode):
                await core.share.set_ea(core.inodes.path(inode), ea_name, value)
            else:
                async with self._opening.checked(inode, Access.WRITE_EA) as file:
                    await file.set_ea(ea_name, value)
        finally:
            core.inodes.touch(inode)
            inode.expire()

    async def _stat(self, inode: Inode) -> FileStat:
        if not inode.knows_details(self._core.now()):
            inode.details_until = 0.0
            await self._core.refresh(inode)
        return inode.stat


def _ea_name(name: bytes) -> str:
    if not name.startswith(_PREFIX):
        raise PosixError(errno.EOPNOTSUPP)
    ea_name = name.removeprefix(_PREFIX)
    if not ea_name or len(ea_name) > _MAX_NAME or not ea_name.isascii():
        raise PosixError(errno.EINVAL if not ea_name.isascii() or not ea_name else errno.ENAMETOOLONG)
    return ea_name.decode()
