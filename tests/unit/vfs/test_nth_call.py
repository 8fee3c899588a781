"""One script of a kernel's calls, played once for each round trip in it, which fails, and once for each of
its checkpoints, at which the call under way is given up.

Nothing is left behind: no inode, no handle, no look-up count, no open file on the server; and no data is lost
without a word.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Iterator
from typing import Final, TypeVar

import pytest
import trio
import trio.testing

from engine import SmbError, TransportError
from smbmount.vfs.attributes import AttributeChanges, Attributes
from smbmount.vfs.filesystem import FileSystem
from tests.fakes.share import Call, FakeShare
from tests.fakes.share_nodes import Node
from tests.support.logcheck import ExpectedWarnings
from tests.unit.vfs.support import ROOT, Listed, mounted

pytestmark = pytest.mark.slow

T = TypeVar("T")

DEADLINE: Final = 600.0
"""Seconds of virtual time."""

_TOLD: Final = (
    r"data written to .* is lost",
    r"the old file remains as",
    r"was moved aside, and remains as",
    r"was removed to be replaced, and is not there again",
)
"""What the log may say when a round trip has failed."""


class Kernel:
    """The kernel's side: what it was told, what is open, and what programs heard about their data."""

    def __init__(self, fs: FileSystem) -> None:
        self.fs = fs
        self.told: Counter[int] = Counter()
        self.errors = 0
        self.safe: dict[bytes, bytes] = {}
        """Content by name of the files that were written and closed without any error."""
        self.scope = trio.CancelScope()
        """Around the call that is under way."""

    async def call(self, call: Awaitable[T]) -> T | None:
        """One call; None if it is refused, or given up."""
        with trio.CancelScope() as self.scope:
            try:
                return await call
            except (SmbError, OSError):
                self.errors += 1
                return None
        self.errors += 1
        return None

    async def entry(self, call: Awaitable[Attributes]) -> int | None:
        """A call that replies with an entry; its number."""
        entry = await self.call(call)
        return self.tell(entry) if entry is not None else None

    def tell(self, entry: Attributes) -> int:
        """Count a look-up that the kernel was told; its number."""
        self.told[entry.number] += 1
        return entry.number

    async def lookup(self, parent: int, name: bytes) -> int | None:
        """Look a name up; its number."""
        return await self.entry(self.fs.names.lookup(parent, name))

    async def make(self, parent: int, name: bytes, *pieces: bytes) -> int | None:
        """Create a file, write it and have it synced; its handle."""
        made = await self.call(self.fs.files.create(parent, name, 0o644, os.O_RDWR | os.O_CREAT))
        if made is None:
            return None
        self.tell(made[1])
        offset = 0
        for piece in pieces:
            await self.call(self.fs.files.write(made[0].number, offset, piece))
            offset += len(piece)
        await self.call(self.fs.files.fsync(made[0].number))
        return made[0].number

    async def store(self, parent: int, name: bytes, *pieces: bytes) -> None:
        """Make a file and close it; if nobody heard of an error, it has to be there."""
        errors = self.errors
        await self.close(await self.make(parent, name, *pieces))
        if self.errors == errors:
            self.safe[name] = b"".join(pieces)

    async def close(self, handle: int | None) -> None:
        """What close(2) does: flush, whose error the program gets, and release."""
        if handle is not None:
            await self.call(self.fs.files.flush(handle))
            await self.call(self.fs.files.release(handle))

    async def read(self, parent: int, name: bytes) -> None:
        """Look up, open, read, close."""
        number = await self.lookup(parent, name)
        opened = await self.call(self.fs.files.open(number, os.O_RDONLY)) if number is not None else None
        if opened is not None:
            await self.call(self.fs.files.read(opened.number, 0, 1 << 20))
            await self.close(opened.number)

    async def list(self, number: int) -> None:
        """List a folder; what a request brings that fails is not told."""
        handle = await self.call(self.fs.folders.opendir(number))
        if handle is None:
            return
        listed, told = Listed(self.fs, handle), 0
        while await self.call(listed.read()):
            for name in listed.order[told:]:
                if name not in (b".", b".."):
                    self.tell(listed.entries[name])
            told = len(listed.order)
        await self.call(self.fs.folders.releasedir(handle))

    def forget_all(self) -> None:
        """Forget all that was told."""
        self.fs.forget(self.told.items())


