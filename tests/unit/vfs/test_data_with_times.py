"""Little data of an open file and the times that are set behind it go to the server together."""

from __future__ import annotations

import errno
import os

import trio
import trio.testing

from engine import ntstatus
from smbmount.vfs.attributes import AttributeChanges
from smbmount.vfs.writebehind import LEAST_COST
from tests.fakes.share import FakeShare
from tests.unit.vfs.support import create, mounted, open_file, refused, virtual_time

TIMES = AttributeChanges(access_ns=123_456_789_000, write_ns=987_654_321_000)


def operations(share: FakeShare) -> list[str]:
    """The round trips so far."""
    return [call.operation for call in share.calls]


@virtual_time
async def test_little_data_and_the_times_set_behind_it_go_together() -> None:
    async with mounted(FakeShare(supports_leases=True)) as (share, fs):
        handle, number = await create(fs, "a")
        await fs.files.write(handle, 0, b"da")
        await fs.files.write(handle, 2, b"ta")
        changed = await fs.metadata.setattr(number, TIMES, handle)
        assert (changed.write_ns, changed.size) == (TIMES.write_ns, 4)
        await fs.metadata.setattr(number, AttributeChanges(mode=0o644), handle)
        await fs.files.flush(handle)
        await fs.files.release(handle)
        assert operations(share) == ["open", "write_and_set_basic"]
        shown = await fs.metadata.getattr(number)
        assert (shown.write_ns, shown.size) == (TIMES.write_ns, 4)
        await trio.sleep(1)
        assert share.find("a").written == TIMES.write_ns
        assert bytes(share.find("a").data) == b"data"


@virtual_time
async def test_a_write_error_beside_a_change_of_times_is_told_at_the_close() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "a")
        await fs.files.write(handle, 0, b"data")
        share.fail_next("write_and_set_basic", ntstatus.STATUS_DISK_FULL)
        await fs.metadata.setattr(number, TIMES, handle)
        assert share.find("a").written == TIMES.write_ns
        with refused(errno.ENOSPC):
            await fs.files.flush(handle)
        await fs.files.flush(handle)
        await fs.files.release(handle)
        assert not fs.core.write_budget.used


@virtual_time
async def test_a_refused_change_of_times_beside_data_is_its_own_error() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "a")
        await fs.files.write(handle, 0, b"data")
        share.fail_next("set_basic along", ntstatus.STATUS_ACCESS_DENIED)
        with refused(errno.EACCES):
            await fs.metadata.setattr(number, TIMES, handle)
        assert bytes(share.find("a").data) == b"data"
        await fs.files.flush(handle)
        assert (await fs.metadata.getattr(number)).write_ns == share.find("a").written


@virtual_time
async def test_data_outlives_a_change_of_times_that_was_given_up() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "a")
        await fs.files.write(handle, 0, b"data")
        with share.hold("write_and_set_basic"):
            with trio.move_on_after(1) as scope:
                await fs.metadata.setattr(number, TIMES, handle)
            assert scope.cancelled_caught
        await fs.files.flush(handle)
        assert bytes(share.find("a").data) == b"data"


@virtual_time
async def test_more_data_is_written_first() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "a")
        await fs.files.write(handle, 0, b"data")
        await fs.files.write(handle, 100, b"far away")
        await fs.metadata.setattr(number, TIMES, handle)
        assert operations(share) == ["open", "write_at", "write_at", "set_basic"]
        await fs.files.write(handle, 0, bytes(LEAST_COST + 1))
        await fs.metadata.setattr(number, TIMES, handle)
        assert operations(share)[4:] == ["write_at", "set_basic"]
        assert share.find("a").written == TIMES.write_ns


@virtual_time
async def test_times_are_set_through_each_open_file_that_wrote() -> None:
    async with mounted() as (share, fs):
        first, number = await create(fs, "a")
        second = await open_file(fs, "a", os.O_WRONLY)
        await fs.files.write(first, 0, b"data")
        await fs.files.flush(first)
        await fs.files.write(second, 0, b"more")
        await fs.metadata.setattr(number, TIMES, None)
        for handle in (first, second):
            await fs.files.flush(handle)
            await fs.files.release(handle)
        await trio.testing.wait_all_tasks_blocked()
        assert share.find("a").written == TIMES.write_ns


@virtual_time
async def test_an_open_file_that_writes_meanwhile_gets_the_times_too() -> None:
    async with mounted() as (share, fs), trio.open_nursery() as nursery:
        first, number = await create(fs, "a")
        second = await open_file(fs, "a", os.O_WRONLY)
        await fs.files.write(first, 0, b"data")
        with share.hold("write_and_set_basic"):
            nursery.start_soon(fs.metadata.setattr, number, TIMES, None)
            await trio.testing.wait_all_tasks_blocked()
            await fs.files.write(second, 10, b"more")
        await trio.testing.wait_all_tasks_blocked()
        assert share.count("set_basic") == 1
