"""Attributes, modes, times, access, statfs and extended attributes."""

from __future__ import annotations

import errno
import os
import stat

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from engine import FileAttributes, FileStat, TransportError, ntstatus
from smbmount.vfs.attributes import AttributeChanges, blocks_of, shown_ns, size_of, storable_ns
from smbmount.vfs.config import FileSystemConfig
from tests.fakes.share import FakeShare
from tests.unit.vfs.support import (
    ROOT,
    create,
    list_folder,
    lookup,
    mounted,
    open_file,
    refused,
    virtual_time,
)

READONLY = int(FileAttributes.READONLY)


@virtual_time
async def test_modes_and_owner_are_the_configured_ones() -> None:
    config = FileSystemConfig(uid=7, gid=8, file_mode=0o640, dir_mode=0o750)
    async with mounted(config=config) as (share, fs):
        share.put("f")
        share.put_folder("d").attributes |= READONLY
        file, folder = await lookup(fs, "f"), await lookup(fs, "d")
        assert (file.mode, folder.mode) == (stat.S_IFREG | 0o640, stat.S_IFDIR | 0o750)
        assert (file.uid, file.gid) == (7, 8)


@virtual_time
async def test_the_write_bit_is_the_read_only_attribute() -> None:
    async with mounted() as (share, fs):
        node = share.put("f")
        node.attributes |= int(FileAttributes.HIDDEN)
        number = (await lookup(fs, "f")).number
        share.calls.clear()
        changed = await fs.metadata.setattr(number, AttributeChanges(mode=0o444), None)
        assert changed.mode & 0o777 == 0o555
        assert node.attributes & READONLY
        assert node.attributes & FileAttributes.HIDDEN
        changed = await fs.metadata.setattr(number, AttributeChanges(mode=0o600), None)
        assert changed.mode & 0o777 == 0o755
        assert not node.attributes & READONLY
        assert share.count() == 2


@virtual_time
async def test_an_attribute_can_be_cleared_to_nothing() -> None:
    async with mounted() as (share, fs):
        node = share.put("f")
        node.attributes = READONLY
        number = (await lookup(fs, "f")).number
        await fs.metadata.setattr(number, AttributeChanges(mode=0o644), None)
        assert node.attributes == 0


@virtual_time
async def test_what_cannot_be_stored_succeeds_and_costs_nothing() -> None:
    async with mounted() as (share, fs):
        share.put("f")
        share.put_folder("d")
        file, folder = (await lookup(fs, "f")).number, (await lookup(fs, "d")).number
        share.calls.clear()
        await fs.metadata.setattr(file, AttributeChanges(mode=0o4777), None)
        await fs.metadata.setattr(file, AttributeChanges(), None)
        await fs.metadata.setattr(folder, AttributeChanges(mode=0o555), None)
        assert share.count() == 0


@virtual_time
async def test_chmod_does_not_undo_what_another_client_set() -> None:
    async with mounted() as (share, fs):
        node = share.put("f")
        number = (await lookup(fs, "f")).number
        node.attributes |= int(FileAttributes.HIDDEN)
        await trio.sleep(2)
        await fs.metadata.setattr(number, AttributeChanges(mode=0o444), None)
        assert node.attributes & FileAttributes.HIDDEN


@virtual_time
async def test_folders_have_no_size() -> None:
    async with mounted() as (share, fs):
        share.put_folder("d")
        number = (await lookup(fs, "d")).number
        with refused(errno.EISDIR):
            await fs.metadata.setattr(number, AttributeChanges(size=0), None)


@virtual_time
async def test_attributes_are_asked_for_when_they_expire() -> None:
    async with mounted() as (share, fs):
        node = share.put("f", b"1")
        number = (await lookup(fs, "f")).number
        node.data += b"2"
        assert (await fs.metadata.getattr(number)).size == 1
        await trio.sleep(1.1)
        assert (await fs.metadata.getattr(number)).size == 2
        assert share.count() == 2


