"""What is foreseen of walks and of reading files: decisions alone, without a share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import pytest

from engine import FileStat
from smbmount.vfs.attributes import DIRECTORY, FILE
from smbmount.vfs.foresight import (
    FIRST_FILES,
    FIRST_WINDOW,
    MAX_FILES,
    MAX_WINDOW,
    FileTrail,
    HitRate,
    Walks,
    WalkTrail,
)
from smbmount.vfs.inodes import Inode, InodeTable
from smbmount.vfs.listings import Entry, Listing, ListingCache

Tree = Mapping[str, "Tree | int"]
"""Folders, and files by their size."""

_FOLDER: Final = 0x10
_VALID: Final = 1.0


class World:
    """An inode table with a tree of listed folders."""

    def __init__(self, tree: Tree) -> None:
        self._last_id = 100
        root = self._stat(is_folder=True)
        self.table = InodeTable(root, trust_file_ids=True)
        self._list(self.table.root, tree)

    def _stat(self, *, is_folder: bool, size: int = 0) -> FileStat:
        self._last_id += 1
        return FileStat(self._last_id, size, size, _FOLDER if is_folder else 0, 0, 0, 0, 0)

    def _list(self, folder: Inode, tree: Tree) -> None:
        entries = []
        for name, content in tree.items():
            size = content if isinstance(content, int) else 0
            kind = FILE if isinstance(content, int) else DIRECTORY
            stat = self._stat(is_folder=kind == DIRECTORY, size=size)
            entries.append(Entry(name.encode(), name, stat, kind, None, 0, 1.0))
            inode = self.table.identify(folder, stat, kind, None)
            self.table.enter(folder, name.encode(), name, inode, 1.0)
            if not isinstance(content, int):
                self._list(inode, content)
        folder.listing = Listing(entries, complete=True, fresh_until=1.0)

    def __getitem__(self, path: str) -> Inode:
        inode = self.table.root
        for name in path.split("/") if path else ():
            inode = inode.children[name.encode()].inode
        return inode


def follow(walks: Walks, world: World, *paths: str, pace: float = 0.001) -> WalkTrail | None:
    """A program lists these folders; the trail that it is on at the end."""
    trail = None
    for index, path in enumerate(paths):
        trail = walks.observe(world[path], 1.0 + index * pace, None)
    return trail


def names(trail: WalkTrail | None, valid_for: float = _VALID) -> list[str]:
    """What a trail wants to have listed."""
    assert trail is not None
    return [name.name.decode() for name in trail.ahead(valid_for)]


FLAT: Final[Tree] = {name: {} for name in "hbdaCefg"}


def test_the_first_child_after_its_parent_is_a_walk() -> None:
    world, walks = World(FLAT), Walks()
    assert follow(walks, world, "") is None
    assert names(follow(walks, world, "h")) == ["b", "d"]


def test_two_neighbours_are_a_walk() -> None:
    world, walks = World(FLAT), Walks()
    assert follow(walks, world, "d") is None
    assert names(follow(walks, world, "a")) == ["C", "e"]


@pytest.mark.parametrize(
    ("listed", "foreseen"),
    [(["b", "d"], ["a", "C"]), (["a", "b"], ["d", "e"]), (["b", "C"], ["d", "e"]), (["C", "a"], ["b", "d"])],
    ids=["as listed", "by bytes", "without case", "by bytes, capitals first"],
)
def test_every_usual_order_is_recognised(listed: list[str], foreseen: list[str]) -> None:
    assert names(follow(Walks(), World(FLAT), *listed)) == foreseen


@pytest.mark.parametrize(
    "listed", [["h", "d"], ["e", "h", "a"], ["", "e"], ["h"], ["h", "h", "h"]], ids=" ".join
)
def test_random_access_is_no_walk(listed: list[str]) -> None:
    trail = follow(Walks(), World(FLAT), *listed)
    assert trail is None or names(trail) == []


def test_a_folder_that_is_listed_twice_does_not_end_a_walk() -> None:
    world, walks = World(FLAT), Walks()
    trail = follow(walks, world, "h", "b")
    assert follow(walks, world, "b", "d", "d", "a") is trail
    assert names(trail) == ["C", "e"]


def test_a_pause_ends_a_walk() -> None:
    world, walks = World(FLAT), Walks()
    assert walks.observe(world["h"], 1.0, None) is None
    assert walks.observe(world["b"], 12.0, None) is None


DEEP: Final[Tree] = {"a": {"1": {}, "2": {}}, "b": {"3": {}, "4": {}}, "c": {}}


def test_a_walk_goes_into_folders_first_where_the_program_does() -> None:
    trail = follow(Walks(), World(DEEP), "", "a")
    assert trail is not None
    trail.window = 100
    assert names(trail) == ["1", "2", "b", "3", "4", "c"]


def test_a_walk_that_stays_on_its_level_is_followed_there() -> None:
    trail = follow(Walks(), World(DEEP), "a", "b")
    assert trail is not None
    trail.window = 100
    assert names(trail) == ["c"]


def test_nothing_above_the_start_of_a_walk_is_foreseen() -> None:
    world = World({"x": DEEP, "y": {}, "z": {}})
    trail = follow(Walks(), world, "x", "x/a", "x/a/1", "x/a/2", "x/b", "x/b/3", "x/b/4", "x/c")
    assert names(trail) == []


def test_removed_folders_do_not_end_a_walk() -> None:
    world, walks = World(FLAT), Walks()
    trail = follow(walks, world, "h", "b")
    world.table.mark_unlinked(world["b"])
    assert names(trail) == ["d", "a"]
    assert walks.observe(world["d"], 1.1, None) is trail


def test_two_programs_are_told_apart() -> None:
    world, walks = World({"one": FLAT, "two": FLAT}), Walks()
    trails = [follow(walks, world, path) for path in ("one/h", "two/b", "one/b", "two/d", "one/d", "two/a")]
    assert trails[:2] == [None, None]
    assert trails[2] is trails[4]
    assert trails[3] is trails[5]
    assert trails[2] is not trails[3]


def test_a_window_grows_with_hits_and_shrinks_with_misses() -> None:
    trail = WalkTrail(World(FLAT)["h"], 0.0)
    sizes = []
    for _ in range(6):
        sizes.append(trail.window)
        trail.grow()
    assert sizes == [2, 4, 8, 16, 32, 32]
    assert trail.window == MAX_WINDOW
    for _ in range(6):
        trail.shrink()
    assert trail.window == FIRST_WINDOW


def test_a_slow_program_has_no_more_foreseen_than_stays_valid() -> None:
    numbers: Tree = {f"{number:02}": {} for number in range(50)}
    trail = follow(Walks(), World(numbers), *list(numbers)[:10], pace=0.1)
    assert trail is not None
    trail.window = 32
    assert names(trail) == ["10", "11", "12", "13", "14"]
    assert names(trail, valid_for=0.1) == []


def test_a_hit_takes_the_walk_along_wherever_it_is() -> None:
    world, walks = World(FLAT), Walks()
    trail = follow(walks, world, "h", "b")
    assert walks.observe(world["e"], 1.1, trail) is trail
    assert names(trail) == ["f", "g"]


def test_many_wrong_guesses_are_followed_by_ever_longer_pauses() -> None:
    rate, now, pauses = HitRate(), 0.0, []
    for _ in range(3):
        while rate.allows(now):
            rate.note(False, now)
        begin = now
        while not rate.allows(now):
            now += 1.0
        pauses.append(now - begin)
    assert pauses == [5.0, 10.0, 20.0]
    assert (rate.used, rate.unused) == (0, 24)


def test_half_of_the_guesses_may_be_wrong() -> None:
    rate = HitRate()
    for index in range(100):
        rate.note(index % 2 == 0, 0.0)
        assert rate.allows(0.0)


FILES: Final[Tree] = {**{f"f{index:02}": 10 for index in range(20)}, "d": {}, "empty": 0, "large": 65_537}


def nothing(folder: Inode) -> None:
    """No folder is known to go on with a row."""


def open_files(
    trail: FileTrail,
    world: World,
    *paths: str,
    foreseen: bool = False,
    behind: Callable[[Inode], Inode | None] = nothing,
) -> list[str]:
    """A program opens these files; what is wanted after the last of them."""
    wanted = False
    for path in paths:
        wanted = trail.opened(world[path], foreseen, 0.0)
    return [name.name.decode() for name in trail.ahead(1.0, behind)] if wanted else []


def test_the_second_small_file_in_a_row_makes_the_next_ones_wanted() -> None:
    trail, world = FileTrail(), World(FILES)
    assert open_files(trail, world, "f03") == []
    assert open_files(trail, world, "f04") == ["f05", "f06", "f07", "f08"]
    assert len(open_files(trail, world, "f05", foreseen=True)) == 2 * FIRST_FILES


@pytest.mark.parametrize(("pace", "reach"), [(0.001, MAX_FILES), (0.1, 5), (1.0, 0)])
def test_no_file_is_wanted_that_is_not_opened_in_time(pace: float, reach: int) -> None:
    """Its name would have to be asked for again."""
    trail, world = FileTrail(), World({f"f{index:03}": 10 for index in range(100)})
    for index in range(20):
        trail.opened(world[f"f{index:03}"], foreseen=index > 1, now=index * pace)
    assert trail.pace == pytest.approx(pace, rel=0.01)
    assert len(trail.ahead(1.0, nothing)) in (reach, reach - 1)


@pytest.mark.parametrize(
    "opened", [["f03", "f05"], ["f03", "f03"], ["f19", "large"], ["empty"], ["f04", "f03"]], ids=" ".join
)
def test_other_opens_make_nothing_wanted(opened: list[str]) -> None:
    assert open_files(FileTrail(), World(FILES), *opened) == []


def test_the_first_file_of_the_next_folder_goes_on_with_a_row() -> None:
    world, trail = World({"a": FILES, "b": FILES}), FileTrail()
    assert open_files(trail, world, "a/f18", "a/f19") == []
    assert open_files(trail, world, "b/f00") == ["f01", "f02", "f03", "f04"]
    assert open_files(trail, world, "a/f07") == []


def test_a_row_goes_on_in_the_folder_behind() -> None:
    world = World({"a": FILES, "b": FILES})
    asked: list[Inode] = []

    def behind(folder: Inode) -> Inode | None:
        asked.append(folder)
        return world["b"]

    trail = FileTrail()
    assert open_files(trail, world, "a/f03", "a/f04", behind=behind) == ["f05", "f06", "f07", "f08"]
    assert asked == []
    wanted = open_files(trail, world, "a/f17", "a/f18", behind=behind)
    assert wanted == ["f19", "f00", "f01", "f02"]
    assert asked == [world["a"]]
    assert open_files(FileTrail(), world, "a/f17", "a/f18") == ["f19"]


def test_kept_listings_are_bounded_together_and_the_oldest_gives_way() -> None:
    world = World({name: {"x": 1, "y": 1} for name in "abcd"})
    cache = ListingCache(limit=7)
    for name in "abcd":
        listing = world[name].listing
        assert listing is not None
        cache.keep(world[name], listing, 0.0)
        assert cache.used <= 7
    assert [name for name in "abcd" if world[name].listing is not None] == ["c", "d"]


def test_listings_that_expired_long_ago_are_dropped() -> None:
    world = World({"a": {}, "b": {}})
    cache = ListingCache()
    cache.keep(world["a"], Listing((), complete=True, fresh_until=1.0), 0.0)
    cache.keep(world["b"], Listing((), complete=True, fresh_until=61.0), 60.0)
    assert world["a"].listing is None
    assert cache.used == 1
