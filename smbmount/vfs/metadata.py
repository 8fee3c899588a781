"""Attributes of inodes and of the volume: getattr, setattr, access, statfs."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import Final

from engine import Access, FileAttributes, SmbError, VolumeSize
from smbmount.vfs.attributes import (
    DIRECTORY,
    FILE,
    AttributeChanges,
    Attributes,
    attributes_for_mode,
    mode_of,
    storable_ns,
)
from smbmount.vfs.core import Core
from smbmount.vfs.errors import PosixError
from smbmount.vfs.files import Files
from smbmount.vfs.inodes import Inode
from smbmount.vfs.moves import uses_path
from smbmount.vfs.names import MAX_NAME_BYTES
from smbmount.vfs.patience import Question
from smbmount.vfs.remote import RemoteFile

log = logging.getLogger(__name__)

_MAX_BLOCK_SIZE: Final = (1 << 32) - 1
"""The kernel keeps the rest of a larger one, which may be 0, and programs divide by it."""


@dataclass(slots=True, frozen=True)
class VolumeStatus:
    """The reply to statfs; blocks of `block_size` bytes. Servers do not tell about inodes."""

    block_size: int
    blocks: int
    free_blocks: int
    available_blocks: int
    max_name: int


class _BasicChange:
    """Times and DOS attributes to be set; `made_by` is the open file whose data they went along with."""

    def __init__(
        self, access_ns: int | None, write_ns: int | None, attributes: FileAttributes | None
    ) -> None:
        self._access_ns = access_ns
        self._write_ns = write_ns
        self._attributes = attributes
        self._error: SmbError | None = None
        self.made_by: RemoteFile | None = None

    async def write(self, file: RemoteFile, offset: int, data: bytes) -> None:
        """Write, and make the change; raises the error of the write, which leaves the change to be made."""
        self._error = await file.write_and_set_basic(
            offset, data, access_ns=self._access_ns, write_ns=self._write_ns, attributes=self._attributes
        )
        self.made_by = file

    def raise_error(self) -> None:
        """Raise what the server said to the change."""
        if self._error is not None:
            raise self._error


class Metadata:
    """The operations on attributes."""

    def __init__(self, core: Core, files: Files) -> None:
        self._core = core
        self._files = files
        core.late.set_again = self._set_again
        self._volume: VolumeSize | None = None
        self._volume_until = 0.0
        self._volume_question = Question(core.spawn, self._ask_volume)
        self._root_question = Question(core.spawn, self._ask_root)

    async def getattr(self, number: int) -> Attributes:
        """The attributes, from the cache while it is valid.

        Those of the mount point are told as they were last when the server takes longer than usual.
        """
        core = self._core
        inode = core.inodes[number]
        if not inode.validity(core.now()):
            if inode is core.inodes.root:
                await self._root_question.wait(has_answer=True)
            else:
                await core.refresh(inode)
        return core.reply(inode, number)

    async def setattr(self, number: int, changes: AttributeChanges, handle: int | None) -> Attributes:
        """Change size, times and mode; an owner and mode bits that SMB cannot hold are accepted and lost."""
        core = self._core
        core.require_writable()
        inode = core.inodes[number]
        if changes.size is not None:
            if inode.kind != FILE:
                raise PosixError(errno.EISDIR if inode.kind == DIRECTORY else errno.EINVAL)
            await self._files.truncate(inode, changes.size, handle)
        attributes = None
        if changes.mode is not None and inode.kind == FILE:
            if not inode.is_fresh(core.now()):
                await core.refresh(inode)
            attributes = attributes_for_mode(inode.stat.attributes, changes.mode)
        access_ns = None if changes.access_ns is None else storable_ns(changes.access_ns)
        write_ns = None if changes.write_ns is None else storable_ns(changes.write_ns)
        if attributes is not None or access_ns is not None or write_ns is not None:
            with inode.dated_as(write_ns):
                await self._set_basic(inode, access_ns, write_ns, attributes)
        return core.reply(inode, number)

    @uses_path
    async def _set_basic(
        self, inode: Inode, access_ns: int | None, write_ns: int | None, attributes: FileAttributes | None
    ) -> None:
        """Set them after all data has gone, and through the open files that wrote: their later close
        would otherwise set the time of writing anew. `PosixError` ESTALE if the name is another file's."""
        core = self._core
        if await self._set_with_close(inode, access_ns, write_ns, attributes):
            return
        await inode.wait_for_closes()
        change = _BasicChange(access_ns, write_ns, attributes)
        await self._write_out(inode, change)
        handles = [handle for handle in inode.handles if handle.wrote]
        handles = handles or [handle for handle in inode.handles if handle.writable][:1]
        try:
            change.raise_error()
            for handle in handles:
                if handle.file is not change.made_by:
                    await handle.file.set_basic(access_ns=access_ns, write_ns=write_ns, attributes=attributes)
            if not handles and change.made_by is None:
                await self._set_by_name(inode, access_ns, write_ns, attributes)
                if write_ns is not None:
                    # Only the server knows the time of change, by which tar sees whether a file changes.
                    inode.expire()
        except BaseException:
            inode.expire()
            raise
        finally:
            core.inodes.touch(inode)
        stat = inode.stat
        if access_ns is not None:
            stat.access_ns = access_ns
        if write_ns is not None:
            stat.write_ns = write_ns
            inode.stale = inode.stale and inode.is_dirty
            inode.dated, inode.written_ns = bool(inode.handles or inode.idle), None
        if attributes is not None:
            stat.attributes = attributes

    async def _set_by_name(
        self, inode: Inode, access_ns: int | None, write_ns: int | None, attributes: FileAttributes | None
    ) -> None:
        core, opening = self._core, self._files.opening
        if opening.is_named(inode):
            path, lease = core.inodes.path(inode), core.leases.for_change(inode.names[-1].parent, inode)
            await core.share.set_basic(
                path, access_ns=access_ns, write_ns=write_ns, attributes=attributes, lease=lease
            )
            return
        async with opening.checked(inode, Access.WRITE_ATTRIBUTES) as file:
            await file.set_basic(access_ns=access_ns, write_ns=write_ns, attributes=attributes)

    @uses_path
    async def _set_again(self, inode: Inode, access_ns: int | None, write_ns: int | None) -> None:
        async with self._files.opening.checked(inode, Access.WRITE_ATTRIBUTES) as file:
            with inode.dated_as(write_ns):
                await file.set_basic(access_ns=access_ns, write_ns=write_ns)

    async def _write_out(self, inode: Inode, change: _BasicChange) -> None:
        """Bring all data to the server, and the change along with it if that is little, of one open file."""
        writes, wrote = inode.writes, [handle for handle in inode.handles if handle.wrote]
        if writes is None or not inode.is_dirty:
            return
        if len(wrote) != 1 or not await writes.drain_by(wrote[0], partial(change.write, wrote[0].file)):
            await writes.drain()

    async def _set_with_close(
        self, inode: Inode, access_ns: int | None, write_ns: int | None, attributes: FileAttributes | None
    ) -> bool:
        """The same with the close of a file that was just written, in one round trip, or without waiting if
        the server surely takes it; whether there is such a close."""
        late = inode.late
        if late is None or inode.handles or len(inode.closing) > 1:
            return False
        if attributes is None and self._core.late.set_times(late, access_ns=access_ns, write_ns=write_ns):
            return True
        await self._core.late.set_basic(late, access_ns=access_ns, write_ns=write_ns, attributes=attributes)
        return True

    async def access(self, number: int, mask: int, uid: int, gid: int) -> bool:
        """Whether the mode bits allow R_OK, W_OK, X_OK in `mask`; `PosixError` EROFS."""
        core = self._core
        inode = core.inodes[number]
        if mask & os.W_OK and core.config.read_only:
            raise PosixError(errno.EROFS)
        mode = mode_of(inode.kind, inode.stat.attributes, core.config)
        if uid == 0:
            return not mask & os.X_OK or inode.kind == DIRECTORY or bool(mode & 0o111)
        shift = 6 if uid == core.config.uid else 3 if gid == core.config.gid else 0
        return (mode >> shift) & mask & 7 == mask & 7

    async def statfs(self) -> VolumeStatus:
        """The volume's room: cached, and the last numbers at once while the server does not answer."""
        core = self._core
        if self._volume is None or core.now() >= self._volume_until:
            await self._volume_question.wait(has_answer=self._volume is not None)
        volume = self._volume
        if volume is None:
            raise PosixError(errno.EIO)
        return VolumeStatus(
            min(max(volume.bytes_per_unit, 1), _MAX_BLOCK_SIZE),
            volume.total_units,
            volume.free_units,
            volume.caller_free_units,
            MAX_NAME_BYTES,
        )

    async def prime(self) -> None:
        """Ask for the volume's room before anybody wants to know: `df` is to have an answer from then on."""
        with contextlib.suppress(SmbError, OSError):
            await self._volume_question.wait(has_answer=False)

    async def _ask_volume(self) -> None:
        self._volume = await self._core.share.volume_size()
        self._volume_until = self._core.now() + self._core.config.statfs_timeout

    async def _ask_root(self) -> None:
        await self._core.refresh(self._core.inodes.root)