@virtual_time
async def test_without_attribute_caching_every_question_is_asked() -> None:
    config = FileSystemConfig(attribute_timeout_file=0, attribute_timeout_directory=0)
    async with mounted(config=config) as (share, fs):
        share.put("f")
        number = (await lookup(fs, "f")).number
        for _ in range(3):
            assert (await fs.metadata.getattr(number)).attribute_timeout == 0
        assert share.count() == 4


@virtual_time
async def test_a_folders_times_are_asked_for_after_a_change_in_it() -> None:
    async with mounted() as (_share, fs):
        before = await fs.metadata.getattr(ROOT)
        await fs.names.mkdir(ROOT, b"d")
        after = await fs.metadata.getattr(ROOT)
        assert after.write_ns > before.write_ns


@virtual_time
async def test_another_name_is_asked_when_one_was_removed_elsewhere() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"12")
        await share.link("a", "b")
        number = (await lookup(fs, "a")).number
        assert (await lookup(fs, "b")).number == number
        share.remove("b")
        await trio.sleep(2)
        assert (await fs.metadata.getattr(number)).size == 2


@given(st.integers())
def test_any_time_can_be_shown_and_stored(time_ns: int) -> None:
    assert -(1 << 63) < shown_ns(time_ns) // 10**9 < 1 << 63
    stored = storable_ns(time_ns)
    filetime = stored // 100 + 116_444_736_000_000_000
    assert 0 < filetime < 1 << 63
    assert storable_ns(stored) == stored


@pytest.mark.parametrize("time_ns", [0, 1, -1, 4_323_456_789_012_345_600, -11_644_473_599_000_000_000])
def test_usual_times_are_kept_to_100_ns(time_ns: int) -> None:
    assert storable_ns(time_ns) == time_ns // 100 * 100
    assert shown_ns(time_ns) == time_ns


