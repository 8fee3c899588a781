"""Keep freed megabytes while data moves, give them back when it rests; look for garbage rarely.

Without the first glibc gives them back at once, and fetching them anew is slow; without the second a mount
that once streamed a file would hold them for ever. Python's defaults for the third look through everything
that a listing makes, again and again, and find nothing.
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


_YOUNG: Final = 50_000
"""Objects made, less those freed, between two looks for cycles among them: several times a folder's worth,
and some 10 MB if all of them were garbage. Python's 700 cost a quarter of the time of `ls -l`."""


def look_for_garbage_rarely() -> None:
    """Have Python look for cycles among new objects less often, and never among those that are there now:
    modules and what was made to start. Nearly all objects of a mount go without it, by their counts."""
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])


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
