"""Copying a file on the server, for `smbmountctl cp`: the data never comes here, but the caches know of it.

The copy is made under a hidden name and then renamed, so the target is the old file or the whole new
one at every moment. As with a rename, other names (hard links) and open handles of a file that was
there keep the old content.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import trio

from engine import FileAttributes, SmbError
from smbmount.vfs.attributes import DIRECTORY, FILE, SYMLINK, is_readonly, settable
from smbmount.vfs.core import Core
from smbmount.vfs.errors import NoSuchName, PosixError
from smbmount.vfs.inodes import Inode
from smbmount.vfs.namespace import Namespace
from smbmount.vfs.renames import RENAME_NOREPLACE, Renames
from smbmount.vfs.signals import postpone_deadline
from smbmount.vfs.silly import silly_name

_MAX_LINKS: Final = 40
"""Symbolic links on one path, as in Linux."""
_REMOVAL_SECONDS: Final = 10.0
"""For removing a copy that got no name, also while the mount is being ended."""

Progress = Callable[[int, int], None]
"""Told the bytes copied so far and all there are to copy."""


@dataclass(slots=True, frozen=True)
class Copied:
    """What was copied, and which name the kernel has to forget: that of the target in its folder."""

    size: int
    folder_numbers: tuple[int, ...]
    name: bytes


class _Place(NamedTuple):
    """Where a path leads: a name in a folder, and what has it. The root, and a folder reached by `..`,
    are places without a name."""

    folder: Inode
    name: bytes
    inode: Inode | None


class Copies:
    """The operation behind `smbmountctl cp`. Paths are the parts of the way down from the mount's root."""

    def __init__(self, core: Core, namespace: Namespace, renames: Renames) -> None:
        self._core = core
        self._namespace = namespace
        self._renames = renames

    async def copy(
        self,
        source: Sequence[bytes],
        target: Sequence[bytes],
        *,
        no_clobber: bool = False,
        keep_time: bool = False,
        progress: Progress | None = None,
    ) -> Copied | None:
        """Copy a file to a new name, over a file, or into a folder; None if `no_clobber` left it undone.

        Symbolic links are followed. Raises `PosixError` with a phrase that says why not, and the
        engine's errors, `NotSupported` among them.
        """
        self._core.require_writable()
        with self._pinned() as pins:
            inode = self._file_of(await self._walk(source, pins))
            place = await self._target(source, target, pins)
            if place.inode is inode:
                raise PosixError(errno.EINVAL, "both are the same file")
            if place.inode is not None and no_clobber:
                return None
            _check_replaceable(place.inode)
            await self._write_out(inode)

            def tell(done: int, total: int) -> None:
                postpone_deadline.get()()
                if progress is not None:
                    progress(done, total)

            exclusive = no_clobber or place.inode is None
            size = await self._make(inode, place, pins, exclusive=exclusive, keep_time=keep_time, tell=tell)
            return Copied(size, tuple(place.folder.numbers), place.name)

    @contextlib.contextmanager
    def _pinned(self) -> Iterator[list[int]]:
        """Numbers put into the list are look-ups counted by the block; they are taken back at its end."""
        pins: list[int] = []
        try:
            yield pins
        finally:
            for number in pins:
                self._core.inodes.forget(number, 1)

    async def _walk(self, parts: Sequence[bytes], pins: list[int]) -> _Place:
        core = self._core
        pending = deque(part for part in parts if part not in (b"", b"."))
        trail = [_Place(core.inodes.root, b"", core.inodes.root)]
        links = 0
        while pending:
            part = pending.popleft()
            if part == b"..":
                if len(trail) == 1:
                    raise PosixError(errno.EPERM, "the path leads out of the mount")
                trail.pop()
                continue
            folder = self._folder_of(trail[-1])
            try:
                number = (await self._namespace.lookup(folder.number, part)).number
            except NoSuchName:
                if pending:
                    raise PosixError(errno.ENOENT, f"there is no folder {os.fsdecode(part)!r}") from None
                return _Place(folder, part, None)
            pins.append(number)
            inode = core.inodes[number]
            if inode.kind != SYMLINK:
                trail.append(_Place(folder, part, inode))
                continue
            links += 1
            if links > _MAX_LINKS:
                raise PosixError(errno.ELOOP)
            pending.extendleft(reversed(await self._link_parts(number)))
        return trail[-1]

    async def _link_parts(self, number: int) -> list[bytes]:
        target = await self._namespace.readlink(number)
        if target.startswith(b"/"):
            raise PosixError(errno.EPERM, "a symbolic link leads out of the mount")
        return [part for part in target.split(b"/") if part not in (b"", b".")]

    @staticmethod
    def _folder_of(place: _Place) -> Inode:
        if place.inode is None or place.inode.kind != DIRECTORY:
            raise PosixError(errno.ENOTDIR, f"{os.fsdecode(place.name)!r} is not a folder")
        return place.inode

    @staticmethod
    def _file_of(place: _Place) -> Inode:
        if place.inode is None:
            raise PosixError(errno.ENOENT, f"there is no file {os.fsdecode(place.name)!r}")
        if place.inode.kind != FILE:
            raise PosixError(errno.EISDIR, "only files are copied, not folders")
        return place.inode

    async def _target(self, source: Sequence[bytes], target: Sequence[bytes], pins: list[int]) -> _Place:
        """Where the copy goes; a path that ends with an empty part has to be a folder's."""
        place = await self._walk(target, pins)
        if place.inode is not None and place.inode.kind == DIRECTORY:
            name = next(part for part in reversed(source) if part)
            place = await self._walk([*target, name], pins)
        elif target and not target[-1]:
            raise PosixError(errno.ENOTDIR, f"{os.fsdecode(place.name)!r} is not a folder")
        return place

    async def _write_out(self, inode: Inode) -> None:
        """Have the server know all that programs have written so far."""
        if inode.writes is not None and inode.is_dirty:
            await inode.writes.drain()
        if any(handle.failed for handle in inode.handles):
            raise PosixError(errno.EIO, "what was written to the file could not be brought to the server")
        await self._core.refresh(inode)

    async def _make(
        self,
        inode: Inode,
        place: _Place,
        pins: list[int],
        *,
        exclusive: bool,
        keep_time: bool,
        tell: Progress,
    ) -> int:
        core, folder = self._core, place.folder
        name = silly_name()
        path = core.inodes.child_path
        size = await core.share.copy(core.inodes.path(inode), path(folder, name), progress=tell)
        try:
            await self._dress(path(folder, name), inode, place.inode, keep_time)
            made = await self._namespace.resolve(folder, name.encode(), name)
            core.inodes.add_lookup(made.number)
            pins.append(made.number)
            flags = RENAME_NOREPLACE if exclusive else 0
            await self._renames.rename(folder.number, made.name, folder.number, place.name, flags)
        except BaseException:
            with trio.move_on_after(_REMOVAL_SECONDS, shield=True), contextlib.suppress(SmbError):
                await core.share.unlink(path(folder, name), clear_readonly=True)
            raise
        return size

    async def _dress(self, aside: str, source: Inode, replaced: Inode | None, keep_time: bool) -> None:
        """Attributes as cp would leave them: those of a file that was there, else read-only as the source."""
        if replaced is not None:
            attributes = settable(replaced.stat.attributes)
        else:
            attributes = FileAttributes(source.stat.attributes & FileAttributes.READONLY)
        write_ns = source.stat.write_ns if keep_time else None
        if attributes or write_ns is not None:
            await self._core.share.set_basic(aside, write_ns=write_ns, attributes=attributes or None)


def _check_replaceable(inode: Inode | None) -> None:
    if inode is None:
        return
    if inode.kind == DIRECTORY:
        raise PosixError(errno.EISDIR, "a folder has that name")
    if is_readonly(inode.stat.attributes):
        raise PosixError(errno.EACCES, "the file that is there is read-only: remove it first")
