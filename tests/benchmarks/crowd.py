"""Folders with very many files on a throw-away server, and what the work on them costs."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.mounting import Mount
from tests.support.samba import SambaServer

MIB: Final = 1 << 20
NAME: Final = "file number {:07}.txt"


class Cost(NamedTuple):
    """What one file cost: microseconds, those of them in which the daemon's processor worked, round trips."""

    microseconds: float
    processor: float
    round_trips: float


def memory(mount: Mount, what: str = "VmRSS") -> float:
    """A line of the daemon's /proc/PID/status, in MiB."""
    status = Path(f"/proc/{mount.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(f"{what}:"))


def fill(server: SambaServer, name: str, count: int) -> Path:
    """Make a folder with so many empty files on the server, without the server's help."""
    folder = server.share_path() / name
    folder.mkdir()
    account = pwd.getpwnam(server.user)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        for number in range(count):
            file = os.open(NAME.format(number), os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=descriptor)
            os.fchown(file, account.pw_uid, account.pw_gid)
            os.close(file)
        os.fchown(descriptor, account.pw_uid, account.pw_gid)
    finally:
        os.close(descriptor)
    return folder


def _names(folder: Path, count: int) -> Iterator[Path]:
    return (folder / NAME.format(number) for number in range(count))


def list_names(folder: Path, count: int) -> None:
    """`ls -U`."""
    with os.scandir(folder) as entries:
        _expect(count, entries)


def list_attributes(folder: Path, count: int) -> None:
    """`ls -lU`: each entry's attributes as it comes."""
    with os.scandir(folder) as entries:
        _expect(count, (entry.stat(follow_symlinks=False) for entry in entries))


def _expect(count: int, found: Iterable[object]) -> None:
    seen = sum(1 for _ in found)
    assert seen == count, f"{seen} entries instead of {count}"


def _find(folder: Path, count: int) -> None:
    found = subprocess.run(["find", folder, "-type", "f"], check=True, capture_output=True).stdout
    assert found.count(b"\n") == count


def _stat(folder: Path, count: int) -> None:
    for path in _names(folder, count):
        os.stat(path)


def _create(folder: Path, count: int) -> None:
    folder.mkdir()
    for path in _names(folder, count):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def _unlink(folder: Path, count: int) -> None:
    for path in _names(folder, count):
        os.unlink(path)


def _remove(folder: Path, count: int) -> None:
    subprocess.run(["rm", "-r", folder], check=True)
    assert not folder.exists()


Work = Callable[[Path, int], None]
READERS: Final[dict[str, Work]] = {
    "list with attributes": list_attributes,
    "find": _find,
    "stat of every name": _stat,
}
"""Works that leave the folder as it is."""


def costs(server: SambaServer, mountpoint: Path, count: int, created: int) -> dict[str, Cost]:
    """What a file costs in each work on a folder of `count` files, through a fresh mount each; `created` of
    them in those works that make files by way of the server."""
    result: dict[str, Cost] = {}

    def measure(what: str, work: Work, folder: str, files: int) -> None:
        with Mount(server, mountpoint) as mount:
            result[what] = _cost(mount, work, mount.path / folder, files)

    filled, removed = f"read-{count}", f"removed-{count}"
    fill(server, filled, count)
    for what, work in READERS.items():
        measure(what, work, filled, count)
    measure("unlink of every name", _unlink, filled, count)
    fill(server, removed, count)
    measure("rm -r", _remove, removed, count)
    measure("create", _create, f"created-{count}", min(count, created))
    return result


def _cost(mount: Mount, work: Work, folder: Path, count: int) -> Cost:
    trips, processor, started = mount.statistics()["round_trips"], _processor(mount), time.perf_counter()
    work(folder, count)
    seconds = time.perf_counter() - started
    processor = _processor(mount) - processor
    trips = mount.statistics()["round_trips"] - trips
    return Cost(seconds * 1e6 / count, processor * 1e6 / count, trips / count)


def _processor(mount: Mount) -> float:
    """The daemon's processor seconds so far."""
    fields = Path(f"/proc/{mount.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
