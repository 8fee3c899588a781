"""From an inode to a handle on the server: taken back, opened by name, or opened ahead of a program.

Whatever a name leads to on the server, no handle of another file is ever given out for an inode.
"""

from __future__ import annotations

import errno
import logging
from typing import Final

from engine import (
    Access,
    AccessDenied,
    CreateOptions,
    Disposition,
    FileAttributes,
    FileStat,
    InvalidParameter,
    Lease,
)
from smbmount.vfs.attributes import FILE, has_no_eas
from smbmount.vfs.core import Core
from smbmount.vfs.errors import ABSENT, PosixError
from smbmount.vfs.idle import IdleFile
from smbmount.vfs.inodes import Inode
from smbmount.vfs.listings import SMALL_FILE, is_small
from smbmount.vfs.remote import RemoteFile

log = logging.getLogger(__name__)

_TIMELY: Final = 0.5
"""The part of their validity that details have to have left for an open to do without them."""

_PLAIN: Final = FileAttributes.NORMAL | FileAttributes.ARCHIVE
"""Attributes that an overwriting open neither refuses nor loses."""


class Opening:
    """Opens files of one mount on the server."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def take_idle(self, inode: Inode, access: Access) -> IdleFile | None:
        """A parked handle with this access; `PosixError` ESTALE if the name leads to another file now."""
        self._core.late.close(inode)
        writable = bool(access & Access.WRITE_DATA)
        if not any(parked.writable or not writable for parked in inode.idle):
            return None
        if not self._trusts_name(inode):
            await self._check_name(inode)
        return self._core.idle.take(inode, writable=writable)

    def _trusts_name(self, inode: Inode) -> bool:
        now = self._core.now()
        if any(parked.named_until > now for parked in inode.idle):
            return True
        loose = self._core.config.cache == "loose"
        return loose and bool(inode.names) and inode.names[-1].fresh_until > now

    async def _check_name(self, inode: Inode) -> None:
        """Ask whether the name still leads to this file; `PosixError` ESTALE if not."""
        core = self._core
        asked, asked_at, term = core.inodes.tick, core.now(), inode.vouching
        try:
            details = self._wants_details(inode)
            stat = await core.share.stat(core.inodes.path(inode), details=details)
        except ABSENT:
            self._forget_newest_name(inode)
            raise PosixError(errno.ESTALE) from None
        if not core.inodes.describes(inode, stat):
            self._forget_newest_name(inode)
            raise PosixError(errno.ESTALE)
        inode.update(stat, asked, asked_at + core.time_to_live(FILE))
        inode.vouch(term, asked_at)

    async def by_name(
        self, inode: Inode, access: Access, truncate: bool
    ) -> tuple[RemoteFile, memoryview | None]:
        """Open on the server, take the attributes that this tells, and the content of a small file, unless we
        have changed it meanwhile; `PosixError` ESTALE."""
        core = self._core
        core.late.close(inode)
        asked, asked_at = core.inodes.tick, core.now()
        file = await self._open_remote(inode, access, truncate)
        if not core.inodes.describes(inode, file.stat):
            file.close_later()
            self._forget_newest_name(inode)
            raise PosixError(errno.ESTALE)
        if truncate:
            core.inodes.touch(inode)
            inode.drop_readahead()
            asked = core.inodes.tick
        inode.update(file.stat, asked, asked_at + core.time_to_live(FILE))
        inode.vouch(inode.vouching, asked_at)
        content = file.initial_data
        if content is not None and (
            len(content) != file.stat.size or inode.changed > asked or inode.is_dirty
        ):
            content = None
        return file, content

    async def fetch_ahead(self, inode: Inode) -> bool:
        """Do what the open of a small file will need before a program asks; whether it is kept for that.

        The file is opened with its content, or, if it still is open, its name is asked for. Raises what
        the engine does, and `PosixError`.
        """
        if inode.kind != FILE or not self._comes_whole(inode) or inode.handles or inode.is_dirty:
            return False
        core = self._core
        named_until = core.now() + core.time_to_live(FILE)
        if inode.idle:
            await self._check_name(inode)
            for parked in inode.idle:
                parked.named_until = named_until
            return bool(inode.idle)
        file, content = await self.by_name(inode, Access.READ, truncate=False)
        if content is not None and core.idle.park(
            inode, file, writable=False, content=content, named_until=named_until
        ):
            return True
        file.close_later()
        return False

    def _comes_whole(self, inode: Inode) -> bool:
        """Whether a file is small enough to be read by its open."""
        return self._core.config.cache != "none" and is_small(inode.stat)

    async def _open_remote(self, inode: Inode, access: Access, truncate: bool) -> RemoteFile:
        core = self._core
        lease, details = core.leases.of(inode), self._wants_details(inode)
        try:
            path = core.inodes.path(inode)
            if truncate and self._loses_nothing(inode):
                try:
                    return await self._open_path(
                        path, access, lease, disposition=Disposition.OVERWRITE, details=details
                    )
                except AccessDenied:
                    log.debug("%r cannot be overwritten at the open, so it is truncated after it", path)
            wanted = not truncate and access & Access.READ_DATA and self._comes_whole(inode)
            read = SMALL_FILE if wanted else 0
            file = await self._open_path(path, access, lease, read=read, details=details)
        except ABSENT:
            self._forget_newest_name(inode)
            raise PosixError(errno.ESTALE) from None
        if truncate:
            await truncate_opened(file)
        return file

    async def _open_path(
        self,
        path: str,
        access: Access,
        lease: Lease | None,
        *,
        disposition: Disposition = Disposition.OPEN,
        read: int = 0,
        details: bool = True,
    ) -> RemoteFile:
        share, options = self._core.share, CreateOptions.NON_DIRECTORY_FILE
        try:
            return await share.open(
                path,
                access=access,
                disposition=disposition,
                options=options,
                lease=lease,
                read=read,
                details=details,
            )
        except InvalidParameter:
            if lease is None:
                raise
            # The lease is for another file: this path has a new one, or the server tells hard links apart.
            return await share.open(path, access=access, disposition=disposition, options=options)

    def _wants_details(self, inode: Inode) -> bool:
        """Whether the link count and the size of extended attributes are to be told, too: the server saves
        a question if not, but programs wait for one if they look at the file when these are outdated."""
        core = self._core
        return not inode.knows_details(core.now() + core.time_to_live(FILE) * _TIMELY)

    def _loses_nothing(self, inode: Inode) -> bool:
        """Whether overwriting loses neither DOS attributes nor extended ones; only what is fresh counts."""
        now = self._core.now()
        if not inode.is_fresh(now) or inode.details_until <= now:
            return False
        return inode.stat.attributes & ~_PLAIN == 0 and has_no_eas(inode.stat)

    def _forget_newest_name(self, inode: Inode) -> None:
        if inode.names:
            self._core.disown(inode.names[-1])


async def stat_opened(file: RemoteFile) -> FileStat:
    """All attributes of a file that was just opened; it is closed if they cannot be had."""
    if file.stat.ea_size is not None:
        return file.stat
    try:
        return await file.query()
    except BaseException:
        file.close_later()
        raise


async def truncate_opened(file: RemoteFile) -> None:
    """Cut a file that was just opened; it is closed if that fails."""
    try:
        await file.truncate(0)
    except BaseException:
        file.close_later()
        raise
    file.stat.size = file.stat.allocation_size = 0
