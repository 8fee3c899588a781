"""Options about who may mount where and how much is asked of the server, each at work in a real mount."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import CHECKOUT, Mount
from tests.support.samba import SambaServer
from tests.support.tools import bash, wait_until

pytestmark = pytest.mark.deadline(60)

SOMEBODY: Final = 65534
ANOTHER: Final = 65533
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike those of pytest."""
    path = Path(tempfile.mkdtemp(prefix="smbmount-public-"))
    path.chmod(0o755)
    yield path
    path.rmdir()


@pytest.fixture
def filled(samba: SambaServer, share_path: Path) -> str:
    """The name of a folder of the share that holds a file and a folder."""
    (share_path / "file").write_text("content")
    (share_path / "folder").mkdir()
    samba.adopt(share_path)
    return share_path.name


def trips(mount: Mount, call: Callable[[], object]) -> int:
    """The round trips that a call takes, what nobody waits for left out."""
    before = mount.statistics()
    call()
    after = mount.statistics()
    ignored = sum(after["trips"].get(name, 0) - before["trips"].get(name, 0) for name in ("CLOSE", "ECHO"))
    return int(after["round_trips"] - before["round_trips"] - ignored)


@as_root
@pytest.mark.parametrize("option", ["allow_root", "rw"])
def test_allow_root_lets_in_root_and_nobody_else(
    samba: SambaServer, filled: str, public_folder: Path, tmp_path: Path, option: str
) -> None:
    """A user's mount, in a namespace where users may use FUSE and /etc/fuse.conf permits the option."""
    permission = tmp_path / "fuse.conf"
    permission.write_text("user_allow_other\n")
    device = tmp_path / "fuse"
    os.mknod(device, stat.S_IFCHR, Path("/dev/fuse").stat().st_rdev)
    os.chown(public_folder, SOMEBODY, SOMEBODY)
    # The right to read everything is for this interpreter, which may lie in a folder of root's alone.
    user = (
        f"setpriv --reuid={SOMEBODY} --regid={SOMEBODY} --clear-groups "
        "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
    )
    options = f"port={samba.port},username={samba.user},{option}"
    script = f"""
        mount --bind {permission} /etc/fuse.conf
        chmod 666 {device}
        mount --bind {device} /dev/fuse
        PYTHONPATH={CHECKOUT} PASSWD={shlex.quote(samba.password)} {user} {sys.executable} -m smbmount \\
            {samba.unc()}/{filled} {public_folder} -o {options} -f &
        daemon=$!
        trap 'kill $daemon' EXIT
        until grep -q " {public_folder} " /proc/self/mountinfo; do kill -0 $daemon; sleep 0.01; done
        for who in 0 {SOMEBODY} {ANOTHER}; do
            setpriv --reuid=$who --regid=$who --clear-groups cat {public_folder}/file 2> /dev/null || echo out
            echo
        done
        {user} fusermount3 -u {public_folder}
        wait $daemon
        trap - EXIT
    """
    seen = bash(f"unshare --mount --propagation private bash -euc {shlex.quote(script)}", cwd=tmp_path)
    assert seen.split() == ["content" if option == "allow_root" else "out", "content", "out"]


def test_nonempty_hides_what_is_in_the_folder_until_the_end(
    samba: SambaServer, filled: str, tmp_path: Path
) -> None:
    folder = tmp_path / "mountpoint"
    folder.mkdir()
    (folder / "ours").write_text("hidden for a while")
    with Mount(samba, folder, folder=filled, options=["nonempty"]) as mount:
        assert sorted(os.listdir(mount.path)) == ["file", "folder"]
        assert (mount.path / "file").read_text() == "content"
    assert (folder / "ours").read_text() == "hidden for a while"


@as_root
def test_force_mounts_on_a_folder_of_somebody_elses(samba: SambaServer, filled: str, tmp_path: Path) -> None:
    folder = tmp_path / "mountpoint"
    folder.mkdir()
    os.chown(folder, SOMEBODY, SOMEBODY)
    with Mount(samba, folder, folder=filled, options=["force"]) as mount:
        assert (mount.path / "file").read_text() == "content"
        assert mount.path.stat().st_uid == 0
    assert folder.stat().st_uid == SOMEBODY


@pytest.mark.parametrize(
    ("options", "file_trips", "folder_trips"),
    [
        (["actimeo=60"], 0, 0),
        (["actimeo=0"], 3, 3),
        (["actimeo=60", "acregmax=0"], 3, 0),
        (["actimeo=60", "acdirmax=0"], 0, 3),
        (["actimeo=0", "acregmax=60", "acdirmax=60"], 0, 0),
    ],
)
def test_acregmax_and_acdirmax_are_for_files_and_for_folders(
    samba: SambaServer,
    filled: str,
    mount_factory: MountFactory,
    options: list[str],
    file_trips: int,
    folder_trips: int,
) -> None:
    """Asked through an open descriptor, as a name has a validity of its own."""
    mount = mount_factory(samba, folder=filled, options=options)

    def trips_of(name: str) -> int:
        descriptor = os.open(mount.path / name, os.O_PATH)
        try:
            os.stat(descriptor)
            return trips(mount, lambda: [os.stat(descriptor) for _ in range(3)])
        finally:
            os.close(descriptor)

    assert (trips_of("file"), trips_of("folder")) == (file_trips, folder_trips)


@pytest.mark.parametrize("credits", [1, 2, 16])
def test_few_credits_are_enough_for_many_threads(
    samba: SambaServer, filled: str, mount_factory: MountFactory, credits: int
) -> None:
    mount = mount_factory(samba, folder=filled, options=[f"max_credits={credits}"])

    def work(number: int) -> bool:
        path, content = mount.path / f"{number}", os.urandom(200_000)
        path.write_bytes(content)
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.read() == content and path.name in os.listdir(mount.path)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(16)))
    counters = mount.statistics()
    # What the server answers with STATUS_PENDING has given its credit back.
    assert counters["most_in_flight"] <= credits + counters["interim_replies"]


def test_echo_interval_asks_a_silent_server_for_a_sign_of_life(
    samba: SambaServer, filled: str, mount_factory: MountFactory
) -> None:
    patient = mount_factory(samba, folder=filled)
    mount = mount_factory(samba, folder=filled, options=["echo_interval=1"])
    wait_until(lambda: mount.statistics()["requests"].get("ECHO", 0) >= 2, "two ECHOs are sent")
    assert "ECHO" not in patient.statistics()["requests"]
    assert (mount.path / "file").read_text() == "content"


def test_a_server_that_is_silent_for_two_echo_intervals_is_given_up(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    server = samba_factory()
    mount = mount_factory(server, options=["echo_interval=1", "actimeo=0", "timeout=3"])
    mount.expect_log(
        "the connection to .* is (lost: the server has been silent for 2 s|back)|no answer for 3"
    )
    [serving] = server.connection_pids()
    os.kill(serving, signal.SIGSTOP)
    try:
        wait_until(lambda: "silent for 2 s" in mount.log_text(), "the silence is noticed")
        assert error_of(lambda: (mount.path / "file").stat()) in (errno.EIO, errno.ENOTCONN)
    finally:
        os.kill(serving, signal.SIGCONT)
    wait_until(lambda: not error_of(lambda: os.stat(mount.path)), "the server is there again")
