"""Connections that fail under a mount: it waits, goes on, and loses nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import Mount
from tests.support.proxy import Drop, ProxyProcess, Reset, Resume
from tests.support.samba import SambaServer
from tests.support.tools import wait_until

pytestmark = pytest.mark.deadline(120)

MIB: Final = 1 << 20
SUSPENDED: Final = 4.0
"""Seconds: longer than `timeout`, and than two ECHOs may take."""
LOST: Final = "the connection to .* is (lost|back)"


class Line:
    """A server of the test's own, and a mount of it behind a line that can fail."""

    def __init__(self, server: SambaServer, proxy: ProxyProcess, mount: Mount) -> None:
        self.server = server
        self.proxy = proxy
        self.mount = mount
        self.path = mount.path
        self.there = server.share_path()
        mount.expect_log(LOST)


LineFactory = Callable[..., Line]


@pytest.fixture
def line(samba_factory: SambaFactory, mount_factory: MountFactory) -> Iterator[LineFactory]:
    """`line("timeout=2", durable=False)`: a mount with options, of a server that keeps no open files."""
    proxies: list[ProxyProcess] = []

    def make(*options: str, durable: bool = True, credentials: Path | None = None) -> Line:
        forgets = {} if durable else {"durable handles": "no"}
        server = samba_factory(global_options=forgets)
        proxy = ProxyProcess((server.address, server.port))
        proxies.append(proxy.__enter__())
        if credentials is not None:
            credentials.write_bytes(server.credentials_file.read_bytes())
            credentials.chmod(0o600)
        mount = mount_factory(server, options=[f"port={proxy.port}", *options], credentials=credentials)
        return Line(server, proxy, mount)

    yield make
    for proxy in proxies:
        proxy.__exit__(None, None, None)


@contextmanager
def cutting(line: Line, seed: int, longest: float) -> Iterator[None]:
    """Reset the connection over and over while the block runs, some time after each return."""
    chance, ended = random.Random(seed), threading.Event()

    def cut() -> None:
        while not ended.wait(chance.uniform(longest / 4, longest)):
            line.proxy.tell(Reset())

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_fault_01_an_idle_mount_heals_when_smbd_restarts(line: LineFactory) -> None:
    it = line()
    (it.path / "file").write_text("content")
    it.server.restart()
    assert (it.path / "file").read_text() == "content"
    (it.path / "new").write_text("more")
    assert (it.there / "new").read_text() == "more"


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "by path"])
def test_fault_01_open_files_come_back(line: LineFactory, durable: bool) -> None:
    it = line(durable=durable)
    written = os.open(it.path / "written", os.O_CREAT | os.O_RDWR)
    os.write(written, b"before ")
    # Nothing may be unwritten: starting a server closes our descriptors in the new process, which would wait.
    os.fsync(written)
    (it.there / "read").write_bytes(bytes(range(256)) * 4096)
    it.server.adopt(it.there)
    read = os.open(it.path / "read", os.O_RDONLY)
    assert os.pread(read, 10, 0) == bytes(range(10))
    for cut in (it.server.restart, partial(it.proxy.tell, Reset())):
        cut()
        os.write(written, b"after ")
        os.fsync(written)
        assert os.pread(read, 256, 256 * 4000) == bytes(range(256))
    assert os.pread(written, 100, 0) == b"before after after "
    os.close(written)
    os.close(read)
    assert (it.there / "written").read_bytes() == b"before after after "


def test_fault_01_a_file_that_was_replaced_is_stale_alone(line: LineFactory) -> None:
    it = line(durable=False)
    it.mount.expect_log("replaced is another file now|cannot be opened again")
    for name in ("replaced", "kept"):
        (it.path / name).write_text(name)
    opened = {name: os.open(it.path / name, os.O_RDWR) for name in ("replaced", "kept")}
    it.server.stop_service()
    (it.there / "new").write_text("something else")
    os.replace(it.there / "new", it.there / "replaced")
    it.server.adopt(it.there / "replaced")
    it.server.restart()
    os.write(opened["kept"], b"KEPT")
    os.fsync(opened["kept"])
    os.write(opened["replaced"], b"lost")
    assert error_of(lambda: os.fsync(opened["replaced"])) == errno.ESTALE
    for descriptor in opened.values():
        error_of(partial(os.close, descriptor))
    assert (it.path / "replaced").read_text() == "something else"
    assert (it.path / "kept").read_text() == "KEPT"


