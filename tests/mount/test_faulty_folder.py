"""The faulty folder itself: an ordinary folder until it is told otherwise, and nothing is left of it."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from smbmount.mounttable import topmost_mount
from tests.support.calls import error_of
from tests.support.faulty_folder import Fail, FaultyFolder, Heal, Room, Short, Slow
from tests.support.tools import make_tree, survey

_CHECKOUT: Final = Path(__file__).resolve().parents[2]

_OWNER: Final = """
import sys
from tests.support.faulty_folder import FaultyFolder
with FaultyFolder() as folder:
    print(folder.pid, folder.path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[FaultyFolder]:
    """One for all."""
    with FaultyFolder() as folder:
        yield folder


@pytest.fixture
def path(folder: FaultyFolder) -> Iterator[Path]:
    """Where it is, empty and without troubles."""
    yield folder.path
    folder.tell(Heal())
    subprocess.run(["find", folder.backing, "-mindepth", "1", "-delete"], check=True, timeout=20)


def test_it_is_an_ordinary_folder(folder: FaultyFolder, path: Path) -> None:
    make_tree(path / "tree")
    (path / "tree" / "file 1.bin").rename(path / "renamed")
    os.link(path / "renamed", path / "second name")
    os.setxattr(path / "renamed", "user.note", b"value")
    assert os.getxattr(path / "second name", "user.note") == b"value"
    (path / "renamed").unlink()
    assert survey(path) == survey(folder.backing)
    assert len(survey(path)) > 20
    with (path / "second name").open("r+b") as file:
        (path / "second name").unlink()
        file.truncate(100)
        assert os.fstat(file.fileno()).st_size == 100
    assert os.statvfs(path).f_blocks == os.statvfs(folder.backing).f_blocks


def test_operation_that_fails(folder: FaultyFolder, path: Path) -> None:
    before = folder.tell(Fail("write", errno.EDQUOT, times=2, after=1))
    with (path / "file").open("wb", buffering=0) as file:
        errors = [error_of(lambda: file.write(b"x")) for _ in range(5)]
        assert errors == [0, errno.EDQUOT, errno.EDQUOT, 0, 0]
        calls = folder.tell(Fail("fsync"))
        assert calls.begun["write"] - before.begun.get("write", 0) == 5
        assert calls.failed["write"] - before.failed.get("write", 0) == 2
        assert error_of(lambda: os.fsync(file.fileno())) == errno.EIO
        assert error_of(lambda: (path / "other").touch()) == 0
        folder.tell(Heal())
        os.fsync(file.fileno())


def test_disk_that_is_full(folder: FaultyFolder, path: Path) -> None:
    folder.tell(Room(1000))
    with (path / "file").open("wb", buffering=0) as file:
        assert file.write(bytes(700)) == 700
        assert file.write(bytes(700)) == 300
        assert error_of(lambda: file.write(bytes(1))) == errno.ENOSPC
        folder.tell(Room(1, errno.EDQUOT))
        assert file.write(bytes(2)) == 1
        assert error_of(lambda: file.write(bytes(1))) == errno.EDQUOT
        folder.tell(Room(None))
        assert file.write(bytes(2)) == 2
    assert (folder.backing / "file").stat().st_size == 1003


def test_short_reads_and_writes(folder: FaultyFolder, path: Path) -> None:
    folder.tell(Short(reads=3, writes=5))
    with (path / "file").open("w+b", buffering=0) as file:
        assert file.write(b"0123456789") == 5
        assert os.pread(file.fileno(), 10, 0) == b"012"
    assert (folder.backing / "file").read_bytes() == b"01234"


def test_slow_operation_holds_up_nobody_else(folder: FaultyFolder, path: Path) -> None:
    (path / "file").write_bytes(b"content")
    folder.tell(Slow("read", 0.5))
    read = "import sys; open(sys.argv[1], 'rb').read()"
    with subprocess.Popen([sys.executable, "-c", read, path / "file"]) as reader:
        before = folder.calls().begun.get("read", 0)
        calls = folder.wait_for(lambda calls: calls.begun.get("read", 0) > before, "the read")
        start = time.monotonic()
        (path / "other").write_bytes(b"content")
        assert folder.calls().begun["read"] == calls.begun["read"], "the slow read is over already"
        assert reader.wait(30) == 0
        assert time.monotonic() - start > 0.2


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_owner(end: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(_CHECKOUT)}
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    with owner:
        assert owner.stdout is not None
        number, _, path = os.fsdecode(owner.stdout.readline()).strip().partition(" ")
        assert topmost_mount(path) is not None
        process = os.pidfd_open(int(number))
        in_use = os.open(Path(path, "file"), os.O_CREAT | os.O_WRONLY)
        try:
            owner.send_signal(end)
            assert select.select([process], [], [], 20)[0], "the file system is still there"
        finally:
            os.close(process)
            assert error_of(lambda: os.close(in_use)) == errno.ENOTCONN
    assert topmost_mount(path) is None
    assert not Path(path).parent.exists()


def test_process_that_was_killed_leaves_nothing() -> None:
    with FaultyFolder() as folder:
        os.kill(folder.pid, signal.SIGKILL)
    assert topmost_mount(str(folder.path)) is None
    assert not folder.path.parent.exists()
