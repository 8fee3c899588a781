"""Leases and oplocks of a real Samba server: granted, broken by a second client, acknowledged in order."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import engine
from engine import ConnectConfig, Dialect, Disposition, InvalidParameter, LeaseState, Share
from tests.integration.support_engine import READ_WRITE, connected, in_trio, inside, settle, trips
from tests.support.samba import SambaServer

R: Final = LeaseState.READ_CACHING
RH: Final = LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING
RWH: Final = RH | LeaseState.WRITE_CACHING

DIALECTS: Final = (Dialect.SMB_2_0_2, Dialect.SMB_2_1, Dialect.SMB_3_0, Dialect.SMB_3_1_1)


def config(dialect: Dialect, protection: str) -> ConnectConfig:
    return ConnectConfig(
        min_dialect=dialect,
        max_dialect=dialect,
        signing=protection != "plain",
        seal=protection == "sealed",
    )


KINDS: Final = [
    pytest.param(config(dialect, protection), id=f"{dialect.name}-{protection}")
    for dialect in DIALECTS
    for protection in ("plain", "signed", "sealed")
    if dialect >= Dialect.SMB_3_0 or protection != "sealed"
]
each_kind = pytest.mark.parametrize("kind", KINDS)
each_dialect = pytest.mark.parametrize(
    "kind", [pytest.param(config(dialect, "signed"), id=dialect.name) for dialect in DIALECTS]
)


class Owner:
    """Owns a lease: lets a test wait for the next break, and remembers the states."""

    def __init__(self, share: Share) -> None:
        self.lease = share.lease(self._on_break)
        self.states: list[int] = []
        self._send, self._receive = trio.open_memory_channel[int](math.inf)

    def _on_break(self, lease: engine.Lease) -> None:
        self.states.append(lease.state)
        self._send.send_nowait(lease.state)

    async def broken(self) -> int:
        """Wait for a break; returns the state that is left."""
        return await self._receive.receive()

    async def serve(self) -> None:
        """Acknowledge every break at once, for ever."""
        while True:
            await self.broken()
            await self.lease.acknowledge()


class Pair:
    """Two clients of one server: `first` holds leases, `second` disturbs them."""

    def __init__(self, first: Share, second: Share) -> None:
        self.first = first
        self.second = second
        self.owner = Owner(first)
        self.lease = self.owner.lease


async def pair(stack: AsyncExitStack, server: SambaServer, kind: ConnectConfig) -> Pair:
    return Pair(
        await stack.enter_async_context(connected(server, config=kind)),
        await stack.enter_async_context(connected(server)),
    )


@each_kind
@in_trio
async def test_a_second_client_waits_for_the_acknowledgement_and_reads_what_was_written_before_it(
    samba: SambaServer, share_path: Path, kind: ConnectConfig
) -> None:
    path = inside(share_path)("file")
    async with AsyncExitStack() as stack:
        clients = await pair(stack, samba, kind)
        assert clients.first.supports_leases
        file = await clients.first.open(
            path, access=READ_WRITE, disposition=Disposition.CREATE, lease=clients.lease
        )
        assert file.lease is clients.lease
        assert clients.lease.state == RWH
        await file.write_at(0, b"old")
        read: list[bytes] = []

        async def read_by_the_second() -> None:
            async with await clients.second.open(path) as other:
                read.append(bytes(await other.read_at(0, 100)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_by_the_second)
            left = await clients.owner.broken()
            assert left == clients.lease.state
            assert not left & LeaseState.WRITE_CACHING
            assert left & R
            assert clients.lease.needs_acknowledgement
            await file.write_at(0, b"new")
            # An answer on either connection: what the server could have sent by now, it has sent.
            await clients.second.echo()
            await clients.first.echo()
            assert read == []
            await clients.lease.acknowledge()
        assert read == [b"new"]
        assert clients.lease.state == left
        await file.close()
        assert clients.lease.state == 0


@each_dialect
@in_trio
async def test_a_second_client_that_writes_takes_the_read_cache(
    samba: SambaServer, share_path: Path, kind: ConnectConfig
) -> None:
    path = inside(share_path)("file")
    async with AsyncExitStack() as stack:
        clients = await pair(stack, samba, kind)
        await clients.first.write_file(path, b"old")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients.owner.serve)
            file = await clients.first.open(path, lease=clients.lease)
            async with await clients.second.open(path, access=READ_WRITE) as other:
                assert clients.lease.state & R
                await other.write_at(0, b"new")
                await clients.first.echo()
                while clients.lease.state:
                    await wait_all_tasks_blocked(0.001)
            assert bytes(await file.read_at(0, 100)) == b"new"
            again = await clients.first.open(path, lease=clients.lease)
            assert clients.lease.state & R, "granted anew"
            assert clients.lease.term == 2
            await again.close()
            await file.close()
            nursery.cancel_scope.cancel()


async def _deletes(share: Share, path: str) -> None:
    await share.unlink(path)


async def _renames(share: Share, path: str) -> None:
    await share.rename(path, path + "-new", replace=False)


async def _overwrites(share: Share, path: str) -> None:
    await share.write_file(path, b"x", disposition=Disposition.OVERWRITE_IF)


@pytest.mark.parametrize("disturb", [_deletes, _renames, _overwrites])
@each_dialect
@in_trio
async def test_a_second_client_that_changes_the_file_makes_a_break_arrive(
    samba: SambaServer,
    share_path: Path,
    kind: ConnectConfig,
    disturb: Callable[[Share, str], Awaitable[None]],
) -> None:
    path = inside(share_path)("file")
    async with AsyncExitStack() as stack:
        clients = await pair(stack, samba, kind)
        await clients.first.write_file(path, b"content")
        file = await clients.first.open(path, access=READ_WRITE, lease=clients.lease)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients.owner.serve)
            await disturb(clients.second, path)
            assert clients.owner.states
            assert not clients.lease.state & LeaseState.WRITE_CACHING
            # What was written by the second may break what was left, which it does not wait for.
            while clients.lease.needs_acknowledgement:
                await wait_all_tasks_blocked(0.001)
            nursery.cancel_scope.cancel()
        await file.close()


@in_trio
async def test_smbclient_makes_a_break_arrive_too(samba: SambaServer, share_path: Path) -> None:
    async with connected(samba) as share:
        owner = Owner(share)
        path = inside(share_path)("file")
        await share.write_file(path, b"content")
        file = await share.open(path, lease=owner.lease)
        assert owner.lease.state == RWH
        async with trio.open_nursery() as nursery:
            nursery.start_soon(owner.serve)
            command = f'del "{share_path.name}\\file"'
            await trio.to_thread.run_sync(lambda: samba.smbclient("data", command))
            assert owner.states
            await file.close()
            assert not (share_path / "file").exists()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("dialect", DIALECTS[1:], ids=lambda dialect: dialect.name)
@in_trio
async def test_what_the_owner_does_by_path_does_not_break_its_own_lease(
    samba: SambaServer, share_path: Path, dialect: Dialect
) -> None:
    at = inside(share_path)
    async with AsyncExitStack() as stack:
        clients = await pair(stack, samba, config(dialect, "signed"))
        share, lease = clients.first, clients.lease
        await share.write_file(at("file"), b"content")
        file = await share.open(at("file"), access=READ_WRITE, lease=lease)
        await share.truncate(at("file"), 3, lease=lease)
        await share.set_basic(at("file"), write_ns=10**18, lease=lease)
        await share.write_file(at("file"), b"new", disposition=Disposition.OVERWRITE_IF, lease=lease)
        await share.rename(at("file"), at("other"), replace=False, lease=lease)
        second = await share.open(at("other"), lease=lease)
        await second.close()
        await share.unlink(at("other"), lease=lease)
        assert lease.state == RWH
        assert clients.owner.states == []
        await file.close()
        await settle(share)
        assert not (share_path / "other").exists()


@in_trio
async def test_a_second_open_of_ours_breaks_the_oplock_of_the_first_on_the_oldest_dialect(
    samba: SambaServer, share_path: Path
) -> None:
    path = inside(share_path)("file")
    async with connected(samba, config=config(Dialect.SMB_2_0_2, "signed")) as share:
        owner = Owner(share)
        await share.write_file(path, b"content")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(owner.serve)
            first = await share.open(path, lease=owner.lease)
            assert owner.lease.state == RWH
            second = await share.open(path, lease=owner.lease)
            assert owner.states == [R]
            assert owner.lease.state == R
            await first.close()
            assert owner.lease.state == R
            await second.close()
            assert owner.lease.state == 0
            nursery.cancel_scope.cancel()


@each_dialect
@in_trio
async def test_the_open_stays_one_round_trip_with_a_lease_and_the_first_bytes(
    samba: SambaServer, share_path: Path, kind: ConnectConfig
) -> None:
    at = inside(share_path)
    async with connected(samba, config=kind) as share:
        await share.write_file(at("file"), b"content")
        await share.write_file(at("empty"), b"")
        lease, other = Owner(share).lease, Owner(share).lease
        async with trips(share) as made:
            file = await share.open(at("file"), lease=lease)
        assert made == {"CREATE+QUERY_INFO": 1}
        assert file.initial_data is None
        await file.close()
        async with trips(share) as made:
            file = await share.open(at("file"), lease=lease, read=4096)
            empty = await share.open(at("empty"), lease=other, read=4096)
        assert made == {"CREATE+QUERY_INFO+READ": 2}
        assert file.initial_data is not None
        assert bytes(file.initial_data) == b"content"
        assert empty.initial_data is not None
        assert bytes(empty.initial_data) == b""
        assert lease.state == other.state == RWH
        await file.close()
        await empty.close()


@in_trio
async def test_the_first_bytes_of_a_folder_are_none(samba: SambaServer, share_path: Path) -> None:
    async with connected(samba) as share:
        folder = await share.open(share_path.name, lease=Owner(share).lease, read=4096)
        assert folder.initial_data is None
        assert folder.stat.is_directory
        await folder.close()


@in_trio
async def test_another_name_of_the_file_cannot_be_opened_with_its_lease(
    samba: SambaServer, share_path: Path
) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        owner = Owner(share)
        await share.write_file(at("file"), b"content")
        await share.link(at("file"), at("second"))
        async with await share.open(at("file"), lease=owner.lease):
            with pytest.raises(InvalidParameter):
                await share.open(at("second"), lease=owner.lease)
            assert owner.lease.state == RWH
            assert owner.states == []


@in_trio
async def test_the_end_of_the_server_takes_the_lease(share_path: Path) -> None:
    with SambaServer() as server:
        async with connected(server) as share:
            owner = Owner(share)
            await share.open("file", access=READ_WRITE, disposition=Disposition.CREATE, lease=owner.lease)
            assert owner.lease.state == RWH
            await trio.to_thread.run_sync(server.stop_service)
            assert await owner.broken() == 0
            assert not owner.lease.needs_acknowledgement
            await owner.lease.acknowledge()
