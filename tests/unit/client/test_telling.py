"""What a CREATE or a CLOSE tells is not asked for, once it is known to be the truth."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

import engine
from engine import FileStat, Share, ntstatus
from engine.wire.constants import Command
from tests.fakes.server import FakeServer
from tests.unit.client.support import connected, settled

READ_WRITE = engine.Access.READ | engine.Access.WRITE


def run(server: FakeServer, test: Callable[[Share], Awaitable[None]]) -> None:
    """Run `test` with a share of `server`; afterwards the books have to balance."""

    async def main() -> None:
        async with connected(server) as share:
            await test(share)
            await settled(server, share)

    trio.run(main)


async def opened(share: Share, path: str) -> FileStat:
    """What an open tells that asks for no details."""
    async with await share.open(path, details=False) as file:
        return file.stat


def served() -> FakeServer:
    """A server with some files."""
    server = FakeServer()
    for name in "abc":
        server.tree.add_file(name, name.encode())
    return server


def test_the_first_open_compares_and_later_ones_do_not_ask() -> None:
    server = served()

    async def test(share: Share) -> None:
        first = await opened(share, "a")
        assert (first.number_of_links, first.ea_size) == (1, 0)
        assert share.statistics().trips["CREATE+QUERY_INFO"] == 1
        second = await opened(share, "b")
        assert (second.number_of_links, second.ea_size) == (0, None)
        assert (second.file_id, second.size) == (server.tree.node("b").file_id, 1)
        assert share.statistics().trips["CREATE+QUERY_INFO"] == 1
        whole = await share.open("b")
        assert (whole.stat.number_of_links, whole.stat.ea_size) == (1, 0)
        await whole.close()

    run(server, test)


def test_who_asks_for_attributes_first_has_compared_too() -> None:
    server = served()

    async def test(share: Share) -> None:
        await share.stat("a")
        before = share.statistics().trips
        told = await share.stat("b", details=False)
        assert told.file_id == server.tree.node("b").file_id
        assert (told.number_of_links, told.ea_size) == (0, None)
        assert (await share.mkdir("folder")).file_id == server.tree.node("folder").file_id
        assert (await share.write_file("new", b"x")).file_id == server.tree.node("new").file_id
        assert share.statistics().trips - before == {"CREATE+CLOSE": 2, "CREATE+WRITE+CLOSE": 1}

    run(server, test)


@pytest.mark.parametrize("manner", ["does not tell", "tells another id"])
def test_where_the_ids_are_not_those_of_listings_each_open_asks(manner: str) -> None:
    server = served()
    server.tree.tells_disk_ids = manner != "does not tell"
    server.tree.disk_id_shift = 1000

    async def test(share: Share) -> None:
        for name in "abc":
            assert (await opened(share, name)).file_id == server.tree.node(name).file_id
            assert (await share.stat(name, details=False)).file_id == server.tree.node(name).file_id
        assert (await share.mkdir("folder")).file_id == server.tree.node("folder").file_id
        assert (await share.write_file("new", b"x")).file_id == server.tree.node("new").file_id
        assert share.statistics().trips["CREATE+QUERY_INFO"] == 3

    run(server, test)


@pytest.mark.parametrize("is_right", [True, False])
def test_another_volume_is_compared_before_it_is_believed(is_right: bool) -> None:
    server = served()

    async def test(share: Share) -> None:
        await share.stat("a")
        server.tree.volume = 2
        server.tree.disk_id_shift = 0 if is_right else 1000
        assert (await opened(share, "b")).file_id == server.tree.node("b").file_id
        assert share.statistics().trips["QUERY_INFO"] == 1
        assert (await opened(share, "c")).file_id == server.tree.node("c").file_id
        assert share.statistics().trips["CREATE+QUERY_INFO"] == (0 if is_right else 1)

    run(server, test)


@pytest.mark.parametrize("action", ["stat", "mkdir", "write_file"])
def test_an_id_that_fails_to_come_is_asked_for(action: str) -> None:
    server = served()

    async def test(share: Share) -> None:
        await share.stat("a")
        server.tree.tells_disk_ids = False
        if action == "stat":
            stat = await share.stat("b", details=False)
            assert stat.file_id == server.tree.node("b").file_id
        else:
            made = await (share.mkdir("new") if action == "mkdir" else share.write_file("new", b"x"))
            assert made.file_id == server.tree.node("new").file_id

    run(server, test)


def test_a_handle_is_closed_if_its_id_is_not_told() -> None:
    server = served()

    async def test(share: Share) -> None:
        await share.stat("a")
        server.tree.tells_disk_ids = False
        server.refusals[Command.QUERY_INFO] = ntstatus.STATUS_ACCESS_DENIED
        with pytest.raises(engine.AccessDenied):
            await share.open("b", details=False)

    run(server, test)


def test_a_close_tells_all_but_the_details_in_one_request() -> None:
    server = served()

    async def test(share: Share) -> None:
        file = await share.open("a", access=READ_WRITE)
        await file.write_at(0, b"more")
        before = share.statistics().trips
        told = await file.close_and_tell()
        assert share.statistics().trips - before == {"CLOSE": 1}
        assert told is not None
        assert (told.file_id, told.size) == (server.tree.node("a").file_id, 4)
        assert (told.number_of_links, told.ea_size) == (0, None)

    run(server, test)


def test_a_server_that_tells_nothing_at_the_close_is_asked_before_from_then_on() -> None:
    server = served()
    server.tree.tells_at_close = False

    async def test(share: Share) -> None:
        assert await (await share.open("a")).close_and_tell() is None
        told = await (await share.open("b")).close_and_tell()
        assert told is not None
        assert told.size == 1
        assert share.statistics().trips["QUERY_INFO+CLOSE"] == 1
        assert (await share.write_file("new", b"four")).size == 4

    run(server, test)
