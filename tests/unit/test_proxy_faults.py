"""The faults of the proxy, one by one, as both ends of a line see them."""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Final

import pytest
import trio

from tests.support.proxy import (
    Cut,
    Door,
    Drop,
    Fault,
    HalfClose,
    Heal,
    Link,
    Loss,
    Merge,
    NewConnections,
    Place,
    Proxy,
    Relink,
    Reset,
    Resume,
    Split,
    Stall,
    Target,
    Way,
    Whole,
)

pytestmark = pytest.mark.slow

_LOOPBACK: Final = "127.0.0.1"
_DEADLINE: Final = 30.0
_SILENCE: Final = 0.1
"""Seconds in which nothing comes; what would come is here after a fraction of a millisecond."""
_UP: Final = (Way.TO_SERVER,)
_DOWN: Final = (Way.TO_CLIENT,)


class _Line:
    """A proxy in this loop and both ends of it: `connect` as a client, `accept` as the server behind."""

    def __init__(self, proxy: Proxy, listener: trio.SocketListener) -> None:
        self.proxy = proxy
        self._listener = listener
        self._streams: list[trio.SocketStream] = []

    async def connect(self) -> trio.SocketStream:
        self._streams.append(await trio.open_tcp_stream(_LOOPBACK, self.proxy.port))
        return self._streams[-1]

    async def accept(self) -> trio.SocketStream:
        self._streams.append(await self._listener.accept())
        return self._streams[-1]

    async def both(self) -> tuple[trio.SocketStream, trio.SocketStream]:
        client = await self.connect()
        return client, await self.accept()

    def tell(self, fault: Fault) -> None:
        self.proxy.tell(fault)

    async def arrived(self, messages: int) -> None:
        await self.proxy.wait_for(lambda counts: counts.to_server.arrived == messages)

    def close(self) -> None:
        for stream in self._streams:
            stream.socket.close()


@asynccontextmanager
async def _open_line(link: Link | None = None) -> AsyncIterator[_Line]:
    with trio.fail_after(_DEADLINE):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host=_LOOPBACK)
            proxy = Proxy(listener.socket.getsockname(), link)
            await nursery.start(proxy.serve)
            async with listener:
                line = _Line(proxy, listener)
                try:
                    yield line
                finally:
                    line.close()
            nursery.cancel_scope.cancel()


def _on_a_line(test: Callable[[_Line], Awaitable[None]]) -> Callable[[], None]:
    """A test that gets a line, as a plain function."""

    async def main() -> None:
        async with _open_line() as line:
            await test(line)

    @wraps(test)
    def run() -> None:
        trio.run(main)

    del run.__dict__["__wrapped__"]
    return run


def _frame(number: int, size: int = 64) -> bytes:
    return size.to_bytes(4, "big") + bytes([number]) * size


