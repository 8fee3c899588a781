"""What the mount options change, seen through the mount."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import CHECKOUT, Mount
from tests.support.samba import (
    GUEST_GLOBAL_OPTIONS,
    GUEST_SHARE_OPTIONS,
    SambaServer,
    ShareConfig,
)

pytestmark = pytest.mark.deadline(60)

SOMEBODY = 65534
"""A user who is neither root nor the one who mounts."""


def mount_table_entry(path: Path) -> tuple[str, str, set[str]]:
    """Type, source and flags of a mount, as findmnt shows them."""
    done = subprocess.run(
        ["findmnt", "--noheadings", "--raw", "--output", "FSTYPE,SOURCE,OPTIONS", path],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    kind, source, options = done.stdout.split()
    return kind, source, set(options.split(","))


def as_somebody(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command as another user."""
    identity = [f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups"]
    return subprocess.run(
        ["setpriv", *identity, *map(str, command)], capture_output=True, text=True, timeout=20, check=False
    )


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike those of pytest."""
    path = Path(tempfile.mkdtemp(prefix="smbmount-public-"))
    path.chmod(0o755)
    yield path
    path.rmdir()


@pytest.fixture
def filled(samba: SambaServer, share_path: Path) -> str:
    """The name of a folder of the share that holds a file, a folder and a program."""
    (share_path / "file").write_text("content")
    (share_path / "folder").mkdir()
    (share_path / "program").write_text("#!/bin/sh\necho it runs\n")
    samba.adopt(share_path)
    return share_path.name


def test_ro_refuses_every_change(samba: SambaServer, filled: str, mount_factory: MountFactory) -> None:
    mount = mount_factory(samba, folder=filled, options=["ro"])
    here = mount.path
    assert (here / "file").read_text() == "content"
    for call in (
        (here / "new").touch,
        (here / "new").mkdir,
        (here / "file").unlink,
        (here / "folder").rmdir,
        lambda: (here / "file").rename(here / "other"),
        lambda: (here / "file").write_text("changed"),
        lambda: os.truncate(here / "file", 0),
        lambda: os.link(here / "file", here / "link"),
        lambda: (here / "link").symlink_to("file"),
        lambda: os.utime(here / "file"),
        lambda: (here / "file").chmod(0o444),
        lambda: os.setxattr(here / "file", "user.a", b"x"),
    ):
        assert error_of(call) == errno.EROFS
    assert not os.access(here / "file", os.W_OK)
    assert "ro" in mount_table_entry(here)[2]
    assert (samba.share_path() / filled / "file").read_text() == "content"


def test_mount_table_reads_well(samba: SambaServer, filled: str, mount_factory: MountFactory) -> None:
    mount = mount_factory(samba, folder=filled)
    kind, source, flags = mount_table_entry(mount.path)
    assert kind == "fuse.smbmount"
    assert source == f"//127.0.0.1/data/{filled}"
    assert {"rw", "nosuid", "nodev"} <= flags
    shown = subprocess.run(["df", mount.path], capture_output=True, text=True, timeout=20, check=True).stdout
    assert f"//127.0.0.1/data/{filled}" in shown


def test_suid_and_dev_are_only_had_by_their_other_names(
    samba: SambaServer, filled: str, mount_factory: MountFactory
) -> None:
    """mount(8) as root says dev,suid to everybody."""
    flags = mount_table_entry(mount_factory(samba, folder=filled, options=["dev", "suid"]).path)[2]
    assert {"nosuid", "nodev"} <= flags
    options = ["insecure_dev", "insecure-suid", "noexec"]
    mount = mount_factory(samba, folder=filled, options=options)
    flags = mount_table_entry(mount.path)[2]
    assert not {"nosuid", "nodev"} & flags
    assert "noexec" in flags


def test_noexec(samba: SambaServer, filled: str, mount_factory: MountFactory) -> None:
    program = mount_factory(samba, folder=filled).path / "program"
    done = subprocess.run([program], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "it runs\n"
    program = mount_factory(samba, folder=filled, options=["noexec"]).path / "program"
    assert error_of(lambda: subprocess.run([program], check=True, timeout=20)) == errno.EACCES


def test_other_users_stay_out(samba: SambaServer, filled: str, public_folder: Path) -> None:
    with Mount(samba, public_folder, folder=filled) as mount:
        done = as_somebody("cat", mount.path / "file")
        assert done.returncode != 0
        assert "Permission denied" in done.stderr


def test_allow_other_lets_them_in_as_the_permissions_say(
    samba: SambaServer, filled: str, public_folder: Path
) -> None:
    with Mount(samba, public_folder, folder=filled, options=["allow_other"]) as mount:
        assert as_somebody("cat", mount.path / "file").stdout == "content"
        assert as_somebody("ls", mount.path).stdout.split() == ["file", "folder", "program"]
        for command in (("touch", "file"), ("touch", "new"), ("rm", "-f", "file"), ("mkdir", "folder/new")):
            done = as_somebody(*command[:-1], mount.path / command[-1])
            assert done.returncode != 0, command
            assert "Permission denied" in done.stderr
    options = ["allow_other", "file_mode=0600", "dir_mode=0711", f"uid={SOMEBODY}"]
    with Mount(samba, public_folder, folder=filled, options=options) as mount:
        assert as_somebody("sh", "-c", f"echo changed > {mount.path}/file").returncode == 0
        assert (samba.share_path() / filled / "file").read_text() == "changed\n"


def test_allow_other_keeps_secrets(samba: SambaServer, filled: str, public_folder: Path) -> None:
    options = ["allow_other", "file_mode=0600", "dir_mode=0711", "uid=0"]
    with Mount(samba, public_folder, folder=filled, options=options) as mount:
        assert as_somebody("cat", mount.path / "file").returncode != 0
        assert as_somebody("ls", mount.path).returncode != 0
        assert as_somebody("stat", mount.path / "file").returncode == 0


def test_folder_of_the_share_in_both_spellings(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    (share_path / "a" / "b").mkdir(parents=True)
    (share_path / "a" / "b" / "file").write_text("content")
    samba.adopt(share_path)
    folder = f"{share_path.name}/a/b"
    assert (mount_factory(samba, folder=folder).path / "file").read_text() == "content"
    here = mount_factory(samba, options=[f"prefixpath={folder}"]).path
    assert (here / "file").read_text() == "content"
    (here / "new").mkdir()
    (here / "file").rename(here / "new" / "moved")
    assert (share_path / "a" / "b" / "new" / "moved").read_text() == "content"
    assert (here / ".." / here.name / "new" / "moved").exists()


@pytest.mark.parametrize("dialect", ["2.0", "2.1", "3.0", "3.0.2", "3.1.1", "3", "default"])
def test_dialects(samba: SambaServer, filled: str, mount_factory: MountFactory, dialect: str) -> None:
    here = mount_factory(samba, folder=filled, options=[f"vers={dialect}"]).path
    content = os.urandom(300_000)
    (here / "new").write_bytes(content)
    assert (here / "new").read_bytes() == content
    assert sorted(os.listdir(here)) == ["file", "folder", "new", "program"]
    assert (samba.share_path() / filled / "new").read_bytes() == content


@pytest.mark.parametrize(
    "options", [["seal"], ["sign"], ["nosign"], ["seal", "vers=3.0"], ["seal", "vers=3.1.1"]]
)
def test_protection(samba: SambaServer, filled: str, mount_factory: MountFactory, options: list[str]) -> None:
    here = mount_factory(samba, folder=filled, options=options).path
    content = os.urandom(3_000_000)
    (here / "new").write_bytes(content)
    assert (samba.share_path() / filled / "new").read_bytes() == content
    with (here / "new").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert file.read() == content


def test_server_that_demands_encryption(samba_factory: SambaFactory, mount_factory: MountFactory) -> None:
    server = samba_factory(global_options={"server smb encrypt": "required"})
    here = mount_factory(server).path
    (here / "file").write_text("content")
    assert (server.share_path() / "file").read_text() == "content"


def test_share_that_demands_encryption(samba_factory: SambaFactory, mount_factory: MountFactory) -> None:
    server = samba_factory({"data": ShareConfig(options={"server smb encrypt": "required"})})
    here = mount_factory(server).path
    (here / "file").write_text("content")
    assert (server.share_path() / "file").read_text() == "content"


@pytest.mark.parametrize("size", [4096, 5000, 65_536, 100_001])
def test_request_sizes(samba: SambaServer, filled: str, mount_factory: MountFactory, size: int) -> None:
    here = mount_factory(samba, folder=filled, options=[f"rsize={size}", f"wsize={size}"]).path
    content = os.urandom(1_234_567)
    (here / "new").write_bytes(content)
    assert (samba.share_path() / filled / "new").read_bytes() == content
    os.truncate(here / "new", 1_000_000)
    assert (here / "new").read_bytes() == content[:1_000_000]


def test_cache_none_reads_and_writes_through(
    samba: SambaServer, filled: str, mount_factory: MountFactory
) -> None:
    here = mount_factory(samba, folder=filled, options=["cache=none"]).path
    there = samba.share_path() / filled
    descriptor = os.open(here / "file", os.O_RDWR)
    try:
        os.pwrite(descriptor, b"CON", 0)
        assert (there / "file").read_text() == "CONtent"
        (there / "file").write_text("theirs")
        assert os.pread(descriptor, 100, 0) == b"theirs"
        assert (here / "file").stat().st_size == 6
    finally:
        os.close(descriptor)


def test_actimeo_zero_shows_changes_at_once(
    samba: SambaServer, filled: str, mount_factory: MountFactory
) -> None:
    here = mount_factory(samba, folder=filled, options=["actimeo=0"]).path
    there = samba.share_path() / filled
    for number in range(10):
        (there / "file").write_text("x" * number)
        assert (here / "file").stat().st_size == number
        (there / f"{number}").touch()
        assert (here / f"{number}").exists()
        (there / f"{number}").unlink()
        assert not (here / f"{number}").exists()


def test_actimeo_is_believed_that_long(samba: SambaServer, filled: str, mount_factory: MountFactory) -> None:
    here = mount_factory(samba, folder=filled, options=["actimeo=3600"]).path
    assert (here / "file").stat().st_size == 7
    (samba.share_path() / filled / "file").write_text("longer than before")
    assert (here / "file").stat().st_size == 7


def test_changes_show_within_the_default_actimeo(
    samba: SambaServer, filled: str, mount_factory: MountFactory
) -> None:
    here = mount_factory(samba, folder=filled).path
    assert not (here / "new").exists()
    assert (here / "file").stat().st_size == 7
    (samba.share_path() / filled / "file").write_text("longer than before")
    (samba.share_path() / filled / "new").touch()
    changed = time.monotonic()
    while not ((here / "new").exists() and (here / "file").stat().st_size == 18):
        assert time.monotonic() - changed < 3


def test_guest(samba_factory: SambaFactory, mount_factory: MountFactory) -> None:
    server = samba_factory(
        {"data": ShareConfig(options=GUEST_SHARE_OPTIONS)}, global_options=GUEST_GLOBAL_OPTIONS
    )
    server.share_path().chmod(0o777)
    here = mount_factory(server, guest=True).path
    (here / "file").write_text("content")
    assert (here / "file").read_text() == "content"


def test_port_address_and_account_in_all_spellings(samba: SambaServer, filled: str, tmp_path: Path) -> None:
    """`//some-name:port` with ip=, a user with a domain, the password from the environment."""
    folder = tmp_path / "mountpoint"
    folder.mkdir()
    for source, options in (
        (f"//127.0.0.1:{samba.port}/data/{filled}", f"user={samba.user}"),
        (f"\\\\files.invalid\\data\\{filled}", f"ip=127.0.0.1,port={samba.port},user=SMBMOUNT\\{samba.user}"),
        (f"//files.invalid/data/{filled}/", f"addr=127.0.0.1,port={samba.port},username={samba.user},dom=X"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "smbmount", source, folder, "-o", options],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PASSWD": samba.password},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        try:
            assert (folder / "file").read_text() == "content"
        finally:
            subprocess.run(["fusermount3", "-u", folder], check=True, timeout=20)


def test_mount_as_fstab_does(samba: SambaServer, filled: str, tmp_path: Path) -> None:
    """mount(8) calls mount.fuse3 in this way, which adds dev,suid and looks for smbmount on the path."""
    folder, programs = tmp_path / "mountpoint", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    (programs / "smbmount").write_text(f'#!/bin/sh\nexec {sys.executable} -m smbmount "$@"\n')
    (programs / "smbmount").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin"
    helper = shutil.which("mount.fuse3", path=path)
    assert helper is not None, "the package fuse3 is not installed"
    fstab = "_netdev,nofail,noauto,x-systemd.automount"
    options = f"rw,credentials={samba.credentials_file},port={samba.port},{fstab}"
    done = subprocess.run(
        [helper, f"{samba.unc()}/{filled}", folder, "-o", options, "-t", "fuse.smbmount"],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    try:
        assert (folder / "file").read_text() == "content"
        assert {"nosuid", "nodev"} <= mount_table_entry(folder)[2]
    finally:
        subprocess.run(["umount", folder], check=True, timeout=20)
