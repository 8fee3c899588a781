"""Copies a large file in and out, again and again, while the server restarts or the line is cut at random.

    python -m tests.survival [--runs N] [--size MIB] [--seed N] [--folder /dev/shm]

Each run has its own seed, from N on, and a mount of its own. Every copy has to complete, bit for bit; the
exit code is 1 if one did not.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.samba import SambaServer
from tests.survival.copies import MIB, Source, survive


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the runs, print how each ended, and return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.survival", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--size", type=int, default=1024, help="of the file, in MiB")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 20))
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where the copies lie here")
    given = parser.parse_args(arguments)
    failures = 0
    with (
        tempfile.TemporaryDirectory(prefix="smbmount-survival-", dir=given.folder) as scratch,
        SambaServer() as server,
    ):
        source = Source.make(Path(scratch) / "source", given.size * MIB)
        for seed in range(given.seed, given.seed + given.runs):
            began = time.monotonic()
            said, cuts = survive(server, source, Path(scratch), seed)
            failures += bool(said)
            seconds = time.monotonic() - began
            print(f"seed {seed}: {said or 'complete'}, {cuts} interruptions, {seconds:.1f} s", flush=True)
    print(f"{given.runs} runs, {given.runs - failures} complete")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
