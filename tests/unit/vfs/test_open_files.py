"""Open files: reading, writing, sizes, times and errors."""

from __future__ import annotations

import errno
import os

import pytest
import trio
import trio.testing

from engine import Disposition, FileAttributes, ntstatus
from smbmount.vfs.attributes import AttributeChanges
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.writebehind import DWELL
from tests.fakes.share import FakeShare
from tests.unit.vfs.support import ROOT, create, lookup, mounted, open_file, refused, virtual_time

MIB = 1 << 20
READONLY = int(FileAttributes.READONLY)


@virtual_time
async def test_create_write_close_costs_two_round_trips() -> None:
    async with mounted() as (share, fs):
        handle, _ = await create(fs, "a")
        await fs.files.write(handle, 0, b"data")
        await fs.files.flush(handle)
        await fs.files.release(handle)
        assert share.count() - share.count("close_and_tell") == 2, "nobody waits for the close"
        assert bytes(share.find("a").data) == b"data"


@virtual_time
async def test_open_read_close_of_a_small_file_costs_one_round_trip() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        share.calls.clear()
        opened = await fs.files.open(number, os.O_RDONLY)
        assert bytes(await fs.files.read(opened.number, 0, 4096)) == b"data"
        await fs.files.flush(opened.number)
        await fs.files.release(opened.number)
        assert share.count() == 1


@virtual_time
async def test_excl_and_plain_creation_of_what_exists() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        with refused(errno.EEXIST):
            await create(fs, "a", os.O_RDWR | os.O_EXCL)
        handle, _ = await create(fs, "a")
        assert bytes(await fs.files.read(handle, 0, 10)) == b"data"
        truncated, number = await create(fs, "a", os.O_RDWR | os.O_TRUNC)
        assert bytes(await fs.files.read(truncated, 0, 10)) == b""
        assert (await fs.metadata.getattr(number)).size == 0


@virtual_time
async def test_truncating_open_looks_first_which_file_it_is() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        share.calls.clear()
        await fs.files.open(number, os.O_WRONLY | os.O_TRUNC)
        assert [call.operation for call in share.calls] == ["open", "truncate"]
        assert (await fs.metadata.getattr(number)).size == 0


@pytest.mark.parametrize("special", ["hidden", "extended attributes", "hidden since"])
@virtual_time
async def test_truncating_open_keeps_what_overwriting_would_lose(special: str) -> None:
    async with mounted() as (share, fs):
        node = share.put("a", b"data")
        if special == "hidden":
            node.attributes |= int(FileAttributes.HIDDEN)
        elif special == "extended attributes":
            node.eas["x"] = b"1"
        number = (await lookup(fs, "a")).number
        if special == "hidden since":
            node.attributes |= int(FileAttributes.HIDDEN)
        before = (node.attributes, dict(node.eas))
        await fs.files.open(number, os.O_WRONLY | os.O_TRUNC)
        assert not node.data
        assert (node.attributes, node.eas) == before


@virtual_time
async def test_a_file_replaced_elsewhere_is_not_opened_under_its_old_inode() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        old = (await lookup(fs, "a")).number
        share.put("a", b"new")
        with refused(errno.ESTALE):
            await fs.files.open(old, os.O_RDONLY)
        assert bytes(await fs.files.read(await open_file(fs, "a"), 0, 10)) == b"new"
        assert all(not file.closed for file in share.find("a").opens)


@virtual_time
async def test_a_file_deleted_elsewhere_is_stale_at_open() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        number = (await lookup(fs, "a")).number
        share.remove("a")
        with refused(errno.ESTALE):
            await fs.files.open(number, os.O_RDONLY)


@virtual_time
async def test_a_new_file_without_write_bits_is_read_only_but_can_be_filled() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "a", mode=0o444)
        await fs.files.write(handle, 0, b"data")
        await fs.files.flush(handle)
        assert share.find("a").attributes & READONLY
        assert (await fs.metadata.getattr(number)).mode & 0o222 == 0
        with refused(errno.EACCES):
            await fs.files.open(number, os.O_WRONLY)


@virtual_time
async def test_unwritten_data_is_read_back_and_counted() -> None:
    async with mounted() as (_share, fs):
        handle, number = await create(fs, "a")
        await fs.files.write(handle, 10, b"data")
        assert bytes(await fs.files.read(handle, 0, 100)) == bytes(10) + b"data"
        await fs.files.write(handle, 14, b"more")
        assert (await lookup(fs, "a")).size == 18
        assert (await fs.metadata.getattr(number)).size == 18


