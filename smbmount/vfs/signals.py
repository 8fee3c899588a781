"""Waiting for progress: a wake-up for all who wait, and a deadline that starts anew with each."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import trio


def _no_deadline() -> None:
    """Outside of a call from the kernel there is nothing to postpone."""


postpone_deadline: ContextVar[Callable[[], None]] = ContextVar("postpone_deadline", default=_no_deadline)
"""Starts the deadline of the current call anew: a slow server is not a dead one."""


class Signal:
    """Wakes everybody who waits at that moment."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def fire(self) -> None:
        """Wake all waiters."""
        event, self._event = self._event, trio.Event()
        event.set()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition()` holds; it is looked at now and after each `fire()`.

        Each `fire()` is progress, which postpones the deadline of the call that waits.
        """
        while not condition():
            await self._event.wait()
            postpone_deadline.get()()
