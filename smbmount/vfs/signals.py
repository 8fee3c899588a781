"""Waiting for progress: a wake-up for all who wait, and a deadline that starts anew with each."""

from __future__ import annotations

import errno
from collections.abc import Callable

import trio

from .errors import PosixError


class Signal:
    """Wakes everybody who waits at that moment."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def fire(self) -> None:
        """Wake all waiters."""
        event, self._event = self._event, trio.Event()
        event.set()

    async def wait_until(self, condition: Callable[[], bool], stall_timeout: float) -> None:
        """Return once `condition()` holds; it is looked at now and after each `fire()`.

        `PosixError` ETIMEDOUT if `stall_timeout` seconds pass without any: slow is not dead.
        """
        while not condition():
            event = self._event
            with trio.move_on_after(stall_timeout):
                await event.wait()
            if not event.is_set():
                raise PosixError(errno.ETIMEDOUT, "the server makes no progress")
