"""A share whose root is a folder of it: no path that its users give leads out of there."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import trio

import engine
from engine import Access, Disposition
from engine.client.rooting import below, rooted
from engine.wire.constants import InfoType
from engine.wire.create import CloseRequest, CreateRequest
from engine.wire.fscc_set import FileRenameInformation
from engine.wire.primitives import FILE_ID_RELATED
from engine.wire.query import SetInfoRequest
from tests.fakes.server import FakeServer, running
from tests.unit.client.support import ACCOUNT, DEADLINE


def test_paths_below_a_folder() -> None:
    assert below("", "") == ""
    assert below("", "a\\b") == "a\\b"
    assert below("sub", "") == "sub"
    assert below("sub\\folder", "a") == "sub\\folder\\a"


def test_full_names_in_a_share_of_a_distributed_tree() -> None:
    create, close = CreateRequest(desired_access=1, name="a"), CloseRequest(FILE_ID_RELATED)
    rename = SetInfoRequest(
        info_type=InfoType.FILE,
        file_info_class=FileRenameInformation.INFORMATION_CLASS,
        buffer=FileRenameInformation("a").encode(),
        file_id=FILE_ID_RELATED,
    )
    for prefix, name, target in (("", "server\\share\\a", "a"), ("sub", "server\\share\\sub\\a", "sub\\a")):
        opened, renamed, closed = rooted([create, rename, close], prefix, "server\\share")
        assert opened == replace(create, name=name, in_dfs=True)
        assert renamed == replace(rename, buffer=FileRenameInformation(target).encode())
        assert closed is close
    (root,) = rooted([replace(create, name="")], "", "server\\share")
    assert root == replace(create, name="server\\share", in_dfs=True)
    assert rooted([create], "", "") == [create]


def test_everything_that_has_a_path_starts_at_the_folder() -> None:
    server = FakeServer()
    server.tree.add_folder("sub")
    server.tree.add_folder("sub\\folder")
    server.tree.add_file("sub\\folder\\a", b"content")
    server.tree.add_file("a", b"another")

    async def main() -> None:
        with trio.fail_after(DEADLINE):
            async with running(server), engine.connect(f"{server.unc}/sub/folder", ACCOUNT) as share:
                assert (await share.stat("")).is_directory
                assert await share.read_file("a", 100) == b"content"
                await share.mkdir("d")
                await share.rename("a", "d\\b", replace=False)
                await share.link("d\\b", "linked")
                await share.write_file("new", b"12")
                async with await share.open("new", access=Access.READ | Access.DELETE) as file:
                    await file.rename("newer", replace=True)
                async with await share.open("c", disposition=Disposition.CREATE):
                    pass
                await share.unlink("c")
                async with aclosing(share.scandir("")) as batches:
                    assert len([entry async for batch in batches for entry in batch]) == 3
                assert (await share.volume_size()).total_units > 0

    trio.run(main)
    assert [node.name for node in server.tree.root.children.values()] == ["sub", "a"]
    assert sorted(server.tree.node("sub\\folder").children) == ["d", "linked", "newer"]
    assert server.tree.node("sub\\folder\\d\\b").data == b"content"
