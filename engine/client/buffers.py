"""Receive buffers that come back by themselves.

A large reply's data is handed up as views into the buffer it was received in. When the last view is
gone, the buffer returns to its pool: fresh megabytes cost page faults and zeroing, used ones do not.
"""

from __future__ import annotations

from typing import Final

POOLED_FROM: Final = 128 * 1024
"""Smaller buffers come from the allocator, which is quick enough for them."""

_GRAIN: Final = 256 * 1024
"""Sizes are rounded up to this, so that replies of nearly the same length share buffers."""


class _PooledBuffer(bytearray):
    __slots__ = ("pool",)

    pool: BufferPool

    def __del__(self) -> None:
        # No view is left, or the buffer would not be dying; appending it to the pool revives it.
        self.pool.take_back(self)


class BufferPool:
    """Buffers kept for reuse, at most `limit` bytes of them; one pool per connection."""

    def __init__(self, limit: int = 32 * 1024 * 1024) -> None:
        self._limit = limit
        self._kept = 0
        self._free: dict[int, list[_PooledBuffer]] = {}

    def allocate(self, size: int) -> memoryview:
        """Return a writable view of at least `size` bytes; its content is arbitrary."""
        if size < POOLED_FROM:
            return memoryview(bytearray(size))
        rounded = -(-size // _GRAIN) * _GRAIN
        free = self._free.get(rounded)
        if free:
            buffer = free.pop()
            self._kept -= rounded
        else:
            buffer = _PooledBuffer(rounded)
            buffer.pool = self
        return memoryview(buffer)

    def take_back(self, buffer: _PooledBuffer) -> None:
        """Keep `buffer` for the next `allocate`, unless enough is kept already."""
        size = len(buffer)
        if self._kept + size <= self._limit:
            self._kept += size
            self._free.setdefault(size, []).append(buffer)
