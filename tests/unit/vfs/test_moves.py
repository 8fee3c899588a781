"""While a folder is being renamed, nobody uses a path that leads through it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from smbmount.vfs.attributes import AttributeChanges
from smbmount.vfs.filesystem import FileSystem
from smbmount.vfs.moves import PATIENCE
from tests.fakes.share import FakeShare
from tests.unit.vfs.support import ROOT, list_folder, lookup, mounted, open_file, virtual_time

CHANGES: dict[str, Callable[[FileSystem, int, int], Awaitable[object]]] = {
    "look up": lambda fs, folder, file: fs.names.lookup(folder, b"other"),
    "ask for attributes": lambda fs, folder, file: fs.metadata.getattr(file),
    "set times": lambda fs, folder, file: fs.metadata.setattr(file, AttributeChanges(write_ns=0), None),
    "truncate": lambda fs, folder, file: fs.metadata.setattr(file, AttributeChanges(size=0), None),
    "open": lambda fs, folder, file: fs.files.open(file, os.O_RDONLY),
    "create": lambda fs, folder, file: fs.files.create(folder, b"new", 0o644, os.O_WRONLY),
    "make a node": lambda fs, folder, file: fs.names.mknod(folder, b"new", 0o100644),
    "make a folder": lambda fs, folder, file: fs.names.mkdir(folder, b"new"),
    "make a symbolic link": lambda fs, folder, file: fs.names.symlink(folder, b"new", b"target"),
    "link": lambda fs, folder, file: fs.names.link(file, ROOT, b"new"),
    "link into it": lambda fs, folder, file: fs.names.link(file, folder, b"new"),
    "unlink": lambda fs, folder, file: fs.names.unlink(folder, b"file"),
    "remove a folder": lambda fs, folder, file: fs.names.rmdir(folder, b"inner"),
    "rename": lambda fs, folder, file: fs.renames.rename(folder, b"file", folder, b"new", 0),
    "rename a folder": lambda fs, folder, file: fs.renames.rename(folder, b"inner", folder, b"new", 0),
    "set an attribute": lambda fs, folder, file: fs.xattrs.set(file, b"user.key", b"value"),
    "read an attribute": lambda fs, folder, file: fs.xattrs.get(file, b"user.ea"),
    "list attributes": lambda fs, folder, file: fs.xattrs.list(file),
    "list": lambda fs, folder, file: list_folder(fs, folder),
}


async def _prepare(share: FakeShare, fs: FileSystem) -> tuple[int, int]:
    """A file in a folder in the folder `top`, all asked for so long ago that nothing is believed any more."""
    share.put("top\\folder\\file", b"data").eas["EA"] = b"value"
    share.put("top\\folder\\other", b"data")
    share.put_folder("top\\folder\\inner")
    file = (await lookup(fs, "top/folder/file")).number
    folder = (await lookup(fs, "top/folder")).number
    await lookup(fs, "top/folder/inner")
    await trio.sleep(2)
    share.calls.clear()
    return folder, file


async def _rename_top(fs: FileSystem) -> None:
    await fs.renames.rename(ROOT, b"top", ROOT, b"moved", 0)


@pytest.mark.parametrize("change", CHANGES)
@virtual_time
async def test_what_comes_while_a_folder_is_renamed_waits_and_goes_to_its_new_place(change: str) -> None:
    async with mounted() as (share, fs):
        folder, file = await _prepare(share, fs)
        async with trio.open_nursery() as nursery:
            with share.hold("rename"):
                nursery.start_soon(_rename_top, fs)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(CHANGES[change], fs, folder, file)
                await trio.testing.wait_all_tasks_blocked()
                assert share.count() == 1
        assert share.count() > 1
        for call in share.calls[1:]:
            assert not str(call.arguments[0]).startswith("top"), call


@pytest.mark.parametrize("change", CHANGES)
@virtual_time
async def test_a_folder_is_renamed_when_what_was_before_is_done(change: str) -> None:
    async with mounted() as (share, fs):
        folder, file = await _prepare(share, fs)
        share.renames_open_folders = True
        enter, arrived, gate = share.enter, trio.Event(), trio.Event()

        async def held(operation: str, *arguments: object) -> None:
            if not arrived.is_set():
                arrived.set()
                await gate.wait()
            await enter(operation, *arguments)

        share.enter = held  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(CHANGES[change], fs, folder, file)
            await arrived.wait()
            nursery.start_soon(_rename_top, fs)
            await trio.testing.wait_all_tasks_blocked()
            assert share.count() == 0
            gate.set()
        assert share.exists("moved\\folder")


@virtual_time
async def test_what_is_stuck_below_a_folder_holds_its_renaming_up_for_a_while_only() -> None:
    async with mounted() as (share, fs):
        _, file = await _prepare(share, fs)
        async with trio.open_nursery() as nursery:
            with share.hold("open"):
                nursery.start_soon(fs.files.open, file, os.O_RDONLY)
                await trio.testing.wait_all_tasks_blocked()
                began = trio.current_time()
                await _rename_top(fs)
                assert trio.current_time() - began == PATIENCE
                nursery.cancel_scope.cancel()


@virtual_time
async def test_what_waits_for_a_folder_that_is_not_renamed_after_all_goes_on() -> None:
    async with mounted() as (share, fs):
        folder, _ = await _prepare(share, fs)
        async with trio.open_nursery() as nursery:
            with share.hold("rename"), trio.CancelScope() as scope:
                async with trio.open_nursery() as renaming:
                    renaming.start_soon(_rename_top, fs)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(fs.names.mkdir, folder, b"new")
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
        assert share.exists("top\\folder\\new")


@virtual_time
async def test_folders_elsewhere_are_not_held_up() -> None:
    async with mounted() as (share, fs):
        share.put("elsewhere\\file")
        await _prepare(share, fs)
        async with trio.open_nursery() as nursery:
            with share.hold("rename"):
                nursery.start_soon(_rename_top, fs)
                await trio.testing.wait_all_tasks_blocked()
                await lookup(fs, "elsewhere/file")


@virtual_time
async def test_a_file_that_is_moved_aside_comes_back_wherever_its_folder_went() -> None:
    """The renaming of its folder did not wait for it."""
    async with mounted() as (share, fs):
        folder, _ = await _prepare(share, fs)
        handle = await open_file(fs, "top/folder/other")
        rename = share.rename

        async def stuck(source: str, target: str, *, replace: bool, **others: Any) -> None:
            await rename(source, target, replace=replace, **others)
            if source.endswith("other"):
                await trio.sleep_forever()

        share.rename = stuck  # type: ignore[method-assign]
        share.renames_open_folders = True
        with trio.move_on_after(3 * PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fs.renames.rename, folder, b"file", folder, b"other", 0)
                await trio.testing.wait_all_tasks_blocked()
                await _rename_top(fs)
        assert share.names("moved\\folder") == ["file", "inner", "other"]
        await fs.files.release(handle)
