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


def link_opened(descriptor: int, new: Path) -> None:
    """`ln -L /proc/self/fd/N new`; only with a folder's descriptor linkat(2) is what Python calls."""
    folder = os.open(new.parent, os.O_RDONLY)
    try:
        os.link(f"/proc/self/fd/{descriptor}", new, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda opened, here: os.utime(opened, (1, 1)),
        lambda opened, here: os.fchmod(opened, 0o444),
        lambda opened, here: os.setxattr(opened, "user.key", b"value"),
        lambda opened, here: link_opened(opened, here / "another name"),
    ],
    ids=["times", "mode", "extended attribute", "link"],
)
def test_changed_through_an_open_file_after_another_client_replaced_it(
    opened: int,
    here: Path,
    there: Path,
    replace: Callable[[str], None],
    change: Callable[[int, Path], object],
) -> None:
    replace("file")
    before = (there / "file").stat(), os.listxattr(there / "file")
    assert error_of(lambda: change(opened, here)) == errno.ESTALE
    assert ((there / "file").stat(), os.listxattr(there / "file")) == before
    assert sorted(os.listdir(there)) == ["file", "moved"]


def test_changed_through_a_writable_open_file_after_another_client_replaced_it(
    here: Path, there: Path, replace: Callable[[str], None]
) -> None:
    """The open file leads to the right one, whatever its name is now."""
    with (here / "file").open("w") as file:
        file.write("content")
        file.flush()
        replace("file")
        os.utime(file.fileno(), (1, 1))
        os.setxattr(file.fileno(), "user.key", b"value")
    assert (there / "moved").stat().st_mtime == 1
    assert "user.key" in map(str.lower, os.listxattr(there / "moved"))
    assert "user.key" not in map(str.lower, os.listxattr(there / "file"))


def test_changed_by_one_name_after_another_client_replaced_the_other(
    samba: SambaServer, here: Path, there: Path
) -> None:
    (here / "one").write_text("content")
    os.link(here / "one", here / "two")
    assert (here / "one").stat().st_ino == (here / "two").stat().st_ino
    (there / "new").write_text("innocent")
    samba.adopt(there / "new")
    (there / "new").rename(there / "two")
    os.utime(here / "one", (1, 1))
    os.setxattr(here / "one", "user.key", b"value")
    os.link(here / "one", here / "three")
    assert (there / "one").stat().st_mtime == 1 != (there / "two").stat().st_mtime
    assert (there / "three").read_text() == "content"
    assert "user.key" not in map(str.lower, os.listxattr(there / "two"))


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
