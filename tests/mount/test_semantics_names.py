"""What rename, link, unlink, mkdir and rmdir promise."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(60)

AT_FDCWD = -100
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4


def rename_with_flags(source: Path, target: Path, flags: int) -> int:
    """renameat2(2), which Python does not have; returns the errno, or 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags)
    return ctypes.get_errno() if failed else 0


def tree(folder: Path) -> dict[str, str | None]:
    """What is below a folder: the content of files, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
    }


def check_both(here: Path, there: Path, expected: dict[str, str | None]) -> None:
    """The same is seen through the mount and on the server."""
    assert tree(there) == expected
    assert tree(here) == expected


def test_rename_of_a_file(here: Path, there: Path) -> None:
    (here / "a").write_text("content")
    number = (here / "a").stat().st_ino
    (here / "a").rename(here / "b")
    check_both(here, there, {"b": "content"})
    assert (here / "b").stat().st_ino == number
    assert not (here / "a").exists()


def test_rename_of_a_folder_with_all_below(here: Path, there: Path) -> None:
    (here / "a" / "deep" / "deeper").mkdir(parents=True)
    (here / "a" / "deep" / "deeper" / "file").write_text("content")
    (here / "other").mkdir()
    (here / "a").rename(here / "other" / "b")
    expected = {
        "other": None,
        "other/b": None,
        "other/b/deep": None,
        "other/b/deep/deeper": None,
        "other/b/deep/deeper/file": "content",
    }
    check_both(here, there, expected)
    (here / "other" / "b" / "deep" / "deeper" / "file").write_text("changed")
    assert (there / "other" / "b" / "deep" / "deeper" / "file").read_text() == "changed"


def test_rename_over_a_file(here: Path, there: Path) -> None:
    (here / "a").write_text("new")
    (here / "b").write_text("old")
    (here / "a").rename(here / "b")
    check_both(here, there, {"b": "new"})


def test_rename_over_a_read_only_file(here: Path, there: Path) -> None:
    (here / "a").write_text("new")
    (here / "b").write_text("old")
    (here / "b").chmod(0o444)
    (here / "a").rename(here / "b")
    check_both(here, there, {"b": "new"})


def test_rename_over_an_empty_folder(here: Path, there: Path) -> None:
    (here / "a").mkdir()
    (here / "a" / "file").write_text("content")
    (here / "b").mkdir()
    (here / "a").rename(here / "b")
    check_both(here, there, {"b": None, "b/file": "content"})


def test_rename_over_what_cannot_be_replaced(here: Path, there: Path) -> None:
    (here / "folder").mkdir()
    (here / "full").mkdir()
    (here / "full" / "file").write_text("inside")
    (here / "file").write_text("content")
    before = tree(there)
    assert error_of(lambda: (here / "folder").rename(here / "full")) in {errno.ENOTEMPTY, errno.EEXIST}
    assert error_of(lambda: (here / "file").rename(here / "folder")) == errno.EISDIR
    assert error_of(lambda: (here / "file").rename(here / "full")) == errno.EISDIR
    assert error_of(lambda: (here / "folder").rename(here / "file")) == errno.ENOTDIR
    assert error_of(lambda: (here / "missing").rename(here / "x")) == errno.ENOENT
    assert error_of(lambda: (here / "file").rename(here / "missing" / "x")) == errno.ENOENT
    assert error_of(lambda: (here / "file").rename(here / "file" / "x")) == errno.ENOTDIR
    check_both(here, there, before)


def test_rename_into_itself(here: Path, there: Path) -> None:
    (here / "a" / "b").mkdir(parents=True)
    assert error_of(lambda: (here / "a").rename(here / "a" / "c")) == errno.EINVAL
    assert error_of(lambda: (here / "a").rename(here / "a" / "b" / "c")) == errno.EINVAL
    assert error_of(lambda: (here / "a" / "b").rename(here / "a")) == errno.ENOTEMPTY
    (here / "a").rename(here / "a")
    check_both(here, there, {"a": None, "a/b": None})


def test_rename_of_one_hard_link_over_the_other_changes_nothing(here: Path, there: Path) -> None:
    (here / "a").write_text("content")
    os.link(here / "a", here / "b")
    (here / "a").rename(here / "b")
    check_both(here, there, {"a": "content", "b": "content"})


def test_rename_without_replacing(here: Path, there: Path) -> None:
    for name in ("a", "b"):
        (here / name).write_text(name)
    (here / "folder").mkdir()
    assert rename_with_flags(here / "a", here / "b", RENAME_NOREPLACE) == errno.EEXIST
    assert rename_with_flags(here / "a", here / "folder", RENAME_NOREPLACE) == errno.EEXIST
    assert rename_with_flags(here / "a", here / "c", RENAME_NOREPLACE) == 0
    check_both(here, there, {"b": "b", "c": "a", "folder": None})


def test_rename_without_replacing_sees_what_another_client_made(
    samba: SambaServer, here: Path, there: Path
) -> None:
    (here / "a").write_text("mine")
    assert not (here / "b").exists()
    (there / "b").write_text("theirs")
    samba.adopt(there)
    assert rename_with_flags(here / "a", here / "b", RENAME_NOREPLACE) == errno.EEXIST
    assert (there / "b").read_text() == "theirs"


@pytest.mark.parametrize("flags", [RENAME_EXCHANGE, RENAME_WHITEOUT])
def test_exchange_is_refused(here: Path, there: Path, flags: int) -> None:
    for name in ("a", "b"):
        (here / name).write_text(name)
    assert rename_with_flags(here / "a", here / "b", flags) == errno.EINVAL
    check_both(here, there, {"a": "a", "b": "b"})


def test_rename_across_folders(here: Path, there: Path) -> None:
    for name in ("x", "y"):
        (here / name).mkdir()
    (here / "x" / "a").write_text("new")
    (here / "y" / "a").write_text("old")
    (here / "x" / "a").rename(here / "y" / "a")
    check_both(here, there, {"x": None, "y": None, "y/a": "new"})


def test_rename_over_a_folder_that_another_client_moved_there(
    mount_factory: MountFactory, samba: SambaServer, share_path: Path
) -> None:
    """The kernel cannot move the folder it knows while it holds its lock for renaming: a look first helps."""
    here = mount_factory(samba, folder=share_path.name, options=["actimeo=0"]).path
    for name in ("x", "y", "moved"):
        (here / name).mkdir()
    (here / "x" / "file").write_text("content")
    (share_path / "moved").rename(share_path / "y" / "moved")
    assert error_of(lambda: (here / "x" / "file").rename(here / "y" / "moved")) == errno.ESTALE
    assert (here / "y" / "moved").is_dir()
    assert error_of(lambda: (here / "x" / "file").rename(here / "y" / "moved")) == errno.EISDIR
    check_both(here, share_path, {"x": None, "x/file": "content", "y": None, "y/moved": None})


def test_rename_back_and_forth(here: Path, there: Path) -> None:
    (here / "a").write_text("content")
    for _ in range(20):
        (here / "a").rename(here / "b")
        assert os.listdir(here) == ["b"]
        (here / "b").rename(here / "a")
        assert os.listdir(here) == ["a"]
    check_both(here, there, {"a": "content"})


def test_hard_links_count_right_through_both_names(here: Path, there: Path) -> None:
    one, two, three = (here / name for name in ("one", "two", "three"))
    one.write_text("content")
    assert one.stat().st_nlink == 1
    os.link(one, two)
    assert one.stat().st_nlink == two.stat().st_nlink == 2
    assert one.stat().st_ino == two.stat().st_ino
    assert (there / "one").samefile(there / "two")
    os.link(two, three)
    assert {path.stat().st_nlink for path in (one, two, three)} == {3}
    two.write_text("changed, and longer")
    assert one.read_text() == three.read_text() == "changed, and longer"
    assert one.stat().st_size == 19
    one.unlink()
    assert {path.stat().st_nlink for path in (two, three)} == {2}
    two.unlink()
    assert three.stat().st_nlink == 1
    check_both(here, there, {"three": "changed, and longer"})


def test_hard_link_that_cannot_be(here: Path, there: Path) -> None:
    for name in ("a", "b"):
        (here / name).write_text(name)
    (here / "folder").mkdir()
    assert error_of(lambda: os.link(here / "a", here / "b")) == errno.EEXIST
    assert error_of(lambda: os.link(here / "a", here / "folder")) == errno.EEXIST
    assert error_of(lambda: os.link(here / "missing", here / "c")) == errno.ENOENT
    assert error_of(lambda: os.link(here / "a", here / "missing" / "c")) == errno.ENOENT
    assert error_of(lambda: os.link(here / "folder", here / "c")) == errno.EPERM
    check_both(here, there, {"a": "a", "b": "b", "folder": None})


def test_hard_link_of_an_open_file_with_data_on_its_way(here: Path, there: Path) -> None:
    with (here / "a").open("wb", buffering=0) as file:
        file.write(b"content")
        os.link(here / "a", here / "b")
        assert (here / "b").read_bytes() == b"content"
        assert os.fstat(file.fileno()).st_nlink == 2
    check_both(here, there, {"a": "content", "b": "content"})


def test_unlink(here: Path, there: Path) -> None:
    (here / "file").touch()
    (here / "folder").mkdir()
    (here / "file").unlink()
    assert error_of((here / "file").unlink) == errno.ENOENT
    assert error_of((here / "folder").unlink) == errno.EISDIR
    check_both(here, there, {"folder": None})


def test_unlink_of_a_read_only_file(here: Path, there: Path) -> None:
    (here / "file").touch()
    (here / "file").chmod(0o444)
    (here / "file").unlink()
    check_both(here, there, {})


def test_mkdir_and_rmdir(here: Path, there: Path) -> None:
    (here / "folder").mkdir()
    assert error_of((here / "folder").mkdir) == errno.EEXIST
    (here / "file").touch()
    assert error_of((here / "file").mkdir) == errno.EEXIST
    assert error_of((here / "missing" / "below").mkdir) == errno.ENOENT
    assert error_of((here / "file" / "below").mkdir) == errno.ENOTDIR
    assert error_of((here / "file").rmdir) == errno.ENOTDIR
    (here / "folder" / "file").write_text("content")
    assert error_of((here / "folder").rmdir) == errno.ENOTEMPTY
    check_both(here, there, {"folder": None, "folder/file": "content", "file": ""})
    (here / "folder" / "file").unlink()
    (here / "folder").rmdir()
    assert error_of((here / "folder").rmdir) == errno.ENOENT
    check_both(here, there, {"file": ""})


def test_rmdir_of_what_another_client_filled(samba: SambaServer, here: Path, there: Path) -> None:
    (here / "folder").mkdir()
    assert os.listdir(here / "folder") == []
    (there / "folder" / "file").write_text("theirs")
    samba.adopt(there)
    assert error_of((here / "folder").rmdir) == errno.ENOTEMPTY
    assert (there / "folder" / "file").read_text() == "theirs"


def test_the_same_name_again_and_again(here: Path, there: Path) -> None:
    """Old answers must never be given for a new file of the same name."""
    for number in range(15):
        (here / "name").write_text(str(number) * number)
        assert (here / "name").stat().st_size == len(str(number)) * number
        (here / "name").unlink()
        assert not (here / "name").exists()
        (here / "name").mkdir()
        assert (here / "name").is_dir()
        (here / "name").rmdir()
    check_both(here, there, {})


def test_deep_folders(here: Path, there: Path) -> None:
    path = here
    for level in range(40):
        path = path / f"level {level:02}"
    path.mkdir(parents=True)
    (path / "file").write_text("deep")
    assert (there / path.relative_to(here) / "file").read_text() == "deep"
    (here / "level 00").rename(here / "top")
    assert (here / "top" / path.relative_to(here / "level 00") / "file").read_text() == "deep"


def test_folder_gone_under_our_feet(here: Path, there: Path) -> None:
    (here / "folder" / "inner").mkdir(parents=True)
    (here / "folder" / "file").write_text("content")
    descriptor = os.open(here / "folder", os.O_RDONLY)
    try:
        (there / "folder" / "file").unlink()
        (there / "folder" / "inner").rmdir()
        (there / "folder").rmdir()
        create = os.O_CREAT | os.O_WRONLY
        assert error_of(lambda: os.open("new", create, dir_fd=descriptor)) in {errno.ENOENT, errno.ESTALE}
        assert error_of((here / "folder" / "file").read_text) in {errno.ENOENT, errno.ESTALE}
        assert error_of((here / "folder" / "inner" / "x").mkdir) in {errno.ENOENT, errno.ESTALE}
    finally:
        os.close(descriptor)
    (here / "other").mkdir()
    assert (there / "other").is_dir()
