"""A file behind a link of a certain delay and speed, in virtual time."""

from __future__ import annotations

import trio

from engine import Buffer


class LinkedFile:
    """The reads and writes of a `RemoteFile` of zeros: `delay` seconds there and back, `rate` bytes a second.

    `fighting` is the share of a request's time that each other request in flight adds to it: the threads of
    one server that wait for one file's lock.
    """

    def __init__(self, size: int, *, delay: float, rate: float, fighting: float = 0.0) -> None:
        self.is_here = True
        self.size = size
        self.delay = delay
        self.rate = rate
        self.fighting = fighting
        self.in_flight = 0
        self.most_in_flight = 0
        self.requests: list[tuple[int, int]] = []
        self._free_at = 0.0

    async def read_at(self, offset: int, length: int) -> memoryview:
        """Zeros; short at the end."""
        length = max(0, min(length, self.size - offset))
        await self._carry(offset, length)
        return memoryview(bytes(length))

    async def write_at(self, offset: int, data: Buffer) -> int:
        """Take the data's time."""
        await self._carry(offset, len(data))
        return len(data)

    async def _carry(self, offset: int, length: int) -> None:
        self.requests.append((offset, length))
        self.in_flight += length
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        work = length / self.rate * (1 + self.fighting * (self.in_flight // max(length, 1) - 1))
        self._free_at = max(self._free_at, trio.current_time() + self.delay) + work
        try:
            await trio.sleep_until(self._free_at)
        finally:
            self.in_flight -= length
