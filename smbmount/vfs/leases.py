"""What the server vouches for about files, and what is done when it takes its word back.

Each inode that is opened has one lease. A break is obeyed in this order: what is unwritten goes to the
server, the kernel forgets its pages, and only then the server is told; until then it lets nobody
else in. What of it needs no waiting (our own caches, parked handles) happens in the step in which the break
arrives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from engine import Lease, LeaseState, SmbError
from smbmount.vfs.attributes import DIRECTORY
from smbmount.vfs.folder_leases import FolderLeases
from smbmount.vfs.idle import IdleFiles
from smbmount.vfs.inodes import Inode
from smbmount.vfs.kernel import KernelCache
from smbmount.vfs.remote import RemoteShare
from smbmount.vfs.signals import Signal

log = logging.getLogger(__name__)

_OBEY_SECONDS: Final = 30.0
"""How long obeying may take: a server gives up after 35 s, and closes what it finds open."""

_READ: Final = int(LeaseState.READ_CACHING)
_WRITE: Final = int(LeaseState.WRITE_CACHING)


class Leases:
    """The leases of a mount's files; none where the server has none or caching is switched off."""

    def __init__(
        self,
        share: RemoteShare,
        spawn: Callable[..., object],
        idle: IdleFiles,
        kernel: KernelCache,
        folders: FolderLeases,
        *,
        enabled: bool,
    ) -> None:
        self._share = share
        self._spawn = spawn
        self._idle = idle
        self._kernel = kernel
        self._folders = folders
        self._enabled = enabled and share.supports_leases
        self._obeyed: dict[Lease, trio.CancelScope] = {}
        """Whose break a task is obeying, and until when: one for each lease, however many breaks come."""
        self._forgetting: dict[Inode, bool] = {}
        """Inodes whose pages the kernel is forgetting, and whether it is to do so once more after that."""
        self._news = Signal()
        self._again: set[Lease] = set()
        """Those of them that were broken once more meanwhile."""

    def of(self, inode: Inode) -> Lease | None:
        """The lease to open a file with, by its newest name."""
        if inode.lease is None:
            inode.lease = self._new(lambda: inode)
        if inode.lease is not None and inode.names:
            inode.lease.folder = self._folders.of(inode.names[-1].parent)
        return inode.lease

    def of_new(self, parent: Inode, inode: Callable[[], Inode | None]) -> Lease | None:
        """A lease for a file in `parent` whose inode will be known later, from `inode()`."""
        lease = self._new(inode)
        if lease is not None:
            lease.folder = self._folders.of(parent)
        return lease

    def for_change(self, parent: Inode, inode: Inode | None = None) -> Lease | None:
        """What to change a name in `parent` with, that of `inode` if that is known: it breaks neither the
        file's lease nor the folder's."""
        if inode is not None and inode.kind != DIRECTORY and inode.lease is not None:
            inode.lease.folder = parent.lease if parent.vouching else None
            return inode.lease
        if not parent.vouching:
            return None
        return self.of_new(parent, lambda: None)

    def _new(self, inode: Callable[[], Inode | None]) -> Lease | None:
        if not self._enabled:
            return None
        return self._share.lease(lambda lease: self._broken(inode(), lease))

    def _broken(self, inode: Inode | None, lease: Lease) -> None:
        if inode is not None:
            if not lease.state & _READ:
                inode.expire()
                inode.drop_readahead()
            if not inode.is_exclusive:
                self._idle.close(inode)
            if inode.writes is not None:
                inode.writes.look_again()
            self._news.fire()
        if lease in self._obeyed:
            self._again.add(lease)
            self._limit(lease)
        else:
            self._obeyed[lease] = trio.CancelScope()
            self._spawn(self._obey, inode, lease)

    def _limit(self, lease: Lease) -> None:
        """Nobody waits for what went with a lost connection, and unwritten data waits for the next one. Once
        the server is to be told, that has its time."""
        if lease.needs_acknowledgement:
            scope = self._obeyed[lease]
            scope.deadline = min(scope.deadline, trio.current_time() + _OBEY_SECONDS)

    async def _obey(self, inode: Inode | None, lease: Lease) -> None:
        try:
            await self._obey_once(inode, lease)
            while lease in self._again:
                await self._obey_once(inode, lease)
        finally:
            self._again.discard(lease)
            del self._obeyed[lease]

    async def _obey_once(self, inode: Inode | None, lease: Lease) -> None:
        """Obey what was taken back so far and is taken back meanwhile, before anything is acknowledged."""
        scope = self._obeyed[lease] = trio.CancelScope()
        self._limit(lease)
        try:
            with scope:
                await self._give_up_all(inode, lease)
            if scope.cancelled_caught:
                log.warning("%r: the lease went back late: what is cached here may be outdated", inode)
        except (SmbError, OSError) as exc:
            log.debug("%r: while a lease was given back: %s", inode, exc)
        except Exception:
            log.exception("giving back a lease ended in a mistake of this program")
        finally:
            self._again.discard(lease)
            with trio.move_on_after(_OBEY_SECONDS):
                await lease.acknowledge()

    async def _give_up_all(self, inode: Inode | None, lease: Lease) -> None:
        self._again.discard(lease)
        if inode is None:
            return
        await self._give_up(inode, lease)
        while lease in self._again:
            self._again.discard(lease)
            await self._give_up(inode, lease)

    async def _give_up(self, inode: Inode, lease: Lease) -> None:
        state = lease.state
        if not state & _WRITE:
            await _write_out(inode)
        if not state & _READ:
            await self._forget(inode, lease)
            # What programs changed through memory maps the kernel has written only now.
            await _write_out(inode)

    async def _forget(self, inode: Inode, lease: Lease) -> None:
        """Have the kernel forget all pages, and wait for that: but not where the server waits, too, and the
        kernel may do so for a read of a file that is not open again yet, see `_write_out`."""
        if inode in self._forgetting:
            self._forgetting[inode] = True
        else:
            self._forgetting[inode] = False
            self._spawn(self._forget_pages, inode)
        await self._news.wait_until(
            lambda: inode not in self._forgetting or (lease.needs_acknowledgement and _is_opened_again(inode))
        )

    async def _forget_pages(self, inode: Inode) -> None:
        async def forget(number: int) -> None:
            await self._kernel.invalidate(number, pages=True)

        try:
            while True:
                async with trio.open_nursery() as nursery:
                    for number in inode.numbers:
                        nursery.start_soon(forget, number)
                if not self._forgetting[inode]:
                    return
                self._forgetting[inode] = False
        except Exception:
            log.exception("having pages forgotten ended in a mistake of this program")
        finally:
            del self._forgetting[inode]
            self._news.fire()


def _is_opened_again(inode: Inode) -> bool:
    """Whether a program has it open, and the server not yet, or not any more."""
    return any(not handle.file.is_here for handle in inode.handles)


async def _write_out(inode: Inode) -> None:
    # A file that is not open again yet may wait for this very acknowledgement: our own open, by another name,
    # can be what breaks the lease.
    if inode.writes is not None and inode.is_dirty:
        await inode.writes.drain_open()
