"""rename(2): what SMB cannot do by itself is done all the same."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
import trio

from engine import AccessDenied, FileAttributes, Lease, ntstatus
from smbmount.vfs.renames import RENAME_NOREPLACE
from tests.fakes.share import FakeShare
from tests.support.substitute import substitute
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

RENAME_EXCHANGE = 2


@virtual_time
async def test_a_rename_costs_one_round_trip_and_keeps_the_inode() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"1")
        share.put("d\\x")
        number = (await lookup(fs, "a")).number
        folder = (await lookup(fs, "d")).number
        share.calls.clear()
        await fs.renames.rename(ROOT, b"a", folder, b"b", 0)
        assert share.count() == 1
        assert (await lookup(fs, "d/b")).number == number
        assert share.exists("d\\b")
        with refused(errno.ENOENT):
            await lookup(fs, "a")


@virtual_time
async def test_a_file_is_replaced() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        share.put("b", b"old")
        number = (await lookup(fs, "a")).number
        old = (await lookup(fs, "b")).number
        share.calls.clear()
        await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
        assert share.count() == 1
        assert bytes(share.find("b").data) == b"new"
        assert (await lookup(fs, "b")).number == number
        assert (await fs.metadata.getattr(old)).links == 0


@virtual_time
async def test_noreplace_and_exchange() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        share.put("b", b"old")
        await lookup(fs, "a")
        await lookup(fs, "b")
        with refused(errno.EEXIST):
            await fs.renames.rename(ROOT, b"a", ROOT, b"b", RENAME_NOREPLACE)
        with refused(errno.EINVAL):
            await fs.renames.rename(ROOT, b"a", ROOT, b"b", RENAME_EXCHANGE)
        await fs.renames.rename(ROOT, b"a", ROOT, b"c", RENAME_NOREPLACE)
        assert share.names() == ["b", "c"]


@virtual_time
async def test_a_file_that_we_have_open_is_replaced_and_stays_usable() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        share.put("b", b"old")
        handle = await open_file(fs, "b")
        await lookup(fs, "a")
        await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
        assert bytes(share.find("b").data) == b"new"
        await fs.files.write(handle, 0, b"OLD")
        assert bytes(await fs.files.read(handle, 0, 10)) == b"OLD"
        assert bytes(share.find("b").data) == b"new"
        await fs.files.release(handle)
        assert share.names() == ["b"]


@pytest.mark.parametrize("reason", ["open elsewhere", "read-only"])
@virtual_time
async def test_a_file_that_the_server_would_not_replace_is_replaced(reason: str) -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        node = share.put("b", b"old")
        await lookup(fs, "a")
        await lookup(fs, "b")
        if reason == "read-only":
            node.attributes |= int(FileAttributes.READONLY)
        else:
            file = share.open_elsewhere("b")
        await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
        assert bytes(share.find("b").data) == b"new"
        if reason == "open elsewhere":
            file.close_later()
        assert share.names() == ["b"]


@virtual_time
async def test_the_old_file_comes_back_if_the_rename_fails() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        share.put("b", b"old").attributes |= int(FileAttributes.READONLY)
        await lookup(fs, "a")
        await lookup(fs, "b")
        share.open_elsewhere("a", shares_delete=False)
        with refused(errno.EBUSY):
            await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
        assert share.names() == ["a", "b"]
        assert bytes(share.find("b").data) == b"old"


@virtual_time
async def test_the_old_file_comes_back_if_the_call_is_cancelled() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        share.put("b", b"old")
        handle = await open_file(fs, "b")
        await lookup(fs, "a")
        rename = share.rename

        async def stuck(source: str, target: str, *, replace: bool, **others: Any) -> None:
            if source == "a":
                await trio.sleep_forever()
            await rename(source, target, replace=replace, **others)

        substitute(share.rename)(stuck)
        with trio.move_on_after(5) as scope:
            await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
        assert scope.cancelled_caught
        assert share.names() == ["a", "b"]
        await fs.files.release(handle)


@virtual_time
async def test_the_name_is_never_missing_here_while_its_file_is_replaced() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        share.put("b", b"old")
        handle = await open_file(fs, "b")
        new, old = (await lookup(fs, "a")).number, (await lookup(fs, "b")).number
        await trio.sleep(2)
        rename = share.rename

        async def slow(source: str, target: str, *, replace: bool, **others: Any) -> None:
            await trio.sleep(1)
            await rename(source, target, replace=replace, **others)

        substitute(share.rename)(slow)
        looked_up: list[int] = []

        async def look() -> None:
            looked_up.append((await lookup(fs, "b")).number)

        async def reopen() -> None:
            with refused(errno.ESTALE):
                await fs.files.open(old, os.O_RDONLY)
            looked_up.append((await lookup(fs, "b")).number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fs.renames.rename, ROOT, b"a", ROOT, b"b", 0)
            await trio.sleep(1.5)
            assert not share.exists("b")
            nursery.start_soon(look)
            nursery.start_soon(reopen)
        assert looked_up == [new, new]
        await fs.files.release(handle)


@virtual_time
async def test_a_target_that_is_locked_up_elsewhere_is_refused_untouched() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        share.put("b", b"old")
        await lookup(fs, "a")
        await lookup(fs, "b")
        share.open_elsewhere("b", shares_delete=False)
        with refused(errno.EBUSY):
            await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
        assert share.names() == ["a", "b"]


@virtual_time
async def test_an_open_file_is_renamed() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "a")
        await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
        await fs.files.write(handle, 0, b"data")
        await fs.files.flush(handle)
        assert bytes(share.find("b").data) == b"data"
        assert (await fs.metadata.getattr(number)).size == 4


@virtual_time
async def test_only_the_case_of_a_name_is_changed() -> None:
    async with mounted() as (share, fs):
        share.put("file", b"1")
        number = (await lookup(fs, "file")).number
        alias = (await lookup(fs, "FILE")).number
        assert alias != number
        await fs.renames.rename(ROOT, b"file", ROOT, b"FILE", 0)
        assert share.names() == ["FILE"]
        assert (await lookup(fs, "FILE")).number == number
        assert (await list_folder(fs)).names == [b"FILE"]


@virtual_time
async def test_an_empty_folder_is_replaced_by_a_folder() -> None:
    async with mounted() as (share, fs):
        share.put("a\\x", b"1")
        share.put_folder("b")
        share.put("full\\y")
        number = (await lookup(fs, "a")).number
        await lookup(fs, "b")
        await lookup(fs, "full")
        with refused(errno.ENOTEMPTY):
            await fs.renames.rename(ROOT, b"a", ROOT, b"full", 0)
        await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
        assert share.names("b") == ["x"]
        assert (await lookup(fs, "b")).number == number


@virtual_time
async def test_a_folder_with_open_files_replaces_none() -> None:
    async with mounted() as (share, fs):
        for name in ("source", "source\\inner", "target"):
            share.put_folder(name)
        share.put("source\\inner\\file")
        handle = await open_file(fs, "source/inner/file", os.O_RDONLY)
        target = await lookup(fs, "target")
        with refused(errno.EACCES):
            await fs.renames.rename(ROOT, b"source", ROOT, b"target", 0)
        assert (await lookup(fs, "target")).number == target.number
        assert not [call for call, _ in share.calls if call in ("rmdir", "mkdir", "rename")]
        await fs.files.release(handle)
        await fs.renames.rename(ROOT, b"source", ROOT, b"target", 0)


@virtual_time
async def test_a_replaced_folder_comes_back_if_the_rename_fails() -> None:
    async with mounted() as (share, fs):
        share.put_folder("a")
        share.put_folder("b")
        await lookup(fs, "a")
        await lookup(fs, "b")
        share.fail_next("rename", ntstatus.STATUS_ACCESS_DENIED)
        with refused(errno.EACCES):
            await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
        assert share.names() == ["a", "b"]


@pytest.mark.parametrize("stuck", ["rmdir", "rename"])
@virtual_time
async def test_a_replaced_folder_comes_back_if_the_call_is_cancelled(
    stuck: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mounted() as (share, fs):
        share.put_folder("a")
        share.put_folder("b")
        await lookup(fs, "a")
        await lookup(fs, "b")
        rmdir = share.rmdir

        async def late(path: str, *, lease: Lease | None = None) -> None:
            await rmdir(path, lease=lease)
            if stuck == "rmdir":
                await trio.sleep_forever()

        monkeypatch.setattr(share, "rmdir", late)
        with share.hold("rename"), trio.move_on_after(5) as scope:
            await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
        assert scope.cancelled_caught
        assert share.names() == ["a", "b"]


@pytest.mark.parametrize(("waited", "tries"), [(35, 2), (1, 1)])
@virtual_time
async def test_a_folder_is_renamed_once_more_if_the_server_had_waited_for_others(
    waited: int, tries: int
) -> None:
    async with mounted() as (share, fs):
        share.put_folder("a")
        await lookup(fs, "a")
        share.fail_next("rename", ntstatus.STATUS_ACCESS_DENIED)
        refusals: list[AccessDenied] = []

        async def rename() -> None:
            try:
                await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
            except AccessDenied as refusal:
                refusals.append(refusal)

        async with trio.open_nursery() as nursery:
            with share.hold("rename"):
                nursery.start_soon(rename)
                await trio.sleep(waited)
        assert share.count("rename") == tries
        assert share.names() == (["b"] if tries == 2 else ["a"])
        assert len(refusals) == 2 - tries


@virtual_time
async def test_files_and_folders_do_not_replace_each_other() -> None:
    async with mounted() as (share, fs):
        share.put("f")
        share.put_folder("d")
        await lookup(fs, "f")
        await lookup(fs, "d")
        with refused(errno.EISDIR):
            await fs.renames.rename(ROOT, b"f", ROOT, b"d", 0)
        with refused(errno.ENOTDIR):
            await fs.renames.rename(ROOT, b"d", ROOT, b"f", 0)


@virtual_time
async def test_a_folder_that_another_client_just_made_is_not_replaced_by_a_file() -> None:
    async with mounted() as (share, fs):
        share.put("f", b"file")
        await lookup(fs, "f")
        with refused(errno.ENOENT):
            await lookup(fs, "d")
        share.put("d\\precious")
        with refused(errno.EISDIR):
            await fs.renames.rename(ROOT, b"f", ROOT, b"d", 0)
        assert (share.names(), share.names("d")) == (["d", "f"], ["precious"])


@virtual_time
async def test_what_is_below_a_renamed_folder_is_found_at_its_new_place() -> None:
    async with mounted() as (share, fs):
        share.put("d\\e\\f", b"12")
        inner = (await lookup(fs, "d/e/f")).number
        await fs.renames.rename(ROOT, b"d", ROOT, b"n", 0)
        await trio.sleep(2)
        assert (await fs.metadata.getattr(inner)).size == 2
        assert share.calls[-1] == ("stat", ("n\\e\\f",))


@virtual_time
async def test_a_name_that_expired_is_looked_up_for_the_rename() -> None:
    share = FakeShare()
    share.put("a", b"1")
    async with mounted(share) as (_, fs):
        await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
        assert share.names() == ["b"]


@virtual_time
async def test_the_old_file_comes_back_if_the_call_is_cancelled_while_it_is_moved_aside() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"new")
        share.put("b", b"old")
        handle = await open_file(fs, "b")
        await lookup(fs, "a")
        rename = share.rename

        async def late(source: str, target: str, *, replace: bool, **others: Any) -> None:
            await rename(source, target, replace=replace, **others)
            if source == "b":
                await trio.sleep_forever()

        substitute(share.rename)(late)
        with trio.move_on_after(5) as scope:
            await fs.renames.rename(ROOT, b"a", ROOT, b"b", 0)
        assert scope.cancelled_caught
        assert share.names() == ["a", "b"]
        await fs.files.release(handle)


@virtual_time
async def test_a_folder_is_not_moved_into_itself_whatever_the_server_says() -> None:
    async with mounted() as (share, fs):
        share.put("a\\b\\f")
        outer = (await lookup(fs, "a")).number
        inner = (await lookup(fs, "a/b")).number
        with refused(errno.EINVAL):
            await fs.renames.rename(ROOT, b"a", inner, b"c", 0)
        with refused(errno.EINVAL):
            await fs.renames.rename(ROOT, b"a", outer, b"c", 0)
        assert share.count("rename") == 0
