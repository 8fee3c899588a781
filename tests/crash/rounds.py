"""One round of the crash test: write, kill the daemon, mount again, look for what was confirmed."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from smbmount.mounttable import detach
from tests.crash.writer import content
from tests.support.mounting import CHECKOUT, Mount
from tests.support.samba import SambaServer

_DEADLINE: Final = 60.0
_MOST_LINES: Final = 40
_MOST_WAIT: Final = 0.05

File = tuple[int, int]


@dataclass(slots=True)
class Manifest:
    """What a writer noted: per name the file that has to be there, or one of two."""

    kept: dict[str, File] = field(default_factory=dict)
    replacing: dict[str, File] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read the lines that were written whole."""
        manifest = cls()
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                manifest._note(*line.split())
        return manifest

    def _note(self, what: str, name: str, seed: str, length: str) -> None:
        if what == "replacing":
            self.replacing[name] = int(seed), int(length)
        else:
            self.kept[name] = int(seed), int(length)
            self.replacing.pop(name, None)

    def missing(self, folder: Path) -> list[str]:
        """What should be in `folder` and is not, a line for each file."""
        return [
            complaint
            for name in sorted({*self.kept, *self.replacing})
            if (complaint := self._complaint(folder / name, name))
        ]

    def _complaint(self, path: Path, name: str) -> str:
        held = path.read_bytes() if path.exists() else None
        known = [file for file in (self.kept.get(name), self.replacing.get(name)) if file is not None]
        if held is None:
            return "" if name not in self.kept else f"{name} is missing"
        if any(held[:length] == content(seed, length) for seed, length in known):
            return ""
        if name not in self.kept and not held:
            return ""
        return f"{name}: {len(held)} bytes, none of {known}"


def crash(server: SambaServer, mountpoint: Path, folder: str, manifest: Path, seed: int) -> list[str]:
    """One round in a folder of the server's share; what was lost, seen by the server and by a new mount.

    The folder is a new one; `manifest` is a file that does not exist yet.
    """
    chance = random.Random(seed)
    mount = Mount(server, mountpoint, folder=folder)
    try:
        mount.start()
        with subprocess.Popen(
            [sys.executable, "-m", "tests.crash.writer", str(mountpoint), str(manifest), str(seed)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        ) as writer:
            try:
                _wait_for_lines(manifest, chance.randrange(1, _MOST_LINES))
                # The moment itself is what chance decides: between two lines of the manifest, anywhere.
                time.sleep(chance.random() * _MOST_WAIT)
                mount.signal(signal.SIGKILL)
                assert mount.wait_exit() == -signal.SIGKILL
                told, _ = writer.communicate(timeout=_DEADLINE)
            finally:
                writer.kill()
        assert "the mount is gone" in told, f"the writer ended by itself: {told}"
        assert _is_dead(mountpoint), "a mount whose daemon was killed still answers"
        lost = Manifest.read(manifest)
        seen = [f"on the server: {line}" for line in lost.missing(server.share_path() / folder)]
        detach(str(mountpoint))
        mount.start()
        seen += [f"mounted again: {line}" for line in lost.missing(mountpoint)]
        if not seen:
            mount.close()
        return seen
    finally:
        mount.destroy()


def _wait_for_lines(manifest: Path, count: int) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not manifest.exists() or manifest.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the writer does not get on"
        time.sleep(0.002)


def _is_dead(mountpoint: Path) -> bool:
    try:
        os.listdir(mountpoint)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False
