"""Symbolic links that get the ids, and the times, of removed ones."""

from __future__ import annotations

import errno

import trio
import trio.testing

from smbmount.vfs import symlinks
from smbmount.vfs.filesystem import FileSystem
from smbmount.vfs.targets import LinkTargets
from tests.fakes.share import FakeShare
from tests.fakes.share_nodes import Node
from tests.unit.vfs.support import ROOT, list_folder, lookup, mounted, refused, virtual_time

NUMBER = 4711
OLD = 1_000_000_000_000_000_000


def unpacked(share: FakeShare, name: str) -> Node:
    """A link with the times of an archive, on a server that has no others."""
    node = share.find(name)
    node.created = node.accessed = node.written = node.changed = OLD
    return node


async def target(fs: FileSystem, name: str) -> bytes:
    """Where a link leads to, asked for anew."""
    await trio.sleep(2)
    return await fs.names.readlink((await lookup(fs, name)).number)


@virtual_time
async def test_a_link_with_the_id_and_times_of_a_removed_one_shows_its_own_target() -> None:
    async with mounted() as (share, fs):
        for name, content in ((b"one", b"first"), (b"two", b"second")):
            share.next_number = NUMBER - 1
            await fs.names.symlink(ROOT, name, content)
            assert unpacked(share, name.decode()).number == NUMBER
            assert await target(fs, name.decode()) == content
            await fs.names.unlink(ROOT, name)


@virtual_time
async def test_a_listing_that_a_new_link_overtakes_says_nothing_about_it() -> None:
    async with mounted() as (share, fs):
        share.put("one", symlinks.encode(b"first"))
        unpacked(share, "one")
        async with trio.open_nursery() as nursery:
            with share.hold("read_file"):
                nursery.start_soon(list_folder, fs)
                await trio.testing.wait_all_tasks_blocked()
                stat = share.find("one").stat(links=True)
                fs.core.targets.keep("two", stat, b"second")
        known = fs.core.targets.find("two", stat)
        assert known is not None
        assert known.target == b"second"


@virtual_time
async def test_files_of_that_size_are_read_once() -> None:
    async with mounted() as (share, fs):
        share.put("one", symlinks.encode(b"first"))
        share.put("file", b"x" * symlinks.FILE_SIZE)
        for _ in range(3):
            assert await target(fs, "one") == b"first"
            with refused(errno.EINVAL):
                await target(fs, "file")
        assert share.count("read_file") == 2


def test_the_one_asked_for_longest_ago_gives_way() -> None:
    share, known = FakeShare(), LinkTargets(limit=2)
    stats = {name: share.put(name).stat(links=True) for name in "abc"}
    known.keep("a", stats["a"], b"a")
    known.keep("b", stats["b"], None)
    assert known.find("a", stats["a"]) is not None
    known.keep("c", stats["c"], b"c")
    assert [name for name in "abc" if known.find(name, stats[name])] == ["a", "c"]
