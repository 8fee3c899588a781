"""A proxy that puts a distance between a client and a server on one machine.

    python -m tests.support.proxy --to HOST:PORT [--listen HOST:PORT] [--delay MS] [--rate BYTES]

What arrives is sent on half a round trip later, in order and unchanged. The delay is latency and no limit
to throughput: data on its way is queued with the time it is due. `--rate` limits the bytes per second of
each direction, the way a slow line does. The end of one direction (half-close) and resets pass on too.

Benchmarks run it as a process of its own (`ProxyProcess`), tests also inside their loop (`serve`).
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import trio

from tests.support.timer import PreciseTimer

CHECKOUT: Final = Path(__file__).resolve().parents[2]
LOOPBACK: Final = "127.0.0.1"
DEFAULT_QUEUE: Final = 64 << 20
"""Bytes on their way in one direction: 25 ms one way at 2.5 GB/s."""

_BLOCK: Final = 1 << 20
"""Twice as fast as blocks of a quarter of that: as measured, 1,300 instead of 690 MiB/s."""
_SMALLEST_READ: Final = 16 << 10
"""With less room than this left, a block is full."""
_QUANTUM: Final = 0.005
"""Seconds of a limited line that are received at once; one more waits, so that the line is never idle."""
_HANDLING: Final = 50_000
"""Nanoseconds that the proxy itself takes, as measured: the way through it counts as part of the distance."""
_NANO: Final = 1_000_000_000
_START_DEADLINE: Final = 15.0
_STOP_DEADLINE: Final = 10.0
_CONNECT_DEADLINE: Final = 10.0
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
"""struct linger: close() sends a reset."""


@dataclass(frozen=True, slots=True)
class Link:
    """What the line is like: seconds there and back, bytes per second of each direction (None: no limit),
    and the bytes that may be under way in each direction before the sender has to wait."""

    round_trip: float = 0.0
    rate: float | None = None
    queue: int = DEFAULT_QUEUE


class Block:
    """A receive buffer that is filled piece by piece and used again when all its pieces have left."""

    __slots__ = ("pending", "used", "view")

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_BLOCK))
        self.used = 0
        self.pending = 0

    @property
    def is_full(self) -> bool:
        """Whether too little room is left for another read to be worth it."""
        return _BLOCK - self.used < _SMALLEST_READ


@dataclass(slots=True)
class Piece:
    """Bytes that came at once; none = the sender's end. `due` is in nanoseconds of the monotonic clock."""

    due: int
    data: memoryview
    block: Block


class Wire:
    """One direction of a connection: `receive` and `deliver` are two tasks with a bounded queue between."""

    def __init__(self, source: trio.socket.SocketType, sink: trio.socket.SocketType, link: Link) -> None:
        self._source = source
        self._sink = sink
        self._delay = max(0, int(link.round_trip / 2 * _NANO) - _HANDLING)
        self._rate = link.rate
        self._limit = link.queue
        self._most = _BLOCK if link.rate is None else max(1, min(_BLOCK, int(link.rate * _QUANTUM)))
        self._line_free = 0
        self._pieces: deque[Piece] = deque()
        self._queued = 0
        """The bytes of all pieces; above `_limit` nothing is received, so it is at most one read more."""
        self._free: list[Block] = []
        self._arrival = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()

    async def receive(self) -> None:
        """Queue what the source sends, until its end."""
        pacer = PreciseTimer()
        block = Block()
        try:
            while True:
                block = self._block_with_room(block)
                room = block.view[block.used : block.used + self._most]
                count = await self._source.recv_into(room)
                self._queue(room[:count], block)
                if count == 0:
                    return
                if self._rate is not None:
                    await pacer.wait_until(self._line_free - int(_QUANTUM * _NANO))
                while self._queued > self._limit:
                    await self._room.park()
        finally:
            pacer.close()

    async def deliver(self) -> None:
        """Send each piece when it is due; the source's end becomes the sink's."""
        timer = PreciseTimer()
        try:
            while True:
                while not self._pieces:
                    await self._arrival.park()
                piece = self._pieces.popleft()
                await timer.wait_until(piece.due)
                if not piece.data:
                    self._sink.shutdown(socket.SHUT_WR)
                    return
                await self._send(piece.data)
                self._settle(piece)
        finally:
            timer.close()

    def _queue(self, data: memoryview, block: Block) -> None:
        self._pieces.append(Piece(self._departure(len(data)) + self._delay, data, block))
        self._queued += len(data)
        block.used += len(data)
        block.pending += 1
        self._arrival.unpark()

    def _departure(self, size: int) -> int:
        """When the last of `size` bytes that are here now has gone through a line of this rate."""
        now = time.monotonic_ns()
        if self._rate is None:
            return now
        self._line_free = max(now, self._line_free) + int(size / self._rate * _NANO)
        return self._line_free

    async def _send(self, data: memoryview) -> None:
        while data:
            data = data[await self._sink.send(data) :]

    def _settle(self, piece: Piece) -> None:
        self._queued -= len(piece.data)
        piece.block.pending -= 1
        if piece.block.pending == 0 and piece.block.is_full:
            self._free.append(piece.block)
        self._room.unpark()

    def _block_with_room(self, block: Block) -> Block:
        """The block to receive into: the current one, from its start if all it held has left, or another."""
        if block.is_full:
            block = self._free.pop() if self._free else Block()
        if block.pending == 0:
            block.used = 0
        return block


