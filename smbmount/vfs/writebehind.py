"""Write-behind: writes are acknowledged at once, gathered, and sent with several requests in flight.

Per inode a queue of extents in the order of the program's writes. An extent leaves the queue when it is
full, when another follows it, when somebody waits for it, or when it has been lying for `DWELL`.
Order of locks: none; everything between two awaits is one step.

Invariants: extents leave the queue first in, first out; two extents that overlap are never in flight
together; `WriteBudget.used` is the sum of the bytes queued and in flight; an extent that failed is
never sent again, and its error waits in the handle that wrote it; WRITEs leave in the order of the queue,
`_unsent` holds those in flight whose task has not run yet.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

from engine import Buffer, SmbError
from smbmount.vfs.errors import PosixError
from smbmount.vfs.signals import Signal
from smbmount.vfs.writewindow import WriteWindow

log = logging.getLogger(__name__)

CHUNK: Final = 1 << 20
"""Bytes per WRITE: what one kernel request carries at most, so big writes travel uncopied."""
FILE_LIMIT: Final = 32 << 20
"""Bytes that one file may have unwritten: the largest window."""
USUAL_FILE_LIMIT: Final = 16 << 20
"""The same as long as the window is at most half of that: more only makes close and fsync wait longer."""
MOUNT_LIMIT: Final = 64 << 20
"""Bytes that the whole mount may have unwritten: memory stays bounded."""
LEAST_COST: Final = 64 << 10
"""What a small WRITE counts in the window: the server's work is not in the bytes alone."""
PROGRESS_EVERY: Final = 1.0
"""Seconds between looks at a slow upload: a WRITE of which more and more arrives is progress, too."""
DWELL: Final = 0.25
"""Seconds that an unfinished extent waits for its continuation: unnoticed by a person who looks
from elsewhere, long enough to gather a program's small writes."""


class Target(Protocol):
    """What is written to: the part of a `RemoteFile` that this module uses."""

    @property
    def is_here(self) -> bool:
        """Whether it is open on the server, on the present connection."""

    async def write_at(self, offset: int, data: Buffer) -> int:
        """Write all of it."""


class Writer(Protocol):
    """The open file that wrote; it keeps the error until it is reported."""

    @property
    def file(self) -> Target:
        """Where the data goes."""

    def fail(self, error: SmbError | OSError) -> None:
        """Remember an error for the next write, fsync or close."""


Send = Callable[[int, bytes], Awaitable[object]]
"""Writes data at an offset, and something else along with it; raises what the write was refused with."""


class Extent:
    """Contiguous bytes of one writer, as the parts that the kernel sent. `send` is how, if not as usual."""

    __slots__ = ("length", "offset", "parts", "sealed", "send", "sent_at", "serial", "writer")

    def __init__(self, writer: Writer, offset: int, data: bytes, serial: int) -> None:
        self.writer = writer
        self.offset = offset
        self.length = len(data)
        self.parts = [data]
        self.serial = serial
        self.sealed = False
        self.send: Send | None = None
        self.sent_at = 0.0

    @property
    def cost(self) -> int:
        """What it takes of the window."""
        return max(self.length, LEAST_COST)

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.length

    def overlaps(self, other: Extent) -> bool:
        """Whether they have a byte in common."""
        return self.offset < other.end and other.offset < self.end


