"""Another function in a method's place, on one object."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def substitute(method: Callable[_P, _R]) -> Callable[[Callable[_P, _R]], Callable[[], None]]:
    """`substitute(share.open)(slow_open)` lets `share` call `slow_open` instead; returns what puts it back.

    Two calls, so that the type of the method is settled before that of the other is compared with it.
    """
    assert isinstance(method, MethodType)
    owner, name = method.__self__, method.__name__

    def by(other: Callable[_P, _R]) -> Callable[[], None]:
        setattr(owner, name, other)
        return lambda: delattr(owner, name)

    return by
