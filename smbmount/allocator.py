"""Keep freed megabytes while data moves, give them back when it rests; look for garbage less often.

Without the first glibc gives them back at once, and fetching them anew is slow; without the second a mount
that once streamed a file would hold them for ever.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Final

import trio

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""mallopt(3), from glibc's malloc.h."""

KEPT: Final = 32 * 1024 * 1024
"""Bytes of free memory that stay with the process. A file written in requests of 1 MiB then causes hardly any
page faults instead of 130 per MiB, which were a quarter of the daemon's processor time."""


def keep_freed_memory() -> bool:
    """Have the C library keep `KEPT` bytes; returns False where it is not glibc, which is no error."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, KEPT)) and bool(mallopt(_M_TRIM_THRESHOLD, KEPT))


_NEW_OBJECTS: Final = 10_000
"""New objects between two looks for garbage, instead of Python's 700."""


def collect_garbage_less_often() -> None:
    """Have Python look for cycles less often: it took a third of the time of a large listing, whose entries
    are many objects and no cycle."""
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])


REST_SECONDS: Final = 10.0
"""How long little has to move before memory is given back: programs that read file after file pause less."""
_LITTLE: Final = 1 << 20
"""Bytes within that time which need none of it."""


def give_freed_memory_back() -> None:
    """Have the C library give all free memory to the system; does nothing where it is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def rest(moved: Callable[[], int], *release: Callable[[], None]) -> None:
    """Each time that data has moved and then rests, call `release` and give free memory back; never returns.

    `moved()` is the bytes that have moved so far.
    """
    before = moved()
    resting = True
    while True:
        await trio.sleep(REST_SECONDS)
        now = moved()
        if now - before > _LITTLE:
            resting = False
        elif not resting:
            resting = True
            for each in release:
                each()
            give_freed_memory_back()
        before = now
