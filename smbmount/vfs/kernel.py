"""What the file system asks of the kernel: to forget what it has cached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class KernelCache(Protocol):
    """The kernel's caches of one mount; `smbmount.notify.Notifier`."""

    async def invalidate(self, number: int, *, pages: bool) -> None:
        """Have an inode's attributes forgotten, and its pages too if asked; returns when it is done.

        With `pages` this waits for reads and writes of the file that are under way, so no task that serves
        one of them may wait for it.
        """

    async def release(self, numbers: Sequence[int]) -> None:
        """Have inodes forgotten, but for those that programs use at the moment; returns when it was asked."""


class NoKernel:
    """Nothing is cached: the file system without a mount."""

    async def invalidate(self, number: int, *, pages: bool) -> None:
        """Nothing to forget."""

    async def release(self, numbers: Sequence[int]) -> None:
        """Nothing to forget."""
