"""Reading folders."""

from __future__ import annotations

import errno
import random
import stat
import time

import pytest
import trio
import trio.testing

from engine import ntstatus
from smbmount.vfs import symlinks
from tests.fakes.share import FakeShare
from tests.unit.vfs.support import ROOT, Listed, create, list_folder, lookup, mounted, refused, virtual_time


@virtual_time
async def test_a_listing_brings_the_attributes_too() -> None:
    async with mounted(FakeShare(batch_size=1000)) as (share, fs):
        for index in range(300):
            share.put(f"f{index}", bytes(index))
        share.put_folder("d")
        listed = await list_folder(fs)
        assert len(listed.names) == 301
        assert listed.order[:2] == [b".", b".."]
        for index in range(300):
            assert (await lookup(fs, f"f{index}")).size == index
        assert stat.S_ISDIR((await lookup(fs, "d")).mode)
        assert share.count() == 1


@pytest.mark.parametrize("room", [1, 2, 7, 100])
@virtual_time
async def test_every_name_comes_once_whatever_the_kernels_buffer(room: int) -> None:
    async with mounted(FakeShare(batch_size=10)) as (share, fs):
        for index in range(95):
            share.put(f"f{index}")
        listed = await list_folder(fs, room=room)
        assert sorted(listed.names) == sorted(f"f{index}".encode() for index in range(95))


@virtual_time
async def test_only_what_the_kernel_took_is_counted() -> None:
    async with mounted() as (share, fs):
        for name in "abc":
            share.put(name)
        handle = await fs.folders.opendir(ROOT)
        listed = Listed(fs, handle, room=3)
        await listed.read()
        assert listed.order == [b".", b"..", b"a"]
        assert fs.core.inodes.lookups(listed.entries[b"a"].number) == 1
        assert len(fs.core.inodes) == 2
        assert fs.core.inodes.lookups(ROOT) == 0
        await fs.folders.releasedir(handle)


@virtual_time
async def test_dots_are_the_folder_and_the_one_above() -> None:
    async with mounted() as (share, fs):
        share.put("d\\x")
        number = (await lookup(fs, "d")).number
        listed = await list_folder(fs, number)
        assert listed.entries[b"."].number == number
        assert listed.entries[b".."].number == ROOT


@virtual_time
async def test_positions_stay_valid_while_the_folder_changes() -> None:
    async with mounted(FakeShare(batch_size=20)) as (share, fs):
        for index in range(200):
            share.put(f"f{index:03}")
        handle = await fs.folders.opendir(ROOT)
        listed = Listed(fs, handle, room=11)
        rng = random.Random(1)
        while await listed.read():
            victim = rng.randrange(100, 200)
            if share.exists(f"f{victim}"):
                await lookup(fs, f"f{victim}")
                await fs.names.unlink(ROOT, f"f{victim}".encode())
            opened, _ = await create(fs, f"new{rng.random()}")
            await fs.files.release(opened)
        stable = [name for name in listed.names if b"f000" <= name < b"f100"]
        assert stable == [f"f{index:03}".encode() for index in range(100)]
        assert len(listed.names) == len(set(listed.names))
        await fs.folders.releasedir(handle)


@virtual_time
async def test_a_program_may_seek_back() -> None:
    async with mounted(FakeShare(batch_size=10)) as (share, fs):
        for index in range(50):
            share.put(f"f{index}")
        handle = await fs.folders.opendir(ROOT)
        listed = Listed(fs, handle, room=10)
        await listed.read_all()
        first = list(listed.order)
        listed.order.clear()
        listed.position = 10
        await listed.read_all()
        assert listed.order == first[10:]


@virtual_time
async def test_a_rewound_folder_is_read_anew() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        handle = await fs.folders.opendir(ROOT)
        listed = Listed(fs, handle)
        assert await listed.read_all() == [b"a"]
        share.put("b")
        listed.position = 0
        listed.order.clear()
        assert await listed.read_all() == [b"a", b"b"]