@virtual_time
async def test_reading_what_is_written_does_not_wait_for_what_is_not() -> None:
    async with mounted() as (share, fs):
        share.put("a", bytes(MIB))
        handle = await open_file(fs, "a")
        with share.hold("write_at"):
            await fs.files.write(handle, MIB // 2, bytes(MIB))
            with trio.fail_after(1):
                assert len(await fs.files.read(handle, 0, 4096)) == 4096


@virtual_time
async def test_what_was_fetched_ahead_is_dropped_when_the_file_changed_elsewhere() -> None:
    async with mounted() as (share, fs):
        node = share.put("a", b"old")
        handle = await open_file(fs, "a")
        assert bytes(await fs.files.read(handle, 0, 10)) == b"old"
        node.data[:] = b"new"
        node.written = share.tick()
        await trio.sleep(2)
        await fs.metadata.getattr(fs.core.inodes.root.children[b"a"].number)
        assert bytes(await fs.files.read(handle, 0, 10)) == b"new"


@virtual_time
async def test_nothing_is_fetched_ahead_that_is_about_to_be_written() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"a" * MIB)
        handle = await open_file(fs, "a")
        with share.hold("write_at"):
            await fs.files.write(handle, 192 << 10, b"b" * 4096)
            for position in range(0, 128 << 10, 32 << 10):
                await fs.files.read(handle, position, 32 << 10)
        await trio.sleep(1)
        assert bytes(await fs.files.read(handle, 192 << 10, 4096)) == b"b" * 4096


@virtual_time
async def test_a_hole_before_unwritten_data_reads_as_zeros() -> None:
    async with mounted() as (_share, fs):
        handle, _ = await create(fs, "a")
        await fs.files.write(handle, 3 * MIB, b"end")
        assert bytes(await fs.files.read(handle, MIB, 4096)) == bytes(4096)


@virtual_time
async def test_far_offsets_are_exact() -> None:
    async with mounted() as (share, fs):
        handle, _ = await create(fs, "a")
        share.fail_next("write_at", ntstatus.STATUS_DISK_FULL)
        await fs.files.write(handle, (1 << 63) - 2, b"x")
        with refused(errno.ENOSPC):
            await fs.files.fsync(handle)
        assert share.calls[-1] == ("write_at", ("a", (1 << 63) - 2, 1))


@virtual_time
async def test_what_is_held_goes_when_programs_have_closed_everything() -> None:
    async with mounted() as (share, fs):
        share.put("read", b"-" * 1_000_000)
        reader, writer = await open_file(fs, "read", os.O_RDONLY), (await create(fs, "written"))[0]
        await fs.files.read(reader, 0, 100_000)
        await fs.files.write(writer, 0, b"data")
        held = fs.held()
        assert held["open_files"] == 2
        assert held["dirty_bytes"] == 4
        assert held["fetched_bytes"] > 0
        for handle in (reader, writer):
            await fs.files.flush(handle)
            await fs.files.release(handle)
        await trio.sleep(20)
        assert not any(fs.held().values())


@virtual_time
async def test_two_appenders_of_one_mount_never_overwrite_each_other() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"head ")
        one = await open_file(fs, "a", os.O_WRONLY | os.O_APPEND)
        two = await open_file(fs, "a", os.O_WRONLY | os.O_APPEND)
        for handle, offset, data in ((one, 5, b"one "), (two, 9, b"two "), (one, 13, b"three")):
            await fs.files.write(handle, offset, data)
        await fs.files.fsync(one)
        assert bytes(share.find("a").data) == b"head one two three"


@virtual_time
async def test_an_appender_sees_what_another_client_appended() -> None:
    async with mounted() as (share, fs):
        node = share.put("a", b"ours ")
        handle = await open_file(fs, "a", os.O_WRONLY | os.O_APPEND)
        node.data += b"theirs "
        await trio.sleep(1.1)
        await fs.files.write(handle, 5, b"ours")
        await fs.files.flush(handle)
        assert bytes(node.data) == b"ours theirs ours"


