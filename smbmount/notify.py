"""Telling the kernel to forget what it has cached.

The kernel's answer can wait for requests that this process has yet to serve, so it is asked in threads,
never in the event loop.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import Final

import pyfuse3
import trio
from pyfuse3 import FileNameT, InodeT

log = logging.getLogger(__name__)

_THREADS: Final = 8
"""Inodes that may be invalidated at once: one whose pages are held up does not hold up the others."""


class Notifier:
    """Invalidation through pyfuse3; see `smbmount.vfs.kernel.KernelCache`."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(_THREADS)

    async def invalidate(self, number: int, *, pages: bool) -> None:
        """Have an inode's attributes forgotten, and its pages too if asked."""
        await self._tell(f"inode {number}", lambda: pyfuse3.invalidate_inode(InodeT(number), not pages))

    async def forget_name(self, folder: int, name: bytes) -> None:
        """Have a name in a folder asked for again."""
        await self._tell(repr(name), lambda: pyfuse3.invalidate_entry(InodeT(folder), FileNameT(name)))

    async def _tell(self, what: str, call: Callable[[], None]) -> None:
        try:
            await trio.to_thread.run_sync(call, limiter=self._threads, abandon_on_cancel=True)
        except OSError as exc:
            # ENOENT: the kernel does not know it any more, which is as good. ENOTCONN: nor the mount.
            if exc.errno not in (errno.ENOENT, errno.ENOTCONN):
                log.error("the kernel keeps what it has cached of %s: %s", what, exc.strerror)
