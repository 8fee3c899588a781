"""A write error is told exactly once to each open file that wrote, and nothing else is harmed."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import Mount
from tests.support.samba import SambaServer, ShareConfig

pytestmark = [
    pytest.mark.deadline(60),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount the small disks of these tests"),
]

DISK_SIZE: Final = 4 * 2**20
TOO_MUCH: Final = 8 * 2**20


@pytest.fixture
def disk() -> Iterator[Path]:
    """A very small disk, which the server's user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="smbmount-disk-"))
    folder.chmod(0o755)
    options = f"size={DISK_SIZE},mode=777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, timeout=20)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=20)
        folder.rmdir()


@pytest.fixture
def server(disk: Path, samba_factory: SambaFactory) -> SambaServer:
    """A server whose share lies on the small disk."""
    return samba_factory({"data": ShareConfig(disk, {"ea support": "no", "store dos attributes": "no"})})


@pytest.fixture
def mount(server: SambaServer, mount_factory: MountFactory) -> Mount:
    """A mount of it."""
    return mount_factory(server)


def write_all(descriptor: int, length: int) -> list[int]:
    """Write in pieces as cp does, until the first error; the errors."""
    while length > 0:
        error = error_of(lambda: os.write(descriptor, bytes(131_072)))
        if error:
            return [error]
        length -= 131_072
    return []


def test_full_disk_is_told_once(mount: Mount, disk: Path) -> None:
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    errors = write_all(descriptor, TOO_MUCH)
    errors += [error_of(lambda: os.fsync(descriptor)), error_of(lambda: os.fsync(descriptor))]
    errors.append(error_of(lambda: os.close(descriptor)))
    assert [error for error in errors if error] == [errno.ENOSPC]


def test_full_disk_is_told_at_close_without_fsync(mount: Mount) -> None:
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    errors = [*write_all(descriptor, TOO_MUCH), error_of(lambda: os.close(descriptor))]
    assert [error for error in errors if error] == [errno.ENOSPC]


def test_sizes_are_right_afterwards(mount: Mount, disk: Path) -> None:
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_RDWR)
    write_all(descriptor, TOO_MUCH)
    error_of(lambda: os.fsync(descriptor))
    assert os.fstat(descriptor).st_size == (disk / "file").stat().st_size
    error_of(lambda: os.close(descriptor))
    assert (mount.path / "file").stat().st_size == (disk / "file").stat().st_size <= DISK_SIZE
    assert (mount.path / "file").read_bytes() == (disk / "file").read_bytes()


def test_work_goes_on_when_there_is_room_again(mount: Mount, disk: Path) -> None:
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    write_all(descriptor, TOO_MUCH)
    error_of(lambda: os.fsync(descriptor))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"content", 0)
    os.fsync(descriptor)
    os.close(descriptor)
    assert (disk / "file").read_bytes() == b"content"
    (mount.path / "other").write_bytes(bytes(2**20))
    assert (disk / "other").stat().st_size == 2**20


def test_error_is_told_to_who_wrote(mount: Mount) -> None:
    writer = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    reader = os.open(mount.path / "file", os.O_RDONLY)
    other = os.open(mount.path / "other", os.O_CREAT | os.O_WRONLY)
    errors = write_all(writer, TOO_MUCH)
    assert error_of(lambda: os.fsync(reader)) == 0
    assert error_of(lambda: os.close(reader)) == 0
    assert error_of(lambda: os.close(other)) == 0
    errors.append(error_of(lambda: os.close(writer)))
    assert [error for error in errors if error] == [errno.ENOSPC]


def test_two_writers_hear_each_of_their_own_errors(mount: Mount) -> None:
    descriptors = [os.open(mount.path / name, os.O_CREAT | os.O_WRONLY) for name in ("a", "b")]
    for descriptor in descriptors:
        errors = [*write_all(descriptor, TOO_MUCH), error_of(partial(os.close, descriptor))]
        assert [error for error in errors if error] == [errno.ENOSPC]


def test_symbolic_link_that_does_not_fit_is_not_left_behind(mount: Mount, disk: Path) -> None:
    with (disk / "fill").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert error_of(lambda: (mount.path / "link").symlink_to("target")) == errno.ENOSPC
    assert os.listdir(disk) == os.listdir(mount.path) == ["fill"]
    (disk / "fill").unlink()
    (mount.path / "link").symlink_to("target")
    assert os.readlink(mount.path / "link") == "target"


def test_cp_fails_on_a_full_disk(mount: Mount, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(TOO_MUCH))
    done = subprocess.run(
        ["cp", tmp_path / "large", mount.path / "copy"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr


def test_what_needs_no_room_works_on_a_full_disk(mount: Mount, disk: Path) -> None:
    (mount.path / "file").write_text("content")
    descriptor = os.open(mount.path / "large", os.O_CREAT | os.O_WRONLY)
    write_all(descriptor, TOO_MUCH)
    error_of(lambda: os.close(descriptor))
    (mount.path / "file").rename(mount.path / "renamed")
    assert (mount.path / "renamed").read_text() == "content"
    (mount.path / "large").unlink()
    assert os.listdir(disk) == ["renamed"]


def test_space_of_a_full_disk(mount: Mount) -> None:
    assert os.statvfs(mount.path).f_blocks * os.statvfs(mount.path).f_frsize == DISK_SIZE
    (mount.path / "file").write_bytes(bytes(2**20))


def test_cache_none_tells_at_the_write(server: SambaServer, mount_factory: MountFactory) -> None:
    mount = mount_factory(server, options=["cache=none"])
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    assert write_all(descriptor, TOO_MUCH) == [errno.ENOSPC]
    assert error_of(lambda: os.fsync(descriptor)) == 0
    assert error_of(lambda: os.close(descriptor)) == 0


def test_permissions_of_the_server(samba: SambaServer, share_path: Path, mount_factory: MountFactory) -> None:
    (share_path / "secret").write_text("secret")
    (share_path / "closed").mkdir()
    (share_path / "open").write_text("content")
    samba.adopt(share_path)
    (share_path / "secret").chmod(0)
    (share_path / "closed").chmod(0)
    share_path.chmod(0o555)
    here = mount_factory(samba, folder=share_path.name).path
    try:
        for call in (
            (here / "secret").read_text,
            lambda: (here / "secret").write_text("x"),
            lambda: os.listdir(here / "closed"),
            (here / "closed" / "file").touch,
            (here / "new").touch,
            (here / "new").mkdir,
            lambda: (here / "open").rename(here / "renamed"),
            (here / "open").unlink,
        ):
            assert error_of(call) == errno.EACCES
        assert (here / "open").read_text() == "content"
        assert sorted(os.listdir(here)) == ["closed", "open", "secret"]
    finally:
        share_path.chmod(0o755)


def test_share_that_is_read_only(samba_factory: SambaFactory, mount_factory: MountFactory) -> None:
    server = samba_factory({"data": ShareConfig(options={"read only": "yes"})})
    (server.share_path() / "file").write_text("content")
    server.adopt(server.share_path())
    here = mount_factory(server).path
    refused = {errno.EACCES, errno.EROFS}
    assert (here / "file").read_text() == "content"
    for call in (
        (here / "new").touch,
        (here / "new").mkdir,
        (here / "file").unlink,
        lambda: (here / "file").rename(here / "renamed"),
        lambda: (here / "file").write_text("x"),
        lambda: os.truncate(here / "file", 0),
        lambda: os.utime(here / "file", (1, 1)),
        lambda: (here / "file").chmod(0o444),
    ):
        assert error_of(call) in refused
    assert (here / "file").read_text() == "content"
