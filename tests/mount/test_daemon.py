"""The life of the process behind a mount: background, signals, unmounting, sudden death, a lost server."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smbmount.mounttable import topmost_mount
from tests.support.calls import error_of
from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import CHECKOUT, Mount
from tests.support.samba import SambaServer
from tests.support.tools import wait_until

pytestmark = pytest.mark.deadline(90)

STARTING_MAY_TAKE = 1.0
LOST = {errno.EIO, errno.EHOSTDOWN, errno.ECONNRESET, errno.ETIMEDOUT, errno.ENOTCONN}
"""What a call may say of a server that is gone."""


@pytest.fixture
def mount(mount_factory: MountFactory, samba: SambaServer, share_path: Path) -> Mount:
    """A mount of `share_path`."""
    return mount_factory(samba, folder=share_path.name)


def daemons_of(folder: Path) -> list[int]:
    """The processes that have this mount point on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if os.fsencode(folder) in arguments:
                found.append(int(entry.name))
    return found


def wait_for_end(pid: int, seconds: float = 20.0) -> None:
    """Wait until a process that is no child of ours is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        assert poller.poll(seconds * 1000), f"process {pid} did not end within {seconds} s"
    finally:
        os.close(descriptor)


def mount_in_background(samba: SambaServer, share_path: Path, folder: Path) -> None:
    """What a user does; returns when the command does."""
    options = f"port={samba.port},credentials={samba.credentials_file}"
    done = subprocess.run(
        [sys.executable, "-m", "smbmount", f"{samba.unc()}/{share_path.name}", folder, "-o", options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_background_returns_when_the_mount_answers(
    samba: SambaServer, share_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (share_path / "file").write_text("content")
    samba.adopt(share_path)
    folder = tmp_path / "mountpoint"
    folder.mkdir()
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        mount_in_background(samba, share_path, folder)
        seconds.append(time.monotonic() - started)
        try:
            assert (folder / "file").read_text() == "content"
            [daemon] = daemons_of(folder)
            assert os.getsid(daemon) == daemon
            assert os.readlink(f"/proc/{daemon}/cwd") == "/"
            for descriptor in (0, 1, 2):
                assert os.readlink(f"/proc/{daemon}/fd/{descriptor}") == "/dev/null"
        finally:
            subprocess.run(["fusermount3", "-u", folder], check=True, timeout=20)
        wait_for_end(daemon)
        assert topmost_mount(str(folder)) is None
    with capsys.disabled():
        sys.stdout.write(f"\nstarting in the background takes {min(seconds):.2f} s\n")
    assert min(seconds) < STARTING_MAY_TAKE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_writes_everything_and_unmounts(
    mount: Mount, share_path: Path, number: signal.Signals
) -> None:
    content = os.urandom(3_000_000)
    descriptor = os.open(mount.path / "open", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, content)
    mount.signal(number)
    assert mount.wait_exit() == 0
    assert error_of(lambda: os.close(descriptor)) == errno.ENOTCONN
    assert (share_path / "open").read_bytes() == content
    assert topmost_mount(str(mount.path)) is None
    assert os.listdir(mount.path) == []


def test_signal_right_after_writing_many_files(mount: Mount, share_path: Path) -> None:
    for number in range(50):
        (mount.path / f"{number}").write_bytes(b"%d" % number * 1000)
    mount.signal(signal.SIGTERM)
    assert mount.wait_exit() == 0
    for number in range(50):
        assert (share_path / f"{number}").read_bytes() == b"%d" % number * 1000


def test_busy_mount_is_unmounted_lazily(mount: Mount, share_path: Path) -> None:
    with (mount.path / "open").open("wb", buffering=0) as file:
        file.write(b"before")
        done = subprocess.run(
            ["fusermount3", "-u", mount.path], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode != 0
        assert "busy" in done.stderr
        subprocess.run(["fusermount3", "-u", "-z", mount.path], check=True, timeout=20)
        assert topmost_mount(str(mount.path)) is None
        file.write(b", and after")
    assert mount.wait_exit() == 0
    assert (share_path / "open").read_bytes() == b"before, and after"


def test_killed_daemon_leaves_enotconn_and_mounting_again_works(
    mount: Mount, samba: SambaServer, share_path: Path
) -> None:
    (mount.path / "file").write_text("content")
    mount.signal(signal.SIGKILL)
    assert mount.wait_exit() == -signal.SIGKILL
    assert error_of(lambda: os.listdir(mount.path)) == errno.ENOTCONN
    assert error_of(lambda: (mount.path / "file").read_text()) == errno.ENOTCONN
    mount_in_background(samba, share_path, mount.path)
    try:
        assert (mount.path / "file").read_text() == "content"
    finally:
        subprocess.run(["fusermount3", "-u", mount.path], check=True, timeout=20)
    assert topmost_mount(str(mount.path)) is None


def test_what_fsync_confirmed_survives_the_daemon(mount: Mount, share_path: Path) -> None:
    content = os.urandom(2_000_000)
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, content)
    os.fsync(descriptor)
    mount.signal(signal.SIGKILL)
    assert mount.wait_exit() == -signal.SIGKILL
    assert error_of(lambda: os.write(descriptor, b"too late")) in LOST
    assert error_of(lambda: os.close(descriptor)) in LOST
    assert (share_path / "file").read_bytes() == content


def test_refused_calls_never_end_the_mount(mount: Mount) -> None:
    """A hail of calls that have to fail; the log may not hold a traceback afterwards."""
    here = mount.path
    (here / "file").touch()
    (here / "folder").mkdir()
    for number in range(30):
        odd = here / f"\x01{number}\x1f" / "..." / "x"
        for call in (
            odd.touch,
            odd.mkdir,
            odd.stat,
            lambda: os.open(os.fsencode(here) + b"/\xff\xfe", os.O_CREAT),
            lambda: os.truncate(here / "file", 2**63 - 1),
            lambda: os.setxattr(here / "file", "security.x", b"x"),
            lambda: os.rename(here / "folder", here / "folder" / "below"),
            lambda: os.link(here / "folder", here / "link"),
            lambda: os.mkfifo(here / "fifo"),
            lambda: (here / "link").symlink_to("/etc/passwd"),
            lambda: (here / "file").rmdir(),
            lambda: (here / "folder").unlink(),
            lambda: os.readlink(here / "file"),
        ):
            assert error_of(call) not in {0, errno.EIO}
    assert sorted(os.listdir(here)) == ["file", "folder"]


def test_server_that_stopped_is_an_error_within_the_timeout_and_unmounting_works(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    server = samba_factory()
    mount = mount_factory(server, options=["timeout=2"])
    mount.expect_log(".")
    (mount.path / "file").write_text("content")
    server.stop_service()
    started = time.monotonic()
    assert error_of(lambda: os.listdir(mount.path)) in LOST
    assert error_of(lambda: (mount.path / "new").touch()) in LOST
    assert time.monotonic() - started < 12
    mount.unmount()


def test_server_that_is_silent_is_an_error_within_the_timeout(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    server = samba_factory()
    mount = mount_factory(server, options=["timeout=2", "echo_interval=1"])
    mount.expect_log(".")
    (mount.path / "file").write_text("content")
    frozen = server.connection_pids()
    assert frozen
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert error_of(lambda: os.listdir(mount.path)) in LOST
        assert time.monotonic() - started < 6
        os.statvfs(mount.path.parent)
        mount.unmount()
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


def test_data_that_cannot_be_written_in_time_is_an_error_and_arrives_when_the_server_is_back(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    server = samba_factory()
    mount = mount_factory(server, options=["timeout=1"])
    mount.expect_log(".")
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    server.stop_service()
    errors = [error_of(lambda: os.write(descriptor, bytes(100_000)))]
    errors.append(error_of(lambda: os.fsync(descriptor)))
    errors.append(error_of(lambda: os.close(descriptor)))
    assert set(errors) - {0} <= LOST
    assert any(errors)
    server.restart()
    wait_until(lambda: (server.share_path() / "file").stat().st_size == 100_000, "the data has arrived")
    mount.unmount()


def test_two_mounts_live_and_die_apart(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    one, two = (mount_factory(samba, folder=share_path.name) for _ in range(2))
    (one.path / "file").write_text("content")
    one.unmount()
    assert (two.path / "file").read_text() == "content"
    one.start()
    assert (one.path / "file").read_text() == "content"


def test_mount_inside_a_mount(samba: SambaServer, share_path: Path, mount_factory: MountFactory) -> None:
    (share_path / "inner").mkdir()
    (share_path / "other").mkdir()
    (share_path / "other" / "file").write_text("content")
    samba.adopt(share_path)
    outer = mount_factory(samba, folder=share_path.name)
    with Mount(samba, outer.path / "inner", folder=f"{share_path.name}/other") as inner:
        assert (inner.path / "file").read_text() == "content"
    assert os.listdir(outer.path / "inner") == []