def test_hostile_sizes_are_cut() -> None:
    info = FileStat((1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1, 0, 0, 0, 0, 0)
    assert size_of(stat.S_IFREG, info, None) == (1 << 63) - 1
    assert blocks_of(info) < 1 << 63


def test_blocks_are_the_allocation_but_small_files_are_no_holes() -> None:
    plain = FileStat(1, 5000, 8192, 0, 0, 0, 0, 0)
    resident = FileStat(1, 100, 0, 0, 0, 0, 0, 0)
    sparse = FileStat(1, 100, 0, int(FileAttributes.SPARSE_FILE), 0, 0, 0, 0)
    assert [blocks_of(info) for info in (plain, resident, sparse)] == [16, 1, 0]


@virtual_time
async def test_access_goes_by_the_mode_bits() -> None:
    config = FileSystemConfig(uid=1000, gid=100, file_mode=0o640)
    async with mounted(config=config) as (share, fs):
        share.put("f")
        number = (await lookup(fs, "f")).number
        before = share.count()
        for mask, uid, gid, allowed in (
            (os.R_OK | os.W_OK, 1000, 1, True),
            (os.W_OK, 1, 100, False),
            (os.R_OK, 1, 100, True),
            (os.R_OK, 1, 1, False),
            (os.R_OK | os.W_OK, 0, 0, True),
            (os.X_OK, 0, 0, False),
        ):
            assert await fs.metadata.access(number, mask, uid, gid) is allowed
        assert await fs.metadata.access(ROOT, os.X_OK, 0, 0)
        assert share.count() == before


@virtual_time
async def test_write_access_to_a_read_only_mount_is_refused() -> None:
    async with mounted(config=FileSystemConfig(read_only=True)) as (_share, fs):
        with refused(errno.EROFS):
            await fs.metadata.access(ROOT, os.W_OK, 0, 0)


@virtual_time
async def test_statfs_is_answered_from_its_cache() -> None:
    async with mounted() as (share, fs):
        first = await fs.metadata.statfs()
        assert (first.block_size, first.blocks, first.available_blocks) == (4096, 2000, 1000)
        share.free_units = 900
        assert await fs.metadata.statfs() == first
        assert share.count() == 1
        await trio.sleep(6)
        assert (await fs.metadata.statfs()).available_blocks == 900


@virtual_time
async def test_statfs_answers_while_the_server_is_silent() -> None:
    async with mounted() as (share, fs):
        first = await fs.metadata.statfs()
        await trio.sleep(6)
        with share.hold("volume_size"):
            with trio.fail_after(1):
                for _ in range(10):
                    assert await fs.metadata.statfs() == first
            assert share.count() == 2


@pytest.mark.parametrize(
    ("told", "shown"), [(0, 1), (1, 1), (1 << 32, (1 << 32) - 1), ((1 << 64) - 1, (1 << 32) - 1)]
)
@virtual_time
async def test_no_program_divides_by_a_block_size_of_zero(told: int, shown: int) -> None:
    async with mounted() as (share, fs):
        share.bytes_per_unit = told
        assert (await fs.metadata.statfs()).block_size == shown


@virtual_time
async def test_statfs_that_never_had_an_answer_fails() -> None:
    async with mounted() as (share, fs):
        share.fail_next("volume_size", TransportError("gone"))
        with refused(errno.EIO):
            await fs.metadata.statfs()
        assert (await fs.metadata.statfs()).blocks == 2000


@virtual_time
async def test_extended_attributes_are_kept_without_their_prefix() -> None:
    async with mounted() as (share, fs):
        node = share.put("f")
        number = (await lookup(fs, "f")).number
        await fs.xattrs.set(number, b"user.b", b"2")
        await fs.xattrs.set(number, b"user.a", b"1")
        assert node.eas == {"a": b"1", "b": b"2"}
        assert await fs.xattrs.list(number) == [b"user.a", b"user.b"]
        assert await fs.xattrs.get(number, b"user.A") == b"1"
        await fs.xattrs.remove(number, b"user.a")
        with refused(errno.ENODATA):
            await fs.xattrs.get(number, b"user.a")
        with refused(errno.ENODATA):
            await fs.xattrs.remove(number, b"user.a")


@virtual_time
async def test_extended_attributes_of_a_file_just_written_are_found() -> None:
    async with mounted() as (_, fs):
        handle, number = await create(fs, "f")
        await fs.files.write(handle, 0, b"data")
        await fs.files.flush(handle)
        await fs.xattrs.set(number, b"user.a", b"1")
        assert await fs.xattrs.get(number, b"user.a") == b"1"
        assert await fs.xattrs.list(number) == [b"user.a"]


@virtual_time
async def test_files_without_extended_attributes_cost_nothing() -> None:
    async with mounted() as (share, fs):
        share.put("f")
        listed = await list_folder(fs)
        number = listed.entries[b"f"].number
        share.calls.clear()
        assert await fs.xattrs.list(number) == []
        with refused(errno.ENODATA):
            await fs.xattrs.get(number, b"user.a")
        assert share.count() == 0


@pytest.mark.parametrize("name", [b"security.selinux", b"system.posix_acl_access", b"trusted.x"])
@virtual_time
async def test_other_namespaces_do_not_exist_and_cost_nothing(name: bytes) -> None:
    async with mounted() as (share, fs):
        xattrs = fs.xattrs
        for call in (xattrs.get(ROOT, name), xattrs.set(ROOT, name, b"1"), xattrs.remove(ROOT, name)):
            with refused(errno.EOPNOTSUPP):
                await call
        assert share.count() == 0


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        (b"user.", b"1", errno.EINVAL),
        (b"user.\xc3\xa4", b"1", errno.EINVAL),
        (b"user." + b"x" * 256, b"1", errno.ENAMETOOLONG),
        (b"user.x", b"", errno.EOPNOTSUPP),
        (b"user.x", bytes(65536), errno.ENOSPC),
    ],
)
@virtual_time
async def test_extended_attributes_that_smb_cannot_hold(name: bytes, value: bytes, number: int) -> None:
    async with mounted() as (share, fs):
        with refused(number):
            await fs.xattrs.set(ROOT, name, value)
        assert share.count() == 0


@virtual_time
async def test_a_server_without_extended_attributes_says_so() -> None:
    async with mounted() as (share, fs):
        share.put("f")
        number = (await lookup(fs, "f")).number
        share.fail_next("set_ea", ntstatus.STATUS_NOT_SUPPORTED)
        with refused(errno.EOPNOTSUPP):
            await fs.xattrs.set(number, b"user.a", b"1")


