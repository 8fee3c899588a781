"""Is the line dead, or is the server slow? Found out by a second connection while requests wait.

ECHO finds a dead line in the end, after two intervals. But when the line is back, whoever waits is to go on
at once, and the old connection may never carry anything again, or only when TCP sends its next packet, a
minute later. So once there is no sign of life the server is asked over a new connection. If it answers there
while the old one stays silent, the old one is given up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from engine.client.connection import Batch, Connection
from engine.errors import SmbError, TransportError
from engine.wire.io import EchoRequest

_LOOK_EVERY: Final = 0.5
"""Seconds between two looks, and between two attempts to reach the server while the line is suspected."""

_SILENCE: Final = 1.0
"""Seconds without a sign of life, with requests under way, after which the server is asked for one."""

_SUSPICIOUS: Final = 3.0
"""Seconds of silence after which the line is suspected: two for the answer to that."""

_GRACE: Final = 0.5
"""Seconds more that the old connection gets after the server has answered over a new one."""

_LITTLE: Final = 64 * 1024
"""Bytes: who has more on its way to the server may have to wait for an answer behind it on a slow line."""

_RETRANSMISSIONS: Final = 2
"""Times that TCP has sent a packet again, later each time: the line carries nothing."""


class LineWatch:
    """Watches one connection. `reach` tells whether the server answers over a new one; it bounds itself."""

    def __init__(self, connection: Connection, batch: Batch, reach: Callable[[], Awaitable[bool]]) -> None:
        self._connection = connection
        self._batch = batch
        self._reach = reach

    async def run(self) -> None:
        """Watch until cancelled; nothing is done while no request is under way."""
        async with trio.open_nursery() as nursery:
            asked_at = 0.0
            while True:
                await self._connection.wait_busy()
                await trio.sleep(_LOOK_EVERY)
                heard = self._connection.last_heard
                if self._silence() >= _SILENCE and heard > asked_at:
                    asked_at = trio.current_time()
                    nursery.start_soon(self._ask)
                if self._is_suspicious():
                    # Beside those that still wait for an answer: of what they sent nothing may ever arrive.
                    nursery.start_soon(self._probe, heard)

    def _silence(self) -> float:
        return trio.current_time() - self._connection.last_heard if self._connection.is_waiting else 0.0

    def _is_suspicious(self) -> bool:
        if self._connection.retransmissions >= _RETRANSMISSIONS:
            return True
        return self._silence() >= _SUSPICIOUS and self._connection.sent_since_heard <= _LITTLE

    async def _probe(self, heard: float) -> None:
        """Give the connection up if the server answers over a new one while this one stays silent."""
        if await self._reach():
            await trio.sleep(_GRACE)
            if self._connection.last_heard == heard and self._is_suspicious():
                self._connection.abort(TransportError("the line was interrupted"))

    async def _ask(self) -> None:
        try:
            await self._connection.request(EchoRequest(), self._batch, urgent=True)
        except SmbError:
            # The connection is lost, which its owner hears of anyway.
            return
