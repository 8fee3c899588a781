"""Leases through the real kernel and a real server, with a second mount as the other client."""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.support.factories import MountFactory
from tests.support.mounting import Mount
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(90)

MIB = 1 << 20
LETTERS = b"abcdefghij"


@pytest.fixture
def here(mount: Mount) -> Path:
    """The mount under test."""
    return mount.path


@pytest.fixture
def elsewhere(samba: SambaServer, share_path: Path, mount_factory: MountFactory) -> Path:
    """The same folder as another client sees it, which believes nothing for longer than a moment."""
    return mount_factory(samba, folder=share_path.name, options=["actimeo=0"]).path


@contextmanager
def descriptor(path: Path, flags: int) -> Iterator[int]:
    """An open file."""
    number = os.open(path, flags)
    try:
        yield number
    finally:
        os.close(number)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def trips(mount: Mount, work: Callable[[], object]) -> int:
    """The round trips that a piece of work costs."""
    before: dict[str, Any] = mount.statistics()
    work()
    return int(mount.statistics()["round_trips"]) - int(before["round_trips"])


def test_small_file_again_costs_the_question_for_its_name(mount: Mount, here: Path) -> None:
    (here / "small").write_bytes(b"content")
    assert (here / "small").read_bytes() == b"content"

    def again() -> None:
        for _ in range(5):
            assert (here / "small").read_bytes() == b"content"

    assert trips(mount, again) == 5


