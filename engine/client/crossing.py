"""A share of a distributed tree whose links are crossed: what is behind one is asked of where it leads.

Paths are those of the whole. `Crossing` has a share's operations by path, each of which goes to the share
that holds the path; a server that says STATUS_PATH_NOT_COVERED knows of a link there, which is then connected
to, and stays so.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, TypeVar

import trio

from engine.client.behind import FileAmongLinks, FolderWithLinks, crosses
from engine.client.branch import Branch
from engine.client.leases import Lease
from engine.client.share import Share
from engine.client.stat import FileStat, VolumeSize
from engine.errors import AuthError, PathNotCovered, SmbError, raised_again
from engine.proto.referrals import Name, fold, split_name
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

_AGAIN: Final = 5.0
_REFUSED_AGAIN: Final = 30.0
"""Seconds after which a link that could not be followed is tried again: no account is to be locked."""

_IDLE: Final = 300.0
_IDLE_OF_MANY: Final = 15.0
_MANY: Final = 32
"""Seconds after which a share that nobody uses is left, and where there are more shares than so many."""

_MOST_SAID: Final = 100

_MOST_SALTS: Final = 1024
"""Links for which it is remembered how their files were numbered."""

_NO_OPTIONS: Final = CreateOptions(0)

Connect = Callable[[str], AbstractAsyncContextManager[Share]]
"""Connects to what a path of the whole leads to."""

T = TypeVar("T")


@dataclass(eq=False)
class _Joining:
    """A link that is being connected to, or was: `branch` or `error` says how that ended."""

    known: trio.Event = field(default_factory=trio.Event)
    branch: Branch | None = None
    error: SmbError | None = None
    until: float = 0.0


class Crossing:
    """The shares that a tree is made of, as one. Methods as those of `Share`, and errors too; EXDEV for what
    would need two servers at once, EBUSY for removing or replacing a link.

    `connect` makes further shares, which live in tasks of `tasks`.
    """

    def __init__(self, share: Share, connect: Connect, tasks: trio.Nursery) -> None:
        self._trunk = Branch((), share)
        self._connect = connect
        self._tasks = tasks
        self._branches: list[Branch] = []
        self._joining: dict[Name, _Joining] = {}
        self._said: set[str] = set()
        self._salts: dict[Name, dict[str, int]] = {}
        self.supports_file_ids = share.supports_file_ids
        self.supports_leases = self.supports_directory_leases = True
        """Whoever is behind a link may have them; what a server does not have it is not asked for."""
        self.lease = share.lease

    @property
    def shares(self) -> list[Share]:
        """All that are connected, the first one first."""
        return [share for _, share in self.branches]

    @property
    def branches(self) -> list[tuple[str, Share]]:
        """The same with the paths of their links; that of the first one is empty."""
        return [(branch.name, branch.share) for branch in (self._trunk, *self._branches)]

    @property
    def max_read(self) -> int:
        """Bytes per READ of the first share; others cut what is more for them."""
        return self._trunk.share.max_read

    @property
    def max_write(self) -> int:
        """Bytes per WRITE of the first share."""
        return self._trunk.share.max_write

    def upload(self) -> tuple[int, int]:
        """Of all shares together."""
        sums = [share.upload() for share in self.shares]
        return sum(one[0] for one in sums), sum(one[1] for one in sums)

    def download(self) -> tuple[int, int]:
        """Of all shares together."""
        sums = [share.download() for share in self.shares]
        return sum(one[0] for one in sums), sum(one[1] for one in sums)

    # Which share

    def _find(self, path: str) -> tuple[Branch, str]:
        """The share that holds a path as far as is known, and the path there."""
        parts = split_name(path)
        folded = fold(parts)
        found = self._trunk
        for branch in self._branches:
            if len(branch.at) > len(found.at) and folded[: len(branch.at)] == branch.at:
                found = branch
        return found, "\\".join(parts[len(found.at) :])

    def _inside(self, branch: Branch) -> Callable[[str], str | None]:
        def inside(path: str) -> str | None:
            found, rest = self._find(path)
            return rest if found is branch else None

        return inside

    async def _at(self, path: str, call: Callable[[Branch, str], Awaitable[T]]) -> T:
        """Ask the share that holds `path`; links on the way are connected to."""
        for _ in range(_LINKS):
            branch, rest = self._find(path)
            try:
                with branch.in_use():
                    return await call(branch, rest)
            except PathNotCovered as error:
                await self._join(path, branch, rest, error)
        raise SmbError(f"{path}: more than {_LINKS} links (DFS) are on the way", errno=errno.ELOOP)

    async def _join(self, path: str, branch: Branch, rest: str, uncovered: PathNotCovered) -> None:
        """Connect to the link that is on the way to `path`; raises why that cannot be."""
        length = len(split_name(path)) - len(split_name(rest)) + await branch.share.link_length(rest)
        at = split_name(path)[:length]
        key = fold(at)
        joining = self._joining.get(key)
        if joining is not None and joining.error is not None and trio.current_time() >= joining.until:
            joining = None
        if joining is None:
            self._forget_failures()
            joining = self._joining[key] = _Joining()
            self._tasks.start_soon(self._serve, at, joining)
        elif joining.branch is not None and self._find(path)[0] is branch:
            # What it leads to is the link itself again.
            raise uncovered
        await joining.known.wait()
        if joining.error is not None:
            raise raised_again(joining.error)

    def _forget_failures(self) -> None:
        """Have no memory that grows: what failed may be tried again by now anyway."""
        now = trio.current_time()
        for key, joining in tuple(self._joining.items()):
            if joining.error is not None and now >= joining.until:
                del self._joining[key]

    async def _serve(self, at: Name, joining: _Joining) -> None:
        """Be connected to what a link leads to, until cancelled."""
        try:
            async with self._connect("\\".join(at)) as share:
                joining.branch = self._new_branch(at, share)
                self._branches.append(joining.branch)
                joining.known.set()
                await self._wait_idle(joining.branch)
                self._leave(joining)
        except SmbError as error:
            joining.error = error
            pause = _REFUSED_AGAIN if isinstance(error, AuthError) else _AGAIN
            joining.until = trio.current_time() + pause
            self._say(f"the link {'/'.join(at)} cannot be followed: {error}")
        except Exception:
            # Whoever comes to the link is told; the rest of the tree is not to suffer.
            log.exception("following the link %s ended in a mistake of this program", "/".join(at))
            joining.error = SmbError(f"the link {'/'.join(at)} cannot be followed", errno=errno.EIO)
            joining.until = trio.current_time() + _AGAIN
        finally:
            self._leave(joining)
            joining.known.set()

    def _new_branch(self, at: Name, share: Share) -> Branch:
        """Files keep their numbers while a link is left alone for a time."""
        key = fold(at)
        salts = self._salts[key] = self._salts.pop(key, {})
        while len(self._salts) > _MOST_SALTS:
            del self._salts[next(iter(self._salts))]
        return Branch(key, share, "\\".join(at), salts)

    def _leave(self, joining: _Joining) -> None:
        """From now on the link has to be followed anew."""
        branch, joining.branch = joining.branch, None
        if branch is not None:
            self._branches.remove(branch)
            del self._joining[branch.at]

    async def _wait_idle(self, branch: Branch) -> None:
        """Wait until nobody has used a share for a while: fewer seconds where there are many."""
        while True:
            limit = _IDLE if len(self._branches) <= _MANY else _IDLE_OF_MANY
            if branch.idle_for >= limit:
                return
            await trio.sleep(_IDLE_OF_MANY / 2)

    def _say(self, words: str) -> None:
        """Say it in the log, once."""
        if words not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(words)
            log.warning("%s", words)

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
            return FileAmongLinks(file, self._inside(branch), numbers)

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
                other, there = self._find(aside)
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
        (branch, old), (other, new) = self._find(source), self._find(target)
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
        self._move(split_name(source), split_name(target))

    def _move(self, source: Name, target: Name) -> None:
        """A folder of one share was renamed; what is remembered of links below goes with it."""
        old, new = fold(source), fold(target)
        for branch in self._branches:
            if branch.at[: len(old)] == old:
                joining = self._joining.pop(branch.at)
                branch.at = new + branch.at[len(old) :]
                branch.name = "\\".join(target + split_name(branch.name)[len(source) :])
                self._joining[branch.at] = joining
        self._salts = {
            new + at[len(old) :] if at[: len(old)] == old else at: salts
            for at, salts in self._salts.items()
            if at[: len(old)] == old or at[: len(new)] != new
        }

    async def link(
        self, existing: str, new: str, *, replace: bool = False, lease: Lease | None = None
    ) -> None:
        """As `Share.link`; EXDEV between shares."""
        (branch, old), (other, name) = self._find(existing), self._find(new)
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
        (branch, old), (other, new) = self._find(source), self._find(target)
        if branch is not other:
            raise crosses(f"copy {source} to {target}")
        with branch.in_use() as share:
            return await share.copy(old, new, progress=progress)

    async def volume_size(self) -> VolumeSize:
        """Of the first share."""
        return await self._trunk.share.volume_size()

    async def list_eas(self, path: str) -> dict[str, bytes]:
        """As `Share.list_eas`."""
        return await self._at(path, lambda branch, rest: branch.share.list_eas(rest))

    async def get_ea(self, path: str, name: str) -> bytes:
        """As `Share.get_ea`."""
        return await self._at(path, lambda branch, rest: branch.share.get_ea(rest, name))

    async def set_ea(self, path: str, name: str, value: bytes) -> None:
        """As `Share.set_ea`."""
        await self._at(path, lambda branch, rest: branch.share.set_ea(rest, name, value))
