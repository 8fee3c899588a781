"""What is done to an inode reaches its file, whichever file has its name now."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(60)


@pytest.fixture
def here(samba: SambaServer, share_path: Path, mount_factory: MountFactory) -> Path:
    """A folder through a mount that believes names for so long that no test waits for their end."""
    return mount_factory(samba, folder=share_path.name, options=["actimeo=60"]).path


@pytest.fixture
def there(share_path: Path) -> Path:
    """The same folder on the server."""
    return share_path


@pytest.fixture
def replace(samba: SambaServer, there: Path) -> Callable[[str], None]:
    """Another client renames a file to `moved` and puts an innocent one in its place."""

    def act(name: str) -> None:
        (there / "new").write_text("innocent")
        samba.adopt(there / "new")
        (there / name).rename(there / "moved")
        (there / "new").rename(there / name)

    return act


@pytest.fixture
def opened(here: Path) -> Iterator[int]:
    """A file that is open for reading, `here / "file"`."""
    (here / "file").write_text("content")
    descriptor = os.open(here / "file", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_reopened_to_be_truncated_after_another_client_replaced_it(
    opened: int, there: Path, replace: Callable[[str], None]
) -> None:
    replace("file")
    flags = os.O_WRONLY | os.O_TRUNC
    assert error_of(lambda: os.open(f"/proc/self/fd/{opened}", flags)) == errno.ESTALE
    assert (there / "file").read_text() == "innocent"
    assert (there / "moved").read_text() == "content"


def test_truncated_by_one_name_after_another_client_replaced_the_other(
    samba: SambaServer, here: Path, there: Path
) -> None:
    (here / "one").write_text("content")
    os.link(here / "one", here / "two")
    assert (here / "one").stat().st_ino == (here / "two").stat().st_ino
    (there / "new").write_text("innocent")
    samba.adopt(there / "new")
    (there / "new").rename(there / "two")
    os.close(os.open(here / "one", os.O_WRONLY | os.O_TRUNC))
    assert (there / "two").read_text() == "innocent"
    assert (there / "one").read_text() == ""


def test_renamed_over_a_folder_that_another_client_just_made(
    samba: SambaServer, here: Path, there: Path
) -> None:
    (here / "file").write_text("content")
    assert not (here / "folder").exists()
    (there / "folder").mkdir()
    (there / "folder" / "precious").touch()
    samba.adopt(there)
    assert error_of(lambda: (here / "file").rename(here / "folder")) == errno.EISDIR
    assert sorted(os.listdir(there)) == ["file", "folder"]
    assert os.listdir(there / "folder") == ["precious"]
