"""What is kept because the server vouches for it, and what happens when it stops."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
import trio
import trio.testing

from engine import FileAttributes, LeaseState
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.filesystem import FileSystem
from smbmount.vfs.idle import MAX_IDLE
from tests.fakes.share import FakeShare
from tests.fakes.share_files import FakeFile
from tests.support.substitute import substitute
from tests.unit.vfs.support import ROOT, FakeKernel, create, lookup, mounted, open_file, refused, virtual_time

READ, HANDLE, WRITE = (
    int(LeaseState.READ_CACHING),
    int(LeaseState.HANDLE_CACHING),
    int(LeaseState.WRITE_CACHING),
)


def leasing() -> FakeShare:
    """A share whose server vouches for files."""
    return FakeShare(supports_leases=True)


async def read_whole(fs: FileSystem, number: int) -> tuple[bytes, bool]:
    """Open, read and close a file; its content, and whether the kernel was let keep its pages."""
    opened = await fs.files.open(number, os.O_RDONLY)
    content = bytes(await fs.files.read(opened.number, 0, 1 << 17))
    await fs.files.flush(opened.number)
    await fs.files.release(opened.number)
    return content, opened.keep_cache


@virtual_time
async def test_the_same_again_under_a_lease_costs_the_question_for_the_name() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        share.calls.clear()
        assert await read_whole(fs, number) == (b"data", False)
        assert share.count() == 1
        await trio.sleep(9)
        assert await read_whole(fs, number) == (b"data", True)
        assert (await fs.metadata.getattr(number)).size == 4
        assert share.count("stat") == share.count() - 1 == 1


@virtual_time
async def test_the_same_again_with_loose_caching_costs_nothing() -> None:
    config = FileSystemConfig(cache="loose", attribute_timeout_file=60)
    async with mounted(leasing(), config) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        share.calls.clear()
        for _ in range(3):
            assert (await read_whole(fs, number))[0] == b"data"
        assert share.count() == 1


@virtual_time
async def test_a_file_replaced_without_a_break_is_seen_at_the_next_open() -> None:
    """Samba lets a file be replaced by a rename, and breaks no lease for it."""
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await read_whole(fs, number)
        share.put("a", b"successor")
        with refused(errno.ESTALE):
            await fs.files.open(number, os.O_RDONLY)
        assert (await read_whole(fs, (await lookup(fs, "a")).number))[0] == b"successor"


@virtual_time
async def test_a_file_removed_without_a_break_is_missed_at_the_next_open() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await read_whole(fs, number)
        share.remove("a")
        with refused(errno.ESTALE):
            await fs.files.open(number, os.O_RDONLY)


@virtual_time
async def test_what_others_have_open_too_is_not_kept_open() -> None:
    """Samba would keep the name of a file that another client deletes until we close it."""
    async with mounted(leasing()) as (share, fs):
        node = share.put("a", b"data")
        other = share.open_elsewhere("a")
        await read_whole(fs, (await lookup(fs, "a")).number)
        assert node.opens == [other]


@virtual_time
async def test_without_a_lease_every_open_asks() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        share.calls.clear()
        for _ in range(3):
            assert await read_whole(fs, number) == (b"data", False)
        assert share.count("open") == 3
        assert not share.find("a").opens


@virtual_time
async def test_a_closed_file_is_kept_for_the_close_timeout() -> None:
    config = FileSystemConfig(close_timeout=5.0)
    async with mounted(leasing(), config) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await read_whole(fs, number)
        await trio.sleep(4.9)
        assert len(share.find("a").opens) == 1
        await trio.sleep(0.2)
        assert not share.find("a").opens
        assert await read_whole(fs, number) == (b"data", False)


@virtual_time
async def test_a_close_timeout_of_zero_keeps_nothing() -> None:
    async with mounted(leasing(), FileSystemConfig(close_timeout=0)) as (share, fs):
        share.put("a", b"data")
        await read_whole(fs, (await lookup(fs, "a")).number)
        assert not share.find("a").opens


@virtual_time
async def test_idle_handles_are_bounded_and_the_oldest_go_first() -> None:
    async with mounted(leasing()) as (share, fs):
        for index in range(MAX_IDLE + 3):
            share.put(f"f{index}", b"x")
        for index in range(MAX_IDLE + 3):
            await read_whole(fs, (await lookup(fs, f"f{index}")).number)
        assert len(fs.core.idle) == MAX_IDLE
        assert not share.find("f2").opens
        assert share.find("f3").opens


@virtual_time
async def test_an_idle_handle_that_may_only_read_is_not_written_through() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await read_whole(fs, number)
        handle = (await fs.files.open(number, os.O_RDWR)).number
        await fs.files.write(handle, 0, b"DATA")
        await fs.files.fsync(handle)
        assert bytes(share.find("a").data) == b"DATA"
        assert (await read_whole(fs, number))[0] == b"DATA"


@virtual_time
@pytest.mark.parametrize("left", [READ | HANDLE, READ, 0])
async def test_any_break_closes_what_is_idle_at_once(left: int) -> None:
    async with mounted(leasing()) as (share, fs):
        node = share.put("a", b"data")
        await read_whole(fs, (await lookup(fs, "a")).number)
        lease = share.break_lease("a", left)
        assert not node.opens, "before anything is waited for"
        await trio.testing.wait_all_tasks_blocked()
        assert lease.acknowledged == [0]


@virtual_time
async def test_a_break_writes_dirty_data_then_forgets_pages_then_acknowledges() -> None:
    kernel = FakeKernel()
    async with mounted(leasing(), kernel=kernel) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        handle = (await fs.files.open(number, os.O_RDWR)).number
        await fs.files.write(handle, 0, b"DA")
        kernel.gate = trio.Event()
        with share.hold("write_at"):
            lease = share.break_lease("a", 0)
            await trio.testing.wait_all_tasks_blocked()
            assert lease.acknowledged == []
        await trio.testing.wait_all_tasks_blocked()
        assert bytes(share.find("a").data) == b"DAta"
        assert lease.acknowledged == [], "the kernel still has pages"
        kernel.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert kernel.forgotten == [(number, True)]
        assert lease.acknowledged == [0]


@virtual_time
async def test_a_second_break_while_the_first_is_obeyed_is_obeyed_before_either_is_acknowledged() -> None:
    kernel = FakeKernel()
    async with mounted(leasing(), kernel=kernel) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        handle = (await fs.files.open(number, os.O_RDWR)).number
        await fs.files.write(handle, 0, b"DA")
        kernel.gate = trio.Event()
        with share.hold("write_at"):
            lease = share.break_lease("a", READ | HANDLE)
            await trio.testing.wait_all_tasks_blocked()
            share.break_lease("a", 0)
            lease.owed = True
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        assert lease.acknowledged == [], "the kernel still has pages"
        kernel.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert kernel.forgotten
        assert lease.acknowledged == [0]


@pytest.mark.parametrize("lost", ["before the break", "before another break"])
@virtual_time
async def test_a_break_does_not_wait_for_data_of_a_file_that_is_not_open_again_yet(lost: str) -> None:
    """That file's own open can be what breaks the lease: by another of its names it has none."""
    kernel = FakeKernel()
    async with mounted(leasing(), kernel=kernel) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        handle = (await fs.files.open(number, os.O_RDWR)).number
        [file] = share.find("a").opens
        with share.hold("write_at"):
            await fs.files.write(handle, 0, b"DA")
            if lost == "before another break":
                lease = share.break_lease("a", READ | HANDLE)
                lease.owed = False
                await trio.testing.wait_all_tasks_blocked()
            file.is_here = False
            lease = share.break_lease("a", 0)
            lease.owed = True
            await trio.testing.wait_all_tasks_blocked()
            assert lease.acknowledged == [0]
            assert kernel.forgotten == [(number, True)]
        await fs.files.flush(handle)
        assert bytes(share.find("a").data) == b"DAta"


