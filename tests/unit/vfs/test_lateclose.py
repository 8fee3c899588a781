"""Written files are closed a moment late: what is set meanwhile goes along, and nobody is kept waiting."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from engine import LeaseState, TransportError, ntstatus
from smbmount.vfs.attributes import AttributeChanges
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.filesystem import FileSystem
from smbmount.vfs.lateclose import KEPT_SECONDS, MAX_KEPT
from tests.fakes.share import FakeShare
from tests.unit.vfs.support import ROOT, create, lookup, mounted, open_file, refused, virtual_time

TIMES = AttributeChanges(access_ns=123_456_789_000, write_ns=987_654_321_000)


def leased() -> FakeShare:
    """A share that grants leases."""
    return FakeShare(supports_leases=True)


async def written(fs: FileSystem, name: str, data: bytes = b"data") -> int:
    """Make a file, write and close it; its inode's number."""
    handle, number = await create(fs, name)
    await fs.files.write(handle, 0, data)
    await fs.files.flush(handle)
    await fs.files.release(handle)
    return number


def operations(share: FakeShare) -> list[str]:
    """The round trips so far."""
    return [call.operation for call in share.calls]


@virtual_time
async def test_times_set_right_after_the_close_go_along_with_it() -> None:
    async with mounted(leased()) as (share, fs):
        number = await written(fs, "a")
        changed = await fs.metadata.setattr(number, TIMES, None)
        assert operations(share) == ["open", "write_at", "set_basic_and_close"]
        node = share.find("a")
        assert not node.opens
        assert (changed.write_ns, changed.access_ns, changed.size) == (node.written, node.accessed, 4)
        assert node.written == TIMES.write_ns
        await fs.metadata.setattr(number, AttributeChanges(mode=0o644), None)
        assert (await fs.metadata.getattr(number)).change_ns == node.changed
        assert (await lookup(fs, "a")).write_ns == TIMES.write_ns
        await trio.sleep(KEPT_SECONDS * 2)
        assert operations(share) == ["open", "write_at", "set_basic_and_close"]
        assert node.written == TIMES.write_ns


@virtual_time
async def test_a_mode_goes_along_with_the_close_too() -> None:
    async with mounted(leased()) as (share, fs):
        number = await written(fs, "a")
        changed = await fs.metadata.setattr(number, AttributeChanges(mode=0o444), None)
        assert changed.mode & 0o222 == 0
        assert operations(share) == ["open", "write_at", "set_basic_and_close"]
        assert (await fs.metadata.getattr(number)).write_ns == share.find("a").written


@virtual_time
async def test_a_written_file_is_closed_within_a_moment() -> None:
    async with mounted(leased()) as (share, fs):
        await written(fs, "a")
        assert len(share.find("a").opens) == 1
        await trio.sleep(KEPT_SECONDS + 0.01)
        assert not share.find("a").opens
        assert operations(share) == ["open", "write_at", "close_and_tell"]


@virtual_time
async def test_who_wants_the_final_attributes_has_it_closed_and_waits_for_them() -> None:
    async with mounted(leased()) as (share, fs):
        number = await written(fs, "a")
        shown = await fs.metadata.getattr(number)
        assert (shown.write_ns, shown.size) == (share.find("a").written, 4)
        await written(fs, "b")
        assert (await lookup(fs, "b")).write_ns == share.find("b").written
        assert operations(share) == ["open", "write_at", "close_and_tell"] * 2


@virtual_time
async def test_a_break_closes_it_before_the_other_client_is_let_in() -> None:
    async with mounted(leased()) as (share, fs):
        await written(fs, "a")
        node = share.find("a")
        lease = share.break_lease("a", int(LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING))
        assert not node.opens
        await trio.testing.wait_all_tasks_blocked()
        assert lease.acknowledged
        assert fs.core.inodes.find(node.stat(links=True)) is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda fs, number: fs.names.unlink(ROOT, b"a"),
        lambda fs, number: fs.renames.rename(ROOT, b"a", ROOT, b"b", 0),
        lambda fs, number: fs.renames.rename(ROOT, b"other", ROOT, b"a", 0),
        lambda fs, number: fs.names.link(number, ROOT, b"b"),
        lambda fs, number: fs.files.open(number, os.O_RDONLY),
        lambda fs, number: fs.files.open(number, os.O_WRONLY | os.O_TRUNC),
        lambda fs, number: fs.metadata.setattr(number, AttributeChanges(size=1), None),
        lambda fs, number: fs.xattrs.set(number, b"user.key", b"value"),
    ],
    ids=["unlink", "rename", "replace", "link", "open", "open and truncate", "truncate", "setxattr"],
)
@virtual_time
async def test_it_is_closed_before_anything_else_is_done_to_the_file(
    change: Callable[[FileSystem, int], Awaitable[object]],
) -> None:
    async with mounted(leased()) as (share, fs):
        share.put("other")
        number = await written(fs, "a")
        kept = share.find("a").opens[0]
        await lookup(fs, "other")
        asked: list[bool] = []
        share.watch = lambda call: asked.append(kept.closed)
        await change(fs, number)
        assert asked
        assert all(asked), "the server was asked while the file was still open"


@virtual_time
async def test_it_is_closed_before_a_folder_above_is_renamed() -> None:
    async with mounted(leased()) as (share, fs):
        folder = (await fs.names.mkdir(ROOT, b"folder")).number
        opened, _ = await fs.files.create(folder, b"a", 0o644, os.O_RDWR)
        await fs.files.release(opened.number)
        assert share.find("folder\\a").opens
        await fs.renames.rename(ROOT, b"folder", ROOT, b"other", 0)
        assert share.count("rename") == 1
        assert not share.find("other\\a").opens


