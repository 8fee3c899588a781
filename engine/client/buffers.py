"""Receive buffers that come back by themselves.

A large reply's data is handed up as views into the buffer it was received in. When the last view is
gone, the buffer returns to its pool: fresh megabytes cost page faults and zeroing, used ones do not.
"""

from __future__ import annotations

import weakref
from typing import Final

POOLED_FROM: Final = 128 * 1024
"""Smaller buffers come from the allocator, which is quick enough for them."""

_GRAIN: Final = 256 * 1024
"""Sizes are rounded up to this, so that replies of nearly the same length share buffers."""


def _buffer_type(pool: weakref.ref[BufferPool]) -> type[bytearray]:
    """The buffers of one pool: a class of its own, which is how they know it.

    An attribute would have the garbage collector look after them, and it lets an object be revived
    only once.
    """

    class PooledBuffer(bytearray):
        __slots__ = ()

        def __del__(self) -> None:
            # No view is left, or the buffer would not be dying; putting it into the pool revives it.
            if (owner := pool()) is not None:
                owner.take_back(self)

    return PooledBuffer


class BufferPool:
    """Buffers kept for reuse, at most `limit` bytes of them; one pool per connection."""

    def __init__(self, limit: int = 32 * 1024 * 1024) -> None:
        self._limit = limit
        self._kept = 0
        self._free: dict[int, list[bytearray]] = {}
        self._type = _buffer_type(weakref.ref(self))

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
            buffer = self._type(rounded)
        return memoryview(buffer)

    def take_back(self, buffer: bytearray) -> None:
        """Keep `buffer` for the next `allocate`, unless enough is kept already."""
        size = len(buffer)
        if self._kept + size <= self._limit:
            self._kept += size
            self._free.setdefault(size, []).append(buffer)
