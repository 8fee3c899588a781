"""How often the kernel has been told each inode's number, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice


class Lookups:
    """The look-up counts of all numbers that the kernel knows.

    Invariant: a number is in `_kept`, the one told longest ago first, or in `_released`, once the kernel has
    been asked to forget it, until it does or is told it again.
    """

    def __init__(self) -> None:
        self._kept: dict[int, int] = {}
        self._released: dict[int, int] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._kept or number in self._released

    @property
    def kept(self) -> int:
        """How many numbers the kernel has not been asked to forget."""
        return len(self._kept)

    def count(self, number: int) -> int:
        """How often the kernel has been told a number."""
        return self._kept.get(number, 0) or self._released.get(number, 0)

    def add(self, number: int) -> None:
        """The kernel has been told a number once more."""
        self._kept[number] = self._take(number) + 1

    def subtract(self, number: int, count: int) -> bool:
        """The kernel has forgotten so many look-ups of a number; whether it does not know it any more."""
        left = self._take(number) - count
        if left > 0:
            self._kept[number] = left
        return left <= 0

    def release_oldest(self, most: int, is_needed: Callable[[int], bool]) -> list[int]:
        """Those of the `most` oldest numbers that the kernel is now asked to forget.

        One that is needed counts as told anew.
        """
        released = []
        for number in list(islice(self._kept, most)):
            count = self._kept.pop(number)
            if is_needed(number):
                self._kept[number] = count
            else:
                self._released[number] = count
                released.append(number)
        return released

    def _take(self, number: int) -> int:
        return self._kept.pop(number, 0) or self._released.pop(number, 0)
