"""What the kernel remembers is bounded."""

from __future__ import annotations

import pytest
import trio.testing

from smbmount.vfs import shedding
from smbmount.vfs.filesystem import FileSystem
from smbmount.vfs.lookups import Lookups
from tests.fakes.share import FakeShare
from tests.unit.vfs.support import (
    ROOT,
    FakeKernel,
    Listed,
    list_folder,
    lookup,
    mounted,
    open_file,
    virtual_time,
)

LIMIT = 40
AT_A_TIME = 20


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shedding, "LIMIT", LIMIT)
    monkeypatch.setattr(shedding, "_AT_A_TIME", AT_A_TIME)


def full_share(count: int) -> FakeShare:
    share = FakeShare(batch_size=10)
    for index in range(count):
        share.put(f"f{index:03}")
    return share


async def look_all_up(fs: FileSystem, count: int) -> list[int]:
    """Ask for one name after another; their numbers."""
    numbers = []
    for index in range(count):
        numbers.append((await lookup(fs, f"f{index:03}")).number)
        await trio.testing.wait_all_tasks_blocked()
    return numbers


# Counting


def test_the_one_told_longest_ago_is_released_first() -> None:
    lookups = Lookups()
    for number in (1, 2, 3, 1):
        lookups.add(number)
    assert lookups.release_oldest(2, lambda number: False) == [2, 3]
    assert (lookups.kept, lookups.count(1), lookups.count(2)) == (1, 2, 1)


def test_what_is_released_is_known_until_it_is_forgotten() -> None:
    lookups = Lookups()
    lookups.add(1)
    lookups.release_oldest(1, lambda number: False)
    assert 1 in lookups
    assert lookups.subtract(1, 1)
    assert 1 not in lookups


def test_what_is_told_again_after_its_release_is_kept_with_all_its_lookups() -> None:
    lookups = Lookups()
    lookups.add(1)
    lookups.release_oldest(1, lambda number: False)
    lookups.add(1)
    assert (lookups.kept, lookups.count(1)) == (1, 2)
    assert not lookups.subtract(1, 1), "the kernel forgot before it was told again"
    assert lookups.subtract(1, 1)


def test_what_is_needed_is_not_released_and_counts_as_told_anew() -> None:
    lookups = Lookups()
    for number in (1, 2, 3):
        lookups.add(number)
    assert lookups.release_oldest(2, lambda number: number == 1) == [2]
    assert lookups.release_oldest(1, lambda number: False) == [3]


# The bound


@virtual_time
async def test_a_listing_leaves_no_more_inodes_than_the_limit() -> None:
    kernel = FakeKernel()
    async with mounted(full_share(500), kernel=kernel) as (_, fs):
        handle = await fs.folders.opendir(ROOT)
        listed = Listed(fs, handle)
        most = forgotten = 0
        while await listed.read():
            fs.forget((number, 1) for number in kernel.released[forgotten:])
            forgotten = len(kernel.released)
            most = max(most, len(fs.core.inodes))
        await fs.folders.releasedir(handle)
        assert len(listed.names) == len(set(listed.names)) == 500
        assert most <= LIMIT + 10 + 1
        assert forgotten == len(set(kernel.released))


@virtual_time
async def test_while_the_kernel_forgets_a_listing_tells_one_entry() -> None:
    """It takes no attributes from a request during which it forgot inodes."""
    kernel = FakeKernel()
    async with mounted(full_share(100), kernel=kernel) as (_, fs):
        listed = Listed(fs, await fs.folders.opendir(ROOT))
        while not kernel.released:
            before = len(listed.order)
            await listed.read()
        assert len(listed.order) == before + 1
        await listed.read()
        assert len(listed.order) > before + 2


@virtual_time
async def test_names_looked_up_one_by_one_are_bounded_too() -> None:
    kernel = FakeKernel()
    async with mounted(full_share(100), kernel=kernel) as (_, fs):
        numbers = await look_all_up(fs, 100)
    assert kernel.released == numbers[: len(kernel.released)]
    assert 100 - LIMIT <= len(kernel.released) <= 100 - LIMIT + AT_A_TIME


@virtual_time
async def test_what_is_open_or_holds_names_is_not_released() -> None:
    kernel = FakeKernel()
    share = full_share(100)
    share.put_folder("d")
    share.put("d\\inner")
    async with mounted(share, kernel=kernel) as (_, fs):
        folder = await lookup(fs, "d")
        await lookup(fs, "inner", folder.number)
        await open_file(fs, "f000")
        opened = await lookup(fs, "f000")
        await list_folder(fs)
        assert len(kernel.released) >= AT_A_TIME
        assert not {folder.number, opened.number} & set(kernel.released)


@virtual_time
async def test_where_everything_is_needed_it_is_not_looked_at_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = FakeKernel()
    async with mounted(full_share(100), kernel=kernel) as (_, fs):
        looks: list[int] = []

        def release_oldest(most: int) -> list[int]:
            looks.append(fs.core.inodes.remembered)
            return []

        monkeypatch.setattr(fs.core.inodes, "release_oldest", release_oldest)
        await look_all_up(fs, 100)
        assert looks == [LIMIT + 1 + looked * (AT_A_TIME + 1) for looked in range(3)]
