"""A timer of the kernel's that trio can wait for, exact to some microseconds.

trio's own sleep rests on epoll's time-out, which counts whole milliseconds: useless for a delay of half a
millisecond. Python 3.11 does not know timerfd, so it is called by way of ctypes.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Final

import trio

_ABSOLUTE: Final = 1
"""TFD_TIMER_ABSTIME of <sys/timerfd.h>."""
_MOST_LATENESS: Final = 200_000
"""Nanoseconds; what is later than this was no matter of waking up but of a busy machine."""
_NANO: Final = 1_000_000_000

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _TimerSpec(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class PreciseTimer:
    """One timerfd, for one task at a time; whoever makes it closes it.

    Waking up takes a while, 50 to 150 µs on a virtual machine, so the timer learns how late it is and is set
    earlier by as much.
    """

    def __init__(self) -> None:
        self._lateness = 0
        self._spec = _TimerSpec()
        self._fd = _checked(_libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK))

    async def wait_until(self, due: int) -> None:
        """Wait until `time.monotonic_ns()` is about `due`; not a checkpoint when it already is."""
        if due - self._lateness <= time.monotonic_ns():
            return
        self._spec.seconds, self._spec.nanoseconds = divmod(due - self._lateness, _NANO)
        _checked(_libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(self._spec), None))
        await trio.lowlevel.wait_readable(self._fd)
        late = time.monotonic_ns() - (due - self._lateness)
        self._lateness += (min(late, _MOST_LATENESS) - self._lateness) // 8

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
