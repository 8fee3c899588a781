"""Times set behind the last close of a file that was made here: nobody waits for the server to take them."""

from __future__ import annotations

import errno
import os

import pytest
import trio
import trio.testing

from engine import AccessDenied, TransportError, ntstatus
from smbmount.vfs.attributes import AttributeChanges
from smbmount.vfs.filesystem import FileSystem
from smbmount.vfs.lateclose import MAX_KEPT
from tests.fakes.share import FakeShare
from tests.support.logcheck import ExpectedWarnings
from tests.unit.vfs.support import ROOT, create, mounted, open_file, refused, virtual_time

TIMES = AttributeChanges(access_ns=123_456_789_000, write_ns=987_654_321_000)


def leased() -> FakeShare:
    """A share that grants leases."""
    return FakeShare(supports_leases=True)


async def written(fs: FileSystem, name: str, parent: int = ROOT) -> int:
    """Make a file, write and close it; its inode's number."""
    opened, attributes = await fs.files.create(parent, name.encode(), 0o644, os.O_RDWR | os.O_CREAT)
    await fs.files.write(opened.number, 0, b"data")
    await fs.files.flush(opened.number)
    await fs.files.release(opened.number)
    return attributes.number


async def learned(fs: FileSystem, name: str = "first", parent: int = ROOT) -> None:
    """The server has taken the times of a new file: the program waited for that."""
    await fs.metadata.setattr(await written(fs, name, parent), TIMES, None)


@virtual_time
async def test_the_times_of_further_new_files_are_not_waited_for() -> None:
    async with mounted(leased()) as (share, fs):
        await learned(fs)
        assert share.count("set_basic_and_close") == 1
        number = await written(fs, "a")
        with share.hold("set_times_and_close"):
            shown = await fs.metadata.setattr(number, TIMES, None)
            assert (shown.write_ns, shown.access_ns) == (TIMES.write_ns, TIMES.access_ns)
            assert shown.attribute_timeout == 0, "its time of change is not known yet"
            node = share.find("a")
            assert not node.opens, "it leaves before the program is answered"
            assert node.written == TIMES.write_ns
            await trio.testing.wait_all_tasks_blocked()
        assert (await fs.metadata.getattr(number)).change_ns == node.changed
        assert share.count("query") == share.count("stat") == 0


@virtual_time
async def test_who_asks_for_the_attributes_gets_the_final_ones() -> None:
    async with mounted(leased()) as (share, fs):
        await learned(fs)
        opened, attributes = await fs.files.create(ROOT, b"empty", 0o644, os.O_RDWR | os.O_CREAT)
        await fs.files.release(opened.number)
        await fs.metadata.setattr(attributes.number, TIMES, None)
        shown = await fs.metadata.getattr(attributes.number)
        assert (shown.write_ns, shown.change_ns) == (TIMES.write_ns, share.find("empty").changed)
        assert shown.attribute_timeout > 0


@virtual_time
async def test_the_first_in_a_folder_is_waited_for_but_not_in_folders_made_in_it() -> None:
    async with mounted(leased()) as (share, fs):
        share.put_folder("theirs")
        theirs = (await fs.names.lookup(ROOT, b"theirs")).number
        ours = (await fs.names.mkdir(ROOT, b"ours")).number
        inner = (await fs.names.mkdir(ours, b"inner")).number
        await learned(fs, "a", inner)
        await learned(fs, "b", ours)
        await learned(fs, "c", ROOT)
        assert share.count("set_basic_and_close") == 1
        await learned(fs, "d", theirs)
        assert share.count("set_basic_and_close") == 2


@virtual_time
async def test_of_files_that_were_there_before_they_are_waited_for() -> None:
    async with mounted(leased()) as (share, fs):
        await learned(fs)
        share.put("theirs", b"content")
        handle = await open_file(fs, "theirs", os.O_WRONLY | os.O_TRUNC)
        number = fs.core.files[handle].inode.number
        await fs.files.release(handle)
        share.fail_next("set_basic_and_close", ntstatus.STATUS_ACCESS_DENIED)
        with refused(errno.EACCES):
            await fs.metadata.setattr(number, TIMES, None)


@virtual_time
async def test_a_mode_that_is_stored_is_waited_for() -> None:
    async with mounted(leased()) as (share, fs):
        await learned(fs)
        number = await written(fs, "a")
        share.fail_next("set_basic_and_close", ntstatus.STATUS_ACCESS_DENIED)
        with refused(errno.EACCES):
            await fs.metadata.setattr(number, AttributeChanges(mode=0o444), None)


