"""One direction of one connection."""

from __future__ import annotations

import fcntl
import itertools
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import trio

from tests.support.proxy.direction import NANO, QUANTUM, READ_SIZE, CutOrder, Direction
from tests.support.proxy.faults import Cut, Merge, Place, Split
from tests.support.proxy.messages import MessageReader, Span
from tests.support.timer import PreciseTimer

_SMALLEST_READ: Final = 16 << 10
"""With less room than this left, a block is full."""
_SEGMENT: Final = 60_000
"""Bytes that fit into one TCP segment on loopback, whose MTU is 65,536."""
_HAND_OVER_DEADLINE: Final = 5.0
_SIOCOUTQNSD: Final = 0x894B
"""Of <linux/sockios.h>."""


class Block:
    """A receive buffer that is filled piece by piece and used again when all its pieces have left."""

    __slots__ = ("pending", "used", "view")

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_SIZE))
        self.used = 0
        self.pending = 0

    @property
    def is_full(self) -> bool:
        """Whether too little room is left for another read to be worth it."""
        return READ_SIZE - self.used < _SMALLEST_READ


@dataclass(slots=True)
class Piece:
    """Bytes that came at once; none = the sender's end. `due` is in nanoseconds of the monotonic clock."""

    due: int
    data: memoryview
    block: Block


