"""Read-ahead: a file read from front to back is fetched before it is asked for, many requests at once.

Per open file a few streams, one for each place at which somebody reads in sequence; a read anywhere else
fetches just what was asked. A read that lies inside one chunk is answered by a slice of it, uncopied and,
where the data is there, without a checkpoint. A chunk that failed tells only those who really read it, and is
then forgotten.

Invariants: when `close()` returns, no task of this file is left; requests leave in the order in which they
were decided on, `_unsent` holds those whose task has not run yet.
"""

from __future__ import annotations

import errno
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, Protocol

import trio

from engine import SmbError
from smbmount.vfs.errors import PosixError
from smbmount.vfs.streams import CHUNK, GRAIN, Chunk, Pace, ReadBudget, Stream

log = logging.getLogger(__name__)

STREAMS: Final = 8
"""Places of one open file that are read in sequence at a time; the one not read for longest gives way."""
_ENDS_KEPT: Final = 32
"""Ends of reads that belonged to no stream: where one of many readers may turn out to go on."""


class Source(Protocol):
    """What is read: the part of a `RemoteFile` that this module uses."""

    async def read_at(self, offset: int, length: int) -> memoryview:
        """Read; short only at the end of the file."""


class ReadAhead:
    """The streams of one open file. `spawn(task, *args)` starts a task that outlives the caller; `chunk` is
    the most bytes per READ."""

    def __init__(self, file: Source, budget: ReadBudget, spawn: Callable[..., object], *, chunk: int) -> None:
        self._file = file
        self._budget = budget
        self._spawn = spawn
        self._chunk = max(GRAIN, min(chunk, CHUNK) // GRAIN * GRAIN)
        self._pace = Pace()
        self._streams: OrderedDict[Stream, None] = OrderedDict()
        self._running: set[Chunk] = set()
        self._unsent: deque[Chunk] = deque()
        # Whoever reads the first byte is taken for a reader of the whole.
        self._ends: OrderedDict[int, None] = OrderedDict({0: None})

    async def read(self, offset: int, length: int, size: int) -> memoryview | bytes:
        """Up to `length` bytes at `offset`, fewer only at the end; `size` is the file's size as known.

        Raises what the engine raises for that range. Without a checkpoint where all of it is there.
        """
        end = min(offset + length, size)
        stream = self._stream_at(offset, end, size) if offset < end else None
        if stream is None:
            self._remember(offset + length)
            return await self._file.read_at(offset, length)
        stream.advance(offset, end, size)
        return await self._collect(stream, offset, end)

    def drop(self) -> None:
        """Forget all that was fetched: it may be outdated."""
        for stream in self._streams:
            stream.drop()
            self._remember(stream.expected)
        self._streams.clear()

    async def close(self) -> None:
        """Drop everything and wait until no request of this file is left."""
        self.drop()
        for chunk in tuple(self._running):
            chunk.scope.cancel()
            await chunk.done.wait()

    def _stream_at(self, offset: int, end: int, size: int) -> Stream | None:
        """The stream that a read belongs to, a new one where an earlier read ended; None for others."""
        for stream in self._streams:
            if offset in stream:
                self._streams.move_to_end(stream)
                return stream
        # The budget may have emptied it for the sake of others.
        emptied = [stream for stream in self._streams if not stream]
        for stream in emptied:
            del self._streams[stream]
            self._remember(stream.expected)
        if offset not in self._ends:
            return None
        stream = self._new_stream(offset)
        if not stream.begin(offset, end - offset, size):
            return None
        del self._ends[offset]
        self._use(stream)
        return stream

    def _new_stream(self, start: int) -> Stream:
        return Stream(start, self._budget, self._pace, self._start_fetch, chunk=self._chunk)

    def _use(self, stream: Stream) -> None:
        self._streams[stream] = None
        if len(self._streams) > STREAMS:
            oldest, _ = self._streams.popitem(last=False)
            oldest.drop()
            self._remember(oldest.expected)

    def _remember(self, end: int) -> None:
        self._ends[end] = None
        self._ends.move_to_end(end)
        if len(self._ends) > _ENDS_KEPT:
            self._ends.popitem(last=False)

    def _start_fetch(self, chunk: Chunk) -> None:
        chunk.asked_at = trio.current_time()
        chunk.delivered_before = self._pace.delivered
        self._running.add(chunk)
        self._unsent.append(chunk)
        self._spawn(self._fetch)

    async def _fetch(self) -> None:
        # Tasks that are started together run in any order, and a reader waits for the first chunk first.
        chunk = self._unsent.popleft()
        chunk.error = PosixError(errno.EIO, "the read was cut short")
        try:
            with chunk.scope:
                chunk.data = await self._file.read_at(chunk.offset, chunk.length)
                chunk.error = None
                seconds = trio.current_time() - chunk.asked_at
                self._pace.answered(chunk.delivered_before, len(chunk.data), seconds)
        except (SmbError, OSError) as exc:
            chunk.error = exc
        except Exception:
            log.exception("a read ended in a mistake of this program")
        finally:
            self._running.discard(chunk)
            chunk.done.set()

    async def _collect(self, stream: Stream, start: int, end: int) -> memoryview | bytes:
        pieces: list[memoryview] = []
        position = start
        for chunk in stream.between(start, end):
            if not chunk.done.is_set():
                stream.waited = True
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
