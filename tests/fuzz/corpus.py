"""What fuzzing starts from: files of messages in hexadecimal, one a line, by the name of their target."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "corpus"


@functools.cache
def read(target: str) -> tuple[bytes, ...]:
    """The inputs recorded for a target; none for one that real traffic does not reach."""
    path = FOLDER / f"{target}.hex"
    return tuple(bytes.fromhex(line) for line in path.read_text().splitlines()) if path.exists() else ()


def write(target: str, inputs: Iterable[bytes]) -> None:
    """Keep inputs for a target, in place of those that there are."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{target}.hex").write_text("".join(f"{data.hex()}\n" for data in inputs))


def lay_out(target: str, inputs: Iterable[bytes], folder: Path) -> Path:
    """Put inputs into a folder of the target's, a file each, as coverage-guided fuzzers take them."""
    place = folder / target
    place.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (place / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    return place
