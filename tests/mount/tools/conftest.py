"""One mount for each module, and a folder of its own for each test, compared with the server afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounting import Mount
from tests.support.samba import SambaServer
from tests.support.tools import Place, wait_until


def _mount(samba: SambaServer, factory: pytest.TempPathFactory, name: str) -> Iterator[Mount]:
    with Mount(samba, factory.mktemp(name, numbered=True)) as mount:
        yield mount


@pytest.fixture(scope="module")
def module_mount(samba: SambaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount of the whole share that the tests of a module use one after the other."""
    yield from _mount(samba, tmp_path_factory, "first")


@pytest.fixture(scope="module")
def other_module_mount(samba: SambaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A second mount of the same share, with a daemon and a connection of its own."""
    yield from _mount(samba, tmp_path_factory, "second")


@pytest.fixture
def place(module_mount: Mount, samba: SambaServer) -> Iterator[Place]:
    """A new folder; after the test the mount must show what the server has, and be alive and content."""
    name = uuid.uuid4().hex[:12]
    there = samba.share_path() / name
    place = Place(module_mount, module_mount.path / name, there)
    place.path.mkdir()
    yield place
    place.check()


@pytest.fixture
def elsewhere(place: Place, other_module_mount: Mount) -> Iterator[Place]:
    """The same folder as `place`, seen by the second mount."""
    seen = Place(other_module_mount, other_module_mount.path / place.path.name, place.server_path)
    wait_until(seen.path.exists, "the second mount sees the test's folder")
    yield seen
    seen.check()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A folder on this machine's own disk."""
    folder = tmp_path / "local"
    folder.mkdir()
    return folder
