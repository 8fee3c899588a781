"""Shares on one connection of which some could be elsewhere too: who leaves when, and who stays."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

import engine
from engine import Crossing, Share, ntstatus
from engine.client import branches
from engine.client import link as link_module
from engine.client.condition import ShareState
from engine.wire.constants import Command
from tests.fakes.server import FakeServer
from tests.support.logcheck import ExpectedWarnings
from tests.unit.client.support import ACCOUNT
from tests.unit.client.support_dfs import (
    CONFIG,
    FIRST,
    NAMESPACE,
    SECOND,
    Namespace,
    at,
    crossed,
    lead,
    referral,
)

LINKS = ("one", "two", "three")


class Absent(FakeServer):
    """One that is away when it is told to be, or takes connections and says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.is_silent = False
        self.calls = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        self.calls += 1
        self.moved()
        if self.is_away:
            await stream.aclose()
        elif self.is_silent:
            async with stream:
                while await stream.receive_some():
                    pass
        else:
            await super().handle(stream)

    def leave(self) -> None:
        """Be away from now on."""
        self.is_away = True
        self.hang_up()

    def living(self) -> list[list[str]]:
        """The shares that each living connection is connected to."""
        peers = [peer for peer in self.peers if peer.stream.socket.fileno() != -1]
        trees = [[path.rpartition("\\")[2] for path in peer.trees.values()] for peer in peers]
        return [found for found in trees if found]


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for long until another target is looked for."""
    monkeypatch.setattr(link_module, "_LOYALTY", 0.2)


def estate(*movable: str) -> tuple[Namespace, Absent, Absent]:
    """A namespace with links to one server, those of `movable` to another one as well; and the two."""
    namespace = Namespace(**{link: f"\\{FIRST}\\{link}" for link in LINKS})
    for link in movable:
        lead(namespace, link, f"\\{FIRST}\\{link}", f"\\{SECOND}\\{link}", life=600)
    first, second = Absent(), Absent()
    at(FIRST, first).tree.add_file("file", b"first")
    at(SECOND, second).tree.add_file("file", b"second")
    return namespace, first, second


@asynccontextmanager
async def used(namespace: Namespace, *others: FakeServer) -> AsyncGenerator[Crossing, None]:
    """The tree, once all links share a connection."""
    async with crossed(namespace, *others) as whole:
        for link in LINKS:
            await whole.stat(link)
        assert len({share.line for share in whole.shares[1:]}) == 1
        yield whole


def behind(whole: Crossing, link: str) -> Share:
    (share,) = (share for name, share in whole.branches if name == link)
    return share


async def content(whole: Crossing, link: str) -> bytes:
    return await whole.read_file(f"{link}\\file", 10)


async def opened(whole: Crossing, link: str) -> engine.File:
    """A file that comes back on a new connection."""
    file = await behind(whole, link).open("file")
    file.keep(lambda: "file", lambda stat, lost_ns: True)
    return file


def departs(warnings: ExpectedWarnings) -> None:
    warnings.require("is replaced by")


@pytest.mark.parametrize("mover", LINKS)
def test_one_that_could_be_elsewhere_goes_there_and_the_others_wait(
    mover: str, expected_warnings: ExpectedWarnings
) -> None:
    departs(expected_warnings)
    namespace, first, second = estate(mover)
    stayers = [link for link in LINKS if link != mover]

    async def main() -> None:
        async with used(namespace, first, second) as whole:
            files = {link: await opened(whole, link) for link in LINKS}
            first.leave()
            assert await content(whole, mover) == b"second"
            assert {behind(whole, link).condition.state for link in stayers} == {ShareState.RECONNECTING}
            with pytest.raises(engine.HandleLost):
                await files[mover].read_at(0, 10)
            first.is_away = False
            for link in stayers:
                assert bytes(await files[link].read_at(0, 10)) == b"first"
            assert await content(whole, mover) == b"second"
            assert (first.living(), second.living()) == ([stayers], [[mover]])
            assert behind(whole, stayers[0]).line is behind(whole, stayers[1]).line
            assert behind(whole, mover).condition.history.reconnects == 1
            assert behind(whole, mover).condition.state is ShareState.CONNECTED

    trio.run(main)
    assert first.living() == second.living() == []
    assert second.received.count(Command.LOGOFF) == 1
    assert first.received.count(Command.LOGOFF) == 1


def test_all_may_leave_and_the_last_of_each_server_logs_off(
    expected_warnings: ExpectedWarnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    departs(expected_warnings)
    monkeypatch.setattr(branches, "_IDLE_OF_MANY", 0.1)
    namespace, first, second = estate(*LINKS)

    async def main() -> None:
        async with used(namespace, first, second) as whole:
            first.leave()
            for link in LINKS:
                assert await content(whole, link) == b"second"
            assert sorted(second.living()) == [[link] for link in sorted(LINKS)]
            first.is_away = False
            monkeypatch.setattr(branches, "_IDLE", 0.1)
            await second.until(lambda: second.received.count(Command.LOGOFF) == len(LINKS))
            await whole.stat("")
            assert whole.shares == [whole.shares[0]]

    trio.run(main)


def test_a_server_that_is_back_first_keeps_all_and_what_is_open() -> None:
    """The other one takes the connection and says nothing; nobody asks it any more then."""
    namespace, first, second = estate("two")

    async def main() -> None:
        async with used(namespace, first, second) as whole:
            file = await opened(whole, "two")
            second.is_silent = True
            first.leave()
            await second.until(lambda: second.calls == 1)
            first.is_away = False
            assert bytes(await file.read_at(0, 10)) == b"first"
            assert first.living() == [list(LINKS)]
            assert not [step for step in behind(whole, "two").dfs_steps() if step.targets[1].is_active]
            keeper = behind(whole, "two").keeper
            assert keeper is behind(whole, "one").keeper
            assert keeper is not None
            assert not keeper._departed

    trio.run(main)
    assert second.tree_connects == []


@pytest.mark.parametrize("gone", LINKS)
def test_a_share_that_is_gone_is_looked_for_elsewhere_at_once(
    gone: str, expected_warnings: ExpectedWarnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    departs(expected_warnings)
    monkeypatch.setattr(link_module, "_LOYALTY", 1000.0)
    namespace, first, second = estate(*LINKS)

    async def main() -> None:
        async with used(namespace, first, second) as whole:
            first.refused_shares[gone] = ntstatus.STATUS_BAD_NETWORK_NAME
            first.hang_up()
            for link in LINKS:
                assert await content(whole, link) == (b"second" if link == gone else b"first")
            assert first.living() == [[link for link in LINKS if link != gone]]

    trio.run(main)


def test_nobody_is_refused_while_another_target_is_asked(expected_warnings: ExpectedWarnings) -> None:
    """The server has none of the shares any more."""
    departs(expected_warnings)
    expected_warnings.allow("refuses us since the connection was lost")
    namespace, first, second = estate(*LINKS)

    async def main() -> None:
        async with used(namespace, first, second) as whole:
            first.refused_shares |= dict.fromkeys(LINKS, ntstatus.STATUS_BAD_NETWORK_NAME)
            first.hang_up()
            async with trio.open_nursery() as nursery:
                for link in LINKS:
                    nursery.start_soon(whole.stat, f"{link}\\file")
            for link in LINKS:
                assert await content(whole, link) == b"second"

    trio.run(main)


def test_one_that_is_gone_everywhere_is_refused_and_asked_for_again(
    expected_warnings: ExpectedWarnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected_warnings.require("is refused since the connection was lost")
    monkeypatch.setattr(link_module, "_REFUSED", 0.1)
    namespace, first, second = estate("two")

    async def main() -> None:
        async with used(namespace, first, second) as whole:
            for server in (first, second):
                server.refused_shares["two"] = ntstatus.STATUS_BAD_NETWORK_NAME
            first.hang_up()
            with pytest.raises(engine.NtStatusError) as caught:
                await content(whole, "two")
            assert caught.value.status == ntstatus.STATUS_BAD_NETWORK_NAME
            first.refused_shares.clear()
            await behind(whole, "two").wait_returned()
            assert await content(whole, "two") == b"first"
            assert [sorted(shares) for shares in first.living()] == [sorted(LINKS)]

    trio.run(main)


def test_who_left_goes_on_alone_and_may_come_back(expected_warnings: ExpectedWarnings) -> None:
    departs(expected_warnings)
    namespace, first, second = estate("two")

    async def main() -> None:
        async with used(namespace, first, second) as whole:
            first.leave()
            assert await content(whole, "two") == b"second"
            file = await opened(whole, "two")
            second.hang_up()
            assert bytes(await file.read_at(0, 10)) == b"second"
            first.is_away = False
            second.leave()
            assert await content(whole, "two") == b"first"
            assert await content(whole, "one") == b"first"
            assert sorted(first.living()) == [["one", "three"], ["two"]]

    trio.run(main)


def test_who_comes_to_the_server_later_shares_with_who_left_for_it(
    expected_warnings: ExpectedWarnings,
) -> None:
    departs(expected_warnings)
    namespace, first, second = estate("two")
    namespace.links.append("four")
    lead(namespace, "four", f"\\{SECOND}\\four", life=600)

    async def main() -> None:
        async with used(namespace, first, second) as whole:
            first.leave()
            assert await content(whole, "two") == b"second"
            assert await content(whole, "four") == b"second"
            assert second.living() == [["two", "four"]]
            assert behind(whole, "four").lender is None
            second.hang_up()
            assert await content(whole, "four") == b"second"
            assert second.living() == [["two", "four"]]

    trio.run(main)
    assert first.living() == second.living() == []


def test_the_namespace_itself_goes_to_another_of_its_servers(expected_warnings: ExpectedWarnings) -> None:
    """A link that leads to the first of them shares its connection, and waits."""
    departs(expected_warnings)
    root = f"\\{NAMESPACE}\\data"
    namespace = Namespace(link=f"\\{NAMESPACE}\\other")
    second = Namespace()
    for server in (namespace, at(SECOND, second)):
        server.tree.add_file("file", b"content")
        server.tree.controls.referrals[root] = referral(root, root, f"\\{SECOND}\\data", is_root=True)

    async def main() -> None:
        async with crossed(namespace, second) as whole:
            trunk = whole.shares[0]
            assert await whole.read_file("link\\file", 10) == b"content"
            assert len({share.line for share in whole.shares}) == 1
            namespace.refused_shares["data"] = ntstatus.STATUS_BAD_NETWORK_NAME
            namespace.hang_up()
            assert await whole.read_file("file", 10) == b"content"
            assert trunk.place == f"\\\\{SECOND}\\data"
            assert await whole.read_file("link\\file", 10) == b"content"
            living = [peer for peer in namespace.peers if peer.stream.socket.fileno() != -1]
            assert [list(peer.trees.values()) for peer in living] == [[f"\\\\{NAMESPACE}\\other"]]

    trio.run(main)
    assert namespace.received[-1] is second.received[-1] is Command.LOGOFF


@pytest.mark.parametrize("whose", ["its own", "everybody's"])
def test_who_ends_while_another_target_is_asked_leaves_nothing_behind(whose: str) -> None:
    namespace, first, second = estate("two")

    async def connect(
        link: str,
        beside: Callable[[], list[Share]],
        *,
        task_status: trio.TaskStatus[tuple[Share, trio.Event]],
    ) -> None:
        leave = trio.Event()
        async with engine.connect(f"{namespace.unc}/{link}", ACCOUNT, CONFIG, None, beside) as share:
            task_status.started((share, leave))
            await leave.wait()

    async def main() -> None:
        async with crossed(namespace, first, second), trio.open_nursery() as nursery:
            one, end_one = await nursery.start(connect, "one", list)
            two, end_two = await nursery.start(connect, "two", lambda: [one])
            assert one.line is two.line
            second.is_silent = True
            first.leave()
            await second.until(lambda: second.calls > 0)
            if whose == "everybody's":
                nursery.cancel_scope.cancel()
                return
            end_two.set()
            first.is_away = False
            await one.wait_returned()
            await first.until(lambda: first.living() == [["one"]])
            end_one.set()

    trio.run(main)
    assert first.living() == []
    assert second.tree_connects == []
