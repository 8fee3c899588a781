"""What read-ahead is made of: chunks, one reader's stream of them, the link's pace, the mount's budget.

A stream is a run of chunks that one reader moves through. Nothing in this module waits: a stream decides in
one step what is to be fetched, and its owner fetches it.

Invariants: a stream's chunks are ordered and without gaps, and `held` is the sum of their lengths;
`ReadBudget.used` is the sum of `held` over all streams, and the budget knows just those that hold something.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

import trio

from engine import SmbError

CHUNK: Final = 1 << 20
"""Bytes per READ of a large file: beyond this, servers gain little and latency grows."""
GRAIN: Final = 128 << 10
"""Chunks end at multiples of this, the kernel's own read-ahead unit, so that its reads straddle none."""
FIRST_WINDOW: Final = 256 << 10
"""What the first sequential read fetches ahead: not much is lost if it stays the only one."""
FIRST_LARGE_WINDOW: Final = 1 << 20
"""The same where as much is asked for at once: who does that waits for as much anyway."""
MAX_WINDOW: Final = 32 << 20
"""Bytes ahead of one reader: fills 10 Gbit/s at 25 ms."""
MOUNT_LIMIT: Final = 64 << 20
"""Bytes of all streams together: memory stays bounded with a thousand files open."""
EASY_WINDOW: Final = 4 << 20
"""Up to here the window grows under any reader if the link takes it: large requests cost less."""
KEEP_BEHIND: Final = 1 << 20
"""The kernel's parallel reads may arrive a little out of order."""
IDLE_AFTER: Final = 1.0
"""Seconds without a read after which a stream gives its room to those that are read."""

_SURPLUS: Final = 4
"""How many times bandwidth × delay may be in flight. Twice fills a link; the rest lets the window double from
one answer to the next before the link's speed is known, and bears a delay that grows to four times."""
_QUEUE: Final = 0.3
"""Seconds of the link's time that the surplus may take: on a slow link everybody else waits for it."""
_TRUST: Final = 2
"""How many times what a reader has read may be fetched ahead of it before it is known to wait for that."""
_OWN_DELAY: Final = 0.002
"""Seconds of delay taken for granted: on a quick link, those of the tasks and processes on the way."""
_CLOCK_TICK: Final = 1e-6


class Pace:
    """Measures what a link carries: the best delivery rate times the shortest time of an answer.

    More than that in flight is not quicker; it only makes everybody else on the link wait.
    """

    def __init__(self) -> None:
        self.delivered = 0
        self._rate = 0.0
        self._quickest = float("inf")

    def answered(self, delivered_before: int, length: int, seconds: float) -> None:
        """Note `length` bytes that took `seconds`, and `delivered` as it was when they were asked for."""
        self.delivered += length
        self._quickest = min(self._quickest, seconds)
        self._rate = max(self._rate, (self.delivered - delivered_before) / max(seconds, _CLOCK_TICK))

    @property
    def enough(self) -> int:
        """Bytes in flight beyond which nothing is gained."""
        if not self.delivered:
            return FIRST_LARGE_WINDOW
        delay = max(self._quickest, _OWN_DELAY)
        return max(FIRST_WINDOW, int(self._rate * min(_SURPLUS * delay, delay + _QUEUE)))


class Chunk:
    """A range being fetched, then its data (short at the end of the file) or its error."""

    __slots__ = ("asked_at", "data", "delivered_before", "done", "error", "length", "offset", "scope")

    def __init__(self, offset: int, length: int) -> None:
        self.offset = offset
        self.length = length
        self.data = memoryview(b"")
        self.error: SmbError | OSError | None = None
        self.done = trio.Event()
        self.scope = trio.CancelScope()
        self.asked_at = 0.0
        self.delivered_before = 0

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.length


class ReadBudget:
    """The fetched bytes of the whole mount. Streams that nobody reads give way to those that are read, and
    these share the room."""

    def __init__(self, limit: int = MOUNT_LIMIT) -> None:
        self.limit = limit
        self.used = 0
        self._streams: OrderedDict[Stream, float] = OrderedDict()

    def touch(self, stream: Stream) -> None:
        """This one is read now."""
        self._streams[stream] = trio.current_time()
        self._streams.move_to_end(stream)

    def give_back(self, stream: Stream, length: int) -> None:
        """`length` bytes of a stream are gone; one that holds nothing is forgotten."""
        self.used -= length
        if not stream.held:
            self._streams.pop(stream, None)

    def take(self, stream: Stream, length: int) -> bool:
        """Account for a chunk of `stream`; False if there is no room for it."""
        while self.used + length > self.limit:
            oldest, last_used = next(iter(self._streams.items()), (stream, 0.0))
            if oldest is stream or last_used > trio.current_time() - IDLE_AFTER:
                return False
            oldest.drop()
        self.used += length
        return True

    def drop_idle(self) -> None:
        """Forget what was fetched for streams that nobody reads."""
        idle_since = trio.current_time() - IDLE_AFTER
        for stream in [stream for stream, used in self._streams.items() if used <= idle_since]:
            stream.drop()

    def share(self) -> int:
        """The bytes that each stream may fetch ahead of those in use; all, as long as half is free."""
        if self.used <= self.limit // 2:
            return self.limit
        idle_since = trio.current_time() - IDLE_AFTER
        active = 0
        for last_used in reversed(self._streams.values()):
            if last_used <= idle_since:
                break
            active += 1
        return self.limit // max(active, 1)


