"""Writes files and notes on a local disk what fsync confirmed; ends when the mount does.

    python -m tests.crash.writer FOLDER MANIFEST SEED

Files only grow, and what stands at an offset follows from the file's seed, so whatever becomes of unconfirmed
data, the confirmed bytes are known. A line of the manifest is `kept NAME SEED LENGTH` when those bytes are
confirmed, `replacing NAME SEED LENGTH` before such a file is renamed over another of that name, and
`replaced NAME SEED LENGTH` when that is done.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

_NAMES: Final = range(12)
_LENGTHS: Final = (1, 100, 4096, 30_000, 65_536, 200_000, 1_500_000)
_LARGEST: Final = 4_000_000


def content(seed: int, length: int) -> bytes:
    """What a file of this seed begins with."""
    return random.Random(seed).randbytes(length + -length % 4)[:length]


class Writer:
    """Writes until it fails; `note` brings a line to the local disk."""

    def __init__(self, folder: Path, seed: int, note: Callable[[str], None]) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._note = note
        self._files: dict[str, tuple[int, int]] = {}

    def run(self) -> None:
        """Write for ever; raises `OSError` when the mount is gone."""
        for name in ("grown", "saved"):
            (self._folder / name).mkdir(exist_ok=True)
        while True:
            if self._random.random() < 0.7:
                self._grow(f"grown/{self._random.choice(_NAMES)}")
            else:
                self._save(f"saved/{self._random.choice(_NAMES)}")

    def _grow(self, name: str) -> None:
        seed, length = self._files.get(name, (self._random.randrange(1 << 30), 0))
        if length > _LARGEST:
            return
        grown = length + self._random.choice(_LENGTHS)
        data = content(seed, grown)
        flags = os.O_WRONLY | os.O_CREAT | self._random.choice((0, os.O_APPEND, os.O_DSYNC))
        fd = os.open(self._folder / name, flags, 0o644)
        try:
            while length < grown:
                # In pieces, as programs write.
                end = min(grown, length + self._random.choice(_LENGTHS))
                os.pwrite(fd, data[length:end], length)
                length = end
            os.fsync(fd)
            self._files[name] = seed, grown
            self._note(f"kept {name} {seed} {grown}")
        finally:
            os.close(fd)

    def _save(self, name: str) -> None:
        seed, length = self._random.randrange(1 << 30), self._random.choice(_LENGTHS)
        path = self._folder / name
        aside = path.with_name(f"{path.name}.new")
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(fd, content(seed, length))
            os.fsync(fd)
        finally:
            os.close(fd)
        self._note(f"replacing {name} {seed} {length}")
        aside.rename(path)
        self._note(f"replaced {name} {seed} {length}")


def main() -> None:
    """Run the writer of the command line."""
    folder, manifest, seed = sys.argv[1:]
    fd = os.open(manifest, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(line: str) -> None:
        os.write(fd, f"{line}\n".encode())
        os.fsync(fd)

    try:
        Writer(Path(folder), int(seed), note).run()
    except OSError as error:
        # Which one it is depends on the moment: what matters is in the manifest.
        print(f"the mount is gone: {error}")


if __name__ == "__main__":
    main()
