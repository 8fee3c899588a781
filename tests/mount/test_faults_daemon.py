"""Rows 14 to 16 of the table of faults: the daemon is ended in every way there is, and asked for too much."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from smbmount.aftermath import is_ended
from smbmount.failures import ExitCode
from smbmount.mountpoint import prepare_mountpoint
from smbmount.mounttable import abort, topmost_mount
from smbmount.vfs.writebehind import FILE_LIMIT
from tests.benchmarks.crowd import memory
from tests.support.calls import error_of
from tests.support.factories import MountFactory
from tests.support.mounting import Mount
from tests.support.proxy import Drop, Link, ProxyProcess, Relink, Resume, Way
from tests.support.samba import SambaServer
from tests.support.tools import Conversation, noise, python_child, wait_until

MIB: Final = 1 << 20
MOST_MEMORY: Final = 150
"""MiB, whatever is asked of the mount."""
LINE: Final = 1_000_000
"""Bytes per second."""
SOCKETS: Final = 16 * MIB
"""What the kernel may hold for the two connections on the way."""

READING: Final = "folio_wait_bit_common"
HELD: Final = "__folio_lock"
"""Where the kernel has a program wait that reads a page, and who is to forget it."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do that to a mount")


@pytest.fixture
def connections() -> Iterator[Path]:
    """The kernel's list of FUSE connections, wherever the machine shows it or not."""
    folder = Path(tempfile.mkdtemp(prefix="smbmount-fusectl-"))
    subprocess.run(["mount", "-t", "fusectl", "fusectl", folder], check=True, timeout=20)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=20)
        folder.rmdir()


def fsyncing_writer(path: Path) -> Conversation:
    """Writes records and says how many have been confirmed by fsync, until it cannot go on."""
    source = """
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
number = 0
try:
    while True:
        for _ in range(3):
            os.write(fd, b"%07d\\n" % number)
            number += 1
        os.fsync(fd)
        print(number)
except OSError as error:
    print("errno", error.errno)
    os._exit(0)
"""
    return python_child(source, path, cwd=Path("/"))


def test_fault_14_killed_while_a_program_writes(mount: Mount) -> None:
    """Everything that fsync confirmed is there, and the next mount on the same folder shows it."""
    with fsyncing_writer(mount.path / "log") as writer:
        for _ in range(30):
            confirmed = int(writer.hear())
        mount.signal(signal.SIGKILL)
        while (line := writer.hear()).isdigit():
            confirmed = int(line)
    assert line in {f"errno {errno.ENOTCONN}", f"errno {errno.ECONNABORTED}"}
    assert mount.wait_exit() == -signal.SIGKILL
    assert error_of(lambda: os.listdir(mount.path)) == errno.ENOTCONN
    mount.start()
    records = (mount.path / "log").read_text().splitlines()
    assert len(records) >= confirmed
    assert records == [f"{number:07}" for number in range(len(records))]


@contextmanager
def held_by_the_kernel(mount: Mount, others: Path, proxy: ProxyProcess) -> Iterator[None]:
    """A thread of the daemon waits in the kernel for a page that a READ keeps locked, which the server never
    hears of: another client's write breaks the lease under which the file's pages were read."""
    (others / "big").write_bytes(noise(8 * MIB, "pages") * 8)
    writer = "import os; f = os.open('big', os.O_RDWR); print(); input(); os.pwrite(f, b'x', 0); os.fsync(f)"
    reader = "import os; f = os.open('big', 0); os.pread(f, 1, 0); print(); input(); os.pread(f, 1, 60 << 20)"
    with python_child(writer, cwd=others) as there, python_child(reader, cwd=mount.path) as here:
        for program in (there, here):
            assert not program.hear()
        proxy.tell(Drop((Way.TO_SERVER,)))
        here.say("go on")
        wait_until(lambda: READING in waits_in(here.pid), "the program waits for the server")
        there.say("go on")
        wait_until(lambda: HELD in waits_in(mount.pid), "the kernel holds a thread of the daemon")
        yield


