"""One direction of the line, as all connections share it: what was told about it, and its counters."""

from __future__ import annotations

from typing import Final

import trio

from tests.support.proxy.faults import Cut, Link, Merge, Split, WayCounts, Whole

READ_SIZE: Final = 1 << 20
"""Twice as fast as reads of a quarter of that: as measured, 1,300 instead of 690 MiB/s."""
QUANTUM: Final = 0.005
"""Seconds of a limited line that are received at once; one more waits, so that the line is never idle."""
NANO: Final = 1_000_000_000

_HANDLING: Final = 50_000
"""Nanoseconds that the proxy itself takes, as measured: the way through it counts as part of the distance."""


class CutOrder:
    """A cut that has been ordered and not yet been made."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._left = cut.message

    def meets(self) -> bool:
        """Whether the message that begins now is the one to be cut."""
        self._left -= 1
        return self._left == 0


class Direction:
    """What the wires of one direction go by; `traffic` wakes whoever waits for counters."""

    def __init__(self, link: Link, traffic: trio.lowlevel.ParkingLot) -> None:
        self.shape: Whole | Split | Merge = Whole()
        self.is_dropped = False
        self.cut: CutOrder | None = None
        self.is_stalled = False
        self._resumed = trio.lowlevel.ParkingLot()
        self._traffic = traffic
        self._arrived = 0
        self._delivered = 0
        self._octets = 0
        self.use(link)

    def use(self, link: Link) -> None:
        """Be like this link from now on."""
        self.delay = max(0, int(link.round_trip / 2 * NANO) - _HANDLING)
        self.rate = link.rate
        self.limit = link.queue
        self.most = READ_SIZE if link.rate is None else max(1, min(READ_SIZE, int(link.rate * QUANTUM)))

    def stall(self) -> None:
        """Let `passage` wait."""
        self.is_stalled = True

    def resume(self) -> None:
        """Let everything pass."""
        self.is_stalled = self.is_dropped = False
        self._resumed.unpark_all()

    async def passage(self) -> None:
        """Wait while the line is stalled."""
        while self.is_stalled:
            await self._resumed.park()

    def note_arrival(self, messages: int) -> None:
        """Count what came to the proxy."""
        self._arrived += messages
        if self._traffic:
            self._traffic.unpark_all()

    def note_delivery(self, messages: int, octets: int) -> None:
        """Count what left it."""
        self._delivered += messages
        self._octets += octets
        if self._traffic:
            self._traffic.unpark_all()

    def counts(self) -> WayCounts:
        """The counters."""
        return WayCounts(self._arrived, self._delivered, self._octets)
