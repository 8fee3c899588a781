"""What a fuzz target is: a plain function of bytes, what it may raise, and which decoders it reaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from engine.errors import RemoteProtocolError

Decoder = Callable[..., object]

_PACKAGES: Final = ("engine.", "smbmount.")
_USUAL: Final = (".decode_untrusted", "_untrusted")


@dataclass(frozen=True, slots=True)
class Target:
    """`function` takes whatever bytes there are; an exception that is not one of `allowed` is a finding.

    `covers` are the names of the decoders it is for, as `decoders.find` tells them.
    """

    name: str
    function: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...] = (RemoteProtocolError,)
    covers: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name

    def __call__(self, data: bytes) -> bool:
        """Run it; returns whether the bytes were taken. What is not allowed goes through."""
        try:
            self.function(data)
        except self.allowed:
            return False
        return True


def name_of(decoder: Decoder) -> str:
    """The full name of a function, or of a method under the class or object that it is bound to."""
    owner = getattr(decoder, "__self__", None)
    if owner is None:
        return f"{decoder.__module__}.{decoder.__qualname__}"
    kind = owner if isinstance(owner, type) else type(owner)
    return f"{kind.__module__}.{kind.__qualname__}.{decoder.__name__}"


def short_name(name: str) -> str:
    """A decoder's name without what all of them have in common."""
    for prefix in _PACKAGES:
        name = name.removeprefix(prefix)
    for suffix in _USUAL:
        name = name.removesuffix(suffix)
    return name


def of_view(decoder: Callable[[memoryview], object]) -> Target:
    """The target of a decoder that takes a view."""
    name = name_of(decoder)
    return Target(short_name(name), lambda data: decoder(memoryview(data)), covers=frozenset((name,)))


def covering(*decoders: Decoder) -> frozenset[str]:
    """The names of decoders."""
    return frozenset(map(name_of, decoders))


class Script:
    """Bytes read as a program: numbers and pieces, from the front; nothing but zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, size: int = 1) -> int:
        """The next `size` bytes as a number."""
        return int.from_bytes(self.piece(size), "little")

    def below(self, limit: int) -> int:
        """A choice of `limit`."""
        return self.number() % limit

    def piece(self, size: int) -> bytes:
        """The next `size` bytes, or what is left."""
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def blob(self) -> bytes:
        """A piece that says its own length, in two bytes."""
        return self.piece(self.number(2))