def waits_in(pid: int) -> set[str]:
    """The functions of the kernel in which the threads of a process wait."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found.add((task / "wchan").read_text())
    return found


def aftermath_of(mount: Mount) -> int:
    """The process that waits for the daemon's end."""
    (pid,) = Path(f"/proc/{mount.pid}/task/{mount.pid}/children").read_text().split()
    return int(pid)


@as_root
@pytest.mark.parametrize("alone", [False, True], ids=["", "with its aftermath"])
def test_fault_14_killed_while_the_kernel_holds_a_thread(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory, alone: bool
) -> None:
    """What is left of it would keep the mount for ever: its aftermath ends that, or else the next mount."""
    others = mount_factory(samba, folder=share_path.name).path
    with ProxyProcess((samba.address, samba.port)) as proxy:
        mount = mount_factory(samba, folder=share_path.name, options=[f"port={proxy.port}"])
        with held_by_the_kernel(mount, others, proxy):
            if alone:
                os.kill(aftermath_of(mount), signal.SIGKILL)
            mount.signal(signal.SIGKILL)
            if alone:
                wait_until(lambda: is_ended(mount.pid), "the main thread ends")
                assert HELD in waits_in(mount.pid)
                assert prepare_mountpoint(str(mount.path)) == str(mount.path)
                assert topmost_mount(str(mount.path)) is None
            assert mount.wait_exit() == -signal.SIGKILL
            if not alone:
                assert error_of(lambda: os.listdir(mount.path)) == errno.ENOTCONN
        proxy.tell(Resume())
        mount.start()
        assert (mount.path / "big").stat().st_size == 64 * MIB
        mount.unmount()


@as_root
def test_fault_15_stopped_at_once_while_the_kernel_holds_a_thread(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    """Unmounting would wait for that thread, which waits for a request that is answered no more."""
    others = mount_factory(samba, folder=share_path.name).path
    with ProxyProcess((samba.address, samba.port)) as proxy:
        mount = mount_factory(samba, folder=share_path.name, options=[f"port={proxy.port}"])
        with held_by_the_kernel(mount, others, proxy):
            aftermath = aftermath_of(mount)
            for number in (signal.SIGINT, signal.SIGTERM):
                mount.signal(number)
            assert mount.wait_exit(10) == ExitCode.INTERRUPTED
            assert topmost_mount(str(mount.path)) is None
            assert is_ended(aftermath)


def test_fault_15_sigterm_while_a_program_writes(mount: Mount, share_path: Path) -> None:
    """What write(2) took is on the server, and the mount is gone, although somebody is using it."""
    with fsyncing_writer(mount.path / "log") as writer:
        for _ in range(30):
            confirmed = int(writer.hear())
        mount.signal(signal.SIGTERM)
        while (line := writer.hear()).isdigit():
            confirmed = int(line)
    assert line.startswith("errno ")
    assert mount.wait_exit() == 0
    assert topmost_mount(str(mount.path)) is None
    assert len((share_path / "log").read_text().splitlines()) >= confirmed


@as_root
@pytest.mark.parametrize("command", [["umount"], ["umount", "--lazy"]], ids=" ".join)
def test_fault_15_unmounting_by_hand_writes_everything(
    mount: Mount, share_path: Path, command: list[str]
) -> None:
    """Busy: refused, and the mount goes on. Idle, or lazily and idle later: all is written."""
    content = noise(3_000_000, "unmount")
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, content)
    first = subprocess.run([*command, mount.path], capture_output=True, text=True, timeout=30, check=False)
    if "--lazy" in command:
        assert first.returncode == 0
        assert topmost_mount(str(mount.path)) is None
        os.write(descriptor, content)
        os.close(descriptor)
    else:
        assert "busy" in first.stderr
        os.write(descriptor, content)
        os.close(descriptor)
        subprocess.run([*command, mount.path], check=True, timeout=30)
    assert mount.wait_exit() == 0
    assert topmost_mount(str(mount.path)) is None
    assert (share_path / "file").read_bytes() == content * 2