@virtual_time
async def test_a_break_does_not_wait_for_a_read_of_a_file_that_is_not_open_again_yet() -> None:
    """The kernel keeps them until the read is done, which waits for the file, which waits for the break."""
    kernel = FakeKernel()
    async with mounted(leasing(), kernel=kernel) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await open_file(fs, "a")
        [file] = share.find("a").opens
        kernel.gate = trio.Event()
        file.is_here = False
        for _ in range(3):
            lease = share.break_lease("a", 0)
            lease.owed = True
            await trio.testing.wait_all_tasks_blocked()
            assert lease.acknowledged[-1:] == [0]
            assert not lease.owed
        kernel.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert kernel.forgotten == [(number, True)] * 2


@pytest.mark.expected_warnings("the lease went back late")
@virtual_time
async def test_a_break_has_its_time_also_if_one_of_a_lost_connection_is_being_obeyed() -> None:
    kernel = FakeKernel()
    async with mounted(leasing(), kernel=kernel) as (share, fs):
        share.put("a", b"data")
        await open_file(fs, "a")
        kernel.gate = trio.Event()
        lease = share.break_lease("a", 0)
        lease.owed = False
        await trio.sleep(60)
        lease.owed = True
        lease.on_break(lease)
        await trio.sleep(31)
        assert lease.acknowledged == [0]
        kernel.gate.set()


