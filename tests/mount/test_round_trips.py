"""The budget of round trips, counted by the engine behind a real mount, and requests in flight together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.support.connections import frozen
from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import Mount
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(60)

NOT_WAITED_FOR: Final = {"CLOSE", "QUERY_INFO+CLOSE", "ECHO"}
"""No program waits for these, so they cost no time."""


def statistics(mount: Mount) -> dict[str, dict[str, int]]:
    """The daemon's counters, which it logs when asked by SIGUSR1."""
    seen = mount.log_text().count("statistics: ")
    mount.signal(signal.SIGUSR1)
    deadline = time.monotonic() + 10
    while not ((log := mount.log_text()).count("statistics: ") > seen and log.endswith("\n")):
        assert time.monotonic() < deadline, "the daemon logged no statistics"
    counters: dict[str, dict[str, int]] = json.loads(log.rpartition("statistics: ")[2])
    return counters


def trips(mount: Mount, call: Callable[[], object]) -> Counter[str]:
    """The round trips that a call waits for, by the commands in them."""
    before = Counter(statistics(mount)["trips"])
    call()
    made = Counter(statistics(mount)["trips"]) - before
    return Counter({name: count for name, count in made.items() if name not in NOT_WAITED_FOR})


@pytest.fixture
def folder(samba: SambaServer, share_path: Path) -> Path:
    """A folder on the server with three files and a folder, that no mount knows."""
    for name in ("one", "two", "three"):
        (share_path / name).write_text(name)
    (share_path / "inner").mkdir()
    samba.adopt(share_path)
    return share_path


@pytest.fixture
def mount(samba: SambaServer, folder: Path, mount_factory: MountFactory) -> Mount:
    """A mount of `folder` that knows its root and nothing else, and remembers what it learns."""
    return mount_factory(samba, folder=folder.name, options=["actimeo=60"])


def test_stat_of_a_cold_name(mount: Mount) -> None:
    assert trips(mount, (mount.path / "one").stat).total() == 1
    assert trips(mount, (mount.path / "one").stat).total() == 0


def test_missing_name_is_asked_for_once(mount: Mount) -> None:
    assert trips(mount, (mount.path / "missing").exists).total() == 1
    assert trips(mount, (mount.path / "missing").exists).total() == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda here: (here / "one").unlink(),
        lambda here: (here / "inner").rmdir(),
        lambda here: (here / "one").rename(here / "renamed"),
        lambda here: (here / "new").mkdir(),
        lambda here: os.utime(here / "one", (1, 1)),
        lambda here: os.setxattr(here / "one", "user.key", b"value"),
        lambda here: os.link(here / "one", here / "link"),
    ],
    ids=["unlink", "rmdir", "rename", "mkdir", "utime", "setxattr", "link"],
)
def test_change_of_a_known_name(mount: Mount, change: Callable[[Path], object]) -> None:
    os.listdir(mount.path)
    assert trips(mount, lambda: change(mount.path)).total() == 1


def test_truncation_by_name_looks_first_which_file_it_is(mount: Mount) -> None:
    os.listdir(mount.path)
    assert trips(mount, lambda: os.truncate(mount.path / "one", 1)).total() == 2


def test_change_of_a_file_that_is_open_for_reading_looks_first_which_file_it_is(mount: Mount) -> None:
    os.listdir(mount.path)
    with (mount.path / "one").open() as file:
        assert trips(mount, lambda: os.utime(file.fileno(), (1, 1))).total() == 2


def test_times_set_behind_a_copy_cost_one_round_trip(mount: Mount) -> None:
    """As cp, tar and rsync do."""
    os.listdir(mount.path)
    (mount.path / "new").write_text("content")
    assert trips(mount, lambda: os.utime(mount.path / "new", (1, 1))).total() == 1


def test_truncating_open_looks_first_which_file_it_is(mount: Mount) -> None:
    os.listdir(mount.path)
    path = mount.path / "one"
    assert trips(mount, lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))).total() == 2


