"""Requests as values: what a chain and what a mere bundle of requests leaves behind, also when it fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

import engine
from engine import RELATED, Close, Create, FileAllInformation, QueryInfo, Read, Write
from engine.wire.constants import Command
from engine.wire.create import CreateResponse
from engine.wire.io import ReadResponse, WriteResponse
from tests.fakes.server import FakeServer
from tests.fakes.server_behaviours import AnswersWith, KeepsWaiting
from tests.unit.client.support import connected, settled


def run(server: FakeServer, test: Callable[[engine.Share], Awaitable[None]]) -> None:
    """Run `test` with a share of `server`; afterwards the books have to balance."""

    async def main() -> None:
        async with connected(server) as share:
            await test(share)
            await settled(server, share)

    trio.run(main)


@pytest.mark.parametrize("credits", [1, 2, 64])
def test_a_chain_is_one_round_trip_if_the_credits_allow(credits: int) -> None:
    server = FakeServer(total_credits=credits)
    server.tree.add_file("a", b"content")

    async def test(share: engine.Share) -> None:
        before = share.statistics().round_trips
        opened, info, data, _ = await share.compound(
            Create("a"), QueryInfo(RELATED, FileAllInformation), Read(RELATED, 3, 100), Close(RELATED)
        )
        assert (opened.end_of_file, info.end_of_file, bytes(data)) == (7, 7, b"tent")
        assert share.statistics().round_trips - before == (1 if credits == 64 else 4)

    run(server, test)


@pytest.mark.parametrize("credits", [1, 2, 3, 64])
def test_a_bundle_takes_as_many_round_trips_as_the_credits_want(credits: int) -> None:
    server = FakeServer(total_credits=credits)
    server.tree.add_file("a", b"content")

    async def test(share: engine.Share) -> None:
        names = ["a", "absent", "a", "a", "absent"]
        answers = await share.compound(*map(Create, names), related=False, what="look")
        assert [isinstance(answer, engine.NotFound) for answer in answers] == [n == "absent" for n in names]
        assert [answer.index for answer in answers if isinstance(answer, engine.NotFound)] == [1, 4]
        assert "look: " in str(answers[1])
        handles = [answer.file_id for answer in answers if isinstance(answer, CreateResponse)]
        await share.compound(*map(Close, handles), related=False)

    run(server, test)


@pytest.mark.parametrize("related", [True, False])
@pytest.mark.parametrize(
    ("command", "body"),
    [
        (Command.READ, b"\x11\0"),
        (Command.READ, ReadResponse(bytes(11)).encode()),
        (Command.WRITE, WriteResponse(11).encode()),
        (Command.QUERY_INFO, b"\x09\0\x48\0\x01\0\0\0x"),
    ],
)
def test_an_answer_that_makes_no_sense_leaves_no_file_open(
    command: Command, body: bytes, related: bool
) -> None:
    server = AnswersWith(command, body)
    server.tree.add_file("a", b"content")

    async def test(share: engine.Share) -> None:
        (opened,) = await share.compound(Create("a"), related=False)
        assert isinstance(opened, CreateResponse)
        file = RELATED if related else opened.file_id
        requests: dict[Command, engine.CompoundRequest[object]] = {
            Command.READ: Read(file, 0, 10),
            Command.WRITE: Write(file, 0, bytes(10)),
            Command.QUERY_INFO: QueryInfo(file, FileAllInformation),
        }
        broken: list[engine.CompoundRequest[object]] = [Create("a"), requests[command]]
        attempt = share.compound(*broken) if related else share.compound(*broken, related=False)
        with pytest.raises(engine.RemoteProtocolError):
            await attempt
        await share.compound(Close(opened.file_id))

    run(server, test)


def test_a_cancelled_bundle_leaves_no_file_open() -> None:
    """Of its two frames, the first was answered when the wait for the second ends."""
    server = KeepsWaiting(Command.READ, interim=True, total_credits=1)
    server.tree.add_file("a", b"content")

    async def test(share: engine.Share) -> None:
        (opened,) = await share.compound(Create("a"))
        bundle: list[engine.CompoundRequest[object]] = [Create("a"), Read(opened.file_id, 0, 1)]
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                await share.compound(*bundle, related=False)

            nursery.start_soon(send)
            await server.until(lambda: bool(server.held))
            assert len(server.tree.opens) == 2
            nursery.cancel_scope.cancel()
        await server.release()
        await share.compound(Close(opened.file_id))

    run(server, test)
