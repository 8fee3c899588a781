"""What other clients and other processes change while we have it cached."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyfuse3
import pytest
import trio
import trio.testing

from engine import Access
from smbmount.operations import Operations
from smbmount.vfs.attributes import AttributeChanges
from smbmount.vfs.filesystem import FileSystem
from tests.fakes.share_files import FakeFile
from tests.unit.vfs.support import (
    ROOT,
    FakeKernel,
    Listed,
    create,
    list_folder,
    lookup,
    mounted,
    open_file,
    refused,
    virtual_time,
)


@virtual_time
async def test_the_kernel_asks_again_for_a_file_that_is_not_what_it_was_told() -> None:
    kernel = FakeKernel()
    async with mounted(kernel=kernel) as (share, fs):
        node = share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await fs.files.open(number, os.O_RDONLY)
        assert kernel.forgotten == []
        share.resize(node, 8)
        await fs.files.open(number, os.O_RDONLY)
        assert kernel.forgotten == [(number, False)]
        assert (await fs.metadata.getattr(number)).size == 8
        await fs.files.open(number, os.O_RDONLY)
        assert len(kernel.forgotten) == 1
        node.written += 100
        await fs.files.open(number, os.O_RDONLY)
        assert len(kernel.forgotten) == 2


@virtual_time
async def test_an_open_that_is_given_up_while_the_kernel_is_told_leaves_no_handle() -> None:
    kernel = FakeKernel()
    async with mounted(kernel=kernel) as (share, fs):
        node = share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        share.resize(node, 8)
        kernel.gate = trio.Event()
        with trio.move_on_after(1) as scope:
            await fs.files.open(number, os.O_RDONLY)
        assert scope.cancelled_caught
        assert not node.opens


@virtual_time
async def test_a_listing_is_not_believed_about_a_file_that_was_replaced() -> None:
    async with mounted() as (share, fs):
        for name in ("a", "b", "c", "d"):
            share.put(name)
        for name in ("a", "b", "c"):
            old = (await lookup(fs, name)).number
        assert share.count("scandir") == 1, "the second miss lists the folder"
        share.put("c", b"new")
        with refused(errno.ESTALE):
            await fs.files.open(old, os.O_RDONLY)
        found = await lookup(fs, "c")
        assert found.number != old
        assert bytes(await fs.files.read(await open_file(fs, "c"), 0, 10)) == b"new"


@virtual_time
async def test_a_listing_is_not_believed_about_a_file_that_was_removed() -> None:
    async with mounted() as (share, fs):
        for name in ("a", "b", "c"):
            share.put(name)
        for name in ("a", "b", "c"):
            number = (await lookup(fs, name)).number
        share.remove("c")
        fs.core.inodes[number].expire()
        with refused(errno.ESTALE):
            await fs.metadata.getattr(number)
        with refused(errno.ENOENT):
            await lookup(fs, "c")


@virtual_time
async def test_an_open_that_a_write_overtakes_does_not_take_the_size_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server answers the open, then takes the data of a write that was there before; its answer comes
    first. What is appended next must not overwrite that."""
    async with mounted() as (share, fs), trio.open_nursery() as nursery:
        share.put("a")
        number = (await lookup(fs, "a")).number
        first = (await fs.files.open(number, os.O_WRONLY | os.O_APPEND)).number
        await fs.files.write(first, 0, b"one ")
        plain_open, under_way, arrived = share.open, trio.Event(), trio.Event()

        async def slow_open(path: str, *, access: Access, **others: Any) -> FakeFile:
            file = await plain_open(path, access=access, **others)
            under_way.set()
            await arrived.wait()
            return file

        monkeypatch.setattr(share, "open", slow_open)
        second: list[int] = []

        async def append() -> None:
            second.append((await fs.files.open(number, os.O_WRONLY | os.O_APPEND)).number)
            await fs.files.write(second[0], 4, b"two")

        nursery.start_soon(append)
        await under_way.wait()
        await fs.files.flush(first)
        arrived.set()
        await trio.testing.wait_all_tasks_blocked()
        await fs.files.fsync(second[0])
        assert bytes(share.find("a").data) == b"one two"