@virtual_time
async def test_a_file_whose_close_got_no_answer_may_have_been_dated_by_that() -> None:
    """Another program reads it: its open file is the same after the connection was lost."""
    async with mounted(leased()) as (share, fs):
        number = await written(fs, "a")
        node, inode = share.find("a"), fs.core.inodes[number]
        await open_file(fs, "a", os.O_RDONLY)
        writer = await open_file(fs, "a", os.O_WRONLY)
        await fs.files.write(writer, 0, b"more")
        await fs.files.flush(writer)
        await fs.core.refresh(inode)
        lost_ns = inode.stat.write_ns + 1
        share.fail_next("close_and_tell", TransportError("the connection was lost"))
        await fs.files.release(writer)
        await trio.sleep(1)
        found = node.stat(links=True)
        found.write_ns = lost_ns + 1
        assert inode.may_be_like(found, lost_ns)


@virtual_time
async def test_few_are_kept_and_the_oldest_go_first() -> None:
    async with mounted(leased()) as (share, fs):
        for number in range(MAX_KEPT + 3):
            await written(fs, f"{number}")
        kept = [bool(share.find(f"{number}").opens) for number in range(MAX_KEPT + 3)]
        assert kept == [False] * 3 + [True] * MAX_KEPT
        assert len(fs.core.late) == MAX_KEPT


@virtual_time
async def test_a_refused_change_is_its_own_error_and_the_file_is_closed() -> None:
    async with mounted(leased()) as (share, fs):
        number = await written(fs, "a")
        share.fail_next("set_basic_and_close", ntstatus.STATUS_ACCESS_DENIED)
        with refused(errno.EACCES):
            await fs.metadata.setattr(number, TIMES, None)
        assert not share.find("a").opens
        before = share.count()
        assert (await fs.metadata.getattr(number)).write_ns == share.find("a").written
        assert share.count() == before + 1


@virtual_time
async def test_a_cancelled_change_leaves_nobody_waiting() -> None:
    async with mounted(leased()) as (share, fs):
        number = await written(fs, "a")
        with share.hold("set_basic_and_close"), trio.move_on_after(1) as scope:
            await fs.metadata.setattr(number, TIMES, None)
        assert scope.cancelled_caught
        assert not share.find("a").opens
        assert (await fs.metadata.getattr(number)).write_ns == share.find("a").written


@virtual_time
async def test_what_the_close_does_not_tell_is_asked_for() -> None:
    async with mounted(leased()) as (share, fs):
        share.tells_at_close = False
        number = await written(fs, "a")
        await fs.metadata.setattr(number, TIMES, None)
        shown = await fs.metadata.getattr(number)
        assert (shown.write_ns, shown.change_ns) == (TIMES.write_ns, share.find("a").changed)


@virtual_time
async def test_without_an_exclusive_lease_it_is_closed_at_once() -> None:
    async with mounted(leased()) as (share, fs):
        handle, _ = await create(fs, "a")
        await fs.files.write(handle, 0, b"data")
        await fs.files.flush(handle)
        share.break_lease("a", int(LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING))
        await fs.files.release(handle)
        assert not share.find("a").opens
    async with mounted() as (share, fs):
        await written(fs, "a")
        assert not share.find("a").opens
    async with mounted(leased(), config=FileSystemConfig(close_timeout=0)) as (share, fs):
        await written(fs, "a")
        assert not share.find("a").opens


@virtual_time
async def test_while_another_program_has_it_open_it_is_closed_at_once() -> None:
    async with mounted(leased()) as (share, fs):
        first, number = await create(fs, "a")
        second = await open_file(fs, "a")
        await fs.files.write(first, 0, b"data")
        await fs.files.flush(first)
        await fs.files.release(first)
        assert len(share.find("a").opens) == 1
        await fs.files.write(second, 0, b"more")
        await fs.files.flush(second)
        await fs.files.release(second)
        assert len(share.find("a").opens) == 1
        await fs.metadata.setattr(number, TIMES, None)
        assert share.find("a").written == TIMES.write_ns
        assert not share.find("a").opens


@virtual_time
async def test_the_end_of_the_mount_closes_it() -> None:
    async with mounted(leased()) as (share, fs):
        await written(fs, "a")
        await fs.shutdown()
        assert not share.find("a").opens


@virtual_time
async def test_a_file_that_the_kernel_forgot_is_closed_and_forgotten() -> None:
    async with mounted(leased()) as (share, fs):
        number = await written(fs, "a")
        fs.forget([(number, 1)])
        assert len(fs.core.inodes) == 2
        await trio.sleep(KEPT_SECONDS * 2)
        assert not share.find("a").opens
        assert len(fs.core.inodes) == 1


@virtual_time
async def test_attributes_that_the_close_will_change_are_not_shown() -> None:
    async with mounted(leased()) as (share, fs):
        share.put("a", b"content")
        handle = await open_file(fs, "a", os.O_WRONLY | os.O_TRUNC)
        await fs.files.release(handle)
        number = fs.core.inodes.root.children[b"a"].number
        kept = share.find("a").opens[0]
        assert (await fs.metadata.getattr(number)).attribute_timeout > 0
        assert kept.closed


@virtual_time
async def test_a_reader_that_is_kept_is_closed_with_the_writer() -> None:
    async with mounted(leased()) as (share, fs):
        share.put("a", b"content")
        writer, reader = await open_file(fs, "a", os.O_RDWR), await open_file(fs, "a", os.O_RDONLY)
        await fs.files.write(writer, 0, b"CONTENT")
        await fs.files.release(reader)
        await fs.files.flush(writer)
        await fs.files.release(writer)
        assert len(share.find("a").opens) == 1
