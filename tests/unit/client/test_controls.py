"""Controls and pipes of a share, where a real server cannot be brought to the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address

import pytest
import trio

import engine
from engine import ntstatus
from engine.client import pipe as pipes
from engine.wire.constants import Command
from engine.wire.dfs import DfsReferral, DfsReferralResponse
from engine.wire.ioctl import NetworkInterfaceInfo
from tests.fakes.server import FakeServer
from tests.unit.client.support import connected, settled

LINK = engine.SymbolicLink("folder\\target", "folder/target")


def run(server: FakeServer, test: Callable[[engine.Share], Awaitable[None]]) -> None:
    """Run `test` with a share of `server`; afterwards the books have to balance."""

    async def main() -> None:
        async with connected(server) as share:
            await test(share)
            await settled(server, share)

    trio.run(main)


def referral(*targets: str) -> DfsReferralResponse:
    return DfsReferralResponse(10, 0, tuple(DfsReferral(4, target, "\\path") for target in targets))


def test_referrals_for_a_site() -> None:
    server = FakeServer()
    name = "\\127.0.0.1\\data\\folder"
    server.tree.controls.referrals = {name: referral("\\far\\share"), f"here:{name}": referral("\\near\\s")}

    async def test(share: engine.Share) -> None:
        for site, target in ((None, "\\far\\share"), ("here", "\\near\\s")):
            (found,) = (await share.referrals("folder", site)).referrals
            assert found.network_address == target
        with pytest.raises(engine.NotFound, match="the server did not find it"):
            await share.referrals("folder", "there")
        with pytest.raises(engine.NotFound):
            await share.referrals("\\domain")

    run(server, test)


@pytest.mark.parametrize("output", [None, referral("\\a\\b").encode()[:20]])
def test_referrals_that_do_not_fit(output: bytes | None) -> None:
    server = FakeServer()
    server.tree.controls.refusal = (ntstatus.STATUS_BUFFER_OVERFLOW, output)

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.BufferOverflow):
            await share.referrals("folder")

    run(server, test)


def test_network_interfaces() -> None:
    server = FakeServer()

    async def test(share: engine.Share) -> None:
        assert await share.network_interfaces() == []
        wanted = [
            NetworkInterfaceInfo(1, 0, 10**9, IPv4Address("192.0.2.1")),
            NetworkInterfaceInfo(2, 1, 10**10, IPv6Address("2001:db8::1")),
        ]
        server.tree.controls.interfaces = wanted
        assert await share.network_interfaces() == wanted

    run(server, test)


def test_reparse_points() -> None:
    server = FakeServer()
    server.tree.add_file("a")

    async def test(share: engine.Share) -> None:
        before = share.statistics().round_trips
        await share.set_reparse_point("a", LINK)
        assert await share.reparse_point("a") == LINK
        await share.delete_reparse_point("a", engine.ReparseTag.SYMLINK)
        assert share.statistics().round_trips == before + 3
        with pytest.raises(engine.NtStatusError, match="STATUS_NOT_A_REPARSE_POINT"):
            await share.reparse_point("a")
        await share.set_reparse_point("a", engine.MountPoint("\\??\\C:\\folder"))
        with pytest.raises(engine.NtStatusError, match="STATUS_IO_REPARSE_TAG_MISMATCH"):
            await share.delete_reparse_point("a", engine.ReparseTag.SYMLINK)

    run(server, test)


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 200_000])
def test_a_pipe_answers_at_any_length(size: int) -> None:
    server = FakeServer()
    server.tree.add_file("srvsvc").is_pipe = True
    server.tree.controls.answers_pipe = [bytes(range(256)) * (size // 256) + bytes(size % 256)]
    wanted = server.tree.controls.answers_pipe[0]

    async def test(share: engine.Share) -> None:
        async with await share.open_pipe("srvsvc") as pipe:
            before = share.statistics().round_trips
            assert await pipe.transceive(b"question") == wanted
            assert share.statistics().round_trips - before == max(1, -(-size // 65536))
            assert await pipe.transceive(b"echo") == b"echo"
        await pipe.close()
        assert server.received.count(Command.CLOSE) == 1
        assert Command.QUERY_INFO not in server.received

    run(server, test)


def test_a_pipe_that_does_not_stop_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "LONGEST_MESSAGE", 100_000)
    server = FakeServer()
    server.tree.add_file("srvsvc").is_pipe = True
    server.tree.controls.answers_pipe = [bytes(200_000)]

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.RemoteProtocolError, match="does not come to an end"):
            async with await share.open_pipe("srvsvc") as pipe:
                await pipe.transceive(b"question")

    run(server, test)


def test_a_pipe_that_stalls_is_cut_off() -> None:
    """BUFFER_OVERFLOW, and then nothing: there would be no end to asking."""
    server = FakeServer()
    server.tree.add_file("srvsvc").is_pipe = True
    server.tree.controls.refusal = (ntstatus.STATUS_BUFFER_OVERFLOW, b"part")

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.RemoteProtocolError, match="does not come to an end"):
            async with await share.open_pipe("srvsvc") as pipe:
                await pipe.transceive(b"question")

    run(server, test)