@virtual_time
@pytest.mark.parametrize("mapped_through", ["itself", "another"])
async def test_a_page_of_a_memory_map_is_written_in_its_place_through_an_appender(
    mapped_through: str,
) -> None:
    """The kernel writes it through any file that is open for writing."""
    async with mounted() as (share, fs):
        node = share.put("a", b"-" * 10_000)
        flags = os.O_RDWR if mapped_through == "itself" else os.O_WRONLY
        appender = await open_file(fs, "a", flags | os.O_APPEND)
        if mapped_through == "another":
            await open_file(fs, "a", os.O_RDWR)
        await fs.files.write(appender, 10_000, b"end")
        await fs.files.write(appender, 8192, b"page")
        await fs.files.write(appender, 10_003, b"!")
        await fs.files.flush(appender)
        assert bytes(node.data) == b"-" * 8192 + b"page" + b"-" * 1804 + b"end!"


@virtual_time
async def test_what_is_appended_where_the_kernel_knows_less_of_the_file_is_appended() -> None:
    """Another client appended a page's worth meanwhile, which the kernel was not told."""
    async with mounted() as (share, fs):
        node = share.put("a", b"-" * 4096)
        handle = await open_file(fs, "a", os.O_RDWR | os.O_APPEND)
        node.data += b"+" * 4096
        await trio.sleep(1.1)
        await fs.files.write(handle, 4096, b"ours")
        await fs.files.flush(handle)
        assert bytes(node.data) == b"-" * 4096 + b"+" * 4096 + b"ours"


@virtual_time
async def test_who_only_writes_bypasses_the_kernels_pages() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        number = (await lookup(fs, "a")).number
        assert (await fs.files.open(number, os.O_WRONLY | os.O_APPEND)).direct_io
        assert (await fs.files.open(number, os.O_WRONLY)).direct_io
        assert not (await fs.files.open(number, os.O_RDWR)).direct_io
        assert not (await fs.files.open(number, os.O_RDWR | os.O_APPEND)).direct_io


@virtual_time
async def test_a_write_error_is_told_once_to_the_file_that_wrote() -> None:
    async with mounted() as (share, fs):
        handle, _ = await create(fs, "a")
        other = await open_file(fs, "a")
        share.fail_next("write_at", ntstatus.STATUS_DISK_FULL)
        await fs.files.write(handle, 0, b"lost")
        await trio.sleep(DWELL * 2)
        await fs.files.flush(other)
        with refused(errno.ENOSPC):
            await fs.files.write(handle, 4, b"more")
        await fs.files.flush(handle)
        assert share.count("write_at") == 1


class SlowBehindTheStart(FakeShare):
    """Writes at the start of a file are answered at once, others after a second."""

    async def enter(self, operation: str, *arguments: object) -> None:
        if operation == "write_at" and arguments[1] != 0:
            await trio.sleep(1)
        await super().enter(operation, *arguments)


@virtual_time
async def test_an_error_is_told_for_all_that_was_written_before() -> None:
    async with mounted(SlowBehindTheStart()) as (share, fs):
        handle, _ = await create(fs, "a")
        share.fail_next("write_at", ntstatus.STATUS_DISK_FULL, times=2)
        await fs.files.write(handle, 0, bytes(MIB))
        await fs.files.write(handle, MIB, bytes(MIB))
        await trio.sleep(0.5)
        with refused(errno.ENOSPC):
            await fs.files.write(handle, 2 * MIB, bytes(MIB))
        assert share.count("write_at") == 2
        await fs.files.flush(handle)


@pytest.mark.parametrize("report", ["flush", "fsync"])
@virtual_time
async def test_a_full_disk_is_told_at_the_latest_at_close(report: str) -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "a")
        share.fail_next("write_at", ntstatus.STATUS_DISK_FULL)
        await fs.files.write(handle, 0, b"lost")
        with refused(errno.ENOSPC):
            await (fs.files.flush(handle) if report == "flush" else fs.files.fsync(handle))
        assert (await fs.metadata.getattr(number)).size == 0
        await fs.files.flush(handle)
        await fs.files.release(handle)


@pytest.mark.expected_warnings("data written to .* is lost")
@virtual_time
async def test_an_error_that_nobody_can_be_told_is_logged() -> None:
    async with mounted() as (share, fs):
        handle, _ = await create(fs, "a")
        share.fail_next("write_at", ntstatus.STATUS_DISK_FULL)
        await fs.files.write(handle, 0, b"lost")
        await fs.files.release(handle)