@virtual_time
async def test_an_open_file_is_asked_through_its_handle() -> None:
    async with mounted() as (share, fs):
        share.put("f")
        await open_file(fs, "f")
        share.calls.clear()
        await trio.sleep(2)
        await fs.metadata.getattr(fs.core.inodes.root.children[b"f"].number)
        assert [call.operation for call in share.calls] == ["query"]


@pytest.mark.expected_warnings("mistake of this program")
@virtual_time
async def test_a_mistake_while_asking_for_the_room_is_an_error_and_the_mount_lives_on() -> None:
    async with mounted() as (share, fs):
        share.fail_next("volume_size", ValueError("a mistake"))
        with refused(errno.EIO):
            await fs.metadata.statfs()
        assert (await fs.metadata.statfs()).blocks == 2000


@virtual_time
async def test_a_file_made_by_one_who_only_reads_it_can_be_changed() -> None:
    async with mounted() as (share, fs):
        reader, number = await create(fs, "lock", os.O_RDONLY)
        await fs.metadata.setattr(number, AttributeChanges(write_ns=1_000_000_000_000), reader)
        writer = await open_file(fs, "lock", os.O_WRONLY)
        await fs.metadata.setattr(number, AttributeChanges(mode=0o444), writer)
        node = share.find("lock")
        assert (node.written, bool(node.attributes & READONLY)) == (1_000_000_000_000, True)
        for handle in (writer, reader):
            await fs.files.release(handle)


@virtual_time
async def test_times_of_a_file_just_made_by_one_who_only_reads_it() -> None:
    async with mounted(FakeShare(supports_leases=True)) as (share, fs):
        reader, number = await create(fs, "lock", os.O_RDONLY)
        await fs.files.flush(reader)
        await fs.files.release(reader)
        await fs.metadata.setattr(number, AttributeChanges(write_ns=1_000_000_000_000), None)
        assert share.find("lock").written == 1_000_000_000_000


@virtual_time
async def test_what_is_written_after_the_times_were_set_is_dated_at_the_close() -> None:
    async with mounted(FakeShare(supports_leases=True)) as (share, fs):
        handle, number = await create(fs, "a")
        await fs.metadata.setattr(number, AttributeChanges(write_ns=1_000_000_000_000), handle)
        await fs.files.write(handle, 0, b"data")
        shown = await fs.metadata.getattr(number)
        await fs.files.flush(handle)
        assert share.find("a").written == shown.write_ns > 1_000_000_000_000_000_000
        await fs.files.release(handle)
        assert (await fs.metadata.getattr(number)).write_ns == share.find("a").written


@virtual_time
async def test_what_is_written_while_the_server_has_the_dated_file_open_is_dated() -> None:
    async with mounted(FakeShare(supports_leases=True)) as (share, fs):
        share.put("a", b"data")
        handle = await open_file(fs, "a")
        number = (await lookup(fs, "a")).number
        await fs.metadata.setattr(number, AttributeChanges(write_ns=OLD), handle)
        await fs.files.flush(handle)
        await fs.files.release(handle)
        assert share.find("a").opens, "it is kept for the next open"
        writer = await open_file(fs, "a", os.O_WRONLY)
        await fs.files.write(writer, 0, b"new")
        await fs.files.flush(writer)
        assert share.find("a").written > OLD
        await fs.files.release(writer)


@virtual_time
async def test_times_that_are_set_last_stay() -> None:
    async with mounted(FakeShare(supports_leases=True)) as (share, fs):
        handle, number = await create(fs, "a")
        await fs.metadata.setattr(number, AttributeChanges(write_ns=1_000_000_000_000), handle)
        await fs.files.write(handle, 0, b"data")
        await fs.metadata.setattr(number, AttributeChanges(write_ns=2_000_000_000_000), handle)
        await fs.files.flush(handle)
        await fs.files.release(handle)
        assert (await fs.metadata.getattr(number)).write_ns == share.find("a").written == 2_000_000_000_000


OLD = 1_000_000_000_000


