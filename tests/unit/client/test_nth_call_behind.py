"""As `test_nth_call`, with two links that share a connection: one call fails, or one wait is cancelled."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

import pytest
import trio

import engine
from engine import Access, Crossing
from tests.fakes.server import FakeServer, running
from tests.fakes.server_durable import Grant, KeepsOpens
from tests.support.logcheck import ExpectedWarnings
from tests.unit.client.support import ACCOUNT
from tests.unit.client.support_dfs import CONFIG, FIRST, Namespace, at

# The fixture that has every connection of the engine go through `Calls`.
from tests.unit.client.test_nth_call import Calls, CancelAt, open_descriptors, run, tap  # noqa: F401

pytestmark = pytest.mark.slow

LINKS: Final = ("one", "two")
TRIES: Final = 3
LATER: Final = 6.0
"""Seconds after which a link that could not be followed is tried again."""


@asynccontextmanager
async def crossed() -> AsyncGenerator[tuple[Crossing, FakeServer], None]:
    """A namespace with two links to one server, and that server."""
    namespace = Namespace(**{link: f"\\{FIRST}\\{link}" for link in LINKS})
    first = at(FIRST, KeepsOpens(Grant.NOTHING))
    first.tree.add_file("file", b"content")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(namespace))
        first.port = namespace.port
        await stack.enter_async_context(running(first))
        share = await stack.enter_async_context(engine.connect(namespace.unc, ACCOUNT, CONFIG))
        async with trio.open_nursery() as tasks:
            yield (
                Crossing(
                    share,
                    lambda path, beside: engine.connect(
                        f"{namespace.unc}/{path}", ACCOUNT, CONFIG, None, beside
                    ),
                    tasks,
                ),
                first,
            )
            tasks.cancel_scope.cancel()


async def script(whole: Crossing) -> None:
    """Both links, files open behind both at once, under leases."""
    for link in LINKS:
        await whole.stat(link)
    files = []
    try:
        for link in LINKS:
            path, lease = f"{link}\\file", whole.lease(lambda broken: None)
            file = await whole.open(path, access=Access.READ | Access.WRITE, lease=lease)
            file.keep(partial(str, path), lambda stat, lost_ns: True)
            files.append((file, lease))
        for file, _ in files:
            await file.write_at(0, b"CONTENT")
            assert bytes(await file.read_at(0, 10)) == b"CONTENT"
    finally:
        for file, _ in files:
            file.close_later()
    for _, lease in files:
        assert lease.state == 0


async def with_patience(whole: Crossing) -> None:
    """The same; a link whose server was lost while it was connected to is tried again later."""
    for tried in range(TRIES):
        try:
            return await script(whole)
        except engine.TransportError:
            if tried == TRIES - 1:
                raise
        await trio.sleep(LATER)


async def play(calls: Calls) -> None:
    async with crossed() as (whole, first):
        calls.connecting = calls.count
        await with_patience(whole)
        await first.until(lambda: not first.tree.opens)


def test_both_come_through_whatever_call_fails(
    tap: Callable[[Calls], None],  # noqa: F811
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings.allow("cannot be followed")
    whole, before = Calls(-1, "reset"), open_descriptors()
    tap(whole)
    run(play, whole)
    assert whole.count - whole.connecting > 30
    for failing in range(whole.connecting, whole.count):
        calls, where = Calls(failing, "reset"), f"call {failing} of {whole.count}"
        tap(calls)
        try:
            run(play, calls)
        except Exception as error:
            error.add_note(where)
            raise
        assert all(sock.closed for sock in calls.sockets), where
        assert all(machine.snapshot().in_flight == 0 for machine in calls.machines), where
        assert open_descriptors() == before, where


async def _play_cancelled(canceller: CancelAt) -> None:
    async with crossed() as (whole, first):
        async with canceller.watching():
            await script(whole)
        await first.until(lambda: not first.tree.opens)
        # What was begun for others goes on, and is there once.
        await script(whole)
        await first.until(lambda: not first.tree.opens)
        connected = [path for peer in first.peers for path in peer.trees.values()]
        assert sorted(path.rpartition("\\")[2] for path in connected) == list(LINKS)
        assert len(first.peers) == 1


def test_cancelled_at_every_checkpoint(tap: Callable[[Calls], None]) -> None:  # noqa: F811
    main: Callable[[CancelAt], Awaitable[None]] = _play_cancelled
    before, number = open_descriptors(), 1
    while True:
        calls, canceller, where = Calls(-1, "reset"), CancelAt(number), f"checkpoint {number}"
        tap(calls)
        try:
            run(main, canceller, instruments=[canceller])
        except Exception as error:
            error.add_note(where)
            raise
        assert all(sock.closed for sock in calls.sockets), where
        assert all(machine.snapshot().in_flight == 0 for machine in calls.machines), where
        assert open_descriptors() == before, where
        if not canceller.scope.cancelled_caught:
            break
        number += 1
    assert number > 10
