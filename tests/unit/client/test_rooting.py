"""A share whose root is a folder of it: no path that its users give leads out of there."""

from __future__ import annotations

from contextlib import aclosing

import trio

import engine
from engine import Access, Disposition
from engine.client.rooting import below
from tests.fakes.server import FakeServer, running
from tests.unit.client.support import ACCOUNT, DEADLINE


def test_paths_below_a_folder() -> None:
    assert below("", "") == ""
    assert below("", "a\\b") == "a\\b"
    assert below("sub", "") == "sub"
    assert below("sub\\folder", "a") == "sub\\folder\\a"


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
