"""Memory that is at hand, so that a benchmark does not measure the host of a virtual machine."""

from __future__ import annotations

import mmap


def populate(size: int) -> None:
    """Have the host of a virtual machine hand out `size` bytes of memory, which are free on return.

    It may have got free memory back before: 512 MiB of new page cache then cost up to 1 s of faults in it.
    """
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE):
        pass
