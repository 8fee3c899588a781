"""A listing that answers many look-ups is made anew before it expires, and believed no longer than others."""

from __future__ import annotations

import errno
import os

import trio
import trio.testing

from engine import ntstatus
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.errors import NoSuchName
from smbmount.vfs.filesystem import FileSystem
from tests.fakes.share import FakeShare
from tests.unit.vfs.support import ROOT, create, lookup, mounted, refused, virtual_time


async def make(fs: FileSystem, name: str) -> None:
    """Make a file as a program does: the kernel looks first."""
    with refused(errno.ENOENT):
        await lookup(fs, name)
    handle, _ = await create(fs, name)
    await fs.files.release(handle)


async def is_missing(fs: FileSystem, name: str) -> bool:
    """Whether a look-up finds nothing."""
    try:
        await lookup(fs, name)
    except NoSuchName:
        return True
    return False


@virtual_time
async def test_a_program_that_makes_many_files_waits_for_two_questions_only() -> None:
    async with mounted(FakeShare(batch_size=1000)) as (share, fs):
        for number in range(200):
            await make(fs, f"file {number}")
            await trio.sleep(0.05)
        assert share.count("stat") == 1
        assert share.count("scandir") <= 14


@virtual_time
async def test_a_listing_that_is_not_used_is_not_renewed() -> None:
    async with mounted() as (share, fs):
        for number in range(20):
            await make(fs, f"file {number}")
        await trio.sleep(30)
        assert share.count("scandir") == 1


@virtual_time
async def test_what_appears_elsewhere_is_missed_no_longer_than_a_listing_is_believed() -> None:
    async with mounted() as (share, fs):
        for number in range(100):
            name = f"file {number}"
            assert await is_missing(fs, name)
            share.put(name)
            since = trio.current_time()
            while await is_missing(fs, name):
                assert trio.current_time() < since + 1
                await trio.sleep(0.03)


@virtual_time
async def test_a_listing_that_takes_long_is_believed_from_when_it_was_asked_for() -> None:
    async with mounted() as (share, fs):
        for number in range(5):
            await make(fs, f"file {number}")
        await trio.sleep(0.85)
        async with trio.open_nursery() as nursery:
            with share.hold("scandir"):
                nursery.start_soon(is_missing, fs, "one")
                await trio.testing.wait_all_tasks_blocked()
                assert share.count("scandir") == 2
                share.put("two")
                await trio.sleep(0.9)
        # What the fake tells is as of the reply, so only the time shows whether it is still believed.
        share.put("three")
        await trio.sleep(0.2)
        assert not await is_missing(fs, "three")


@virtual_time
async def test_a_listing_that_served_is_made_anew_at_the_first_miss_after_it() -> None:
    async with mounted(config=FileSystemConfig(uid=1000, gid=1000, prefetch=False)) as (share, fs):
        for number in range(5):
            await make(fs, f"file {number}")
        assert (share.count("stat"), share.count("scandir")) == (1, 1)
        await trio.sleep(1.5)
        await make(fs, "another")
        assert (share.count("stat"), share.count("scandir")) == (1, 2)
        await trio.sleep(3)
        await make(fs, "much later")
        assert (share.count("stat"), share.count("scandir")) == (2, 2)


@virtual_time
async def test_nothing_is_listed_ahead_if_that_is_switched_off() -> None:
    async with mounted(config=FileSystemConfig(uid=1000, gid=1000, prefetch=False)) as (share, fs):
        for number in range(18):
            await make(fs, f"file {number}")
            await trio.sleep(0.05)
        assert share.count("scandir") == 1


@virtual_time
async def test_a_large_folder_has_to_be_used_more() -> None:
    async with mounted(FakeShare(batch_size=10_000)) as (share, fs):
        for number in range(5_000):
            share.put(f"{number}")
        while not share.count("scandir"):
            await is_missing(fs, f"new {share.count('stat')}")
        listed_at = trio.current_time()
        for number in range(6):
            await is_missing(fs, f"other {number}")
        await trio.sleep(listed_at + 0.9 - trio.current_time())
        assert fs.core.inodes.root.listing is not None
        await trio.testing.wait_all_tasks_blocked()
        assert share.count("scandir") == 1
        await is_missing(fs, "and one more")
        await trio.testing.wait_all_tasks_blocked()
        assert share.count("scandir") == 2


@virtual_time
async def test_a_folder_that_cannot_be_listed_again_is_asked_name_by_name() -> None:
    async with mounted() as (share, fs):
        for number in range(5):
            await make(fs, f"file {number}")
        share.fail_next("scandir", ntstatus.STATUS_ACCESS_DENIED)
        await trio.sleep(0.85)
        assert await is_missing(fs, "one")
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(0.2)
        share.put("two")
        assert not await is_missing(fs, "two")
        assert await is_missing(fs, "three")
        assert share.count("scandir") == 2


async def work_in(fs: FileSystem, folder: int, seconds: float) -> None:
    """Ask for names of a folder again and again."""
    until, number = trio.current_time() + seconds, 0
    while trio.current_time() < until:
        with refused(errno.ENOENT):
            await fs.names.lookup(folder, f"{until} {number}".encode())
        number += 1
        await trio.sleep(0.02)


