"""Trees on connections that are none, for a link to keep."""

from __future__ import annotations

from typing import cast

import trio

from engine.client.connection import Batch, Connection
from engine.client.session import Session
from engine.client.tree import Tree
from engine.errors import SmbError, TransportError
from engine.proto.inflight import SessionState
from engine.wire.primitives import FileId
from engine.wire.tree import TreeConnectResponse


class FakeConnection:
    """As much of a `Connection` as a link looks at."""

    def __init__(self) -> None:
        self.lost = trio.Event()
        self.remote_address = "192.0.2.1"
        self.clock_ns, self.last_heard = 0, trio.current_time()
        self.why: SmbError = TransportError("lost")

    async def wait_lost(self) -> SmbError:
        await self.lost.wait()
        return self.why

    async def wait_busy(self) -> None:
        await trio.sleep_forever()

    async def run_echo(self, interval: float, batch: Batch) -> None:
        await trio.sleep_forever()

    def abort(self, error: SmbError) -> None:
        self.why = error
        self.lost.set()

    def close_later(self, file_id: FileId, batch: Batch) -> None:
        """Nothing is open anywhere."""


def new_tree(connection: FakeConnection) -> Tree:
    session = Session(cast(Connection, connection), SessionState(session_id=7))
    return Tree(session, "\\\\server\\share", 1, TreeConnectResponse(1, 0, 0, 0))