class Wire:
    """`receive` and `deliver` are two tasks with a bounded queue between; `cut_here` makes an ordered cut."""

    def __init__(
        self,
        source: trio.socket.SocketType,
        sink: trio.socket.SocketType,
        direction: Direction,
        cut_here: Callable[[Cut], None],
    ) -> None:
        self._source = source
        self._sink = sink
        self._direction = direction
        self._cut_here = cut_here
        self._line_free = 0
        self._pieces: deque[Piece] = deque()
        self._queued = 0
        """The bytes of all pieces; above the limit nothing is received, so it is at most one read more."""
        self._free: list[Block] = []
        self._arrival = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._arriving = MessageReader()
        self._leaving = MessageReader()
        self._split: Split | None = None
        self._sizes: Iterator[int] = iter(())
        self._doom: CutOrder | None = None
        """The cut that the message now leaving will bring about."""
        self._is_lost = False
        """Whether bytes have been dropped, so that all that follow have to be, and the end too."""
        self._has_ended = False
        """Whether `end` told the sink the end: what follows goes nowhere, but the source's end counts."""

    async def receive(self) -> None:
        """Queue what the source sends, until its end."""
        pacer = PreciseTimer()
        block = Block()
        direction = self._direction
        try:
            while True:
                block = self._block_with_room(block)
                room = block.view[block.used : block.used + direction.most]
                count = await self._source.recv_into(room)
                self._queue(room[:count], block)
                if count == 0:
                    return
                if direction.rate is not None:
                    await pacer.wait_until(self._line_free - int(QUANTUM * NANO))
                while self._queued > direction.limit:
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
                pieces = [self._pieces.popleft()]
                await timer.wait_until(pieces[0].due)
                if isinstance(shape := self._direction.shape, Merge):
                    await timer.wait_until(pieces[0].due + int(shape.seconds * NANO))
                    pieces += self._due_after(pieces[0])
                if not pieces[0].data:
                    await self.let_news_pass()
                    if not self._has_ended:
                        self._sink.shutdown(socket.SHUT_WR)
                    return
                await self._pass_on(_joined(pieces))
                self._settle(pieces)
        finally:
            timer.close()

    async def let_news_pass(self) -> None:
        """Wait until an end or a reset can pass: for ever, if it is to vanish."""
        await self._direction.passage()
        if self._swallows() and not self._has_ended:
            await trio.sleep_forever()

    def lose(self) -> None:
        """Let nothing through from now on, and do not tell."""
        self._is_lost = True

    def end(self) -> None:
        """Tell the sink the end, and let nothing through from now on."""
        if not self._has_ended:
            self._has_ended = True
            self._sink.shutdown(socket.SHUT_WR)

    def _queue(self, data: memoryview, block: Block) -> None:
        self._pieces.append(Piece(self._departure(len(data)) + self._direction.delay, data, block))
        self._queued += len(data)
        block.used += len(data)
        block.pending += 1
        self._direction.note_arrival(self._arriving.count(data))
        self._arrival.unpark()

    def _departure(self, size: int) -> int:
        """When the last of `size` bytes that are here now has gone through a line of this rate."""
        now = time.monotonic_ns()
        rate = self._direction.rate
        if rate is None:
            return now
        self._line_free = max(now, self._line_free) + int(size / rate * NANO)
        return self._line_free

    def _due_after(self, first: Piece) -> list[Piece]:
        """Take what is due by now and fits into one segment with the first piece, but no end."""
        pieces: list[Piece] = []
        room = _SEGMENT - len(first.data)
        now = time.monotonic_ns()
        while first.data and self._pieces and self._pieces[0].data and self._pieces[0].due <= now:
            room -= len(self._pieces[0].data)
            if room < 0:
                break
            pieces.append(self._pieces.popleft())
        return pieces

    async def _pass_on(self, data: memoryview) -> None:
        """Send, or drop, or send up to where the line is to be cut."""
        if self._direction.cut is None and self._doom is None:
            if await self._send(data):
                self._direction.note_delivery(self._leaving.count(data), len(data))
            return
        for span in self._leaving.spans(data):
            if span.is_first:
                order = self._direction.cut
                self._doom = order if order is not None and order.meets() else None
            await self._pass_on_span(data[span.start : span.stop], span)

    async def _pass_on_span(self, data: memoryview, span: Span) -> None:
        doom = self._doom
        allowed, is_ripe = _until_cut(span, doom.cut.place) if doom is not None else (len(data), False)
        if await self._send(data[:allowed]):
            self._direction.note_delivery(int(span.is_last and allowed == len(data)), allowed)
            if is_ripe and doom is not None:
                await self._cut(doom)

    async def _cut(self, order: CutOrder) -> None:
        self._doom = None
        if self._direction.cut is order:
            self._direction.cut = None
        await self._handed_over()
        self._is_lost = True
        self._cut_here(order.cut)

    async def _handed_over(self) -> None:
        """Wait until the sink's kernel has all that was sent: a reset would take back what is still here."""
        with trio.move_on_after(_HAND_OVER_DEADLINE):
            while _unsent(self._sink):  # noqa: ASYNC110 (the kernel cannot be waited for)
                await trio.sleep(0.001)

    async def _send(self, data: memoryview) -> bool:
        """Send in the pieces that are wanted; whether all of it has gone."""
        while True:
            if self._direction.is_stalled:
                await self._direction.passage()
            if self._swallows():
                return False
            if not data:
                return True
            try:
                data = data[await self._sink.send(self._next_piece(data)) :]
            except OSError:
                if self._has_ended:
                    return False
                raise

    def _swallows(self) -> bool:
        self._is_lost = self._is_lost or self._direction.is_dropped
        return self._is_lost or self._has_ended

    def _next_piece(self, data: memoryview) -> memoryview:
        shape = self._direction.shape
        if not isinstance(shape, Split):
            return data
        if shape is not self._split:
            self._split, self._sizes = shape, itertools.cycle(shape.sizes)
        return data[: next(self._sizes)]

    def _settle(self, pieces: list[Piece]) -> None:
        for piece in pieces:
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


def _joined(pieces: list[Piece]) -> memoryview:
    return pieces[0].data if len(pieces) == 1 else memoryview(b"".join([piece.data for piece in pieces]))


def _until_cut(span: Span, place: Place) -> tuple[int, bool]:
    """How many bytes of the span may go on, and whether the line is to be cut then."""
    size = span.stop - span.start
    if place is Place.BEFORE:
        return 0, True
    if place is Place.AFTER:
        return size, span.is_last
    if span.total is None:
        return size, False
    left = max(0, span.total // 2 - span.offset)
    return min(size, left), left <= size


def _unsent(end: trio.socket.SocketType) -> int:
    """The bytes that are still in our kernel."""
    (count,) = struct.unpack("i", fcntl.ioctl(end.fileno(), _SIOCOUTQNSD, bytes(4)))
    return int(count)
