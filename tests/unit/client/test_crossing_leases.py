"""Leases of what is behind links: which server is asked, whose breaks find them, what a loss leaves."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import engine
from engine import Access, Crossing, Disposition, LeaseState
from engine.client import branches
from engine.wire.constants import Command, Dialect, LeaseBreakFlags
from engine.wire.notify import LeaseBreakAcknowledgement, LeaseBreakNotification
from tests.fakes.server_leases import GrantsLeases
from tests.unit.client.support_dfs import FIRST, SECOND, Namespace, at, crossed, numbers_in, referral
from tests.unit.client.test_leases import Owner, asked, leases_in

RWH = LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING | LeaseState.WRITE_CACHING
RH = LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING


def target(server: GrantsLeases | None = None, host: str = FIRST) -> GrantsLeases:
    """Where a link leads to: a server that grants leases, with a file."""
    server = server or GrantsLeases()
    at(host, server)
    server.tree.add_file("file", b"behind")
    return server


def namespace() -> Namespace:
    """One link, to the first server, and a file of its own."""
    server = Namespace(link=f"\\{FIRST}\\share")
    server.tree.add_file("own", b"own")
    return server


async def take_break(server: GrantsLeases, lease: engine.Lease, state: int, epoch: int) -> None:
    """Have a server break a lease of its newest connection."""
    flags = LeaseBreakFlags.ACK_REQUIRED
    await server.send_break(LeaseBreakNotification(lease.key, 0, state, flags, epoch))


def test_a_file_behind_a_link_is_leased_by_its_server_whose_breaks_find_it() -> None:
    server, behind = namespace(), target()

    async def main() -> None:
        async with crossed(server, behind) as whole:
            owner = Owner()
            lease = whole.lease(owner.on_break)
            file = await whole.open("link\\file", lease=lease, read=10)
            assert lease.state == RWH
            assert asked(behind).lease_key == lease.key
            assert bytes(file.initial_data or b"") == b"behind"
            await take_break(behind, lease, LeaseState.READ_CACHING, 2)
            while not owner.told:
                await wait_all_tasks_blocked(0.01)
            assert owner.told == [(LeaseState.READ_CACHING, True)]
            await lease.acknowledge()
            assert not lease.needs_acknowledgement
            await file.close()
            assert lease.state == 0
            assert [len(share._tree.connection.leases) for share in whole.shares] == [0, 0]

    trio.run(main)
    assert [
        each.lease_state for each in behind.acknowledged if isinstance(each, LeaseBreakAcknowledgement)
    ] == [1]
    assert server.acknowledged == []


def test_a_lease_is_used_at_one_server_at_a_time() -> None:
    """Its state would be one server's word, and its owner would take it for both."""
    server, behind = namespace(), target()

    async def main() -> None:
        async with crossed(server, behind) as whole:
            lease = whole.lease(lambda lease: None)
            there = await whole.open("link\\file", lease=lease)
            behind.asked.clear()
            server.asked.clear()
            here = await whole.open("own", lease=lease)
            await whole.set_basic("own", write_ns=10**18, lease=lease)
            assert [leases_in(request) for request in server.asked] == [[], []]
            await there.close()
            await here.close()
            assert lease.state == 0
            here = await whole.open("own", lease=lease)
            assert asked(server).lease_key == lease.key
            assert lease.state == RWH
            await here.close()

    trio.run(main)


def test_changes_by_name_behind_a_link_break_no_lease_of_ours() -> None:
    server, behind = namespace(), target()
    behind.tree.add_folder("empty")

    async def main() -> None:
        async with crossed(server, behind) as whole:
            lease = whole.lease(lambda lease: None)
            file = await whole.open("link\\file", lease=lease)
            behind.asked.clear()
            await whole.set_basic("link\\file", write_ns=10**18, lease=lease)
            await whole.rename("link\\file", "link\\other", replace=False, lease=lease)
            await whole.link("link\\other", "link\\linked", lease=lease)
            await whole.unlink("link\\other", lease=lease)
            assert [context.lease_key for each in behind.asked for context in leases_in(each)] == [
                lease.key
            ] * 4
            folder = whole.lease(lambda lease: None)
            lease.folder = folder
            behind.asked.clear()
            await whole.mkdir("link\\made", lease=lease)
            await whole.rmdir("link\\made", lease=lease)
            await whole.write_file("link\\new", b"x", lease=lease)
            assert len(behind.asked) == 3
            for each in behind.asked:
                (context,) = leases_in(each)
                assert getattr(context, "parent_lease_key", None) == folder.key
            await file.close()

    trio.run(main)


