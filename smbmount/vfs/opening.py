"""From an inode to a handle on the server: taken back, opened by name, or opened ahead of a program.

Whatever a name leads to on the server, no handle of another file is ever given out for an inode.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from engine import Access, CreateOptions, FileStat, InvalidParameter
from smbmount.vfs.attributes import DIRECTORY, FILE
from smbmount.vfs.core import Core
from smbmount.vfs.errors import ABSENT, PosixError
from smbmount.vfs.idle import IdleFile
from smbmount.vfs.inodes import Dentry, Inode
from smbmount.vfs.listings import SMALL_FILE, is_small
from smbmount.vfs.moves import uses_path
from smbmount.vfs.remote import RemoteFile

log = logging.getLogger(__name__)

_TIMELY: Final = 0.5
"""The part of their validity that details have to have left for an open to do without them."""


class Opening:
    """Opens files of one mount on the server."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def is_named(self, inode: Inode) -> bool:
        """Whether a change of an inode may go to its path unchecked.

        That is so while no program has it open, so that whoever changes it has named it, while it has no
        second name that may have been meant, and while the name is believed: as POSIX has it, the change
        is for the file that has the name.
        """
        if inode.handles or inode.directory_handles or len(inode.names) != 1:
            return False
        return inode.names[0].validity(self._core.now()) > 0

    @asynccontextmanager
    async def checked(self, inode: Inode, access: Access) -> AsyncIterator[RemoteFile]:
        """An inode opened by name for a change of it; `PosixError` ESTALE if that is another file's now."""
        file, _ = await self.by_name(inode, access, truncate=False)
        try:
            yield file
        finally:
            file.close_later()

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
        if not inode.names:
            return False
        loose = self._core.config.cache == "loose" and inode.names[-1].fresh_until > now
        return loose or inode.names[-1].is_vouched(now)

    @uses_path
    async def _check_name(self, inode: Inode) -> None:
        """Ask whether the name still leads to this file; `PosixError` ESTALE if not."""
        core = self._core
        asked, asked_at, term = core.inodes.tick, core.now(), inode.vouching
        name = _name_in_use(inode)
        try:
            details = self._wants_details(inode)
            stat = await core.share.stat(core.inodes.path(inode), details=details)
        except ABSENT:
            self._forget_name(name)
            raise PosixError(errno.ESTALE) from None
        if not core.inodes.describes(inode, stat):
            self._forget_name(name)
            raise PosixError(errno.ESTALE)
        inode.update(stat, asked, asked_at + core.time_to_live(FILE))
        inode.vouch(term, asked_at)

    @uses_path
    async def by_name(
        self, inode: Inode, access: Access, truncate: bool
    ) -> tuple[RemoteFile, memoryview | None]:
        """Open on the server, take the attributes that this tells, and the content of a small file, unless we
        have changed it meanwhile; `PosixError` ESTALE.

        To truncate takes a second round trip: a server that overwrites at the open does so before anybody
        can look whose file it is.
        """
        core = self._core
        core.late.close(inode)
        asked, asked_at = core.inodes.tick, core.now()
        file = await self._open_by_some_name(inode, access, truncate)
        stat = file.stat
        if truncate:
            try:
                with inode.resized(0):
                    stat = await truncate_opened(file)
            finally:
                core.inodes.touch(inode)
                inode.expire()
                inode.drop_readahead()
            asked = core.inodes.tick
        inode.update(stat, asked, asked_at + core.time_to_live(inode.kind))
        inode.vouch(inode.vouching, asked_at)
        content = file.initial_data
        if content is not None and (len(content) != stat.size or inode.changed > asked or inode.is_dirty):
            content = None
        return file, content

    async def _open_by_some_name(self, inode: Inode, access: Access, truncate: bool) -> RemoteFile:
        """Open by the newest name that still leads to the file; others are forgotten. `PosixError` ESTALE
        if there is none: the kernel asks for its own name once more, and a second ESTALE is the program's."""
        while True:
            name = _name_in_use(inode)
            try:
                file = await self._open_remote(inode, access, truncate)
            except ABSENT:
                log.debug("%r is not there any more", inode)
            else:
                if self._core.inodes.describes(inode, file.stat):
                    return file
                file.close_later()
            self._forget_name(name)
            if not inode.names:
                raise PosixError(errno.ESTALE)

    async def check_kind(self, file: RemoteFile, path: str) -> None:
        """Make sure that what was opened is a file, before it is changed; if not it is closed, and
        `PosixError` ESTALE."""
        try:
            kind, _ = await self._core.classify(path, file.stat)
            if kind != FILE:
                raise PosixError(errno.ESTALE, "another client has made a symbolic link of that name")
        except BaseException:
            file.close_later()
            raise

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
            if not self._trusts_name(inode):
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
        share, path = core.share, core.inodes.path(inode)
        lease = core.leases.of(inode) if inode.kind == FILE else None
        details = self._wants_details(inode)
        is_folder = inode.kind == DIRECTORY
        options = CreateOptions.DIRECTORY_FILE if is_folder else CreateOptions.NON_DIRECTORY_FILE
        wanted = not truncate and access & Access.READ_DATA and self._comes_whole(inode)
        read = SMALL_FILE if wanted else 0
        try:
            file = await share.open(
                path, access=access, options=options, lease=lease, read=read, details=details
            )
        except InvalidParameter:
            if lease is None:
                raise
            # The lease is for another file: this path has a new one, or the server tells hard links apart.
            file = await share.open(core.inodes.path(inode), access=access, options=options)
        core.keep(inode, file)
        return file

    def _wants_details(self, inode: Inode) -> bool:
        """Whether the link count and the size of extended attributes are to be told, too: the server saves
        a question if not, but programs wait for one if they look at the file when these are outdated."""
        core = self._core
        return not inode.knows_details(core.now() + core.time_to_live(FILE) * _TIMELY)

    def _forget_name(self, name: Dentry | None) -> None:
        if name is not None:
            self._core.disown(name)


def _name_in_use(inode: Inode) -> Dentry | None:
    """The name that its path is made of."""
    return inode.names[-1] if inode.names else None


async def stat_opened(file: RemoteFile) -> FileStat:
    """All attributes of a file that was just opened; it is closed if they cannot be had."""
    if file.stat.ea_size is not None:
        return file.stat
    try:
        return await file.query()
    except BaseException:
        file.close_later()
        raise


async def truncate_opened(file: RemoteFile) -> FileStat:
    """Cut a file that was just opened, and tell its attributes; it is closed if that fails."""
    try:
        return await file.truncate_and_stat(0)
    except BaseException:
        file.close_later()
        raise
