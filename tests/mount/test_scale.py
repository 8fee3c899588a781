"""Large folders: little memory, and what a file costs does not grow with their number.

The full measurements are `python -m tests.benchmarks.scale`; these are its bounds at a size of seconds.
"""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from typing import Final

import pytest

from tests.benchmarks.crowd import READERS, Work, fill, list_attributes, list_names, memory
from tests.support.factories import MountFactory
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
    return fill(samba, f"crowd-{uuid.uuid4().hex}", CROWD)


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
def test_a_folder_is_listed_and_not_asked_for_name_by_name(
    work: Work, samba: SambaServer, mount_factory: MountFactory, share_path: Path
) -> None:
    for count in (500, 4000):
        name = f"{share_path.name}/{count}"
        fill(samba, name, count)
        mount = mount_factory(samba)
        before = mount.statistics()["round_trips"]
        work(mount.path / name, count)
        # It is listed again when the listing has expired, which on a busy machine is several times.
        assert mount.statistics()["round_trips"] - before < count / 10