@virtual_time
async def test_what_is_appended_goes_to_the_end_also_where_the_kernel_takes_another_for_it() -> None:
    """Another client has appended since; what begins where the file ended before is no page of a map."""
    async with mounted() as (share, fs):
        node = share.put("a", bytes(4096))
        number = (await lookup(fs, "a")).number
        appender = (await fs.files.open(number, os.O_RDWR | os.O_APPEND)).number
        share.resize(node, 8192)
        await trio.sleep(2)
        await fs.files.write(appender, 4096, b"x" * 4096)
        await fs.files.write(appender, 4096, b"map" + bytes(4093))
        await fs.files.fsync(appender)
        assert bytes(share.find("a").data) == bytes(4096) + b"map" + bytes(4093) + b"x" * 4096


@virtual_time
async def test_fsync_of_a_file_that_another_client_renamed_is_an_error_only_for_what_we_wrote() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        number = (await lookup(fs, "a")).number
        reader = (await fs.files.open(number, os.O_RDONLY)).number
        await share.rename("a", "b", replace=False)
        await trio.sleep(2)
        await fs.files.fsync(reader)
        assert (await lookup(fs, "b")).number == number
        writer = (await fs.files.open(number, os.O_WRONLY)).number
        for synced in (True, False):
            await fs.files.write(writer, 0, b"data")
            if synced:
                await fs.files.fsync(writer)
            else:
                await fs.files.flush(writer)
                await fs.files.release(writer)
        await share.rename("b", "c", replace=False)
        await trio.sleep(2)
        with refused(errno.ESTALE):
            await fs.files.fsync(reader)
        assert (await lookup(fs, "c")).number == number
        await fs.files.fsync(reader)


@virtual_time
async def test_attributes_for_which_a_listing_had_no_room_count_as_not_told() -> None:
    kernel = FakeKernel()
    async with mounted(kernel=kernel) as (share, fs):
        node = share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await trio.sleep(2)
        share.resize(node, 8)
        listed = Listed(fs, await fs.folders.opendir(ROOT), room=2)
        await listed.read()
        await fs.files.open(number, os.O_RDONLY)
        assert kernel.forgotten == [(number, False)]


@virtual_time
async def test_a_file_that_another_client_renamed_is_changed_under_the_name_that_it_has() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        await share.rename("a", "b", replace=False)
        assert (await lookup(fs, "b")).number == number
        await share.rename("b", "a", replace=False)
        share.put("b", b"other")
        await trio.sleep(2)
        assert (await lookup(fs, "a")).number == number
        await fs.metadata.setattr(number, AttributeChanges(size=2, write_ns=0), None)
        assert (bytes(share.find("a").data), bytes(share.find("b").data)) == (b"da", b"other")
        assert share.find("a").written < share.find("b").written


@virtual_time
async def test_a_hard_link_is_changed_under_the_name_that_was_looked_up_last() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        await share.link("a", "b")
        number = (await lookup(fs, "a")).number
        assert (await lookup(fs, "b")).number == number
        share.remove("b")
        share.put("b", b"other")
        assert (await lookup(fs, "a")).number == number
        await fs.metadata.setattr(number, AttributeChanges(size=2, write_ns=0), None)
        assert (bytes(share.find("a").data), bytes(share.find("b").data)) == (b"da", b"other")


@virtual_time
async def test_a_file_is_not_truncated_in_place_of_another_that_has_its_name_now() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        share.put("a", b"other")
        with refused(errno.ESTALE):
            await fs.metadata.setattr(number, AttributeChanges(size=2), None)
        assert bytes(share.find("a").data) == b"other"


@virtual_time
async def test_a_file_that_we_make_is_none_that_had_its_number_before() -> None:
    """Servers use the number of a file that is gone for the next one, within the same tick of their clock."""
    async with mounted() as (share, fs):
        node = share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        share.remove("a")
        share.take_back(node)
        handle, made = await create(fs, "b")
        assert share.find("b").number == node.number
        assert made != number
        with refused(errno.ESTALE):
            await fs.files.open(number, os.O_RDONLY)
        await fs.files.write(handle, 0, b"new")
        await fs.files.flush(handle)
        assert (await lookup(fs, "b")).number == made
        with refused(errno.ENOENT):
            await lookup(fs, "a")


