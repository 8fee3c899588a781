"""Names of folders in use are asked for again before they expire, instead of while a program waits.

The kernel asks for each name on the way to a file again when it expires. While a program works in a folder
all of them are asked for together in the background; they are believed no longer than any other name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Final

import trio

from engine import SmbError
from smbmount.vfs.attributes import DIRECTORY
from smbmount.vfs.core import Core
from smbmount.vfs.inodes import Dentry, Inode

log = logging.getLogger(__name__)

_LEVELS: Final = 8
"""Folders above the one in use whose names are asked for, too: as many questions are under way at once."""
_YOUNG: Final = 0.9
"""The part of its validity that a name has to have left to be spared."""


async def renew_names(core: Core, folder: Inode) -> None:
    """Ask again for the names that lead to a folder; what fails is left to those who need it."""
    old_until = core.now() + core.time_to_live(DIRECTORY) * _YOUNG
    try:
        async with trio.open_nursery() as nursery:
            for dentry in islice(_way(folder), _LEVELS):
                if dentry.fresh_until < old_until:
                    nursery.start_soon(_renew, core, dentry)
    except Exception:
        log.exception("asking for names again ended in a mistake of this program")


def _way(folder: Inode) -> Iterator[Dentry]:
    while folder.names:
        dentry = folder.names[-1]
        yield dentry
        folder = dentry.parent


async def _renew(core: Core, dentry: Dentry) -> None:
    inode, parent = dentry.inode, dentry.parent
    try:
        async with core.moves.using(parent):
            asked, asked_at = core.inodes.tick, core.now()
            stat = await core.share.stat(core.inodes.path(inode))
    except (SmbError, OSError) as exc:
        log.debug("%r was not asked for again: %s", inode, exc)
        return
    is_ours = parent.children.get(dentry.name) is dentry and core.inodes.describes(inode, stat)
    if is_ours and parent.changed <= asked:
        fresh_until = asked_at + core.time_to_live(DIRECTORY)
        inode.update(stat, asked, fresh_until)
        dentry.fresh_until = max(fresh_until, dentry.fresh_until)
