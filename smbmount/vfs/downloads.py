"""Bytes that arrive are progress for whoever waits for a READ or a listing: a slow line is not a dead server.

What arrives is not known to be for whom until all of a reply is there, and replies share the line. So the
arrival of any counts, but only until as much has come as could have been on its way before: a READ that the
server never answers does not wait as long as others get theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final

import trio

from smbmount.vfs.signals import postpone_deadline

LOOK_EVERY: Final = 0.5
"""Seconds between looks at what has arrived: half of the shortest timeout."""
_LOOKS_FOR_GOAL: Final = 2
"""What was just to be asked for may have waited for credits at the first look."""
_SURPLUS: Final = 2
"""Requests that are sent later may be answered earlier."""


class Downloads:
    """The calls that wait for data. `spawn(task, *args)` starts a task that outlives them; `download` is the
    share's."""

    def __init__(self, spawn: Callable[..., object], download: Callable[[], tuple[int, int]]) -> None:
        self._spawn = spawn
        self._download = download
        self._waiting: dict[Waiting, None] = {}
        self._watching = False

    def waiting(self) -> Waiting:
        """Around the wait for data: as long as that arrives, the current call's deadline is postponed."""
        return Waiting(self)

    def add(self, call: Waiting) -> None:
        """This one waits from now on."""
        self._waiting[call] = None
        if not self._watching:
            self._watching = True
            self._spawn(self._watch)

    def remove(self, call: Waiting) -> None:
        """This one waits no longer."""
        del self._waiting[call]

    async def _watch(self) -> None:
        try:
            _, arrived = self._download()
            while self._waiting:
                await trio.sleep(LOOK_EVERY)
                before = arrived
                awaited, arrived = self._download()
                for call in self._waiting:
                    call.look(before, arrived, awaited)
        finally:
            self._watching = False


class Waiting:
    """One call that waits. By hand what `contextmanager` does: it would cost more than all else here, at each
    read."""

    __slots__ = ("_downloads", "_goal", "_looks", "_postpone")

    def __init__(self, downloads: Downloads) -> None:
        self._downloads = downloads
        self._postpone = postpone_deadline.get()
        self._goal = 0
        self._looks = 0

    def __enter__(self) -> None:
        self._downloads.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._downloads.remove(self)

    def look(self, before: int, arrived: int, awaited: int) -> None:
        """There were `before` bytes at the last look, and `arrived` now; `awaited` more may come."""
        if self._looks < _LOOKS_FOR_GOAL:
            self._looks += 1
            self._goal = arrived + _SURPLUS * awaited
        if before < min(arrived, self._goal):
            self._postpone()
