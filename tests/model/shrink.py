"""Shrinks a list of operations that fails, and prints what is left as a script that a person can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.model.operations import Operation

T = TypeVar("T")


def shrunk(items: Sequence[T], fails: Callable[[Sequence[T]], bool], attempts: int = 200) -> list[T]:
    """Leave out as much as possible, large parts first, while `fails` says that the rest still does."""
    kept = list(items)
    size = max(len(kept) // 2, 1)
    while size and attempts:
        start, found = 0, False
        while start < len(kept) and attempts:
            attempts -= 1
            rest = kept[:start] + kept[start + size :]
            if rest and fails(rest):
                kept, found = rest, True
            else:
                start += size
        if size > 1 or not found:
            size //= 2
    return kept


def script(operations: Sequence[Operation], numbers: Sequence[int]) -> str:
    """The operations, a line each, with their numbers in the whole list."""
    width = len(str(max(numbers, default=0)))
    return "\n".join(
        f"  {number:>{width}}  {operation}" for number, operation in zip(numbers, operations, strict=True)
    )