class WriteBudget:
    """The unwritten bytes of the whole mount, what wakes those who wait for them, and the link's window."""

    def __init__(self, limit: int = MOUNT_LIMIT) -> None:
        self.limit = limit
        self.used = 0
        self.sent = 0
        """WRITEs so far."""
        self._watching = False
        self._dwelling: dict[WriteBehind, float] = {}
        """Files with an unfinished extent and when it is sent, the earliest first."""
        self._is_dwelling = False
        self.changed = Signal()
        self.window = WriteWindow()
        self.active: set[WriteBehind] = set()

    def push_all(self) -> None:
        """Seal what lies unfinished anywhere: somebody needs the room."""
        for writes in tuple(self.active):
            writes.push()

    def watch(self, spawn: Callable[..., object], upload: Callable[[], tuple[int, int]]) -> None:
        """As long as anything is unwritten: that more of a WRITE has arrived is progress for who waits."""
        if not self._watching:
            self._watching = True
            spawn(self._watch, upload)

    async def _watch(self, upload: Callable[[], tuple[int, int]]) -> None:
        goal = arrived = sent = 0
        sent_lately = False
        try:
            while self.used:
                before = arrived
                handed, arrived = upload()
                # Behind the last WRITE come requests of others, whose progress is none of ours.
                if before < min(arrived, goal):
                    self.changed.fire()
                # A look later too: what was just sent may still have waited for credits.
                if sent != self.sent or sent_lately:
                    goal = handed
                sent, sent_lately = self.sent, sent != self.sent
                await trio.sleep(PROGRESS_EVERY)
        finally:
            self._watching = False

    def dwell(self, spawn: Callable[..., object], writes: WriteBehind) -> None:
        """Send what lies unfinished of a file after a while. One task does that for all of them."""
        self._dwelling.setdefault(writes, trio.current_time() + DWELL)
        if not self._is_dwelling:
            self._is_dwelling = True
            spawn(self._dwell)

    def rouse(self, writes: WriteBehind) -> None:
        """Nothing of a file lies unfinished any more."""
        self._dwelling.pop(writes, None)

    async def _dwell(self) -> None:
        try:
            while self._dwelling:
                await trio.sleep_until(next(iter(self._dwelling.values())))
                now = trio.current_time()
                for writes in [writes for writes, due in self._dwelling.items() if due <= now]:
                    self.rouse(writes)
                    writes.push()
                    if writes.is_queued:
                        self._dwelling[writes] = now + DWELL
        finally:
            self._is_dwelling = False