@as_root
@pytest.mark.parametrize("how", ["through /sys", "by umount --force", "by us", "by us, without fusectl"])
def test_fault_15_connection_aborted(mount: Mount, share_path: Path, connections: Path, how: str) -> None:
    """The kernel takes the mount from us: what we were given is written all the same."""
    content = noise(3_000_000, "abort")
    descriptor = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, content)
    if how == "through /sys":
        number = os.minor(os.stat(mount.path).st_dev)
        (connections / f"{number}" / "abort").write_text("1")
    elif how.startswith("by us"):
        entry = topmost_mount(str(mount.path))
        assert entry is not None
        abort(entry, str(connections) if how == "by us" else "/nowhere")
    else:
        subprocess.run(["umount", "--force", mount.path], capture_output=True, timeout=30, check=False)
    assert mount.wait_exit() == 0
    assert topmost_mount(str(mount.path)) is None
    assert error_of(lambda: os.write(descriptor, b"x")) == errno.ENOTCONN
    assert error_of(lambda: os.close(descriptor)) == errno.ENOTCONN
    assert (share_path / "file").read_bytes() == content
    assert os.listdir(mount.path) == []


def test_fault_16_a_thousand_open_files(mount: Mount, share_path: Path) -> None:
    source = """
import os, resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(2000, hard), hard))
files = [os.open(f"f{number}", os.O_CREAT | os.O_RDWR) for number in range(1000)]
for number, fd in enumerate(files):
    os.write(fd, b"%06d" % number * 100)
print("open")
input()
for number, fd in enumerate(files):
    if number % 10 == 0:
        assert os.pread(fd, 600, 0) == b"%06d" % number * 100
    os.close(fd)
"""
    with python_child(source, cwd=mount.path) as opener:
        assert opener.hear() == "open"
        assert memory(mount) < MOST_MEMORY
        opener.say("go on")
        opener.finish()
    assert memory(mount, "VmHWM") < MOST_MEMORY
    for number in (0, 499, 999):
        assert (share_path / f"f{number}").read_bytes() == b"%06d" % number * 100


def test_fault_16_fast_writer_is_held_back_by_a_slow_line(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory, tmp_path: Path
) -> None:
    """At no time more has been written than has left for the server and fits into the buffers between."""
    total = 160
    source = """
import os, sys
file = os.open("big", os.O_CREAT | os.O_WRONLY)
progress = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
for number in range(int(sys.argv[2])):
    os.write(file, number.to_bytes(4, "big") * (1 << 18))
    os.pwrite(progress, bytes([number + 1]), 0)
os.fsync(file)
"""
    progress = tmp_path / "progress"
    progress.write_bytes(b"\0")
    with ProxyProcess((samba.address, samba.port), Link(rate=LINE, queue=1 << 16)) as proxy:
        mount = mount_factory(samba, folder=share_path.name, options=[f"port={proxy.port}"])
        with python_child(source, progress, f"{total}", cwd=mount.path) as writer:
            most = 0
            while (sent := proxy.counts().to_server.octets) < 3 * LINE:
                written = progress.read_bytes()[0] * MIB
                most = max(most, written - proxy.counts().to_server.octets)
                assert most < FILE_LIMIT + SOCKETS, f"{written} bytes written when {sent} were sent"
            assert most > 4 * MIB, "nothing is written behind"
            assert memory(mount, "VmHWM") < MOST_MEMORY
            proxy.tell(Relink(Link()))
            writer.finish()
        assert memory(mount, "VmHWM") < MOST_MEMORY
        with (share_path / "big").open("rb") as file:
            for number in range(total):
                assert file.read(MIB) == number.to_bytes(4, "big") * (1 << 18)
            assert not file.read(1)
        mount.unmount()
