"""Mounts for the tests of this folder, made by the real command line."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.factories import MountFactory
from tests.support.mounting import Mount
from tests.support.samba import SambaServer


@pytest.fixture(scope="session", autouse=True)
def _fuse() -> None:
    """These tests are never skipped: without FUSE they say nothing about a mount."""
    if not os.path.exists("/dev/fuse"):
        pytest.fail("/dev/fuse is missing: load the kernel module fuse (modprobe fuse)", pytrace=False)


@pytest.fixture
def mount_factory(tmp_path: Path) -> Iterator[MountFactory]:
    """Mounts as often as a test likes; what it made is unmounted and checked when the test ends."""
    with ExitStack() as stack:
        yield MountFactory(stack, tmp_path)


@pytest.fixture
def mount(mount_factory: MountFactory, samba: SambaServer, share_path: Path) -> Mount:
    """A mount of `share_path`, with the default options."""
    return mount_factory(samba, folder=share_path.name)


@pytest.fixture
def backports_mount(
    mount_factory: MountFactory, samba_backports: SambaServer, backports_share_path: Path
) -> Mount:
    """A mount of `backports_share_path`, on the newer server, with the default options."""
    return mount_factory(samba_backports, folder=backports_share_path.name)


@pytest.fixture(scope="module")
def mounted(samba: SambaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for those tests of a module that need none of their own."""
    with Mount(samba, tmp_path_factory.mktemp("mount")) as mount:
        yield mount


@pytest.fixture
def here(mounted: Mount) -> Path:
    """A new folder, seen through the mount."""
    folder = mounted.path / uuid.uuid4().hex
    folder.mkdir()
    return folder


@pytest.fixture
def there(samba: SambaServer, here: Path) -> Path:
    """The same folder on the server."""
    return samba.share_path() / here.name
