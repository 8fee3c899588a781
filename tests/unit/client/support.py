"""Connecting to a fake server, and what has to be true afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio

import engine
from tests.fakes.server import PASSWORD, USER, FakeServer, running

ACCOUNT: Final = engine.Credentials(USER, PASSWORD)
NOBODY: Final = engine.Credentials(kind=engine.AuthKind.ANONYMOUS)
DEADLINE: Final = 10.0
"""Seconds that a test of the client may take before it is a failure."""


@asynccontextmanager
async def connected(
    server: FakeServer,
    config: engine.ConnectConfig | None = None,
    credentials: engine.Credentials = ACCOUNT,
) -> AsyncGenerator[engine.Share, None]:
    """Run `server` and connect to it, within the deadline."""
    with trio.fail_after(DEADLINE):
        async with running(server), engine.connect(server.unc, credentials, config) as share:
            yield share


async def settled(server: FakeServer, share: engine.Share) -> None:
    """Check that the books balance: no request in flight, no handle open, all credits back."""
    await share.echo()  # Behind it, everything sent so far is answered, and clean-ups are on their way.
    await server.until(lambda: not server.tree.opens)
    await share.echo()
    statistics = share.statistics()
    assert statistics.in_flight == 0
    assert statistics.credits == server.peers[-1].books.in_hand
    assert server.peers[-1].books.outstanding == 0


def refused(
    server: FakeServer,
    error: type[engine.SmbError],
    match: str,
    config: engine.ConnectConfig | None = None,
    credentials: engine.Credentials = ACCOUNT,
) -> None:
    """Connecting to `server` fails with `error`."""

    async def main() -> None:
        with trio.fail_after(DEADLINE):
            async with running(server):
                with pytest.raises(error, match=match):
                    async with engine.connect(server.unc, credentials, config):
                        pytest.fail("connected")

    trio.run(main)


def lost_at_work(server: FakeServer, match: str, config: engine.ConnectConfig | None = None) -> None:
    """Connecting works; once the server is armed, the first request ends the connection."""

    async def main() -> None:
        server.armed = False
        async with connected(server, config) as share:
            await share.echo()
            server.armed = True
            with pytest.raises(engine.RemoteProtocolError, match=match):
                await share.stat("")
            assert share.is_lost
            with pytest.raises(engine.RemoteProtocolError, match=match):
                await share.echo()

    trio.run(main)
