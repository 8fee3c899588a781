"""Few credits, many tasks: no deadlock, no overdraft, first come, first served.

The fake server keeps the books; `running` fails a test whose client used a MessageId that was not granted.
"""

from __future__ import annotations

import contextlib
import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import engine
from engine.wire.constants import Command
from tests.fakes.server import FakeServer
from tests.fakes.server_behaviours import (
    AnswersPendingFirst,
    GrantsFewCredits,
    GrantsNoCredits,
    KeepsWaiting,
    ReordersReplies,
)
from tests.unit.client.support import connected, settled
from tests.unit.client.test_dialects import use

READ_WRITE = engine.Access.READ | engine.Access.WRITE


async def work(share: engine.Share, name: str) -> None:
    """Write a file, read it, look at it, delete it."""
    content = name.encode() * 40_000
    async with await share.open(name, access=READ_WRITE, disposition=engine.Disposition.CREATE) as file:
        await file.write_at(0, content)
        assert bytes(await file.read_at(0, len(content))) == content
    assert (await share.stat(name)).size == len(content)
    await share.unlink(name)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 9, 16])
def test_everything_works_with_few_credits(count: int) -> None:
    async def main() -> None:
        server = GrantsFewCredits(count)
        async with connected(server) as share:
            await use(share)
            content = bytes(range(256)) * 8192
            await share.write_file("large", content)
            assert await share.read_file("large", 3 << 20) == content
            await settled(server, share)

    trio.run(main)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 12, 40])
def test_many_tasks_at_once_with_few_credits(count: int) -> None:
    async def main() -> None:
        server = GrantsFewCredits(count)
        async with connected(server) as share:
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(work, share, f"file{number:02}")
            await settled(server, share)

    trio.run(main)


@pytest.mark.parametrize("count", [1, 4, 16])
def test_many_tasks_while_every_request_is_pending_first(count: int) -> None:
    async def main() -> None:
        server = AnswersPendingFirst(2, total_credits=count)
        async with connected(server) as share:
            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(work, share, f"file{number:02}")
            assert share.statistics().interim_replies > 16
            await settled(server, share)

    trio.run(main)


def test_replies_in_another_order_reach_their_tasks() -> None:
    async def main() -> None:
        server = ReordersReplies(4, armed=False)
        for name in "abcd":
            server.tree.add_file(name, name.encode() * (ord(name) - 90))
        async with connected(server) as share:
            server.armed = True
            found: dict[str, bytes] = {}

            async def read(name: str) -> None:
                found[name] = await share.read_file(name, 100)

            async with trio.open_nursery() as nursery:
                for name in "abcd":
                    nursery.start_soon(read, name)
            assert found == {name: name.encode() * (ord(name) - 90) for name in "abcd"}
            server.armed = False
            await settled(server, share)

    trio.run(main)


def test_a_large_directory_is_listed_with_few_credits() -> None:
    async def main() -> None:
        server = GrantsFewCredits(5)
        names = [f"a rather long name, number {number:05}" for number in range(3000)]
        for name in names:
            server.tree.add_file(name)
        async with connected(server) as share:
            async with contextlib.aclosing(share.scandir("")) as batches:
                found = [entry.name async for batch in batches for entry in batch]
            assert found == names
            await settled(server, share)

    trio.run(main)


def test_a_server_that_grants_nothing_more_is_left() -> None:
    async def main() -> None:
        server = GrantsNoCredits(armed=False, total_credits=10)
        async with connected(server) as share:
            server.armed = True
            for _ in range(share.statistics().credits):
                await share.echo()
            with pytest.raises(engine.RemoteProtocolError, match="granted 0 credits"):
                await share.echo()
            assert share.is_lost

    trio.run(main)


def test_all_who_wait_are_told_when_no_credits_will_come() -> None:
    async def main() -> None:
        server = GrantsNoCredits(armed=False, total_credits=4)
        outcomes: list[str] = []

        async def echo(share: engine.Share) -> None:
            try:
                await share.echo()
                outcomes.append("answered")
            except engine.RemoteProtocolError:
                outcomes.append("refused")

        async with connected(server) as share:
            server.armed = True
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(echo, share)
            assert sorted(outcomes) == ["answered"] * 4 + ["refused"] * 6

    trio.run(main)


