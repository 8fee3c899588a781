"""A client, its own connection to the server, and the two wires between."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio

from tests.support.proxy.direction import Direction
from tests.support.proxy.faults import BOTH, Cut, Loss, Way
from tests.support.proxy.wire import Wire

_CONNECT_DEADLINE: Final = 10.0
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
"""struct linger: close() sends a reset."""


class Connection:
    """`run` lasts as long as the client and the server are connected, and closes both sockets.

    `drop_all` is called for a cut that is to drop everything, not only what is on this connection.
    """

    def __init__(
        self,
        client: trio.socket.SocketType,
        directions: Mapping[Way, Direction],
        note_cut: Callable[[], None],
        drop_all: Callable[[], None],
    ) -> None:
        self._client = client
        self._server = trio.socket.socket()
        self._directions = directions
        self._note_cut = note_cut
        self._drop_all = drop_all
        self._scope = trio.CancelScope()
        self._wires: dict[Way, Wire] = {}

    async def run(self, target: tuple[str, int]) -> None:
        """Connect to the server and carry bytes until both directions have ended, or `reset`."""
        try:
            with self._scope:
                if self._directions[Way.TO_SERVER].is_dropped:
                    await self._swallow_all()
                elif await self._connect(target):
                    await self._carry()
        finally:
            self._client.close()
            self._server.close()

    def reset(self) -> None:
        """Reset both sides: no end is told, and what is under way is lost."""
        for end in (self._client, self._server):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self._scope.cancel()

    def end(self, ways: tuple[Way, ...]) -> None:
        """Tell the receivers in these directions that nothing more will come."""
        if not self._wires and Way.TO_CLIENT in ways:
            self._scope.cancel()
        for way in ways:
            if way in self._wires:
                self._wires[way].end()

    async def _connect(self, target: tuple[str, int]) -> bool:
        try:
            with trio.fail_after(_CONNECT_DEADLINE):
                await self._server.connect(target)
            for end in (self._client, self._server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, trio.TooSlowError):
            return False
        return True

    async def _carry(self) -> None:
        up = Wire(self._client, self._server, self._directions[Way.TO_SERVER], self._cut)
        down = Wire(self._server, self._client, self._directions[Way.TO_CLIENT], self._cut)
        self._wires = {Way.TO_SERVER: up, Way.TO_CLIENT: down}
        async with trio.open_nursery() as nursery:
            # A socket that fails is news that goes the way of what it would have sent.
            for task, news in (
                (up.receive, up),
                (down.deliver, up),
                (down.receive, down),
                (up.deliver, down),
            ):
                nursery.start_soon(self._reset_on_failure, task, news)

    async def _reset_on_failure(self, task: Callable[[], Awaitable[None]], news: Wire) -> None:
        try:
            await task()
        except OSError:
            await news.let_news_pass()
            self.reset()

    def _cut(self, cut: Cut) -> None:
        self._note_cut()
        match cut.loss:
            case Loss.RESET:
                self.reset()
            case Loss.END:
                self.end(BOTH)
            case Loss.HOLE:
                for wire in self._wires.values():
                    wire.lose()
            case Loss.DROP:
                self._drop_all()

    async def _swallow_all(self) -> None:
        """Be a hole for a client of which the server never hears."""
        try:
            while await self._client.recv(65_536):
                pass
        except OSError:
            return