class WriteBehind:
    """The unwritten data of one inode.

    `spawn(task, *args)` starts a task that outlives the caller; `chunk` is the bytes per WRITE;
    `on_settled(failed)` is called for each extent that was answered, as it stops being dirty; `upload` is the
    share's.
    """

    def __init__(
        self,
        budget: WriteBudget,
        spawn: Callable[..., object],
        *,
        chunk: int,
        on_settled: Callable[[bool], None],
        upload: Callable[[], tuple[int, int]],
    ) -> None:
        self._budget = budget
        self._spawn = spawn
        self._chunk = min(chunk, CHUNK)
        self._on_settled = on_settled
        self._upload = upload
        self._queue: deque[Extent] = deque()
        self._in_flight: list[Extent] = []
        self._unsent: deque[Extent] = deque()
        self._window_used = 0
        self._serial = 0
        self.dirty = 0

    @property
    def is_queued(self) -> bool:
        """Whether there is anything that was not sent yet."""
        return bool(self._queue)

    async def wait_for_room(self, length: int) -> None:
        """Return once `length` more bytes are within both limits; a lone write always is."""
        if self._has_room(length):
            return
        self._budget.push_all()
        await self._budget.changed.wait_until(lambda: self._has_room(length))

    def _has_room(self, length: int) -> bool:
        if self.dirty and self.dirty + length > self._limit():
            return False
        return not self._budget.used or self._budget.used + length <= self._budget.limit

    def _limit(self) -> int:
        return min(max(2 * self._budget.window.size, USUAL_FILE_LIMIT), FILE_LIMIT)

    def add(self, writer: Writer, offset: int, data: bytes) -> None:
        """Take over data to be written; the caller has waited for room in the same step."""
        self.dirty += len(data)
        self._budget.used += len(data)
        self._budget.active.add(self)
        self._budget.watch(self._spawn, self._upload)
        tail = self._queue[-1] if self._queue else None
        if (
            tail is not None
            and not tail.sealed
            and tail.writer is writer
            and tail.end == offset
            and tail.length + len(data) <= self._chunk
        ):
            tail.parts.append(data)
            tail.length += len(data)
        else:
            if tail is not None:
                tail.sealed = True
            self._serial += 1
            tail = Extent(writer, offset, data, self._serial)
            self._queue.append(tail)
        if tail.length >= self._chunk:
            tail.sealed = True
        self._pump()
        if self._queue:
            self._budget.dwell(self._spawn, self)

    def push(self) -> None:
        """Send what lies unfinished."""
        if self._queue:
            self._queue[-1].sealed = True
            self._pump()

    async def drain(self) -> None:
        """Return once all that was written before the call has been sent and answered."""
        self.push()
        last = self._serial
        await self._budget.changed.wait_until(lambda: self._oldest() > last)

    async def drain_open(self) -> None:
        """As `drain`, but for what waits until its file is open on the server again after a lost connection,
        and what waits behind that.
        """
        self.push()
        last = self._serial
        await self._budget.changed.wait_until(lambda: self._waits_for_files(last))

    def look_again(self) -> None:
        """Have `drain_open` find out that files are not open any more."""
        self._budget.changed.fire()

    def _waits_for_files(self, last: int) -> bool:
        """Whether nothing up to this serial can be answered before files are open again, if there is any."""
        open_now = [extent.serial for extent in self._in_flight if extent.writer.file.is_here]
        if len(open_now) < len(self._in_flight):
            return min(open_now, default=last + 1) > last
        return self._oldest() > last

    async def drain_by(self, writer: Writer, send: Send) -> bool:
        """As `drain`, where all that is unwritten is a small extent of this writer: it is sent by `send`.
        False, and nothing was done, if it is not."""
        if self._in_flight or len(self._queue) != 1:
            return False
        extent = self._queue[0]
        # The wait for a large one is bounded by its progress, which is looked at only for what goes alone.
        if extent.writer is not writer or extent.length > LEAST_COST:
            return False
        extent.send = send
        await self.drain()
        return True

    def lowest_offset(self) -> int:
        """The first byte that the server does not have yet; only where something is dirty."""
        return min(extent.offset for extents in (self._queue, self._in_flight) for extent in extents)

    def _oldest(self) -> int:
        serials = [extent.serial for extent in self._in_flight]
        if self._queue:
            serials.append(self._queue[0].serial)
        return min(serials, default=self._serial + 1)

    def _pump(self) -> None:
        window = self._budget.window
        while self._queue:
            extent = self._queue[0]
            if not extent.sealed or any(extent.overlaps(other) for other in self._in_flight):
                return
            if self._in_flight and self._window_used + extent.cost > window.size:
                window.limits()
                return
            self._in_flight.append(self._queue.popleft())
            self._window_used += extent.cost
            extent.sent_at = trio.current_time()
            self._budget.sent += 1
            self._unsent.append(extent)
            self._spawn(self._send)
        self._budget.rouse(self)

    async def _send(self) -> None:
        # Tasks that are started together run in any order; the server is to get them in that of the file.
        extent = self._unsent.popleft()
        data = extent.parts[0] if len(extent.parts) == 1 else b"".join(extent.parts)
        error: SmbError | OSError | None = PosixError(errno.EIO, "the write was cut short")
        try:
            await (extent.send or extent.writer.file.write_at)(extent.offset, data)
            error = None
        except (SmbError, OSError) as exc:
            error = exc
        except Exception:
            log.exception("a write ended in a mistake of this program")
        finally:
            self._settle(extent, error)

    def _settle(self, extent: Extent, error: SmbError | OSError | None) -> None:
        if error is not None:
            extent.writer.fail(error)
        elif 2 * extent.length > self._chunk:
            # Smaller ones are quicker, and would make the large ones look late.
            self._budget.window.answered(extent.length, extent.sent_at, trio.current_time())
        self._in_flight.remove(extent)
        self._window_used -= extent.cost
        self._on_settled(error is not None)
        self.dirty -= extent.length
        self._budget.used -= extent.length
        if not self.dirty:
            self._budget.active.discard(self)
        self._pump()
        self._budget.changed.fire()
