"""What a walk through a folder promises."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import time
from pathlib import Path

import pytest

from tests.support.factories import MountFactory
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(90)

SYS_GETDENTS64 = {"x86_64": 217, "aarch64": 61}[os.uname().machine]
_DIRENT = struct.Struct("=QqHB")


class Walk:
    """A folder read with getdents64(2) in small pieces, as a slow program would; a context manager."""

    def __init__(self, folder: Path, piece: int = 512) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._buffer = ctypes.create_string_buffer(piece)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)

    def piece(self) -> list[tuple[str, int]]:
        """The next few names with the cookies behind them; empty at the end."""
        length = self._libc.syscall(SYS_GETDENTS64, self._descriptor, self._buffer, len(self._buffer))
        if length < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        entries, offset = [], 0
        while offset < length:
            _, cookie, size, _ = _DIRENT.unpack_from(self._buffer, offset)
            name = self._buffer.raw[offset + _DIRENT.size : offset + size].split(b"\0", 1)[0]
            entries.append((os.fsdecode(name), cookie))
            offset += size
        return entries

    def rest(self) -> list[tuple[str, int]]:
        """All that is left."""
        entries = []
        while piece := self.piece():
            entries += piece
        return entries

    def seek(self, cookie: int) -> None:
        """seekdir(3); 0 is rewinddir(3)."""
        os.lseek(self._descriptor, cookie, os.SEEK_SET)


def fill(samba: SambaServer, folder: Path, count: int) -> list[str]:
    """Make files on the server."""
    names = [f"file {number:05}" for number in range(count)]
    for name in names:
        (folder / name).touch()
    samba.adopt(folder)
    return names


def test_dot_and_dot_dot_come_first_and_once(here: Path) -> None:
    (here / "inner").mkdir()
    for folder, names in ((here, ["inner"]), (here / "inner", [])):
        with Walk(folder) as walk:
            assert [name for name, _ in walk.rest()] == [".", "..", *names]
    assert (here / "inner" / "..").stat().st_ino == here.stat().st_ino
    assert (here / "inner" / ".").stat().st_ino == (here / "inner").stat().st_ino


def test_every_stable_name_once_while_the_folder_changes(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    names = fill(samba, share_path, 1500)
    doomed, stable = set(names[::3]), [name for index, name in enumerate(names) if index % 3]
    here = mount_factory(samba, folder=share_path.name).path
    seen: list[str] = []
    with Walk(here) as walk:
        left = sorted(doomed)
        while piece := walk.piece():
            seen += [name for name, _ in piece]
            if left:
                (here / left.pop()).unlink()
                (here / f"new {len(seen):05}").touch()
                (share_path / left.pop(0)).unlink()
                (share_path / f"theirs {len(seen):05}").touch()
    assert len(seen) == len(set(seen))
    assert set(stable) <= set(seen)


def test_seek_and_tell(samba: SambaServer, share_path: Path, mount_factory: MountFactory) -> None:
    fill(samba, share_path, 300)
    with Walk(mount_factory(samba, folder=share_path.name).path) as walk:
        entries = walk.rest()
        for index in (0, 1, 2, 100, 299, len(entries) - 1):
            walk.seek(entries[index][1])
            assert walk.rest() == entries[index + 1 :]
        walk.seek(0)
        assert walk.rest() == entries


def test_rewind_shows_what_changed(here: Path) -> None:
    (here / "old").touch()
    with Walk(here) as walk:
        assert {name for name, _ in walk.rest()} == {".", "..", "old"}
        (here / "old").unlink()
        (here / "new").touch()
        walk.seek(0)
        assert {name for name, _ in walk.rest()} == {".", "..", "new"}


def test_own_changes_show_in_the_next_listing(here: Path) -> None:
    for number in range(30):
        (here / f"{number}").touch()
        assert len(os.listdir(here)) == number + 1
    for number in range(30):
        (here / f"{number}").unlink()
        assert len(os.listdir(here)) == 29 - number


def test_listing_tells_kinds_sizes_and_numbers(here: Path) -> None:
    (here / "file").write_bytes(b"12345")
    (here / "folder").mkdir()
    (here / "link").symlink_to("file")
    with os.scandir(here) as entries:
        found = {entry.name: entry for entry in entries}
    assert found["file"].is_file(follow_symlinks=False)
    assert found["folder"].is_dir(follow_symlinks=False)
    assert found["link"].is_symlink()
    assert found["file"].stat(follow_symlinks=False).st_size == 5
    assert found["link"].stat(follow_symlinks=False).st_size == len("file")
    for name, entry in found.items():
        assert entry.inode() == os.lstat(here / name).st_ino


def test_folder_changed_by_another_client_shows_within_actimeo(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    here = mount_factory(samba, folder=share_path.name, options=["actimeo=0"]).path
    assert os.listdir(here) == []
    (share_path / "new").touch()
    samba.adopt(share_path)
    assert os.listdir(here) == ["new"]
    (share_path / "new").unlink()
    assert os.listdir(here) == []


def test_opening_twice_walks_independently(samba: SambaServer, here: Path) -> None:
    for number in range(50):
        (here / f"{number}").touch()
    with Walk(here) as one, Walk(here) as two:
        first = one.piece()
        assert len(two.rest()) == 52
        assert len(first) + len(one.rest()) == 52


def test_folder_removed_while_it_is_listed(here: Path) -> None:
    """The kernel itself ends such a walk."""
    (here / "folder").mkdir()
    (here / "folder" / "file").touch()
    with Walk(here / "folder") as walk:
        walk.piece()
        (here / "folder" / "file").unlink()
        (here / "folder").rmdir()
        with pytest.raises(FileNotFoundError):
            walk.rest()
    assert not (here / "folder").exists()


def test_ten_thousand_entries_cold(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    names = fill(samba, share_path, 10_000)
    here = mount_factory(samba, folder=share_path.name).path
    started = time.monotonic()
    with os.scandir(here) as entries:
        sizes = {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}
    seconds = time.monotonic() - started
    with capsys.disabled():
        sys.stdout.write(f"\n10,000 entries with their attributes, cold: {seconds:.2f} s\n")
    assert sizes == dict.fromkeys(names, 0)
    assert seconds < 2
