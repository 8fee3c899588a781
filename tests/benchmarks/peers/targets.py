"""The ratios that smbmount is to reach against its peers, and whether a run reached them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tests.benchmarks.peers.results import OURS, Condition, Results

Verdict = Literal["kept", "BROKEN", "no rival"]
_Rival = Callable[[Results, Condition, str], tuple[str, float] | None]


def named(peer: str) -> _Rival:
    """One peer."""

    def choose(results: Results, condition: Condition, step: str) -> tuple[str, float] | None:
        seconds = results.seconds(condition, step, peer)
        return None if seconds is None else (peer, seconds)

    return choose


def best(results: Results, condition: Condition, step: str) -> tuple[str, float] | None:
    """The quickest of all peers that did the work right."""
    times = ((peer, seconds) for peer, _, seconds in results.others(condition, step))
    return min(times, key=lambda rival: rival[1], default=None)


def best_mount(results: Results, condition: Condition, step: str) -> tuple[str, float] | None:
    """The quickest of those that are mounted."""
    mounts = ((peer, seconds) for peer, kind, seconds in results.others(condition, step) if kind == "mount")
    return min(mounts, key=lambda rival: rival[1], default=None)


@dataclass(frozen=True, slots=True)
class Target:
    """A step, by delay in milliseconds the least ratio (the rival's time by ours) and the rival."""

    step: str
    ratios: Mapping[float, tuple[float, _Rival]]
    protections: tuple[str, ...] = ("plain", "signed", "sealed")


def _same(ratio: float, rival: _Rival) -> Mapping[float, tuple[float, _Rival]]:
    return {0: (ratio, rival), 10: (ratio, rival)}


_SMALL_CHANGES: Final[Mapping[float, tuple[float, _Rival]]] = {0: (3.0, best), 10: (1.5, best)}

TARGETS: Final = (
    Target("sequential read cold", _same(1.0, named("smbclient")), ("plain", "sealed")),
    Target("write + fsync", _same(1.0, named("smbclient"))),
    Target("sequential read again", _same(0.8, named("local"))),
    Target("ls -l cold", _same(5.0, best_mount)),
    Target("stat of cold names", {0: (3.0, best), 10: (20.0, named("smbnetfs"))}),
    Target("small files read cold", {0: (3.0, best), 10: (10.0, best)}),
    Target("small files read again", {0: (10.0, best), 10: (10.0, best)}),
    Target("small files created", _SMALL_CHANGES),
    Target("small files renamed", _SMALL_CHANGES),
    Target("small files unlinked", _SMALL_CHANGES),
    Target("copytree", _same(3.0, best)),
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One target under one condition; where there is nothing to compare, `ratio` is None, `rival` ""."""

    condition: Condition
    step: str
    wanted: float
    rival: str
    ratio: float | None
    verdict: Verdict


def judge(results: Results) -> Iterator[Judgement]:
    """All targets that the run can say something about.

    A target whose rivals all failed is no one's merit: "no rival". Where smbmount itself has no right
    result, it is broken.
    """
    for condition, steps in results.cells.items():
        for target in TARGETS:
            wanted = target.ratios.get(condition.delay)
            if wanted is not None and condition.protection in target.protections and target.step in steps:
                yield _judge(results, condition, target.step, *wanted)


def _judge(results: Results, condition: Condition, step: str, wanted: float, choose: _Rival) -> Judgement:
    ours = results.seconds(condition, step, OURS)
    rival = choose(results, condition, step)
    if ours is None:
        return Judgement(condition, step, wanted, rival[0] if rival else "", None, "BROKEN")
    if rival is None:
        return Judgement(condition, step, wanted, "", None, "no rival")
    ratio = rival[1] / ours
    return Judgement(condition, step, wanted, rival[0], ratio, "kept" if ratio >= wanted else "BROKEN")