@pytest.mark.parametrize("blocked", ["invalidate", "acknowledge"])
@virtual_time
async def test_a_storm_of_breaks_takes_no_more_than_one_task(blocked: str) -> None:
    """Each could come from a server that means harm, or from somebody on the way: nothing signs them."""
    kernel = FakeKernel()
    async with mounted(leasing(), kernel=kernel) as (share, fs):
        share.put("a", b"data")
        await open_file(fs, "a")
        if blocked == "invalidate":
            kernel.gate = trio.Event()
        with share.hold("acknowledge"):
            for _ in range(3):
                lease = share.break_lease("a", 0)
                lease.owed = True
                await trio.testing.wait_all_tasks_blocked()
            before = trio.lowlevel.current_statistics().tasks_living
            for _ in range(500):
                share.break_lease("a", 0)
                lease.owed = True
            await trio.testing.wait_all_tasks_blocked()
            assert trio.lowlevel.current_statistics().tasks_living <= before + 2
            if kernel.gate is not None:
                kernel.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert not lease.owed


@virtual_time
async def test_what_was_changed_through_a_memory_map_is_on_the_server_before_the_acknowledgement() -> None:
    kernel = FakeKernel()
    async with mounted(leasing(), kernel=kernel) as (share, fs):
        share.put("a", b"data")
        handle = await open_file(fs, "a")
        kernel.write_out = lambda: fs.files.write(handle, 0, b"DATA")
        with share.hold("write_at"):
            lease = share.break_lease("a", 0)
            await trio.testing.wait_all_tasks_blocked()
            assert lease.acknowledged == []
        await trio.testing.wait_all_tasks_blocked()
        assert lease.acknowledged == [0]
        assert bytes(share.find("a").data) == b"DATA"


@virtual_time
async def test_a_break_of_write_caching_alone_leaves_the_pages() -> None:
    kernel = FakeKernel()
    async with mounted(leasing(), kernel=kernel) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        handle = (await fs.files.open(number, os.O_RDONLY)).number
        lease = share.break_lease("a", READ | HANDLE)
        await trio.testing.wait_all_tasks_blocked()
        assert lease.acknowledged == [READ | HANDLE]
        assert kernel.forgotten == []
        assert await read_whole(fs, number) == (b"data", True)
        await fs.files.release(handle)


