"""The mount of the tests itself: it works, it cleans up, and what goes wrong makes the test fail."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from smbmount.mounttable import detach, topmost_mount
from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import CHECKOUT, Mount, MountError
from tests.support.samba import SambaServer
from tests.support.watchdog import DeadlineExceeded, hard_deadline


def test_mount_shows_the_share_s_folder(mount: Mount, share_path: Path) -> None:
    (mount.path / "here").write_text("written here")
    (share_path / "there").write_text("written there")
    assert (share_path / "here").read_text() == "written here"
    assert (mount.path / "there").read_text() == "written there"


def test_leaving_unmounts_and_ends_the_daemon(samba: SambaServer, share_path: Path, tmp_path: Path) -> None:
    with Mount(samba, tmp_path, folder=share_path.name) as mount:
        daemon = os.pidfd_open(mount.pid)
        assert topmost_mount(str(tmp_path)) is not None
    assert topmost_mount(str(tmp_path)) is None
    assert _ends(daemon)


def test_two_mounts_of_one_server(mount_factory: MountFactory, samba: SambaServer, share_path: Path) -> None:
    first = mount_factory(samba, folder=share_path.name)
    second = mount_factory(samba, folder=share_path.name)
    (first.path / "note").write_text("for the other")
    assert (second.path / "note").read_text() == "for the other"


def test_mount_of_the_newer_server(backports_mount: Mount, backports_share_path: Path) -> None:
    (backports_mount.path / "here").write_text("written here")
    assert (backports_share_path / "here").read_text() == "written here"


def test_newer_server_holds_no_mount_that_was_there_before(
    mount: Mount, samba_backports_factory: SambaFactory
) -> None:
    """Its mount namespace begins as a copy, and a mount that stayed in there would keep its daemon alive."""
    samba_backports_factory()
    mount.unmount()


def test_failing_daemon_shows_its_sentence(samba: SambaServer, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text(f"username={samba.user}\npassword=wrong\n")
    with pytest.raises(MountError, match=r"exit code 32(?s:.*)STATUS_LOGON_FAILURE"):
        Mount(samba, mountpoint, credentials=wrong).start()
    assert topmost_mount(str(mountpoint)) is None


def test_daemon_that_dies_by_itself_is_a_failure(samba: SambaServer, tmp_path: Path) -> None:
    mount = Mount(samba, tmp_path)
    try:
        mount.start()
        daemon = os.pidfd_open(mount.pid)
        mount.signal(signal.SIGKILL)
        assert _ends(daemon)
        with pytest.raises(MountError, match="ended by itself with exit code -9"):
            mount.close()
    finally:
        mount.destroy()
    assert topmost_mount(str(tmp_path)) is None


def test_undeclared_log_line_is_a_failure(samba: SambaServer, tmp_path: Path) -> None:
    mount = Mount(samba, tmp_path)
    try:
        mount.log_path.write_text("2026-01-01 INFO engine.client: as usual\n")
        mount.check_log()
        mount.log_path.write_text("2026-01-01 WARNING engine.client: odd\n")
        with pytest.raises(MountError, match=r"undeclared in the daemon's log: .* odd"):
            mount.check_log()
        mount.expect_log("client: odd")
        mount.check_log()
        mount.log_path.write_text("Traceback (most recent call last):\n")
        with pytest.raises(MountError, match="Traceback"):
            mount.check_log()
    finally:
        mount.destroy()


def test_call_stuck_in_a_hanging_mount_is_ended_by_the_deadline(
    samba: SambaServer, share_path: Path, tmp_path: Path
) -> None:
    mount = Mount(samba, tmp_path, folder=share_path.name)
    try:
        mount.start()
        mount.signal(signal.SIGSTOP)
        with (
            open(os.devnull, "wb") as report,
            pytest.raises(DeadlineExceeded),
            hard_deadline(0.5, "a stuck call", report.fileno()),
        ):
            os.stat(tmp_path / "a name that is not cached")
    finally:
        mount.destroy()
    assert topmost_mount(str(tmp_path)) is None


def test_daemon_ends_with_the_process_that_started_it(
    samba: SambaServer, share_path: Path, tmp_path: Path
) -> None:
    program = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from tests.support.mounting import Mount\n"
        "from tests.support.samba import SambaServer\n"
        "with SambaServer() as server:\n"
        "    mount = Mount(server, Path(sys.argv[1]))\n"
        "    mount.start()\n"
        "    print(mount.pid, flush=True)\n"
        "    input()\n"
    )
    # Killed, it cannot remove its folders. They are not in `tmp_path`, too long a name for Samba's sockets.
    with tempfile.TemporaryDirectory(prefix="smbmount-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", program, tmp_path],
            cwd=CHECKOUT,
            env={**os.environ, "TMPDIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            daemon = os.pidfd_open(int(process.stdout.readline()))
            process.send_signal(signal.SIGKILL)
        try:
            assert _ends(daemon, seconds=60.0)
        finally:
            while topmost_mount(str(tmp_path)) is not None:
                detach(str(tmp_path))


def _ends(process: int, seconds: float = 30.0) -> bool:
    """Wait for the end of the process behind a pidfd, and close the latter."""
    try:
        ended, _, _ = select.select([process], [], [], seconds)
        return bool(ended)
    finally:
        os.close(process)