def test_a_folder_behind_a_link_is_leased_where_its_server_does_that() -> None:
    server, behind, other = namespace(), target(), target(host=SECOND)
    name = "\\127.0.0.1\\data\\other"
    server.tree.add_folder("other")
    server.links.append("other")
    server.tree.controls.referrals[name] = referral(name, f"\\{SECOND}\\share")
    behind.offers_folder_leases = True
    behind.state = RH

    async def main() -> None:
        async with crossed(server, behind, other) as whole:
            for link, state in (("link", RH), ("other", 0), ("", 0)):
                lease = whole.lease(lambda lease: None)
                folder = await whole.open_folder(link, lease=lease)
                assert (folder.lease is lease, lease.state) == (bool(state), state)
                folder.close_later()
                assert lease.state == 0
            assert leases_in(other.asked[-1]) == leases_in(server.asked[-1]) == []

    trio.run(main)


def test_a_link_to_a_server_without_leases_and_a_namespace_without_them() -> None:
    server, behind = namespace(), target(GrantsLeases(dialect=Dialect.SMB_2_1))
    server.offers_leases = False

    async def main() -> None:
        async with crossed(server, behind) as whole:
            assert whole.supports_leases
            lease, other = (whole.lease(lambda lease: None) for _ in range(2))
            there = await whole.open("link\\file", lease=lease)
            here = await whole.open("own", lease=other)
            assert (lease.state, other.state) == (RWH, 0)
            assert leases_in(server.asked[-1]) == []
            await there.close()
            await here.close()

    trio.run(main)


def test_after_a_loss_the_file_is_open_again_under_its_lease() -> None:
    server, behind = namespace(), target()

    async def main() -> None:
        async with crossed(server, behind) as whole:
            owner = Owner()
            lease = whole.lease(owner.on_break)
            file = await whole.open(
                "link\\file", access=Access.READ | Access.WRITE, lease=lease, disposition=Disposition.OPEN
            )
            file.keep(lambda: "link\\file", lambda stat, lost_ns: True)
            assert lease.state == RWH
            term, connections = lease.term, len(server.peers)
            behind.hang_up()
            while not owner.told:
                await wait_all_tasks_blocked(0.01)
            assert owner.told == [(0, False)]
            await file.write_at(0, b"again!")
            assert lease.state == RWH
            assert lease.term == term + 1
            assert len(server.peers) == connections, "the namespace's connection has nothing to do with it"
            await file.close()
            assert lease.state == 0

    trio.run(main)
    assert bytes(behind.tree.node("file").data) == b"again!"


def test_an_open_that_is_given_up_leaves_neither_handle_nor_lease() -> None:
    server, behind = namespace(), target(GrantsLeases(Command.CREATE))
    behind.armed = False

    async def main() -> None:
        async with crossed(server, behind) as whole:
            await whole.stat("link\\file")
            lease = whole.lease(lambda lease: None)
            behind.armed = True
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lambda: whole.open("link\\file", lease=lease))
                    await behind.until(lambda: len(behind.held) == 1)
                    scope.cancel()
            assert lease.state == 0
            await behind.release()
            await behind.until(lambda: not behind.tree.opens)
            here = await whole.open("own", lease=lease)
            assert lease.state == RWH
            await here.close()

    trio.run(main)


def test_a_link_that_leads_to_another_server_now_has_files_of_other_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And those of the same server have the same ones when it is come to again."""
    monkeypatch.setattr(branches, "_IDLE", 0.05)
    monkeypatch.setattr(branches, "_IDLE_OF_MANY", 0.05)
    server, first, second = namespace(), target(), target(host=SECOND)
    name = "\\127.0.0.1\\data\\link"
    leads_to_second = referral(name, f"\\{SECOND}\\share")

    async def number(whole: Crossing) -> int:
        numbers = await numbers_in(whole, "link")
        assert numbers["file"] == (await whole.stat("link\\file")).file_id
        return numbers["file"]

    async def main() -> None:
        async with crossed(server, first, second) as whole:
            found = [await number(whole)]
            await first.until(lambda: Command.LOGOFF in first.received)
            found.append(await number(whole))
            await first.until(lambda: first.received.count(Command.LOGOFF) == 2)
            server.tree.controls.referrals |= dict.fromkeys((name, f"{name}\\file"), leads_to_second)
            found.append(await number(whole))
            assert found[0] == found[1] != found[2]

    trio.run(main)


def test_a_renaming_whose_answer_got_lost_is_looked_up_by_the_servers_number() -> None:
    """It is not carried out twice: what has the old name by then is another client's file."""
    server, behind = namespace(), target(GrantsLeases(Command.SET_INFO))

    async def main() -> None:
        async with crossed(server, behind) as whole:
            number = (await whole.stat("link\\file")).file_id
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    lambda: whole.rename("link\\file", "link\\other", replace=False, file_id=number)
                )
                await behind.until(lambda: len(behind.held) == 1)
                behind.tree.add_file("file", b"somebody else's")
                behind.armed = False
                behind.hang_up()

    trio.run(main)
    assert bytes(behind.tree.node("other").data) == b"behind"
    assert bytes(behind.tree.node("file").data) == b"somebody else's"
