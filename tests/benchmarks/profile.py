"""Where the daemon's time goes: one look-up, one kernel read of 128 KiB, one kernel write of 1 MiB.

    python -m tests.benchmarks.profile [--rounds N] [--py-spy PROGRAM] [lookup | read | write]…

Starts a throw-away Samba with its files in memory and mounts it, as root. For each kind of call it prints,
per call, the daemon's processor time in user and system mode, its system calls (`strace -c -f`, in a run of
its own) and, with `--py-spy`, the functions of Python in which the samples fell. Seconds differ from machine
to machine and from minute to minute; counts and shares are what to compare.
"""

from __future__ import annotations

import argparse
import mmap
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from smbmount.mounttable import topmost_mount
from tests.support.mounting import Mount
from tests.support.samba import SambaServer

MIB: Final = 1 << 20
SIZE: Final = 256 * MIB
LOOKUPS: Final = 3000
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SHOWN: Final = 25
_ATTACH_SECONDS: Final = 5.0
_SYSTEM_CALL: Final = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", re.MULTILINE)


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="what to measure, by default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--py-spy", help="the program py-spy")
    arguments = parser.parse_args()
    tempfile.tempdir = "/dev/shm"
    with SambaServer() as server, tempfile.TemporaryDirectory() as scratch:
        block = os.urandom(MIB)
        with (server.share_path() / "large").open("wb") as file:
            for _ in range(SIZE // MIB):
                file.write(block)
        server.adopt(server.share_path())
        for kind in arguments.kinds or KINDS:
            profile = Profile(server, Path(scratch), kind, arguments.rounds)
            profile.print_times()
            profile.print_system_calls()
            if arguments.py_spy:
                profile.print_functions(arguments.py_spy)
    return 0


def _lookups(root: Path) -> int:
    for _ in range(LOOKUPS):
        os.stat(root / "large")
    return 2 * LOOKUPS


def _read(root: Path) -> int:
    with (root / "large").open("rb", buffering=0) as file:
        while file.read(128 << 10):
            pass
    return SIZE // (128 << 10)


def _write(root: Path) -> int:
    block = mmap.mmap(-1, MIB)  # Aligned, or the kernel makes two requests of it.
    with (root / "written").open("wb", buffering=0) as file:
        for _ in range(SIZE // MIB):
            file.write(block)
        os.fsync(file.fileno())
    return SIZE // MIB


KINDS: Final[dict[str, tuple[Callable[[Path], int], tuple[str, ...]]]] = {
    # Nothing is remembered, so each stat is a LOOKUP and a GETATTR, which cost a round trip each.
    "lookup": (_lookups, ("actimeo=0",)),
    "read": (_read, ()),
    "write": (_write, ()),
}

PLACES: Final = (
    ("pyfuse3", "_pyfuse3.py"),
    ("sending", "_send_some"),
    ("receiving", "_receive_into"),
    ("trio", "trio/"),
    ("trio", "outcome/"),
    ("signing", "engine/crypto/"),
    ("signing", "cryptography/"),
    ("the engine's other parts", "engine/"),
    ("smbmount", "smbmount/"),
)
"""Where a sample fell, by what the function's name and file contain; the first that fits."""


class Profile:
    """One kind of call, measured in several ways, each through a mount of its own."""

    def __init__(self, server: SambaServer, scratch: Path, kind: str, rounds: int) -> None:
        self._server = server
        self._mountpoint = scratch / kind
        self._mountpoint.mkdir()
        self._kind = kind
        self._work, self._options = KINDS[kind]
        self._rounds = rounds

    def _mount(self) -> Mount:
        return Mount(self._server, self._mountpoint, options=self._options)

    def _run(self, mount: Mount) -> int:
        """Do the work; the number of calls."""
        entry = topmost_mount(str(mount.path))
        assert entry is not None
        if self._kind == "read":
            Path(f"/sys/class/bdi/{entry.device}/read_ahead_kb").write_text("128")
        return self._work(mount.path)

    def print_times(self) -> None:
        """The least processor time of all rounds, and whose calls they are."""
        times = []
        for _ in range(self._rounds):
            with self._mount() as mount:
                before = _processor_time(mount.pid)
                calls = self._run(mount)
                times.append(
                    [
                        (now - then) / calls * 1e6
                        for now, then in zip(_processor_time(mount.pid), before, strict=True)
                    ]
                )
        user, system = min(times, key=sum)
        print(
            f"\n{self._kind}: {user + system:.0f} µs of processor time, {user:.0f} user, {system:.0f} system"
        )

    def print_system_calls(self) -> None:
        """How many of each a call costs."""
        with self._mount() as mount, self._watched(mount, "strace", "-c", "-f", "-p") as report:
            calls = self._run(mount)
        for count, name in _SYSTEM_CALL.findall(report.read_text()):
            if name != "total" and int(count) / calls >= 0.01:
                print(f"  {int(count) / calls:7.2f} {name}")

    def print_functions(self, program: str) -> None:
        """The share of the samples in each function, in it alone and with what it calls."""
        with (
            self._mount() as mount,
            self._watched(
                mount, program, "record", "-r", "500", "-f", "raw", "-d", "3600", "--nonblocking", "-p"
            ) as report,
        ):
            for _ in range(self._rounds):
                self._run(mount)
        alone: Counter[str] = Counter()
        places: Counter[str] = Counter()
        for line in report.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            function = re.sub(r":\d+\)$", ")", stack.rpartition(";")[2])
            if "get_events" in function:  # It waits.
                continue
            alone[function] += int(count)
            places[next((place for place, pattern in PLACES if pattern in function), "the rest")] += int(
                count
            )
        for counted, shown in ((places, len(places)), (alone, _SHOWN)):
            for name, samples in counted.most_common(shown):
                print(f"  {samples / alone.total():6.1%}  {name}")

    @contextmanager
    def _watched(self, mount: Mount, *command: str) -> Iterator[Path]:
        """A watching program attached to the daemon meanwhile; its report, complete afterwards."""
        report = self._mountpoint.with_suffix(".report")
        watcher = subprocess.Popen(
            [*command, str(mount.pid), "-o", report], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _ATTACH_SECONDS
        while f"TracerPid:\t{watcher.pid}\n" not in Path(f"/proc/{mount.pid}/status").read_text():
            # py-spy reads memory, nothing shows that it has begun; a part of the samples is enough.
            if command[0] != "strace" or time.monotonic() > deadline:
                break
        try:
            yield report
        finally:
            watcher.send_signal(signal.SIGINT)
            watcher.wait()


def _processor_time(pid: int) -> tuple[float, float]:
    """Seconds in user and in system mode, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / _TICKS, int(fields[12]) / _TICKS


if __name__ == "__main__":
    sys.exit(main())