def test_small_file_again_costs_nothing_with_loose_caching(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    mount = mount_factory(samba, folder=share_path.name, options=["cache=loose", "actimeo=60"])
    (mount.path / "small").write_bytes(b"content")
    assert (mount.path / "small").read_bytes() == b"content"

    def again() -> None:
        for _ in range(5):
            assert (mount.path / "small").read_bytes() == b"content"

    assert trips(mount, again) == 0


def test_large_file_again_comes_from_the_kernels_pages(mount: Mount, here: Path) -> None:
    content = os.urandom(8 * MIB)
    (here / "large").write_bytes(content)
    assert (here / "large").read_bytes() == content
    before = mount.statistics()["bytes_received"]
    for _ in range(3):
        assert (here / "large").read_bytes() == content
    assert mount.statistics()["bytes_received"] - before < 100_000


def test_small_file_cold_costs_one_round_trip_after_its_name(
    samba: SambaServer, share_path: Path, mount: Mount
) -> None:
    (share_path / "small").write_bytes(b"content")
    samba.adopt(share_path)
    (mount.path / "small").stat()
    assert trips(mount, (mount.path / "small").read_bytes) == 1


def test_what_another_client_writes_is_seen_at_once(
    samba: SambaServer, share_path: Path, here: Path, tmp_path: Path
) -> None:
    """In a file that is open all the time and was read under a lease; the client has closed when it ends."""
    (here / "file").write_bytes(b"one")
    for number in range(5):
        assert (here / "file").read_bytes() != b""
        with descriptor(here / "file", os.O_RDONLY) as reader:
            assert os.pread(reader, 100, 0) != b""
            content = b"content number %d" % number
            (tmp_path / "local").write_bytes(content)
            samba.smbclient("data", f"put {tmp_path}/local {share_path.name}/file")
            assert os.pread(reader, 100, 0) == content
            assert os.fstat(reader).st_size == len(content)
        assert (here / "file").read_bytes() == content


def test_what_another_mount_wrote_is_seen_by_the_next_open(here: Path, elsewhere: Path) -> None:
    for number in range(20):
        content = b"content number %d" % number
        (elsewhere / "file").write_bytes(content)
        assert (here / "file").read_bytes() == content
        assert (here / "file").stat().st_size == len(content)


def test_a_memory_map_sees_what_another_client_writes(here: Path, elsewhere: Path) -> None:
    (here / "file").write_bytes(b"a" * 10_000)
    with (
        descriptor(here / "file", os.O_RDONLY) as reader,
        mmap.mmap(reader, 10_000, prot=mmap.PROT_READ) as memory,
        descriptor(elsewhere / "file", os.O_RDWR) as writer,
    ):
        assert memory[5000] == ord("a")
        os.pwrite(writer, b"b" * 10_000, 0)
        os.fsync(writer)
        wait_for(lambda: memory[5000] == ord("b"), "the map shows old data")


def test_what_is_not_written_yet_is_read_elsewhere(here: Path, elsewhere: Path) -> None:
    """The other client's open breaks the lease, and waits until our data is on the server."""
    for number in range(10):
        content = b"content number %d" % number
        with descriptor(here / f"file {number}", os.O_CREAT | os.O_RDWR) as writer:
            os.pwrite(writer, content, 0)
            assert (elsewhere / f"file {number}").read_bytes() == content


def test_file_idle_here_is_removed_renamed_and_replaced_elsewhere(here: Path, elsewhere: Path) -> None:
    for name in ("gone", "moved", "replaced", "folder/below"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(b"old")
        assert (here / name).read_bytes() == b"old"
    (elsewhere / "new").write_bytes(b"new")
    begin = time.monotonic()
    (elsewhere / "gone").unlink()
    (elsewhere / "moved").rename(elsewhere / "target")
    (elsewhere / "new").rename(elsewhere / "replaced")
    (elsewhere / "folder").rename(elsewhere / "other")
    assert time.monotonic() - begin < 10, "somebody waited for a break that was not answered"
    assert (here / "replaced").read_bytes() == b"new"
    wait_for(lambda: not (here / "gone").exists(), "a removed file is still there")
    assert (here / "target").read_bytes() == b"old"
    assert (here / "other" / "below").read_bytes() == b"old"


def test_idle_files_do_not_stop_our_own_changes(here: Path) -> None:
    (here / "folder").mkdir()
    for name in ("gone", "moved", "source", "target", "folder/below"):
        (here / name).write_bytes(name.encode())
        assert (here / name).read_bytes() == name.encode()
    (here / "gone").unlink()
    (here / "moved").rename(here / "elsewhere")
    (here / "source").rename(here / "target")
    (here / "folder").rename(here / "renamed")
    assert (here / "target").read_bytes() == b"source"
    assert (here / "elsewhere").read_bytes() == b"moved"
    assert (here / "renamed" / "below").read_bytes() == b"folder/below"
    subprocess.run(["rm", "-r", here / "renamed"], check=True, timeout=30)
    assert sorted(os.listdir(here)) == ["elsewhere", "target"]


def test_hard_links_share_what_is_cached(here: Path, elsewhere: Path) -> None:
    (here / "one").write_bytes(b"content")
    os.link(here / "one", here / "two")
    with descriptor(here / "one", os.O_RDONLY), descriptor(here / "two", os.O_RDONLY) as second:
        assert os.pread(second, 100, 0) == b"content"
        (elsewhere / "one").write_bytes(b"other content")
        wait_for(lambda: os.pread(second, 100, 0) == b"other content", "the other name shows old data")


def test_close_timeout_ends_what_is_kept(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    mount = mount_factory(samba, folder=share_path.name, options=["closetimeo=1"])
    (mount.path / "file").write_bytes(b"content")
    assert (mount.path / "file").read_bytes() == b"content"
    closed = mount.statistics()["requests"].get("CLOSE", 0)
    wait_for(lambda: mount.statistics()["requests"].get("CLOSE", 0) > closed, "the file is never closed")
    assert (mount.path / "file").read_bytes() == b"content"


@pytest.mark.parametrize("option", ["cache=none", "cache=loose"])
def test_other_ways_to_cache_read_what_was_written(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory, elsewhere: Path, option: str
) -> None:
    here = mount_factory(samba, folder=share_path.name, options=[option]).path
    for number in range(5):
        content = b"content number " * 1000 + b"%d" % number
        (elsewhere / "file").write_bytes(content)
        assert (here / "file").read_bytes() == content


def read_what_comes_and_goes(path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise


def read_all(here: Path, stop: Event) -> None:
    while not stop.is_set():
        assert set((here / "file").read_bytes()) <= set(LETTERS)


def read_mapped(here: Path, stop: Event) -> None:
    with (
        descriptor(here / "file", os.O_RDONLY) as number,
        mmap.mmap(number, MIB, prot=mmap.PROT_READ) as memory,
    ):
        while not stop.is_set():
            for offset in range(0, MIB, 4096):
                assert memory[offset] in LETTERS


def rewrite(here: Path, stop: Event) -> None:
    with descriptor(here / "own", os.O_RDWR | os.O_CREAT) as number:
        while not stop.is_set():
            os.pwrite(number, os.urandom(100_000), 0)
            os.fsync(number)


def rename_and_remove(here: Path, stop: Event) -> None:
    for number in itertools.count():
        # Each time another name: one that is made again while its deletion waits for another client
        # can get lost in the server.
        renamed = here / f"renamed {number}"
        (here / "own").write_bytes(b"x" * 5000)
        (here / "own").read_bytes()
        (here / "own").rename(renamed)
        renamed.unlink()
        if stop.is_set():
            return


def truncate(here: Path, stop: Event) -> None:
    (here / "own").write_bytes(bytes(10_000))
    while not stop.is_set():
        for size in (100, 5000, 0):
            os.truncate(here / "own", size)
            assert (here / "own").stat().st_size == size


@pytest.mark.parametrize("busy", [read_all, read_mapped, rewrite, rename_and_remove, truncate])
def test_breaks_under_way_never_deadlock(
    here: Path, elsewhere: Path, busy: Callable[[Path, Event], None]
) -> None:
    """The second client opens and writes the same files again and again while the first is at work."""
    (here / "file").write_bytes(b"a" * MIB)
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(busy, here, stop)
        try:
            for number in range(40):
                with descriptor(elsewhere / "file", os.O_RDWR) as writer:
                    os.pwrite(writer, LETTERS[number % 10 :][:1] * MIB, 0)
                read_what_comes_and_goes(elsewhere / "own")
        finally:
            stop.set()
        working.result(timeout=30)


def test_what_was_written_and_closed_is_final_elsewhere_a_moment_later(
    mount: Mount, here: Path, elsewhere: Path
) -> None:
    (here / "copy").write_bytes(b"content")
    os.utime(here / "copy", (1_000_000_000, 1_000_000_000))
    assert (elsewhere / "copy").stat().st_mtime == 1_000_000_000
    os.listdir(here)
    closed = mount.statistics()["trips"].get("CLOSE", 0)
    (here / "file").write_bytes(b"content")
    wait_for(lambda: mount.statistics()["trips"].get("CLOSE", 0) > closed, "the file is never closed")
    shown = (elsewhere / "file").stat()
    assert shown.st_mtime_ns == (here / "file").stat().st_mtime_ns
    assert shown.st_size == 7


def test_a_file_just_written_is_removed_renamed_and_read_elsewhere_at_once(
    here: Path, elsewhere: Path
) -> None:
    begin = time.monotonic()
    for number in range(20):
        (here / f"file {number}").write_bytes(b"content")
        assert (elsewhere / f"file {number}").read_bytes() == b"content"
        (here / f"gone {number}").write_bytes(b"content")
        (elsewhere / f"gone {number}").unlink()
        (here / f"old {number}").write_bytes(b"content")
        (elsewhere / f"old {number}").rename(elsewhere / f"new {number}")
    assert time.monotonic() - begin < 10, "somebody waited for a break that was not answered"
    assert sorted(os.listdir(here)) == sorted(
        f"{name} {number}" for name in ("file", "new") for number in range(20)
    )