@virtual_time
async def test_after_a_break_what_another_client_wrote_is_read() -> None:
    async with mounted(leasing()) as (share, fs):
        node = share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        handle = (await fs.files.open(number, os.O_RDONLY)).number
        assert bytes(await fs.files.read(handle, 0, 10)) == b"data"
        share.break_lease("a", 0)
        node.data[:] = b"other data"
        node.changed += 100
        assert (await fs.metadata.getattr(number)).size == 10
        assert bytes(await fs.files.read(handle, 0, 10)) == b"other data"
        assert await read_whole(fs, number) == (b"other data", False)


@virtual_time
async def test_a_break_between_two_opens_discards_the_kernels_pages() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await read_whole(fs, number)
        assert (await read_whole(fs, number))[1]
        share.break_lease("a", 0)
        assert not (await read_whole(fs, number))[1]
        assert (await read_whole(fs, number))[1], "the lease was granted anew"


@virtual_time
async def test_pages_are_not_kept_over_a_moment_without_a_handle() -> None:
    """The lease ends with the last close: what is granted after it says nothing of the time between."""
    async with mounted(leasing(), FileSystemConfig(close_timeout=1.0)) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await read_whole(fs, number)
        await trio.sleep(2)
        assert not (await read_whole(fs, number))[1]


@virtual_time
async def test_a_writer_around_the_pages_makes_them_worthless() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await read_whole(fs, number)
        handle = (await fs.files.open(number, os.O_WRONLY)).number
        await fs.files.write(handle, 0, b"DA")
        await fs.files.flush(handle)
        assert await read_whole(fs, number) == (b"DAta", False)
        await fs.files.release(handle)


@virtual_time
async def test_pages_that_another_open_file_read_before_the_lease_are_not_kept() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await fs.files.open(number, os.O_RDONLY)
        share.break_lease("a", 0)
        opened = [await fs.files.open(number, os.O_RDONLY) for _ in range(2)]
        assert [file.keep_cache for file in opened] == [False, False]


@virtual_time
async def test_a_change_on_the_server_itself_that_breaks_no_lease_is_seen_at_the_next_open() -> None:
    async with mounted(leasing()) as (share, fs):
        node = share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await read_whole(fs, number)
        node.data[:] = b"DATA"
        node.changed += 100
        assert await read_whole(fs, number) == (b"DATA", False)


@virtual_time
async def test_content_that_came_with_an_open_is_not_used_over_what_we_write() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        writer = (await fs.files.open(number, os.O_WRONLY)).number
        await fs.files.write(writer, 0, b"DA")
        reader = (await fs.files.open(number, os.O_RDONLY)).number
        await trio.sleep(1)
        await fs.metadata.getattr(number)
        assert bytes(await fs.files.read(reader, 0, 10)) == b"DAta"


@virtual_time
async def test_remove_rename_and_replace_close_what_is_idle_first() -> None:
    async with mounted(leasing()) as (share, fs):
        names = ("gone", "old", "source", "target")
        for name in names:
            share.put(name, b"data")
        for name in names:
            await read_whole(fs, (await lookup(fs, name)).number)
        share.calls.clear()
        await fs.names.unlink(ROOT, b"gone")
        await fs.renames.rename(ROOT, b"old", ROOT, b"new", 0)
        await fs.renames.rename(ROOT, b"source", ROOT, b"target", 0)
        assert share.count() == 3, "one round trip each"
        assert share.names() == ["new", "target"]


@virtual_time
async def test_a_folder_is_renamed_over_idle_handles_in_it() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("folder\\below\\a", b"data")
        share.put("elsewhere", b"data")
        for path in ("folder/below/a", "elsewhere"):
            await read_whole(fs, (await lookup(fs, path)).number)
        await fs.renames.rename(ROOT, b"folder", ROOT, b"renamed", 0)
        assert share.find("renamed\\below\\a").opens == []
        assert len(share.find("elsewhere").opens) == 1