@virtual_time
async def test_an_empty_file_that_is_truncated_is_dated() -> None:
    async with mounted(FakeShare(supports_leases=True)) as (share, fs):
        share.put("stamp").written = OLD
        handle = await open_file(fs, "stamp", os.O_WRONLY | os.O_TRUNC)
        await fs.files.flush(handle)
        assert share.find("stamp").written > OLD
        await fs.files.release(handle)


@virtual_time
async def test_a_file_set_to_the_size_that_it_has_is_dated() -> None:
    async with mounted() as (share, fs):
        node = share.put("f", b"data")
        node.written = OLD
        number = (await lookup(fs, "f")).number
        await fs.metadata.setattr(number, AttributeChanges(size=4), None)
        assert node.written > OLD
        node.written = OLD
        handle = await open_file(fs, "f")
        await fs.metadata.setattr(number, AttributeChanges(size=4), handle)
        await fs.files.flush(handle)
        assert node.written > OLD


@virtual_time
async def test_a_file_truncated_after_its_times_were_set_is_dated_while_it_is_read() -> None:
    async with mounted(FakeShare(supports_leases=True)) as (share, fs):
        share.put("f", b"data")
        await open_file(fs, "f", os.O_RDONLY)
        number = (await lookup(fs, "f")).number
        writer = await open_file(fs, "f", os.O_WRONLY)
        await fs.metadata.setattr(number, AttributeChanges(write_ns=OLD), writer)
        await fs.files.flush(writer)
        await fs.files.release(writer)
        assert (await fs.metadata.getattr(number)).write_ns == OLD
        await fs.metadata.setattr(number, AttributeChanges(size=2), None)
        assert share.find("f").written > OLD


@virtual_time
async def test_the_time_of_change_is_the_servers_after_times_were_set_by_name() -> None:
    async with mounted() as (share, fs):
        folder = share.put_folder("d")
        number = (await lookup(fs, "d")).number
        await fs.metadata.setattr(number, AttributeChanges(write_ns=10**18), None)
        folder.changed = 10**18
        assert (await fs.metadata.getattr(number)).change_ns == 10**18
        before = share.count()
        assert (await fs.metadata.getattr(number)).write_ns == 10**18
        assert share.count() == before


@virtual_time
async def test_a_file_that_is_being_truncated_may_have_either_size() -> None:
    """As it is when the connection is lost meanwhile: it is our file all the same."""
    async with mounted() as (share, fs):
        share.put("f", b"data")
        handle = await open_file(fs, "f", os.O_RDONLY)
        inode = fs.core.files[handle].inode
        for size, flags in ((10, None), (0, os.O_WRONLY | os.O_TRUNC)):
            before = inode.stat.size
            async with trio.open_nursery() as nursery:
                with share.hold("truncate"):
                    if flags is None:
                        nursery.start_soon(
                            fs.metadata.setattr, inode.number, AttributeChanges(size=size), None
                        )
                    else:
                        nursery.start_soon(fs.files.open, inode.number, flags)
                    await trio.testing.wait_all_tasks_blocked()
                    found = share.find("f").stat(links=True)
                    for found.size in (before, size):
                        assert inode.may_be_like(found, 0)
                    found.size = 11
                    assert not inode.may_be_like(found, 0)
            assert not inode.resizing


@virtual_time
async def test_a_file_that_is_just_being_dated_may_have_either_time() -> None:
    """As it is when the connection is lost meanwhile, also if the time is one to come."""
    future_ns = 4_000_000_000_000_000_000
    async with mounted() as (share, fs):
        share.put("f", b"data")
        handle = await open_file(fs, "f", os.O_RDONLY)
        inode = fs.core.files[handle].inode
        found = share.find("f").stat(links=True)
        async with trio.open_nursery() as nursery:
            with share.hold("set_basic"):
                changes = AttributeChanges(write_ns=future_ns)
                nursery.start_soon(fs.metadata.setattr, inode.number, changes, None)
                await trio.testing.wait_all_tasks_blocked()
                assert inode.may_be_like(found, 0)
                found.write_ns = future_ns
                assert inode.may_be_like(found, 0)
                found.write_ns = future_ns + 100
                assert not inode.may_be_like(found, 0)
        assert not inode.dating
