"""Files behind a link of a namespace are cached as those of the mount's own share, under leases."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.mount.test_leases import descriptor
from tests.support.dfs import Estate, estate
from tests.support.factories import MountFactory
from tests.support.mounting import Mount
from tests.support.tools import errno_of, wait_until

pytestmark = pytest.mark.deadline(120)

MIB = 1 << 20


@pytest.fixture(scope="module")
def servers() -> Iterator[Estate]:
    """The servers of this module; `link` leads to the first one's share."""
    with estate() as made:
        made.link("link", made.target(made.first, "data"))
        yield made


@pytest.fixture
def tree(servers: Estate) -> Iterator[Estate]:
    """The same, all running again afterwards, and the first one's share empty before."""
    for path in servers.first.share_path().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    yield servers
    servers.resume()


@pytest.fixture
def mount(tree: Estate, mount_factory: MountFactory) -> Mount:
    """The namespace."""
    return mount_factory(tree.namespace, share="dfs", options=[f"dfs_hosts={':'.join(tree.hosts)}"])


@pytest.fixture
def behind(mount: Mount) -> Path:
    """What is behind the link."""
    return mount.path / "link"


@pytest.fixture
def elsewhere(tree: Estate, mount_factory: MountFactory) -> Path:
    """The same as another client sees it, which believes nothing for longer than a moment."""
    return mount_factory(tree.first, options=["actimeo=0"]).path


def counters(mount: Mount) -> tuple[int, int]:
    """Round trips and bytes received of all connections, but for ECHO, which nobody waits for."""
    told: dict[str, Any] = mount.statistics()
    lines = [told, *told["behind"].values()]
    trips = sum(int(line["round_trips"]) - int(line["trips"].get("ECHO", 0)) for line in lines)
    return trips, sum(int(line["bytes_received"]) for line in lines)


def costs(mount: Mount, work: Callable[[], object]) -> tuple[int, int]:
    """By how much they rise with a piece of work."""
    trips, received = counters(mount)
    work()
    trips_then, received_then = counters(mount)
    return trips_then - trips, received_then - received


def requests(mount: Mount, command: str) -> int:
    """How often a server behind a link was asked for something."""
    return sum(int(there["requests"].get(command, 0)) for there in mount.statistics()["behind"].values())


def read_again(path: Path, content: bytes) -> None:
    for _ in range(5):
        assert path.read_bytes() == content


def reads(number: int, content: bytes) -> bool:
    return os.pread(number, 100, 0) == content


def test_what_is_done_again_costs_what_it_costs_on_the_first_share(mount: Mount, behind: Path) -> None:
    large = os.urandom(8 * MIB)

    def measured(folder: Path) -> tuple[int, int]:
        for name, content in (("small", b"content"), ("large", large)):
            (folder / name).write_bytes(content)
            assert (folder / name).read_bytes() == content
        _, received = costs(mount, lambda: read_again(folder / "large", large))
        trips, _ = costs(mount, lambda: read_again(folder / "small", b"content"))
        return trips, received

    (trips, received), (trips_behind, received_behind) = measured(mount.path), measured(behind)
    assert trips == trips_behind == 5
    assert max(received, received_behind) < 100_000


def test_what_is_not_written_yet_is_read_elsewhere(behind: Path, elsewhere: Path) -> None:
    """The other client's open breaks the lease, and waits until our data is on the server."""
    for number in range(10):
        content = b"content number %d" % number
        with descriptor(behind / f"file {number}", os.O_CREAT | os.O_RDWR) as writer:
            os.pwrite(writer, content, 0)
            assert (elsewhere / f"file {number}").read_bytes() == content


def test_what_another_client_writes_is_seen_at_once(behind: Path, elsewhere: Path) -> None:
    (behind / "file").write_bytes(b"one")
    with descriptor(behind / "file", os.O_RDONLY) as reader:
        for number in range(10):
            assert os.pread(reader, 100, 0) != b""
            content = b"content number %d" % number
            (elsewhere / "file").write_bytes(content)
            wait_until(partial(reads, reader, content), "the other client's content", 10)
            assert (behind / "file").read_bytes() == content


def test_a_file_kept_open_is_not_taken_for_the_one_that_replaced_it(behind: Path, elsewhere: Path) -> None:
    """A rename onto it breaks no lease on Samba: the number tells."""
    for number in range(5):
        (behind / "file").write_bytes(b"old %d" % number)
        assert (behind / "file").read_bytes() == b"old %d" % number
        (elsewhere / "new").write_bytes(b"new %d" % number)
        (elsewhere / "new").rename(elsewhere / "file")
        assert (behind / "file").read_bytes() == b"new %d" % number