@virtual_time
async def test_fsync_reaches_the_servers_disk() -> None:
    async with mounted() as (share, fs):
        handle, _ = await create(fs, "a")
        await fs.files.write(handle, 0, b"data")
        await fs.files.fsync(handle)
        assert [call.operation for call in share.calls[-2:]] == ["write_at", "flush"]
        reader = await open_file(fs, "a", os.O_RDONLY)
        await fs.files.write(handle, 0, b"DATA")
        await fs.files.fsync(reader)
        assert [call.operation for call in share.calls[-2:]] == ["write_at", "flush"]


@virtual_time
async def test_fsync_of_a_file_that_is_open_for_reading_reaches_the_servers_disk() -> None:
    async with mounted() as (share, fs):
        node = share.put("a", b"data")
        reader = await open_file(fs, "a", os.O_RDONLY)
        share.calls.clear()
        await fs.files.fsync(reader)
        assert [call.operation for call in share.calls] == ["open", "flush"]
        assert len(node.opens) == 1
        node.attributes |= READONLY
        with refused(errno.EACCES):
            await fs.files.fsync(reader)
        share.put("a", b"innocent")
        share.calls.clear()
        await fs.files.fsync(reader)
        assert [call.operation for call in share.calls] == ["open"]


@virtual_time
async def test_fsync_of_an_unlinked_file_that_is_open_for_reading_asks_nothing() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        reader = await open_file(fs, "a", os.O_RDONLY)
        await fs.names.unlink(ROOT, b"a")
        share.calls.clear()
        await fs.files.fsync(reader)
        assert share.count() == 0


@virtual_time
async def test_a_reader_does_not_see_old_data_after_a_write() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"a" * MIB)
        reader = await open_file(fs, "a", os.O_RDONLY)
        writer = await open_file(fs, "a", os.O_WRONLY)
        await fs.files.read(reader, 0, 4096)
        await fs.files.write(writer, 8192, b"b" * 4096)
        assert bytes(await fs.files.read(reader, 8192, 4096)) == b"b" * 4096


@virtual_time
async def test_truncate_up_and_down_by_handle_and_by_name() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "a")
        await fs.files.write(handle, 0, b"12345678")
        changed = await fs.metadata.setattr(number, AttributeChanges(size=3), handle)
        assert changed.size == 3
        await fs.metadata.setattr(number, AttributeChanges(size=5), None)
        assert bytes(await fs.files.read(handle, 0, 10)) == b"123\0\0"
        await fs.files.release(handle)
        await fs.metadata.setattr(number, AttributeChanges(size=1), None)
        assert bytes(share.find("a").data) == b"1"
        assert (await fs.metadata.getattr(number)).size == 1


@virtual_time
async def test_times_set_after_writing_stay() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "a")
        await fs.files.write(handle, 0, b"data")
        changed = await fs.metadata.setattr(
            number, AttributeChanges(access_ns=123_456_789_012, write_ns=987_654_321_099), None
        )
        assert (changed.access_ns, changed.write_ns) == (123_456_789_000, 987_654_321_000)
        assert [call.operation for call in share.calls] == ["open", "write_and_set_basic"]
        await fs.files.flush(handle)
        await fs.files.release(handle)
        assert share.find("a").written == 987_654_321_000
        assert (await fs.metadata.getattr(number)).write_ns == 987_654_321_000
        assert share.count() - share.count("close_and_tell") == 2


@virtual_time
async def test_times_set_while_a_writer_is_being_closed_stay() -> None:
    """The kernel does not wait for the last close; a server sets the time of writing with it."""
    async with mounted() as (share, fs), trio.open_nursery() as nursery:
        handle, number = await create(fs, "a")
        await fs.files.write(handle, 0, b"data")
        await fs.files.flush(handle)
        with share.hold("close_and_tell"):
            nursery.start_soon(fs.files.release, handle)
            await trio.testing.wait_all_tasks_blocked()
            changes = AttributeChanges(write_ns=987_654_321_000)
            nursery.start_soon(fs.metadata.setattr, number, changes, None)
            await trio.testing.wait_all_tasks_blocked()
            assert share.count("set_basic") == 0
        await trio.testing.wait_all_tasks_blocked()
        assert share.find("a").written == 987_654_321_000


