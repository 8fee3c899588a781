"""Fuzzing from the command line.

    python -m tests.fuzz NAME…|all [--seconds N] [--runs N] [--corpus DIR] [--seed N] [--blind] [--json FILE]
    python -m tests.fuzz --list
    python -m tests.fuzz NAME --replay FILE…

Each target runs until the first of --seconds and --runs, with atheris where that is installed. --corpus keeps
what was found, for the next run to go on from. The exit code is 1 if there is a finding. docs/FUZZING.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tests.fuzz.runner import Outcome, has_atheris, run_atheris, run_blindly
from tests.fuzz.table import BY_NAME


def main(arguments: Sequence[str] | None = None) -> int:
    """Run targets one after the other; returns 1 if one of them found something."""
    options = _parser().parse_args(arguments)
    if options.list:
        print("\n".join(BY_NAME))
        return 0
    names = [name for name in BY_NAME if any(_is_meant(name, given) for given in options.names)]
    if not names:
        print("no such target; --list shows all")
        return 2
    if options.replay:
        for path in options.replay:
            print(f"{path}: {'taken' if BY_NAME[names[0]](path.read_bytes()) else 'refused'}")
        return 0
    with tempfile.TemporaryDirectory(prefix="smbmount-fuzz-") as scratch:
        return _run(names, options, options.corpus or Path(scratch))


def _is_meant(name: str, given: str) -> bool:
    return given == "all" or fnmatchcase(name, given)


def _run(names: Sequence[str], options: argparse.Namespace, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    run = run_atheris if has_atheris() and not options.blind else run_blindly
    outcomes: list[Outcome] = []
    print(f"{'target':52} {'engine':10} {'executions':>12} {'seconds':>8} {'corpus':>7}")
    for name in names:
        outcome = run(name, folder, seconds=options.seconds, runs=options.runs, seed=options.seed)
        outcomes.append(outcome)
        _show(outcome)
        if options.json:
            options.json.write_text(
                json.dumps([dataclasses.asdict(outcome) for outcome in outcomes], indent=1)
            )
    total, seconds = sum(found.executions for found in outcomes), sum(found.seconds for found in outcomes)
    findings = [outcome for outcome in outcomes if outcome.finding]
    print(f"{total:,} executions of {len(names)} targets in {seconds:.0f} s, {len(findings)} findings")
    return 1 if findings else 0


def _show(outcome: Outcome) -> None:
    print(
        f"{outcome.target:52} {outcome.engine:10} {outcome.executions:12,} {outcome.seconds:8.1f} "
        f"{outcome.kept:7}",
        flush=True,
    )
    if outcome.finding:
        print(outcome.finding, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="targets, with * and ? for many, or all")
    add("--seconds", type=int, default=10, help="for each target; 0 = no limit (default 10)")
    add("--runs", type=int, default=0, help="executions of each target; 0 = no limit (default)")
    add("--corpus", type=Path, help="folder of inputs found so far, a folder for each target")
    add("--seed", type=int, default=1, help="of the random choices (default 1)")
    add("--blind", action="store_true", help="without coverage, also where atheris is installed")
    add("--json", type=Path, help="write the figures into this file too")
    add("--list", action="store_true", help="show the targets")
    add("--replay", nargs="+", type=Path, metavar="FILE", help="run one target on these inputs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
