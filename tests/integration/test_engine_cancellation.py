"""Work that is given up half-way leaves nothing behind: no handle, no lock, no request, no credit."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import pytest
import trio
import trio.lowlevel

from engine import (
    Access,
    AlreadyExists,
    ConnectConfig,
    Disposition,
    NotFound,
    NtStatusError,
    Share,
    ShareAccess,
)
from tests.integration.support_engine import (
    MIB,
    READ_WRITE,
    assert_nothing_left,
    connected,
    fill_credits,
    in_trio,
    inside,
    listing,
    settle,
)
from tests.support.samba import SambaServer

_Work: TypeAlias = Callable[[Share, str], Awaitable[None]]


async def open_and_close(share: Share, path: str) -> None:
    async with await share.open(path, access=READ_WRITE):
        pass


async def open_exclusively(share: Share, path: str) -> None:
    async with await share.open(path, share_access=ShareAccess(0)):
        pass


async def read(share: Share, path: str) -> None:
    async with await share.open(path) as file:
        await file.read_at(0, 3 * MIB)


async def write(share: Share, path: str) -> None:
    async with await share.open(path, access=READ_WRITE) as file:
        await file.write_at(0, bytes(3 * MIB))
        await file.flush()


async def lock(share: Share, path: str) -> None:
    async with await share.open(path, access=READ_WRITE) as file:
        await file.lock(0, 10, exclusive=True, wait=True)
        await file.unlock(0, 10)


async def ask_and_close(share: Share, path: str) -> None:
    file = await share.open(path)
    try:
        await file.query()
        await file.close_and_stat()
    finally:
        file.close_later()


async def list_folder(share: Share, path: str) -> None:
    await listing(share, path.rpartition("\\")[0])


async def rename_there_and_back(share: Share, path: str) -> None:
    for source, target in ((path, f"{path}.renamed"), (f"{path}.renamed", path)):
        # What was given up before may have been done all the same.
        with suppress(NotFound):
            await share.rename(source, target, replace=True)


async def make_and_remove(share: Share, path: str) -> None:
    with suppress(AlreadyExists):
        await share.mkdir(f"{path}.folder")
    with suppress(NotFound):
        await share.rmdir(f"{path}.folder")


async def copy(share: Share, path: str) -> None:
    await share.copy(path, f"{path}.copy", replace=True)


async def whole_file(share: Share, path: str) -> None:
    await share.write_file(f"{path}.small", bytes(100_000), disposition=Disposition.OVERWRITE_IF)
    await share.read_file(f"{path}.small", 200_000)


WORK: Final[list[_Work]] = [
    open_and_close,
    open_exclusively,
    read,
    write,
    lock,
    ask_and_close,
    list_folder,
    rename_there_and_back,
    make_and_remove,
    copy,
    whole_file,
]


async def give_up_after(steps: int, work: _Work, share: Share, path: str) -> bool:
    """Run `work` and cancel it after so many turns of the event loop; tells whether it was cancelled."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def count() -> None:
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            nursery.start_soon(count)
            # Several at once get into each other's way.
            with suppress(NtStatusError):
                await work(share, path)
            nursery.cancel_scope.cancel()
    return scope.cancelled_caught


@pytest.mark.parametrize("work", WORK)
@in_trio
async def test_given_up_at_any_moment(samba: SambaServer, share_path: Path, work: _Work) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        await share.write_file(path, bytes(3 * MIB))
        credits = await fill_credits(share)
        chance = random.Random(work.__name__)
        given_up = 0
        for steps in [*range(20), *range(20), *(chance.randrange(30, 3_000) for _ in range(30))]:
            given_up += await give_up_after(steps, work, share, path)
        assert given_up
        await assert_nothing_left(share, samba, credits)
        access = Access.READ | Access.DELETE
        async with await share.open(share_path.name, access=access, share_access=ShareAccess(0)):
            pass


