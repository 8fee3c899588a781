"""Leases of folders through the real kernel and a real server, with a second mount as the other client.

The server does not wait until the break of a folder's lease has arrived, so what another client did is waited
for: it has to be there long before the folder would be asked for again anyway.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.factories import MountFactory
from tests.support.mounting import Mount
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(90)

SOON = 2.0
"""Seconds; folders are vouched for during 10."""


@pytest.fixture
def mount(samba_backports: SambaServer, backports_share_path: Path, mount_factory: MountFactory) -> Mount:
    """The mount under test: it believes what the server vouches for alone, and the kernel always asks."""
    return mount_factory(samba_backports, folder=backports_share_path.name, options=["actimeo=0"])


@pytest.fixture
def here(mount: Mount) -> Path:
    """Its folder, with some files and folders in it."""
    for folder in ("one", "two", "one/deep"):
        (mount.path / folder).mkdir()
        for number in range(5):
            (mount.path / folder / f"file {number}").write_bytes(b"content")
    return mount.path


@pytest.fixture
def elsewhere(samba_backports: SambaServer, backports_share_path: Path, mount_factory: MountFactory) -> Path:
    """The same folder as another client sees it, which believes nothing."""
    folder = backports_share_path.name
    return mount_factory(samba_backports, folder=folder, options=["actimeo=0", "closetimeo=0"]).path


def trips(mount: Mount, work: Callable[[], object]) -> int:
    """The round trips that a piece of work costs."""
    before: dict[str, Any] = mount.statistics()
    work()
    return int(mount.statistics()["round_trips"]) - int(before["round_trips"])


def soon(condition: Callable[[], bool], what: str) -> None:
    """The condition holds, or does in a moment."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def go_through(root: Path) -> str:
    """List and look at everything, and read all files."""
    look = subprocess.run(["ls", "-lR", root], check=True, capture_output=True, text=True)
    grep = ["grep", "-r", "content", "."]
    read = subprocess.run(grep, cwd=root, check=True, capture_output=True, text=True)
    return look.stdout + "\n".join(sorted(read.stdout.splitlines()))


def test_the_same_tree_again_costs_no_round_trip(mount: Mount, here: Path) -> None:
    first = go_through(here)

    def again() -> None:
        assert go_through(here) == first
        assert not (here / "one" / "absent").exists()

    assert trips(mount, again) == 0


def test_what_another_client_does_in_a_folder_is_seen_soon(here: Path, elsewhere: Path) -> None:
    go_through(here)
    (elsewhere / "one" / "new").write_bytes(b"new")
    soon(lambda: "new" in os.listdir(here / "one"), "a new file")
    soon((here / "one" / "new").exists, "a new file by its name")
    (elsewhere / "one" / "file 0").unlink()
    soon(lambda: not (here / "one" / "file 0").exists(), "a removed file")
    (elsewhere / "two" / "file 0").rename(elsewhere / "one" / "file 1")
    soon(lambda: not (here / "two" / "file 0").exists(), "a file that was moved away")
    (elsewhere / "two" / "file 1").write_bytes(b"longer content")
    soon(lambda: (here / "two" / "file 1").stat().st_size == 14, "a file that grew")
    os.utime(elsewhere / "two" / "file 2", (10**9, 10**9))
    soon(lambda: (here / "two" / "file 2").stat().st_mtime == 10**9, "a time that was set")
    (elsewhere / "one" / "deep" / "inner").mkdir()
    soon((here / "one" / "deep" / "inner").is_dir, "a new folder")


def test_a_file_that_another_client_replaced_is_soon_the_new_one(here: Path, elsewhere: Path) -> None:
    go_through(here)
    (elsewhere / "aside").write_bytes(b"successor")
    (elsewhere / "aside").rename(elsewhere / "one" / "file 3")
    soon(lambda: (here / "one" / "file 3").read_bytes() == b"successor", "the successor")


def test_folders_that_are_kept_open_are_renamed_and_removed(here: Path) -> None:
    go_through(here)
    (here / "one").rename(here / "renamed")
    go_through(here)
    subprocess.run(["rm", "-r", here / "renamed" / "deep"], check=True)
    subprocess.run(["rm", "-r", here / "renamed", here / "two"], check=True)
    assert os.listdir(here) == []


def test_another_client_renames_and_removes_folders_that_are_kept_open(here: Path, elsewhere: Path) -> None:
    go_through(here)
    start = time.monotonic()
    (elsewhere / "one").rename(elsewhere / "renamed")
    assert time.monotonic() - start < 5
    soon(lambda: sorted(os.listdir(here)) == ["renamed", "two"], "the renamed folder")
    go_through(here)
    subprocess.run(["rm", "-r", elsewhere / "renamed"], check=True)
    soon(lambda: os.listdir(here) == ["two"], "the folder that is gone")


def test_what_we_change_does_not_take_the_lease_away(mount: Mount, here: Path) -> None:
    go_through(here)
    (here / "one" / "new").write_bytes(b"content")
    (here / "one" / "file 0").rename(here / "one" / "renamed")
    (here / "one" / "file 1").unlink()
    (here / "one" / "inner").mkdir()
    (here / "one" / "deep").joinpath("file 0").write_bytes(b"other content")
    os.utime(here / "one" / "file 2", (10**9, 10**9))
    # The folder's own times have changed, and only the server knows to what.
    (here / "one").stat()

    def look() -> None:
        assert (here / "one" / "file 3").stat().st_size == 7
        assert (here / "one" / "new").stat().st_size == 7
        assert not (here / "one" / "absent").exists()

    assert trips(mount, look) == 0