async def _receive(stream: trio.SocketStream, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        data = await stream.receive_some(size - len(received))
        assert data, f"the end after {len(received)} of {size} bytes"
        received += data
    return bytes(received)


async def _rest(stream: trio.SocketStream) -> bytes:
    """Everything until the end."""
    return b"".join([bytes(data) async for data in stream])


async def _hears_nothing(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(_SILENCE):
        await stream.receive_some(1)
        return False
    return True


async def _is_reset(stream: trio.SocketStream) -> bool:
    """Whether all that comes is a reset."""
    try:
        await stream.receive_some(1)
    except trio.BrokenResourceError as error:
        return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ECONNRESET
    return False


async def _is_spoken_to(line: _Line) -> bool:
    """Whether a new connection works, both ways."""
    client, server = await line.both()
    async with client, server:
        await client.send_all(b"question")
        assert await _receive(server, 8) == b"question"
        await server.send_all(b"answer")
        return await _receive(client, 6) == b"answer"


async def _piece_sizes(line: _Line, count: int) -> list[int]:
    """The sizes in which `count` bytes come to a server that is quick, and whose order is looked at."""
    client, server = await line.both()
    content = bytes(index % 256 for index in range(count))
    sizes: list[int] = []
    received = bytearray()
    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, content)
        while len(received) < count:
            data = await server.receive_some(65_536)
            sizes.append(len(data))
            received += data
    assert received == content
    return sizes


@_on_a_line
async def test_line_without_faults(line: _Line) -> None:
    assert await _is_spoken_to(line)


@_on_a_line
async def test_split_sends_one_byte_at_a_time(line: _Line) -> None:
    """The receiver may get several at once when it is busy, but many come alone."""
    assert len(await _piece_sizes(line, 1000)) < 10
    line.tell(Split())
    assert len(await _piece_sizes(line, 1000)) > 100
    line.tell(Whole())
    assert len(await _piece_sizes(line, 1000)) < 10


@_on_a_line
async def test_split_in_odd_sizes(line: _Line) -> None:
    line.tell(Split((1, 7, 3)))
    edges = set(itertools.accumulate(itertools.islice(itertools.cycle((1, 7, 3)), 300)))
    sizes = await _piece_sizes(line, 1000)
    assert len(sizes) > 20
    assert set(itertools.accumulate(sizes)) <= edges | {1000}


@_on_a_line
async def test_merge_sends_several_messages_at_once(line: _Line) -> None:
    line.tell(Merge(0.05, _UP))
    client, server = await line.both()
    for number in range(5):
        await client.send_all(_frame(number))
        await line.arrived(number + 1)
    assert await server.receive_some(65_536) == b"".join(map(_frame, range(5)))
    await server.send_all(b"answer")
    assert await _receive(client, 6) == b"answer"


@_on_a_line
async def test_stall_loses_nothing(line: _Line) -> None:
    client, server = await line.both()
    line.tell(Stall())
    await client.send_all(b"question")
    await server.send_all(b"news")
    await client.send_eof()
    assert await _hears_nothing(client)
    assert await _hears_nothing(server)
    line.tell(Resume())
    assert await _rest(server) == b"question"
    assert await _receive(client, 4) == b"news"


@_on_a_line
async def test_stall_of_one_way_leaves_the_other(line: _Line) -> None:
    client, server = await line.both()
    line.tell(Stall(_DOWN))
    await client.send_all(b"question")
    assert await _receive(server, 8) == b"question"
    await server.send_all(b"answer")
    assert await _hears_nothing(client)
    line.tell(Resume(_DOWN))
    assert await _receive(client, 6) == b"answer"


@_on_a_line
async def test_reset_waits_while_the_line_is_stalled(line: _Line) -> None:
    client, server = await line.both()
    line.tell(Stall())
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    await server.aclose()
    assert await _hears_nothing(client)
    line.tell(Resume())
    assert await _is_reset(client)


@_on_a_line
async def test_drop_is_a_black_hole(line: _Line) -> None:
    client, server = await line.both()
    line.tell(Drop())
    await client.send_all(b"question")
    await server.send_all(b"news")
    assert await _hears_nothing(client)
    assert await _hears_nothing(server)
    async with await line.connect() as other:
        await other.send_all(b"question")
        assert await _hears_nothing(other)
    with trio.move_on_after(_SILENCE) as scope:
        await line.accept()
    assert scope.cancelled_caught, "the server has heard of a connection"


@_on_a_line
async def test_line_after_a_black_hole(line: _Line) -> None:
    """A connection that lost nothing works again, one that lost something never; new ones do."""
    unlucky, its_server = await line.both()
    lucky, other_server = await line.both()
    line.tell(Drop())
    await unlucky.send_all(b"lost")
    assert await _hears_nothing(its_server)
    line.tell(Resume())
    await unlucky.send_all(b"lost too")
    assert await _hears_nothing(its_server)
    await lucky.send_all(b"question")
    assert await _receive(other_server, 8) == b"question"
    assert await _is_spoken_to(line)


@_on_a_line
async def test_drop_of_one_way_leaves_the_other(line: _Line) -> None:
    line.tell(Drop(_DOWN))
    client, server = await line.both()
    await client.send_all(b"question")
    assert await _receive(server, 8) == b"question"
    await server.send_all(b"answer")
    assert await _hears_nothing(client)
    await client.send_eof()
    assert await _rest(server) == b""


@pytest.mark.parametrize("how", ["end", "reset"])
def test_end_and_reset_vanish_in_a_black_hole(how: str) -> None:
    async def main() -> None:
        async with _open_line() as line:
            client, server = await line.both()
            line.tell(Drop())
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            await client.aclose()
            assert await _hears_nothing(server)
            line.tell(Resume())
            assert await _hears_nothing(server)

    trio.run(main)


@_on_a_line
async def test_reset_reaches_both_sides(line: _Line) -> None:
    client, server = await line.both()
    line.tell(Reset())
    assert await _is_reset(client)
    assert await _is_reset(server)
    assert await _is_spoken_to(line)


@_on_a_line
async def test_reset_ends_connections_in_a_black_hole(line: _Line) -> None:
    client, server = await line.both()
    line.tell(Drop())
    await client.send_all(b"lost")
    lonely = await line.connect()
    await line.proxy.wait_for(lambda counts: counts.connections == 2)
    line.tell(Reset())
    assert await _is_reset(client)
    assert await _is_reset(server)
    assert await _is_reset(lonely)


@pytest.mark.parametrize("way", list(Way))
def test_half_close(way: Way) -> None:
    async def main() -> None:
        async with _open_line() as line:
            client, server = await line.both()
            line.tell(HalfClose((way,)))
            told, other = (server, client) if way is Way.TO_SERVER else (client, server)
            assert await _rest(told) == b""
            await other.send_all(b"into the void")
            await told.send_all(b"still heard")
            assert await _receive(other, 11) == b"still heard"
            await told.send_eof()
            assert await _rest(other) == b""

    trio.run(main)


@_on_a_line
async def test_half_close_both_ways_is_an_orderly_end(line: _Line) -> None:
    client, server = await line.both()
    line.tell(HalfClose())
    assert await _rest(client) == await _rest(server) == b""
    await client.aclose()
    await server.aclose()
    await line.proxy.wait_for(lambda counts: counts.open == 0)


@_on_a_line
async def test_new_connections_are_refused(line: _Line) -> None:
    client, server = await line.both()
    for _ in range(2):
        line.tell(NewConnections(Door.REFUSED))
        with trio.socket.socket() as refused, pytest.raises(ConnectionRefusedError):
            await refused.connect((_LOOPBACK, line.proxy.port))
        await client.send_all(b"alive")
        assert await _receive(server, 5) == b"alive"
        line.tell(NewConnections(Door.OPEN))
        assert await _is_spoken_to(line)


@_on_a_line
async def test_new_connections_get_no_answer(line: _Line) -> None:
    client, server = await line.both()
    for _ in range(2):
        line.tell(NewConnections(Door.SILENT))
        with trio.move_on_after(_SILENCE) as scope:
            await line.connect()
        assert scope.cancelled_caught
        await client.send_all(b"alive")
        assert await _receive(server, 5) == b"alive"
        line.tell(NewConnections(Door.OPEN))
        assert await _is_spoken_to(line)
    assert line.proxy.counts().connections == 3


@_on_a_line
async def test_server_at_another_address(line: _Line) -> None:
    (other,) = await trio.open_tcp_listeners(0, host=_LOOPBACK)
    before, its_server = await line.both()
    async with other:
        line.tell(Target(other.socket.getsockname()))
        async with await line.connect() as client, await other.accept() as server:
            await client.send_all(b"question")
            assert await _receive(server, 8) == b"question"
    await before.send_all(b"question")
    assert await _receive(its_server, 8) == b"question"


@_on_a_line
async def test_another_delay_while_it_runs(line: _Line) -> None:
    client, server = await line.both()

    async def seconds() -> float:
        start = trio.current_time()
        await client.send_all(b"question")
        await _receive(server, 8)
        await server.send_all(b"answer")
        await _receive(client, 6)
        return trio.current_time() - start

    line.tell(Relink(Link(0.2)))
    assert await seconds() >= 0.2
    line.tell(Relink(Link(0.1), _UP))
    assert await seconds() >= 0.15
    line.tell(Relink(Link()))
    assert min([await seconds() for _ in range(5)]) < 0.1


@_on_a_line
async def test_a_shorter_delay_lets_nothing_overtake(line: _Line) -> None:
    client, server = await line.both()
    line.tell(Relink(Link(0.2)))
    await client.send_all(_frame(1))
    await line.arrived(1)
    line.tell(Relink(Link()))
    await client.send_all(_frame(2))
    assert await _receive(server, 136) == _frame(1) + _frame(2)


@_on_a_line
async def test_another_rate_while_it_runs(line: _Line) -> None:
    client, server = await line.both()

    async def seconds(size: int) -> float:
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, bytes(size))
            await _receive(server, size)
        return trio.current_time() - start

    line.tell(Relink(Link(rate=1e6)))
    assert await seconds(200_000) >= 0.18
    line.tell(Relink(Link()))
    assert min([await seconds(200_000) for _ in range(5)]) < 0.1


