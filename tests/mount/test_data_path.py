"""Large amounts of data through a real mount: memory, direct I/O, and what is asked of the kernel."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from smbmount.allocator import REST_SECONDS
from smbmount.fusemount import MAX_BACKGROUND, READ_AHEAD_KIB
from smbmount.mounttable import topmost_mount
from tests.support.factories import MountFactory
from tests.support.mounting import Mount
from tests.support.samba import SambaServer
from tests.support.tools import wait_until

MIB: Final = 1 << 20
CONNECTIONS: Final = Path("/sys/fs/fuse/connections")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the kernel's limits")


def memory(mount: Mount, what: str) -> float:
    """A line of the daemon's /proc/PID/status, in MiB."""
    status = Path(f"/proc/{mount.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(f"{what}:"))


@pytest.fixture
def fusectl() -> Iterator[None]:
    """Where the kernel shows its FUSE connections; systemd mounts it, other systems may not."""
    mounted = os.path.ismount(CONNECTIONS)
    if not mounted:
        subprocess.run(["mount", "-t", "fusectl", "fusectl", CONNECTIONS], check=True)
    yield
    if not mounted:
        subprocess.run(["umount", "--lazy", CONNECTIONS], check=True)


@pytest.mark.deadline(180)
def test_streaming_both_ways_takes_little_memory(mount: Mount, share_path: Path, samba: SambaServer) -> None:
    with (share_path / "large").open("wb") as file:
        file.truncate(1024 * MIB)
    samba.adopt(share_path)
    assert memory(mount, "VmRSS") < 56
    read = 0

    def read_all() -> None:
        nonlocal read
        with (mount.path / "large").open("rb", buffering=0) as file:
            while piece := file.read(MIB):
                read += len(piece)

    reader = threading.Thread(target=read_all)
    reader.start()
    block = os.urandom(MIB)
    with (mount.path / "written").open("wb", buffering=0) as target:
        for index in range(512):
            os.pwrite(target.fileno(), block, index % 128 * MIB)
    reader.join()
    assert read == 1024 * MIB
    assert (share_path / "written").read_bytes() == block * 128
    assert memory(mount, "VmHWM") < 200
    wait_until(lambda: memory(mount, "VmRSS") < 60, "the memory is given back", 6 * REST_SECONDS)


@pytest.mark.deadline(60)
def test_direct_io_asks_for_just_what_is_read(mount: Mount, share_path: Path, samba: SambaServer) -> None:
    content = random.Random(1).randbytes(4 * MIB)
    (share_path / "file").write_bytes(content)
    samba.adopt(share_path)
    buffer = mmap.mmap(-1, 64 << 10)
    number = os.open(mount.path / "file", os.O_RDWR | os.O_DIRECT)
    try:
        before = mount.statistics()
        for offset in range(0, 4 * MIB, 64 << 10):
            assert os.preadv(number, [buffer], offset) == len(buffer)
            assert buffer[:] == content[offset : offset + len(buffer)]
        after = mount.statistics()
        assert after["requests"]["READ"] - before["requests"].get("READ", 0) == 64
        assert os.pwritev(number, [buffer], MIB) == len(buffer)
        assert (share_path / "file").read_bytes()[MIB : MIB + len(buffer)] == content[-len(buffer) :]
        assert mount.statistics()["requests"]["WRITE"] == 1
    finally:
        os.close(number)


@pytest.mark.deadline(60)
def test_several_readers_of_one_file_are_each_fetched_ahead(
    mount: Mount, share_path: Path, samba: SambaServer
) -> None:
    content = random.Random(2).randbytes(64 * MIB)
    (share_path / "file").write_bytes(content)
    samba.adopt(share_path)
    number = os.open(mount.path / "file", os.O_RDONLY)

    def read(start: int) -> bool:
        pieces = [os.pread(number, 256 << 10, start + at) for at in range(0, 16 * MIB, 256 << 10)]
        return b"".join(pieces) == content[start : start + 16 * MIB]

    try:
        with ThreadPoolExecutor(4) as readers:
            assert all(readers.map(read, range(0, 64 * MIB, 16 * MIB)))
    finally:
        os.close(number)
    counters = mount.statistics()
    received = counters["bytes_received"]
    assert received < (64 + 4 * 8) * MIB, "each reader fetches ahead of its end, and nothing else twice"
    assert received / counters["requests"]["READ"] > 320 << 10, "more at a time than is asked for"


@as_root
def test_root_raises_the_kernels_limits(
    fusectl: None, mount_factory: MountFactory, samba: SambaServer, share_path: Path
) -> None:
    mount = mount_factory(samba, folder=share_path.name)
    entry = topmost_mount(str(mount.path))
    assert entry is not None
    assert int(Path(f"/sys/class/bdi/{entry.device}/read_ahead_kb").read_text()) == READ_AHEAD_KIB
    connection = CONNECTIONS / entry.device.partition(":")[2]
    for limit in ("max_background", "congestion_threshold"):
        assert int((connection / limit).read_text()) == MAX_BACKGROUND


def test_sync_of_a_closed_file_reaches_the_servers_disk(mounted: Mount, here: Path) -> None:
    """sync(1) opens it for reading."""
    (here / "file").write_text("content")
    before = mounted.statistics()["requests"].get("FLUSH", 0)
    subprocess.run(["sync", here / "file"], check=True, timeout=30)
    assert mounted.statistics()["requests"]["FLUSH"] == before + 1


@pytest.mark.parametrize("sync", [os.O_SYNC, os.O_DSYNC], ids=["O_SYNC", "O_DSYNC"])
@pytest.mark.parametrize(
    "flags",
    [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_DIRECT, os.O_RDWR | os.O_DIRECT],
    ids=["writing", "both", "writing direct", "both direct"],
)
def test_synchronous_write_reaches_the_servers_disk(
    mounted: Mount, here: Path, there: Path, flags: int, sync: int
) -> None:
    file = os.open(here / "file", os.O_CREAT | flags | sync)
    try:
        for number in range(1, 3):
            before = mounted.statistics()["requests"].get("FLUSH", 0)
            with mmap.mmap(-1, 4096) as page:
                os.write(file, page)
            assert mounted.statistics()["requests"].get("FLUSH", 0) > before
            assert (there / "file").stat().st_size == number * 4096
    finally:
        os.close(file)
