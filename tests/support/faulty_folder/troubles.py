"""What a faulty folder can be told, as values, and how it goes by them.

A trouble holds until another of its kind takes its place, or `Heal`. Operations are called as FUSE calls
them: "open", "create", "read", "write", "fsync", "setattr", "getattr", "lookup", "readdir" and so on.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pyfuse3
import trio


@dataclass(frozen=True, slots=True)
class Fail:
    """Let an operation fail, `times` times (None: for ever), the next `after` ones excepted."""

    operation: str
    error: int = errno.EIO
    times: int | None = None
    after: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """Let the disk take so many more bytes; a write that does not fit is cut short, the next one fails.

    None = as many as there are.
    """

    octets: int | None
    error: int = errno.ENOSPC


@dataclass(frozen=True, slots=True)
class Short:
    """Let no read or write carry more than so many bytes (None: no limit)."""

    reads: int | None = None
    writes: int | None = None


@dataclass(frozen=True, slots=True)
class Slow:
    """Let an operation sleep before it begins."""

    operation: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Heal:
    """A good disk again. Who sleeps already goes on sleeping."""


Trouble: TypeAlias = Fail | Room | Short | Slow | Heal


@dataclass(frozen=True, slots=True)
class Calls:
    """How often each operation was begun since the start, and how often it was made to fail."""

    begun: Mapping[str, int]
    failed: Mapping[str, int]


class Troubles:
    """The troubles that hold now."""

    def __init__(self) -> None:
        self._fail: dict[str, Fail] = {}
        self._slow: dict[str, float] = {}
        self._short = Short()
        self._room: Room = Room(None)
        self._left = 0
        self._met: Counter[str] = Counter()
        self._begun: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    def tell(self, trouble: Trouble | None) -> Calls:
        """Have this trouble, or none more; the counters."""
        match trouble:
            case Fail():
                self._fail[trouble.operation] = trouble
                self._met[trouble.operation] = 0
            case Room():
                self._room, self._left = trouble, trouble.octets or 0
            case Short():
                self._short = trouble
            case Slow():
                self._slow[trouble.operation] = trouble.seconds
            case Heal():
                self._fail.clear()
                self._slow.clear()
                self._short, self._room = Short(), Room(None)
        return Calls(dict(self._begun), dict(self._failed))

    async def meet(self, operation: str) -> None:
        """What an operation does first: sleep, or fail with `FUSEError`."""
        self._begun[operation] += 1
        if operation in self._slow:
            await trio.sleep(self._slow[operation])
        fail = self._fail.get(operation)
        if fail is None:
            return
        self._met[operation] += 1
        if 0 < self._met[operation] - fail.after <= (fail.times or self._met[operation]):
            raise self._failure(operation, fail.error)

    def read_size(self, wanted: int) -> int:
        """How many bytes a read may bring."""
        return wanted if self._short.reads is None else min(wanted, self._short.reads)

    def write_size(self, wanted: int) -> int:
        """How many bytes a write may take; raises `FUSEError` for a full disk."""
        size = wanted if self._short.writes is None else min(wanted, self._short.writes)
        if self._room.octets is None:
            return size
        if wanted and not self._left:
            raise self._failure("write", self._room.error)
        size = min(size, self._left)
        self._left -= size
        return size

    def _failure(self, operation: str, error: int) -> pyfuse3.FUSEError:
        self._failed[operation] += 1
        return pyfuse3.FUSEError(error)
