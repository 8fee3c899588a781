"""How much memory smbmount takes, and whether its costs grow with the number of files alone.

    python -m tests.benchmarks.scale [--only idle streaming memory costs] [--size GIB] [--crowd N]
                                     [--entries N …] [--created N] [--folder FOLDER]

As root. Starts a throw-away Samba whose files lie in memory unless `--folder` names another place, and mounts
it. The memory is the daemon's resident set, as the kernel counts it; listings are held against what the same
mount takes when idle. A cost is what one file costs in a folder of N, for each N: it may fall, but not grow.
The bounds on time are wide, as other work on the machine moves it; those on round trips are not.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from tests.benchmarks import streaming
from tests.benchmarks.crowd import Cost, costs, fill, list_attributes, list_names, memory
from tests.benchmarks.table import Table
from tests.support.mounting import Mount
from tests.support.samba import SambaServer

IDLE_MIB: Final = 64
STREAMING_MIB: Final = 256
DRIFT_MIB: Final = 16
LISTING_MIB: Final = 100


class Bound(NamedTuple):
    """How many times more a file may cost in the largest folder, and its round trips in any."""

    growth: float
    round_trips: float


BOUNDS: Final = {
    "list with attributes": Bound(2, 0.02),
    "find": Bound(2, 0.02),
    # More than `listings.MAX_ENTRIES` are not listed for look-ups: then each name is asked for.
    "stat of every name": Bound(10, 1.01),
    "unlink of every name": Bound(2, 2.05),
    "rm -r": Bound(2, 2.05),
    "create": Bound(2, 2.05),
}
_UNTOLD: Final = 30.0
"""Microseconds for a file that tell nothing: a start of a program, shared among 1,000."""

PARTS: Final = ("idle", "streaming", "memory", "costs")


def main() -> int:
    """Measure and print; returns the exit code, 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--size", type=float, default=10, help="GiB read, and as many written")
    parser.add_argument("--crowd", type=int, default=1_000_000, help="entries of the folder that is listed")
    parser.add_argument("--entries", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--created", type=int, default=10_000, help="the most files made through the mount")
    parser.add_argument("--folder", default="/dev/shm", help="where the server's files lie")
    arguments = parser.parse_args()
    tempfile.tempdir = arguments.folder
    table = Table()
    with SambaServer() as server, tempfile.TemporaryDirectory() as mountpoint:
        bench = Bench(server, Path(mountpoint), table)
        if "idle" in arguments.only:
            bench.idle()
        if "streaming" in arguments.only:
            bench.streaming(int(arguments.size * (1 << 30)))
        if "memory" in arguments.only:
            bench.listings(arguments.crowd)
        if "costs" in arguments.only:
            bench.costs(arguments.entries, arguments.created)
    return table.print()


class Bench:
    """One server, and the measurements on it."""

    def __init__(self, server: SambaServer, mountpoint: Path, table: Table) -> None:
        self._server = server
        self._mountpoint = mountpoint
        self._table = table

    def idle(self) -> None:
        """Mounted, and looked at once."""
        with self._mount() as mount:
            self._table.mebibytes("mounted and idle", memory(mount), IDLE_MIB)

    def streaming(self, size: int) -> None:
        """The peak, and whether the memory grows as time goes on."""
        streaming.prepare(self._server.share_path())
        self._server.adopt(self._server.share_path())
        with self._mount() as mount:
            samples = streaming.stream(mount, size)
            received = mount.statistics()["bytes_received"]
            peak = memory(mount, "VmHWM")
        assert received >= size, f"only {received} bytes came from the server"
        what = f"streaming {size / (1 << 30):g} GiB both ways"
        self._table.mebibytes(f"{what}, peak", peak, STREAMING_MIB)
        quarter = len(samples) // 4
        second, last = samples[quarter : 2 * quarter], samples[-quarter:]
        drift = statistics.mean(last) - statistics.mean(second)
        self._table.mebibytes(f"{what}, last quarter above the second", drift, DRIFT_MIB)

    def listings(self, count: int) -> None:
        """The peak above idle while a large folder is listed."""
        fill(self._server, "crowd", count)
        for what, work in (("names", list_names), ("names and attributes", list_attributes)):
            with self._mount() as mount:
                idle = memory(mount)
                work(mount.path / "crowd", count)
                peak = memory(mount, "VmHWM") - idle
                self._table.mebibytes(f"{what} of {count:,} entries, peak above idle", peak, LISTING_MIB)

    def costs(self, counts: list[int], created: int) -> None:
        """What a file costs in ever larger folders."""
        results = [costs(self._server, self._mountpoint, count, created) for count in sorted(counts)]
        for what in results[0]:
            series: list[Cost] = [result[what] for result in results]
            bound = BOUNDS[what]
            times, processor = [cost.microseconds for cost in series], [cost.processor for cost in series]
            self._table.growth(f"{what}, time", times, "µs", bound.growth, _UNTOLD)
            self._table.growth(f"{what}, processor time", processor, "µs", bound.growth, _UNTOLD)
            self._table.each(f"{what}, round trips", [cost.round_trips for cost in series], bound.round_trips)

    def _mount(self) -> Mount:
        return Mount(self._server, self._mountpoint)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