def test_files_idle_behind_a_link_are_removed_renamed_and_replaced_elsewhere(
    behind: Path, elsewhere: Path
) -> None:
    for name in ("gone", "moved", "replaced"):
        (behind / name).write_bytes(b"old")
        assert (behind / name).read_bytes() == b"old"
    begin = time.monotonic()
    (elsewhere / "gone").unlink()
    (elsewhere / "moved").rename(elsewhere / "target")
    (elsewhere / "new").write_bytes(b"new")
    (elsewhere / "new").rename(elsewhere / "replaced")
    assert time.monotonic() - begin < 10, "somebody waited for a break that was not answered"
    assert (behind / "replaced").read_bytes() == b"new"
    wait_until(lambda: sorted(os.listdir(behind)) == ["replaced", "target"], "the other changes", 10)
    assert (behind / "target").read_bytes() == b"old"


def test_after_its_server_was_away_a_file_is_written_and_cached_on(
    tree: Estate, mount: Mount, behind: Path, mount_factory: MountFactory
) -> None:
    (behind / "file").write_bytes(b"content")
    with descriptor(behind / "file", os.O_RDWR) as writer:
        os.pwrite(writer, b"before, ", 0)
        # Who starts a server closes a copy of all open files, and would wait for this one's data.
        os.fsync(writer)
        tree.first.restart()
        os.pwrite(writer, b"after", 8)
        os.fsync(writer)
        elsewhere = mount_factory(tree.first, options=["actimeo=0"]).path
        os.pwrite(writer, b", and not on the server", 13)
        assert (elsewhere / "file").read_bytes() == b"before, after, and not on the server"
    assert (behind / "file").read_bytes() == b"before, after, and not on the server"
    reads = requests(mount, "READ")
    read_again(behind / "file", b"before, after, and not on the server")
    assert requests(mount, "READ") == reads


def test_hard_links_across_a_link_are_of_another_device(mount: Mount, behind: Path) -> None:
    (mount.path / "own").write_bytes(b"own")
    (behind / "there").write_bytes(b"there")
    for source, target in ((mount.path / "own", behind / "own"), (behind / "there", mount.path / "there")):
        for is_open in (False, True):
            with descriptor(source if is_open else mount.path, os.O_RDONLY):
                assert errno_of(partial(os.link, source, target)) == errno.EXDEV
    os.link(behind / "there", behind / "linked")
    assert (behind / "linked").stat().st_ino == (behind / "there").stat().st_ino
    assert (behind / "linked").stat().st_nlink == 2


def test_links_to_one_server_share_its_connection(tree: Estate, mount: Mount) -> None:
    """And come back together, with what is open."""
    links = ["one", "two"]
    for link in links:
        (tree.first.share_path() / link).mkdir()
        tree.put(tree.first, f"{link}/file", link)
        tree.link(link, tree.target(tree.first, f"data\\{link}"))
    for link in links:
        assert (mount.path / link / "file").read_text() == link
    assert len(mount.statistics()["behind"]) == 1
    assert len(tree.first.connection_pids()) == 1
    with (
        descriptor(mount.path / "one/file", os.O_RDWR) as one,
        descriptor(mount.path / "two/file", os.O_RDWR) as two,
    ):
        for number in (one, two):
            os.pwrite(number, b"before, ", 0)
            os.fsync(number)
        tree.first.restart()
        for number in (one, two):
            os.pwrite(number, b"after", 8)
            os.fsync(number)
    for link in links:
        assert (tree.first.share_path() / link / "file").read_text() == "before, after"
    assert len(tree.first.connection_pids()) == 1
    for link in links:
        shutil.rmtree(tree.first.share_path() / link)
        (tree.namespace.share_path("dfs") / link).unlink()


def test_a_link_to_the_namespaces_own_server_uses_its_connection(tree: Estate, mount: Mount) -> None:
    tree.put(tree.namespace, "file", "content")
    tree.link("own", tree.target(tree.namespace, "data"))
    assert (mount.path / "own/file").read_text() == "content"
    assert len(tree.namespace.connection_pids()) == 1
    assert mount.statistics()["behind"] == {}
    (tree.namespace.share_path("dfs") / "own").unlink()


def test_a_file_to_which_two_links_lead_is_read_by_one_as_written_by_the_other(
    tree: Estate, mount: Mount, behind: Path
) -> None:
    """The leases of the two names break each other, on the connection that both share."""
    tree.link("again", tree.target(tree.first, "data"))
    begin = time.monotonic()
    for number in range(10):
        content = b"content number %d" % number
        with descriptor(behind / "file", os.O_CREAT | os.O_TRUNC | os.O_RDWR) as writer:
            os.pwrite(writer, content, 0)
            assert (mount.path / "again/file").read_bytes() == content
        (mount.path / "again/file").write_bytes(content * 2)
        assert (behind / "file").read_bytes() == content * 2
    assert time.monotonic() - begin < 20, "somebody waited for a break that was not answered"
    assert len(tree.first.connection_pids()) == 1
    (tree.namespace.share_path("dfs") / "again").unlink()
