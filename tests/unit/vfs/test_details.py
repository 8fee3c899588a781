"""Link counts and the sizes of extended attributes: when opens and closes leave them out, and how long they
are believed then."""

from __future__ import annotations

import os

import trio
import trio.testing

from engine import Disposition
from smbmount.vfs.filesystem import FileSystem
from tests.fakes.share import FakeShare
from tests.unit.vfs.support import create, list_folder, lookup, mounted, open_file, virtual_time

READ_ONLY = os.O_RDONLY


def leased() -> FakeShare:
    """A share that grants leases."""
    return FakeShare(supports_leases=True)


async def links(fs: FileSystem, number: int) -> int:
    """`st_nlink` as stat(2) shows it."""
    return (await fs.metadata.getattr(number)).links


@virtual_time
async def test_a_new_file_needs_no_question_for_its_details() -> None:
    async with mounted() as (share, fs):
        share.details_told = 0
        _, number = await create(fs, "new")
        assert await links(fs, number) == 1
        assert await fs.xattrs.list(number) == []
        assert share.details_told == 0
        assert share.count() == 1


@virtual_time
async def test_a_file_made_elsewhere_in_the_meantime_is_asked_for_its_details() -> None:
    async with mounted() as (share, fs):
        share.put("file", b"content").names = 2
        _, number = await create(fs, "file", os.O_RDWR)
        assert await links(fs, number) == 2
        assert share.count("query") == 1


@virtual_time
async def test_an_open_keeps_the_details_but_makes_them_no_younger() -> None:
    async with mounted(leased()) as (share, fs):
        node = share.put("file", b"content")
        number = (await lookup(fs, "file")).number
        share.details_told = 0
        await trio.sleep(0.4)
        handle = (await fs.files.open(number, READ_ONLY)).number
        assert share.details_told == 0
        node.names = 2
        assert await links(fs, number) == 1
        await trio.sleep(0.7)
        assert share.count("query") == 0
        assert await links(fs, number) == 2
        assert share.count("query") == 1
        await fs.files.release(handle)


@virtual_time
async def test_the_content_that_came_with_an_open_outlives_the_details() -> None:
    async with mounted(leased()) as (share, fs):
        share.put("file", b"content")
        handle = await open_file(fs, "file", READ_ONLY)
        await trio.sleep(5)
        before = share.count()
        assert bytes(await fs.files.read(handle, 0, 100)) == b"content"
        assert share.count() == before


@virtual_time
async def test_an_open_of_what_is_not_known_any_more_asks_for_the_details() -> None:
    async with mounted() as (share, fs):
        node = share.put("file", b"content")
        number = (await lookup(fs, "file")).number
        await trio.sleep(2)
        node.names = 3
        await fs.files.open(number, READ_ONLY)
        assert await links(fs, number) == 3
        assert share.count("query") == 0


@virtual_time
async def test_links_of_a_listed_file_that_was_opened_are_counted_in_the_end() -> None:
    async with mounted(leased()) as (share, fs):
        share.put("file", b"content").names = 2
        number = (await list_folder(fs)).entries[b"file"].number
        await fs.files.open(number, READ_ONLY)
        await trio.sleep(1.1)
        assert await links(fs, number) == 2


@virtual_time
async def test_extended_attributes_set_elsewhere_are_seen_under_a_lease_too() -> None:
    async with mounted(leased()) as (share, fs):
        node = share.put("file", b"content")
        number = (await lookup(fs, "file")).number
        await fs.files.open(number, READ_ONLY)
        assert await fs.xattrs.list(number) == []
        node.eas["key"] = b"value"
        await trio.sleep(1.1)
        assert await fs.xattrs.list(number) == [b"user.key"]


