"""Rows 5 and 6 of the table of faults: a line that carries little, late or in odd pieces, and few credits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import Mount
from tests.support.proxy import Fault, Link, Merge, ProxyProcess, Relink, Split
from tests.support.samba import SambaServer
from tests.support.tools import noise

pytestmark = pytest.mark.deadline(120)

RATE: Final = 50_000
TIMEOUT: Final = 2
"""Seconds, in which much less arrives than the tests ask for at once."""
PATIENCE: Final = 15
"""Seconds: what waits inside the proxy is no progress to see, and a busy machine lets it wait for long."""
TEN_MEGABYTES: Final = 10_000_000


@pytest.fixture
def proxy(samba: SambaServer) -> Iterator[ProxyProcess]:
    """A line to the server, in good order until it is told otherwise."""
    with ProxyProcess((samba.address, samba.port), Link(queue=1 << 20)) as proxy:
        yield proxy


def mounted(
    stack: ExitStack,
    samba: SambaServer,
    share_path: Path,
    tmp_path: Path,
    proxy: ProxyProcess,
    timeout: int = PATIENCE,
) -> Path:
    """A mount of `share_path` by way of the proxy, which guesses nothing."""
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    options = [f"port={proxy.port}", f"timeout={timeout}", "prefetch=off"]
    return stack.enter_context(Mount(samba, mountpoint, folder=share_path.name, options=options)).path


@pytest.fixture
def there_and_back(
    samba: SambaServer, share_path: Path, tmp_path: Path, proxy: ProxyProcess
) -> Iterator[Path]:
    """`share_path` by way of the proxy."""
    with ExitStack() as stack:
        yield mounted(stack, samba, share_path, tmp_path, proxy)


def put(samba: SambaServer, path: Path, content: bytes) -> None:
    """Make a file on the server."""
    path.write_bytes(content)
    samba.adopt(path)


@pytest.fixture
def slow(samba: SambaServer, share_path: Path, tmp_path: Path) -> Iterator[Path]:
    """`share_path` behind a line that carries `RATE` bytes per second."""
    with ExitStack() as stack:
        link = Link(rate=RATE, queue=1 << 16)
        proxy = stack.enter_context(ProxyProcess((samba.address, samba.port), link))
        yield mounted(stack, samba, share_path, tmp_path, proxy, TIMEOUT)


def test_file_is_read_over_a_slow_line(samba: SambaServer, share_path: Path, slow: Path) -> None:
    for name, size in (("comes with its open", 64 * 1024), ("comes in parts", 300_000)):
        content = os.urandom(size)
        put(samba, share_path / name, content)
        assert (slow / name).read_bytes() == content


def test_folder_is_listed_over_a_slow_line(samba: SambaServer, share_path: Path, slow: Path) -> None:
    names = {f"a file with a rather long name, number {number:08}" for number in range(1500)}
    for name in names:
        (share_path / name).touch()
    samba.adopt(share_path)
    assert set(os.listdir(slow)) == names


def test_fault_05_one_byte_at_a_time(
    samba: SambaServer, share_path: Path, tmp_path: Path, proxy: ProxyProcess
) -> None:
    """From the first byte of the negotiation on."""
    proxy.tell(Split())
    content = noise(20_000, "bytes")
    put(samba, share_path / "cold", content)
    names = {f"name {number}" for number in range(50)}
    for name in names:
        put(samba, share_path / name, b"")
    with ExitStack() as stack:
        here = mounted(stack, samba, share_path, tmp_path, proxy)
        assert set(os.listdir(here)) == {*names, "cold"}
        assert (here / "cold").read_bytes() == content
        (here / "new").write_bytes(content)
        assert (share_path / "new").read_bytes() == content


@pytest.mark.parametrize(
    "fault",
    [
        Split((1, 7, 1021, 4099, 65_537)),
        Merge(0.01),
        Relink(Link(0.01)),
        Relink(Link(0.1)),
        Relink(Link(0.5)),
    ],
    ids=["odd pieces", "merged segments", "10 ms", "100 ms", "500 ms"],
)
def test_fault_05_ten_megabytes_arrive_right(
    samba: SambaServer, share_path: Path, there_and_back: Path, proxy: ProxyProcess, fault: Fault
) -> None:
    content = noise(TEN_MEGABYTES, "ten")
    put(samba, share_path / "cold", content)
    before = proxy.tell(fault)
    assert (there_and_back / "cold").read_bytes() == content
    (there_and_back / "new").write_bytes(content)
    assert (share_path / "new").read_bytes() == content
    after = proxy.counts()
    assert after.connections == before.connections == 1
    assert after.to_client.octets - before.to_client.octets > TEN_MEGABYTES
    assert after.to_server.octets - before.to_server.octets > TEN_MEGABYTES


@pytest.mark.parametrize("most", [1, 3, 8])
def test_fault_06_few_credits_of_the_server(
    samba_factory: SambaFactory, mount_factory: MountFactory, most: int
) -> None:
    """Neither a deadlock nor more in flight than was granted: Samba ends a connection that overdraws."""
    mount = mount_factory(samba_factory(global_options={"smb2 max credits": f"{most}"}))

    def work(number: int) -> bool:
        path, content = mount.path / f"{number}", noise(200_000, f"{number}")
        path.write_bytes(content)
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            same = file.read() == content
        listed = path.name in os.listdir(mount.path)
        path.rename(mount.path / f"renamed {number}")
        return same and listed

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(16)))
    assert 1 <= mount.statistics()["credits"] <= most
