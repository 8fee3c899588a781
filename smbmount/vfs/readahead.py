"""Read-ahead: a file read from front to back is fetched before it is asked for, many requests at once.

Per open file a window of chunks that follow each other. While reads move through it, it grows; a read
elsewhere drops it and fetches just what was asked. A read that lies inside one chunk is answered by a
slice of it, uncopied. A chunk that failed tells only those who really read it, and is then forgotten.

Invariants: the chunks are ordered and without gaps; `ReadBudget.used` is the sum of their lengths; when
`close()` returns, no task of this file is left.
"""

from __future__ import annotations

import errno
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

import trio

from engine import SmbError
from smbmount.vfs.errors import PosixError
from smbmount.vfs.remote import RemoteFile

log = logging.getLogger(__name__)

CHUNK: Final = 1 << 20
"""Bytes per READ of a large file: beyond this, servers gain little and latency grows."""
GRAIN: Final = 128 << 10
"""Chunks end at multiples of this, the kernel's own read-ahead unit, so that its reads straddle none."""
FIRST_WINDOW: Final = 256 << 10
"""What the first sequential read fetches ahead: not much is lost if it stays the only one."""
MAX_WINDOW: Final = 16 << 20
"""Bytes ahead of the reader at full speed: fills 10 Gbit/s at 10 ms."""
MOUNT_LIMIT: Final = 64 << 20
"""Bytes of all windows together: memory stays bounded with a thousand files open."""
KEEP_BEHIND: Final = 1 << 20
"""The kernel's parallel reads may arrive a little out of order."""


class Chunk:
    """A range being fetched, then its data (short at the end of the file) or its error."""

    __slots__ = ("data", "done", "error", "length", "offset", "scope")

    def __init__(self, offset: int, length: int) -> None:
        self.offset = offset
        self.length = length
        self.data = memoryview(b"")
        self.error: SmbError | OSError | None = None
        self.done = trio.Event()
        self.scope = trio.CancelScope()

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.length


class ReadBudget:
    """The fetched bytes of the whole mount; the window used longest ago gives way."""

    def __init__(self, limit: int = MOUNT_LIMIT) -> None:
        self.limit = limit
        self.used = 0
        self._windows: OrderedDict[ReadAhead, None] = OrderedDict()

    def touch(self, window: ReadAhead) -> None:
        """This one is in use now."""
        self._windows[window] = None
        self._windows.move_to_end(window)

    def forget(self, window: ReadAhead) -> None:
        """This one is empty."""
        self._windows.pop(window, None)

    def take(self, window: ReadAhead, length: int) -> bool:
        """Account for a chunk of `window`; False if there is no room for it."""
        while self.used + length > self.limit:
            oldest = next(iter(self._windows), window)
            if oldest is window:
                return False
            oldest.drop()
        self.used += length
        return True


class ReadAhead:
    """The window of one open file. `spawn(task, *args)` starts a task that outlives the caller."""

    def __init__(
        self, file: RemoteFile, budget: ReadBudget, spawn: Callable[..., object], *, chunk: int
    ) -> None:
        self._file = file
        self._budget = budget
        self._spawn = spawn
        self._chunk = max(GRAIN, min(chunk, CHUNK) // GRAIN * GRAIN)
        self._chunks: deque[Chunk] = deque()
        self._running: set[Chunk] = set()
        self._window = 0
        self._grow_at = 0
        self._expected = 0

    async def read(self, offset: int, length: int, size: int) -> memoryview | bytes:
        """Up to `length` bytes at `offset`, fewer only at the end; `size` is the file's size as known.

        Raises what the engine raises for that range.
        """
        end = offset + length
        if not self._covers(offset) and not self._start(offset, length, size):
            self.drop()
            self._expected = end
            return await self._file.read_at(offset, length)
        self._extend(min(end, size), size)
        chunks = [chunk for chunk in self._chunks if chunk.offset < end and offset < chunk.end]
        self._expected = max(self._expected, end)
        self._trim(offset)
        return await self._collect(chunks, offset, min(end, size))

    def drop(self) -> None:
        """Forget all that was fetched: it may be outdated, or is not wanted any more."""
        for chunk in self._chunks:
            chunk.scope.cancel()
            self._budget.used -= chunk.length
        self._chunks.clear()
        self._window = 0
        self._budget.forget(self)

    async def close(self) -> None:
        """Drop everything and wait until no request of this file is left."""
        self.drop()
        for chunk in tuple(self._running):
            chunk.scope.cancel()
            await chunk.done.wait()

    def _covers(self, offset: int) -> bool:
        return bool(self._chunks) and self._chunks[0].offset <= offset < self._chunks[-1].end

    def _start(self, offset: int, length: int, size: int) -> bool:
        """Begin a window at `offset` if the reader arrives there in sequence, and there is data."""
        if offset != self._expected or offset >= size:
            return False
        if not self._chunks or self._chunks[-1].end != offset:
            self.drop()
            self._grow_at = offset + length + 1
        self._budget.touch(self)
        return self._append(offset, self._boundary(offset, max(length, FIRST_WINDOW), size))

    def _boundary(self, offset: int, length: int, size: int) -> int:
        """The end of a chunk of about `length` bytes at `offset`: a multiple of a power of two."""
        length = max(min(length, self._chunk), GRAIN)
        unit = 1 << (length.bit_length() - 1)
        end = (offset + length) // unit * unit
        if end <= offset:
            end = offset // GRAIN * GRAIN + GRAIN
        return min(end, size)

    def _extend(self, end: int, size: int) -> None:
        """Fetch what is ahead of a reader who wants everything before `end`, and further each time."""
        self._budget.touch(self)
        if end >= self._grow_at:
            self._window = min(max(self._window * 2, FIRST_WINDOW), MAX_WINDOW)
            self._grow_at = end + self._window // 4
        frontier = self._chunks[-1].end
        step = min(self._chunk, max(self._window // 4, GRAIN))
        while frontier < size and (frontier < end or frontier + step <= end + self._window):
            if not self._append(frontier, self._boundary(frontier, step, size)):
                return
            frontier = self._chunks[-1].end

    def _append(self, offset: int, end: int) -> bool:
        if not self._budget.take(self, end - offset):
            return False
        chunk = Chunk(offset, end - offset)
        self._chunks.append(chunk)
        self._running.add(chunk)
        self._spawn(self._fetch, chunk)
        return True

    async def _fetch(self, chunk: Chunk) -> None:
        chunk.error = PosixError(errno.EIO, "the read was cut short")
        try:
            with chunk.scope:
                chunk.data = await self._file.read_at(chunk.offset, chunk.length)
                chunk.error = None
        except (SmbError, OSError) as exc:
            chunk.error = exc
        except Exception:
            log.exception("a read ended in a mistake of this program")
        finally:
            self._running.discard(chunk)
            chunk.done.set()

    def _trim(self, offset: int) -> None:
        while len(self._chunks) > 1 and self._chunks[0].end <= offset - KEEP_BEHIND:
            self._budget.used -= self._chunks.popleft().length

    async def _collect(self, chunks: list[Chunk], start: int, end: int) -> memoryview | bytes:
        pieces: list[memoryview] = []
        position = start
        for chunk in chunks:
            await chunk.done.wait()
            if chunk.error is not None:
                if chunk.scope.cancel_called:
                    break
                self.drop()
                raise chunk.error
            pieces.append(chunk.data[position - chunk.offset : end - chunk.offset])
            position += len(pieces[-1])
            if len(chunk.data) < chunk.length:
                self.drop()
                end = position
                break
        if position < end:
            pieces.append(await self._file.read_at(position, end - position))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
