"""The link's patience, in virtual time: days of a server that comes and goes, without a network."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, cast

import pytest
import trio
import trio.testing

from engine.client.config import ConnectConfig, Credentials, parse_unc
from engine.client.connection import Connection
from engine.client.establish import Way
from engine.client.handles import Handle, NotGivenBack
from engine.client.link import Link
from engine.client.tree import Tree
from engine.errors import AuthError, HandleLost, SmbError, TransportError
from engine.ntstatus import STATUS_LOGON_FAILURE
from engine.wire.primitives import FileId
from tests.support.logcheck import ExpectedWarnings
from tests.unit.client.support_link import FakeConnection, new_tree

pytestmark = pytest.mark.slow

DAY: Final = 24 * 3600.0
RETURN: Final = 2.0
LONGEST_RETURN: Final = 5.0
"""Seconds after its server is there again within which a share is to be connected: usually, and at most."""
CONNECTIONS: Final = 6
"""As many in a row do not all fail to give a file back in a test's days."""
SOON: Final = 1.3
"""The same where no files have to be opened again, and no attempt with more patience is under way."""


class FakeWay(Way):
    """The way to a server that is there, refuses connections, is silent, hangs, or refuses the account."""

    def __init__(self) -> None:
        super().__init__(
            parse_unc("//server/share"), Credentials("me", "secret"), ConnectConfig(reconnect=True)
        )
        self.state = "there"
        self.attempts: list[float] = []
        self.log_ons: list[float] = []

    @asynccontextmanager
    async def connection(
        self, seconds: float, address: str | None = None, leases: object = None
    ) -> AsyncGenerator[Connection, None]:
        self.attempts.append(trio.current_time())
        # What was sent before the server is there again is lost.
        state = self.state
        if state == "silent":
            await trio.sleep(seconds)
        if state in ("silent", "refusing"):
            raise TransportError("nobody there")
        yield cast(Connection, FakeConnection())

    async def set_up_all(
        self, connection: Connection, seconds: float, previous_session_id: int, trees: Sequence[Tree]
    ) -> list[Tree | SmbError]:
        assert previous_session_id == 7
        assert len(trees) == 1
        await trio.sleep(0.01)
        if self.state == "hanging":
            await trio.sleep(seconds)
            raise TransportError("no answer")
        self.log_ons.append(trio.current_time())
        if self.state == "locked":
            raise AuthError("refused", status=STATUS_LOGON_FAILURE)
        return [new_tree(cast(FakeConnection, connection))]


def handle_of(tree: Tree, chance: random.Random) -> Handle:
    """An open file that comes back, at times by its path alone, or, sometimes, is lost for good."""
    by_path = False

    async def restore() -> None:
        nonlocal by_path
        epoch = tree.epoch
        await trio.sleep(chance.choice((0.0, 0.05, 3.0)))
        if not by_path and chance.random() < 0.02:
            by_path = True
            raise NotGivenBack("kept for nobody")
        by_path = False
        if chance.random() < 0.001:
            raise HandleLost("another file")
        handle.move(FileId(epoch, epoch), epoch)

    handle = Handle(FileId(0, 0), tree.epoch, "file", restore)
    tree.handles.add(handle)
    return handle


async def all_settled(handles: Sequence[Handle], tree: Tree) -> None:
    """Wait until each is open again, or lost for good."""
    while lacking := [one for one in handles if one.epoch != tree.epoch and not one.is_lost]:
        with suppress(HandleLost):
            await lacking[0].wait()


@asynccontextmanager
async def linked(way: Way, tree: Tree) -> AsyncGenerator[Link, None]:
    """A link at work; it is shielded, so it ends with the block whatever that raises."""
    link = Link(way, tree)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        try:
            yield link
        finally:
            link.end()
            link.scope.cancel()