@virtual_time
async def test_attributes_asked_for_while_a_writer_is_being_closed_are_final() -> None:
    async with mounted() as (share, fs), trio.open_nursery() as nursery:
        handle, number = await create(fs, "a")
        await fs.files.write(handle, 0, b"data")
        await fs.files.flush(handle)
        shown: list[int] = []

        async def look() -> None:
            shown.append((await fs.metadata.getattr(number)).write_ns)
            shown.append((await lookup(fs, "a")).write_ns)

        with share.hold("close_and_tell"):
            nursery.start_soon(fs.files.release, handle)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        assert shown == [share.find("a").written] * 2
        assert share.count("stat", "query") == 0, "the close has told them"


@virtual_time
async def test_attributes_after_writing_are_the_servers() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "a")
        before = (await fs.metadata.getattr(number)).write_ns
        await fs.files.write(handle, 0, b"data")
        after = await fs.metadata.getattr(number)
        assert after.write_ns > before
        assert share.find("a").written == after.write_ns


@virtual_time
async def test_a_refresh_that_a_write_overtakes_does_not_take_the_size_back() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "a")
        await trio.sleep(2)
        async with trio.open_nursery() as nursery:
            with share.hold("query"):
                nursery.start_soon(fs.metadata.getattr, number)
                await trio.testing.wait_all_tasks_blocked()
                await fs.files.write(handle, 0, b"data")
        assert fs.core.inodes[number].stat.size == 4


@virtual_time
async def test_cache_none_reads_and_writes_through() -> None:
    async with mounted(config=FileSystemConfig(cache="none")) as (share, fs):
        opened, _ = await fs.files.create(ROOT, b"a", 0o644, os.O_RDWR)
        assert opened.direct_io
        await fs.files.write(opened.number, 0, b"data")
        assert bytes(share.find("a").data) == b"data"
        share.fail_next("write_at", ntstatus.STATUS_DISK_FULL)
        with refused(errno.ENOSPC):
            await fs.files.write(opened.number, 4, b"more")
        assert bytes(await fs.files.read(opened.number, 0, 10)) == b"data"
        appender = await open_file(fs, "a", os.O_WRONLY | os.O_APPEND)
        await fs.files.write(appender, 0, b"!")
        assert bytes(share.find("a").data) == b"data!"


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_WRONLY | os.O_DIRECT])
@pytest.mark.parametrize("sync", [os.O_SYNC, os.O_DSYNC])
@virtual_time
async def test_a_synchronous_write_is_on_the_servers_disk_when_it_returns(flags: int, sync: int) -> None:
    async with mounted() as (share, fs):
        handle, _ = await create(fs, "a", flags | sync)
        share.calls.clear()
        await fs.files.write(handle, 0, b"data")
        assert [call.operation for call in share.calls] == ["write_at", "flush"]
        share.fail_next("write_at", ntstatus.STATUS_DISK_FULL)
        with refused(errno.ENOSPC):
            await fs.files.write(handle, 4, b"more")
        share.fail_next("flush", ntstatus.STATUS_DISK_FULL)
        with refused(errno.ENOSPC):
            await fs.files.write(handle, 4, b"more")
        await fs.files.flush(handle)


@virtual_time
async def test_an_o_direct_open_reads_and_writes_through() -> None:
    async with mounted() as (share, fs):
        share.put("a", bytes(1 << 20))
        handle = await open_file(fs, "a", os.O_RDWR | os.O_DIRECT)
        share.calls.clear()
        for offset in range(0, 64 << 10, 4096):
            await fs.files.read(handle, offset, 4096)
        assert [call.arguments[1:] for call in share.calls] == [
            (offset, 4096) for offset in range(0, 64 << 10, 4096)
        ]
        await fs.files.write(handle, 0, b"data")
        assert bytes(share.find("a").data[:4]) == b"data"
        share.fail_next("write_at", ntstatus.STATUS_DISK_FULL)
        with refused(errno.ENOSPC):
            await fs.files.write(handle, 4, b"more")
        await fs.files.flush(handle)


@virtual_time
async def test_an_o_direct_open_and_others_see_each_others_writes_in_order() -> None:
    async with mounted() as (share, fs):
        share.put("a", bytes(100))
        usual = await open_file(fs, "a")
        direct = await open_file(fs, "a", os.O_RDWR | os.O_DIRECT)
        assert bytes(await fs.files.read(usual, 0, 100)) == bytes(100)
        await fs.files.write(usual, 0, b"1" * 60)
        assert bytes(await fs.files.read(direct, 0, 100)) == b"1" * 60 + bytes(40)
        await fs.files.write(usual, 10, b"2" * 20)
        await fs.files.write(direct, 20, b"3" * 20)
        expected = b"1" * 10 + b"2" * 10 + b"3" * 20 + b"1" * 20 + bytes(40)
        assert bytes(share.find("a").data) == expected
        assert bytes(await fs.files.read(usual, 0, 100)) == expected