@virtual_time
async def test_our_own_writes_are_read_back_under_a_lease() -> None:
    async with mounted(leasing()) as (_, fs):
        handle, number = await create(fs, "a")
        await fs.files.write(handle, 0, b"data")
        assert bytes(await fs.files.read(handle, 0, 10)) == b"data"
        await fs.files.flush(handle)
        await fs.files.release(handle)
        assert (await read_whole(fs, number))[0] == b"data"


@virtual_time
async def test_what_is_made_is_vouched_for() -> None:
    async with mounted(leasing()) as (share, fs):
        _, number = await create(fs, "a")
        share.calls.clear()
        await trio.sleep(20)
        assert (await fs.metadata.getattr(number)).size == 0
        assert share.count() == 0


@virtual_time
async def test_attributes_that_no_lease_covers_are_asked_for_in_the_end() -> None:
    """Another client may set times without breaking any lease."""
    async with mounted(leasing()) as (share, fs):
        node = share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await open_file(fs, "a", os.O_RDONLY)
        node.written += 10**9
        await trio.sleep(31)
        assert (await fs.metadata.getattr(number)).write_ns == node.written


@virtual_time
async def test_cache_none_asks_for_no_lease() -> None:
    config = FileSystemConfig(cache="none", attribute_timeout_file=0, attribute_timeout_directory=0)
    async with mounted(leasing(), config) as (share, fs):
        share.put("a", b"data")
        handle = await open_file(fs, "a", os.O_RDONLY)
        assert share.find("a").opens[0].lease is None
        await fs.files.release(handle)
        assert not share.find("a").opens


@virtual_time
async def test_cache_loose_keeps_pages_of_what_looks_unchanged() -> None:
    async with mounted(config=FileSystemConfig(cache="loose")) as (share, fs):
        node = share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        assert [(await read_whole(fs, number))[1] for _ in range(2)] == [False, True]
        node.data[:] = b"other"
        node.changed += 100
        assert await read_whole(fs, number) == (b"other", False)


@virtual_time
async def test_a_file_that_took_the_name_of_another_is_stale_not_wrong() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await read_whole(fs, number)
        share.break_lease("a", 0)
        share.put("a", b"successor")
        with refused(errno.ESTALE):
            await fs.files.open(number, os.O_RDONLY)
        assert (await read_whole(fs, (await lookup(fs, "a")).number))[0] == b"successor"


