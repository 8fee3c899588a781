"""Byte-range locks between two connections: granted, refused, waited for, given up."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from engine import Disposition, LockNotGranted, NtStatusError, Share
from tests.integration.support_engine import READ_WRITE, connected, in_trio, inside, settle
from tests.support.samba import SambaServer


async def lock_both(share: Share, other: Share, path: str) -> None:
    """The whole life of a lock that two connections want."""
    await share.write_file(path, bytes(100))
    async with (
        await share.open(path, access=READ_WRITE) as mine,
        await other.open(path, access=READ_WRITE) as yours,
    ):
        await mine.lock(10, 10, exclusive=True, wait=False)
        with pytest.raises(LockNotGranted):
            await yours.lock(15, 1, exclusive=False, wait=False)
        await yours.lock(20, 10, exclusive=True, wait=False)
        with pytest.raises(NtStatusError):
            await yours.write_at(12, b"x")
        granted = trio.Event()

        async def wait() -> None:
            await yours.lock(15, 1, exclusive=True, wait=True)
            granted.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            while not other.statistics().interim_replies:
                await other.echo()
            assert not granted.is_set()
            await mine.unlock(10, 10)
        assert granted.is_set()
        with pytest.raises(LockNotGranted):
            await mine.lock(15, 1, exclusive=False, wait=False)


@in_trio
async def test_locks_between_two_connections(samba: SambaServer, share_path: Path) -> None:
    async with connected(samba) as share, connected(samba) as other:
        await lock_both(share, other, inside(share_path)("file"))


@in_trio
async def test_shared_locks_and_wrong_unlocks(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share, connected(samba) as other:
        await share.write_file(path, bytes(100))
        async with (
            await share.open(path, access=READ_WRITE) as mine,
            await other.open(path, access=READ_WRITE) as yours,
        ):
            await mine.lock(0, 50, exclusive=False, wait=False)
            await yours.lock(0, 50, exclusive=False, wait=False)
            with pytest.raises(LockNotGranted):
                await yours.lock(0, 50, exclusive=True, wait=False)
            with pytest.raises(NtStatusError) as caught:
                await mine.unlock(0, 49)
            assert caught.value.name == "STATUS_RANGE_NOT_LOCKED"
            await mine.close()
            await yours.unlock(0, 50)
            await yours.lock(0, 50, exclusive=True, wait=False)


@in_trio
async def test_wait_for_a_lock_that_is_given_up(samba: SambaServer, share_path: Path) -> None:
    """The server hears of it: the lock is not held afterwards, by nobody."""
    path = inside(share_path)("file")
    async with connected(samba) as share, connected(samba) as other:
        await share.write_file(path, bytes(100))
        async with (
            await share.open(path, access=READ_WRITE) as mine,
            await other.open(path, access=READ_WRITE) as yours,
        ):
            await mine.lock(0, 10, exclusive=True, wait=False)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lambda: yours.lock(0, 10, exclusive=True, wait=True))
                    while not other.statistics().interim_replies:
                        await other.echo()
                    scope.cancel()
            await settle(other)
            assert other.statistics().cancels == 1
            await mine.unlock(0, 10)
            await mine.lock(0, 10, exclusive=True, wait=False)


@in_trio
async def test_locks_at_the_end_of_the_number_range(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with (
        connected(samba) as share,
        await share.open(path, access=READ_WRITE, disposition=Disposition.CREATE) as file,
    ):
        with pytest.raises(NtStatusError) as caught:
            await file.lock((1 << 64) - 1, (1 << 64) - 1, exclusive=True, wait=False)
        assert caught.value.name == "STATUS_INVALID_LOCK_RANGE"
        await file.lock((1 << 63) + 5, 10, exclusive=True, wait=False)
        await file.unlock((1 << 63) + 5, 10)