async def script(kernel: Kernel, share: FakeShare) -> None:
    """A bit of everything that programs do."""
    fs, call = kernel.fs, kernel.call
    await kernel.store(ROOT, b"a", b"first", b"second" * 1000)
    await kernel.read(ROOT, b"a")
    folder = await kernel.entry(fs.names.mkdir(ROOT, b"d"))
    await kernel.list(ROOT)
    number = await kernel.lookup(ROOT, b"a")
    if number is not None:
        await call(fs.metadata.setattr(number, AttributeChanges(write_ns=1_000_000_000, mode=0o444), None))
        await call(fs.metadata.setattr(number, AttributeChanges(mode=0o644), None))
        await call(fs.xattrs.set(number, b"user.x", b"value"))
        await call(fs.xattrs.get(number, b"user.x"))
        await kernel.entry(fs.names.link(number, ROOT, b"a2"))
    link = await kernel.entry(fs.names.symlink(ROOT, b"l", b"a"))
    if link is not None:
        await call(fs.names.readlink(link))
    open_file = await kernel.make(ROOT, b"open", b"old")
    await kernel.store(ROOT, b"new", b"new")
    await call(fs.renames.rename(ROOT, b"new", ROOT, b"open", 0))
    if open_file is not None:
        await call(fs.files.write(open_file, 3, b"er"))
    await kernel.close(open_file)
    nameless = await kernel.make(ROOT, b"nameless", b"data")
    await call(fs.names.unlink(ROOT, b"nameless"))
    if nameless is not None:
        await call(fs.files.read(nameless, 0, 4))
    await kernel.close(nameless)
    if folder is not None:
        await kernel.store(folder, b"inner", b"inner")
        await kernel.list(folder)
        await call(fs.renames.rename(ROOT, b"d", ROOT, b"e", 0))
        await kernel.read(folder, b"inner")
    for flags in (os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
        # Another client has made it since it was looked up.
        share.put("theirs", b"data")
        made = await call(fs.files.create(ROOT, b"theirs", 0o644, flags | os.O_CREAT))
        if made is not None:
            kernel.tell(made[1])
            await kernel.close(made[0].number)
        number = await kernel.lookup(ROOT, b"theirs")
        if number is not None:
            opened = await call(fs.files.open(number, flags))
            await kernel.close(opened.number if opened is not None else None)
            await call(fs.metadata.setattr(number, AttributeChanges(size=10), None))
            await call(fs.names.unlink(ROOT, b"theirs"))
    await trio.sleep(1)


class FailAt:
    """Fails the round trip of this number, or also all behind it; -1 fails none."""

    def __init__(self, share: FakeShare, number: int, *, lasting: bool) -> None:
        self.count = 0
        self._number = number
        self._lasting = lasting
        share.watch = self._watch

    def _watch(self, call: Call) -> None:
        self.count += 1
        reached = self.count - 1
        if reached == self._number or (self._lasting and 0 <= self._number < reached):
            raise TransportError("failed by the test")


class GiveUpAt(trio.abc.Instrument):
    """Gives up the call under way when the kernel's task has come to a checkpoint for the n-th time."""

    def __init__(self, number: int) -> None:
        self.steps = 0
        self.task: trio.lowlevel.Task | None = None
        self.kernel: Kernel | None = None
        self._number = number

    def watch(self, kernel: Kernel) -> None:
        """The calls of this task are the kernel's."""
        self.kernel, self.task = kernel, trio.lowlevel.current_task()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count."""
        if task is self.task and self.kernel is not None:
            self.steps += 1
            if self.steps == self._number:
                self.kernel.scope.cancel()


def nodes(folder: Node) -> Iterator[Node]:
    """All files and folders of the server."""
    for _, node in folder.children.values():
        yield node
        yield from nodes(node)


async def play(share: FakeShare, canceller: GiveUpAt | None = None) -> None:
    """Play the script and end the mount as its service does; everything has to be in order then."""
    with trio.fail_after(DEADLINE):
        async with mounted(share) as (_, fs):
            kernel = Kernel(fs)
            if canceller is not None:
                canceller.watch(kernel)
            await script(kernel, share)
            if canceller is not None:
                canceller.task = None
            lost = await _shut_down(fs)
            kernel.forget_all()
            await trio.sleep(60)
            assert fs.counts() == {"inodes": 1, "open_files": 0, "dirty_bytes": 0}
            assert not [node for node in nodes(share.root) if node.opens or node.listed_by]
            assert not [node for node in nodes(share.root) if node.delete_pending]
            if lost is None:
                for name, data in kernel.safe.items():
                    held = [bytes(node.data) for node in nodes(share.root) if not node.is_directory]
                    assert data in held, f"{name!r} was closed without an error"


async def _shut_down(fs: FileSystem) -> Exception | None:
    try:
        await fs.shutdown()
    except (SmbError, OSError) as error:
        return error
    return None


def run(number: int, *, lasting: bool) -> int:
    """Play with a fault; how many round trips there were."""
    share = FakeShare(supports_leases=True)
    fault = FailAt(share, number, lasting=lasting)
    trio.run(play, share, clock=trio.testing.MockClock(autojump_threshold=0))
    return fault.count


@pytest.mark.parametrize("lasting", [False, True])
def test_the_nth_round_trip_fails(lasting: bool, expected_warnings: ExpectedWarnings) -> None:
    expected_warnings.allow(*_TOLD)
    total = run(-1, lasting=lasting)
    assert total > 30
    for number in range(1, total):
        try:
            run(number, lasting=lasting)
        except BaseException as error:
            error.add_note(f"round trip {number} of {total} failed")
            raise


def test_a_call_is_given_up_at_every_checkpoint(expected_warnings: ExpectedWarnings) -> None:
    expected_warnings.allow(*_TOLD)
    number = 1
    while True:
        canceller = GiveUpAt(number)
        share = FakeShare(supports_leases=True)
        clock = trio.testing.MockClock(autojump_threshold=0)
        try:
            trio.run(play, share, canceller, clock=clock, instruments=[canceller])
        except BaseException as error:
            error.add_note(f"given up at checkpoint {number}")
            raise
        if canceller.steps < number:
            break
        number += 1
    assert number > 40
