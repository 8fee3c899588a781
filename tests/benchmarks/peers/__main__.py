"""The same work for smbmount and its peers, in one run, as a table and a picture.

    python -m tests.benchmarks.peers [--delay MS …] [--protection plain,signed,sealed] [--only NAME …]
        [--peers NAME …] [--rounds N] [--json FILE] [--markdown FILE] [--picture FILE]

docs/BENCHMARKS.md says what is measured and what each peer can do. The exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

from tests.benchmarks.peers import picture, report
from tests.benchmarks.peers.bench import Addresses, Bench
from tests.benchmarks.peers.commands import SambaClient, Smbprotocol, environment_with_smbprotocol
from tests.benchmarks.peers.driver import MIB
from tests.benchmarks.peers.mounts import Local, Rclone, RcloneWrites, Smbmount, Smbnetfs
from tests.benchmarks.peers.peer import Peer, Protection
from tests.benchmarks.peers.results import Results
from tests.benchmarks.peers.targets import judge
from tests.benchmarks.peers.works import Material, Sizes, Work, works

_PROGRAMS: Final = {"rclone": "rclone", "rclone-writes": "rclone", "smbnetfs": "smbnetfs"}
_PEERS: Final = ("smbmount", "rclone", "rclone-writes", "smbnetfs", "smbclient", "smbprotocol", "local")
_VENV: Final = Path.home() / ".cache" / "smbmount-benchmarks" / "smbprotocol"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code: 1 if a target is missed, 2 if a peer is not installed."""
    options = _parser().parse_args(arguments)
    if options.load:
        return _publish(Results.load(options.load), options)
    missing = {
        _PROGRAMS[name] for name in options.peers if name in _PROGRAMS and not shutil.which(_PROGRAMS[name])
    }
    if missing:
        print(f"not installed: {', '.join(sorted(missing))}; install them, or leave them out with --peers")
        return 2
    # Two clients are compared, not a disk that only one of them waits for: see figures.py.
    tempfile.tempdir = str(options.folder)
    with tempfile.TemporaryDirectory(prefix="smbmount-peers-") as scratch:
        results = _measure(options, Path(scratch))
    return _publish(results, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.peers", description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("--delay", type=float, nargs="+", default=[0.0, 10.0], metavar="MS", help="0 = no proxy")
    add("--protection", type=_protections, default=["plain", "sealed"], help="of plain,signed,sealed")
    add("--only", nargs="+", metavar="NAME", help="works whose name begins so: ls, stat, copytree, …")
    add("--peers", nargs="+", choices=_PEERS, default=list(_PEERS), metavar="NAME", help=", ".join(_PEERS))
    add("--rounds", type=int, default=3)
    add("--limit", type=float, default=120.0, metavar="SECONDS", help="a step that takes longer has failed")
    add("--size", type=int, default=256, metavar="MiB", help="of the large file")
    add("--entries", type=int, default=5000, help="of the long listing")
    add("--files", type=int, default=500, help="small files")
    add("--folder", type=Path, default=Path("/dev/shm"), help="where all files lie")
    add("--json", type=Path, metavar="FILE", help="write every measured time")
    add("--markdown", type=Path, metavar="FILE")
    add("--picture", type=Path, metavar="FILE", help="an SVG")
    add(
        "--load",
        type=Path,
        metavar="FILE",
        help="show an earlier --json; measure nothing",
    )
    return parser


def _protections(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(get_args(Protection)):
        raise argparse.ArgumentTypeError(f"{text} is not made of {', '.join(get_args(Protection))}")
    return names


def _measure(options: argparse.Namespace, scratch: Path) -> Results:
    folder = scratch / "material"
    folder.mkdir()
    sizes = Sizes(options.size * MIB, options.entries, options.files, options.files)
    bench = Bench(
        [_peer(name) for name in options.peers],
        _chosen(works(Material(folder, sizes)), options.only),
        rounds=options.rounds,
        limit=options.limit,
        scratch=scratch,
        addresses=_addresses(),
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    bench.results.about = _about(options)
    try:
        bench.run(options.protection, options.delay)
    finally:
        # Also what a run measured that somebody ended.
        if options.json:
            bench.results.save(options.json)
    return bench.results


def _peer(name: str) -> Peer:
    match name:
        case "smbmount":
            return Smbmount()
        case "rclone":
            return Rclone()
        case "rclone-writes":
            return RcloneWrites()
        case "smbnetfs":
            return Smbnetfs()
        case "smbclient":
            return SambaClient()
        case "smbprotocol":
            return Smbprotocol(environment_with_smbprotocol(_VENV))
        case _:
            return Local()


def _chosen(everything: list[Work], names: Sequence[str] | None) -> list[Work]:
    if names is None:
        return everything
    chosen = [work for work in everything if work.name.startswith(tuple(names))]
    if not chosen:
        raise SystemExit(f"no such work; there are: {', '.join(work.name for work in everything)}")
    return chosen


def _addresses() -> Addresses:
    """Two addresses of this machine that nobody else uses, and the port that smbnetfs insists on."""
    third = random.randrange(1, 255)
    server, proxy = f"127.{third}.{random.randrange(1, 255)}.1", f"127.{third}.{random.randrange(1, 255)}.2"
    return Addresses(server, proxy, 445 if os.geteuid() == 0 else random.randrange(20_000, 32_000))


def _about(options: argparse.Namespace) -> dict[str, str]:
    return {
        "machine": f"{os.cpu_count()} processors, Linux {platform.release()}",
        "versions": ", ".join(
            [*(_version(*command) for command in _VERSIONS), f"Python {platform.python_version()}"]
        ),
        "work": f"{options.size} MiB, {options.entries} entries, {options.files} small files, "
        f"medians of {options.rounds} rounds",
    }


_VERSIONS: Final = (
    ("smbd", "--version"),
    ("smbclient", "--version"),
    ("rclone", "version"),
    ("smbnetfs", "-V"),
    (str(_VENV / "bin" / "pip"), "list"),
)


def _version(*command: str) -> str:
    """What a program says about its own version, or that of smbprotocol."""
    name = "smbprotocol" if command[-1] == "list" else command[0]
    if shutil.which(command[0]) is None:
        return f"no {name}"
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    found = re.search(rf"(?i)(?:{name}|version)(?: version)? +v?(\d\S*)", done.stdout + done.stderr)
    return f"{name} {found[1] if found else '?'}"


def _publish(results: Results, options: argparse.Namespace) -> int:
    print(report.text(results))
    if options.markdown:
        options.markdown.write_text(report.markdown(results))
    if options.picture:
        options.picture.write_text(picture.svg(results))
    return 1 if any(found.verdict == "BROKEN" for found in judge(results)) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