@virtual_time
async def test_what_we_removed_or_replaced_is_not_shown_as_it_was() -> None:
    async with mounted() as (share, fs):
        for name in ("a", "b", "c"):
            share.put(name, b"old")
        handle = await fs.folders.opendir(ROOT)
        listed = Listed(fs, handle, room=3)
        await listed.read()
        await lookup(fs, "b")
        await lookup(fs, "c")
        await fs.names.unlink(ROOT, b"b")
        await fs.names.unlink(ROOT, b"c")
        opened, number = await create(fs, "c")
        await listed.read_all()
        assert listed.names == [b"a", b"c"]
        assert (listed.entries[b"c"].number, listed.entries[b"c"].size) == (number, 0)
        await fs.files.release(opened)


@pytest.mark.expected_warnings("names that cannot be shown")
@virtual_time
async def test_hostile_names_are_dropped_and_logged_once() -> None:
    async with mounted() as (share, fs):
        share.put("good")
        for name in ("a/b", "nul\0", "x" * 256, "colon:"):
            share.root.children[name.upper()] = (name, share.find("good"))
        listed = await list_folder(fs)
        assert listed.names == [b"good"]
        assert fs.folders.dropped_names == 4
        await list_folder(fs)


@virtual_time
async def test_names_that_differ_by_case_are_both_listed() -> None:
    async with mounted() as (share, fs):
        share.put("Name", b"1")
        lower = share.put("other", b"22")
        share.root.children["name"] = ("name", lower)
        del share.root.children["OTHER"]
        listed = await list_folder(fs)
        assert {name: entry.size for name, entry in listed.entries.items() if name.lower() == b"name"} == {
            b"Name": 1,
            b"name": 2,
        }


@virtual_time
async def test_two_names_of_one_file_count_as_links() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        await share.link("a", "b")
        listed = await list_folder(fs)
        assert listed.entries[b"a"].number == listed.entries[b"b"].number
        assert (await lookup(fs, "b")).links == 2


@virtual_time
async def test_symbolic_links_are_listed_as_such_and_read_together() -> None:
    async with mounted() as (share, fs):
        for index in range(40):
            share.put(f"l{index}", symlinks.encode(b"target%d" % index))
        share.put("file", b"x" * symlinks.FILE_SIZE)
        listed = await list_folder(fs)
        assert sum(stat.S_ISLNK(entry.mode) for entry in listed.entries.values()) == 40
        assert await fs.names.readlink(listed.entries[b"l7"].number) == b"target7"
        assert share.most_in_flight == 16
        share.calls.clear()
        await trio.sleep(2)
        await list_folder(fs)
        assert share.count("read_file") == 0


@virtual_time
async def test_a_file_being_written_keeps_its_size_in_a_listing() -> None:
    async with mounted() as (_share, fs):
        handle, _ = await create(fs, "a")
        await fs.files.write(handle, 0, b"12345")
        listed = await list_folder(fs)
        assert listed.entries[b"a"].size == 5
        assert listed.entries[b"a"].attribute_timeout == 0


@virtual_time
async def test_a_failed_listing_is_an_error_until_it_is_rewound() -> None:
    async with mounted(FakeShare(batch_size=5)) as (share, fs):
        for index in range(10):
            share.put(f"f{index}")
        handle = await fs.folders.opendir(ROOT)
        listed = Listed(fs, handle)
        await listed.read()
        share.fail_next("scandir", ntstatus.STATUS_ACCESS_DENIED)
        with refused(errno.EACCES):
            await listed.read()
        with refused(errno.EIO):
            await listed.read()
        listed.position = 0
        listed.order.clear()
        assert len(await listed.read_all()) == 10


@pytest.mark.slow
@virtual_time
async def test_memory_is_bounded_for_a_huge_folder_and_seeking_back_still_works() -> None:
    async with mounted(FakeShare(batch_size=5000)) as (share, fs):
        for index in range(60_000):
            share.put(f"f{index:05}")
        handle = await fs.folders.opendir(ROOT)
        directory = fs.folders._handles[handle]
        listed = Listed(fs, handle)
        while await listed.read():
            assert len(directory.entries) <= 30_000
            for attributes in listed.entries.values():
                if attributes.number != ROOT:
                    fs.forget([(attributes.number, 1)])
            listed.entries.clear()
        assert len(listed.names) == 60_000
        order = list(listed.order)
        listed.order.clear()
        listed.position = 5
        await listed.read()
        assert listed.order[:100] == order[5:105]


