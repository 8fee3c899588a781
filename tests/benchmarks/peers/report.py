"""Results as a text table and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.benchmarks.peers.results import OURS, Cell, Condition, Results
from tests.benchmarks.peers.targets import Judgement, judge


def text(results: Results) -> str:
    """Everything, for a terminal."""
    parts = []
    for condition in results.cells:
        rows = [_head(results), *_rows(results, condition)]
        parts += [f"— {condition} —", _columns(rows), ""]
    parts += [*_notes(results), "", _columns(_verdicts(judge(results)))]
    return "\n".join(parts)


def markdown(results: Results) -> str:
    """The same for a document."""
    parts = []
    for condition in results.cells:
        parts += [f"### {condition}", "", *_pipes([_head(results), *_rows(results, condition)]), ""]
    parts += [*(f"- {note}" for note in _notes(results)), ""]
    parts += ["### Targets", "", *_pipes(_verdicts(judge(results)))]
    return "\n".join(parts) + "\n"


def failures(results: Results) -> list[str]:
    """A sentence for each peer and step without a right result, unsupported work left out."""
    return [
        f"{condition}, {step}, {peer}: {cell.failure}"
        for condition, steps in results.cells.items()
        for step, peers in steps.items()
        for peer, cell in peers.items()
        if cell.failure and not cell.unsupported
    ]


def _head(results: Results) -> list[str]:
    return ["", *results.kinds, "round trips"]


def _rows(results: Results, condition: Condition) -> Iterator[list[str]]:
    for step, peers in results.cells[condition].items():
        ours = peers.get(OURS, Cell())
        shown = [_cell(peers.get(peer), peer, ours.seconds) for peer in results.kinds]
        yield [step, *shown, str(min(ours.round_trips)) if ours.round_trips else ""]


def _cell(cell: Cell | None, peer: str, ours: float | None) -> str:
    """Seconds, and for a peer how many times ours that is."""
    if cell is None:
        return ""
    if cell.unsupported:
        return "–"
    if cell.seconds is None:
        return "failed"
    relation = "" if peer == OURS or not ours else f" ({_figures(cell.seconds / ours)} ×)"
    return f"{_figures(cell.seconds)} s{relation}"


def _figures(value: float) -> str:
    """Three significant digits, never as a power of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}" if value >= 0.001 else f"{value:.4f}"


def _notes(results: Results) -> list[str]:
    notes = [f"{what}: {value}" for what, value in results.about.items()]
    notes += [f"{peer}: {settings}" for peer, settings in results.settings.items()]
    notes.append("(n ×): n times as long as smbmount. –: the peer has no such work. Round trips: smbmount's.")
    return notes + [f"failed: {failure}" for failure in failures(results)]


def _verdicts(judgements: Iterator[Judgement]) -> list[list[str]]:
    rows = [["target", "condition", "wanted", "rival", "reached", ""]]
    for found in judgements:
        reached = "" if found.ratio is None else f"{found.ratio:.2f} ×"
        wanted = f"≥ {found.wanted:g} ×"
        rows.append([found.step, str(found.condition), wanted, found.rival, reached, found.verdict])
    return rows


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _pipes(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]
