"""Rows 13 and 22 of the table of faults: the server's disk is full, broken or slow, or does little at once.

The share's path is a folder that fails on command; smbd, the kernel and the mount are the real ones.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory, SambaFactory
from tests.support.faulty_folder import Fail, FaultyFolder, Heal, Room, Short, Slow
from tests.support.mounting import Mount
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


@pytest.fixture(autouse=True)
def _healed(disk: FaultyFolder) -> Iterator[None]:
    """The disk works again, and is empty, for the next test."""
    yield
    disk.tell(Heal())
    for entry in disk.backing.iterdir():
        entry.rmdir() if entry.is_dir() else entry.unlink()


@pytest.fixture
def mount(server: SambaServer, mount_factory: MountFactory) -> Mount:
    """A mount of it."""
    return mount_factory(server)


def write_until_an_error(descriptor: int, content: bytes) -> list[int]:
    """Write in pieces, as cp does, and stop at the first error; the errors."""
    for start in range(0, len(content), PIECE):
        if error := error_of(partial(os.write, descriptor, content[start : start + PIECE])):
            return [error]
    return []


def errors_of_the_rest(descriptor: int) -> list[int]:
    """The errors of two fsyncs and the close."""
    calls = [partial(os.fsync, descriptor), partial(os.fsync, descriptor), partial(os.close, descriptor)]
    return [error for error in map(error_of, calls) if error]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT], ids=["disk", "quota"])
def test_fault_13_full_disk_is_told_once_and_the_size_is_right(
    disk: FaultyFolder, mount: Mount, error: int
) -> None:
    """Samba tells a quota as a full disk, so ENOSPC it is."""
    content = noise(TOO_MUCH, "full")
    disk.tell(Room(ROOM, error))
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_RDWR)
    errors = write_until_an_error(descriptor, content)
    errors += [error_of(lambda: os.fsync(descriptor))]
    assert os.fstat(descriptor).st_size == ROOM
    errors += errors_of_the_rest(descriptor)
    assert [error for error in errors if error] == [errno.ENOSPC]
    assert (disk.backing / "file").read_bytes() == content[:ROOM]
    assert (mount.path / "file").stat().st_size == ROOM
    assert (mount.path / "file").read_bytes() == content[:ROOM]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT], ids=["disk", "quota"])
def test_fault_13_full_disk_is_told_at_the_latest_at_close(
    disk: FaultyFolder, mount: Mount, error: int
) -> None:
    disk.tell(Room(0, error))
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    errors = [error_of(lambda: os.write(descriptor, b"a little")), error_of(lambda: os.close(descriptor))]
    assert [error for error in errors if error] == [errno.ENOSPC]
    assert (mount.path / "file").stat().st_size == (disk.backing / "file").stat().st_size == 0


def test_fault_13_each_open_file_is_told_of_its_own_loss(disk: FaultyFolder, mount: Mount) -> None:
    (mount.path / "c").write_bytes(b"content")
    writers = [os.open(mount.path / name, os.O_CREAT | os.O_WRONLY) for name in ("a", "b", "c")]
    disk.tell(Room(0))
    told = [write_until_an_error(writer, bytes(10)) + errors_of_the_rest(writer) for writer in writers[:2]]
    assert told == [[errno.ENOSPC]] * 2
    assert errors_of_the_rest(writers[2]) == []


def test_fault_13_file_is_intact_when_there_is_room_again(disk: FaultyFolder, mount: Mount) -> None:
    """The program goes on in the same open file, from where the disk was full."""
    content = noise(TOO_MUCH, "again")
    disk.tell(Room(ROOM))
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    assert write_until_an_error(descriptor, content) or error_of(lambda: os.fsync(descriptor))
    disk.tell(Room(None))
    size = os.fstat(descriptor).st_size
    assert size == ROOM
    os.lseek(descriptor, size, os.SEEK_SET)
    assert write_until_an_error(descriptor, content[size:]) == []
    assert errors_of_the_rest(descriptor) == []
    assert (disk.backing / "file").read_bytes() == (mount.path / "file").read_bytes() == content


def test_fault_13_old_content_survives_a_full_disk(disk: FaultyFolder, mount: Mount) -> None:
    old = noise(ROOM, "old")
    (mount.path / "file").write_bytes(old)
    disk.tell(Room(0, errno.EDQUOT))
    with (mount.path / "file").open("ab", buffering=0) as file:
        assert [error_of(lambda: file.write(b"more")), error_of(lambda: os.fsync(file.fileno()))].count(
            0
        ) == 1
    assert (disk.backing / "file").read_bytes() == (mount.path / "file").read_bytes() == old


def test_fault_13_nothing_can_be_made_without_room_and_nothing_is_left(
    disk: FaultyFolder, mount: Mount
) -> None:
    for operation in ("create", "mkdir"):
        disk.tell(Fail(operation, errno.EDQUOT))
    assert error_of((mount.path / "file").touch) == errno.ENOSPC
    assert error_of((mount.path / "folder").mkdir) == errno.ENOSPC
    assert os.listdir(mount.path) == os.listdir(disk.backing) == []
    disk.tell(Heal())
    (mount.path / "file").touch()
    (mount.path / "folder").mkdir()
    assert sorted(os.listdir(disk.backing)) == ["file", "folder"]


def test_fault_13_broken_disk_is_eio_once(disk: FaultyFolder, mount: Mount) -> None:
    disk.tell(Fail("write", errno.EIO, times=1))
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    assert write_until_an_error(descriptor, b"lost") + errors_of_the_rest(descriptor) == [errno.EIO]
    (mount.path / "file").write_bytes(b"content")
    assert (disk.backing / "file").read_bytes() == b"content"


def test_fault_13_fsync_that_fails_on_the_server_fails_here(disk: FaultyFolder, mount: Mount) -> None:
    disk.tell(Fail("fsync", errno.EIO, times=1))
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"content")
    assert errors_of_the_rest(descriptor) == [errno.EIO]
    assert (disk.backing / "file").read_bytes() == b"content"


def test_fault_13_broken_disk_at_a_read(disk: FaultyFolder, mount: Mount) -> None:
    content = noise(300_000, "read")
    (disk.backing / "file").write_bytes(content)
    (disk.backing / "file").chmod(0o666)
    disk.tell(Fail("read", errno.EIO))
    assert error_of((mount.path / "file").read_bytes) == errno.EIO
    disk.tell(Heal())
    assert (mount.path / "file").read_bytes() == content


@pytest.mark.parametrize("most", [4097, 1_000_003])
def test_fault_22_short_writes_are_completed(disk: FaultyFolder, mount: Mount, most: int) -> None:
    content = noise(TOO_MUCH + 1, "short")
    before = disk.tell(Short(writes=most)).begun.get("write", 0)
    (mount.path / "file").write_bytes(content)
    assert disk.calls().begun["write"] - before > len(content) // most
    assert (disk.backing / "file").read_bytes() == content
    with (mount.path / "file").open("r+b") as file:
        file.seek(1_234_567)
        file.write(content[:5000])
    assert (disk.backing / "file").stat().st_size == len(content)
    assert (disk.backing / "file").read_bytes()[1_234_567:1_239_567] == content[:5000]


@pytest.mark.parametrize(("most", "size"), [(4097, 60_000), (4097, TOO_MUCH + 1), (1_000_003, TOO_MUCH + 1)])
def test_fault_22_short_reads_are_no_end_of_file(
    disk: FaultyFolder, mount: Mount, most: int, size: int
) -> None:
    content = noise(size, "short")
    (disk.backing / "file").write_bytes(content)
    (disk.backing / "file").chmod(0o666)
    before = disk.tell(Short(reads=most)).begun.get("read", 0)
    assert (mount.path / "file").read_bytes() == content
    assert disk.calls().begun["read"] - before > size // most
    with (mount.path / "file").open("rb") as file:
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
    disk: FaultyFolder, server: SambaServer, mount_factory: MountFactory
) -> None:
    """A read that takes longer than `timeout` fails in time; the rest of the mount goes on meanwhile."""
    mount = mount_factory(server, options=["timeout=1"])
    mount.expect_log("no answer for 1 seconds")
    here = mount.path
    (disk.backing / "file").write_bytes(noise(300_000, "slow"))
    (disk.backing / "file").chmod(0o666)
    disk.tell(Slow("read", 3))
    code = "import sys; open(sys.argv[1], 'rb').read()"
    with subprocess.Popen([sys.executable, "-c", code, here / "file"], stderr=subprocess.PIPE) as reader:
        disk.wait_for(lambda calls: calls.begun.get("read", 0) > 0, "a slow read")
        (here / "other").write_bytes(b"content")
        assert (disk.backing / "other").read_bytes() == b"content"
        assert reader.poll() is None, "the slow read is over already"
        _, said = reader.communicate(timeout=30)
    assert b"Input/output error" in said
    disk.tell(Heal())
    assert (here / "file").read_bytes() == noise(300_000, "slow")


def test_slow_disk_loses_nothing_that_is_written(
    disk: FaultyFolder, server: SambaServer, mount_factory: MountFactory
) -> None:
    """What waits behind an fsync that failed in time arrives nevertheless."""
    mount = mount_factory(server, options=["timeout=1"])
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
    assert (disk.backing / "file").read_bytes() == content