@virtual_time
async def test_the_next_batch_is_on_its_way_while_one_is_taken_and_no_more() -> None:
    async with mounted(FakeShare(batch_size=10)) as (share, fs):
        for index in range(100):
            share.put(f"f{index}")
        listed = Listed(fs, await fs.folders.opendir(ROOT), room=6)
        await listed.read()
        await trio.testing.wait_all_tasks_blocked()
        assert (len(listed.names), share.count("scandir")) == (4, 2)
        with share.hold("scandir"):
            while len(listed.names) < 20:
                await listed.read()
            await trio.testing.wait_all_tasks_blocked()
            assert (share.in_flight, share.count("scandir")) == (1, 3)
        await listed.read_all()
        assert len(listed.names) == 100
        assert share.count("scandir") == 10


@virtual_time
async def test_the_error_of_a_batch_asked_for_ahead_is_told_where_it_belongs() -> None:
    async with mounted(FakeShare(batch_size=10)) as (share, fs):
        for index in range(30):
            share.put(f"f{index}")
        listed = Listed(fs, await fs.folders.opendir(ROOT), room=3)
        await listed.read()
        share.fail_next("scandir", ntstatus.STATUS_ACCESS_DENIED)
        await trio.testing.wait_all_tasks_blocked()
        while len(listed.names) < 10:
            await listed.read()
        with refused(errno.EACCES):
            await listed.read()


@pytest.mark.parametrize("end", ["close", "rewind", "unmount"])
@virtual_time
async def test_a_listing_under_way_ends_with_its_folder(end: str) -> None:
    async with mounted(FakeShare(batch_size=10)) as (share, fs):
        for index in range(30):
            share.put(f"f{index}")
        handle = await fs.folders.opendir(ROOT)
        listed = Listed(fs, handle)
        await listed.read()
        await trio.testing.wait_all_tasks_blocked()
        with share.hold("scandir"):
            await listed.read()
            await trio.testing.wait_all_tasks_blocked()
            assert share.in_flight == 1
            if end == "close":
                await fs.folders.releasedir(handle)
            elif end == "unmount":
                await fs.shutdown()
            else:
                listed.position, listed.room = 0, 1
                await listed.read()
            assert share.in_flight == 0


@virtual_time
async def test_a_listing_of_which_a_call_was_given_up_is_broken() -> None:
    async with mounted(FakeShare(batch_size=10)) as (share, fs):
        for index in range(30):
            share.put(f"f{index}")
        listed = Listed(fs, await fs.folders.opendir(ROOT))
        with share.hold("scandir"), trio.move_on_after(60) as scope:
            await listed.read()
        assert scope.cancelled_caught
        with refused(errno.EIO):
            await listed.read()
        listed.position = 0
        assert len(await listed.read_all()) == 30


@virtual_time
async def test_releasing_a_folder_ends_its_listing() -> None:
    async with mounted(FakeShare(batch_size=1)) as (share, fs):
        share.put("a")
        share.put("b")
        handle = await fs.folders.opendir(ROOT)
        listed = Listed(fs, handle, room=3)
        await listed.read()
        await fs.folders.releasedir(handle)
        with refused(errno.EBADF):
            await listed.read()
        assert fs.core.inodes.root.directory_handles == []


@virtual_time
async def test_files_cannot_be_listed() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        with refused(errno.ENOTDIR):
            await fs.folders.opendir((await lookup(fs, "a")).number)


@virtual_time
async def test_ten_thousand_entries_are_listed_in_a_fraction_of_a_second() -> None:
    async with mounted(FakeShare(batch_size=5000)) as (share, fs):
        for index in range(10_000):
            share.put(f"some-longer-file-name-{index:05}.txt", b"")
        start = time.process_time()
        listed = await list_folder(fs, room=700)
        elapsed = time.process_time() - start
        assert len(listed.names) == 10_000
        assert elapsed < 1.0, f"{elapsed * 100:.0f} µs per entry"
        assert share.count() == 2
