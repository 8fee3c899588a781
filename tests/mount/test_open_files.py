"""Files that are open while their names change or go."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(60)


@pytest.fixture
def alone(mount_factory: MountFactory, samba: SambaServer, share_path: Path) -> Path:
    """A mount of `share_path` that shows at once what another client does there."""
    return mount_factory(samba, folder=share_path.name, options=["actimeo=0"]).path


def wait_for_names(folder: Path, *names: str) -> None:
    """The kernel tells a file system of the last close without waiting for it."""
    deadline = time.monotonic() + 10
    while sorted(os.listdir(folder)) != sorted(names):
        assert time.monotonic() < deadline, os.listdir(folder)


def test_unlinked_file_stays_usable_until_closed(here: Path, there: Path) -> None:
    with (here / "file").open("w+b", buffering=0) as file:
        file.write(b"written before")
        (here / "file").unlink()
        assert os.listdir(here) == []
        assert not (here / "file").exists()
        file.write(b", and after")
        assert os.pread(file.fileno(), 100, 0) == b"written before, and after"
        status = os.fstat(file.fileno())
        assert (status.st_size, status.st_nlink) == (25, 0)
        os.fsync(file.fileno())
        os.ftruncate(file.fileno(), 7)
        assert os.pread(file.fileno(), 100, 0) == b"written"
        os.fchmod(file.fileno(), 0o444)
        os.utime(file.fileno(), (1_000_000, 2_000_000))
        assert os.fstat(file.fileno()).st_mtime == 2_000_000
    wait_for_names(there)


def test_folder_can_go_once_its_unlinked_file_is_closed(here: Path, there: Path) -> None:
    """As on NFS: until then the server keeps the file in the folder, under a name that is not shown."""
    (here / "folder").mkdir()
    with (here / "folder" / "file").open("wb"):
        (here / "folder" / "file").unlink()
        assert os.listdir(here / "folder") == []
        assert error_of((here / "folder").rmdir) == errno.ENOTEMPTY
    wait_for_names(there / "folder")
    (here / "folder").rmdir()
    assert os.listdir(there) == []


def test_unlinked_file_cannot_be_opened_once_more(here: Path) -> None:
    with (here / "file").open("wb") as file:
        (here / "file").unlink()
        assert error_of(lambda: os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)) == errno.ESTALE


def test_new_file_takes_the_name_of_an_unlinked_one(here: Path, there: Path) -> None:
    with (here / "file").open("w+b", buffering=0) as old:
        old.write(b"old")
        (here / "file").unlink()
        with (here / "file").open("xb", buffering=0) as new:
            new.write(b"new file")
            assert os.fstat(new.fileno()).st_ino != os.fstat(old.fileno()).st_ino
            assert os.pread(old.fileno(), 100, 0) == b"old"
            assert (here / "file").read_bytes() == b"new file"
    wait_for_names(there, "file")
    assert (there / "file").read_bytes() == b"new file"


def test_file_open_twice_and_unlinked_lives_until_the_last_close(here: Path, there: Path) -> None:
    (here / "file").write_bytes(b"content")
    one = os.open(here / "file", os.O_RDONLY)
    two = os.open(here / "file", os.O_RDWR)
    (here / "file").unlink()
    os.close(one)
    assert os.pread(two, 100, 0) == b"content"
    os.pwrite(two, b"C", 0)
    assert os.pread(two, 100, 0) == b"Content"
    os.close(two)
    wait_for_names(there)


def test_one_of_two_names_of_an_open_file_is_unlinked(here: Path, there: Path) -> None:
    (here / "a").write_bytes(b"content")
    os.link(here / "a", here / "b")
    with (here / "a").open("r+b", buffering=0) as file:
        (here / "a").unlink()
        file.write(b"CON")
        assert os.fstat(file.fileno()).st_nlink == 1
        assert (here / "b").read_bytes() == b"CONtent"
    wait_for_names(there, "b")
    assert (there / "b").read_bytes() == b"CONtent"
    assert (here / "b").stat().st_nlink == 1


def test_renamed_file_goes_on_under_its_handle(here: Path, there: Path) -> None:
    (here / "folder").mkdir()
    with (here / "a").open("w+b", buffering=0) as file:
        file.write(b"before")
        (here / "a").rename(here / "folder" / "b")
        file.write(b", after")
        assert os.pread(file.fileno(), 100, 0) == b"before, after"
        os.ftruncate(file.fileno(), 9)
        os.fsync(file.fileno())
        assert (there / "folder" / "b").read_bytes() == b"before, a"
        assert (here / "folder" / "b").read_bytes() == b"before, a"
    assert (here / "folder" / "b").stat().st_size == 9
    wait_for_names(there, "folder")


def test_open_file_in_a_renamed_folder(here: Path, there: Path) -> None:
    """A Windows-like server may refuse it; then nothing has changed."""
    (here / "a").mkdir()
    with (here / "a" / "file").open("w+b", buffering=0) as file:
        file.write(b"before")
        error = error_of(lambda: (here / "a").rename(here / "b"))
        assert error in {0, errno.EACCES, errno.EBUSY}
        name = "a" if error else "b"
        file.write(b", after")
        os.fsync(file.fileno())
        assert (here / name / "file").read_bytes() == b"before, after"
    assert (there / name / "file").read_bytes() == b"before, after"


def test_rename_over_an_open_file(here: Path, there: Path) -> None:
    (here / "new").write_bytes(b"new content")
    (here / "file").write_bytes(b"old")
    with (here / "file").open("r+b", buffering=0) as old:
        (here / "new").rename(here / "file")
        assert (here / "file").read_bytes() == b"new content"
        assert os.pread(old.fileno(), 100, 0) == b"old"
        assert os.fstat(old.fileno()).st_nlink == 0
        old.write(b"OLD")
        assert os.pread(old.fileno(), 100, 0) == b"OLD"
        assert os.listdir(here) == ["file"]
    wait_for_names(there, "file")
    assert (there / "file").read_bytes() == b"new content"


def test_rename_of_an_open_file_over_an_open_file(here: Path, there: Path) -> None:
    with (here / "a").open("w+b", buffering=0) as a, (here / "b").open("w+b", buffering=0) as b:
        a.write(b"from a")
        b.write(b"from b")
        (here / "a").rename(here / "b")
        a.write(b"!")
        b.write(b"?")
        assert os.pread(a.fileno(), 100, 0) == b"from a!"
        assert os.pread(b.fileno(), 100, 0) == b"from b?"
    wait_for_names(there, "b")
    assert (there / "b").read_bytes() == b"from a!"


def test_read_only_attribute_set_while_writing(here: Path, there: Path) -> None:
    with (here / "file").open("wb", buffering=0) as file:
        file.write(b"one")
        (here / "file").chmod(0o444)
        file.write(b", two")
    assert (there / "file").read_bytes() == b"one, two"
    (here / "file").chmod(0o644)


def test_handles_are_not_mixed_up(here: Path, there: Path) -> None:
    files = [(here / f"{number}").open("w+b", buffering=0) for number in range(100)]
    try:
        for number, file in enumerate(files):
            file.write(b"%d" % number * 10)
        for number, file in enumerate(files):
            assert os.pread(file.fileno(), 100, 0) == b"%d" % number * 10
    finally:
        for file in files:
            file.close()
    for number in range(100):
        assert (there / f"{number}").read_bytes() == b"%d" % number * 10


def test_file_deleted_by_another_client_while_open(alone: Path, share_path: Path) -> None:
    """Samba, on Linux, lets the handle live on; the name is gone."""
    (alone / "file").write_bytes(b"content")
    with (alone / "file").open("r+b", buffering=0) as file:
        (share_path / "file").unlink()
        assert os.pread(file.fileno(), 100, 0) == b"content"
        file.write(b"CON")
        os.fsync(file.fileno())
        assert os.pread(file.fileno(), 100, 0) == b"CONtent"
    assert error_of((alone / "file").read_bytes) == errno.ENOENT
    (alone / "file").write_bytes(b"new")
    assert (share_path / "file").read_bytes() == b"new"


def test_file_replaced_by_another_client_while_open(
    samba: SambaServer, alone: Path, share_path: Path
) -> None:
    """The handle keeps what it opened; whoever opens the name anew gets the new file."""
    (alone / "file").write_bytes(b"old")
    with (alone / "file").open("rb", buffering=0) as old:
        (share_path / "new").write_bytes(b"new content")
        samba.adopt(share_path)
        (share_path / "new").rename(share_path / "file")
        assert os.pread(old.fileno(), 100, 0) == b"old"
        assert (alone / "file").read_bytes() == b"new content"


def test_file_truncated_by_another_client_while_open(alone: Path, share_path: Path) -> None:
    (alone / "file").write_bytes(b"x" * 100_000)
    with (alone / "file").open("rb", buffering=0):
        os.truncate(share_path / "file", 10)
        assert (alone / "file").read_bytes() == b"x" * 10


def test_file_renamed_away_by_another_client(alone: Path, share_path: Path) -> None:
    (alone / "file").write_bytes(b"content")
    with (alone / "file").open("rb", buffering=0) as file:
        (share_path / "file").rename(share_path / "elsewhere")
        assert os.pread(file.fileno(), 100, 0) == b"content"
    assert error_of((alone / "file").read_bytes) == errno.ENOENT
    assert (alone / "elsewhere").read_bytes() == b"content"
