"""Kills the daemon while a program writes, again and again; what fsync confirmed has to be there each time.

    python -m tests.crash [--seed N] [--rounds K]

Each round has its own seed, from N on. The exit code is 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.crash.rounds import crash
from tests.support.samba import SambaServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds, print what was lost, and return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.crash", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 20))
    parser.add_argument("--rounds", type=int, default=100)
    given = parser.parse_args(arguments)
    failures = 0
    with tempfile.TemporaryDirectory(prefix="smbmount-crash-") as scratch, SambaServer() as server:
        for seed in range(given.seed, given.seed + given.rounds):
            lost = round_of(server, Path(scratch), seed)
            failures += bool(lost)
            print(f"seed {seed}: {'; '.join(lost) or 'nothing lost'}", flush=True)
    print(f"{given.rounds} rounds, {failures} lost something")
    return 1 if failures else 0


def round_of(server: SambaServer, scratch: Path, seed: int) -> list[str]:
    """One round in new folders of the server and of `scratch`; what was lost."""
    name = f"crash{seed}"
    folder, mountpoint = server.share_path() / name, scratch / f"mnt{seed}"
    folder.mkdir()
    server.adopt(folder)
    mountpoint.mkdir()
    return crash(server, mountpoint, name, scratch / f"manifest{seed}", seed)


if __name__ == "__main__":
    sys.exit(main())
