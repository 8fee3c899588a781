"""When a silent line is given up, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, cast

import pytest
import trio
import trio.testing

from engine.client.connection import Batch, Connection
from engine.client.watch import LineWatch
from engine.errors import SmbError
from engine.proto.inflight import SessionState

LATEST: Final = 1.2
"""Seconds from the return of an interrupted line to the end of its old connection."""

PROBE_SECONDS: Final = 1.0
ROUND_TRIP: Final = 0.05


class Line:
    """A line that carries nothing until `back`; what was sent before that is lost on all connections."""

    def __init__(self, back: float) -> None:
        self.back = back
        self.probes: list[float] = []

    async def reach(self) -> bool:
        self.probes.append(trio.current_time())
        if trio.current_time() < self.back:
            await trio.sleep(PROBE_SECONDS)
            return False
        await trio.sleep(2 * ROUND_TRIP)
        return True


class BusyConnection:
    """As much of a `Connection` as a watch looks at; one request has waited from the start for its reply."""

    def __init__(self, heard: Callable[[], float]) -> None:
        self._heard = heard
        self.is_waiting, self.sent_since_heard, self.retransmissions = True, 100, 0
        self.given_up = trio.Event()

    @property
    def last_heard(self) -> float:
        return self._heard()

    async def wait_busy(self) -> None:
        await trio.lowlevel.checkpoint()

    async def request(self, *_request: Any, **_how: Any) -> None:
        await trio.sleep_forever()

    def abort(self, _error: SmbError) -> None:
        self.given_up.set()


def play(main: Callable[[], Any]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def watch(connection: BusyConnection, reach: Callable[[], Any]) -> LineWatch:
    return LineWatch(cast(Connection, connection), Batch(SessionState()), reach)


@pytest.mark.parametrize("seed", range(20))
def test_an_interrupted_line_is_given_up_soon_after_its_return(seed: int) -> None:
    async def main() -> None:
        line = Line(random.Random(seed).uniform(4, 30))
        connection = BusyConnection(lambda: 0.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch(connection, line.reach).run)
            await connection.given_up.wait()
            nursery.cancel_scope.cancel()
        assert 0.5 <= trio.current_time() - line.back <= LATEST
        assert len(line.probes) <= 2 * trio.current_time()

    play(main)


def test_a_slow_line_is_kept_while_it_gives_signs_of_life() -> None:
    """The server answers over new connections at once, and over the old one every two and a half seconds."""

    async def main() -> None:
        connection = BusyConnection(lambda: trio.current_time() // 2.5 * 2.5)
        line = Line(0.0)
        with trio.move_on_after(600):
            await watch(connection, line.reach).run()
        assert not connection.given_up.is_set()
        assert not line.probes

    play(main)


def test_a_sign_of_life_while_a_new_connection_is_tried_keeps_the_old_one() -> None:
    async def main() -> None:
        # Silent long enough to be suspected, and heard again just before the grace is over.
        heard_at = 3.0 + 2 * ROUND_TRIP + 0.45
        connection = BusyConnection(lambda: heard_at if trio.current_time() >= heard_at else 0.0)
        line = Line(0.0)
        with trio.move_on_after(heard_at + 2):
            await watch(connection, line.reach).run()
        assert line.probes
        assert not connection.given_up.is_set()

    play(main)
