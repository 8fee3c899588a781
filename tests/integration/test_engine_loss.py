"""Connections that end, and servers that fall silent: every call ends too, in time, with the right error."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeAlias

import pytest
import trio
import trio.lowlevel

import engine
from engine import ConnectConfig, Disposition, File, NtStatusError, RemoteProtocolError, Share, TransportError
from engine.wire.session import LogoffRequest
from tests.integration.support_engine import (
    MIB,
    READ_WRITE,
    account,
    connected,
    in_trio,
    listing,
)
from tests.support.connections import frozen, kill_connections
from tests.support.samba import SambaServer
from tests.support.server import LOOPBACK

_SOON: Final = 10.0
"""Seconds within which every call has to end once the connection is gone; far more than it takes."""

_Call: TypeAlias = Callable[[Share, File, File], Awaitable[object]]

CALLS: Final[dict[str, _Call]] = {
    "stat": lambda share, file, locked: share.stat(""),
    "open": lambda share, file, locked: share.open("file"),
    "list": lambda share, file, locked: listing(share, ""),
    "read": lambda share, file, locked: file.read_at(0, 16 * MIB),
    "write": lambda share, file, locked: file.write_at(0, bytes(16 * MIB)),
    "flush": lambda share, file, locked: file.flush(),
    "lock": lambda share, file, locked: locked.lock(0, 10, exclusive=True, wait=True),
    "rename": lambda share, file, locked: share.rename("file", "file", replace=True),
    "mkdir": lambda share, file, locked: share.mkdir("folder"),
    "copy": lambda share, file, locked: share.copy("file", "copy", replace=True),
    "echo": lambda share, file, locked: share.echo(),
}


@pytest.fixture
def server() -> Iterator[SambaServer]:
    """A server that the test may treat as it likes."""
    with SambaServer() as own:
        yield own


async def assert_lost(call: Awaitable[object]) -> None:
    with pytest.raises(TransportError) as caught:
        await call
    assert caught.value.errno in (errno.EHOSTDOWN, errno.EIO)


async def repeat_until_lost(work: Callable[[], Awaitable[object]], ended: list[BaseException]) -> None:
    while True:
        try:
            await work()
        except NtStatusError:
            # The tasks get into each other's way; only the end of the connection ends them.
            continue
        except TransportError as error:
            ended.append(error)
            return


@pytest.mark.parametrize("how", ["connection killed", "server stopped", "session closed"])
@pytest.mark.parametrize("seal", [False, True], ids=["signed", "sealed"])
@in_trio
async def test_every_call_ends_when_the_connection_does(server: SambaServer, how: str, seal: bool) -> None:
    chance = random.Random(how)
    async with connected(server) as holder:
        await holder.write_file("file", bytes(MIB))
        await (await holder.open("file", access=READ_WRITE)).lock(0, 10, exclusive=True, wait=False)
        config = ConnectConfig(seal=seal)
        ended: list[BaseException] = []
        async with connected(server, config=config) as share:
            file = await share.open("data", access=READ_WRITE, disposition=Disposition.OPEN_IF)
            locked = await share.open("file", access=READ_WRITE)
            with trio.fail_after(_SOON):
                async with trio.open_nursery() as nursery:
                    for call in CALLS.values():
                        nursery.start_soon(
                            repeat_until_lost, lambda call=call: call(share, file, locked), ended
                        )
                    for _ in range(chance.randrange(100, 500)):
                        await trio.lowlevel.checkpoint()
                    assert not ended
                    if how == "connection killed":
                        kill_connections(server)
                    elif how == "server stopped":
                        await trio.to_thread.run_sync(server.stop_service)
                    else:
                        server.smbcontrol("smbd", "kill-client-ip", LOOPBACK)
                assert len(ended) == len(CALLS)
                await share.wait_lost()
            assert share.is_lost
            for call in CALLS.values():
                await assert_lost(call(share, file, locked))
            await assert_lost(file.close())
            statistics = share.statistics()
            assert statistics.in_flight == 0


@in_trio
async def test_connecting_again_after_a_restart(server: SambaServer) -> None:
    async with connected(server) as share:
        await share.write_file("file", b"content")
        await trio.to_thread.run_sync(server.restart)
        await share.wait_lost()
        await assert_lost(share.stat("file"))
    async with connected(server) as share:
        assert await share.read_file("file", 100) == b"content"


@in_trio
async def test_connection_that_is_lost_while_nobody_asks(server: SambaServer) -> None:
    async with connected(server) as share:
        await share.echo()
        kill_connections(server)
        with trio.fail_after(_SOON):
            await share.wait_lost()


@in_trio
async def test_error_of_the_body_is_not_hidden_by_the_loss(server: SambaServer) -> None:
    async def body() -> None:
        async with connected(server) as share:
            kill_connections(server)
            await share.wait_lost()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await body()


@in_trio
async def test_silent_server_is_found_out_by_echo(server: SambaServer) -> None:
    config = ConnectConfig(echo_interval=0.2)
    async with connected(server, config=config) as share:
        file = await share.open("file", access=READ_WRITE, disposition=Disposition.CREATE)
        with frozen(server), trio.fail_after(_SOON):
            start = trio.current_time()
            ended: list[BaseException] = []
            async with trio.open_nursery() as nursery:
                for call in CALLS.values():
                    nursery.start_soon(repeat_until_lost, lambda call=call: call(share, file, file), ended)
            assert len(ended) == len(CALLS)
            assert trio.current_time() - start < 5
            assert all("silent" in str(error) for error in ended)


@in_trio
async def test_server_that_is_only_slow_is_not_given_up(server: SambaServer) -> None:
    async with connected(server, config=ConnectConfig(echo_interval=30)) as share:
        async with trio.open_nursery() as nursery:
            with frozen(server):
                answered = trio.Event()

                async def ask() -> None:
                    await share.stat("")
                    answered.set()

                nursery.start_soon(ask)
                for _ in range(100):
                    await trio.lowlevel.checkpoint()
                assert not answered.is_set()
        assert answered.is_set()
        assert not share.is_lost


@in_trio
async def test_idle_connection_is_kept_alive_by_echo(samba: SambaServer) -> None:
    async with connected(samba, config=ConnectConfig(echo_interval=0.5)) as share:
        with trio.move_on_after(1.8):
            await share.wait_lost()
        assert not share.is_lost
        assert share.statistics().requests["ECHO"] in (2, 3)


@in_trio
async def test_server_that_accepts_and_says_nothing(samba: SambaServer) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        unc = f"//{LOOPBACK}:{listener.getsockname()[1]}/data"
        with pytest.raises(TransportError, match=r"took the connection but did not answer within 0\.2 s"):
            async with engine.connect(unc, account(samba), ConnectConfig(timeout=0.2)):
                pass


@pytest.mark.parametrize(
    "greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(4), b"\0\0\0\x10" + bytes(16)]
)
@in_trio
async def test_something_else_than_an_smb_server(samba: SambaServer, greeting: bytes) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(1)
            await stream.send_all(greeting)

    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
    unc = f"//{LOOPBACK}:{listener.socket.getsockname()[1]}/data"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        with pytest.raises((TransportError, RemoteProtocolError)):
            async with engine.connect(unc, account(samba), ConnectConfig(timeout=5)):
                pass
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seal", [False, True], ids=["signed", "sealed"])
@in_trio
async def test_session_that_the_server_has_forgotten_is_a_lost_connection(
    samba: SambaServer, seal: bool
) -> None:
    """A server signs nothing of a session that it does not know, Samba with a key that is nobody's."""
    async with connected(samba, config=ConnectConfig(seal=seal)) as share:
        session = share._tree.session
        await session.connection.request(LogoffRequest(), session.batch())
        with pytest.raises(TransportError, match=r"forgotten the session|closed the connection"):
            await share.stat("")
        assert share.is_lost
