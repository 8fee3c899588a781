"""Results as a picture: bars of the time relative to smbmount, on a logarithmic scale, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape

from tests.benchmarks.peers.results import OURS, Condition, Results

_LEFT: Final = 190
_WIDTH: Final = 560
_RIGHT: Final = 110
_BAR: Final = 11
_GAP: Final = 8
_TITLE: Final = 54
_COLOURS: Final = ("#d1495b", "#edae49", "#00798c", "#30638e", "#8f5fa8", "#7a7a7a")
_LEAST: Final = 0.1
"""The left edge of the scale: ten times as quick as smbmount."""


def svg(results: Results) -> str:
    """One panel below the other for each condition; steps that smbmount has no time for are left out."""
    peers = [peer for peer, kind in results.kinds.items() if kind not in ("ours", "local")]
    colours = {peer: _COLOURS[number % len(_COLOURS)] for number, peer in enumerate(peers)}
    most = _upper_edge(results, peers)
    y = 10.0
    parts: list[str] = []
    for condition in results.cells:
        panel = list(_panel(results, condition, colours, most, y))
        parts += panel[:-1]
        y = float(panel[-1])
    size = f'width="{_LEFT + _WIDTH + _RIGHT}" height="{y:.0f}"'
    style = 'font-family="sans-serif" font-size="11" fill="#222"'
    background = '<rect width="100%" height="100%" fill="white"/>'
    body = "\n".join([background, *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{body}\n</svg>\n'


def position(ratio: float, most: float) -> float:
    """The x of a ratio between `_LEAST` and `most`; what is outside is put on the edge."""
    inside = min(max(ratio, _LEAST), most)
    return _LEFT + _WIDTH * math.log(inside / _LEAST) / math.log(most / _LEAST)


def _upper_edge(results: Results, peers: list[str]) -> float:
    """The power of ten that no ratio exceeds, ten at least."""
    largest = max(
        (
            ratio
            for condition, steps in results.cells.items()
            for step in steps
            for peer in peers
            if (ratio := _ratio(results, condition, step, peer)) is not None
        ),
        default=10.0,
    )
    return float(10 ** max(1, math.ceil(math.log10(largest))))


def _ratio(results: Results, condition: Condition, step: str, peer: str) -> float | None:
    ours = results.seconds(condition, step, OURS)
    theirs = results.seconds(condition, step, peer)
    return theirs / ours if ours and theirs else None


def _panel(
    results: Results, condition: Condition, colours: dict[str, str], most: float, top: float
) -> Iterator[str]:
    """The elements of one panel, and last the y below it."""
    steps = [step for step in results.cells[condition] if results.seconds(condition, step, OURS)]
    y = top + _TITLE
    bottom = y + len(steps) * (len(colours) * _BAR + _GAP)
    title = f"{condition}: time relative to smbmount (1 = as long; further right = slower)"
    yield _text(10, top + 12, title, "font-size='13' font-weight='bold'")
    yield from _legend(colours, top + 28)
    yield from _grid(most, y, bottom)
    for step in steps:
        yield _text(_LEFT - 8, y + len(colours) * _BAR / 2 + 4, step, "text-anchor='end'")
        for peer, colour in colours.items():
            yield from _bar(_ratio(results, condition, step, peer), colour, most, y)
            y += _BAR
        y += _GAP
    yield str(bottom + 24)


def _legend(colours: dict[str, str], y: float) -> Iterator[str]:
    x = float(_LEFT)
    for peer, colour in colours.items():
        yield f'<rect x="{x:.0f}" y="{y - 8:.0f}" width="10" height="10" fill="{colour}"/>'
        yield _text(x + 14, y + 1, peer)
        x += 30 + 7 * len(peer)


def _grid(most: float, top: float, bottom: float) -> Iterator[str]:
    for exponent in range(round(math.log10(_LEAST)), round(math.log10(most)) + 1):
        x = position(10.0**exponent, most)
        width = 1.5 if exponent == 0 else 0.5
        ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{top:.0f}" y2="{bottom:.0f}"'
        yield f'<line {ends} stroke="#888" stroke-width="{width}"/>'
        yield _text(x, top - 5, f"{10.0**exponent:g} ×", "text-anchor='middle' fill='#666'")


def _bar(ratio: float | None, colour: str, most: float, y: float) -> Iterator[str]:
    """From 1 to the ratio, with its number; nothing for a peer that did not do the work."""
    one = position(1.0, most)
    if ratio is None:
        yield _text(one + 4, y + _BAR - 2, "–", f"fill='{colour}'")
        return
    end = position(ratio, most)
    x, width = min(one, end), max(abs(end - one), 1.0)
    yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BAR - 1}" fill="{colour}"/>'
    number = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"
    yield _text(max(one, end) + 4, y + _BAR - 2, f"{number} ×", "font-size='9'")


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}</text>'
