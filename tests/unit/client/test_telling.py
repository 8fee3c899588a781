"""What a CREATE or a CLOSE tells is not asked for, once it is known to be the truth."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

import engine
from engine import FileStat, Share, SmbError, ntstatus
from engine.wire.constants import Command
from tests.fakes.server import FakeServer
from tests.fakes.server_behaviours import KeepsWaiting
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


async def told_at_close(file: engine.File, *, details: bool = False) -> FileStat | None:
    """Close a file, and wait for what that tells."""
    sender, receiver = trio.open_memory_channel[FileStat | None](1)
    file.close_and_tell(sender.send_nowait, details=details)
    return await receiver.receive()


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
        assert share.statistics().trips - before == {"CREATE+CLOSE": 2, "CREATE+QUERY_INFO+WRITE+CLOSE": 1}

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
        told = await told_at_close(file)
        assert share.statistics().trips - before == {"CLOSE": 1}
        assert told is not None
        assert (told.file_id, told.size) == (server.tree.node("a").file_id, 4)
        assert (told.number_of_links, told.ea_size) == (0, None)

    run(server, test)


def test_a_server_that_tells_nothing_at_the_close_is_asked_before_from_then_on() -> None:
    server = served()
    server.tree.tells_at_close = False

    async def test(share: Share) -> None:
        assert await told_at_close(await share.open("a")) is None
        told = await told_at_close(await share.open("b"))
        assert told is not None
        assert told.size == 1
        assert share.statistics().trips["QUERY_INFO+CLOSE"] == 1
        assert (await share.write_file("new", b"four")).size == 4

    run(server, test)


@pytest.mark.parametrize("credits", [1, 64])
def test_a_close_that_asks_for_the_details_tells_them(credits: int) -> None:
    server = FakeServer(total_credits=credits)
    server.tree.add_file("a", b"content")

    async def test(share: Share) -> None:
        told = await told_at_close(await share.open("a"), details=True)
        assert told is not None
        assert (told.size, told.number_of_links, told.ea_size) == (7, 1, 0)

    run(server, test)


@pytest.mark.parametrize("spreads", [False, True])
def test_a_handle_is_closed_if_the_question_before_its_close_fails(spreads: bool) -> None:
    server = served()

    async def test(share: Share) -> None:
        file = await share.open("a")
        server.failure_spreads = spreads
        server.refusals[Command.QUERY_INFO] = ntstatus.STATUS_ACCESS_DENIED
        assert await told_at_close(file, details=True) is None

    run(server, test)


def test_who_waits_for_what_a_close_tells_hears_of_the_connections_end() -> None:
    server = KeepsWaiting(Command.CLOSE)
    server.tree.add_file("a")

    async def main() -> None:
        async with connected(server) as share:
            first, second = await share.open("a"), await share.open("a")
            told: list[FileStat | None] = []
            first.close_and_tell(told.append)
            server.hang_up()
            await share.wait_lost()
            second.close_and_tell(told.append)
            assert told == [None, None]

    trio.run(main)


@pytest.mark.parametrize("credits", [1, 64])
def test_attributes_are_set_and_the_file_is_closed_in_one_round_trip(credits: int) -> None:
    server = FakeServer(total_credits=credits)
    server.tree.add_file("a", b"content")

    async def test(share: Share) -> None:
        file = await share.open("a", access=READ_WRITE)
        before = share.statistics().trips
        told = await file.set_basic_and_close(write_ns=10**18, details=False)
        assert told is not None
        assert (told.write_ns, told.size) == (10**18, 7)
        if credits > 1:
            assert share.statistics().trips - before == {"SET_INFO+CLOSE": 1}

    run(server, test)


@pytest.mark.parametrize("spreads", [False, True])
def test_a_file_is_closed_though_its_attributes_could_not_be_set(spreads: bool) -> None:
    server = served()

    async def test(share: Share) -> None:
        file = await share.open("a", access=READ_WRITE)
        server.failure_spreads = spreads
        server.refusals[Command.SET_INFO] = ntstatus.STATUS_ACCESS_DENIED
        with pytest.raises(engine.AccessDenied, match="set attributes of a"):
            await file.set_basic_and_close(write_ns=10**18)

    run(server, test)


async def times_set(file: engine.File, details: bool = False) -> tuple[FileStat | None, SmbError | None]:
    """Set a time and close a file; what is told of it in the end."""
    sender, receiver = trio.open_memory_channel[tuple[FileStat | None, SmbError | None]](1)

    def on_told(stat: FileStat | None, error: SmbError | None) -> None:
        sender.send_nowait((stat, error))

    file.set_times_and_close(on_told, write_ns=10**18, details=details)
    return await receiver.receive()


@pytest.mark.parametrize("credits", [1, 64])
def test_times_are_set_and_the_file_is_closed_without_waiting(credits: int) -> None:
    server = FakeServer(total_credits=credits)
    server.tree.add_file("a", b"content")

    async def test(share: Share) -> None:
        file = await share.open("a", access=READ_WRITE)
        before = share.statistics().trips
        stat, error = await times_set(file)
        assert error is None
        assert stat is not None
        assert (stat.write_ns, stat.size) == (10**18, 7)
        if credits > 1:
            assert share.statistics().trips - before == {"SET_INFO+CLOSE": 1}

    run(server, test)


@pytest.mark.parametrize("spreads", [False, True])
def test_times_that_are_refused_are_told_and_the_file_is_closed(spreads: bool) -> None:
    server = served()

    async def test(share: Share) -> None:
        file = await share.open("a", access=READ_WRITE)
        server.failure_spreads = spreads
        server.refusals[Command.SET_INFO] = ntstatus.STATUS_ACCESS_DENIED
        _, error = await times_set(file, details=True)
        assert isinstance(error, engine.AccessDenied)
        assert "set times of a" in str(error)

    run(server, test)


def test_who_set_times_hears_of_the_connections_end() -> None:
    server = KeepsWaiting(Command.SET_INFO)
    server.tree.add_file("a")

    async def main() -> None:
        async with connected(server) as share:
            first, second = await share.open("a"), await share.open("a")
            told: list[tuple[FileStat | None, SmbError | None]] = []
            first.set_times_and_close(lambda *what: told.append(what), write_ns=1)
            server.hang_up()
            await share.wait_lost()
            second.set_times_and_close(lambda *what: told.append(what), write_ns=1)
            assert [(stat, type(error)) for stat, error in told] == [(None, engine.TransportError)] * 2

    trio.run(main)


@pytest.mark.parametrize("spreads", [False, True])
def test_what_was_set_is_no_error_if_the_question_at_the_close_fails(spreads: bool) -> None:
    server = served()

    async def test(share: Share) -> None:
        file = await share.open("a", access=READ_WRITE)
        server.failure_spreads = spreads
        server.refusals[Command.QUERY_INFO] = ntstatus.STATUS_ACCESS_DENIED
        assert await file.set_basic_and_close(write_ns=10**18) is None
        assert server.tree.node("a").write_time > 0

    run(server, test)


@pytest.mark.parametrize("credits", [1, 64])
def test_data_and_times_go_together(credits: int) -> None:
    server = FakeServer(total_credits=credits)
    server.tree.add_file("a")

    async def test(share: Share) -> None:
        async with await share.open("a", access=READ_WRITE) as file:
            before = share.statistics().trips
            assert await file.write_and_set_basic(2, b"data", write_ns=10**18) is None
            if credits > 1:
                assert share.statistics().trips - before == {"WRITE+SET_INFO": 1}
            assert (await file.query()).write_ns == 10**18

    run(server, test)
    assert server.tree.node("a").data == b"\0\0data"


def test_a_short_write_is_continued_and_the_times_are_set_again() -> None:
    server = FakeServer()
    server.tree.add_file("a")
    server.takes_at_most = 3

    async def test(share: Share) -> None:
        async with await share.open("a", access=READ_WRITE) as file:
            assert await file.write_and_set_basic(0, b"content", write_ns=10**18) is None

    run(server, test)
    assert server.tree.node("a").data == b"content"
    commands = [one for one in server.received if one in (Command.WRITE, Command.SET_INFO)]
    assert commands[-2:] == [Command.WRITE, Command.SET_INFO]


def test_more_data_than_fits_is_written_before_the_times_are_set() -> None:
    server = FakeServer()
    server.tree.add_file("a")

    async def test(share: Share) -> None:
        async with await share.open("a", access=READ_WRITE) as file:
            data = bytes(share.max_write + 1)
            assert await file.write_and_set_basic(0, data, write_ns=10**18) is None
            server.refusals[Command.SET_INFO] = ntstatus.STATUS_ACCESS_DENIED
            assert isinstance(await file.write_and_set_basic(0, data, write_ns=1), engine.AccessDenied)

    run(server, test)


@pytest.mark.parametrize("spreads", [False, True])
def test_a_change_beside_data_fails_without_the_data(spreads: bool) -> None:
    server = served()

    async def test(share: Share) -> None:
        async with await share.open("a", access=READ_WRITE) as file:
            server.failure_spreads = spreads
            server.refusals[Command.SET_INFO] = ntstatus.STATUS_ACCESS_DENIED
            refusal = await file.write_and_set_basic(0, b"data", write_ns=10**18)
            assert isinstance(refusal, engine.AccessDenied)
            assert "set attributes of a" in str(refusal)
            server.refusals[Command.WRITE] = ntstatus.STATUS_DISK_FULL
            with pytest.raises(engine.NoSpace, match="write a"):
                await file.write_and_set_basic(0, b"more", write_ns=10**18)

    run(server, test)
    assert server.tree.node("a").data == b"data"
