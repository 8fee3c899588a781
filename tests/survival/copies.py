"""One run: a copy in and a copy out at the same time, and somebody who interrupts."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.mounting import Mount
from tests.support.proxy import ProxyProcess, Reset
from tests.support.samba import SambaServer

MIB: Final = 1 << 20
_BLOCK: Final = 4 * MIB
_PAUSES: Final = (0.3, 2.0)
"""Seconds between two interruptions, at least and at most: some in each copy, and time to get on."""
_RESTARTS: Final = 0.25
"""The part of the interruptions that are a restart of the server; all others reset the connection."""


@dataclass(frozen=True, slots=True)
class Source:
    """The file that is copied, and its digest."""

    path: Path
    digest: str

    @classmethod
    def make(cls, path: Path, size: int) -> Source:
        """A file of `size` random bytes."""
        with path.open("wb") as file:
            for _ in range(0, size, _BLOCK):
                file.write(os.urandom(min(_BLOCK, size)))
        return cls(path, digest_of(path))


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def survive(server: SambaServer, source: Source, scratch: Path, seed: int) -> tuple[str, int]:
    """Copy in and out through a new mount; what went wrong, if anything, and how often that was disturbed."""
    there, mountpoint, back = server.share_path(), scratch / "mnt", scratch / "back"
    os.link(source.path, scratch / "outgoing")
    shutil.copyfile(source.path, there / "out")
    server.adopt(there / "out")
    mountpoint.mkdir()
    try:
        with (
            ProxyProcess((server.address, server.port)) as proxy,
            Mount(server, mountpoint, options=[f"port={proxy.port}", "hard"]) as mount,
        ):
            mount.expect_log("the connection to .* is (lost|back)")
            said, cuts = _copy_both_ways(server, proxy, mount, scratch, seed)
            unexpected = [
                line for line in mount.log_text().splitlines() if not re.search("is (lost|back)", line)
            ]
        for what, path in (("copied in", there / "in"), ("copied out", back)):
            if not said and digest_of(path) != source.digest:
                said = f"what was {what} differs"
        return said or "; ".join(unexpected), cuts
    finally:
        mountpoint.rmdir()
        for path in (there / "in", there / "out", back, scratch / "outgoing"):
            path.unlink(missing_ok=True)


def _copy_both_ways(
    server: SambaServer, proxy: ProxyProcess, mount: Mount, scratch: Path, seed: int
) -> tuple[str, int]:
    ended = threading.Event()
    with ThreadPoolExecutor(3) as threads:
        interrupting = threads.submit(_interrupt, server, proxy, ended, random.Random(seed))
        copies = [
            threads.submit(_copy, scratch / "outgoing", mount.path / "in"),
            threads.submit(_copy, mount.path / "out", scratch / "back"),
        ]
        try:
            said = "; ".join(str(error) for copy in copies if (error := copy.exception()))
        finally:
            ended.set()
        return said, interrupting.result()


def _copy(source: Path, target: Path) -> None:
    """Copy, and have it on the disk when that is done.

    A process of its own: who starts a server closes what it has open on the mount in the new process, which
    would wait for that server.
    """
    subprocess.run(
        ["dd", f"if={source}", f"of={target}", "bs=4M", "conv=fsync", "status=none"],
        check=True,
        capture_output=True,
    )


def _interrupt(
    server: SambaServer, proxy: ProxyProcess, ended: threading.Event, chance: random.Random
) -> int:
    cuts = 0
    while not ended.wait(chance.uniform(*_PAUSES)):
        cuts += 1
        if chance.random() < _RESTARTS:
            server.restart()
        else:
            proxy.tell(Reset())
    return cuts