@virtual_time
async def test_times_that_are_refused_after_all_are_logged_and_told_to_who_has_it_open(
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings.require("the times of <Inode .*'a'.*> are not those that were set")
    async with mounted(leased()) as (share, fs):
        await learned(fs)
        number = await written(fs, "a")
        share.fail_next("set_times_and_close", ntstatus.STATUS_ACCESS_DENIED)
        with share.hold("set_times_and_close"):
            await fs.metadata.setattr(number, TIMES, None)
            handle = (await fs.files.open(number, os.O_RDWR)).number
        with refused(errno.EACCES):
            await fs.files.fsync(handle)
        await fs.files.flush(handle)
        assert len(expected_warnings.records) == 1
        assert (await fs.metadata.getattr(number)).write_ns == share.find("a").written != TIMES.write_ns
        await fs.files.release(handle)
        before = share.count("set_basic_and_close")
        await learned(fs, "b")
        assert share.count("set_basic_and_close") == before + 1, "the server is not trusted any more"
        await fs.shutdown()


@virtual_time
async def test_times_that_are_refused_when_nobody_has_it_open_are_told_at_the_end_of_the_mount(
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings.require("the times of <Inode .*'a'.*> are not those that were set")
    async with mounted(leased()) as (share, fs):
        await learned(fs)
        number = await written(fs, "a")
        share.fail_next("set_times_and_close", ntstatus.STATUS_ACCESS_DENIED)
        with share.hold("set_times_and_close"):
            await fs.metadata.setattr(number, TIMES, None)
        await written(fs, "b")
        with pytest.raises(AccessDenied):
            await fs.shutdown()
        assert not share.find("b").opens, "all else is done before that is told"


@virtual_time
async def test_times_that_a_lost_connection_may_have_swallowed_are_set_again_by_name() -> None:
    async with mounted(leased()) as (share, fs):
        await learned(fs)
        number = await written(fs, "a")
        share.fail_next("set_times_and_close", TransportError("the connection was lost"))
        with share.hold("set_times_and_close"):
            await fs.metadata.setattr(number, TIMES, None)
            assert share.find("a").written != TIMES.write_ns
        shown = await fs.metadata.getattr(number)
        assert shown.write_ns == share.find("a").written == TIMES.write_ns
        await fs.shutdown()


@virtual_time
async def test_times_are_waited_for_while_the_connection_is_away() -> None:
    async with mounted(leased()) as (share, fs):
        await learned(fs)
        number = await written(fs, "a")
        share.find("a").opens[0].is_here = False
        await fs.metadata.setattr(number, TIMES, None)
        assert share.count("set_times_and_close") == 0
        assert share.count("set_basic_and_close") == 2


@virtual_time
async def test_the_end_of_the_mount_waits_for_times_that_are_under_way(
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings.require("the times of <Inode .*'a'.*> are not those that were set")
    async with mounted(leased()) as (share, fs):
        await learned(fs)
        number = await written(fs, "a")
        share.fail_next("set_times_and_close", TransportError("the connection was lost"))
        share.fail_next("open", TransportError("the connection is lost"))
        ended = trio.Event()

        async def end() -> None:
            with pytest.raises(TransportError):
                await fs.shutdown()
            ended.set()

        async with trio.open_nursery() as nursery:
            with share.hold("set_times_and_close"):
                await fs.metadata.setattr(number, TIMES, None)
                nursery.start_soon(end)
                await trio.testing.wait_all_tasks_blocked()
                assert not ended.is_set()
            await ended.wait()


@virtual_time
async def test_few_answers_are_outstanding() -> None:
    async with mounted(leased()) as (share, fs):
        await learned(fs)
        with share.hold("set_times_and_close"):
            for number in range(MAX_KEPT + 2):
                await learned(fs, f"{number}")
        assert share.count("set_times_and_close") == MAX_KEPT
        assert share.count("set_basic_and_close") == 3
        await trio.testing.wait_all_tasks_blocked()
        await learned(fs, "next")
        assert share.count("set_basic_and_close") == 3


@virtual_time
async def test_what_is_done_next_to_the_file_finds_the_times_set() -> None:
    async with mounted(leased()) as (share, fs):
        await learned(fs)
        await written(fs, "a")
        handle, number = await create(fs, "b")
        await fs.files.write(handle, 0, b"data")
        await fs.files.flush(handle)
        await fs.files.release(handle)
        with share.hold("set_times_and_close"):
            await fs.metadata.setattr(number, TIMES, None)
            await fs.renames.rename(ROOT, b"b", ROOT, b"a", 0)
            assert share.find("a").written == TIMES.write_ns
            await trio.testing.wait_all_tasks_blocked()
        assert (await fs.metadata.getattr(number)).write_ns == TIMES.write_ns
