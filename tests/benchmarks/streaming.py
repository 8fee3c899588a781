"""Reading and writing at once for a long time, and the daemon's memory meanwhile."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.benchmarks.crowd import MIB, memory
from tests.support.mounting import Mount

FILE: Final = 1024 * MIB
"""Bytes of each file: read through a new open each time, and truncated before it is written again."""
_SAMPLE_SECONDS: Final = 0.1


def prepare(share: Path) -> None:
    """The file that is read, without memory of its own on the server."""
    with (share / "source").open("wb") as file:
        file.truncate(FILE)


def stream(mount: Mount, size: int) -> list[float]:
    """Read `size` bytes and write as many at the same time; samples of the daemon's resident MiB."""
    ended = threading.Event()
    samples: list[float] = []

    def sample() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            samples.append(memory(mount))

    with ThreadPoolExecutor(3) as threads:
        watch: Future[None] = threads.submit(sample)
        try:
            works = [
                threads.submit(_read, mount.path / "source", size),
                threads.submit(_write, mount.path / "written", size),
            ]
            for work in works:
                work.result()
        finally:
            ended.set()
        watch.result()
    return samples


def _read(path: Path, size: int) -> None:
    left = size
    while left > 0:
        with path.open("rb", buffering=0) as file:
            # Else the kernel answers from its own pages, and nothing goes through the daemon.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while left > 0 and (piece := file.read(MIB)):
                left -= len(piece)


def _write(path: Path, size: int) -> None:
    block = os.urandom(MIB)
    for start in range(0, size, FILE):
        with path.open("wb", buffering=0) as file:
            for _ in range(min(FILE, size - start) // MIB):
                file.write(block)