class Connection:
    """A client, its own connection to the server, and the two wires between; `run` ends both sockets."""

    def __init__(self, client: trio.socket.SocketType, server: trio.socket.SocketType, link: Link) -> None:
        self._sockets = (client, server)
        self._wires = (Wire(client, server, link), Wire(server, client, link))

    async def run(self) -> None:
        """Carry bytes until both directions have ended; a failure of one socket resets both."""
        try:
            async with trio.open_nursery() as nursery:
                for wire in self._wires:
                    for task in (wire.receive, wire.deliver):
                        nursery.start_soon(self._reset_on_failure, task, nursery.cancel_scope)
        finally:
            for end in self._sockets:
                end.close()

    async def _reset_on_failure(
        self, task: Callable[[], Awaitable[None]], connection: trio.CancelScope
    ) -> None:
        try:
            await task()
        except OSError:
            for end in self._sockets:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            connection.cancel()


async def serve(
    target: tuple[str, int],
    link: Link,
    listen: tuple[str, int] = (LOOPBACK, 0),
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Forward every connection to `target`, for ever; the port is told to `nursery.start`."""

    async def handle(accepted: trio.SocketStream) -> None:
        server = trio.socket.socket()
        try:
            with trio.fail_after(_CONNECT_DEADLINE):
                await server.connect(target)
            for end in (accepted.socket, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, trio.TooSlowError):
            server.close()
            return
        await Connection(accepted.socket, server, link).run()

    listeners = await trio.open_tcp_listeners(listen[1], host=listen[0])
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(handle, listeners)


class ProxyProcess:
    """A proxy as a process of its own, so that it shares no event loop; a context manager.

    `address` and `port` are where it listens, from the moment that it is entered.
    """

    def __init__(self, target: tuple[str, int], link: Link, listen: tuple[str, int] = (LOOPBACK, 0)) -> None:
        self.address, self.port = listen
        self._command = [
            *("setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "tests.support.proxy"),
            *("--to", f"{target[0]}:{target[1]}", "--listen", f"{listen[0]}:{listen[1]}"),
            *("--delay", str(link.round_trip * 1000), "--queue", str(link.queue)),
            *(("--rate", str(link.rate)) if link.rate is not None else ()),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        try:
            self.port = _announced_port(process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """The process id, while it runs."""
        assert self._process is not None
        return self._process.pid

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _announced_port(process: subprocess.Popen[bytes]) -> int:
    """The port in the one line that the process writes once it listens."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], _START_DEADLINE)
    line = process.stdout.readline() if readable else b""
    if not line:
        raise RuntimeError("the proxy did not start")
    return int(line.rpartition(b":")[2])


async def _serve_until_told(target: tuple[str, int], link: Link, listen: tuple[str, int]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve, target, link, listen)
            sys.stdout.write(f"listening on {listen[0]}:{port}\n")
            sys.stdout.flush()
            await anext(signals)
            nursery.cancel_scope.cancel()


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host or LOOPBACK, int(port)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--to", type=_host_and_port, required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument("--listen", type=_host_and_port, default=(LOOPBACK, 0), metavar="HOST:PORT")
    parser.add_argument("--delay", type=float, default=0.0, metavar="MS", help="there and back")
    parser.add_argument("--rate", type=float, metavar="BYTES", help="per second, in each direction")
    parser.add_argument("--queue", type=int, default=DEFAULT_QUEUE, metavar="BYTES", help="most under way")
    arguments = parser.parse_args()
    link = Link(arguments.delay / 1000, arguments.rate, arguments.queue)
    trio.run(_serve_until_told, arguments.to, link, arguments.listen)


if __name__ == "__main__":
    main()
