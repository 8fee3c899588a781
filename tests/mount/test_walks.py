"""Programs that go through trees and large folders: how many round trips they wait for."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.mount.test_listing import Walk, fill
from tests.support.factories import MountFactory
from tests.support.mounting import Mount
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(90)

OPENING = "CREATE+QUERY_DIRECTORY+QUERY_DIRECTORY"


@pytest.fixture
def tree(samba: SambaServer, share_path: Path) -> Path:
    """210 folders on the server: 10 with 20 in each of them, and a file in every one."""
    for outer in range(10):
        for inner in range(20):
            folder = share_path / f"d{outer}" / f"s{inner:02}"
            folder.mkdir(parents=True)
            (folder / "file").write_text("content")
        (share_path / f"d{outer}" / "file").write_text("content")
    samba.adopt(share_path)
    return share_path


class Cost:
    """What a call cost: `asked` listings, of which `waited_for`, and `other` round trips."""

    def __init__(self, mount: Mount, call: Callable[[], object]) -> None:
        before = mount.statistics()
        call()
        after = mount.statistics()
        trips = Counter(after["trips"]) - Counter(before["trips"])
        ahead = {name: count - before["prefetch"][name] for name, count in after["prefetch"].items()}
        self.asked = trips.pop(OPENING, 0)
        self.waited_for = self.asked - ahead["used"] - ahead["unused"] + ahead["waited_for"]
        trips.pop("CLOSE", None)
        self.other = trips.total()


def run(mount: Mount, *command: str) -> str:
    """Run a command in the mount; what it wrote."""
    done = subprocess.run(command, cwd=mount.path, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


COMMANDS = [("find", ".", "-type", "f"), ("ls", "-lR"), ("du", "-a"), ("find", ".", "-depth")]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_walk_waits_for_few_of_its_folders(
    samba: SambaServer, tree: Path, mount_factory: MountFactory, command: Sequence[str]
) -> None:
    mount = mount_factory(samba, folder=tree.name, options=["actimeo=60"])
    output: list[str] = []
    cost = Cost(mount, lambda: output.append(run(mount, *command)))
    assert output[0].count("file") == 210
    assert cost.asked == 211
    # The first two folders cannot be foreseen; some more may still be on their way when the walk comes there.
    assert cost.waited_for <= 30
    assert cost.other <= 1


def test_without_prefetch_a_walk_waits_for_each_folder(
    samba: SambaServer, tree: Path, mount_factory: MountFactory
) -> None:
    mount = mount_factory(samba, folder=tree.name, options=["actimeo=60", "prefetch=off"])
    cost = Cost(mount, lambda: run(mount, "find", "."))
    assert (cost.asked, cost.waited_for) == (211, 211)


def test_the_same_is_found_with_and_without_prefetch(
    samba: SambaServer, tree: Path, mount_factory: MountFactory
) -> None:
    with_it = mount_factory(samba, folder=tree.name)
    without = mount_factory(samba, folder=tree.name, options=["prefetch=off"])
    command = ("find", ".", "-printf", "%p %i %s %y %T@ %n\\n")
    assert run(with_it, *command) == run(without, *command)


def test_single_folders_and_names_cost_nothing_more(
    samba: SambaServer, tree: Path, mount_factory: MountFactory
) -> None:
    mount = mount_factory(samba, folder=tree.name, options=["actimeo=60"])

    def ask() -> None:
        for outer, inner in ((3, 7), (8, 2), (5, 11), (1, 4)):
            (mount.path / f"d{outer}" / f"s{inner:02}" / "file").stat()

    cost = Cost(mount, ask)
    # The second name in the root lists it; each other name costs one round trip.
    assert (cost.asked, cost.other) == (1, 1 + 4 * 2)
    assert Cost(mount, lambda: os.listdir(mount.path / "d9" / "s03")).asked == 1


def test_a_removed_tree_was_foreseen_too(samba: SambaServer, tree: Path, mount_factory: MountFactory) -> None:
    mount = mount_factory(samba, folder=tree.name, options=["actimeo=60"])
    cost = Cost(mount, lambda: run(mount, "rm", "-r", "d0", "d1", "d2"))
    assert sorted(os.listdir(tree)) == [f"d{number}" for number in range(3, 10)]
    # rm lists each of the 63 folders twice; the second listing, right after the first, is never foreseen.
    assert cost.asked <= 130
    assert cost.waited_for <= 80


def test_a_foreseen_folder_is_not_shown_as_it_was_for_longer_than_actimeo(
    samba: SambaServer, tree: Path, mount_factory: MountFactory
) -> None:
    mount = mount_factory(samba, folder=tree.name, options=["actimeo=0.5"])
    order = [entry.name for entry in os.scandir(mount.path)]
    asked_by = time.monotonic()
    for name in order[:3]:
        os.listdir(mount.path / name)
    (tree / order[3] / "theirs").touch()
    samba.adopt(tree)
    asked_by = time.monotonic()
    while "theirs" not in os.listdir(mount.path / order[3]):
        assert time.monotonic() < asked_by + 0.5 + 0.5
    assert mount.statistics()["prefetch"]["in_flight"] == 0


def test_unmounting_ends_what_is_fetched_ahead(
    samba: SambaServer, tree: Path, mount_factory: MountFactory
) -> None:
    mount = mount_factory(samba, folder=tree.name)
    walk = subprocess.Popen(["find", mount.path], stdout=subprocess.PIPE)
    assert walk.stdout is not None
    walk.stdout.readline()
    walk.kill()
    walk.wait()
    walk.stdout.close()
    mount.unmount()


def test_a_large_folder_streams(samba: SambaServer, share_path: Path, mount_factory: MountFactory) -> None:
    names = fill(samba, share_path, 20_000)
    mount = mount_factory(samba, folder=share_path.name, options=["actimeo=60"])
    before = Counter(mount.statistics()["trips"])

    def queries() -> int:
        made = Counter(mount.statistics()["trips"]) - before
        return sum(count for name, count in made.items() if "QUERY_DIRECTORY" in name)

    with Walk(mount.path) as walk:
        seen = [name for name, _ in walk.piece()]
        deadline = time.monotonic() + 20
        patience = threading.Event()
        while queries() < 2:
            assert time.monotonic() < deadline, "the next batch is not asked for while one is taken"
            patience.wait(0.2)
        assert len(seen) < 100
        seen += [name for name, _ in walk.rest()]
    assert sorted(seen) == [".", "..", *names]
    assert queries() <= 1 + 20_000 / 5_000