def reaches_its_file() -> AbstractContextManager[None]:
    """The block succeeds: the file has another name, which still leads to it."""
    return nullcontext()


@virtual_time
async def test_a_file_whose_names_are_all_gone_is_stale_once() -> None:
    """The kernel asks again a single time, and a program is to hear that the name is gone, not ESTALE."""
    async with mounted() as (share, fs):
        share.put("a", b"data")
        await share.link("a", "b")
        number = (await lookup(fs, "a")).number
        await lookup(fs, "b")
        share.remove("a")
        share.remove("b")
        with refused(errno.ESTALE):
            await fs.files.open(number, os.O_RDONLY)
        with refused(errno.ENOENT):
            await lookup(fs, "a")


@pytest.mark.parametrize("replaced", ["a", "b"])
@virtual_time
async def test_an_open_truncates_no_file_that_took_a_name(replaced: str) -> None:
    """`b` is the name that was looked up last, and another name of the same file."""
    async with mounted() as (share, fs):
        share.put("a", b"data")
        await share.link("a", "b")
        number = (await lookup(fs, "a")).number
        assert (await lookup(fs, "b")).number == number
        if replaced == "a":
            await share.rename("b", "moved", replace=False)
        share.put(replaced, b"innocent")
        if replaced == "a":
            assert (await lookup(fs, "a")).number == number, "the caches do not know"
        with reaches_its_file() if replaced == "b" else refused(errno.ESTALE):
            await fs.files.open(number, os.O_WRONLY | os.O_TRUNC)
        assert bytes(share.find(replaced).data) == b"innocent"
        if replaced == "b":
            assert not share.find("a").data


def _changes(fs: FileSystem, number: int) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: fs.metadata.setattr(number, AttributeChanges(write_ns=0), None),
        lambda: fs.metadata.setattr(number, AttributeChanges(mode=0o444), None),
        lambda: fs.xattrs.set(number, b"user.key", b"value"),
        lambda: fs.names.link(number, ROOT, b"link"),
    ]


@pytest.mark.parametrize("change", range(4), ids=["times", "mode", "extended attribute", "link"])
@pytest.mark.parametrize("why", ["open", "second name", "name not asked for lately"])
@virtual_time
async def test_no_file_that_took_a_name_is_changed(change: int, why: str) -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        if why == "open":
            await fs.files.open(number, os.O_RDONLY)
        elif why == "second name":
            await share.link("a", "b")
            assert (await lookup(fs, "b")).number == number
            await lookup(fs, "a")
        else:
            fs.core.inodes.add_lookup(number)
            await trio.sleep(2)
        innocent = share.put("a", b"innocent")
        before = (innocent.stat(links=True), dict(innocent.eas))
        with reaches_its_file() if why == "second name" else refused(errno.ESTALE):
            await _changes(fs, number)[change]()
        assert (innocent.stat(links=True), innocent.eas) == before
        assert not innocent.opens


@pytest.mark.parametrize("change", range(4), ids=["times", "mode", "extended attribute", "link"])
@virtual_time
async def test_a_change_by_a_name_that_is_believed_costs_one_round_trip(change: int) -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        share.calls.clear()
        await _changes(fs, number)[change]()
        assert share.count() == 1


@virtual_time
async def test_a_name_that_a_listing_lacks_is_missing_no_longer_than_the_listing_is_believed() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        operations = Operations(fs, 60.0)
        context = pyfuse3.RequestContext()
        asked = await operations.lookup(ROOT, b"x", context)
        assert (asked.st_ino, asked.entry_timeout) == (0, 1.0)
        await list_folder(fs)
        await trio.sleep(0.75)
        listed = await operations.lookup(ROOT, b"y", context)
        assert (listed.st_ino, listed.entry_timeout) == (0, 0.25)
