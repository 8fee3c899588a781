"""Questions whose last answer is better than none: asked anew, but not waited for longer than usual.

`df` and a look at the mount point are to answer at once while the server does not. So whoever asks waits as
long as an answer usually takes, and then goes on with the last one; the question stays under way.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from engine import SmbError

log = logging.getLogger(__name__)

_LEAST: Final = 0.04
"""Seconds that are waited in any case: on a quick line the new answer is there by then."""

_MOST: Final = 1.0
_MARGIN: Final = 2.0
"""Times as long as the last answer took."""


class Question:
    """One such question; `ask` brings the answer to where it is kept, or raises."""

    def __init__(self, spawn: Callable[..., object], ask: Callable[[], Awaitable[None]]) -> None:
        self._spawn = spawn
        self._ask = ask
        self._patience = _LEAST
        self._asking: trio.Event | None = None
        self._error: SmbError | OSError | None = None

    async def wait(self, *, has_answer: bool) -> None:
        """Have it asked, and wait for the answer; with one of before, only for a moment, and not at all if it
        is being asked already. Raises what `ask` did, if it ended while this waited."""
        patience = 0.0
        if self._asking is None:
            patience = self._patience
            self._asking = trio.Event()
            self._spawn(self._run, self._asking)
        asking = self._asking
        with trio.move_on_after(patience if has_answer else math.inf):
            await asking.wait()
            if self._error is not None:
                raise self._error

    async def _run(self, asking: trio.Event) -> None:
        began, self._error = trio.current_time(), None
        try:
            await self._ask()
        except (SmbError, OSError) as error:
            self._error = error
        except Exception:
            log.exception("a question in the background ended in a mistake of this program")
        else:
            took = trio.current_time() - began
            self._patience = min(max(_LEAST, _MARGIN * took), _MOST)
        finally:
            self._asking = None
            asking.set()
