"""Copies on the server: where paths lead, what is refused, what the caches know afterwards."""

from __future__ import annotations

import errno
import os

import pytest
import trio
import trio.testing

from engine import FileAttributes, NotSupported, SmbError, ntstatus
from smbmount.vfs import symlinks
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.copies import Copied
from smbmount.vfs.errors import NoSuchName
from smbmount.vfs.filesystem import FileSystem
from tests.fakes.share import FakeShare
from tests.unit.vfs.support import (
    READ_WRITE,
    ROOT,
    create,
    list_folder,
    lookup,
    mounted,
    open_file,
    refused,
    virtual_time,
)


def parts(path: str) -> list[bytes]:
    return os.fsencode(path).split(b"/")


async def copy(
    fs: FileSystem, source: str, target: str, *, no_clobber: bool = False, keep_time: bool = False
) -> Copied | None:
    return await fs.copies.copy(parts(source), parts(target), no_clobber=no_clobber, keep_time=keep_time)


def content(share: FakeShare, path: str) -> bytes:
    return bytes(share.find(path).data)


@pytest.mark.parametrize(
    ("source", "target", "made"),
    [
        ("a", "b", "b"),
        ("a", "folder", "folder\\a"),
        ("a", "folder/", "folder\\a"),
        ("a", "folder/.", "folder\\a"),
        ("a", "folder/sub/..", "folder\\a"),
        ("folder/sub/../../a", "./folder//b", "folder\\b"),
        ("folder/sub/deep", "", "deep"),
        ("a", "folder/sub/deep", "folder\\sub\\deep"),
        ("to-a", "folder", "folder\\to-a"),
        ("folder/up", "b", "b"),
        ("a", "into", "folder\\sub\\a"),
        ("a", "into/../b", "folder\\b"),
    ],
)
@virtual_time
async def test_where_a_copy_goes(source: str, target: str, made: str) -> None:
    async with mounted() as (share, fs):
        share.put("a", b"content")
        share.put("folder\\sub\\deep", b"deep")
        await fs.names.symlink(ROOT, b"to-a", b"a")
        await fs.names.symlink((await lookup(fs, "folder")).number, b"up", b"../a")
        await fs.names.symlink(ROOT, b"into", b"folder/sub")
        copied = await copy(fs, source, target)
        expected = b"deep" if source.endswith("deep") else b"content"
        assert copied is not None
        assert (copied.size, copied.name) == (len(expected), os.fsencode(made.rpartition("\\")[2]))
        assert content(share, made) == expected


@pytest.mark.parametrize(
    ("source", "target", "number"),
    [
        ("absent", "b", errno.ENOENT),
        ("folder", "b", errno.EISDIR),
        ("", "b", errno.EISDIR),
        ("a", "absent/b", errno.ENOENT),
        ("a", "absent/", errno.ENOTDIR),
        ("a", "old/", errno.ENOTDIR),
        ("a", "old/b", errno.ENOTDIR),
        ("a", "a", errno.EINVAL),
        ("a", "A", errno.EINVAL),
        ("a", ".", errno.EINVAL),
        ("a", "readonly", errno.EACCES),
        ("a", "holder", errno.EISDIR),
        ("a", "../b", errno.EPERM),
        ("out", "b", errno.EPERM),
        ("loop", "b", errno.ELOOP),
    ],
)
@virtual_time
async def test_copies_that_are_refused(source: str, target: str, number: int) -> None:
    async with mounted() as (share, fs):
        share.put("a", b"content")
        share.put("old", b"old")
        share.put_folder("folder")
        share.put_folder("holder\\a")
        share.put("readonly").attributes |= FileAttributes.READONLY
        await fs.names.symlink(ROOT, b"loop", b"loop")
        share.put("out", symlinks.encode(b"/etc"))
        with refused(number):
            await copy(fs, source, target)
        assert share.count("copy") == 0


@virtual_time
async def test_a_read_only_mount_copies_nothing() -> None:
    async with mounted(config=FileSystemConfig(uid=0, gid=0, read_only=True)) as (share, fs):
        share.put("a", b"content")
        with refused(errno.EROFS):
            await copy(fs, "a", "b")


@virtual_time
async def test_what_is_written_and_not_closed_is_copied() -> None:
    async with mounted() as (share, fs):
        handle, _ = await create(fs, "a")
        await fs.files.write(handle, 0, b"just written")
        await copy(fs, "a", "b")
        assert content(share, "b") == b"just written"


@virtual_time
async def test_data_that_could_not_be_written_is_not_left_out_in_silence() -> None:
    async with mounted() as (share, fs):
        handle, _ = await create(fs, "a")
        share.fail_next("write_at", ntstatus.STATUS_DISK_FULL)
        await fs.files.write(handle, 0, b"lost")
        with refused(errno.EIO):
            await copy(fs, "a", "b")
        assert not share.exists("b")
        with refused(errno.ENOSPC):
            await fs.files.flush(handle)