def test_fault_02_copies_in_and_out_complete_bit_for_bit(line: LineFactory, tmp_path: Path) -> None:
    it = line()
    source = tmp_path / "source"
    source.write_bytes(random.Random(2).randbytes(48 * MIB))
    with cutting(it, seed=2, longest=0.4):
        shutil.copyfile(source, it.path / "file")
        with (it.path / "file").open("rb+") as file:
            os.fsync(file.fileno())
        assert digest(it.there / "file") == digest(source)
        subprocess.run(["cp", it.path / "file", tmp_path / "back"], check=True)
    assert digest(tmp_path / "back") == digest(source)


def test_fault_09_times_to_come_are_set_while_the_line_is_cut(line: LineFactory) -> None:
    """A file or folder that has such a time after a loss need not have been written by somebody else."""
    it = line("actimeo=0", "closetimeo=1")
    folder, file = it.path / "folder", it.path / "file"
    folder.mkdir()
    file.write_bytes(b"content")
    reader = os.open(file, os.O_RDONLY)
    with cutting(it, 12, 0.1):
        for number in range(80):
            times = (4_000_000_000_000_000_000 + number * 100,) * 2
            for path in (folder, file):
                os.utime(path, ns=times)
                assert path.stat().st_mtime_ns == times[1]
            assert os.pread(reader, 7, 0) == b"content"
    os.close(reader)


def test_fault_08_our_own_open_by_another_name_breaks_our_lease_while_files_come_back(
    line: LineFactory,
) -> None:
    """Samba grants a lease for one name of a file. What is unwritten through the other waits for that to be
    opened again, which waits for the lease to be given up, which must not wait for what is unwritten."""
    it = line("vers=2.1", "closetimeo=1")
    with cutting(it, 11, 0.5):
        for number in range(150):
            name, other = it.path / f"name {number}", it.path / f"other {number}"
            name.write_bytes(b"before" + bytes(1 << 17))
            first, second = os.open(name, os.O_RDWR), os.open(name, os.O_WRONLY)
            os.write(second, b"12")
            os.link(name, other)
            began = time.monotonic()
            third = os.open(other, os.O_RDWR | (os.O_TRUNC if number % 2 else 0))
            os.write(third, b"x")
            assert len(os.pread(third, 1 << 16, 1 << 16)) == (0 if number % 2 else 1 << 16)
            os.close(third)
            os.pwrite(first, b"y", 1)
            os.close(first)
            os.close(second)
            assert time.monotonic() - began < 10
            assert (it.there / name.name).read_bytes()[:2] == b"xy"
            name.unlink()
            other.unlink()


def test_fault_02_trees_are_made_and_removed_while_the_line_is_cut(line: LineFactory, tmp_path: Path) -> None:
    it = line()
    for folder in range(4):
        (tmp_path / "tree" / f"folder{folder}").mkdir(parents=True)
        for file in range(25):
            (tmp_path / "tree" / f"folder{folder}" / f"file{file}").write_text(f"{folder} {file}")
    with cutting(it, seed=3, longest=0.3):
        for _ in range(3):
            subprocess.run(["cp", "-r", tmp_path / "tree", it.path / "tree"], check=True)
            subprocess.run(["diff", "-r", tmp_path / "tree", it.there / "tree"], check=True)
            os.rename(it.path / "tree", it.path / "moved")
            subprocess.run(["diff", "-r", tmp_path / "tree", it.path / "moved"], check=True)
            subprocess.run(["rm", "-r", it.path / "moved"], check=True)
    assert os.listdir(it.there) == []


def test_fault_03_black_hole(line: LineFactory) -> None:
    """`ls` ends within the timeout, `df` at once, and everything goes on when the line is back."""
    it = line("timeout=4", "actimeo=0")
    it.mount.expect_log("no answer for")
    (it.path / "file").write_text("content")
    os.statvfs(it.path)
    it.proxy.tell(Drop())
    started = time.monotonic()
    subprocess.run(["df", it.path], check=True, stdout=subprocess.DEVNULL)
    assert time.monotonic() - started < 1
    listing = threading.Thread(target=lambda: error_of(lambda: os.listdir(it.path)))
    started = time.monotonic()
    listing.start()
    listing.join(6)
    assert not listing.is_alive()
    it.proxy.tell(Resume())
    wait_until(
        lambda: not error_of(lambda: (it.path / "file").read_text()), "the line's return is noticed", 4
    )
    assert (it.path / "file").read_text() == "content"


def test_fault_04_a_server_that_stops_for_a_while(line: LineFactory) -> None:
    it = line()
    (it.path / "file").write_text("content")
    pids = it.server.connection_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    def wake() -> None:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    timer = threading.Timer(4, wake)
    timer.start()
    try:
        (it.path / "new").write_text("written")
        assert (it.path / "file").read_text() == "content"
    finally:
        timer.join()
    assert (it.there / "new").read_text() == "written"


