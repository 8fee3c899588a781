"""Crossing links: which share is asked, when one is connected to, and when it is left."""

from __future__ import annotations

import errno
from contextlib import suppress
from functools import partial

import pytest
import trio

import engine
from engine import Access, Crossing, Disposition, ntstatus
from engine.client import branches
from engine.wire.constants import Command
from tests.fakes.server import FakeServer
from tests.support.logcheck import ExpectedWarnings
from tests.unit.client.support_dfs import (
    FIRST,
    NAMESPACE,
    SECOND,
    Namespace,
    at,
    crossed,
    lead,
    numbers_in,
    referral,
)


def test_each_path_is_asked_of_the_share_that_has_it() -> None:
    server, target = Namespace(link=f"\\{FIRST}\\share\\sub"), at(FIRST)
    server.tree.add_file("own", b"own")
    target.tree.add_folder("sub")
    target.tree.add_file("sub\\file", b"behind")

    async def main() -> None:
        async with crossed(server, target) as whole:
            assert await whole.read_file("own", 10) == b"own"
            assert target.peers == []
            assert (await whole.stat("link")).is_directory
            assert await whole.read_file("LINK\\file", 10) == b"behind"
            assert [len(share.dfs_steps()) for share in whole.shares] == [0, 1]

    trio.run(main)
    assert len(target.peers) == 1


def test_files_have_numbers_of_the_whole_which_others_cannot_guess() -> None:
    """One of another server, by the same number there, is not the same file."""
    server = Namespace(one=f"\\{FIRST}\\share", two=f"\\{SECOND}\\share", three=f"\\{SECOND}\\share")
    first, second = at(FIRST), at(SECOND)
    server.tree.add_file("own", b"own").file_id = 1000
    for target in (first, second):
        target.tree.add_file("file", b"behind").file_id = 1000
        target.tree.add_file("none").file_id = 0

    async def main() -> None:
        async with crossed(server, first, second) as whole:
            assert (await whole.stat("own")).file_id == 1000
            numbers = {}
            for link in ("one", "two", "three"):
                assert (await whole.stat(link)).file_id
                assert not (await whole.stat(f"{link}\\none")).file_id
                file = await whole.open(f"{link}\\file", read=1)
                told = [file.stat, await file.query(), await whole.stat(f"{link}\\file", details=False)]
                numbers[link] = told[0].file_id
                listed = await numbers_in(whole, link)
                assert listed == {"file": numbers[link], "none": 0}
                assert [stat.file_id for stat in told] == [numbers[link]] * 3
                await file.close()
            assert len({0, 1000, *numbers.values()}) == 5

    trio.run(main)


def test_many_who_come_to_a_link_at_once_connect_once() -> None:
    server, target = Namespace(link=f"\\{FIRST}\\share"), at(FIRST)

    async def main() -> None:
        async with crossed(server, target) as whole, trio.open_nursery() as nursery:
            write = partial(whole.write_file, "link\\new", b"content", disposition=Disposition.OPEN_IF)
            for number in range(20):
                nursery.start_soon(write)
                if number % 5 == 0:
                    await trio.lowlevel.checkpoint()

    trio.run(main)
    assert len(target.peers) == 1


def test_what_would_need_two_servers_is_refused_before_anything_is_sent() -> None:
    server = Namespace(one=f"\\{FIRST}\\share", two=f"\\{SECOND}\\share")
    first, second = at(FIRST), at(SECOND)
    server.tree.add_file("own")
    first.tree.add_file("file")

    async def main() -> None:
        async with crossed(server, first, second) as whole:
            for link in ("one", "two"):
                await whole.stat(link)
            sent = first.received.count(Command.SET_INFO), second.received.count(Command.SET_INFO)
            for attempt in (
                whole.rename("one\\file", "two\\file", replace=True),
                whole.rename("own", "one\\own", replace=True),
                whole.rename("one", "three", replace=True),
                whole.link("one\\file", "file"),
                whole.copy("own", "two\\own"),
            ):
                with pytest.raises(engine.SmbError) as caught:
                    await attempt
                assert caught.value.errno == errno.EXDEV
            for attempt in (whole.rmdir("one"), whole.unlink("one")):
                with pytest.raises(engine.SmbError) as caught:
                    await attempt
                assert caught.value.errno == errno.EBUSY
            assert sent == (first.received.count(Command.SET_INFO), second.received.count(Command.SET_INFO))
            await whole.rename("one\\file", "one\\other", replace=False)

    trio.run(main)
    assert list(first.tree.root.children) == ["other"]


