"""Large folders: little memory, and what a file costs does not grow with their number.

The full measurements are `python -m tests.benchmarks.scale`; these are its bounds at a size of seconds.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import pytest

from tests.benchmarks.crowd import READERS, Work, fill, list_attributes, list_names, memory
from tests.support.factories import MountFactory
from tests.support.mounting import Mount
from tests.support.samba import SambaServer

pytestmark = [
    pytest.mark.deadline(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may give the files to the server's user"),
]

CROWD: Final = 60_000
"""So many inodes take 90 MiB if all are kept."""

_RELEASE = re.match(r"(\d+)\.(\d+)", os.uname().release)
needs_prune = pytest.mark.skipif(
    _RELEASE is None or (int(_RELEASE[1]), int(_RELEASE[2])) < (6, 18),
    reason="only since Linux 6.18 the kernel can be asked to forget",
)


@pytest.fixture(scope="module")
def crowd(samba: SambaServer) -> Path:
    """A large folder on the server."""
    return fill(samba, "crowd", CROWD)


@needs_prune
@pytest.mark.parametrize("work", [list_names, list_attributes])
def test_a_large_folder_takes_little_memory(
    work: Work, crowd: Path, samba: SambaServer, mount_factory: MountFactory
) -> None:
    mount = mount_factory(samba)
    idle = memory(mount)
    assert idle < 64
    work(mount.path / crowd.name, CROWD)
    assert memory(mount, "VmHWM") - idle < 80


@needs_prune
def test_names_that_were_forgotten_are_found_again(
    crowd: Path, samba: SambaServer, mount_factory: MountFactory
) -> None:
    here = mount_factory(samba).path / crowd.name
    with os.scandir(here) as entries:
        numbers = {entry.name: entry.inode() for entry in entries}
    first, *_, last = numbers
    with (here / first).open("rb") as kept:
        list_names(here, CROWD)
        for name in (first, last):
            assert (here / name).stat().st_ino == numbers[name]
        assert os.fstat(kept.fileno()).st_ino == numbers[first]
        assert kept.read() == b""


@pytest.mark.parametrize("work", READERS.values(), ids=READERS.keys())
def test_round_trips_do_not_grow_faster_than_the_folder(
    work: Work, samba: SambaServer, mount_factory: MountFactory, share_path: Path
) -> None:
    trips = []
    for count in (1000, 4000):
        name = f"{share_path.name}/{count}"
        fill(samba, name, count)
        mount = mount_factory(samba)
        trips.append(_round_trips(mount, work, mount.path / name, count))
    assert trips[1] <= 4 * trips[0] + 4
    assert trips[1] < 40, "the folder is listed, not asked for name by name"


def _round_trips(mount: Mount, work: Work, folder: Path, count: int) -> int:
    before: int = mount.statistics()["round_trips"]
    work(folder, count)
    after: int = mount.statistics()["round_trips"]
    return after - before