@pytest.mark.parametrize("seed", range(3))
def test_a_day_of_a_server_that_comes_and_goes(seed: int, expected_warnings: ExpectedWarnings) -> None:
    expected_warnings.allow("another file", "refuses us")
    chance, way = random.Random(seed), FakeWay()

    async def main() -> None:
        tree, tasks, waits = new_tree(FakeConnection()), None, []
        handles = [handle_of(tree, chance) for _ in range(20)]
        async with linked(way, tree) as link:
            while trio.current_time() < DAY:
                way.state = chance.choice(("there", "refusing", "silent", "hanging"))
                began, attempts = trio.current_time(), len(way.attempts)
                tree.connection.abort(TransportError("cut"))
                away = chance.choice((0.0, 0.5, 20.0, 600.0)) if way.state != "there" else 0.0
                await trio.sleep(away)
                was_hanging, way.state, back = way.state == "hanging", "there", trio.current_time()
                with trio.fail_after(RETURN + 2 * away + 5):
                    await link.wait_up(tree)
                if not was_hanging:
                    waits.append(trio.current_time() - back)
                assert len(way.attempts) - attempts <= 6 + 2 * (trio.current_time() - began)
                await trio.sleep(chance.uniform(8, 900))
                # Two turns of 16 files take 6 s, and one that is not given back costs a connection more.
                with trio.fail_after(CONNECTIONS * 7):
                    await all_settled(handles, tree)
                await trio.testing.wait_all_tasks_blocked()
                for handle in handles:
                    assert handle.epoch == tree.epoch or handle.is_lost
                assert tree.handles == {handle for handle in handles if not handle.is_lost}
                now_tasks = trio.lowlevel.current_statistics().tasks_living
                assert tasks is None or now_tasks == tasks
                tasks = now_tasks
        assert max(waits) <= LONGEST_RETURN
        assert sum(wait <= RETURN for wait in waits) >= 0.9 * len(waits)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_files_that_are_not_given_back_cost_one_more_connection() -> None:
    way = FakeWay()

    async def main() -> None:
        tree = new_tree(FakeConnection())
        refusals: dict[int, int] = {}

        def file(number: int) -> Handle:
            async def restore() -> None:
                refusals[number] = refusals.get(number, 0) + 1
                if refusals[number] == 1:
                    await trio.sleep(number / 10)
                    raise NotGivenBack("kept for nobody")
                handle.move(FileId(number, number), tree.epoch)

            handle = Handle(FileId(0, number), tree.epoch, "file", restore)
            tree.handles.add(handle)
            return handle

        handles = [file(number) for number in range(5)]
        async with linked(way, tree) as link:
            tree.connection.abort(TransportError("cut"))
            with trio.fail_after(RETURN):
                await link.wait_up(tree)
                await link.wait_returned(tree)
            assert [handle.epoch for handle in handles] == [tree.epoch] * 5
            await trio.sleep(3600)
        assert len(way.log_ons) == 2

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_what_the_server_keeps_comes_back_first_and_what_has_a_lease_last() -> None:
    way = FakeWay()

    async def main() -> None:
        tree = new_tree(FakeConnection())
        restored: list[str] = []

        def add(kind: str, delay: float) -> None:
            async def restore() -> None:
                await trio.sleep(delay)
                restored.append(kind)
                handle.move(FileId(1, 1), tree.epoch)

            handle = Handle(FileId(0, 0), tree.epoch, "file", restore)
            handle.is_durable, handle.has_lease = kind == "durable", kind != "leaseless"
            tree.handles.add(handle)

        for _ in range(5):
            add("leased", 0)
            add("leaseless", 0.1)
            add("durable", 0.2)
        async with linked(way, tree) as link:
            tree.connection.abort(TransportError("cut"))
            await trio.testing.wait_all_tasks_blocked()
            await link.wait_up(tree)
        assert restored == ["durable"] * 5 + ["leaseless"] * 5 + ["leased"] * 5

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_an_account_that_is_refused_is_tried_twice_a_minute_and_no_more(
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings.require("refuses us")
    way = FakeWay()

    async def main() -> None:
        tree = new_tree(FakeConnection())
        async with linked(way, tree) as link:
            way.state = "locked"
            tree.connection.abort(TransportError("cut"))
            await trio.sleep(1)
            for _ in range(100):
                with pytest.raises(AuthError):
                    await link.wait_up(tree)
            await trio.sleep(3600)
            assert len(way.log_ons) <= 122
            assert all(
                later - earlier >= 30 for earlier, later in zip(way.log_ons, way.log_ons[1:], strict=False)
            )
            way.state = "there"
            with trio.fail_after(31):
                await link.wait_returned(tree)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("state", ["silent", "refusing"])
@pytest.mark.parametrize("seed", range(10))
def test_the_share_is_back_soon_after_its_server(seed: int, state: str) -> None:
    """Whatever attempt was under way when the server returned has to run out first."""
    chance, way = random.Random(seed), FakeWay()

    async def main() -> None:
        tree = new_tree(FakeConnection())
        async with linked(way, tree) as link:
            way.state = state
            tree.connection.abort(TransportError("cut"))
            away = chance.uniform(3, 12)
            await trio.sleep(away)
            attempts, way.state = len(way.attempts), "there"
            with trio.fail_after(SOON):
                await link.wait_up(tree)
            assert attempts <= 4 + 2 * away

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class SilentConnection(FakeConnection):
    """One with a request in flight that nobody answers."""

    is_waiting, retransmissions, sent_since_heard = True, 2, 100

    async def wait_busy(self) -> None:
        await trio.lowlevel.checkpoint()


def test_a_suspected_line_is_tried_by_address_and_at_times_by_name() -> None:
    """Each look-up keeps a thread for as long as the name service is away with the server."""
    asked: list[str | None] = []

    class AskedWay(FakeWay):
        async def answers(self, seconds: float, address: str | None = None) -> bool:
            asked.append(address)
            await trio.sleep(seconds)
            return False

    async def main() -> None:
        async with linked(AskedWay(), new_tree(SilentConnection())):
            await trio.sleep(9.9)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(asked) >= 16
    assert asked.count(None) == len(asked) // 4
    assert {address for address in asked if address} == {"192.0.2.1"}
