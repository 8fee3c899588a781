"""Shares of one server on one connection: when it is shared, what a loss does to each, who leaves it when."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
import trio

import engine
from engine import Access, Crossing, Dialect, ntstatus
from engine.client import branches
from engine.client import link as link_module
from engine.wire.constants import Command
from tests.fakes.server import FakeServer, running
from tests.fakes.server_behaviours import KeepsWaiting
from tests.fakes.server_durable import Grant, KeepsOpens
from tests.fakes.server_leases import GrantsLeases
from tests.support.logcheck import ExpectedWarnings
from tests.unit.client.support import ACCOUNT, DEADLINE, NOBODY
from tests.unit.client.support_dfs import CONFIG, FIRST, SECOND, Namespace, at, crossed, lead, referral

LINKS = ("one", "two", "three")


def servers(first: FakeServer | None = None) -> tuple[Namespace, FakeServer]:
    """Links to shares of one server, and the server."""
    namespace = Namespace(**{link: f"\\{FIRST}\\{link}" for link in LINKS})
    first = at(FIRST, first)
    first.tree.add_file("file", b"behind")
    return namespace, first


def connected_to(server: FakeServer) -> list[str]:
    """The shares that a server's living connections are connected to."""
    return [path.rpartition("\\")[2] for peer in server.peers for path in peer.trees.values()]


async def read_all(whole: Crossing) -> None:
    for link in LINKS:
        assert await whole.read_file(f"{link}\\file", 10) == b"behind"


def test_links_to_one_server_share_a_connection_and_a_session() -> None:
    namespace, first = servers()

    async def main() -> None:
        async with crossed(namespace, first) as whole:
            before = connected_to(namespace)
            await read_all(whole)
            assert len(first.peers) == len(namespace.peers) == 1
            assert first.received.count(Command.SESSION_SETUP) == 2
            assert connected_to(first) == list(LINKS)
            assert connected_to(namespace) == before
            assert len({share.line for share in whole.shares}) == 2
            one, *others = (share.statistics() for share in whole.shares[1:])
            assert all(other == one for other in others)
            assert whole.upload()[0] == sum(share.upload()[0] for share in whole.shares[:2])

    trio.run(main)
    assert connected_to(first) == []


def test_those_who_come_at_once_do_so_too() -> None:
    namespace, first = servers()

    async def main() -> None:
        async with crossed(namespace, first) as whole, trio.open_nursery() as nursery:
            for link in LINKS * 3:
                nursery.start_soon(whole.stat, link)

    trio.run(main)
    assert len(first.peers) == 1