def test_fault_11_the_share_is_closed_on_the_server(line: LineFactory) -> None:
    it = line()
    descriptor = os.open(it.path / "file", os.O_CREAT | os.O_RDWR)
    os.write(descriptor, b"before ")
    os.fsync(descriptor)
    it.server.smbcontrol("smbd", "close-share", "data")
    os.write(descriptor, b"after")
    os.close(descriptor)
    assert (it.path / "file").read_text() == "before after"


def test_fault_12_the_password_was_changed(line: LineFactory, tmp_path: Path) -> None:
    it = line("timeout=20", credentials=tmp_path / "credentials")
    it.mount.expect_log("refuses us since the connection was lost")
    (it.path / "file").write_text("content")
    it.server.set_password("another one")
    it.proxy.tell(Reset())
    wait_until(lambda: "refuses us" in it.mount.log_text(), "the refusal is said")
    started = time.monotonic()
    for _ in range(20):
        assert error_of(lambda: os.listdir(it.path)) == errno.EACCES
    assert time.monotonic() - started < 10
    assert it.mount.log_text().count("refuses us") == 1


def test_fault_12_a_changed_password_in_the_credentials_file_is_used(
    samba_factory: SambaFactory, mount_factory: MountFactory, tmp_path: Path
) -> None:
    server = samba_factory()
    file = tmp_path / "credentials"

    def write(*lines: str) -> None:
        file.write_text("\n".join((f"username={server.user}", *lines)))
        file.chmod(0o600)

    write(f"password={server.password}", "password2=the second")
    mount = mount_factory(server, credentials=file)
    mount.expect_log(LOST)
    for password in ("the second", "the third"):
        if password == "the third":
            write("password=the third")
        server.set_password(password)
        server.restart()
        (mount.path / "file").write_text(password)
        assert (server.share_path() / "file").read_text() == password


def test_fault_12_the_share_is_removed(line: LineFactory) -> None:
    it = line("timeout=20")
    it.mount.expect_log("refuses us since the connection was lost")
    (it.path / "file").write_text("content")
    it.server.conf.write_text(it.server.conf.read_text().replace("[data]", "[renamed]"))
    it.server.restart()
    wait_until(lambda: "refuses us" in it.mount.log_text(), "the refusal is said")
    assert error_of(lambda: os.listdir(it.path)) == errno.ENOENT
    assert it.mount.log_text().count("refuses us") == 1


def test_fault_08_a_break_that_crosses_a_reconnect(line: LineFactory, tmp_path: Path) -> None:
    """Another client takes the lease away while ours is being brought back: no write is lost."""
    it = line()
    descriptor = os.open(it.path / "file", os.O_CREAT | os.O_RDWR)
    for number in range(10):
        os.pwrite(descriptor, b"%4d" % number, 4 * number)
        it.proxy.tell(Reset())
        it.server.smbclient("data", f"get file {tmp_path / 'got'}")
        os.pwrite(descriptor, b"more", 40)
    os.close(descriptor)
    assert (it.there / "file").read_bytes() == b"".join(b"%4d" % number for number in range(10)) + b"more"


def test_hard_waits_for_the_server_as_long_as_it_takes(line: LineFactory) -> None:
    it = line("hard", "timeout=1", "actimeo=0")
    (it.path / "file").write_text("content")
    it.server.stop_service()
    timer = threading.Timer(4, it.server.restart)
    timer.start()
    try:
        assert (it.path / "file").read_text() == "content"
    finally:
        timer.join()


@pytest.mark.parametrize("meanwhile", [Reset(), Drop()], ids=["reset", "hole"])
def test_fault_23_suspended_longer_than_anybodys_patience(line: LineFactory, meanwhile: Reset | Drop) -> None:
    """The daemon is stopped instead of the machine. Unlike then its clock runs on, so all is due at once."""
    here = line("timeout=3", "echo_interval=1")
    news = here.path / "news"
    news.write_text("old")
    assert news.read_text() == "old"
    with open(here.path / "file", "w+b", buffering=0) as file:
        file.write(b"written before, ")
        here.mount.signal(signal.SIGSTOP)
        here.proxy.tell(meanwhile)
        (here.there / "news").write_text("newer")
        time.sleep(SUSPENDED)
        here.proxy.tell(Resume())
        here.mount.signal(signal.SIGCONT)
        file.write(b"and after")
        os.fsync(file.fileno())
        assert (here.there / "file").read_bytes() == b"written before, and after"
        assert os.pread(file.fileno(), 100, 0) == b"written before, and after"
    assert sorted(os.listdir(here.path)) == ["file", "news"]
    wait_until(lambda: news.read_text() == "newer", "what changed meanwhile is seen")