def _what_passes(place: Place, frames: list[bytes]) -> bytes:
    """What goes on of these frames when the last is where the line is cut."""
    whole = b"".join(frames[:-1])
    last = frames[-1]
    return whole + {Place.BEFORE: b"", Place.MIDDLE: last[: len(last) // 2], Place.AFTER: last}[place]


@pytest.mark.parametrize("way", list(Way))
@pytest.mark.parametrize("place", list(Place))
@pytest.mark.parametrize("shape", [Whole(), Split(), Merge(0.02)], ids=["whole", "bytes", "merged"])
def test_cut_at_a_message(way: Way, place: Place, shape: Fault) -> None:
    """The third message from now is cut, and the receiver has got everything up to there."""

    async def main() -> None:
        async with _open_line() as line:
            client, server = await line.both()
            sender, receiver = (client, server) if way is Way.TO_SERVER else (server, client)
            await sender.send_all(_frame(0))
            await _receive(receiver, 68)
            frames = [_frame(number, 64 + number) for number in range(1, 6)]
            line.tell(shape)
            line.tell(Cut(way, 3, place, Loss.END))
            await sender.send_all(b"".join(frames))
            assert await _rest(receiver) == _what_passes(place, frames[:3])
            assert await _rest(sender) == b""
            counts = line.proxy.counts()
            delivered = (counts.to_server if way is Way.TO_SERVER else counts.to_client).delivered
            assert (counts.cuts, delivered) == (1, 4 if place is Place.AFTER else 3)

    trio.run(main)


@pytest.mark.parametrize("source_pieces", [1, 3, 5])
def test_cut_of_a_message_that_comes_in_small_pieces(source_pieces: int) -> None:
    async def main() -> None:
        async with _open_line() as line:
            client, server = await line.both()
            line.tell(Cut(Way.TO_SERVER, 2, Place.MIDDLE, Loss.END))
            data = _frame(1) + _frame(2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send_in_pieces, client, data, source_pieces)
                assert await _rest(server) == _what_passes(Place.MIDDLE, [_frame(1), _frame(2)])

    trio.run(main)


async def _send_in_pieces(stream: trio.SocketStream, data: bytes, size: int) -> None:
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(data), size):
        await stream.send_all(data[start : start + size])


@_on_a_line
async def test_cut_by_reset_loses_nothing_that_went_before(line: _Line) -> None:
    client, server = await line.both()
    line.tell(Cut(Way.TO_SERVER, 2))
    large = _frame(1, 1 << 20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, large + _frame(2))
        assert await _receive(server, len(large) + 68) == large + _frame(2)
    assert await _is_reset(server)
    assert await _is_reset(client)
    assert await _is_spoken_to(line)


@_on_a_line
async def test_cut_into_a_hole_for_one_connection(line: _Line) -> None:
    client, server = await line.both()
    line.tell(Cut(Way.TO_SERVER, 1, Place.BEFORE, Loss.HOLE))
    await client.send_all(_frame(1))
    await line.proxy.wait_for(lambda counts: counts.cuts == 1)
    await server.send_all(_frame(2))
    assert await _hears_nothing(server)
    assert await _hears_nothing(client)
    assert await _is_spoken_to(line)


@_on_a_line
async def test_cut_after_which_everything_is_dropped(line: _Line) -> None:
    client, server = await line.both()
    line.tell(Cut(Way.TO_CLIENT, 1, Place.AFTER, Loss.DROP))
    await server.send_all(_frame(1))
    assert await _receive(client, 68) == _frame(1)
    await line.proxy.wait_for(lambda counts: counts.cuts == 1)
    async with await line.connect() as other:
        await other.send_all(_frame(2))
        assert await _hears_nothing(other)
    line.tell(Heal())
    assert await _is_spoken_to(line)


@_on_a_line
async def test_cut_counts_over_connections_and_from_the_order_on(line: _Line) -> None:
    """A message that is under way when the order comes is none of those counted."""
    first, its_server = await line.both()
    await first.send_all(_frame(1)[:40])
    await _receive(its_server, 40)
    line.tell(Cut(Way.TO_SERVER, 2, Place.AFTER, Loss.END))
    await first.send_all(_frame(1)[40:] + _frame(2))
    assert await _receive(its_server, 28 + 68) == _frame(1)[40:] + _frame(2)
    second, other_server = await line.both()
    await second.send_all(_frame(3))
    assert await _rest(other_server) == _frame(3)
    await first.send_all(_frame(4))
    assert await _receive(its_server, 68) == _frame(4)


@_on_a_line
async def test_heal_ends_every_fault(line: _Line) -> None:
    for fault in (
        Stall(),
        Drop(),
        Split((3,)),
        Merge(0.01),
        NewConnections(Door.REFUSED),
        NewConnections(Door.SILENT),
        Cut(Way.TO_SERVER),
    ):
        line.tell(fault)
        line.tell(Heal())
        assert await _is_spoken_to(line)


@_on_a_line
async def test_counters(line: _Line) -> None:
    client, server = await line.both()
    line.tell(Stall(_DOWN))
    await client.send_all(_frame(1) + _frame(2))
    await _receive(server, 136)
    await server.send_all(_frame(3) + _frame(4)[:50])
    counts = await line.proxy.wait_for(
        lambda counts: counts.to_client.arrived == 1 and counts.to_server.delivered == 2
    )
    assert (counts.to_server.arrived, counts.to_server.delivered, counts.to_server.octets) == (2, 2, 136)
    assert (counts.to_client.delivered, counts.to_client.octets) == (0, 0)
    assert (counts.connections, counts.open) == (1, 1)
    line.tell(Resume())
    await line.proxy.wait_for(lambda counts: counts.to_client.delivered == 1)


@pytest.mark.parametrize("wrong", [lambda: Split(()), lambda: Split((0,)), lambda: Cut(Way.TO_SERVER, 0)])
def test_faults_that_make_no_sense(wrong: Callable[[], Fault]) -> None:
    with pytest.raises(ValueError, match=r"byte|from 1"):
        wrong()
