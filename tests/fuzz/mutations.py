"""Changes to bytes that find what decoders get wrong: what Hypothesis and our own runner make inputs with."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

KINDS: Final = 8
LONGEST: Final = 4096

_TELLING: Final = (
    *(b"\0", b"\x01", b"\x7f", b"\x80", b"\xff", b"\0\0", b"\x01\0", b"\xff\xff", b"\x08\0", b"\x40\0"),
    *(b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\xff\x7f", b"\x08\0\0\0", bytes(4), bytes(8)),
    *(b"\xff" * 8, b"\0" * 7 + b"\x80", b"\0\xd8", b"\0\xdc", b"{", b"[", b'"', b"\\", b",", b"="),
)
"""Lengths, offsets and counts that stand at some edge, surrogates, and what structures text."""


class Mutation(NamedTuple):
    """One change: its kind, where it is (of 65,536 parts of the whole), and what it takes."""

    kind: int
    at: int
    value: int


def apply(data: bytes, changes: Iterable[Mutation]) -> bytes:
    """Carry out the changes, one after the other."""
    mutated = bytearray(data)
    for kind, part, value in changes:
        at = part * (len(mutated) + 1) >> 16
        telling = _TELLING[value % len(_TELLING)]
        match kind % KINDS:
            case 0:
                mutated[at : at + 1] = bytes((value & 0xFF,))
            case 1:
                mutated[at : at + len(telling)] = telling
            case 2:
                mutated[at:at] = telling
            case 3:
                del mutated[at : at + 1 + value % 16]
            case 4:
                del mutated[at:]
            case 5:
                piece = mutated[at : at + 4 + value % 60]
                mutated[at:at] = piece * (1 + value % 5)
            case 6:
                if at < len(mutated):
                    mutated[at] ^= 1 << value % 8
            case _:
                if at < len(mutated):
                    mutated[at] = (mutated[at] + (value % 35) - 17) & 0xFF
    return bytes(mutated[:LONGEST])


def at_random(chooser: random.Random, seeds: Sequence[bytes]) -> bytes:
    """An input made of one of `seeds`, of two of them, or of nothing."""
    data = (
        chooser.choice(seeds)
        if seeds and chooser.random() < 0.97
        else chooser.randbytes(chooser.randrange(99))
    )
    if seeds and chooser.random() < 0.1:
        other = chooser.choice(seeds)
        data = data[: chooser.randrange(len(data) + 1)] + other[chooser.randrange(len(other) + 1) :]
    changes = (
        Mutation(chooser.randrange(KINDS), chooser.randrange(1 << 16), chooser.randrange(1 << 16))
        for _ in range(chooser.randrange(1, 8))
    )
    return apply(data, changes)
