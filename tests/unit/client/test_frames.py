"""Frames over sockets: in pieces, merged, too long, sent in parts."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Literal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import engine
from engine.client.buffers import BufferPool
from engine.client.transport import FRAME_LIMIT_UNNEGOTIATED, Transport, open_transport
from tests.fakes.server import FakeServer, running
from tests.fakes.server_behaviours import MergesFrames, OverlongFrame, SplitsBytewise
from tests.unit.client.support import ACCOUNT, DEADLINE, connected, settled


@contextlib.asynccontextmanager
async def pair() -> AsyncGenerator[tuple[Transport, trio.socket.SocketType], None]:
    """A transport with small socket buffers, and the other end."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.setblocking(False)
    other = trio.socket.from_stdlib_socket(theirs)
    transport = Transport(ours, BufferPool())
    with trio.fail_after(DEADLINE):
        try:
            yield transport, other
        finally:
            transport.close()
            other.close()


def framed(*datas: bytes) -> bytes:
    return b"".join(len(data).to_bytes(4, "big") + data for data in datas)


async def receive(transport: Transport) -> bytes:
    buffer, length = await transport.receive()
    assert len(buffer) >= length + 16, "room for the tag of an encrypted frame"
    return bytes(buffer[:length])


async def send_all(other: trio.socket.SocketType, data: bytes) -> None:
    while data:
        data = data[await other.send(data) :]