def test_a_link_that_cannot_be_followed_is_not_tried_each_time(expected_warnings: ExpectedWarnings) -> None:
    expected_warnings.allow("the link link cannot be followed")
    server, target = Namespace(link=f"\\{FIRST}\\share"), at(FIRST)
    target.refuses_accounts = True

    async def main() -> None:
        async with crossed(server, target) as whole:
            for _ in range(5):
                with pytest.raises(engine.AuthError):
                    await whole.stat("link")

    trio.run(main)
    assert len(target.peers) == 1


def test_links_that_could_not_be_followed_are_not_remembered_for_ever(
    expected_warnings: ExpectedWarnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected_warnings.allow("cannot be followed")
    monkeypatch.setattr(branches, "_AGAIN", 0.0)
    server = Namespace(**{f"link{number}": f"\\{FIRST}\\share" for number in range(5)})

    async def main() -> None:
        async with crossed(server) as whole:
            for number in range(5):
                with pytest.raises(engine.SmbError):
                    await whole.stat(f"link{number}")
            assert len(whole._branches._joining) == 1

    trio.run(main)


def test_a_mistake_at_one_link_does_not_end_the_rest(
    expected_warnings: ExpectedWarnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected_warnings.require("ended in a mistake of this program")
    server = Namespace(link=f"\\{FIRST}\\share")
    server.tree.add_file("here", b"content")

    def mistaken(self: branches.Branches, branch: object) -> None:
        raise RuntimeError("mistake")

    async def main() -> None:
        async with crossed(server, at(FIRST)) as whole:
            monkeypatch.setattr(branches.Branches, "_wait_idle", mistaken)
            with suppress(engine.SmbError):
                await whole.stat("link")
            assert await whole.read_file("here", 10) == b"content"

    trio.run(main)


def test_a_link_that_leads_to_itself_is_no_loop(expected_warnings: ExpectedWarnings) -> None:
    expected_warnings.allow("cannot be followed")
    server = Namespace(link=f"\\{NAMESPACE}\\data\\link")

    async def main() -> None:
        async with crossed(server) as whole:
            with pytest.raises(engine.SmbError, match="in a circle") as caught:
                await whole.stat("link")
            assert caught.value.errno == errno.ELOOP

    trio.run(main)


def test_a_share_that_nobody_uses_is_left_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "_IDLE", 0.1)
    monkeypatch.setattr(branches, "_IDLE_OF_MANY", 0.1)
    server, target = Namespace(link=f"\\{FIRST}\\share"), at(FIRST)
    target.tree.add_file("file", b"behind")

    async def main() -> None:
        async with crossed(server, target) as whole:
            file = await whole.open("link\\file")
            await trio.sleep(0.3)
            assert bytes(await file.read_at(0, 10)) == b"behind"  # still open, so still connected
            assert len(whole.shares) == 2
            await file.close()
            await target.until(lambda: Command.LOGOFF in target.received)
            assert len(whole.shares) == 1
            assert await whole.read_file("link\\file", 10) == b"behind"

    trio.run(main)
    assert len(target.peers) == 2


# Links that change


def expire(whole: Crossing) -> None:
    """Let the time to live of all referrals have passed."""
    for branch in whole._branches.all():
        branch.expires = 0.0


def asked_for_referrals(server: FakeServer) -> int:
    return server.received.count(Command.IOCTL)


def changing() -> tuple[Namespace, FakeServer, FakeServer]:
    """A link to the first of two servers, and the two."""
    server, first, second = Namespace(link=f"\\{FIRST}\\share"), at(FIRST), at(SECOND)
    lead(server, "link", f"\\{FIRST}\\share")
    first.tree.add_file("file", b"first")
    second.tree.add_file("file", b"second")
    return server, first, second


def test_a_link_is_asked_for_again_once_its_referral_has_expired() -> None:
    server, first, second = changing()

    async def main() -> None:
        async with crossed(server, first, second) as whole:
            await whole.stat("link\\file")
            (_, branch) = whole._branches.all()
            assert 0 < branch.expires - trio.current_time() <= 5
            asked = asked_for_referrals(server)
            for _ in range(5):
                await whole.stat("link\\file")
            assert asked_for_referrals(server) == asked
            expire(whole)
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(whole.stat, "link\\file")
            assert asked_for_referrals(server) == asked + 1
            assert 0 < branch.expires - trio.current_time() <= 5
            assert [share for _, share in whole.branches][1] is branch.share

    trio.run(main)
    assert len(first.peers) == 1
    assert second.peers == []


def test_what_is_open_stays_where_a_link_led_and_the_next_open_goes_where_it_leads() -> None:
    server, first, second = changing()

    async def main() -> None:
        async with crossed(server, first, second) as whole:
            old = await whole.open("link\\file", access=Access.READ | Access.WRITE)
            old.keep(lambda: "link\\file", lambda stat, lost_ns: True)
            lead(server, "link", f"\\{SECOND}\\share")
            assert await whole.read_file("link\\file", 10) == b"first"
            expire(whole)
            new = await whole.open("link\\file")
            assert new.stat.file_id != old.stat.file_id
            assert bytes(await new.read_at(0, 10)) == b"second"
            assert bytes(await old.read_at(0, 10)) == b"first"
            with pytest.raises(engine.SmbError) as caught:
                await old.link("link\\linked")
            assert caught.value.errno == errno.EXDEV
            first.hang_up()
            await old.write_at(0, b"FIRST")
            assert [name for name, _ in whole.branches] == ["", "link", "link"]
            await old.close()
            await first.until(lambda: Command.LOGOFF in first.received)
            await new.close()
            assert len(whole.shares) == 2

    trio.run(main)
    assert bytes(first.tree.node("file").data) == b"FIRST"
    assert "linked" not in first.tree.root.children


def test_a_link_that_was_removed_leads_nowhere_once_its_referral_has_expired() -> None:
    server, first, second = changing()

    async def main() -> None:
        async with crossed(server, first, second) as whole:
            await whole.stat("link\\file")
            server.links.remove("link")
            server.tree.controls.referrals.clear()
            server.tree.add_file("link\\own")
            await whole.stat("link\\file")
            expire(whole)
            for attempt in (whole.stat("link\\file"), whole.rename("link\\file", "link\\x", replace=False)):
                with pytest.raises(engine.NotFound):
                    await attempt
            await whole.stat("link\\own")
            await first.until(lambda: Command.LOGOFF in first.received)
            assert len(whole.shares) == 1

    trio.run(main)


def test_a_link_leads_where_it_did_while_its_namespace_cannot_tell(
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings.allow("refuses us since the connection was lost")
    server, first, second = changing()

    async def main() -> None:
        async with crossed(server, first, second) as whole:
            await whole.stat("link\\file")
            lead(server, "link", f"\\{SECOND}\\share")
            server.refusals[Command.IOCTL] = ntstatus.STATUS_ACCESS_DENIED
            expire(whole)
            asked = asked_for_referrals(server)
            for _ in range(5):
                assert await whole.read_file("link\\file", 10) == b"first"
            assert asked_for_referrals(server) == asked + 1
            server.refusals.clear()
            server.hang_up()
            server.refuses_accounts = True
            expire(whole)
            for _ in range(5):
                assert await whole.read_file("link\\file", 10) == b"first"
            server.refuses_accounts = False

    trio.run(main)


def test_who_asks_for_a_link_again_may_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others that wait for it ask themselves; where nobody answers, it leads where it did."""
    monkeypatch.setattr(branches, "_ASKING", 0.2)
    server, first, second = changing()
    server.commands = (Command.IOCTL,)
    server.armed = False

    async def main() -> None:
        async with crossed(server, first, second) as whole:
            await whole.stat("link\\file")
            lead(server, "link", f"\\{SECOND}\\share")
            expire(whole)
            server.armed = True
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as first_to_ask:
                        first_to_ask.start_soon(whole.stat, "link\\file")
                        await server.until(lambda: len(server.held) == 1)
                        nursery.start_soon(whole.stat, "link\\file")
                        scope.cancel()
                await server.until(lambda: len(server.held) == 2)
            assert await whole.read_file("link\\file", 10) == b"first"
            await server.release()
            expire(whole)
            assert await whole.read_file("link\\file", 10) == b"second"

    trio.run(main)


def test_what_is_behind_a_link_in_a_link_goes_with_it() -> None:
    """The first link leads to another namespace, whose link is followed until the outer one changes."""
    server, inner, second = Namespace(link=f"\\{FIRST}\\data"), Namespace(), at(SECOND)
    at(FIRST, inner)
    lead(server, "link", f"\\{FIRST}\\data")
    inner.links.append("deep")
    inner.tree.add_folder("deep")
    name = f"\\{FIRST}\\data\\deep"
    inner.tree.controls.referrals |= dict.fromkeys(
        (name, f"{name}\\file"), referral(name, f"\\{SECOND}\\share")
    )
    second.tree.add_file("file", b"second")
    # To the outer namespace's clients too the inner link is a name of the whole.
    for asked in ("link\\deep", "link\\deep\\file"):
        outer = f"\\{NAMESPACE}\\data\\link"
        server.tree.controls.referrals[f"\\{NAMESPACE}\\data\\{asked}"] = referral(outer, f"\\{FIRST}\\data")

    async def main() -> None:
        async with crossed(server, inner, second) as whole:
            assert await whole.read_file("link\\deep\\file", 10) == b"second"
            assert [link for link, _ in whole.branches] == ["", "link", "link\\deep"]
            lead(server, "link", f"\\{SECOND}\\share")
            (_, outer, _) = whole._branches.all()
            outer.expires = 0.0
            with pytest.raises(engine.NotFound):
                await whole.read_file("link\\deep\\file", 10)
            assert await whole.read_file("link\\file", 10) == b"second"

    trio.run(main)


def test_a_link_to_a_link_of_another_namespace_is_followed_all_the_way_again() -> None:
    server, inner = Namespace(link=f"\\{FIRST}\\data\\on"), Namespace(on=f"\\{SECOND}\\share")
    at(FIRST, inner)
    second = at(SECOND)
    name, links = f"\\{FIRST}\\data\\on", inner.tree.controls.referrals
    lead(server, "link", f"\\{FIRST}\\data\\on", life=600)
    links[name] = referral(name, f"\\{SECOND}\\share", life=5)
    second.tree.add_file("file", b"second")
    second.tree.add_folder("sub")
    second.tree.add_file("sub\\file", b"in a folder")

    async def main() -> None:
        async with crossed(server, inner, second) as whole:
            assert await whole.read_file("link\\file", 10) == b"second"
            (_, branch) = whole._branches.all()
            assert not branch.is_direct
            assert 0 < branch.expires - trio.current_time() <= 5
            expire(whole)
            assert await whole.read_file("link\\file", 10) == b"second"
            assert 0 < branch.expires - trio.current_time() <= 5
            assert whole._branches.all()[1:] == [branch]
            assert len(second.peers) == 2
            links[name] = referral(name, f"\\{SECOND}\\share\\sub", life=5)
            expire(whole)
            assert await whole.read_file("link\\file", 20) == b"in a folder"
            assert len(second.peers) == 4

    trio.run(main)
