"""Telling the kernel to forget what it has cached.

The kernel's answer can wait for requests that this process has yet to serve, so it is asked in threads,
never in the event loop.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import struct
from collections.abc import Callable, Sequence
from typing import Final

import pyfuse3
import trio
from pyfuse3 import FileNameT, InodeT

log = logging.getLogger(__name__)

_THREADS: Final = 8
"""Inodes that may be invalidated at once: one whose pages are held up does not hold up the others."""

_FUSE_DEVICE: Final = "/dev/fuse"
_PRUNE: Final = 9
"""FUSE_NOTIFY_PRUNE of linux/fuse.h, in Linux since 6.18; pyfuse3 has no call for it."""
_PRUNE_HEADER: Final = struct.Struct("=IiQIIQ")
"""`fuse_out_header` and `fuse_notify_prune_out`: size, code, 0; count of numbers, 0, 0."""


class Notifier:
    """Invalidation through pyfuse3; see `smbmount.vfs.kernel.KernelCache`."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(_THREADS)
        self._can_prune = True

    @property
    def is_held(self) -> bool:
        """Whether the kernel holds a thread of ours, perhaps until requests in our hands are answered."""
        return self._threads.borrowed_tokens > 0

    async def invalidate(self, number: int, *, pages: bool) -> None:
        """Have an inode's attributes forgotten, and its pages too if asked."""
        await self._tell(f"inode {number}", lambda: pyfuse3.invalidate_inode(InodeT(number), not pages))

    async def forget_name(self, folder: int, name: bytes) -> None:
        """Have a name in a folder asked for again."""
        await self._tell(repr(name), lambda: pyfuse3.invalidate_entry(InodeT(folder), FileNameT(name)))

    async def release(self, numbers: Sequence[int]) -> None:
        """Have inodes forgotten, but for those that programs use at the moment."""
        if not self._can_prune:
            return
        size = _PRUNE_HEADER.size + 8 * len(numbers)
        header = _PRUNE_HEADER.pack(size, _PRUNE, 0, len(numbers), 0, 0)
        message = header + struct.pack(f"={len(numbers)}Q", *numbers)

        def write() -> None:
            os.write(_device(), message)

        try:
            await trio.to_thread.run_sync(write, limiter=self._threads, abandon_on_cancel=True)
        except OSError as exc:
            self._can_prune = False
            log.info("the kernel remembers as many files as it likes: %s", exc.strerror)

    async def _tell(self, what: str, call: Callable[[], None]) -> None:
        try:
            await trio.to_thread.run_sync(call, limiter=self._threads, abandon_on_cancel=True)
        except OSError as exc:
            # ENOENT: the kernel does not know it any more, which is as good. ENOTCONN: nor the mount.
            if exc.errno not in (errno.ENOENT, errno.ENOTCONN):
                log.error("the kernel keeps what it has cached of %s: %s", what, exc.strerror)


def _device() -> int:
    """The descriptor through which this process serves its mount; `OSError` if there is none any more."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{name}") == _FUSE_DEVICE:
                return int(name)
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
