"""Two shares of one real server on one connection, which is lost and made anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio

import engine
from engine import ConnectConfig, Dialect, Disposition, File, Lease, Share
from tests.integration.support_engine import READ_WRITE, account, in_trio
from tests.support.connections import kill_connections
from tests.support.samba import DURABLE_SHARE_OPTIONS, SambaServer, ShareConfig

SHARES = ("data", "other")
GONE = 5
"""Losses in a row."""


@pytest.fixture(params=[{}, DURABLE_SHARE_OPTIONS], ids=["by path", "durable"])
def server(request: pytest.FixtureRequest) -> Iterator[SambaServer]:
    """A server with two shares that the test may treat as it likes."""
    options: Mapping[str, str] = request.param
    with SambaServer({name: ShareConfig(options=options) for name in SHARES}) as own:
        yield own


@asynccontextmanager
async def both(server: SambaServer, dialect: Dialect) -> AsyncIterator[tuple[Share, Share]]:
    config = ConnectConfig(port=server.port, reconnect=True, min_dialect=dialect, max_dialect=dialect)
    async with (
        engine.connect(server.unc("data"), account(server), config) as one,
        engine.connect(server.unc("other"), account(server), config, None, lambda: [one]) as other,
    ):
        assert one.line is other.line
        yield one, other


async def opened(share: Share, number: int) -> tuple[File, Lease]:
    lease = share.lease(lambda lease: None)
    name, new = f"file {number}", Disposition.CREATE
    return await share.open(name, access=READ_WRITE, disposition=new, lease=lease), lease


@pytest.mark.parametrize("dialect", [Dialect.SMB_2_1, Dialect.SMB_3_0, Dialect.SMB_3_1_1])
@in_trio
async def test_the_files_of_both_come_back_each_time(server: SambaServer, dialect: Dialect) -> None:
    async with both(server, dialect) as shares:
        files = [await opened(share, number) for share in shares for number in range(3)]
        for time in range(GONE):
            kill_connections(server)
            await shares[0].wait_lost()
            async with trio.open_nursery() as nursery:
                for file, _ in files:
                    nursery.start_soon(file.write_at, time, b"%d" % time)
            assert len(server.connection_pids()) == 1
        for file, lease in files:
            assert bytes(await file.read_at(0, 100)) == b"01234"
            await file.close()
            assert lease.state == 0
    for name in SHARES:
        assert {path.read_text() for path in server.share_path(name).iterdir()} == {"01234"}


@in_trio
async def test_one_that_is_left_does_not_take_the_other_along(server: SambaServer) -> None:
    config = ConnectConfig(port=server.port, reconnect=True)
    async with engine.connect(server.unc("data"), account(server), config) as one:
        file, _ = await opened(one, 0)
        for number in range(3):
            async with engine.connect(
                server.unc("other"), account(server), config, None, lambda: [one]
            ) as other:
                await opened(other, number)
                assert await other.stat("") != await one.stat("")
            await file.write_at(number, b"x")
        kill_connections(server)
        await file.write_at(3, b"y")
        assert bytes(await file.read_at(0, 10)) == b"xxxy"
        assert len(server.connection_pids()) == 1
