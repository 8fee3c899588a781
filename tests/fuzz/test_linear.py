"""Twice the bytes cost twice the work and the memory, not more: counted, so that no busy machine matters."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import pytest

from tests.fuzz.growers import GROWERS, Grower
from tests.fuzz.table import BY_NAME
from tests.fuzz.target import Target

_SMALL: Final = 400
_TOLERANCE: Final = 1.15
_LINES_ALWAYS: Final = 300
_BYTES_ALWAYS: Final = 8192
"""What an input costs whatever its size, as an error's message does."""

_CASES: Final = [(BY_NAME[name], grower) for name, growers in GROWERS.items() for grower in growers]


def lines_of(work: Callable[[], object]) -> int:
    """How many lines of Python `work` runs, in all functions."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def most_memory_of(work: Callable[[], object]) -> int:
    """The most bytes that `work` had allocated at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def is_linear(
    measure: Callable[[Callable[[], object]], int], target: Target, grower: Grower, always: int
) -> str:
    """ "" if twice the size costs at most twice as much, else how much it is."""
    small, large = grower(_SMALL), grower(2 * _SMALL)
    first, second = measure(lambda: target(small)), measure(lambda: target(large))
    growth = max(2.0, len(large) / len(small))
    return "" if second <= growth * _TOLERANCE * first + always else f"{first} and then {second}"


@pytest.mark.parametrize(("target", "grower"), _CASES, ids=[str(target) for target, _ in _CASES])
def test_work_and_memory_grow_no_faster_than_the_input(target: Target, grower: Grower) -> None:
    target(grower(_SMALL))
    assert is_linear(lines_of, target, grower, _LINES_ALWAYS) == ""
    assert is_linear(most_memory_of, target, grower, _BYTES_ALWAYS) == ""


def test_the_inputs_really_grow_and_mostly_are_taken() -> None:
    taken = 0
    for target, grower in _CASES:
        small, large = grower(_SMALL), grower(2 * _SMALL)
        taken += target(large)
        assert len(large) >= len(small)
    assert taken > len(_CASES) / 2


def test_what_is_not_linear_is_found() -> None:
    work = Target("work", lambda data: [sum(1 for _ in data) for _ in data])
    memory = Target("memory", lambda data: [bytearray(data) for _ in data])
    assert is_linear(lines_of, work, lambda n: bytes(n // 8), _LINES_ALWAYS)
    assert is_linear(most_memory_of, memory, bytes, _BYTES_ALWAYS)
