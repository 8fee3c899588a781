"""Random operations through real mounts, beside a local folder that has to stay equal.

    python -m tests.model [--seed N] [--operations 500] [--runs K] [--second-client] [--cuts] [--only 3,17,40]
        [--backports] [--options O,O]

Each run has its own seed, from N on, which decides on the operations and on the mount's options. A run that
fails is shrunk: operations are left out while it still fails, and the rest is printed. `--only` with those
numbers plays just them again. With `--cuts` a proxy cuts the connections at random, and nobody may notice.
The exit code is 1 if a run failed.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.model.bench import Bench
from tests.model.generator import Generator
from tests.model.shrink import script, shrunk
from tests.support.samba import SambaServer
from tests.support.samba_backports import BackportsSambaServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the runs, print what came of them, and return the exit code."""
    given = _parser().parse_args(arguments)
    kind = BackportsSambaServer if given.backports else SambaServer
    failures = 0
    # Whoever ends this leaves no mount and no server behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="smbmount-model-") as scratch, kind() as server:
        Path(scratch).chmod(0o755)
        bench = Bench(server, Path(scratch), clients=2 if given.second_client else 1, cuts=given.cuts)
        for seed in range(given.seed, given.seed + given.runs):
            failures += not run(bench, seed, given)
    print(f"{given.runs} runs of {given.operations} operations, {failures} failed")
    return 1 if failures else 0


def run(bench: Bench, seed: int, given: argparse.Namespace) -> bool:
    """One seed; whether all was equal."""
    options = tuple(given.options.split(",")) if given.options is not None else bench.options(seed)
    options = tuple(option for option in options if option)
    everything = Generator(seed, bench.clients).operations(given.operations)
    numbers = given.only or range(len(everything))
    began = time.monotonic()

    def play(chosen: Sequence[int]) -> str | None:
        return bench.play([everything[number] for number in chosen], options, seed)

    failure = play(numbers)
    told = f"seed {seed}, {' '.join(options) or 'default options'}"
    if failure is None:
        cuts = f"{bench.cuts_made} cuts so far, " if given.cuts else ""
        print(f"{told}: equal, {cuts}{time.monotonic() - began:.1f} s", flush=True)
        return True
    print(f"{told}: DIFFERENT: {failure}", flush=True)
    if given.shrink:
        failed_at = re.match(r"operation ([0-9]+),", failure)
        numbers = numbers[: int(failed_at[1]) + 1] if failed_at else numbers
        kept = shrunk(numbers, lambda chosen: _kind(play(chosen)) == _kind(failure))
        print(f"shrunk to --seed {seed} --only {','.join(map(str, kept))}")
        print(script([everything[number] for number in kept], kept))
        print(f"  {play(kept) or 'and now it is equal: it does not happen each time'}", flush=True)
    return False


def _kind(failure: str | None) -> str:
    """A failure without its numbers: other failures than the first are not what is being shrunk."""
    return re.sub(r"[0-9]+", "#", (failure or "").partition("\n")[0])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.model", description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("--seed", type=int, default=random.randrange(1 << 20), help="of the first run (default: a new one)")
    add("--operations", type=int, default=500, help="of each run")
    add("--runs", type=int, default=1)
    add("--second-client", action="store_true", help="a second mount takes part")
    add("--cuts", action="store_true", help="cut the connections at random")
    add("--backports", action="store_true", help="a newer Samba, with leases of folders")
    add("--options", help="options of the mounts, instead of those that the seed chooses")
    add("--only", type=_numbers, help="numbers of the operations to be played, as a shrunk run prints them")
    add("--no-shrink", dest="shrink", action="store_false", help="only say that a run failed")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
