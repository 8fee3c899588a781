"""Modes, owners, inode numbers, links, sizes and the space of the file system."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
import trio

from engine import ConnectConfig, Credentials, connect, parse_unc
from tests.support.calls import error_of
from tests.support.factories import MountFactory
from tests.support.mounting import Mount
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(60)


def mode_of(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.lstat().st_mode)


def dos_attributes(samba: SambaServer, path: Path) -> str:
    """The letters that Samba's own client shows for a file of the share "data"."""
    name = str(path.relative_to(samba.share_path())).replace("/", "\\")
    [line] = [
        line
        for line in samba.smbclient("data", f'allinfo "{name}"').stdout.splitlines()
        if line.startswith("attributes:")
    ]
    return line.split()[1]


def server_file_id(samba: SambaServer, path: str) -> int:
    """The file id that the server tells the engine."""

    async def ask() -> int:
        config = ConnectConfig(port=samba.port)
        async with connect(parse_unc(samba.unc()), Credentials(samba.user, samba.password), config) as share:
            return (await share.stat(path)).file_id

    return trio.run(ask)


def test_write_bits_are_the_read_only_attribute(samba: SambaServer, here: Path, there: Path) -> None:
    (here / "file").write_text("content")
    assert mode_of(here / "file") == 0o755
    (here / "file").chmod(0o444)
    assert mode_of(here / "file") == 0o555
    assert "R" in dos_attributes(samba, there / "file")
    assert error_of(lambda: (here / "file").write_text("changed")) == errno.EACCES
    (here / "file").chmod(0o644)
    assert mode_of(here / "file") == 0o755
    assert "R" not in dos_attributes(samba, there / "file")
    (here / "file").write_text("changed")
    assert (there / "file").read_text() == "changed"


def test_read_only_attribute_set_by_another_client(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    (share_path / "file").touch()
    samba.adopt(share_path)
    here = mount_factory(samba, folder=share_path.name, options=["actimeo=0"]).path
    samba.smbclient("data", f'setmode "{share_path.name}\\file" +rh')
    assert mode_of(here / "file") == 0o555
    (here / "file").chmod(0o755)
    assert mode_of(here / "file") == 0o755
    assert dos_attributes(samba, share_path / "file") == "H"


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o555])
def test_chmod_without_write_bits(here: Path, mode: int) -> None:
    (here / "file").touch()
    (here / "file").chmod(mode)
    assert mode_of(here / "file") == 0o555


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o200, 0o777, 0o7755, 0o020])
def test_chmod_of_what_cannot_be_stored_succeeds_silently(here: Path, mode: int) -> None:
    (here / "file").touch()
    (here / "folder").mkdir()
    for name in ("file", "folder"):
        (here / name).chmod(mode)
        assert mode_of(here / name) == 0o755


