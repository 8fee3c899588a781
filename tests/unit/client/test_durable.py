"""Opens that the server keeps over a lost connection: durable, persistent and resilient handles."""

from __future__ import annotations

import pytest
import trio

import engine
from engine.client.config import ConnectConfig
from engine.wire.constants import Command, Dialect, ShareCapabilities
from engine.wire.create_contexts import DurableHandleReconnect, DurableHandleReconnectV2
from tests.fakes.server_durable import PERSISTENT, Grant, KeepsOpens
from tests.unit.client.support import connected, settled

RECONNECTING = ConnectConfig(reconnect=True)
READ_WRITE = engine.Access.READ | engine.Access.WRITE
KEPT = [
    pytest.param(Dialect.SMB_2_0_2, Grant.DURABLE, 7, id="2.0.2 durable"),
    pytest.param(Dialect.SMB_2_1, Grant.DURABLE, 7, id="2.1 durable"),
    pytest.param(Dialect.SMB_3_0, Grant.DURABLE, 7, id="3.0 durable"),
    pytest.param(Dialect.SMB_3_1_1, Grant.DURABLE, 7, id="3.1.1 durable"),
    pytest.param(Dialect.SMB_3_0_2, Grant.PERSISTENT, 7, id="3.0.2 persistent"),
    pytest.param(Dialect.SMB_3_1_1, Grant.PERSISTENT, 7, id="3.1.1 persistent"),
    pytest.param(Dialect.SMB_2_1, Grant.RESILIENT, 7, id="2.1 resilient"),
    pytest.param(Dialect.SMB_3_1_1, Grant.RESILIENT, 7, id="3.1.1 resilient"),
    pytest.param(Dialect.SMB_3_1_1, Grant.RESILIENT, 0, id="3.1.1 resilient, a lease of nothing"),
    pytest.param(Dialect.SMB_3_1_1, Grant.RESILIENT, None, id="3.1.1 resilient, no lease"),
]


def on_break(lease: engine.Lease) -> None:
    """Nothing is cached."""


def server_with(dialect: Dialect, grants: Grant) -> KeepsOpens:
    server = KeepsOpens(grants, dialect=dialect)
    server.tree.add_file("file", b"content")
    if grants is Grant.PERSISTENT:
        server.share_capabilities = ShareCapabilities.CONTINUOUS_AVAILABILITY
    return server


async def opened(share: engine.Share, name: str = "file") -> engine.File:
    """Open under a lease; what is asked for behind that has been answered."""
    file = await share.open(name, access=READ_WRITE, lease=share.lease(on_break))
    await share.echo()
    return file


async def lose(server: KeepsOpens, share: engine.Share) -> None:
    """Cut the connection; the server has noticed that when this returns."""
    server.hang_up()
    await share.wait_lost()


@pytest.mark.parametrize(("dialect", "grants", "state"), KEPT)
def test_an_open_file_is_taken_back(dialect: Dialect, grants: Grant, state: int | None) -> None:
    async def main() -> None:
        server = server_with(dialect, grants)
        server.grants_caching = state is not None
        server.state = state or 0
        async with connected(server, RECONNECTING) as share:
            file = await opened(share)
            await file.write_at(0, b"CON")
            for count in (1, 2):
                before = file.file_id
                await lose(server, share)
                assert bytes(await file.read_at(0, 10)) == b"CONtent"
                assert file.file_id == (before.persistent, before.volatile + 1)
                assert len(server.reconnects) == count
            [context] = [one for one in server.reconnects[-1].contexts if is_reconnect(one)]
            is_second = dialect >= Dialect.SMB_3_0 and grants is not Grant.RESILIENT
            assert isinstance(context, DurableHandleReconnectV2) is is_second
            if isinstance(context, DurableHandleReconnectV2):
                assert context.flags == (PERSISTENT if grants is Grant.PERSISTENT else 0)
            assert len(server.peers) == 3
            await file.close()
            await settled(server, share)

    trio.run(main)


def is_reconnect(context: object) -> bool:
    return isinstance(context, DurableHandleReconnect | DurableHandleReconnectV2)


@pytest.mark.parametrize("grants", [Grant.DURABLE, Grant.RESILIENT], ids=lambda grants: grants.name)
def test_what_is_not_given_back_is_opened_by_its_path_on_one_more_connection(grants: Grant) -> None:
    async def main() -> None:
        server = server_with(Dialect.SMB_3_1_1, grants)
        server.tree.add_file("other", b"more")
        async with connected(server, RECONNECTING) as share:
            files = [await opened(share, name) for name in ("file", "other")]
            server.refuses_reconnects = True
            await lose(server, share)
            assert bytes(await files[0].read_at(0, 10)) == b"content"
            assert bytes(await files[1].read_at(0, 10)) == b"more"
            assert len(server.reconnects) == 2
            assert len(server.peers) == 3

    trio.run(main)


def test_resilience_is_asked_for_once_where_the_server_does_not_know_it() -> None:
    async def main() -> None:
        server = server_with(Dialect.SMB_3_1_1, Grant.NOTHING)
        async with connected(server, RECONNECTING) as share:
            for _ in range(5):
                await opened(share)
            assert server.asked_for_resilience == 1
            await lose(server, share)
            await opened(share)
            assert server.asked_for_resilience == 1
            assert not server.reconnects

    trio.run(main)


@pytest.mark.parametrize(
    ("dialect", "grants"),
    [(Dialect.SMB_2_0_2, Grant.RESILIENT), (Dialect.SMB_3_1_1, Grant.DURABLE)],
    ids=["2.0.2", "durable"],
)
def test_resilience_is_not_asked_for_in_vain(dialect: Dialect, grants: Grant) -> None:
    async def main() -> None:
        server = server_with(dialect, grants)
        async with connected(server, RECONNECTING) as share:
            await opened(share)
            assert server.asked_for_resilience == 0

    trio.run(main)


def test_an_open_waits_for_nothing_but_its_create() -> None:
    async def main() -> None:
        server = server_with(Dialect.SMB_3_1_1, Grant.RESILIENT)
        async with connected(server, RECONNECTING) as share:
            file = await share.open("file", lease=share.lease(on_break))
            assert Command.IOCTL not in server.received
            await file.close()
            await settled(server, share)

    trio.run(main)
