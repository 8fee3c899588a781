"""What was read of files that have a symbolic link's size: looking at a name again needs no second read.

Servers use the ids of removed files again, also for a link that gets the same times as the one before (from
`tar`, for one), and some tell the time of writing as that of change. So only the last answer of each id is
kept, and what we make replaces it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from engine import FileStat

KEPT: Final = 4096
"""Files that are remembered: a large folder of links."""


class Target(NamedTuple):
    """What a file of these times is: a link to `target`, no link if that is None."""

    times: tuple[int, int, int]
    target: bytes | None


class LinkTargets:
    """The files read last; the one asked for longest ago gives way."""

    def __init__(self, limit: int = KEPT) -> None:
        self._limit = limit
        self._known: OrderedDict[int | str, Target] = OrderedDict()

    def find(self, path: str, stat: FileStat) -> Target | None:
        """What is known of a file as it is now."""
        known = self.latest(path, stat)
        if known is None or known.times != _times(stat):
            return None
        self._known.move_to_end(stat.file_id or path)
        return known

    def latest(self, path: str, stat: FileStat) -> Target | None:
        """What was known last of its id, whatever its times were."""
        return self._known.get(stat.file_id or path)

    def keep(self, path: str, stat: FileStat, target: bytes | None) -> None:
        """Remember what a file is."""
        key = stat.file_id or path
        self._known[key] = Target(_times(stat), target)
        self._known.move_to_end(key)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)


def _times(stat: FileStat) -> tuple[int, int, int]:
    return stat.creation_ns, stat.write_ns, stat.change_ns