async def drain(other: trio.socket.SocketType, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        found += await other.recv(1000)
    return bytes(found)


async def tcp_pair(nursery: trio.Nursery) -> tuple[Transport, trio.SocketStream]:
    """A transport over TCP, and the other end."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    transport = await open_transport("127.0.0.1", listener.socket.getsockname()[1], BufferPool())
    other = await listener.accept()
    await listener.aclose()
    nursery.start_soon(transport.run_writer)
    return transport, other


def test_what_arrives_at_the_server_is_a_sign_of_life() -> None:
    clock = MockClock()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            transport, other = await tcp_pair(nursery)
            began = transport.last_heard
            size = 32 << 20
            transport.send([bytes(size)])
            await wait_all_tasks_blocked(0.01)
            clock.jump(10)
            handed, arrived = transport.upload
            assert handed == size + 4
            assert 0 < arrived < handed
            assert transport.last_heard == began + 10
            clock.jump(10)
            assert transport.last_heard == began + 10, "nothing arrived meanwhile"
            left = handed
            while left:
                left -= len(await other.receive_some(1 << 20))
            while transport.upload != (handed, handed):
                await trio.lowlevel.checkpoint()
            assert transport.last_heard == began + 20
            transport.send([bytes(72)])
            clock.jump(10)
            while transport.upload[1] < handed + 76:
                await trio.lowlevel.checkpoint()
            assert transport.last_heard == began + 20, "what an ECHO takes is none"
            nursery.cancel_scope.cancel()
            transport.close()
            await other.aclose()

    trio.run(main, clock=clock)


def test_what_arrives_of_a_frame_with_data_is_counted_before_it_is_whole() -> None:
    async def main() -> None:
        async with pair() as (transport, other), trio.open_nursery() as nursery:
            large = framed(bytes([1]) * 100_000)
            transport.frame_limit = 100_000

            async def receive_both() -> None:
                for _ in range(2):
                    await receive(transport)

            nursery.start_soon(receive_both)
            await send_all(other, framed(bytes([1]) * 500))
            await send_all(other, large[:50_004])
            while transport.downloaded < 50_000:
                await trio.lowlevel.checkpoint()
            assert transport.downloaded == 50_000
            await send_all(other, large[50_004:])
        assert transport.downloaded == 100_000

    trio.run(main)


def test_frames_that_the_socket_does_not_take_at_once_are_sent_in_parts() -> None:
    async def main() -> None:
        sent = [[bytes([number]) * 70, bytes([number + 100]) * 50_000, b"", b"end"] for number in range(30)]
        wire = framed(*[b"".join(buffers) for buffers in sent])
        async with pair() as (transport, other), trio.open_nursery() as nursery:
            nursery.start_soon(transport.run_writer)
            for buffers in sent:
                transport.send(buffers)
            assert await drain(other, len(wire)) == wire
            transport.send([b"once more"])
            assert await drain(other, 13) == framed(b"once more")
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_many_small_buffers_wait_in_one_queue() -> None:
    async def main() -> None:
        async with pair() as (transport, other), trio.open_nursery() as nursery:
            transport.send([bytes(100_000)])
            for number in range(500):
                transport.send([bytes([number % 256])])
            nursery.start_soon(transport.run_writer)
            wire = framed(bytes(100_000), *[bytes([number % 256]) for number in range(500)])
            assert await drain(other, len(wire)) == wire
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_what_was_not_sent_is_forgotten_when_the_connection_is_closed() -> None:
    async def main() -> None:
        async with pair() as (transport, _), trio.open_nursery() as nursery:
            transport.send([bytes(100_000)])
            transport.close()
            nursery.start_soon(transport.run_writer)
            await wait_all_tasks_blocked()
            with pytest.raises(engine.TransportError, match="is closed"):
                transport.send([b"x"])
            transport.close()
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_peer_that_is_gone_while_we_send() -> None:
    async def main() -> None:
        async with pair() as (transport, other):
            transport.send([bytes(100_000)])
            other.close()
            with pytest.raises(engine.TransportError) as caught:
                await transport.run_writer()
            assert caught.value.errno == errno.EHOSTDOWN
            with pytest.raises(engine.TransportError):
                await transport.receive()

    trio.run(main)


def test_closing_wakes_who_waits_to_send_or_to_receive() -> None:
    async def main() -> None:
        woken: list[str] = []

        async def wait(name: str, call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await call()
            woken.append(name)

        async with pair() as (transport, _), trio.open_nursery() as nursery:
            transport.send([bytes(100_000)])
            nursery.start_soon(wait, "writer", transport.run_writer)
            nursery.start_soon(wait, "reader", transport.receive)
            await wait_all_tasks_blocked()
            transport.close()
        assert sorted(woken) == ["reader", "writer"]

    trio.run(main)


def test_whoever_begins_to_receive_after_the_end_is_told() -> None:
    async def main() -> None:
        async with pair() as (transport, other):
            await other.send(framed(b"one"))
            assert await receive(transport) == b"one"
            transport.close()
            with pytest.raises(trio.ClosedResourceError):
                await transport.receive()

    trio.run(main)


@pytest.mark.parametrize("size", [1, 3, 5, 1000, 70_000])
def test_frames_come_out_as_they_went_in_however_they_are_cut(size: int) -> None:
    datas = [b"", b"a", bytes(64), b"z" * (65536 if size > 5 else 700), b"end"]
    wire = framed(*datas)

    async def main() -> None:
        async with pair() as (transport, other), trio.open_nursery() as nursery:

            async def send() -> None:
                for start in range(0, len(wire), size):
                    chunk = wire[start : start + size]
                    while chunk:
                        chunk = chunk[await other.send(chunk) :]

            nursery.start_soon(send)
            for data in datas:
                assert await receive(transport) == data

    trio.run(main)


def test_frames_that_came_together_are_taken_without_waiting() -> None:
    async def main() -> None:
        async with pair() as (transport, other):
            await other.send(framed(b"one", b"two", b"three"))
            assert await receive(transport) == b"one"
            assert transport.has_staged
            with trio.CancelScope() as scope:
                scope.cancel()
                assert await receive(transport) == b"two"
                assert await receive(transport) == b"three"
            assert not transport.has_staged

    trio.run(main)


@pytest.mark.parametrize("cut", [0, 2, 4, 10])
def test_the_end_of_the_stream_is_the_end_of_the_connection(cut: int) -> None:
    async def main() -> None:
        async with pair() as (transport, other):
            await other.send(framed(b"0123456789")[:cut])
            other.close()
            with pytest.raises(engine.TransportError, match="closed the connection"):
                await transport.receive()

    trio.run(main)


def test_a_frame_beyond_the_limit_is_refused_before_anything_is_allocated() -> None:
    class NoPool(BufferPool):
        def allocate(self, size: int) -> memoryview:
            pytest.fail(f"{size} bytes were allocated")

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            transport = Transport(ours, NoPool())
            theirs.sendall((FRAME_LIMIT_UNNEGOTIATED + 1).to_bytes(4, "big"))
            with pytest.raises(engine.RemoteProtocolError, match="frame of 65537 bytes"):
                await transport.receive()
            transport.close()

    trio.run(main)


@pytest.mark.parametrize("size", [65537, 0x01000000, 0xFFFFFFFF])
def test_3_2_5_an_overlong_frame_before_negotiation(size: int) -> None:
    async def main() -> None:
        server = OverlongFrame(size)
        with trio.fail_after(DEADLINE):
            async with running(server):
                with pytest.raises(engine.RemoteProtocolError, match="frame of"):
                    async with engine.connect(server.unc, ACCOUNT):
                        pytest.fail("connected")

    trio.run(main)


def test_3_2_5_an_overlong_frame_after_negotiation() -> None:
    async def main() -> None:
        server = OverlongFrame((1 << 20) + (256 << 10), armed=False)
        async with connected(server) as share:
            server.armed = True
            with pytest.raises(engine.RemoteProtocolError, match="frame of"):
                await share.echo()

    trio.run(main)


def test_the_fullest_listing_is_within_the_limit() -> None:
    async def main() -> None:
        server = FakeServer(dialect=engine.Dialect.SMB_2_0_2)
        # With "." and "..", 585 entries of 112 bytes each fill 65,520 of a reply's 65,536 bytes.
        names = [f"{number:04}" for number in range(2000)]
        for name in names:
            server.tree.add_file(name)
        async with connected(server) as share:
            async with contextlib.aclosing(share.scandir("")) as batches:
                found = [entry.name async for batch in batches for entry in batch]
            assert found == names
            await settled(server, share)

    trio.run(main)


def test_everything_works_one_byte_at_a_time() -> None:
    async def main() -> None:
        server = SplitsBytewise(encrypts=True)
        async with connected(server) as share:
            await share.mkdir("dir")
            await share.write_file("dir\\a", b"abc")
            assert await share.read_file("dir\\a", 10) == b"abc"
            await settled(server, share)

    trio.run(main)


@pytest.mark.parametrize("seal", [False, True])
def test_replies_that_come_in_one_piece(seal: bool) -> None:
    async def main() -> None:
        server = MergesFrames(6, armed=False)
        for name in "abcdef":
            server.tree.add_file(name, name.encode() * 50_000)
        async with connected(server, engine.ConnectConfig(seal=seal)) as share:
            server.armed = True
            found: dict[str, bytes] = {}

            async def read(name: str) -> None:
                found[name] = await share.read_file(name, 50_000)

            async with trio.open_nursery() as nursery:
                for name in "abcdef":
                    nursery.start_soon(read, name)
            assert found == {name: name.encode() * 50_000 for name in "abcdef"}
            server.armed = False
            await settled(server, share)

    trio.run(main)


_Resolved = tuple[Literal[socket.AddressFamily.AF_INET], socket.SocketKind, int, str, tuple[str, int]]
_Resolved6 = tuple[
    Literal[socket.AddressFamily.AF_INET6],
    socket.SocketKind,
    int,
    str,
    tuple[str, int, int, int] | tuple[int, bytes],
]


class _Resolves(trio.abc.HostnameResolver):
    """Knows these IPv4 addresses for every name; without any, no name exists."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[_Resolved | _Resolved6]:
        if not self._addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        assert isinstance(port, int)
        return [
            (socket.AddressFamily.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in self._addresses
        ]

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int
    ) -> tuple[str, str]:
        raise AssertionError("not asked for")


def test_a_host_that_does_not_exist() -> None:
    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(_Resolves())
        with pytest.raises(engine.TransportError, match="cannot be resolved") as caught:
            await open_transport("nowhere.example", 445, BufferPool())
        assert caught.value.errno == errno.EHOSTUNREACH

    trio.run(main)


class _NeverResolves(_Resolves):
    """A name service that is silent."""

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[_Resolved | _Resolved6]:
        await trio.sleep_forever()


def test_a_name_service_that_is_silent() -> None:
    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(_NeverResolves())
        with pytest.raises(engine.TransportError, match=r"slow\.example port 445 did not answer"):
            async with engine.connect("//slow.example/data", ACCOUNT):
                pytest.fail("connected")

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_an_address_that_cannot_be_reached() -> None:
    async def main() -> None:
        # Multicast addresses take no connections; the kernel says so without sending anything.
        with pytest.raises(engine.TransportError, match="cannot connect to 224") as caught:
            await open_transport("224.0.0.1", 445, BufferPool())
        assert caught.value.errno == errno.ENETUNREACH

    trio.run(main)


def test_a_host_all_of_whose_addresses_refuse() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        async def main() -> None:
            trio.socket.set_custom_hostname_resolver(_Resolves("127.0.0.1", "127.0.0.2"))
            with pytest.raises(engine.TransportError, match="nothing listens") as caught:
                await open_transport("two.example", port, BufferPool())
            assert caught.value.errno == errno.ECONNREFUSED

        trio.run(main)


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "\u00fc\ud800"])
def test_a_host_name_that_cannot_be_one_is_explained(host: str) -> None:
    async def main() -> None:
        with pytest.raises(engine.TransportError, match="cannot be resolved") as caught:
            await open_transport(host, 445, BufferPool())
        assert caught.value.errno == errno.EHOSTUNREACH

    trio.run(main)