@virtual_time
async def test_handles_that_do_not_exist_are_refused() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        handle = await open_file(fs, "a", os.O_RDONLY)
        with refused(errno.EBADF):
            await fs.files.write(handle, 0, b"x")
        await fs.files.release(handle)
        with refused(errno.EBADF):
            await fs.files.read(handle, 0, 1)
        with refused(errno.EISDIR):
            await fs.files.open(ROOT, os.O_RDONLY)


@virtual_time
async def test_open_asks_for_no_more_rights_than_needed() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        number = (await lookup(fs, "a")).number
        for flags, readable, writable in (
            (os.O_RDONLY, True, False),
            (os.O_WRONLY, False, True),
            (os.O_RDWR, True, True),
        ):
            opened = await fs.files.open(number, flags)
            access = share.find("a").opens[-1].access
            assert (bool(access & 1), bool(access & 2)) == (readable, writable)
            await fs.files.release(opened.number)
        assert ("open", ("a", Disposition.OPEN)) in share.calls


@virtual_time
async def test_shutdown_writes_everything_and_closes_everything() -> None:
    async with mounted() as (share, fs):
        for name in "abc":
            handle, _ = await create(fs, name)
            await fs.files.write(handle, 0, name.encode())
        await fs.shutdown()
        assert [bytes(share.find(name).data) for name in "abc"] == [b"a", b"b", b"c"]
        assert all(not share.find(name).opens for name in "abc")


@virtual_time
async def test_shutdown_tells_of_lost_data_after_saving_the_rest() -> None:
    async with mounted() as (share, fs):
        first, _ = await create(fs, "a")
        await fs.files.write(first, 0, b"lost")
        share.fail_next("write_at", ntstatus.STATUS_DISK_FULL)
        await trio.sleep(DWELL * 2)
        second, _ = await create(fs, "b")
        await fs.files.write(second, 0, b"kept")
        with refused(errno.ENOSPC):
            await fs.shutdown()
        assert bytes(share.find("b").data) == b"kept"


@virtual_time
async def test_truncating_open_keeps_an_extended_attribute_that_was_just_set() -> None:
    async with mounted() as (share, fs):
        node = share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await fs.xattrs.set(number, b"user.x", b"1")
        await fs.files.open(number, os.O_WRONLY | os.O_TRUNC)
        assert not node.data
        assert node.eas == {"x": b"1"}


@virtual_time
async def test_an_appending_write_through_that_failed_leaves_no_hole() -> None:
    async with mounted(config=FileSystemConfig(cache="none")) as (share, fs):
        share.put("a", b"data")
        handle = await open_file(fs, "a", os.O_WRONLY | os.O_APPEND)
        share.fail_next("write_at", ntstatus.STATUS_DISK_FULL)
        with refused(errno.ENOSPC):
            await fs.files.write(handle, 0, b"lost")
        await fs.files.write(handle, 0, b"more")
        assert bytes(share.find("a").data) == b"datamore"


@virtual_time
async def test_data_still_goes_out_after_a_release_that_was_given_up() -> None:
    async with mounted() as (share, fs):
        handle, _ = await create(fs, "a")
        with share.hold("write_at"):
            await fs.files.write(handle, 0, b"old ")
            await fs.files.write(handle, 0, b"newer")
            with trio.move_on_after(60) as scope:
                await fs.files.release(handle)
            assert scope.cancelled_caught
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        assert bytes(share.find("a").data) == b"newer"
        assert not share.find("a").opens


@virtual_time
async def test_shutdown_waits_for_releases_that_were_given_up_and_tells_of_their_errors() -> None:
    async with mounted() as (share, fs):
        handle, _ = await create(fs, "a")
        with share.hold("write_at"):
            await fs.files.write(handle, 0, b"old ")
            await fs.files.write(handle, 0, b"newer")
            with trio.move_on_after(5):
                await fs.files.release(handle)
        share.fail_next("write_at", ntstatus.STATUS_DISK_FULL)
        with refused(errno.ENOSPC):
            await fs.shutdown()
        assert bytes(share.find("a").data) == b"newer"