@virtual_time
async def test_the_caches_know_the_copy() -> None:
    """A name known to be absent, a known size, a listing under way: all show the copy at once."""
    config = FileSystemConfig(uid=0, gid=0, attribute_timeout_directory=60.0)
    async with mounted(config=config) as (share, fs):
        share.put("a", b"content")
        share.put("old", b"a longer content")
        assert (await list_folder(fs)).names == [b"a", b"old"]
        with pytest.raises(NoSuchName):
            await lookup(fs, "new")
        before = (await lookup(fs, "old")).number
        copied = await copy(fs, "a", "new")
        assert copied == Copied(7, (ROOT,), b"new")
        await copy(fs, "a", "old")
        assert (await lookup(fs, "new")).size == 7
        assert (await lookup(fs, "old")).size == 7
        assert (await lookup(fs, "old")).number != before
        assert sorted((await list_folder(fs)).names) == [b"a", b"new", b"old"]


@virtual_time
async def test_an_open_file_keeps_the_content_that_was_replaced() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        share.put("old", b"old")
        handle = await open_file(fs, "old")
        await copy(fs, "a", "old")
        assert bytes(await fs.files.read(handle, 0, 10)) == b"old"
        assert content(share, "old") == b"new"
        await fs.files.release(handle)
        assert share.names() == ["a", "old"]


@virtual_time
async def test_what_exists_is_left_alone_if_asked_for() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        share.put("old", b"old")
        assert await copy(fs, "a", "old", no_clobber=True) is None
        assert await copy(fs, "a", "other", no_clobber=True) is not None
        assert (content(share, "old"), content(share, "other")) == (b"old", b"new")


@virtual_time
async def test_times_and_attributes_of_copies() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"content").written = 10**18
        share.put("locked", b"content").attributes |= FileAttributes.READONLY
        share.put("hidden", b"old").attributes |= FileAttributes.HIDDEN
        await copy(fs, "a", "now")
        await copy(fs, "a", "then", keep_time=True)
        await copy(fs, "locked", "locked too")
        await copy(fs, "a", "hidden")
        assert share.find("now").written > 10**18
        assert share.find("then").written == 10**18
        assert (await lookup(fs, "then")).write_ns == 10**18
        assert share.find("locked too").attributes & FileAttributes.READONLY
        assert share.find("hidden").attributes & FileAttributes.HIDDEN


@pytest.mark.parametrize("operation", ["copy", "set_basic", "rename"])
@virtual_time
async def test_a_copy_that_fails_leaves_everything_as_it_was(operation: str) -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        share.put("old", b"old")
        share.fail_next(operation, ntstatus.STATUS_NOT_SUPPORTED)
        with pytest.raises(NotSupported):
            await copy(fs, "a", "old", keep_time=True)
        assert share.names() == ["a", "old"]
        assert content(share, "old") == b"old"


@pytest.mark.parametrize("operation", ["copy", "set_basic", "rename"])
@virtual_time
async def test_a_cancelled_copy_leaves_everything_as_it_was(operation: str) -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        share.put("old", b"old")
        with share.hold(operation):
            async with trio.open_nursery() as nursery:

                async def work() -> None:
                    await copy(fs, "a", "old", keep_time=True)

                nursery.start_soon(work)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        assert share.names() == ["a", "old"]
        assert content(share, "old") == b"old"


@virtual_time
async def test_a_name_taken_meanwhile_is_not_replaced() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        failed: list[SmbError] = []

        async def work() -> None:
            try:
                await copy(fs, "a", "b")
            except SmbError as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            with share.hold("copy"):
                nursery.start_soon(work)
                await trio.testing.wait_all_tasks_blocked()
                share.put("b", b"somebody else's")
        assert [error.errno for error in failed] == [errno.EEXIST]
        assert content(share, "b") == b"somebody else's"
        assert share.names() == ["a", "b"]


@virtual_time
async def test_copies_leave_no_inodes_behind() -> None:
    async with mounted() as (share, fs):
        share.put("folder\\a", b"content")
        for number in range(20):
            await copy(fs, "folder/a", f"folder/{number}")
        assert fs.counts() == {"inodes": 1, "open_files": 0, "dirty_bytes": 0}


@virtual_time
async def test_counts() -> None:
    async with mounted() as (_, fs):
        handle, _ = await create(fs, "a", READ_WRITE)
        await fs.files.write(handle, 0, b"12345")
        assert fs.counts() == {"inodes": 2, "open_files": 1, "dirty_bytes": 5}
