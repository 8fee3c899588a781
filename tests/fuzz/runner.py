"""Running one target for long: under atheris, which follows the coverage, or with blind mutations."""

from __future__ import annotations

import importlib.util
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz import corpus, mutations
from tests.fuzz.table import BY_NAME

CHECKOUT: Final = Path(__file__).resolve().parents[2]

_SECONDS_OF_ONE: Final = 10
"""No target has a reason to take that long for one input."""
_MEMORY_MIB: Final = 1024
_TAIL: Final = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run was; `finding` is the end of what it said where it found something, else ""."""

    target: str
    engine: str
    executions: int
    seconds: float
    kept: int
    finding: str = ""


def has_atheris() -> bool:
    """Whether the coverage-guided engine is installed."""
    return importlib.util.find_spec("atheris") is not None


def run_atheris(name: str, folder: Path, *, seconds: int, runs: int, seed: int) -> Outcome:
    """Fuzz a target in a process of its own, until the first of the two limits (0: none).

    Inputs that reach something new stay in `folder`, one that is a finding in `folder/findings`.
    """
    place = corpus.lay_out(name, corpus.read(name) or (b"",), folder)
    findings = folder / "findings"
    findings.mkdir(exist_ok=True)
    command = [
        *(sys.executable, "-m", "tests.fuzz.guided", name, str(place), f"-seed={seed}"),
        *(f"-max_total_time={seconds}", f"-runs={runs or -1}", f"-max_len={mutations.LONGEST}"),
        *(f"-timeout={_SECONDS_OF_ONE}", f"-rss_limit_mb={_MEMORY_MIB}", "-print_final_stats=1"),
        f"-artifact_prefix={findings}/{name}-",
    ]
    begun = time.monotonic()
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, errors="replace", check=False
    )
    said = f"{done.stdout}\n{done.stderr}"
    executed = re.search(r"number_of_executed_units: *(\d+)", said)
    finding = "" if done.returncode == 0 and executed else "\n".join(said.splitlines()[-_TAIL:])
    count = int(executed[1]) if executed else 0
    kept = sum(1 for _ in place.iterdir())
    return Outcome(name, "atheris", count, time.monotonic() - begun, kept, finding)


def run_blindly(name: str, folder: Path, *, seconds: int, runs: int, seed: int) -> Outcome:
    """The same without coverage, in this process: mutations of the corpus, the same for the same seed."""
    target, seeds = BY_NAME[name], corpus.read(name)
    chooser = random.Random(f"{name} {seed}")
    begun = time.monotonic()
    count = 0
    while (not runs or count < runs) and (not seconds or time.monotonic() - begun < seconds):
        data = mutations.at_random(chooser, seeds)
        count += 1
        try:
            target(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            kept = folder / "findings" / f"{name}-{count}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(data)
            finding = f"{kept}: {error!r}"
            return Outcome(name, "mutations", count, time.monotonic() - begun, len(seeds), finding)
    return Outcome(name, "mutations", count, time.monotonic() - begun, len(seeds))
