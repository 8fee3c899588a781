"""Times: as fine as the server stores them, and no value that breaks anything."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.factories import MountFactory, SambaFactory
from tests.support.samba import ShareConfig

pytestmark = pytest.mark.deadline(60)

SECOND: Final = 1_000_000_000
YEAR_1601: Final = -11_644_473_600
YEAR_1901: Final = -2_147_483_648
YEAR_2107: Final = 4_354_819_198
YEAR_2446: Final = 15_032_385_535
"""The last second that ext4, the server's own file system in these tests, can store."""
YEAR_60056: Final = 1_833_029_933_770
"""The last second of a FILETIME."""


@pytest.mark.parametrize(
    "time_ns",
    [
        1_234_567_890 * SECOND + 123_456_700,
        999_999_900,
        SECOND,
        100,
        -100,
        -SECOND,
        -2 * SECOND - 500,
        YEAR_1901 * SECOND,
        YEAR_2107 * SECOND + 999_999_900,
        (YEAR_2107 + 1_000_000) * SECOND,
        2**32 * SECOND,
        YEAR_2446 * SECOND,
    ],
)
def test_time_is_stored_exactly(here: Path, there: Path, time_ns: int) -> None:
    (here / "file").touch()
    os.utime(here / "file", ns=(time_ns, time_ns))
    assert (here / "file").stat().st_mtime_ns == time_ns
    assert (here / "file").stat().st_atime_ns == time_ns
    assert (there / "file").stat().st_mtime_ns == time_ns


@pytest.mark.parametrize("time_ns", [1_000_000_000_123_456_789, -1, 99, -SECOND - 1])
def test_time_finer_than_100_ns_is_rounded_down(here: Path, time_ns: int) -> None:
    (here / "file").touch()
    os.utime(here / "file", ns=(time_ns, time_ns))
    assert (here / "file").stat().st_mtime_ns == time_ns // 100 * 100


@pytest.mark.parametrize(
    "seconds", [0, -1, YEAR_1601, YEAR_1601 - 1, YEAR_1601 + 1, YEAR_60056, YEAR_60056 + 1, 2**40, -(2**40)]
)
def test_time_that_nobody_can_store_breaks_nothing(here: Path, there: Path, seconds: int) -> None:
    (here / "file").write_text("content")
    os.utime(here / "file", (seconds, seconds))
    assert (here / "file").stat().st_size == 7
    assert os.listdir(here) == os.listdir(there) == ["file"]
    os.utime(here / "file", (1_000_000, 2_000_000))
    assert ((here / "file").stat().st_atime, (here / "file").stat().st_mtime) == (1_000_000, 2_000_000)


def test_the_epoch_itself(here: Path, there: Path) -> None:
    (here / "file").touch()
    os.utime(here / "file", (0, 0))
    assert (here / "file").stat().st_mtime_ns == (there / "file").stat().st_mtime_ns == 0


def test_one_time_of_the_two(here: Path, there: Path) -> None:
    (here / "file").touch()
    os.utime(here / "file", (1_000_000, 2_000_000))
    for option, expected in (("-a", (3_000_000, 2_000_000)), ("-m", (3_000_000, 4_000_000))):
        when = "@3000000" if option == "-a" else "@4000000"
        subprocess.run(["touch", option, "-d", when, here / "file"], check=True, timeout=20)
        for path in (here / "file", there / "file"):
            assert (path.stat().st_atime, path.stat().st_mtime) == expected


def test_touch_sets_the_present(here: Path) -> None:
    (here / "file").touch()
    os.utime(here / "file", (0, 0))
    before = time.time()
    os.utime(here / "file")
    assert before - 2 <= (here / "file").stat().st_mtime <= time.time() + 2
    assert before - 2 <= (here / "file").stat().st_atime <= time.time() + 2


def test_times_of_folders_and_by_handle(here: Path, there: Path) -> None:
    (here / "folder").mkdir()
    os.utime(here / "folder", (1_000_000, 2_000_000))
    with (here / "file").open("w+b", buffering=0) as file:
        file.write(b"content")
        os.utime(file.fileno(), (3_000_000, 4_000_000))
        assert os.fstat(file.fileno()).st_mtime == 4_000_000
    assert (there / "folder").stat().st_mtime == (here / "folder").stat().st_mtime == 2_000_000
    assert (there / "file").stat().st_mtime == (here / "file").stat().st_mtime == 4_000_000


def test_time_set_before_the_close_survives_it(here: Path, there: Path) -> None:
    """As cp -p does: write, set the times, close."""
    with (here / "file").open("wb") as file:
        file.write(bytes(3_000_000))
        file.flush()
        os.utime(file.fileno(), (1_000_000, 2_000_000))
    assert (here / "file").stat().st_mtime == (there / "file").stat().st_mtime == 2_000_000


def test_writing_moves_mtime_and_ctime(here: Path) -> None:
    (here / "file").write_text("content")
    os.utime(here / "file", (1_000_000, 1_000_000))
    before = (here / "file").stat()
    with (here / "file").open("a") as file:
        file.write("more")
    after = (here / "file").stat()
    assert after.st_mtime > before.st_mtime == 1_000_000
    assert after.st_mtime > time.time() - 60
    assert after.st_ctime >= before.st_ctime


def test_truncating_moves_mtime(here: Path) -> None:
    (here / "file").write_text("content")
    os.utime(here / "file", (1_000_000, 1_000_000))
    os.truncate(here / "file", 3)
    assert (here / "file").stat().st_mtime > time.time() - 60


def test_reading_leaves_mtime_alone(here: Path) -> None:
    (here / "file").write_text("content")
    os.utime(here / "file", (1_000_000, 2_000_000))
    assert (here / "file").read_text() == "content"
    assert (here / "file").stat().st_mtime == 2_000_000


def test_chmod_and_rename_leave_mtime_alone(here: Path) -> None:
    (here / "file").write_text("content")
    os.utime(here / "file", (1_000_000, 2_000_000))
    (here / "file").chmod(0o444)
    (here / "file").rename(here / "renamed")
    assert (here / "renamed").stat().st_mtime == 2_000_000


def test_new_files_change_their_folders_mtime(here: Path) -> None:
    os.utime(here, (1_000_000, 1_000_000))
    (here / "file").touch()
    assert here.stat().st_mtime > time.time() - 60


@pytest.fixture
def tmpfs() -> Iterator[Path]:
    """A folder on a tmpfs, which stores times that no disk does."""
    folder = Path(tempfile.mkdtemp(prefix="smbmount-tmpfs-"))
    folder.chmod(0o755)
    options = "size=1m,mode=777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, timeout=20)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=20)
        folder.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount the file system for this test")
def test_server_whose_times_are_odd(
    tmpfs: Path, samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    """Its clock was wrong, or it is no friend."""
    odd = [YEAR_1601 - 1, YEAR_1601, -1, 0, 1, YEAR_2107, 2**33, YEAR_60056, YEAR_60056 + 1, 2**45, -(2**45)]
    for seconds in odd:
        (tmpfs / f"{seconds}").write_text("content")
        os.utime(tmpfs / f"{seconds}", (seconds, seconds))
    options = {"ea support": "no", "store dos attributes": "no"}
    server = samba_factory({"data": ShareConfig(tmpfs, options)})
    server.adopt(tmpfs)
    here = mount_factory(server).path
    with os.scandir(here) as entries:
        assert {entry.name: entry.stat().st_size for entry in entries} == {f"{seconds}": 7 for seconds in odd}
    for seconds in (1, YEAR_2107, 2**33):
        assert (here / f"{seconds}").stat().st_mtime == seconds
