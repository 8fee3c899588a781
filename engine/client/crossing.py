"""A share of a distributed tree whose links are crossed: what is behind one is asked of where it leads.

Paths are those of the whole. `Crossing` has a share's operations by path, each of which goes to the share
that holds the path; a server that says STATUS_PATH_NOT_COVERED knows of a link there, which is then connected
to, and stays so.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from engine.client.behind import FileAmongLinks, FolderWithLinks, crosses
from engine.client.branch import Branch
from engine.client.branches import Branches, Connect
from engine.client.leases import Lease
from engine.client.share import Share
from engine.client.stat import FileStat, VolumeSize
from engine.errors import PathNotCovered, SmbError
from engine.proto.referrals import split_name
from engine.wire.constants import (
    Access,
    CreateOptions,
    Disposition,
    FileAttributes,
)
from engine.wire.primitives import Buffer

log = logging.getLogger(__name__)

_LINKS: Final = 16
"""Links that one path may cross."""

_NO_OPTIONS: Final = CreateOptions(0)

T = TypeVar("T")


class Crossing:
    """The shares that a tree is made of, as one. Methods as those of `Share`, and errors too; EXDEV for what
    would need two servers at once, EBUSY for removing or replacing a link.

    `connect` makes further shares, which live in tasks of `tasks`.
    """

    def __init__(self, share: Share, connect: Connect, tasks: trio.Nursery) -> None:
        self._trunk = share
        self._branches = Branches(share, connect, tasks)
        self.supports_file_ids = share.supports_file_ids
        self.supports_leases = self.supports_directory_leases = True
        """Whoever is behind a link may have them; what a server does not have it is not asked for."""
        self.lease = share.lease

    @property
    def shares(self) -> list[Share]:
        """All that are connected, the first one first."""
        return self._branches.shares

    @property
    def branches(self) -> list[tuple[str, Share]]:
        """The same with the paths of their links; that of the first one is empty. One whose link leads
        elsewhere by now is there until it is not used any more, before the one in its place."""
        return [(branch.name, branch.share) for branch in self._branches.all()]

    def _lines(self) -> list[Share]:
        """One share of each connection."""
        return list({share.line: share for share in self.shares}.values())

    @property
    def max_read(self) -> int:
        """Bytes per READ of the first share; others cut what is more for them."""
        return self._trunk.max_read

    @property
    def max_write(self) -> int:
        """Bytes per WRITE of the first share."""
        return self._trunk.max_write

    def upload(self) -> tuple[int, int]:
        """Of all shares together."""
        sums = [share.upload() for share in self._lines()]
        return sum(one[0] for one in sums), sum(one[1] for one in sums)

    def download(self) -> tuple[int, int]:
        """Of all shares together."""
        sums = [share.download() for share in self._lines()]
        return sum(one[0] for one in sums), sum(one[1] for one in sums)

    # Which share

    def _inside(self, branch: Branch) -> Callable[[str], str | None]:
        def inside(path: str) -> str | None:
            found, rest = self._branches.find(path)
            return rest if found is branch else None

        return inside

    async def _at(self, path: str, call: Callable[[Branch, str], Awaitable[T]]) -> T:
        """Ask the share that holds `path`; links on the way are connected to."""
        for _ in range(_LINKS):
            branch, rest = await self._branches.current(path)
            try:
                with branch.in_use():
                    return await call(branch, rest)
            except PathNotCovered as error:
                await self._branches.join(path, branch, rest, error)
        raise SmbError(f"{path}: more than {_LINKS} links (DFS) are on the way", errno=errno.ELOOP)

    async def _both(self, one: str, other: str) -> tuple[tuple[Branch, str], tuple[Branch, str]]:
        """The shares that hold two paths, and the paths there."""
        await self._branches.current(one)
        await self._branches.current(other)
        return self._branches.find(one), self._branches.find(other)

    async def _told(self, path: str, ask: Callable[[Branch, str], Awaitable[FileStat]]) -> FileStat:
        """Have the share that holds `path` tell attributes."""

        async def tell(branch: Branch, rest: str) -> FileStat:
            numbers = branch.numbers()
            return numbers.shown(await ask(branch, rest))

        return await self._at(path, tell)

    async def _change(self, path: str, call: Callable[[Branch, str], Awaitable[T]]) -> T:
        """Change the name `path`, which must not be a link's."""

        async def change(branch: Branch, rest: str) -> T:
            if not rest and not branch.is_trunk:
                raise SmbError(f"{path} is a link of the distributed tree", errno=errno.EBUSY)
            return await call(branch, rest)

        return await self._at(path, change)

    # What is done there

    async def open(
        self,
        path: str,
        *,
        access: Access = Access.READ,
        disposition: Disposition = Disposition.OPEN,
        options: CreateOptions = _NO_OPTIONS,
        attributes: FileAttributes = FileAttributes.NORMAL,
        lease: Lease | None = None,
        read: int = 0,
        details: bool = True,
    ) -> FileAmongLinks:
        """As `Share.open`."""

        async def open_there(branch: Branch, rest: str) -> FileAmongLinks:
            numbers = branch.numbers()
            file = await branch.share.open(
                rest,
                access=access,
                disposition=disposition,
                options=options,
                attributes=attributes,
                lease=branch.lease(lease),
                read=read,
                details=details,
            )
            return FileAmongLinks(file, self._inside(branch), branch.below, numbers)

        return await self._at(path, open_there)

    async def stat(self, path: str, *, details: bool = True) -> FileStat:
        """As `Share.stat`."""

        return await self._told(path, lambda branch, rest: branch.share.stat(rest, details=details))

    async def open_folder(self, path: str, *, lease: Lease | None = None) -> FolderWithLinks:
        """As `Share.open_folder`."""

        async def open_there(branch: Branch, rest: str) -> FolderWithLinks:
            numbers = branch.numbers()
            folder = await branch.share.open_folder(rest, lease=branch.folder_lease(lease))
            branch.begin()
            return FolderWithLinks(folder, numbers, branch.end)

        return await self._at(path, open_there)

    async def mkdir(self, path: str, *, lease: Lease | None = None) -> FileStat:
        """As `Share.mkdir`."""

        return await self._told(path, lambda branch, rest: branch.share.mkdir(rest, lease=lease))

    async def unlink(
        self,
        path: str,
        *,
        aside: str | None = None,
        clear_readonly: bool = False,
        lease: Lease | None = None,
        file_id: int = 0,
    ) -> None:
        """As `Share.unlink`; `aside` is in the same share."""

        async def unlink_there(branch: Branch, rest: str) -> None:
            there = None
            if aside is not None:
                other, there = self._branches.find(aside)
                if other is not branch:
                    raise crosses(f"rename {path} to {aside}")
            number = branch.numbers().there(file_id)
            await branch.share.unlink(
                rest, aside=there, clear_readonly=clear_readonly, lease=lease, file_id=number
            )

        await self._change(path, unlink_there)

    async def rmdir(self, path: str, *, lease: Lease | None = None) -> None:
        """As `Share.rmdir`."""
        await self._change(path, lambda branch, rest: branch.share.rmdir(rest, lease=lease))

    async def rename(
        self,
        source: str,
        target: str,
        *,
        replace: bool,
        only_file: bool = False,
        lease: Lease | None = None,
        file_id: int = 0,
    ) -> None:
        """As `Share.rename`; EXDEV between shares. Links below a folder go with it."""
        (branch, old), (other, new) = await self._both(source, target)
        if branch is not other or (not branch.is_trunk and not (old and new)):
            raise crosses(f"rename {source} to {target}")
        number = branch.numbers().there(file_id)
        try:
            with branch.in_use() as share:
                await share.rename(
                    old, new, replace=replace, only_file=only_file, lease=lease, file_id=number
                )
        except PathNotCovered as error:
            raise crosses(f"rename {source} to {target}") from error
        self._branches.move(split_name(source), split_name(target))

    async def link(
        self, existing: str, new: str, *, replace: bool = False, lease: Lease | None = None
    ) -> None:
        """As `Share.link`; EXDEV between shares."""
        (branch, old), (other, name) = await self._both(existing, new)
        if branch is not other:
            raise crosses(f"link {new} to {existing}")
        try:
            with branch.in_use() as share:
                await share.link(old, name, replace=replace, lease=lease)
        except PathNotCovered as error:
            raise crosses(f"link {new} to {existing}") from error

    async def set_basic(
        self,
        path: str,
        *,
        access_ns: int | None = None,
        write_ns: int | None = None,
        creation_ns: int | None = None,
        change_ns: int | None = None,
        attributes: FileAttributes | None = None,
        lease: Lease | None = None,
    ) -> None:
        """As `Share.set_basic`."""
        await self._at(
            path,
            lambda branch, rest: branch.share.set_basic(
                rest,
                access_ns=access_ns,
                write_ns=write_ns,
                creation_ns=creation_ns,
                change_ns=change_ns,
                attributes=attributes,
                lease=lease,
            ),
        )

    async def read_file(self, path: str, max_length: int) -> bytes:
        """As `Share.read_file`."""
        return await self._at(path, lambda branch, rest: branch.share.read_file(rest, max_length))

    async def write_file(
        self,
        path: str,
        data: Buffer,
        *,
        disposition: Disposition = Disposition.CREATE,
        lease: Lease | None = None,
    ) -> FileStat:
        """As `Share.write_file`."""

        return await self._told(
            path,
            lambda branch, rest: branch.share.write_file(
                rest, data, disposition=disposition, lease=branch.lease(lease)
            ),
        )

    async def copy(
        self, source: str, target: str, *, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """As `Share.copy`; EXDEV between shares."""
        (branch, old), (other, new) = await self._both(source, target)
        if branch is not other:
            raise crosses(f"copy {source} to {target}")
        with branch.in_use() as share:
            return await share.copy(old, new, progress=progress)

    async def volume_size(self) -> VolumeSize:
        """Of the first share."""
        return await self._trunk.volume_size()

    async def list_eas(self, path: str) -> dict[str, bytes]:
        """As `Share.list_eas`."""
        return await self._at(path, lambda branch, rest: branch.share.list_eas(rest))

    async def get_ea(self, path: str, name: str) -> bytes:
        """As `Share.get_ea`."""
        return await self._at(path, lambda branch, rest: branch.share.get_ea(rest, name))

    async def set_ea(self, path: str, name: str, value: bytes) -> None:
        """As `Share.set_ea`."""
        await self._at(path, lambda branch, rest: branch.share.set_ea(rest, name, value))
