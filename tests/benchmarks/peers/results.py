"""What was measured: one cell per line, step and peer; kept as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.peers.peer import Kind

OURS = "smbmount"


class Condition(NamedTuple):
    """Milliseconds of the round trip that the proxy adds, and the protection."""

    delay: float
    protection: str

    def __str__(self) -> str:
        return f"{self.delay:g} ms, {self.protection}"


@dataclass(slots=True)
class Cell:
    """One peer's times of one step, in seconds; `failure` says why there are none, `unsupported` that it
    has no such work."""

    times: list[float] = field(default_factory=list)
    round_trips: list[int] = field(default_factory=list)
    failure: str = ""
    unsupported: bool = False

    @property
    def seconds(self) -> float | None:
        """The median; None if the peer did not do the work right each time."""
        return statistics.median(self.times) if self.times and not self.failure else None


@dataclass(slots=True)
class Results:
    """All cells. `kinds` and `settings` are by peer, in the order of the columns."""

    kinds: dict[str, Kind] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    cells: dict[Condition, dict[str, dict[str, Cell]]] = field(default_factory=dict)

    def cell(self, condition: Condition, step: str, peer: str) -> Cell:
        """The cell, made when it is new."""
        return self.cells.setdefault(condition, {}).setdefault(step, {}).setdefault(peer, Cell())

    def seconds(self, condition: Condition, step: str, peer: str) -> float | None:
        """The median of a cell; None if there is no such cell or no right result in it."""
        cell = self.cells.get(condition, {}).get(step, {}).get(peer)
        return cell.seconds if cell is not None else None

    def others(self, condition: Condition, step: str) -> Iterator[tuple[str, Kind, float]]:
        """Name, kind and median of the peers that did the step, the local folder and ourselves left out."""
        for peer, kind in self.kinds.items():
            seconds = self.seconds(condition, step, peer)
            if seconds is not None and kind not in ("ours", "local"):
                yield peer, kind, seconds

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        cells = [
            {**condition._asdict(), "step": step, "peer": peer, **asdict(cell)}
            for condition, steps in self.cells.items()
            for step, peers in steps.items()
            for peer, cell in peers.items()
        ]
        text = {"about": self.about, "kinds": self.kinds, "settings": self.settings, "cells": cells}
        path.write_text(json.dumps(text, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """What `save` wrote."""
        text = json.loads(path.read_text())
        results = cls(text["kinds"], text["settings"], text["about"])
        for entry in text["cells"]:
            condition = Condition(entry.pop("delay"), entry.pop("protection"))
            step, peer = entry.pop("step"), entry.pop("peer")
            results.cells.setdefault(condition, {}).setdefault(step, {})[peer] = Cell(**entry)
        return results