class Stream:
    """The chunks of one reader who moves through a file from front to back.

    `fetch(chunk)` starts to fetch one; `size`, where asked for, is the file's size as known.
    """

    def __init__(
        self, start: int, budget: ReadBudget, pace: Pace, fetch: Callable[[Chunk], None], *, chunk: int
    ) -> None:
        self._start = start
        self.expected = start
        """Where the reader comes next."""
        self.held = 0
        self.waited = False
        """Whether the reader has waited for a chunk since the window grew last."""
        self._budget = budget
        self._pace = pace
        self._fetch = fetch
        self._chunk = chunk
        self._chunks: deque[Chunk] = deque()
        self._window = 0
        self._grow_at = 0

    def __contains__(self, offset: int) -> bool:
        """Whether the byte at `offset` is here, on its way, or the next one to be fetched."""
        return bool(self._chunks) and self._chunks[0].offset <= offset <= self._chunks[-1].end

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def between(self, offset: int, end: int) -> list[Chunk]:
        """The chunks with bytes of a range."""
        return [chunk for chunk in self._chunks if chunk.offset < end and offset < chunk.end]

    def begin(self, offset: int, length: int, size: int) -> bool:
        """Fetch what a reader asks for who may go on behind it; False if there is no room."""
        if length < FIRST_LARGE_WINDOW:
            self._grow_at = offset + length + 1
        return self._append(offset, self._boundary(offset, max(length, FIRST_WINDOW), size))

    def advance(self, offset: int, end: int, size: int) -> None:
        """A read from `offset` to `end`: fetch what is missing of it and what may come next, forget what is
        behind. The window grows with what was read, and doubles while its reader waits and the link is not
        full."""
        self._budget.touch(self)
        if end > self.expected:
            self.expected = end
            if end >= self._grow_at:
                self._grow(end)
            self._extend(end, size)
        while len(self._chunks) > 1 and self._chunks[0].end <= offset - KEEP_BEHIND:
            self._remove_first()

    def _grow(self, end: int) -> None:
        most = min(self._pace.enough, MAX_WINDOW)
        if self._window < most and (self.waited or self._window < EASY_WINDOW):
            wanted = max(self._window * 2, _TRUST * (end - self._start), FIRST_WINDOW)
            self._window = min(wanted, most)
            self.waited = False
        self._grow_at = end + self._window // 4

    def _extend(self, end: int, size: int) -> None:
        window = min(self._window, self._pace.enough, self._budget.share())
        frontier = self._chunks[-1].end
        step = min(self._chunk, max(window // 4, GRAIN))
        while frontier < size and (frontier < end or frontier + step <= end + window):
            if not self._append(frontier, self._boundary(frontier, step, size)):
                return
            frontier = self._chunks[-1].end

    def _boundary(self, offset: int, length: int, size: int) -> int:
        """The end of a chunk of about `length` bytes at `offset`: a multiple of a power of two."""
        length = max(min(length, self._chunk), GRAIN)
        unit = 1 << (length.bit_length() - 1)
        end = (offset + length) // unit * unit
        if end <= offset:
            end = offset // GRAIN * GRAIN + GRAIN
        return min(end, size)

    def _append(self, offset: int, end: int) -> bool:
        chunk = Chunk(offset, end - offset)
        if not self._enter(chunk):
            return False
        self._fetch(chunk)
        return True

    def _enter(self, chunk: Chunk) -> bool:
        if not self._budget.take(self, chunk.length):
            return False
        self._chunks.append(chunk)
        self.held += chunk.length
        self._budget.touch(self)
        return True

    def _remove_first(self) -> None:
        chunk = self._chunks.popleft()
        chunk.scope.cancel()
        self.held -= chunk.length
        self._budget.give_back(self, chunk.length)

    def drop(self) -> None:
        """Forget all that was fetched: it may be outdated, or is not wanted any more."""
        while self._chunks:
            self._remove_first()
