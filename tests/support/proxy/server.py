"""The proxy itself, inside an event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, assert_never

import trio

from tests.support.proxy.connection import Connection
from tests.support.proxy.direction import CutOrder, Direction
from tests.support.proxy.door import Doorway
from tests.support.proxy.faults import (
    BOTH,
    Counts,
    Cut,
    Door,
    Drop,
    Fault,
    HalfClose,
    Heal,
    Link,
    Merge,
    NewConnections,
    Relink,
    Reset,
    Resume,
    Split,
    Stall,
    Target,
    Way,
    Whole,
)

LOOPBACK: Final = "127.0.0.1"


class Proxy:
    """Forwards connections to `target` while `serve` runs; what is told holds from the same moment.

    All but `serve` and `wait_for` are for the thread of the event loop, and return at once.
    """

    def __init__(
        self, target: tuple[str, int], link: Link | None = None, listen: tuple[str, int] = (LOOPBACK, 0)
    ) -> None:
        self.target = target
        self._traffic = trio.lowlevel.ParkingLot()
        self._directions = {way: Direction(link or Link(), self._traffic) for way in BOTH}
        self._doorway = Doorway(listen)
        self._connections: set[Connection] = set()
        self._accepted = 0
        self._cuts = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._doorway.address[1]

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept connections, for ever; when cancelled, end them all."""
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    nursery.start_soon(self._handle, await self._doorway.accept())
        finally:
            self._doorway.close()

    def tell(self, fault: Fault) -> Counts:
        """Have the line fail, or work, in this way from now on. The counters at that moment."""
        self._apply(fault)
        return self.counts()

    def counts(self) -> Counts:
        """What happened so far."""
        up, down = (self._directions[way].counts() for way in (Way.TO_SERVER, Way.TO_CLIENT))
        return Counts(self._accepted, len(self._connections), self._cuts, up, down)

    async def wait_for(self, condition: Callable[[Counts], bool]) -> Counts:
        """Wait until the counters are such; the deadline is the caller's."""
        while not condition(counts := self.counts()):
            await self._traffic.park()
        return counts

    async def _handle(self, client: trio.socket.SocketType) -> None:
        connection = Connection(client, self._directions, self._note_cut, lambda: self._apply(Drop()))
        self._connections.add(connection)
        self._accepted += 1
        self._traffic.unpark_all()
        try:
            await connection.run(self.target)
        finally:
            self._connections.remove(connection)
            self._traffic.unpark_all()

    def _apply(self, fault: Fault) -> None:
        match fault:
            case Relink() | Split() | Merge() | Whole() | Stall() | Drop() | Resume():
                for way in fault.ways:
                    _shape(self._directions[way], fault)
            case HalfClose():
                for connection in tuple(self._connections):
                    connection.end(fault.ways)
            case Reset():
                for connection in tuple(self._connections):
                    connection.reset()
            case NewConnections():
                self._doorway.use(fault.door)
            case Target():
                self.target = fault.address
            case Cut():
                self._directions[fault.way].cut = CutOrder(fault)
            case Heal():
                self._heal()
            case _:
                assert_never(fault)

    def _note_cut(self) -> None:
        self._cuts += 1
        self._traffic.unpark_all()

    def _heal(self) -> None:
        self._doorway.use(Door.OPEN)
        for direction in self._directions.values():
            direction.shape = Whole()
            direction.cut = None
            direction.resume()


def _shape(direction: Direction, fault: Relink | Split | Merge | Whole | Stall | Drop | Resume) -> None:
    match fault:
        case Relink():
            direction.use(fault.link)
        case Split() | Merge() | Whole():
            direction.shape = fault
        case Stall():
            direction.stall()
        case Drop():
            direction.is_dropped = True
        case Resume():
            direction.resume()
        case _:
            assert_never(fault)
