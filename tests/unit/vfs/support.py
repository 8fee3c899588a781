"""A file system over the in-memory share, in virtual time."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import ParamSpec

import pytest
import trio
import trio.testing

from engine import SmbError
from smbmount.vfs.attributes import Attributes
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.errors import errno_of
from smbmount.vfs.filesystem import FileSystem
from smbmount.vfs.kernel import KernelCache
from tests.fakes.share import FakeShare

P = ParamSpec("P")
ROOT = 1
READ_WRITE = os.O_RDWR


def virtual_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run a test in trio; sleeping takes no time, and a hang ends at once."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            with trio.fail_after(3600):
                await test(*args, **kwargs)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    return wrapper


class FakeKernel:
    """The kernel's caches: what it was told to forget, as pairs of inode number and whether with pages."""

    def __init__(self) -> None:
        self.forgotten: list[tuple[int, bool]] = []
        self.released: list[int] = []
        self.gate: trio.Event | None = None
        self.write_out: Callable[[], Awaitable[object]] | None = None
        """Called before pages are forgotten: what programs changed through memory maps is written."""

    async def invalidate(self, number: int, *, pages: bool) -> None:
        """Note it, once the gate is open if there is one."""
        if self.gate is not None:
            await self.gate.wait()
        if pages and self.write_out is not None:
            await self.write_out()
        self.forgotten.append((number, pages))

    async def release(self, numbers: Sequence[int]) -> None:
        """Note it."""
        self.released += numbers


@asynccontextmanager
async def mounted(
    share: FakeShare | None = None,
    config: FileSystemConfig | None = None,
    kernel: KernelCache | None = None,
) -> AsyncIterator[tuple[FakeShare, FileSystem]]:
    """A started file system; the round trips of its start are not counted."""
    share = share or FakeShare()
    async with trio.open_nursery() as nursery:
        fs = FileSystem(share, config or FileSystemConfig(uid=1000, gid=1000), nursery, kernel)
        await fs.start()
        share.calls.clear()
        yield share, fs
        nursery.cancel_scope.cancel()


async def lookup(fs: FileSystem, path: str, parent: int = ROOT) -> Attributes:
    """Look all parts of a path up, as the kernel does."""
    *folders, name = path.split("/")
    for folder in folders:
        parent = (await fs.names.lookup(parent, folder.encode())).number
    return await fs.names.lookup(parent, name.encode())


async def open_file(fs: FileSystem, path: str, flags: int = READ_WRITE) -> int:
    """Look a path up and open it; the handle."""
    return (await fs.files.open((await lookup(fs, path)).number, flags)).number


async def create(fs: FileSystem, name: str, flags: int = READ_WRITE, mode: int = 0o644) -> tuple[int, int]:
    """Create a file in the root; handle and inode number."""
    opened, attributes = await fs.files.create(ROOT, name.encode(), mode, flags | os.O_CREAT)
    return opened.number, attributes.number


class Listed:
    """What a program reads from an open folder: the kernel's side of readdir."""

    def __init__(self, fs: FileSystem, handle: int, room: int = 10**9, number: int = ROOT) -> None:
        self.fs = fs
        self.number = number
        self.handle = handle
        self.room = room
        self.position = 0
        self.entries: dict[bytes, Attributes] = {}
        self.order: list[bytes] = []

    async def read(self) -> int:
        """One readdir request; the number of entries that it brought."""
        taken = 0

        def reply(name: bytes, attributes: Attributes, next_position: int) -> bool:
            nonlocal taken
            if taken == self.room:
                return False
            taken += 1
            self.position = next_position
            self.entries[name] = attributes
            self.order.append(name)
            return True

        await self.fs.folders.readdir(self.handle, self.position, reply)
        return taken

    async def read_all(self) -> list[bytes]:
        """Until the end; the names without the dots, in order."""
        while await self.read():
            pass
        return self.names

    @property
    def names(self) -> list[bytes]:
        """The names so far, without the dots, in order."""
        return [name for name in self.order if name not in (b".", b"..")]


async def list_folder(fs: FileSystem, number: int = ROOT, room: int = 10**9) -> Listed:
    """Open, read and close a folder."""
    handle = await fs.folders.opendir(number)
    listed = Listed(fs, handle, room, number)
    await listed.read_all()
    await fs.folders.releasedir(handle)
    return listed


class refused:
    """The block has to be refused with this errno."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None:
            pytest.fail(f"was not refused with {os.strerror(self._number)}")
        if not isinstance(error, SmbError | OSError):
            return False
        assert errno_of(error) == self._number, f"{error!r}, not {os.strerror(self._number)}"
        return True
