"""Rows 13 and 22 of the table of faults: the server's disk is full, broken or slow, or does little at once.

The share's path is a folder that fails on command; smbd, the kernel and the mount are the real ones.
"""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory, SambaFactory
from tests.support.faulty_folder import Fail, FaultyFolder, Heal, Room, Short, Slow
from tests.support.mounting import CHECKOUT, Mount
from tests.support.samba import SambaServer, ShareConfig
from tests.support.tools import noise, wait_until

pytestmark = pytest.mark.deadline(60)

ROOM: Final = 2**20
PIECE: Final = 2**17
TOO_MUCH: Final = 4 * 2**20


@pytest.fixture(scope="module")
def disk() -> Iterator[FaultyFolder]:
    """The folder, for all tests of this module."""
    with FaultyFolder() as folder:
        yield folder


@pytest.fixture(scope="module")
def server(disk: FaultyFolder) -> Iterator[SambaServer]:
    """A server whose share is the folder."""
    with SambaServer({"data": ShareConfig(disk.path)}) as server:
        yield server


@pytest.fixture(scope="module")
def mounted(server: SambaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount of it."""
    with Mount(server, tmp_path_factory.mktemp("storage")) as mount:
        yield mount


@pytest.fixture
def there(disk: FaultyFolder, here: Path) -> Iterator[Path]:
    """The folder of the test on the disk itself, which works again when the test ends."""
    yield disk.backing / here.name
    disk.tell(Heal())


def write_until_an_error(descriptor: int, content: bytes) -> list[int]:
    """Write in pieces, as cp does, and stop at the first error; the errors."""
    for start in range(0, len(content), PIECE):
        if error := error_of(partial(os.write, descriptor, content[start : start + PIECE])):
            return [error]
    return []


def put(there: Path, here: Path, content: bytes) -> None:
    """Make the file on the disk; on return the mount knows of it, and nothing of its content."""
    (there / "file").write_bytes(content)
    (there / "file").chmod(0o666)
    wait_until((here / "file").exists, "the new file")


def errors_of_the_rest(descriptor: int) -> list[int]:
    """The errors of two fsyncs and the close."""
    calls = [partial(os.fsync, descriptor), partial(os.fsync, descriptor), partial(os.close, descriptor)]
    return [error for error in map(error_of, calls) if error]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT], ids=["disk", "quota"])
def test_fault_13_full_disk_is_told_once_and_the_size_is_right(
    disk: FaultyFolder, here: Path, there: Path, error: int
) -> None:
    """Samba tells a quota as a full disk, so ENOSPC it is."""
    content = noise(TOO_MUCH, "full")
    disk.tell(Room(ROOM, error))
    descriptor = os.open(here / "file", os.O_CREAT | os.O_RDWR)
    errors = write_until_an_error(descriptor, content)
    errors += [error_of(lambda: os.fsync(descriptor))]
    assert os.fstat(descriptor).st_size == ROOM
    errors += errors_of_the_rest(descriptor)
    assert [error for error in errors if error] == [errno.ENOSPC]
    assert (there / "file").read_bytes() == content[:ROOM]
    assert (here / "file").stat().st_size == ROOM
    assert (here / "file").read_bytes() == content[:ROOM]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT], ids=["disk", "quota"])
def test_fault_13_full_disk_is_told_at_the_latest_at_close(
    disk: FaultyFolder, here: Path, there: Path, error: int
) -> None:
    disk.tell(Room(0, error))
    descriptor = os.open(here / "file", os.O_CREAT | os.O_WRONLY)
    errors = [error_of(lambda: os.write(descriptor, b"a little")), error_of(lambda: os.close(descriptor))]
    assert [error for error in errors if error] == [errno.ENOSPC]
    assert (here / "file").stat().st_size == (there / "file").stat().st_size == 0


def test_fault_13_each_open_file_is_told_of_its_own_loss(disk: FaultyFolder, here: Path, there: Path) -> None:
    (here / "c").write_bytes(b"content")
    writers = [os.open(here / name, os.O_CREAT | os.O_WRONLY) for name in ("a", "b", "c")]
    disk.tell(Room(0))
    told = [write_until_an_error(writer, bytes(10)) + errors_of_the_rest(writer) for writer in writers[:2]]
    assert told == [[errno.ENOSPC]] * 2
    assert errors_of_the_rest(writers[2]) == []


def test_fault_13_file_is_intact_when_there_is_room_again(
    disk: FaultyFolder, here: Path, there: Path
) -> None:
    """The program goes on in the same open file, from where the disk was full."""
    content = noise(TOO_MUCH, "again")
    disk.tell(Room(ROOM))
    descriptor = os.open(here / "file", os.O_CREAT | os.O_WRONLY)
    assert write_until_an_error(descriptor, content) or error_of(lambda: os.fsync(descriptor))
    disk.tell(Room(None))
    size = os.fstat(descriptor).st_size
    assert size == ROOM
    os.lseek(descriptor, size, os.SEEK_SET)
    assert write_until_an_error(descriptor, content[size:]) == []
    assert errors_of_the_rest(descriptor) == []
    assert (there / "file").read_bytes() == (here / "file").read_bytes() == content


def test_fault_13_old_content_survives_a_full_disk(disk: FaultyFolder, here: Path, there: Path) -> None:
    old = noise(ROOM, "old")
    (here / "file").write_bytes(old)
    disk.tell(Room(0, errno.EDQUOT))
    with (here / "file").open("ab", buffering=0) as file:
        assert [error_of(lambda: file.write(b"more")), error_of(lambda: os.fsync(file.fileno()))].count(
            0
        ) == 1
    assert (there / "file").read_bytes() == (here / "file").read_bytes() == old


def test_fault_13_nothing_can_be_made_without_room_and_nothing_is_left(
    disk: FaultyFolder, here: Path, there: Path
) -> None:
    for operation in ("create", "mkdir"):
        disk.tell(Fail(operation, errno.EDQUOT))
    assert error_of((here / "file").touch) == errno.ENOSPC
    assert error_of((here / "folder").mkdir) == errno.ENOSPC
    assert os.listdir(here) == os.listdir(there) == []
    disk.tell(Heal())
    (here / "file").touch()
    (here / "folder").mkdir()
    assert sorted(os.listdir(there)) == ["file", "folder"]


@pytest.mark.parametrize("size", [4096, 3_000_000])
def test_fault_13_memory_map_is_told_once_at_msync(
    disk: FaultyFolder, here: Path, there: Path, size: int
) -> None:
    (here / "file").write_bytes(bytes(size))
    with (here / "file").open("r+b") as file:
        with mmap.mmap(file.fileno(), size) as memory:
            memory[:] = b"x" * size
            disk.tell(Fail("write", errno.ENOSPC))
            assert error_of(memory.flush) == errno.ENOSPC
        assert error_of(partial(os.fsync, file.fileno())) == 0
        disk.tell(Heal())
        with mmap.mmap(file.fileno(), size) as memory:
            memory[:] = b"y" * size
            assert error_of(memory.flush) == 0
    assert (there / "file").read_bytes() == b"y" * size


@pytest.mark.parametrize("target", ["new", "old"])
def test_fault_13_copy_on_the_server_that_does_not_fit(
    disk: FaultyFolder, here: Path, there: Path, target: str
) -> None:
    """Neither a torso is left, nor is what was there before touched."""
    (here / "source").write_bytes(noise(TOO_MUCH, "copy"))
    (here / "old").write_bytes(b"content")
    disk.tell(Room(ROOM))
    done = subprocess.run(
        [sys.executable, "-m", "smbmount.ctl", "cp", here / "source", here / target],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert done.returncode != 0
    assert "the disk is full" in done.stderr
    assert sorted(os.listdir(here)) == sorted(os.listdir(there)) == ["old", "source"]
    assert (there / "old").read_bytes() == b"content"


def test_fault_13_broken_disk_is_eio_once(disk: FaultyFolder, here: Path, there: Path) -> None:
    disk.tell(Fail("write", errno.EIO, times=1))
    descriptor = os.open(here / "file", os.O_CREAT | os.O_WRONLY)
    assert write_until_an_error(descriptor, b"lost") + errors_of_the_rest(descriptor) == [errno.EIO]
    (here / "file").write_bytes(b"content")
    assert (there / "file").read_bytes() == b"content"


def test_fault_13_fsync_that_fails_on_the_server_fails_here(
    disk: FaultyFolder, here: Path, there: Path
) -> None:
    disk.tell(Fail("fsync", errno.EIO, times=1))
    descriptor = os.open(here / "file", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"content")
    assert errors_of_the_rest(descriptor) == [errno.EIO]
    assert (there / "file").read_bytes() == b"content"


def test_fault_13_broken_disk_at_a_read(disk: FaultyFolder, here: Path, there: Path) -> None:
    content = noise(300_000, "read")
    disk.tell(Fail("read", errno.EIO))
    put(there, here, content)
    assert error_of((here / "file").read_bytes) == errno.EIO
    disk.tell(Heal())
    assert (here / "file").read_bytes() == content


@pytest.mark.parametrize("most", [4097, 1_000_003])
def test_fault_22_short_writes_are_completed(disk: FaultyFolder, here: Path, there: Path, most: int) -> None:
    content = noise(TOO_MUCH + 1, "short")
    before = disk.tell(Short(writes=most)).begun.get("write", 0)
    (here / "file").write_bytes(content)
    assert disk.calls().begun["write"] - before > len(content) // most
    assert (there / "file").read_bytes() == content
    with (here / "file").open("r+b") as file:
        file.seek(1_234_567)
        file.write(content[:5000])
    assert (there / "file").stat().st_size == len(content)
    assert (there / "file").read_bytes()[1_234_567:1_239_567] == content[:5000]


@pytest.mark.parametrize(("most", "size"), [(4097, 60_000), (4097, TOO_MUCH + 1), (1_000_003, TOO_MUCH + 1)])
def test_fault_22_short_reads_are_no_end_of_file(
    disk: FaultyFolder, here: Path, there: Path, most: int, size: int
) -> None:
    content = noise(size, "short")
    before = disk.tell(Short(reads=most)).begun.get("read", 0)
    put(there, here, content)
    assert (here / "file").read_bytes() == content
    assert disk.calls().begun["read"] - before > size // most
    with (here / "file").open("rb") as file:
        assert os.pread(file.fileno(), size, size - 50_000) == content[size - 50_000 :]


@pytest.mark.parametrize(("read", "write", "transact"), [(65_536, 65_536, 65_536), (99_999, 70_001, 65_537)])
def test_fault_22_small_and_odd_sizes_of_the_server(
    samba_factory: SambaFactory, mount_factory: MountFactory, read: int, write: int, transact: int
) -> None:
    sizes = {"smb2 max read": read, "smb2 max write": write, "smb2 max trans": transact}
    server = samba_factory(global_options={name: str(size) for name, size in sizes.items()})
    here = mount_factory(server).path
    content = noise(3_000_001, "odd")
    (here / "file").write_bytes(content)
    assert (server.share_path() / "file").read_bytes() == content
    (server.share_path() / "other").write_bytes(content)
    server.adopt(server.share_path())
    for number in range(500):
        (server.share_path() / f"a name that takes some room in a listing {number}").touch()
    assert (here / "other").read_bytes() == content
    assert len(os.listdir(here)) == 502


def test_slow_disk_holds_up_nobody_who_does_not_wait_for_it(
    disk: FaultyFolder, server: SambaServer, mount_factory: MountFactory, there: Path
) -> None:
    """A read that takes longer than `timeout` fails in time; the rest of the mount goes on meanwhile."""
    mount = mount_factory(server, folder=there.name, options=["timeout=1"])
    mount.expect_log("no answer for 1 seconds")
    here = mount.path
    before = disk.tell(Slow("read", 3)).begun.get("read", 0)
    put(there, here, noise(300_000, "slow"))
    code = "import sys; open(sys.argv[1], 'rb').read()"
    with subprocess.Popen([sys.executable, "-c", code, here / "file"], stderr=subprocess.PIPE) as reader:
        disk.wait_for(lambda calls: calls.begun.get("read", 0) > before, "a slow read")
        (here / "other").write_bytes(b"content")
        assert (there / "other").read_bytes() == b"content"
        assert reader.poll() is None, "the slow read is over already"
        _, said = reader.communicate(timeout=30)
    assert b"Input/output error" in said
    disk.tell(Heal())
    assert (here / "file").read_bytes() == noise(300_000, "slow")


def test_slow_disk_loses_nothing_that_is_written(
    disk: FaultyFolder, server: SambaServer, mount_factory: MountFactory, there: Path
) -> None:
    """What waits behind an fsync that failed in time arrives nevertheless."""
    mount = mount_factory(server, folder=there.name, options=["timeout=1"])
    mount.expect_log("no answer for 1 seconds")
    here = mount.path
    content = noise(300_000, "slow")
    disk.tell(Slow("write", 2.5))
    descriptor = os.open(here / "file", os.O_CREAT | os.O_WRONLY)
    assert write_until_an_error(descriptor, content) == []
    start = time.monotonic()
    assert error_of(lambda: os.fsync(descriptor)) == errno.EIO
    assert time.monotonic() - start < 2.4
    disk.tell(Heal())
    wait_until(lambda: error_of(lambda: os.fsync(descriptor)) == 0, "an fsync that works")
    os.close(descriptor)
    assert (there / "file").read_bytes() == content
