"""Names of folders in use are asked for again before they expire, instead of while a program waits.

The kernel asks for each name on the way to a file again when it expires. While a program works in a folder
all of them are asked for together in the background; they are believed no longer than any other name. Where
the program also looks around in a small folder on the way, that is listed instead: it tells the name as well.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Final

import trio

from engine import FileStat, SmbError
from smbmount.vfs.attributes import DIRECTORY
from smbmount.vfs.core import Core
from smbmount.vfs.inodes import Dentry, Inode
from smbmount.vfs.listings import Entry

log = logging.getLogger(__name__)

_LEVELS: Final = 8
"""Folders above the one in use whose names are asked for, too: as many questions are under way at once."""
_YOUNG: Final = 0.9
"""The part of its validity that a name has to have left to be spared."""
RENEWED_WITHIN: Final = 0.2
"""The last part of its validity, in which what is in use is asked for anew."""
_AGAIN_AFTER: Final = 0.5
"""The part of a name's validity for which those on the way to a folder are not asked for once more."""
_SMALL_FOLDER: Final = 100
"""Entries of a folder that is listed for one name in it: some 12 KB."""


class Renewal:
    """Asks again for the names that lead to folders in use.

    `list_again(folder)` lists a folder for look-ups, `enter` records an entry of its listing.
    """

    def __init__(
        self,
        core: Core,
        list_again: Callable[[Inode], Awaitable[object]],
        enter: Callable[[Inode, Entry], Dentry],
    ) -> None:
        self._core = core
        self._list_again = list_again
        self._enter = enter
        self._begun: dict[Inode, float] = {}

    def note_used(self, folder: Inode) -> None:
        """A program uses names of a folder again and again: those that lead to it are asked for when one of
        them is about to expire."""
        core = self._core
        now, time_to_live = core.now(), core.time_to_live(DIRECTORY)
        due = time_to_live * RENEWED_WITHIN
        if time_to_live > 0 and any(dentry.validity(now) <= due for dentry in islice(_way(folder), _LEVELS)):
            self.begin(folder)

    def begin(self, folder: Inode) -> None:
        """Ask for the names that lead to a folder, but those that are young."""
        now = self._core.now()
        oldest = now - self._core.time_to_live(DIRECTORY) * _AGAIN_AFTER
        if self._begun.get(folder, oldest) > oldest:
            return
        self._begun = {other: begun for other, begun in self._begun.items() if begun > oldest}
        self._begun[folder] = now
        self._core.spawn(self._renew_all, folder)

    async def _renew_all(self, folder: Inode) -> None:
        """What fails is left to those who need it."""
        core = self._core
        old_until = core.now() + core.time_to_live(DIRECTORY) * _YOUNG
        try:
            async with trio.open_nursery() as nursery:
                for dentry in islice(_way(folder), _LEVELS):
                    if dentry.fresh_until < old_until:
                        nursery.start_soon(self._renew, dentry)
        except Exception:
            log.exception("asking for names again ended in a mistake of this program")

    async def _renew(self, dentry: Dentry) -> None:
        try:
            if self._is_looked_around_in(dentry.parent):
                await self._renew_by_listing(dentry)
            else:
                await self._renew_by_name(dentry)
        except (SmbError, OSError) as exc:
            log.debug("%r was not asked for again: %s", dentry.inode, exc)

    def _is_looked_around_in(self, folder: Inode) -> bool:
        core, listing = self._core, folder.listing
        if listing is None or listing.size > _SMALL_FOLDER or not (listing.served or listing.passed):
            return False
        return listing.fresh_until > core.now() - core.time_to_live(DIRECTORY)

    async def _renew_by_listing(self, dentry: Dentry) -> None:
        parent = dentry.parent
        await self._list_again(parent)
        listing = parent.listing
        entry = listing.find(dentry.smb_name) if listing is not None else None
        if entry is not None and self._is_still(dentry, entry.stat):
            self._enter(parent, entry)

    def _is_still(self, dentry: Dentry, stat: FileStat) -> bool:
        """Whether a name leads where it did: else whoever needs it asks for it."""
        is_ours = dentry.parent.children.get(dentry.name) is dentry
        return is_ours and self._core.inodes.describes(dentry.inode, stat)

    async def _renew_by_name(self, dentry: Dentry) -> None:
        core, inode, parent = self._core, dentry.inode, dentry.parent
        async with core.moves.using(parent):
            asked, asked_at = core.inodes.tick, core.now()
            stat = await core.share.stat(core.inodes.path(inode))
        if self._is_still(dentry, stat) and parent.changed <= asked:
            fresh_until = asked_at + core.time_to_live(DIRECTORY)
            inode.update(stat, asked, fresh_until)
            dentry.fresh_until = max(fresh_until, dentry.fresh_until)


def _way(folder: Inode) -> Iterator[Dentry]:
    while folder.names:
        dentry = folder.names[-1]
        yield dentry
        folder = dentry.parent