def test_listing_with_all_attributes(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    for number in range(3000):
        (share_path / f"file {number:04}").touch()
    samba.adopt(share_path)
    mount = mount_factory(samba, folder=share_path.name, options=["actimeo=60"])

    def list_all() -> None:
        with os.scandir(mount.path) as entries:
            assert sum(entry.stat(follow_symlinks=False).st_size for entry in entries) == 0

    assert trips(mount, list_all).total() <= 3
    assert trips(mount, lambda: (mount.path / "file 2999").stat()).total() == 0


def test_stat_of_many_names_of_one_folder(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    for number in range(500):
        (share_path / f"{number}").touch()
    samba.adopt(share_path)
    mount = mount_factory(samba, folder=share_path.name, options=["actimeo=60"])
    assert trips(mount, lambda: [(mount.path / f"{number}").stat() for number in range(500)]).total() <= 5


def test_reading_a_small_known_file(mount: Mount) -> None:
    (mount.path / "one").stat()
    assert trips(mount, (mount.path / "one").read_text).total() <= 2


def test_making_a_small_file(mount: Mount) -> None:
    os.listdir(mount.path)
    assert trips(mount, lambda: (mount.path / "new").write_text("content")).total() == 2


def requests(mount: Mount, call: Callable[[], object]) -> Counter[str]:
    """The requests that a call makes, waited for or not."""
    before = Counter(statistics(mount)["requests"])
    call()
    return Counter(statistics(mount)["requests"]) - before


def test_files_made_and_read_need_no_questions_beside_their_opens(mount: Mount) -> None:
    os.listdir(mount.path)

    def work() -> None:
        assert (mount.path / "one").read_text() == "one"
        for number in range(10):
            (mount.path / f"new {number}").write_text("content")

    assert requests(mount, work)["QUERY_INFO"] == 0


def test_writing_a_file_and_its_times_as_tar_does(mount: Mount) -> None:
    os.listdir(mount.path)

    def unpack() -> None:
        with (mount.path / "new").open("wb", buffering=0) as file:
            file.write(b"content")
            os.utime(file.fileno(), (1_000_000_000, 1_000_000_000))
            os.fchmod(file.fileno(), 0o644)

    assert trips(mount, unpack) == {"CREATE": 1, "WRITE+SET_INFO": 1}
    assert (mount.path / "new").stat().st_mtime == 1_000_000_000


def test_copying_a_small_file_with_its_times(mount: Mount, tmp_path: Path) -> None:
    (tmp_path / "local").write_text("content")
    os.utime(tmp_path / "local", (1_000_000_000, 1_000_000_000))
    os.listdir(mount.path)
    made = trips(mount, lambda: shutil.copy2(tmp_path / "local", mount.path / "new"))
    assert made.total() == 3
    assert trips(mount, (mount.path / "new").stat).total() == 0
    assert (mount.path / "new").stat().st_mtime == 1_000_000_000


def test_copying_a_tree_of_small_files(samba: SambaServer, folder: Path, mount: Mount) -> None:
    for inner in "abc":
        (folder / "source" / inner).mkdir(parents=True)
        for number in range(10):
            (folder / "source" / inner / f"{number}").write_text(f"{inner}{number}")
    samba.adopt(folder / "source")
    made = trips(mount, lambda: shutil.copytree(mount.path / "source", mount.path / "copy"))
    assert made["CREATE"] == made["WRITE"] == made["SET_INFO+CLOSE"] == 30
    assert made["CREATE+CLOSE"] == 4, "the folders that are made"
    assert made["CREATE+SET_INFO+CLOSE"] == 4, "their times"
    read = made["CREATE+READ"] + made["CREATE+QUERY_INFO+READ"]
    assert read == 30
    assert made.total() - 90 - 8 - read <= 10, "names and listings"
    for inner in "abc":
        for number in range(10):
            source, copy = (folder / top / inner / f"{number}" for top in ("source", "copy"))
            assert copy.read_text() == source.read_text()
            assert copy.stat().st_mtime_ns // 100 == source.stat().st_mtime_ns // 100


def test_times_set_behind_the_close_of_a_new_file_are_not_waited_for(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    server = samba_factory()
    mount = mount_factory(server)
    for name in ("first", "second"):
        with (mount.path / name).open("wb", buffering=0) as file, ThreadPoolExecutor(1) as program:
            file.write(b"content")
            file.close()
            if name == "first":
                os.utime(mount.path / name, (1, 1))
                continue
            with frozen(server):
                program.submit(os.utime, mount.path / name, (1, 1)).result(20)
        assert (mount.path / name).stat().st_mtime == 1
        assert (server.share_path() / name).stat().st_mtime == 1


def test_space_is_asked_for_once(mount: Mount) -> None:
    os.statvfs(mount.path)
    assert trips(mount, lambda: [os.statvfs(mount.path) for _ in range(20)]).total() == 0


def test_attributes_of_other_namespaces_cost_nothing(mount: Mount) -> None:
    (mount.path / "one").stat()

    def ask() -> None:
        for name in ("security.selinux", "security.capability", "system.posix_acl_access"):
            with pytest.raises(OSError, match=r"not supported|No data"):
                os.getxattr(mount.path / "one", name)

    assert trips(mount, ask).total() == 0


def wait_for_requests_in_flight(mount: Mount, count: int) -> None:
    """Return when so many requests are waiting for their replies."""
    deadline = time.monotonic() + 20
    patience = threading.Event()
    while int(str(statistics(mount)["in_flight"])) < count:
        assert time.monotonic() < deadline, f"there never were {count} requests in flight"
        patience.wait(0.05)


def test_large_file_is_read_with_many_requests_in_flight(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    server = samba_factory()
    content = os.urandom(48 * 2**20)
    (server.share_path() / "large").write_bytes(content)
    server.adopt(server.share_path())
    mount = mount_factory(server)
    with (mount.path / "large").open("rb", buffering=0) as file, ThreadPoolExecutor(1) as reader:
        first = file.read(12 * 2**20)
        with frozen(server):
            rest = reader.submit(file.read, 36 * 2**20)
            wait_for_requests_in_flight(mount, 4)
        assert first + rest.result(30) == content
    assert statistics(mount)["requests"]["READ"] <= 80


def test_large_file_is_written_with_many_requests_in_flight(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    server = samba_factory()
    content = os.urandom(12 * 2**20)
    mount = mount_factory(server)
    with (mount.path / "large").open("wb", buffering=0) as file, ThreadPoolExecutor(1) as writer:
        with frozen(server):
            written = writer.submit(file.write, content)
            wait_for_requests_in_flight(mount, 4)
        assert written.result(30) == len(content)
        os.fsync(file.fileno())
        assert (server.share_path() / "large").read_bytes() == content
    assert statistics(mount)["requests"]["WRITE"] <= 40


def test_random_reads_fetch_little_more_than_is_asked_for(
    samba: SambaServer, folder: Path, mount_factory: MountFactory
) -> None:
    (folder / "large").write_bytes(bytes(64 * 2**20))
    samba.adopt(folder)
    mount = mount_factory(samba, folder=folder.name, options=["actimeo=60"])
    descriptor = os.open(mount.path / "large", os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        for number in range(20):
            os.pread(descriptor, 4096, (number * 37 % 61) * 2**20)
    finally:
        os.close(descriptor)
    assert int(str(statistics(mount)["bytes_received"])) < 20 * 2**18
