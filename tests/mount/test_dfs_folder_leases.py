"""Folders behind a link are vouched for where their server does that, also if the namespace's does not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mount.test_folder_leases import FOLDERS, go_through, soon
from tests.mount.test_leases import descriptor
from tests.support.dfs import Estate, estate
from tests.support.factories import MountFactory
from tests.support.mounting import Mount
from tests.support.samba_backports import BackportsSambaServer

pytestmark = pytest.mark.deadline(120)


@pytest.fixture(scope="module")
def tree(_backports: None) -> Iterator[Estate]:
    """The servers of this module; `link` leads to the first one's share."""
    with estate(BackportsSambaServer) as made:
        made.link("link", made.target(made.first, "data"))
        yield made


@pytest.fixture
def mount(tree: Estate, mount_factory: MountFactory) -> Mount:
    """The namespace: what nobody vouches for the kernel always asks for."""
    options = [f"dfs_hosts={':'.join(tree.hosts)}", "actimeo=0"]
    return mount_factory(tree.namespace, share="dfs", options=options)


@pytest.fixture
def here(mount: Mount) -> Iterator[Path]:
    """What is behind the link, with some files and folders in it, and nothing afterwards."""
    behind = mount.path / "link"
    for folder in FOLDERS:
        (behind / folder).mkdir()
        for number in range(5):
            (behind / folder / f"file {number}").write_bytes(b"content")
    yield behind
    subprocess.run(["rm", "-rf", *behind.iterdir()], check=True)


@pytest.fixture
def elsewhere(tree: Estate, mount_factory: MountFactory) -> Path:
    """The same as another client sees it, which believes nothing."""
    return mount_factory(tree.first, options=["actimeo=0", "closetimeo=0"]).path


def read(folder: int, name: str) -> bytes:
    """A file by its name below an open folder, which asks for none of the names above that."""
    number = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(number, 100)
    finally:
        os.close(number)


def test_the_same_files_again_cost_no_round_trip(mount: Mount, here: Path) -> None:
    with descriptor(here, os.O_RDONLY | os.O_DIRECTORY) as folder:
        go_through(here)
        before: dict[str, Any] = mount.statistics()
        for name in FOLDERS:
            for number in range(5):
                assert read(folder, f"{name}/file {number}") == b"content"
            with pytest.raises(FileNotFoundError):
                read(folder, f"{name}/absent")
        after: dict[str, Any] = mount.statistics()
        assert after["behind"]["link"]["round_trips"] == before["behind"]["link"]["round_trips"]
        assert after["round_trips"] == before["round_trips"]


def test_what_another_client_does_in_a_folder_is_seen_soon(here: Path, elsewhere: Path) -> None:
    go_through(here)
    (elsewhere / "one" / "new").write_bytes(b"new")
    soon((here / "one" / "new").exists, "a new file by its name")
    (elsewhere / "one" / "file 0").unlink()
    soon(lambda: not (here / "one" / "file 0").exists(), "a removed file")
    (elsewhere / "aside").write_bytes(b"successor")
    (elsewhere / "aside").rename(elsewhere / "one" / "file 3")
    soon(lambda: (here / "one" / "file 3").read_bytes() == b"successor", "the successor")


def test_folders_that_are_kept_open_are_renamed_and_removed_by_both(here: Path, elsewhere: Path) -> None:
    go_through(here)
    (here / "one").rename(here / "renamed")
    go_through(here)
    (elsewhere / "renamed").rename(elsewhere / "again")
    soon(lambda: sorted(os.listdir(here)) == ["again", "two"], "the renamed folder")
    subprocess.run(["rm", "-r", here / "again"], check=True)
    assert os.listdir(here) == ["two"]
