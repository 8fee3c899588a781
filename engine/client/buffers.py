"""Receive buffers that come back by themselves.

A large reply's data is handed up as views into the buffer it was received in. When the last view is
gone, the buffer is used again: fresh megabytes cost page faults and zeroing, used ones do not.
"""

from __future__ import annotations

from collections import deque
from sys import getrefcount
from typing import Final

POOLED_FROM: Final = 128 * 1024
"""Smaller buffers come from the allocator, which is quick enough for them."""

_GRAIN: Final = 256 * 1024
"""Sizes are rounded up to this, so that replies of nearly the same length share buffers."""

_ONLY_THE_POOLS: Final = 3
"""References to a buffer that no view is left of: the pool's, a variable and `getrefcount`'s argument."""


class BufferPool:
    """Buffers kept for reuse, at most `limit` bytes of them; one pool per connection.

    **Invariant:** a buffer that somebody holds a view of is never handed out; each view holds a
    reference. A finalizer could not tell the pool: Python revives an object only once.
    """

    def __init__(self, limit: int = 32 * 1024 * 1024) -> None:
        self._limit = limit
        self._kept = 0
        self._buffers: deque[bytearray] = deque()

    def allocate(self, size: int) -> memoryview:
        """Return a writable view of at least `size` bytes; its content is arbitrary."""
        if size < POOLED_FROM:
            return memoryview(bytearray(size))
        rounded = -(-size // _GRAIN) * _GRAIN
        # Whoever has been out longest is looked at first, and mostly is back.
        for _ in range(len(self._buffers)):
            buffer = self._buffers[0]
            self._buffers.rotate(-1)
            if len(buffer) == rounded and getrefcount(buffer) == _ONLY_THE_POOLS:
                return memoryview(buffer)
        buffer = bytearray(rounded)
        if self._make_room(rounded):
            self._buffers.append(buffer)
            self._kept += rounded
        return memoryview(buffer)

    def release(self) -> None:
        """Give the memory of all unused buffers back."""
        for _ in range(len(self._buffers)):
            buffer = self._buffers.popleft()
            if getrefcount(buffer) == _ONLY_THE_POOLS - 1:
                self._kept -= len(buffer)
            else:
                self._buffers.append(buffer)

    def _make_room(self, size: int) -> bool:
        """Drop unused buffers, of other sizes then, until `size` bytes more may be kept."""
        for _ in range(len(self._buffers)):
            if self._kept + size <= self._limit:
                break
            buffer = self._buffers.popleft()
            if getrefcount(buffer) == _ONLY_THE_POOLS - 1:
                self._kept -= len(buffer)
            else:
                self._buffers.append(buffer)
        return self._kept + size <= self._limit