def test_first_come_first_served() -> None:
    async def main() -> None:
        server = KeepsWaiting(Command.CREATE, total_credits=3)
        done: list[int] = []

        async def stat(share: engine.Share, number: int) -> None:
            await share.stat("")
            done.append(number)

        async with connected(server) as share, trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(stat, share, number)
                await wait_all_tasks_blocked()
            assert not done
            await server.release()
            await server.until(lambda: len(done) >= 10)
        assert done == list(range(12))

    trio.run(main)


def test_a_large_request_is_not_starved_by_small_ones() -> None:
    async def main() -> None:
        server = KeepsWaiting(Command.CREATE, total_credits=20)
        server.tree.add_file("large", bytes(1 << 20))
        async with connected(server) as share, trio.open_nursery() as nursery:
            server.armed = False
            file = await share.open("large")
            server.armed = True
            nursery.start_soon(share.stat, "")
            await wait_all_tasks_blocked()
            done: list[str] = []

            async def read() -> None:
                assert len(await file.read_at(0, 1 << 20)) == 1 << 20
                done.append("large")

            async def query() -> None:
                await file.query()
                done.append("small")

            before = len(server.received)
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            nursery.start_soon(query)
            await server.release()
            while len(done) < 2:
                await share.echo()
            order = [one for one in server.received[before:] if one in (Command.READ, Command.QUERY_INFO)]
            assert order == [Command.READ, Command.QUERY_INFO], "as they came to the gate"
            await file.close()

    trio.run(main)


def test_urgent_requests_need_not_wait_for_ordinary_ones() -> None:
    async def main() -> None:
        server = KeepsWaiting(Command.QUERY_INFO, total_credits=10)
        server.tree.add_file("a")
        async with connected(server) as share, trio.open_nursery() as nursery:
            server.armed = False
            file = await share.open("a")
            server.armed = True
            for _ in range(20):
                nursery.start_soon(share.stat, "")
            await wait_all_tasks_blocked()
            await share.echo()
            await file.close()
            assert Command.CLOSE in server.received
            await server.release()

    trio.run(main)


def test_a_connection_without_large_mtu_pays_one_credit_for_everything() -> None:
    async def main() -> None:
        server = FakeServer(dialect=engine.Dialect.SMB_2_0_2, total_credits=5)
        async with connected(server) as share:
            assert (share.max_read, share.max_write) == (65536, 65536)
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(work, share, f"file{number}")
            await settled(server, share)

    trio.run(main)


def test_credits_that_come_back_late_are_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = KeepsWaiting(Command.ECHO, total_credits=1)
        async with connected(server) as share, trio.open_nursery() as nursery:
            nursery.start_soon(share.echo)
            await server.until(lambda: len(server.held) == 1)
            nursery.start_soon(share.echo)
            await wait_all_tasks_blocked()
            assert server.received.count(Command.ECHO) == 1
            await server.release()
        assert server.received.count(Command.ECHO) == 2

    with caplog.at_level(logging.WARNING):
        trio.run(main)
    assert not caplog.records


def test_a_server_that_lowers_its_grants_while_compounds_wait() -> None:
    async def main() -> None:
        server = GrantsFewCredits(6)
        async with connected(server) as share:
            await share.write_file("file", b"content")
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(share.stat, "file")
                server.total_credits = 1
            assert (await share.stat("file")).size == 7
            assert share.statistics().trips["CREATE"] > 0
            await settled(server, share)

    trio.run(main)


def test_a_server_that_lowers_its_grants_while_a_directory_is_listed() -> None:
    async def main() -> None:
        server = GrantsFewCredits(20)
        names = [f"a rather long name, number {number:05}" for number in range(12_000)]
        for name in names:
            server.tree.add_file(name)
        async with connected(server) as share:
            found: list[str] = []
            async with contextlib.aclosing(share.scandir("")) as batches:
                async for batch in batches:
                    found += [entry.name for entry in batch]
                    server.total_credits = 3
                    for _ in range(20):
                        await share.echo()
            assert found == names
            await settled(server, share)

    trio.run(main)