def test_where_the_first_cannot_connect_the_others_try_for_themselves(
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings.allow("cannot be followed")
    namespace, first = servers()
    first.refused_shares["one"] = ntstatus.STATUS_ACCESS_DENIED

    async def main() -> None:
        async with crossed(namespace, first) as whole:
            outcomes: dict[str, bool] = {}

            async def look(link: str) -> None:
                try:
                    await whole.stat(link)
                except engine.AccessDenied:
                    outcomes[link] = False
                else:
                    outcomes[link] = True

            async with trio.open_nursery() as nursery:
                for link in LINKS:
                    nursery.start_soon(look, link)
            assert outcomes == {"one": False, "two": True, "three": True}

    trio.run(main)


def test_a_link_to_the_namespaces_own_server_uses_its_connection() -> None:
    namespace = Namespace(link="\\127.0.0.1\\other")
    namespace.tree.add_file("file", b"behind")

    async def main() -> None:
        async with crossed(namespace) as whole:
            before = connected_to(namespace)
            assert await whole.read_file("link\\file", 10) == b"behind"
            assert connected_to(namespace) == [*before, "other"]

    trio.run(main)
    assert len(namespace.peers) == 1


def test_breaks_find_the_leases_of_all_its_shares() -> None:
    behind = GrantsLeases()
    namespace, first = servers(behind)

    async def main() -> None:
        async with crossed(namespace, first) as whole:
            files = []
            for link in LINKS:
                lease = whole.lease(lambda lease: None)
                files.append((await whole.open(f"{link}\\file", lease=lease), lease))
            assert [lease.state for _, lease in files] == [7, 7, 7]
            assert len(whole.shares[1]._tree.connection.leases) == 3
            for file, lease in files:
                await file.close()
                assert lease.state == 0

    trio.run(main)


@pytest.mark.parametrize("grants", [Grant.NOTHING, Grant.DURABLE])
def test_all_come_back_over_one_new_connection(grants: Grant) -> None:
    behind = KeepsOpens(grants)
    namespace, first = servers(behind)

    async def main() -> None:
        async with crossed(namespace, first) as whole:
            files = []
            for link in LINKS:
                lease = whole.lease(lambda lease: None)
                file = await whole.open(f"{link}\\file", access=Access.READ | Access.WRITE, lease=lease)
                file.keep(partial(str, f"{link}\\file"), lambda stat, lost_ns: True)
                files.append((file, lease))
            for _ in range(3):
                connections = len(first.peers)
                first.hang_up()
                async with trio.open_nursery() as nursery:
                    for file, _ in files:
                        nursery.start_soon(file.write_at, 0, b"again!")
                assert len(first.peers) == connections + 1
                assert list(first.peers[-1].trees.values()) == [f"\\\\{FIRST}\\{link}" for link in LINKS]
                if grants is Grant.NOTHING:
                    assert [lease.state for _, lease in files] == [7, 7, 7]
            for file, _ in files:
                await file.close()
            await first.until(lambda: not first.tree.opens)
            assert len(behind.reconnects) == (9 if grants is Grant.DURABLE else 0)

    trio.run(main)


def test_a_share_that_is_gone_after_a_loss_is_asked_for_while_the_others_are_used(
    expected_warnings: ExpectedWarnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected_warnings.require("is refused since the connection was lost")
    monkeypatch.setattr(link_module, "_REFUSED", 0.1)
    namespace, first = servers()

    async def main(gone: str) -> None:
        first.refused_shares.clear()
        async with crossed(namespace, first) as whole:
            await read_all(whole)
            first.refused_shares[gone] = ntstatus.STATUS_BAD_NETWORK_NAME
            first.hang_up()
            connections = len(first.peers)
            with pytest.raises(engine.NtStatusError) as caught:
                await whole.stat(f"{gone}\\file")
            assert caught.value.status == ntstatus.STATUS_BAD_NETWORK_NAME
            for link in LINKS:
                if link != gone:
                    assert await whole.read_file(f"{link}\\file", 10) == b"behind"
            first.refused_shares.clear()
            (share,) = (share for name, share in whole.branches if name == gone)
            await share.wait_returned()
            await read_all(whole)
            assert len(first.peers) == connections + 1

    for gone in ("one", "two"):
        trio.run(main, gone)
        first.peers.clear()
        namespace.port = first.port = 0


def test_who_shares_is_left_when_idle_and_whose_connection_it_is_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(branches, "_IDLE", 0.1)
    monkeypatch.setattr(branches, "_IDLE_OF_MANY", 0.1)
    namespace, first = servers()

    async def main() -> None:
        async with crossed(namespace, first) as whole:
            for link in LINKS:
                await whole.stat(link)
            file = await whole.open("two\\file")
            await first.until(lambda: len(connected_to(first)) == 2)
            assert connected_to(first) == ["one", "two"]
            assert bytes(await file.read_at(0, 10)) == b"behind"
            await file.close()
            await first.until(lambda: Command.LOGOFF in first.received)
            assert len(whole.shares) == 1
            await read_all(whole)

    trio.run(main)
    assert len(first.peers) == 2


def test_a_share_that_could_be_elsewhere_too_shares_as_well() -> None:
    namespace, first = servers()
    lead(namespace, "two", f"\\{FIRST}\\two", f"\\{SECOND}\\two", life=600)
    namespace.tree.controls.referrals[f"\\{first.host}"] = referral(f"\\{FIRST}", f"\\{FIRST}\\one")

    async def main() -> None:
        async with crossed(namespace, first) as whole:
            await read_all(whole)
            assert len({share.line for share in whole.shares}) == 2
            assert connected_to(first) == list(LINKS)

    trio.run(main)
    assert len(first.peers) == 1


@asynccontextmanager
async def beside(
    first: FakeServer, config: engine.ConnectConfig, account: engine.Credentials
) -> AsyncGenerator[tuple[engine.Share, engine.Share], None]:
    """Two shares of one server, the second as it is told."""
    with trio.fail_after(DEADLINE):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(running(first))
            one = await stack.enter_async_context(engine.connect(first.unc, ACCOUNT, CONFIG))
            other = engine.connect(first.unc, account, config, None, lambda: [one])
            yield one, await stack.enter_async_context(other)


@pytest.mark.parametrize(
    ("config", "credentials", "shares"),
    [
        (CONFIG, ACCOUNT, True),
        (replace(CONFIG, seal=True), ACCOUNT, False),
        (replace(CONFIG, signing=False), ACCOUNT, False),
        (CONFIG, NOBODY, False),
    ],
    ids=["same", "sealed", "unsigned", "nobody"],
)
def test_only_what_is_the_same_is_shared(
    config: engine.ConnectConfig, credentials: engine.Credentials, shares: bool
) -> None:
    first = FakeServer(signing_required=False)

    async def main() -> None:
        async with beside(first, config, credentials) as (one, other):
            assert (one.line is other.line) is shares
            assert other.lender is None if shares else other.lender is not None
            await other.echo()

    trio.run(main)
    assert len(first.peers) == (1 if shares else 2)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_every_dialect_shares(dialect: Dialect) -> None:
    """Where a share's connection has the negotiation confirmed, it is that of the connection."""
    first = FakeServer(dialect=dialect)

    async def main() -> None:
        async with beside(first, CONFIG, ACCOUNT) as (one, other):
            assert one.line is other.line
            first.hang_up()
            await one.wait_lost()
            await other.stat("")
            await one.stat("")

    trio.run(main)
    assert len(first.peers) == 2


def test_a_connection_that_is_lost_while_it_is_lent_is_replaced_by_an_own_one() -> None:
    namespace, first = servers(KeepsWaiting(Command.TREE_CONNECT))
    assert isinstance(first, KeepsWaiting)
    first.armed = False

    async def main() -> None:
        async with crossed(namespace, first) as whole:
            await whole.stat("one")
            first.armed = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(whole.stat, "two")
                await first.until(lambda: len(first.held) == 1)
                first.armed = False
                first.hang_up()
            await read_all(whole)

    trio.run(main)


def test_what_waits_for_a_share_that_is_left_gets_an_error() -> None:
    first = FakeServer()

    async def main() -> None:
        with trio.fail_after(DEADLINE):
            async with running(first), engine.connect(first.unc, ACCOUNT, CONFIG) as one:
                async with engine.connect(first.unc, ACCOUNT, CONFIG, None, lambda: [one]) as other:
                    first.refuses_accounts = True
                    file = await other.open("new", disposition=engine.Disposition.CREATE)
                    assert other.has_open_files
                first.hang_up()
                await one.wait_lost()
                with pytest.raises(engine.SmbError):
                    await file.read_at(0, 1)
                first.refuses_accounts = False
                await one.wait_returned()
                await one.echo()
                assert list(first.peers[-1].trees.values()) == [f"\\\\{first.host}\\data"]

    trio.run(main)


def test_a_share_that_is_left_while_the_connection_is_made_anew_is_not_kept() -> None:
    first = KeepsWaiting(Command.TREE_CONNECT, armed=False)
    there = trio.Event()

    async def use(one: engine.Share, leave: trio.Event) -> None:
        other = first.unc.replace("data", "other")
        async with engine.connect(other, ACCOUNT, CONFIG, None, lambda: [one]) as share:
            assert share.line is one.line
            there.set()
            await leave.wait()

    async def main() -> None:
        leave = trio.Event()
        with trio.fail_after(DEADLINE):
            async with running(first), engine.connect(first.unc, ACCOUNT, CONFIG) as one:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(use, one, leave)
                    await there.wait()
                    first.armed = True
                    first.hang_up()
                    await first.until(lambda: len(first.held) == 1)
                    leave.set()
                await first.release()
                await one.wait_returned()
                await one.echo()
                await first.until(lambda: connected_to_last(first) == ["data"])

    def connected_to_last(server: FakeServer) -> list[str]:
        return [path.rpartition("\\")[2] for path in server.peers[-1].trees.values()]

    trio.run(main)