@virtual_time
async def test_the_names_that_lead_to_a_folder_in_use_are_known_when_they_are_asked_for() -> None:
    async with mounted() as (share, fs):
        share.put_folder("above\\inner")
        folder = (await lookup(fs, "above/inner")).number
        await work_in(fs, folder, 1.0)
        for _ in range(20):
            await work_in(fs, folder, 0.5)
            before = share.count()
            assert (await lookup(fs, "above/inner")).number == folder
            assert share.count() == before
        assert share.count("stat") < 40


@virtual_time
async def test_a_folder_in_use_that_was_replaced_elsewhere_is_found_out_in_time() -> None:
    async with mounted() as (share, fs):
        share.put_folder("above\\inner")
        folder = (await lookup(fs, "above/inner")).number
        await work_in(fs, folder, 2.0)
        share.remove("above\\inner")
        share.put_folder("above\\inner")
        await work_in(fs, folder, 1.0)
        assert (await lookup(fs, "above/inner")).number != folder


@virtual_time
async def test_a_name_that_we_changed_meanwhile_is_not_renewed() -> None:
    async with mounted() as (share, fs):
        share.put_folder("above")
        folder = (await lookup(fs, "above")).number
        await work_in(fs, folder, 0.8)
        with share.hold("stat"):
            await work_in(fs, folder, 0.1)
            await fs.renames.rename(ROOT, b"above", ROOT, b"other", 0)
        await trio.testing.wait_all_tasks_blocked()
        with refused(errno.ENOENT):
            await lookup(fs, "above")
        assert (await lookup(fs, "other")).number == folder


@virtual_time
async def test_names_that_cannot_be_asked_for_again_are_asked_for_when_needed() -> None:
    async with mounted() as (share, fs):
        share.put_folder("above")
        folder = (await lookup(fs, "above")).number
        await work_in(fs, folder, 0.8)
        share.fail_next("stat", ntstatus.STATUS_ACCESS_DENIED)
        await work_in(fs, folder, 0.1)
        await trio.sleep(1)
        assert (await lookup(fs, "above")).number == folder


@virtual_time
async def test_a_folder_that_we_change_is_passed_for_nothing_and_its_times_are_asked_for() -> None:
    async with mounted() as (share, fs):
        folder = (await fs.names.mkdir(ROOT, b"folder")).number
        for number in range(100):
            name = f"{number}".encode()
            with refused(errno.ENOENT):
                await fs.names.lookup(folder, name)
            opened, _ = await fs.files.create(folder, name, 0o644, os.O_RDWR)
            await fs.files.release(opened.number)
            before = share.count()
            shown = await lookup(fs, "folder")
            assert (share.count(), shown.number, shown.attribute_timeout) == (before, folder, 0.0)
            await trio.sleep(0.05)
        assert (await fs.metadata.getattr(folder)).write_ns == share.find("folder").written


@virtual_time
async def test_names_that_a_folder_lacks_in_which_others_are_made_and_filled_are_known() -> None:
    async with mounted() as (share, fs):
        tree = (await fs.names.mkdir(ROOT, b"tree")).number
        for number in range(10):
            before = share.count("stat") + share.count("scandir")
            with refused(errno.ENOENT):
                await fs.names.lookup(tree, f"{number}".encode())
            assert share.count("stat") + share.count("scandir") == before
            folder = (await fs.names.mkdir(tree, f"{number}".encode())).number
            await work_in(fs, folder, 0.7)
        assert share.count("stat") + share.count("scandir") < 40


@virtual_time
async def test_what_another_client_makes_there_is_missed_no_longer_than_a_name_is_believed() -> None:
    async with mounted() as (share, fs):
        tree = (await fs.names.mkdir(ROOT, b"tree")).number
        for number in range(10):
            name = f"{number}".encode()
            with refused(errno.ENOENT):
                await fs.names.lookup(tree, name)
            share.put_folder(f"tree\\{number}")
            folder = (await fs.names.mkdir(tree, b"ours " + name)).number
            await work_in(fs, folder, 1.01)
            assert (await fs.names.lookup(tree, name)).number


@virtual_time
async def test_a_large_folder_on_the_way_is_not_listed_for_one_name() -> None:
    async with mounted(FakeShare(batch_size=1000)) as (share, fs):
        for number in range(200):
            share.put(f"tree\\{number}")
        share.put_folder("tree\\inner")
        folder = (await lookup(fs, "tree/inner")).number
        tree = fs.core.inodes[folder].names[0].parent.number
        for _ in range(4):
            await is_missing(fs, "tree/absent")
            await fs.names.lookup(tree, b"1")
        listed = [call.arguments[0] for call in share.calls if call.operation == "scandir"]
        await work_in(fs, folder, 3)
        later = [call.arguments[0] for call in share.calls if call.operation == "scandir"]
        assert set(later[len(listed) :]) == {"tree\\inner"}
