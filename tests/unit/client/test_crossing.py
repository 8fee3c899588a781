"""Crossing links: which share is asked, when one is connected to, and when it is left."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from functools import partial

import pytest
import trio

import engine
from engine import Crossing, Disposition, ntstatus
from engine.client import crossing
from engine.wire.constants import Command, ShareFlags
from engine.wire.create import CreateRequest, CreateResponse
from tests.fakes.server import FakeServer, running
from tests.fakes.server_controls import Refused
from tests.fakes.server_leases import GrantsLeases
from tests.support.logcheck import ExpectedWarnings
from tests.unit.client.support import ACCOUNT, DEADLINE
from tests.unit.client.test_dfs import FIRST, NAMESPACE, SECOND, at, referral

CONFIG = engine.ConnectConfig(dfs_hosts=(FIRST, SECOND), reconnect=True)


class Namespace(GrantsLeases):
    """A share with links, at which it says that what is there is elsewhere."""

    def __init__(self, **links: str) -> None:
        super().__init__()
        self.share_flags = ShareFlags.DFS | ShareFlags.DFS_ROOT
        self.links = list(links)
        for link, target in links.items():
            name = f"\\{NAMESPACE}\\data\\{link}"
            self.tree.add_folder(link)
            for asked in (name, f"{name}\\file", f"{name}\\new"):
                self.tree.controls.referrals[asked] = referral(name, target)

    def create(self, request: CreateRequest) -> CreateResponse:
        if request.name.split("\\")[0] in self.links:
            raise Refused(ntstatus.STATUS_PATH_NOT_COVERED)
        return super().create(request)


@asynccontextmanager
async def crossed(server: Namespace, *others: FakeServer) -> AsyncGenerator[Crossing, None]:
    """The servers as one."""
    with trio.fail_after(DEADLINE):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(running(server))
            for other in others:
                other.port = server.port
                await stack.enter_async_context(running(other))
            share = await stack.enter_async_context(engine.connect(server.unc, ACCOUNT, CONFIG))
            async with trio.open_nursery() as tasks:
                yield Crossing(
                    share, lambda path: engine.connect(f"{server.unc}/{path}", ACCOUNT, CONFIG), tasks
                )
                tasks.cancel_scope.cancel()


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


async def numbers_in(whole: Crossing, path: str) -> dict[str, int]:
    """The numbers of a folder's entries, by their names."""
    folder = await whole.open_folder(path)
    async with aclosing(folder.batches()) as batches:
        found = {entry.name: entry.stat.file_id async for batch in batches for entry in batch}
    folder.close_later()
    return found


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
    monkeypatch.setattr(crossing, "_AGAIN", 0.0)
    server = Namespace(**{f"link{number}": f"\\{FIRST}\\share" for number in range(5)})

    async def main() -> None:
        async with crossed(server) as whole:
            for number in range(5):
                with pytest.raises(engine.SmbError):
                    await whole.stat(f"link{number}")
            assert len(whole._joining) == 1

    trio.run(main)


def test_a_mistake_at_one_link_does_not_end_the_rest(
    expected_warnings: ExpectedWarnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected_warnings.require("ended in a mistake of this program")
    server = Namespace(link=f"\\{FIRST}\\share")
    server.tree.add_file("here", b"content")

    def mistaken(self: Crossing, branch: object) -> None:
        raise RuntimeError("mistake")

    async def main() -> None:
        async with crossed(server, at(FIRST)) as whole:
            monkeypatch.setattr(Crossing, "_wait_idle", mistaken)
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
    monkeypatch.setattr(crossing, "_IDLE", 0.1)
    monkeypatch.setattr(crossing, "_IDLE_OF_MANY", 0.1)
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