@virtual_time
async def test_a_file_whose_details_are_old_is_not_overwritten() -> None:
    """It may have extended attributes by now, which overwriting would lose."""
    async with mounted(leased()) as (share, fs):
        node = share.put("file", b"content")
        number = (await lookup(fs, "file")).number
        await trio.sleep(0.4)
        await fs.files.open(number, READ_ONLY)
        node.eas["key"] = b"value"
        await trio.sleep(0.7)
        await fs.files.open(number, os.O_WRONLY | os.O_TRUNC)
        assert node.eas == {"key": b"value"}
        assert all(call.arguments[1] == Disposition.OPEN for call in share.calls if call.operation == "open")


@virtual_time
async def test_a_close_makes_the_details_no_younger() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "file")
        await trio.sleep(0.8)
        await fs.files.write(handle, 0, b"content")
        await fs.files.flush(handle)
        await fs.files.release(handle)
        await trio.testing.wait_all_tasks_blocked()
        assert share.count("close_and_tell") == 1
        share.find("file").names = 2
        assert await links(fs, number) == 1
        await trio.sleep(0.3)
        assert await links(fs, number) == 2


@virtual_time
async def test_the_close_of_a_file_that_was_open_for_long_asks_for_the_details() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "file")
        await trio.sleep(5)
        await fs.files.write(handle, 0, b"content")
        share.find("file").names = 2
        await fs.files.flush(handle)
        await fs.files.release(handle)
        assert await links(fs, number) == 2
        assert share.count("close_and_tell") == 1
        assert share.count("stat", "query") == 0


@virtual_time
async def test_what_a_close_does_not_tell_is_asked_for() -> None:
    async with mounted() as (share, fs):
        share.tells_at_close = False
        handle, number = await create(fs, "file")
        await fs.files.write(handle, 0, b"content")
        await fs.files.flush(handle)
        await fs.files.release(handle)
        shown = await fs.metadata.getattr(number)
        assert (shown.size, shown.write_ns) == (7, share.find("file").written)
        assert share.count("stat") == 1


@virtual_time
async def test_where_the_server_tells_everything_nothing_is_asked_twice() -> None:
    async with mounted() as (share, fs):
        share.leaves_details_out = False
        share.put("file", b"content").names = 2
        number = (await lookup(fs, "file")).number
        await trio.sleep(0.4)
        await fs.files.open(number, READ_ONLY)
        await trio.sleep(0.5)
        before = share.count()
        assert await links(fs, number) == 2
        assert share.count() == before


@virtual_time
async def test_an_open_asks_for_details_that_will_be_outdated_soon() -> None:
    async with mounted(leased()) as (share, fs):
        share.put("file", b"content").names = 2
        number = (await list_folder(fs)).entries[b"file"].number
        await trio.sleep(0.7)
        await fs.files.open(number, READ_ONLY)
        await trio.sleep(0.7)
        before = share.count()
        assert await links(fs, number) == 2
        assert share.count() == before


@virtual_time
async def test_a_listing_tells_the_size_of_extended_attributes_of_what_a_lease_vouches_for() -> None:
    async with mounted(leased()) as (share, fs):
        node = share.put("file", b"content")
        number = (await lookup(fs, "file")).number
        await fs.files.open(number, READ_ONLY)
        await trio.sleep(2)
        node.eas["key"] = b"value"
        await list_folder(fs)
        before = share.count()
        await fs.metadata.getattr(number)
        assert share.count() == before
        assert await fs.xattrs.list(number) == [b"user.key"]


@virtual_time
async def test_times_that_a_lease_vouches_for_are_not_taken_from_a_question_for_the_details() -> None:
    """Samba shows old times of a file that is open, and a written one was told its own at its close."""
    async with mounted(leased()) as (share, fs):
        share.put("file", b"content").names = 2
        number = (await list_folder(fs)).entries[b"file"].number
        handle = (await fs.files.open(number, READ_ONLY)).number
        await fs.files.release(handle)
        known = await fs.metadata.getattr(number)
        await trio.sleep(1.1)
        share.find("file").written += 1000
        shown = await fs.metadata.getattr(number)
        assert (shown.links, shown.write_ns) == (2, known.write_ns)
        await trio.sleep(30)
        assert (await fs.metadata.getattr(number)).write_ns == share.find("file").written