def test_truncating_open_keeps_dos_and_extended_attributes(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    (share_path / "file").write_text("content")
    samba.adopt(share_path)
    samba.smbclient("data", f'setmode "{share_path.name}\\file" +hs')
    here = mount_factory(samba, folder=share_path.name).path
    os.setxattr(here / "file", "user.tag", b"kept")
    (here / "file").write_text("new")
    assert (share_path / "file").read_text() == "new"
    assert set(dos_attributes(samba, share_path / "file")) >= {"H", "S"}
    assert os.getxattr(here / "file", "user.tag") == b"kept"


def test_read_only_folder_can_be_removed(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    (share_path / "folder").mkdir()
    samba.adopt(share_path)
    samba.smbclient("data", f'setmode "{share_path.name}\\folder" +r')
    assert "R" in dos_attributes(samba, share_path / "folder")
    (mount_factory(samba, folder=share_path.name).path / "folder").rmdir()
    assert os.listdir(share_path) == []


def test_removing_one_name_of_a_read_only_file_leaves_the_other_read_only(here: Path, there: Path) -> None:
    (here / "one").write_text("content")
    os.link(here / "one", here / "two")
    (here / "one").chmod(0o444)
    (here / "one").unlink()
    assert os.listdir(there) == ["two"]
    assert mode_of(here / "two") == 0o555
    assert error_of(lambda: (here / "two").write_text("changed")) == errno.EACCES


def test_folders_stay_writable(here: Path) -> None:
    (here / "folder").mkdir()
    (here / "folder").chmod(0o555)
    (here / "folder" / "file").touch()
    assert mode_of(here / "folder") == 0o755


def test_chown_succeeds_silently(here: Path) -> None:
    (here / "file").touch()
    os.chown(here / "file", 12345, 54321)
    os.chown(here, 12345, -1)
    for path in (here / "file", here):
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())


def test_chmod_and_chown_of_what_is_gone(here: Path) -> None:
    for call in (
        lambda: (here / "missing").chmod(0o644),
        lambda: os.chown(here / "missing", 1, 1),
        lambda: os.utime(here / "missing"),
    ):
        assert error_of(call) == errno.ENOENT


def test_owner_group_and_modes_are_those_of_the_options(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    (share_path / "file").touch()
    (share_path / "folder").mkdir()
    samba.adopt(share_path)
    options = ["uid=1234", "gid=nogroup", "file_mode=0640", "dir-mode=0750", "forceuid", "forcegid"]
    here = mount_factory(samba, folder=share_path.name, options=options).path
    for path, mode in ((here, 0o750), (here / "folder", 0o750), (here / "file", 0o640)):
        status = path.stat()
        assert (status.st_uid, status.st_gid, mode_of(path)) == (1234, 65534, mode)


def test_inode_numbers_are_the_servers_and_stay(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    (share_path / "folder").mkdir()
    (share_path / "folder" / "file").touch()
    samba.adopt(share_path)
    first, second = (mount_factory(samba, folder=share_path.name) for _ in range(2))
    for name in ("folder", "folder/file"):
        number = (first.path / name).stat().st_ino
        assert number == (second.path / name).stat().st_ino
        assert number == server_file_id(samba, f"{share_path.name}/{name}".replace("/", "\\"))
    number = (second.path / "folder" / "file").stat().st_ino
    (second.path / "folder" / "file").rename(second.path / "renamed")
    second.unmount()
    second.start()
    assert (second.path / "renamed").stat().st_ino == number


def test_inode_numbers_of_our_own(samba: SambaServer, share_path: Path, mount_factory: MountFactory) -> None:
    """The server's ids are small; numbers made up here begin at half of the range."""
    here = mount_factory(samba, folder=share_path.name, options=["noserverino"]).path
    for name in ("a", "b"):
        (here / name).touch()
    numbers = {(here / name).stat().st_ino for name in ("a", "b")}
    assert len(numbers) == 2
    assert min(numbers) >= 2**63


def test_sizes_and_blocks(here: Path) -> None:
    (here / "empty").touch()
    (here / "small").write_bytes(b"x")
    (here / "large").write_bytes(bytes(1_000_000))
    os.truncate(here / "empty", 0)
    (here / "sparse").touch()
    os.truncate(here / "sparse", 2**30)
    sizes = {path.name: path.stat().st_size for path in here.iterdir()}
    assert sizes == {"empty": 0, "small": 1, "large": 1_000_000, "sparse": 2**30}
    assert (here / "empty").stat().st_blocks == 0
    assert (here / "small").stat().st_blocks > 0
    assert 1_000_000 <= (here / "large").stat().st_blocks * 512 < 3_000_000
    assert (here / "sparse").stat().st_blocks * 512 < 2**24
    assert (here / "large").stat().st_blksize >= 65536


def test_size_follows_our_own_writes_at_once(here: Path, there: Path) -> None:
    with (here / "file").open("wb", buffering=0) as file:
        for size in range(1000, 50_000, 7000):
            file.write(bytes(size - os.fstat(file.fileno()).st_size))
            assert os.fstat(file.fileno()).st_size == (here / "file").stat().st_size == size
    assert (there / "file").stat().st_size == (here / "file").stat().st_size


def test_folders_have_kind_and_links(here: Path) -> None:
    (here / "folder").mkdir()
    (here / "file").touch()
    assert stat.S_ISDIR((here / "folder").stat().st_mode)
    assert stat.S_ISREG((here / "file").stat().st_mode)
    assert (here / "file").stat().st_nlink == 1
    assert (here / "folder").stat().st_nlink == 1


def test_space_of_the_file_system(samba: SambaServer, mounted: Mount) -> None:
    ours, servers = os.statvfs(mounted.path), os.statvfs(samba.share_path())
    total = servers.f_blocks * servers.f_frsize
    assert ours.f_blocks * ours.f_frsize == pytest.approx(total, rel=0.01)
    assert ours.f_bavail * ours.f_frsize == pytest.approx(servers.f_bavail * servers.f_frsize, rel=0.05)
    assert ours.f_namemax == 255
