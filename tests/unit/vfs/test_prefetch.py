"""Listings and files that are fetched ahead: what they save, when they are believed, what bounds them."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from engine import ntstatus
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.filesystem import FileSystem
from smbmount.vfs.inodes import Inode
from smbmount.vfs.prefetch import FilesAhead
from tests.fakes.share import FakeShare
from tests.unit.vfs.support import (
    ROOT,
    Listed,
    list_folder,
    lookup,
    mounted,
    refused,
    virtual_time,
)


def make_tree(share: FakeShare, folders: int, inner: int = 0) -> None:
    """`folders` folders with a file each, and `inner` folders with two files in each of them."""
    for outer in range(folders):
        share.put(f"d{outer:03}\\file", b"1")
        for number in range(inner):
            share.put(f"d{outer:03}\\s{number:03}\\one", b"1")
            share.put(f"d{outer:03}\\s{number:03}\\two", b"22")


async def settle() -> None:
    """Until all that was begun in the background is done."""
    await trio.testing.wait_all_tasks_blocked()


async def walk(fs: FileSystem, number: int = ROOT) -> int:
    """List a tree as `find` does; the number of names in it."""
    found = 0
    listed = await list_folder(fs, number)
    for name in listed.names:
        found += 1
        if listed.entries[name].mode & 0o170000 == 0o040000:
            await settle()
            found += await walk(fs, listed.entries[name].number)
    return found


async def read_whole(fs: FileSystem, number: int) -> int:
    """List a folder and leave it open; what is fetched ahead then has not been asked for yet."""
    handle = await fs.folders.opendir(number)
    await Listed(fs, handle).read_all()
    return handle


def scans(share: FakeShare) -> list[str]:
    """The folders that were listed, in the order of asking."""
    return [str(call.arguments[0]) for call in share.calls if call.operation == "scandir"]


@virtual_time
async def test_a_walk_asks_for_each_folder_once_and_waits_for_few() -> None:
    async with mounted() as (share, fs):
        make_tree(share, 10, 10)
        assert await walk(fs) == 10 + 10 + 10 * 10 * 3
        assert len(scans(share)) == len(set(scans(share))) == 111
        assert fs.prefetch_statistics()["used"] == 109
        assert fs.prefetch_statistics()["unused"] == 0
        assert share.count() == 111


@virtual_time
async def test_a_foreseen_folder_is_read_from_memory() -> None:
    async with mounted() as (share, fs):
        make_tree(share, 5)
        folders = (await list_folder(fs)).entries
        await list_folder(fs, folders[b"d000"].number)
        await settle()
        assert scans(share)[:2] == ["", "d000"], "nothing is asked for before the program's own request"
        assert sorted(scans(share)[2:]) == ["d001", "d002"]
        with share.hold("scandir"):
            with trio.fail_after(1):
                listed = await list_folder(fs, folders[b"d001"].number)
        assert listed.names == [b"file"]
        assert listed.entries[b"file"].size == 1


@virtual_time
async def test_a_program_waits_for_what_is_on_its_way_and_asks_no_second_time() -> None:
    async with mounted() as (share, fs):
        make_tree(share, 5)
        folders = (await list_folder(fs)).entries
        async with trio.open_nursery() as nursery:
            await read_whole(fs, folders[b"d000"].number)
            with share.hold("scandir"):
                await settle()
                nursery.start_soon(list_folder, fs, folders[b"d001"].number)
                await settle()
        assert scans(share).count("d001") == 1
        assert fs.prefetch_statistics()["waited_for"] == 1


@virtual_time
async def test_listing_one_folder_or_asking_for_names_foresees_nothing() -> None:
    async with mounted() as (share, fs):
        make_tree(share, 30)
        await list_folder(fs)
        for number in (3, 17, 9, 28):
            await list_folder(fs, (await lookup(fs, f"d{number:03}")).number)
            await lookup(fs, f"d{number + 1:03}/file")
        await settle()
        assert len(scans(share)) == 1 + 4
        assert share.count("stat") == 4


@pytest.mark.parametrize(
    "config",
    [
        FileSystemConfig(prefetch=False),
        FileSystemConfig(cache="none"),
        FileSystemConfig(attribute_timeout_directory=0.0),
    ],
    ids=["prefetch=off", "cache=none", "acdirmax=0"],
)
@virtual_time
async def test_nothing_is_foreseen_where_that_is_switched_off(config: FileSystemConfig) -> None:
    async with mounted(config=config) as (share, fs):
        make_tree(share, 10)
        listed = await list_folder(fs)
        for name in listed.names[:5]:
            await list_folder(fs, listed.entries[name].number)
        await settle()
        assert len(scans(share)) == 6


@asynccontextmanager
async def foreseen(folders: int = 4) -> AsyncIterator[tuple[FakeShare, FileSystem, int]]:
    """A mount on which `d001` has been listed ahead; its number."""
    async with mounted() as (share, fs):
        make_tree(share, folders)
        listed = await list_folder(fs)
        await list_folder(fs, listed.entries[b"d000"].number)
        await settle()
        assert "d001" in scans(share)
        yield share, fs, listed.entries[b"d001"].number


@virtual_time
async def test_what_was_fetched_ahead_is_as_fresh_as_its_question() -> None:
    async with foreseen() as (share, fs, number):
        share.put("d001\\theirs")
        await trio.sleep(0.9)
        listed = await list_folder(fs, number)
        assert listed.names == [b"file"], "believed for a second, as attributes are"
        assert listed.entries[b"file"].attribute_timeout == pytest.approx(0.1)
        assert (await list_folder(fs, number)).names == [b"file", b"theirs"], "given once"


@virtual_time
async def test_what_was_fetched_ahead_is_not_shown_after_it_expired() -> None:
    async with foreseen() as (share, fs, number):
        share.put("d001\\theirs")
        await trio.sleep(1.1)
        assert (await list_folder(fs, number)).names == [b"file", b"theirs"]
        assert fs.prefetch_statistics()["used"] == 0
        assert fs.prefetch_statistics()["unused"] >= 1


@virtual_time
async def test_what_was_fetched_ahead_is_not_shown_after_a_change_of_ours() -> None:
    async with foreseen() as (share, fs, number):
        await fs.names.mkdir(number, b"ours")
        share.put("d001\\theirs")
        assert sorted((await list_folder(fs, number)).names) == [b"file", b"ours", b"theirs"]
        assert fs.prefetch_statistics()["used"] == 0


@virtual_time
async def test_a_file_made_since_the_walk_began_is_listed() -> None:
    async with foreseen() as (share, fs, number):
        opened, _ = await fs.files.create(number, b"ours", 0o644, 0o102)
        await fs.files.release(opened.number)
        assert (await list_folder(fs, number)).names == [b"file", b"ours"]
        assert share.exists("d001\\ours")


@virtual_time
async def test_a_change_of_ours_overtakes_what_is_on_its_way() -> None:
    async with mounted() as (share, fs):
        make_tree(share, 4)
        folders = (await list_folder(fs)).entries
        await read_whole(fs, folders[b"d000"].number)
        with share.hold("scandir"):
            await settle()
            await fs.names.unlink(folders[b"d001"].number, b"file")
        share.put("d001\\theirs")
        await settle()
        assert (await list_folder(fs, folders[b"d001"].number)).names == [b"theirs"]


@virtual_time
async def test_what_is_on_its_way_to_a_folder_that_is_renamed_is_not_believed() -> None:
    async with mounted() as (share, fs):
        make_tree(share, 4)
        folders = (await list_folder(fs)).entries
        await read_whole(fs, folders[b"d000"].number)
        with share.hold("scandir"):
            await settle()
            await fs.renames.rename(ROOT, b"d001", ROOT, b"away", 0)
            share.put("d001\\another")
        await settle()
        assert (await list_folder(fs, folders[b"d001"].number)).names == [b"file"]
        assert fs.prefetch_statistics()["used"] == 0


@virtual_time
async def test_a_folder_that_cannot_be_listed_ahead_is_asked_for_again() -> None:
    async with mounted() as (share, fs):
        make_tree(share, 4)
        folders = (await list_folder(fs)).entries
        await read_whole(fs, folders[b"d000"].number)
        share.fail_next("scandir", ntstatus.STATUS_ACCESS_DENIED, times=2)
        await settle()
        assert sorted(scans(share)) == ["", "d000", "d001", "d002"], "a failure is not repeated ahead"
        share.fail_next("scandir", ntstatus.STATUS_ACCESS_DENIED)
        with refused(errno.EACCES):
            await list_folder(fs, folders[b"d001"].number)
        assert (await list_folder(fs, folders[b"d001"].number)).names == [b"file"]


@virtual_time
async def test_after_eight_wrong_guesses_there_are_none_for_a_while() -> None:
    async with mounted() as (share, fs):
        make_tree(share, 60)
        guesses = []
        for _ in range(8):
            before = len(scans(share))
            listed = await list_folder(fs)
            await list_folder(fs, listed.entries[b"d000"].number)
            await settle()
            guesses.append(len(scans(share)) - before - 2)
            await trio.sleep(1.1)
        assert guesses == [2, 2, 2, 2, 0, 0, 0, 0]
        await trio.sleep(5)
        await list_folder(fs)
        await list_folder(fs, listed.entries[b"d000"].number)
        await settle()
        assert len(scans(share)) == 8 * 2 + 8 + 2 + 2, "and then they are tried again"


@virtual_time
async def test_at_most_eight_listings_are_on_their_way() -> None:
    async with mounted() as (share, fs):
        make_tree(share, 100)
        folders = (await list_folder(fs)).entries
        for name in sorted(folders)[2:20]:
            await list_folder(fs, folders[name].number)
            await settle()
        share.most_in_flight = 0
        with share.hold("scandir"):
            for name in sorted(folders)[20:52]:
                await list_folder(fs, folders[name].number)
            await settle()
            assert fs.prefetch_statistics()["in_flight"] == share.most_in_flight == 8


@virtual_time
async def test_what_is_fetched_ahead_is_bounded_in_memory() -> None:
    async with mounted() as (share, fs):
        for folder in range(40):
            for number in range(50):
                share.put(f"d{folder:02}\\{number}")
        fs.folders.listings.limit = 400
        fs.folders.ahead.largest = 60
        folders = (await list_folder(fs)).entries
        most = 0
        for name in sorted(folders)[2:]:
            await list_folder(fs, folders[name].number)
            await settle()
            most = max(most, fs.folders.ahead.entries)
            assert fs.folders.listings.used <= 400
        assert 100 <= most <= 200
        assert fs.prefetch_statistics()["used"] == 39
        assert fs.prefetch_statistics()["unused"] == 0


@virtual_time
async def test_a_large_folder_is_left_to_the_program() -> None:
    async with mounted() as (share, fs):
        make_tree(share, 4)
        for number in range(500):
            share.put(f"d001\\{number}")
        fs.folders.ahead.largest = 100
        folders = (await list_folder(fs)).entries
        await list_folder(fs, folders[b"d000"].number)
        await settle()
        assert scans(share).count("d001") == 2, "given up after the second of six batches"
        assert len((await list_folder(fs, folders[b"d001"].number)).names) == 501


@virtual_time
async def test_nothing_fetched_ahead_stays_behind() -> None:
    async with mounted() as (share, fs):
        make_tree(share, 30, 3)
        await walk(fs)
        folders = (await list_folder(fs)).entries
        handle = await read_whole(fs, folders[b"d000"].number)
        with share.hold("scandir"):
            await settle()
            assert fs.prefetch_statistics()["in_flight"] > 0
            await fs.folders.releasedir(handle)
            await fs.shutdown()
        assert fs.prefetch_statistics()["in_flight"] == 0
        assert fs.prefetch_statistics()["entries"] == 0
        for inode in fs.core.inodes:
            assert inode.directory_handles == []
        fs.forget([(inode.number, fs.core.inodes.lookups(inode.number)) for inode in fs.core.inodes])
        assert len(fs.core.inodes) == 1


class Reader:
    """Opens files one after another, served by what was fetched ahead where there is anything."""

    def __init__(self, fs: FileSystem, *, succeeds: bool = True) -> None:
        self.fs = fs
        self.fetched: list[Inode] = []
        self.most = 0
        self.succeeds = succeeds
        self.ahead = FilesAhead(fs.core, fs.folders.enter, self._fetch, fs.folders.ahead.behind)

    async def _fetch(self, inode: Inode) -> bool:
        self.fetched.append(inode)
        self.most = max(self.most, self.ahead.in_flight)
        await trio.sleep(0.01)
        return self.succeeds

    async def open(self, listed: Listed, names: Iterator[bytes] | list[bytes]) -> int:
        """Open files; how many of them had been fetched ahead."""
        served = 0
        for name in names:
            inode = self.fs.core.inodes[listed.entries[name].number]
            served += inode in self.fetched and self.succeeds
            self.ahead.note_open(inode, inode in self.fetched and self.succeeds)
            await trio.sleep(0.02)
        return served


def make_files(share: FakeShare, count: int) -> None:
    for number in range(count):
        share.put(f"f{number:03}", b"content")


@virtual_time
async def test_files_that_are_read_in_order_are_fetched_ahead() -> None:
    async with mounted() as (share, fs):
        make_files(share, 100)
        listed, reader = await list_folder(fs), Reader(fs)
        assert await reader.open(listed, listed.names) == 98
        assert len(reader.fetched) == len(set(reader.fetched)) == 98
        assert reader.most <= 8
        assert (reader.ahead.rate.used, reader.ahead.rate.unused) == (98, 0)


@virtual_time
async def test_files_that_are_read_in_no_order_are_not() -> None:
    async with mounted() as (share, fs):
        make_files(share, 100)
        listed, reader = await list_folder(fs), Reader(fs)
        await reader.open(listed, [b"f%03d" % (number * 37 % 100) for number in range(50)])
        assert reader.fetched == []


@virtual_time
async def test_files_that_cannot_be_fetched_ahead_are_given_up() -> None:
    async with mounted() as (share, fs):
        make_files(share, 100)
        listed, reader = await list_folder(fs), Reader(fs, succeeds=False)
        await reader.open(listed, listed.names)
        assert 8 <= len(reader.fetched) < 20
        assert reader.ahead.rate.used == 0


@virtual_time
async def test_files_that_nobody_opens_are_given_up() -> None:
    async with mounted() as (share, fs):
        make_files(share, 100)
        listed, reader = await list_folder(fs), Reader(fs)
        for start in range(0, 100, 10):
            await reader.open(listed, listed.names[start : start + 2])
            await trio.sleep(10)
        assert len(reader.fetched) < 30, "not four for each of ten"
        assert reader.ahead.rate.unused >= 8


@virtual_time
async def test_fetching_files_ahead_ends_with_the_mount() -> None:
    async with mounted() as (share, fs):
        make_files(share, 10)
        listed, reader = await list_folder(fs), Reader(fs)
        for name in listed.names[:2]:
            reader.ahead.note_open(fs.core.inodes[listed.entries[name].number], False)
        assert reader.ahead.in_flight == 4
        await reader.ahead.close()
        assert reader.ahead.in_flight == 0


@virtual_time
async def test_a_file_of_two_names_is_fetched_once_at_a_time() -> None:
    async with mounted() as (share, fs):
        make_files(share, 3)
        share.add_name(share.find("f002"), "f002b")
        listed, reader = await list_folder(fs), Reader(fs)
        for name in listed.names[:3]:
            reader.ahead.note_open(fs.core.inodes[(await lookup(fs, name.decode())).number], False)
        twice = [inode for inode in reader.fetched if reader.fetched.count(inode) > 1]
        assert twice == []
        await trio.sleep(1)
        assert reader.ahead.in_flight == 0


@virtual_time
async def test_no_file_is_fetched_ahead_without_prefetch() -> None:
    async with mounted(config=FileSystemConfig(prefetch=False)) as (share, fs):
        make_files(share, 10)
        listed, reader = await list_folder(fs), Reader(fs)
        await reader.open(listed, listed.names)
        assert reader.fetched == []


async def read_files(fs: FileSystem, listed: Listed, names: list[bytes]) -> None:
    """Read files as a program does that copies each of them over a long line."""
    for name in names:
        opened = await fs.files.open((await fs.names.lookup(listed.number, name)).number, os.O_RDONLY)
        assert await fs.files.read(opened.number, 0, 100) == b"content"
        await fs.files.release(opened.number)
        await trio.sleep(0.027)


@virtual_time
async def test_a_slow_walk_finds_the_next_folder_and_its_first_files_when_it_comes_there() -> None:
    """Its listings would be outdated if they were fetched as soon as it is known that they will be needed."""
    async with mounted(FakeShare(supports_leases=True)) as (share, fs):
        for folder in range(6):
            for number in range(25):
                share.put(f"tree\\d{folder}\\f{number:02}", b"content")
        tree = (await lookup(fs, "tree")).number
        for name in (await list_folder(fs, tree)).names:
            if name in (b"d0", b"d1", b"d2"):
                listed = await list_folder(fs, (await fs.names.lookup(tree, name)).number)
                await read_files(fs, listed, listed.names)
                continue
            with share.hold("scandir"), share.hold("stat"), share.hold("open"), trio.fail_after(0.2):
                assert (await lookup(fs, "tree")).number == tree
                number = (await fs.names.lookup(tree, name)).number
                listed = await list_folder(fs, number)
                await read_files(fs, listed, listed.names[:3])
            await read_files(fs, listed, listed.names[3:])
        assert fs.prefetch_statistics()["files_unused"] == 0
        assert fs.prefetch_statistics()["unused"] <= 2, "but for those foreseen before it proved to be slow"


@virtual_time
async def test_near_the_end_of_a_folder_that_is_no_walks_nothing_is_listed() -> None:
    async with mounted(FakeShare(supports_leases=True)) as (share, fs):
        for folder in range(3):
            for number in range(25):
                share.put(f"d{folder}\\f{number:02}", b"content")
        listed = await list_folder(fs, (await lookup(fs, "d0")).number)
        await read_files(fs, listed, listed.names)
        assert set(scans(share)) == {"d0"}
