"""The figures that smbmount promises, measured in one run on one machine and printed as a table.

    python -m tests.benchmarks.figures [--size MiB] [--rounds N] [--folder FOLDER]

Starts a throw-away Samba on loopback, mounts its share through the kernel and measures beside Samba's
own client, smbclient, whose speed is what this server gives to a program in C. Each measurement is
repeated and the pairs alternate; medians and the ratio of the medians are printed. Cold means: the
client has never seen the file in this mount. The server's page cache is warm for both.

The server's files lie in memory unless `--folder` names another place: two clients are compared, not a
disk that only one of them waits for (smbclient does not sync).

A virtual machine may give free memory back to its host, and then 512 MiB of new page cache cost up to 1 s of
faults in the host, or none, by what was freed just before. So before each measurement, of either client, as
much memory as it can need is taken from the host and freed (`populate`).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.memory import populate
from tests.benchmarks.table import Table
from tests.support.mounting import Mount
from tests.support.samba import SambaServer

MIB = 1 << 20
ENTRIES = 10_000


def main() -> int:
    """Measure and print; returns the exit code, 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", type=int, default=512, help="MiB of the large file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default="/dev/shm", help="where the server's files lie")
    arguments = parser.parse_args()
    tempfile.tempdir = arguments.folder
    table = Table()
    with SambaServer() as server, tempfile.TemporaryDirectory() as scratch:
        bench = Bench(server, Path(scratch), arguments.size * MIB, arguments.rounds)
        bench.prepare()
        for protection, options, smbclient in (
            ("plain", ("nosign",), "off"),
            ("signed", (), "sign"),
            ("sealed", ("seal",), "encrypt"),
        ):
            table.ratio(f"cold sequential read, {protection}", *bench.read(options, smbclient), floor=0.5)
            ours, theirs, synced = bench.write(options, smbclient)
            table.ratio(f"write with fsync, {protection}", ours, theirs, floor=0.5)
            table.ratio(f"the same, beside a put that is synced too, {protection}", ours, synced, floor=0.5)
        table.seconds(f"ls -l of {ENTRIES} entries, cold", bench.listing(), ceiling=1.0)
        table.seconds("from the command to a mount that answers", bench.mounting(), ceiling=1.0)
        for what, trips in bench.round_trips().items():
            table.count(f"round trips of {what}", trips, ceiling=1)
    return table.print()


class Bench:
    """One server with its files, and the measurements on it."""

    def __init__(self, server: SambaServer, scratch: Path, size: int, rounds: int) -> None:
        self._server = server
        self._share = server.share_path()
        self._scratch = scratch
        self._size = size
        self._rounds = rounds
        self._local = scratch / "local.bin"

    def prepare(self) -> None:
        """The large file, here and on the share, and the large folder."""
        block = os.urandom(MIB)
        for path in (self._local, self._share / "large.bin"):
            with path.open("wb") as file:
                for _ in range(self._size // MIB):
                    file.write(block)
        folder = self._share / "many"
        folder.mkdir()
        for number in range(ENTRIES):
            (folder / f"file number {number:05}.txt").touch()
        self._server.adopt(self._share)

    def read(self, options: tuple[str, ...], protection: str) -> tuple[list[float], list[float]]:
        """Read the large file through a fresh mount, and by smbclient."""
        ours, theirs = [], []
        for _ in range(self._rounds):
            with self._mount(*options) as mount:
                self._populate()
                ours.append(_timed("dd", f"if={mount.path}/large.bin", "of=/dev/null", "bs=1M"))
            self._populate()
            theirs.append(self._smbclient(protection, "get large.bin /dev/null"))
        return ours, theirs

    def write(
        self, options: tuple[str, ...], protection: str
    ) -> tuple[list[float], list[float], list[float]]:
        """Write the large file and fsync it, and by smbclient, which does not sync; the third list is
        smbclient's time with an fsync of its file on the server's disk."""
        written = self._share / "written.bin"
        ours, theirs, synced = [], [], []
        for _ in range(self._rounds):
            with self._mount(*options) as mount:
                target = f"of={mount.path}/written.bin"
                self._populate()
                ours.append(_timed("dd", f"if={self._local}", target, "bs=1M", "conv=fsync"))
            written.unlink()
            self._populate()
            theirs.append(self._smbclient(protection, f"put {self._local} written.bin"))
            synced.append(theirs[-1] + _sync_time(written))
            written.unlink()
        return ours, theirs, synced

    def listing(self) -> list[float]:
        """`ls -l` of the large folder, each time through a fresh mount."""
        times = []
        for _ in range(self._rounds):
            with self._mount() as mount:
                times.append(_timed("ls", "-l", f"{mount.path}/many"))
        return times

    def mounting(self) -> list[float]:
        """The command in the background mode, up to its return, and a first look at a file."""
        mountpoint = self._scratch / "mounted"
        mountpoint.mkdir()
        options = f"port={self._server.port},credentials={self._server.credentials_file}"
        mount = [sys.executable, "-m", "smbmount", "//127.0.0.1/data", str(mountpoint), "-o", options]
        times = []
        for _ in range(self._rounds):
            times.append(_timed(*mount) + _timed("stat", f"{mountpoint}/large.bin"))
            _timed("umount", str(mountpoint))
        return times

    def round_trips(self) -> dict[str, int]:
        """Round trips of single calls by the daemon's statistics; after the first the folder is listed."""
        trips: dict[str, int] = {}
        for name in ("one", "two", "three"):
            (self._share / f"{name}.txt").write_text(name)
        self._server.adopt(self._share)
        with self._mount() as mount:
            root = mount.path

            def count(what: str, work: Callable[[], object]) -> None:
                before = mount.statistics()
                work()
                trips[what] = mount.statistics()["round_trips"] - before["round_trips"]

            count("stat of a cold name", lambda: os.stat(f"{root}/one.txt"))
            os.listdir(root)
            count("unlink", lambda: os.unlink(f"{root}/one.txt"))
            count("rename", lambda: os.rename(f"{root}/two.txt", f"{root}/three.txt"))
            count("mkdir", lambda: os.mkdir(f"{root}/folder"))
        return trips

    def _populate(self) -> None:
        # Once for the pages of the file, once for the buffers on the way.
        populate(2 * self._size)

    def _mount(self, *options: str) -> Mount:
        mountpoint = self._scratch / "mount"
        mountpoint.mkdir(exist_ok=True)
        return Mount(self._server, mountpoint, options=options)

    def _smbclient(self, protection: str, command: str) -> float:
        os.sync()
        start = time.perf_counter()
        self._server.smbclient("data", command, f"--client-protection={protection}")
        return time.perf_counter() - start


def _sync_time(path: Path) -> float:
    """Seconds until what was written to a file is on the disk."""
    start = time.perf_counter()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - start


def _timed(*command: str) -> float:
    """Seconds that a command takes; `subprocess.CalledProcessError` if it fails.

    What was written before is on the disk then, so that nobody pays for another's data.
    """
    os.sync()
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300)
    return time.perf_counter() - start


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
