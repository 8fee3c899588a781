"""Bounds how many inodes the kernel remembers: each costs about 1 KiB here until the kernel forgets it.

A kernel with free memory never does by itself. What it was told longest ago it is asked to forget; if a
program comes back to such a name, the kernel asks for it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smbmount.vfs.inodes import InodeTable
from smbmount.vfs.kernel import KernelCache

LIMIT: Final = 20_000
"""Inodes that the kernel may remember, those in use aside. Programs look at what they were just told in one
request of a listing, some 6,000 entries, so it has to be more than `_AT_A_TIME` and that."""

_AT_A_TIME: Final = 8192
"""More than one request of a listing adds, so that the limit holds."""


class Shedding:
    """Has the kernel forget what is above the limit."""

    def __init__(self, inodes: InodeTable, kernel: KernelCache, spawn: Callable[..., object]) -> None:
        self._inodes = inodes
        self._kernel = kernel
        self._spawn = spawn
        self._threshold = LIMIT
        self._at_work = False

    def note(self) -> None:
        """The kernel was told a name: make room in the background if it was one too many."""
        if self._is_due:
            self._spawn(self.make_room)

    async def make_room(self) -> bool:
        """If the kernel remembers too much, have the oldest forgotten; whether anything was asked of it."""
        if not self._is_due:
            return False
        self._at_work = True
        try:
            numbers = self._inodes.release_oldest(_AT_A_TIME)
            # What is needed here stays: then more has to come before it is worth another look.
            self._threshold = max(LIMIT, self._inodes.remembered + _AT_A_TIME - len(numbers))
            if numbers:
                await self._kernel.release(numbers)
            return bool(numbers)
        finally:
            self._at_work = False

    @property
    def _is_due(self) -> bool:
        return self._inodes.remembered > self._threshold and not self._at_work
