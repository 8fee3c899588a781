"""The delay proxy: bytes keep their order and content, and the delay is latency, exact and nothing else."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import islice, pairwise

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.proxy import Link, Proxy, ProxyProcess

pytestmark = pytest.mark.slow

_Handler = Callable[[trio.SocketStream], Awaitable[None]]
_LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def _through(link: Link, handler: _Handler) -> AsyncIterator[trio.SocketStream]:
    """A client's stream to `handler`, by way of a proxy in this loop."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host=_LOOPBACK)
            server = listeners[0].socket.getsockname()
            nursery.start_soon(trio.serve_listeners, handler, listeners)
            proxy = Proxy(server[:2], link)
            await nursery.start(proxy.serve)
            async with await trio.open_tcp_stream(_LOOPBACK, proxy.port) as stream:
                yield stream
            nursery.cancel_scope.cancel()


async def _echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def _receive_all(stream: trio.SocketStream) -> bytes:
    return b"".join([data async for data in stream])


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3 << 20), min_size=1, max_size=5),
    delay=st.sampled_from([0.0, 0.002]),
    queue=st.sampled_from([1, 100_000, 64 << 20]),
)
def test_bytes_keep_order_and_content(sizes: list[int], delay: float, queue: int) -> None:
    parts = [random.Random(size).randbytes(size) for size in sizes]
    received = bytearray()

    async def main() -> None:
        async with _through(Link(delay, queue=queue), _echo) as stream, trio.open_nursery() as nursery:

            async def send() -> None:
                for part in parts:
                    await stream.send_all(part)
                await stream.send_eof()

            nursery.start_soon(send)
            received.extend(await _receive_all(stream))

    trio.run(main)
    assert received == b"".join(parts)


def test_many_small_messages_keep_their_order() -> None:
    messages = [struct.pack("<I", number) for number in range(2000)]

    async def main() -> bytes:
        async with _through(Link(0.002), _echo) as stream:
            for message in messages:
                await stream.send_all(message)
            await stream.send_eof()
            return await _receive_all(stream)

    assert trio.run(main) == b"".join(messages)