@pytest.mark.parametrize("most", [2, 5, 8192])
@in_trio
async def test_many_given_up_at_once(most: int) -> None:
    """Few credits: most of them are given up while they wait for their turn."""
    chance = random.Random(most)
    with SambaServer(global_options={"smb2 max credits": str(most)}) as server:
        async with connected(server) as share:
            for number in range(10):
                await share.write_file(f"file{number}", bytes(MIB))
            credits = await fill_credits(share)
            for _ in range(5):
                async with trio.open_nursery() as nursery:
                    for number in range(40):
                        work = chance.choice([one for one in WORK if one is not list_folder])
                        steps = chance.randrange(400)
                        nursery.start_soon(give_up_after, steps, work, share, f"file{number % 10}")
            await assert_nothing_left(share, server, credits)
            assert share.statistics().cancels > 0
            for number in range(10):
                await share.write_file(f"after{number}", b"x")


@in_trio
async def test_open_that_is_cancelled_before_it_begins(samba: SambaServer) -> None:
    async with connected(samba) as share:
        await settle(share)
        before = share.statistics().requests
        with trio.CancelScope() as scope:
            scope.cancel()
            await share.open("never")
        assert scope.cancelled_caught
        assert share.statistics().requests == before


@pytest.mark.parametrize("telling", [False, True])
@in_trio
async def test_close_in_a_cancelled_scope_closes_all_the_same(
    samba: SambaServer, share_path: Path, telling: bool
) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        credits = await fill_credits(share)
        await share.write_file(path, b"content")
        file = await share.open(path, share_access=ShareAccess(0))
        with trio.CancelScope() as scope:
            scope.cancel()
            await (file.close_and_stat() if telling else file.close())
        assert scope.cancelled_caught
        async with await share.open(path, share_access=ShareAccess(0)):
            pass
        await assert_nothing_left(share, samba, credits)


@in_trio
async def test_body_that_fails_closes_its_file_before_what_comes_next(
    samba: SambaServer, share_path: Path
) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        await share.write_file(path, b"content")
        for _ in range(20):
            with pytest.raises(ZeroDivisionError):
                async with await share.open(path, share_access=ShareAccess(0)):
                    raise ZeroDivisionError
            await share.truncate(path, 3)


@in_trio
async def test_lock_that_is_granted_after_its_waiter_has_gone(samba: SambaServer, share_path: Path) -> None:
    """Cancelled at every moment of a fight for one lock: nobody holds it in the end."""
    path = inside(share_path)("file")
    chance = random.Random(7)
    async with connected(samba) as share, connected(samba) as other:
        await share.write_file(path, bytes(100))
        async with (
            await share.open(path, access=READ_WRITE) as mine,
            await other.open(path, access=READ_WRITE) as yours,
        ):

            async def take(target: Share, _: str) -> None:
                file = yours if target is other else mine
                await file.lock(0, 10, exclusive=True, wait=True)
                with trio.CancelScope(shield=True):
                    # A lock that was returned is the caller's to give back.
                    await file.unlock(0, 10)

            for _ in range(60):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(give_up_after, chance.randrange(200), take, other, path)
                    nursery.start_soon(give_up_after, chance.randrange(200), take, share, path)
                # What was granted and not yet unlocked is undone, before anything else goes out.
                await settle(share)
                await settle(other)
            async with connected(samba) as third, await third.open(path, access=READ_WRITE) as judge:
                await judge.lock(0, 10, exclusive=True, wait=False)


@in_trio
async def test_connecting_that_is_given_up(samba: SambaServer) -> None:
    before = len(samba.connection_pids())
    for steps in range(0, 200, 5):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def count(steps: int = steps, scope: trio.CancelScope = scope) -> None:
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

                nursery.start_soon(count)
                async with connected(samba, config=ConnectConfig(timeout=10)) as share:
                    await share.stat("")
                    await trio.sleep_forever()
    with trio.fail_after(10):
        while len(samba.connection_pids()) > before:
            await trio.lowlevel.checkpoint()