@virtual_time
async def test_a_break_for_a_file_that_is_being_made_is_acknowledged() -> None:
    async with mounted(leasing()) as (share, fs):
        with share.hold("open"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(create, fs, "a")
                await trio.testing.wait_all_tasks_blocked()
                lease = share.leases[-1]
                lease.owed = True
                lease.on_break(lease)
                await trio.testing.wait_all_tasks_blocked()
                assert lease.acknowledged == [0]
                nursery.cancel_scope.cancel()


@virtual_time
async def test_a_small_file_fetched_ahead_is_read_for_nothing() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        share.calls.clear()
        assert await fs.files.opening.fetch_ahead(fs.core.inodes[number])
        assert await read_whole(fs, number) == (b"data", False)
        assert share.count() == 1
        assert await fs.files.opening.fetch_ahead(fs.core.inodes[number])
        assert share.count() == 2, "the name alone was asked for"
        assert await read_whole(fs, number) == (b"data", True)
        assert share.count() == 2
        assert await read_whole(fs, number) == (b"data", True)
        assert share.count() == 3, "it serves one open"


@virtual_time
async def test_what_was_fetched_ahead_is_believed_no_longer_than_a_name() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await fs.files.opening.fetch_ahead(fs.core.inodes[number])
        share.put("a", b"successor")
        await trio.sleep(1.1)
        with refused(errno.ESTALE):
            await fs.files.open(number, os.O_RDONLY)


@virtual_time
async def test_content_that_came_with_an_open_is_not_used_after_a_break_that_overtook_it() -> None:
    kernel = FakeKernel()
    async with mounted(leasing(), kernel=kernel) as (share, fs), trio.open_nursery() as nursery:
        node = share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        node.written += 100
        kernel.gate = trio.Event()
        content: list[bytes] = []

        async def read() -> None:
            content.append((await read_whole(fs, number))[0])

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        share.break_lease("a", 0)
        node.data[:] = b"new!"
        kernel.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert content == [b"new!"]


@virtual_time
async def test_what_was_fetched_ahead_is_not_kept_if_it_was_written_meanwhile() -> None:
    async with mounted(leasing()) as (share, fs), trio.open_nursery() as nursery:
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        plain_open, opened, go_on = share.open, trio.Event(), trio.Event()

        async def slow_open(path: str, **others: Any) -> FakeFile:
            file = await plain_open(path, **others)
            opened.set()
            await go_on.wait()
            return file

        put_back = substitute(share.open)(slow_open)
        kept: list[bool] = []

        async def fetch() -> None:
            kept.append(await fs.files.opening.fetch_ahead(fs.core.inodes[number]))

        nursery.start_soon(fetch)
        await opened.wait()
        put_back()
        handle = (await fs.files.open(number, os.O_WRONLY)).number
        await fs.files.write(handle, 0, b"DATA")
        await fs.files.flush(handle)
        await fs.files.release(handle)
        go_on.set()
        await trio.testing.wait_all_tasks_blocked()
        assert kept == [False]
        assert (await read_whole(fs, number))[0] == b"DATA"


@virtual_time
async def test_what_was_fetched_ahead_is_not_used_after_a_break() -> None:
    async with mounted(leasing()) as (share, fs):
        node = share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await fs.files.opening.fetch_ahead(fs.core.inodes[number])
        share.break_lease("a", 0)
        node.data[:] = b"new!"
        assert (await read_whole(fs, number))[0] == b"new!"


@virtual_time
@pytest.mark.parametrize("supports_leases", [False, True])
async def test_large_empty_and_offline_files_are_not_fetched_ahead(supports_leases: bool) -> None:
    async with mounted(FakeShare(supports_leases=supports_leases)) as (share, fs):
        share.put("large", bytes(65537))
        share.put("empty")
        share.put("tape", b"data").attributes |= FileAttributes.OFFLINE
        for name in ("large", "empty", "tape"):
            inode = fs.core.inodes[(await lookup(fs, name)).number]
            assert not await fs.files.opening.fetch_ahead(inode)
        assert share.count("open") == 0


@virtual_time
async def test_fetching_ahead_without_a_lease_leaves_nothing_open() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        inode = fs.core.inodes[(await lookup(fs, "a")).number]
        assert not await fs.files.opening.fetch_ahead(inode)
        assert not share.find("a").opens


@virtual_time
async def test_shutdown_closes_what_is_idle() -> None:
    async with mounted(leasing()) as (share, fs):
        node = share.put("a", b"data")
        await read_whole(fs, (await lookup(fs, "a")).number)
        assert node.opens
        await fs.shutdown()
        assert not node.opens


@pytest.mark.parametrize("change", ["unlink", "rename"])
@virtual_time
async def test_a_file_that_is_closed_while_it_goes_is_not_kept_open(change: str) -> None:
    async with mounted(leasing()) as (share, fs), trio.open_nursery() as nursery:
        node = share.put("a", b"data")
        share.put("b", b"successor")
        await lookup(fs, "b")
        reader = await open_file(fs, "a", os.O_RDONLY)
        with share.hold(change):
            if change == "unlink":
                nursery.start_soon(fs.names.unlink, ROOT, b"a")
            else:
                nursery.start_soon(fs.renames.rename, ROOT, b"b", ROOT, b"a", 0)
            await trio.testing.wait_all_tasks_blocked()
            await fs.files.flush(reader)
            await fs.files.release(reader)
            assert node.opens
        await trio.testing.wait_all_tasks_blocked()
        assert not node.opens