@contextmanager
def _echo_in_a_thread() -> Iterator[tuple[str, int]]:
    """An echo server for one connection that shares no loop with anybody."""
    with socket.create_server((_LOOPBACK, 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while data := connection.recv(1 << 16):
                    connection.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()
        thread.join(10)
        assert not thread.is_alive()


def _round_trips(port: int) -> Generator[float, None, None]:
    """Milliseconds of one question and answer of 100 bytes after the other."""
    with socket.create_connection((_LOOPBACK, port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            start = time.perf_counter()
            client.sendall(bytes(100))
            assert client.recv(100), "the echo ended"
            yield (time.perf_counter() - start) * 1000


@pytest.mark.parametrize("milliseconds", [1, 10, 50])
def test_round_trip_is_what_was_asked_for(milliseconds: int) -> None:
    """None is quicker, and one at least not slower: the others wait for the processor, on a busy machine."""
    with (
        _echo_in_a_thread() as server,
        ProxyProcess(server, Link(milliseconds / 1000)) as proxy,
        contextlib.closing(_round_trips(proxy.port)) as times,
    ):
        best = min(islice(times, 200 // milliseconds))
        for one in islice(times, 8000 // milliseconds):
            if best <= milliseconds + 0.3 + milliseconds / 50:
                break
            best = min(best, one)
    assert milliseconds - 0.2 <= best <= milliseconds + 0.3 + milliseconds / 50


def test_delay_is_no_limit_to_throughput() -> None:
    """Two hundred pieces one after the other would take 200 × 20 ms."""
    total = 200 * 65_536

    async def main() -> float:
        async with _through(Link(0.04), _echo) as stream, trio.open_nursery() as nursery:
            start = trio.current_time()
            nursery.start_soon(stream.send_all, bytes(total))
            count = 0
            while count < total:
                count += len(await stream.receive_some(1 << 20))
            return trio.current_time() - start

    seconds = trio.run(main)
    assert 0.04 <= seconds < 2.0


@pytest.mark.parametrize("rate", [2e6, 20e6])
def test_rate_limit_holds(rate: float) -> None:
    """Never a tenth too fast; slower only as far as the processor is the slower line, on a busy machine."""
    measured = [trio.run(_rate_and_longest_pause, rate)]
    while measured[-1][0] < rate * 0.9 and len(measured) < 4:
        measured.append(trio.run(_rate_and_longest_pause, rate))
    assert rate * 0.6 <= max(measured)[0] <= rate * 1.1, measured
    assert min(pause for _, pause in measured) < 0.2


async def _rate_and_longest_pause(rate: float) -> tuple[float, float]:
    """Bytes per second that half a second's worth of bytes comes with, and the longest time without any."""
    arrivals: list[tuple[float, int]] = []

    async def swallow(stream: trio.SocketStream) -> None:
        async for data in stream:
            arrivals.append((trio.current_time(), len(data)))
        await stream.send_eof()

    async with _through(Link(0.002, rate), swallow) as stream:
        await stream.send_all(bytes(int(rate / 2)))
        await stream.send_eof()
        await _receive_all(stream)
    seconds = arrivals[-1][0] - arrivals[0][0]
    pauses = [later - earlier for (earlier, _), (later, _) in pairwise(arrivals)]
    return sum(size for _, size in arrivals[1:]) / seconds, max(pauses)


def test_full_queue_holds_the_sender_back() -> None:
    """A receiver that does not read: what the sender gets rid of is bounded by the queue and the sockets."""
    release = trio.Event()

    async def never_read(stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        await release.wait()

    async def main() -> int:
        sent = 0
        async with _through(Link(queue=1 << 20), never_read) as stream:
            while True:
                with trio.move_on_after(0.5) as scope:
                    sent += await stream.socket.send(bytes(1 << 20))
                if scope.cancelled_caught:
                    return sent

    sent = trio.run(main)
    assert (1 << 20) <= sent <= 32 << 20


def test_half_close_passes_on_and_the_other_direction_lives() -> None:
    async def answer_after_the_end(stream: trio.SocketStream) -> None:
        question = await _receive_all(stream)
        await stream.send_all(question[::-1])
        await stream.send_eof()

    async def main() -> bytes:
        async with _through(Link(0.002), answer_after_the_end) as stream:
            await stream.send_all(b"question")
            await stream.send_eof()
            return await _receive_all(stream)

    assert trio.run(main) == b"question"[::-1]


def test_reset_passes_on() -> None:
    async def reset(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    async def main() -> None:
        async with _through(Link(), reset) as stream:
            await stream.send_all(b"x")
            with pytest.raises(trio.BrokenResourceError) as caught:
                await stream.receive_some()
            assert isinstance(caught.value.__cause__, OSError)
            assert caught.value.__cause__.errno == errno.ECONNRESET

    trio.run(main)


def test_server_that_is_not_there_closes_the_connection() -> None:
    async def main() -> bytes:
        with socket.create_server((_LOOPBACK, 0)) as gone:
            nobody = gone.getsockname()
        async with trio.open_nursery() as nursery:
            with trio.fail_after(10):
                proxy = Proxy(nobody)
                await nursery.start(proxy.serve)
                async with await trio.open_tcp_stream(_LOOPBACK, proxy.port) as stream:
                    received = await stream.receive_some()
            nursery.cancel_scope.cancel()
        return bytes(received)

    assert trio.run(main) == b""


def test_nothing_is_left_behind() -> None:
    """Neither descriptors of connections that ended, nor of those that were cut off, nor a process."""

    async def main() -> None:
        for _ in range(3):
            async with _through(Link(0.002), _echo) as stream:
                await stream.send_all(b"x")
                await stream.receive_some()

    before = sorted(os.listdir("/proc/self/fd"))
    trio.run(main)
    assert sorted(os.listdir("/proc/self/fd")) == before

    with _echo_in_a_thread() as server, ProxyProcess(server, Link()) as proxy:
        pid = proxy.pid
        with contextlib.closing(_round_trips(proxy.port)) as times:
            next(times)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        pytest.fail("the proxy's process is still there")
