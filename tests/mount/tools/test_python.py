"""What Python's own library does with files."""

from __future__ import annotations

import filecmp
import os
import shelve
import shutil
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.tools import Place, bash, differences, make_tree, noise, survey


def test_shutil_copies_moves_and_removes_trees(place: Place, local: Path) -> None:
    make_tree(local / "tree")
    shutil.copytree(local / "tree", place.path / "a", symlinks=True)
    assert differences(survey(local / "tree"), survey(place.path / "a")) == []
    shutil.move(place.path / "a", place.path / "b")
    shutil.copytree(place.path / "b", place.path / "c", symlinks=True)
    shutil.move(place.path / "c", local / "c")
    assert differences(survey(local / "tree"), survey(local / "c")) == []
    assert filecmp.cmp(place.path / "b" / "src" / "file 3.bin", local / "c" / "src" / "file 3.bin", False)
    shutil.rmtree(place.path / "b")
    assert os.listdir(place.server_path) == []


def test_temporary_files_and_folders(place: Place) -> None:
    with tempfile.TemporaryDirectory(dir=place.path) as folder:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"x" * 100_000)
            file.flush()
            assert Path(file.name).stat().st_size == 100_000
        with tempfile.TemporaryFile(dir=folder) as nameless:
            nameless.write(b"nameless")
            nameless.seek(0)
            assert nameless.read() == b"nameless"
            assert os.listdir(folder) == []
        with tempfile.SpooledTemporaryFile(max_size=10, dir=folder) as spooled:
            spooled.write(b"more than ten bytes")
            spooled.seek(0)
            assert spooled.read() == b"more than ten bytes"
    assert os.listdir(place.server_path) == []


def test_os_replace_and_pathlib(place: Place) -> None:
    first, second = place.path / "first", place.path / "second"
    first.write_text("1")
    second.write_text("2")
    inode = first.stat().st_ino
    os.replace(first, second)
    assert (second.read_text(), second.stat().st_ino, first.exists()) == ("1", inode, False)
    deep = place.path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "ü").touch(exist_ok=False)
    with pytest.raises(FileExistsError):
        (deep / "ü").touch(exist_ok=False)
    assert sorted(path.name for path in place.path.rglob("*")) == ["a", "b", "c", "second", "ü"]
    assert second.samefile(place.path / "a" / ".." / "second")
    with pytest.raises(OSError, match="not empty"):
        (place.path / "a").rmdir()
    with pytest.raises(NotADirectoryError):
        (second / "below").touch()


def test_archives_and_databases(place: Place, local: Path) -> None:
    make_tree(local / "tree")
    with zipfile.ZipFile(place.path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (local / "tree" / "src").rglob("*"):
            archive.write(path, path.relative_to(local))
    with zipfile.ZipFile(place.path / "z.zip", "a") as archive:
        archive.writestr("added", "later")
        assert archive.testzip() is None
        archive.extractall(place.path / "out")
    assert (place.path / "out" / "added").read_text() == "later"
    archive_file = shutil.make_archive(str(place.path / "t"), "xztar", place.path / "out")
    shutil.unpack_archive(archive_file, place.path / "again")
    assert filecmp.dircmp(place.path / "out", place.path / "again").diff_files == []
    with shelve.open(str(place.path / "shelf")) as shelf:
        shelf["key"] = list(range(1000))
    with shelve.open(str(place.path / "shelf"), "r") as shelf:
        assert shelf["key"][-1] == 999


def test_many_threads_at_a_time(place: Place) -> None:
    def one(number: int) -> int:
        path = place.path / f"{number % 7}" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(noise(number * 997 % 70_000, str(number)))
        assert path.read_bytes() == noise(number * 997 % 70_000, str(number))
        path.rename(path.with_suffix(".done"))
        return path.with_suffix(".done").stat().st_size

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(200))) == [number * 997 % 70_000 for number in range(200)]
    assert bash("find . -name '*.done' | wc -l", cwd=place.path) == "200\n"
