"""Folders that the server vouches for: what costs nothing then, and what ends it."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from smbmount.vfs.attributes import AttributeChanges
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.filesystem import FileSystem
from smbmount.vfs.folder_leases import MAX_KEPT
from tests.fakes.share import FakeShare
from tests.unit.vfs.support import (
    ROOT,
    Listed,
    create,
    list_folder,
    lookup,
    mounted,
    open_file,
    refused,
    virtual_time,
)


def leasing(batch_size: int = 100) -> FakeShare:
    """A share whose server vouches for files and folders."""
    return FakeShare(supports_leases=True, supports_directory_leases=True, batch_size=batch_size)


def is_kept_open(share: FakeShare, path: str = "") -> bool:
    """Whether a folder is open on the server under a lease."""
    return share.find(path).is_kept_open


async def read_whole(fs: FileSystem, name: str) -> bytes:
    """Look a file up, open, read and close it."""
    number = await open_file(fs, name, os.O_RDONLY)
    content = bytes(await fs.files.read(number, 0, 1 << 17))
    await fs.files.flush(number)
    await fs.files.release(number)
    return content


async def close(fs: FileSystem, number: int) -> None:
    """The last close of an open file, and what follows it."""
    await fs.files.flush(number)
    await fs.files.release(number)
    await trio.testing.wait_all_tasks_blocked()


@virtual_time
async def test_the_same_again_costs_nothing() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        share.put_folder("b")
        await list_folder(fs)
        await read_whole(fs, "a")
        await trio.sleep(5)
        share.calls.clear()
        assert await read_whole(fs, "a") == b"data"
        with refused(errno.ENOENT):
            await lookup(fs, "absent")
        assert share.calls == []


@virtual_time
async def test_a_folder_is_listed_from_memory_while_its_attributes_are_fresh() -> None:
    async with mounted(leasing()) as (share, fs):
        node = share.put("a", b"data")
        await list_folder(fs)
        await trio.sleep(0.9)
        assert (await list_folder(fs)).names == [b"a"]
        assert share.count() == 1
        # Who wrote before may go on to write without a break.
        node.data += b"more"
        await trio.sleep(0.2)
        assert (await list_folder(fs)).entries[b"a"].size == 8
        assert share.count() == 2


@virtual_time
async def test_nothing_is_believed_for_longer_than_the_handle_is_kept() -> None:
    """Programs on the server itself break no lease."""
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        await list_folder(fs)
        await trio.sleep(9.9)
        assert is_kept_open(share)
        await trio.sleep(0.2)
        assert not is_kept_open(share)
        share.calls.clear()
        await lookup(fs, "a")
        assert share.count() == 1


@virtual_time
async def test_what_another_client_does_is_seen_at_once() -> None:
    async with mounted(leasing()) as (share, fs):
        node = share.put("a", b"data")
        share.put("b")
        await list_folder(fs)
        await trio.sleep(5)
        share.put("new")
        assert not share.root.is_kept_open
        assert (await list_folder(fs)).names == [b"a", b"b", b"new"]
        await trio.sleep(5)
        share.remove("b")
        with refused(errno.ENOENT):
            await lookup(fs, "b")
        await list_folder(fs)
        await trio.sleep(5)
        node.data += b"more"
        share.changed_file(node)
        assert (await lookup(fs, "a")).size == 8


@virtual_time
async def test_a_file_that_another_client_replaced_is_opened_without_a_detour() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        await list_folder(fs)
        await read_whole(fs, "a")
        await trio.sleep(5)
        share.put("a", b"successor")
        assert await read_whole(fs, "a") == b"successor"


CHANGES: dict[str, Callable[[FileSystem], Awaitable[object]]] = {
    "create": lambda fs: create(fs, "new"),
    "mkdir": lambda fs: fs.names.mkdir(ROOT, b"new"),
    "mknod": lambda fs: fs.names.mknod(ROOT, b"new", 0o100644),
    "symlink": lambda fs: fs.names.symlink(ROOT, b"new", b"a"),
    "unlink": lambda fs: fs.names.unlink(ROOT, b"a"),
    "rename": lambda fs: fs.renames.rename(ROOT, b"a", ROOT, b"new", 0),
    "rename over": lambda fs: fs.renames.rename(ROOT, b"a", ROOT, b"b", 0),
    "rename a folder": lambda fs: fs.renames.rename(ROOT, b"folder", ROOT, b"new", 0),
    "rmdir": lambda fs: fs.names.rmdir(ROOT, b"folder"),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_what_we_change_breaks_nothing_and_is_seen(change: str) -> None:
    @virtual_time
    async def run() -> None:
        async with mounted(leasing()) as (share, fs):
            share.put("a", b"data")
            share.put("b")
            share.put_folder("folder")
            listed = await list_folder(fs)
            await list_folder(fs, listed.entries[b"folder"].number)
            await CHANGES[change](fs)
            assert share.root.is_kept_open
            assert not share.count("acknowledge")
            assert sorted((await list_folder(fs)).names) == [name.encode() for name in share.names()]
            for name in (b"a", b"b", b"new", b"folder"):
                present = name.decode() in share.names()
                if present:
                    assert (await fs.names.lookup(ROOT, name)).number
                else:
                    with refused(errno.ENOENT):
                        await fs.names.lookup(ROOT, name)

    run()


@virtual_time
async def test_writing_times_and_links_break_nothing() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        share.put_folder("folder")
        listed = await list_folder(fs)
        number = (await lookup(fs, "a")).number
        handle = await open_file(fs, "a")
        await fs.files.write(handle, 0, b"longer data")
        await close(fs, handle)
        await fs.metadata.setattr(number, AttributeChanges(write_ns=10**18), None)
        await fs.names.link(number, ROOT, b"hard")
        await fs.names.link(number, listed.entries[b"folder"].number, b"hard")
        assert share.root.is_kept_open
        assert (await lookup(fs, "a")).size == 11
        assert (await lookup(fs, "a")).write_ns == 10**18


@virtual_time
async def test_names_that_we_made_are_vouched_for_too() -> None:
    async with mounted(leasing()) as (share, fs):
        await list_folder(fs)
        handle, _ = await create(fs, "new")
        await fs.files.write(handle, 0, b"data")
        await close(fs, handle)
        await read_whole(fs, "new")
        await trio.sleep(5)
        share.calls.clear()
        assert await read_whole(fs, "new") == b"data"
        assert share.calls == []


@virtual_time
async def test_a_folder_that_took_the_place_of_another_is_listed_and_not_vouched_for() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put_folder("folder")
        number = (await lookup(fs, "folder")).number
        share.remove("folder")
        share.put("folder\\inside")
        assert (await list_folder(fs, number)).names == [b"inside"]
        assert not share.find("folder").is_kept_open
        assert not fs.core.inodes[number].vouching


@virtual_time
async def test_a_break_while_a_folder_is_listed_is_acknowledged() -> None:
    async with mounted(leasing(batch_size=2)) as (share, fs):
        for number in range(6):
            share.put(f"file {number}")
        handle = await fs.folders.opendir(ROOT)
        listed = Listed(fs, handle)
        await listed.read()
        assert is_kept_open(share)
        share.put("new")
        await trio.testing.wait_all_tasks_blocked()
        assert share.count("acknowledge") == 1
        await listed.read_all()
        await fs.folders.releasedir(handle)
        assert len(listed.names) == 6
        assert not is_kept_open(share)
        assert b"new" in (await list_folder(fs)).names


@pytest.mark.parametrize(
    ("supported", "config"),
    [
        (False, FileSystemConfig()),
        (True, FileSystemConfig(cache="none")),
        (True, FileSystemConfig(close_timeout=0)),
        (True, FileSystemConfig(server_inode_numbers=False)),
    ],
)
def test_where_no_folder_is_vouched_for(supported: bool, config: FileSystemConfig) -> None:
    @virtual_time
    async def run() -> None:
        share = FakeShare(supports_leases=True, supports_directory_leases=supported)
        async with mounted(share, config) as (_, fs):
            await list_folder(fs)
            assert not share.root.is_kept_open
            assert not share.root.listed_by

    run()


@virtual_time
async def test_a_lease_that_vouches_for_nothing_is_none() -> None:
    """As granted while the acknowledgement of a break is under way."""
    async with mounted(leasing()) as (share, fs):
        share.folder_grant = 0
        await list_folder(fs)
        await trio.sleep(5)
        share.put("new")
        assert not share.root.listed_by
        assert (await list_folder(fs)).names == [b"new"]


@virtual_time
async def test_a_bounded_number_of_folders_is_kept_open_and_none_in_the_end() -> None:
    async with mounted(leasing()) as (share, fs):
        for index in range(MAX_KEPT + 10):
            share.put_folder(f"{index:04}")
        for entry in (await list_folder(fs)).entries.values():
            if entry.number != ROOT:
                await list_folder(fs, entry.number)
        kept = [name for name in share.names() if share.find(name).is_kept_open]
        assert len(kept) == len(fs.core.folder_leases) == MAX_KEPT
        await fs.shutdown()
        assert not any(share.find(name).is_kept_open for name in ("", *share.names()))


@virtual_time
async def test_a_file_that_the_kernel_forgot_has_the_size_that_we_wrote() -> None:
    async with mounted(leasing()) as (share, fs):
        share.put("a", b"data")
        await list_folder(fs)
        found = await lookup(fs, "a")
        handle = (await fs.files.open(found.number, os.O_WRONLY)).number
        await fs.files.write(handle, 0, b"longer data")
        await close(fs, handle)
        fs.forget([(found.number, fs.core.inodes.lookups(found.number))])
        assert (await lookup(fs, "a")).size == 11
