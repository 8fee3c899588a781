"""What a peer is to the benchmark, and the processes that it talks to."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from tests.benchmarks.peers import driver
from tests.benchmarks.peers.works import Step
from tests.support.samba import SambaServer

Protection = Literal["plain", "signed", "sealed"]
Kind = Literal["ours", "mount", "program", "library", "local"]

STOP_SECONDS: Final = 20.0
_LARGEST_PIECE: Final = 1 << 16
DRIVER: Final = Path(driver.__file__)


class PeerError(Exception):
    """The peer did not do the work; the message is what the table shows."""


class OverdueError(PeerError):
    """It takes too long: whatever does the work is still at it, and has to be ended."""


class UnsupportedError(PeerError):
    """The peer has no way to say this work."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a peer finds the share: the server, or the proxy before it, and a folder for its own files."""

    server: SambaServer
    address: str
    port: int
    protection: Protection
    scratch: Path
    share: str = "data"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds that a step took, and what the peer reports as its result (see `Step.proof`)."""

    seconds: float
    proof: object


class Peer(Protocol):
    """One client. `start` and `stop` frame each work: what it knows from an earlier one is gone then."""

    name: str
    kind: Kind
    settings: str
    """What it runs with, in words, for the notes below the table."""

    def start(self, site: Site) -> None:
        """Log on; `PeerError` if that fails."""

    def stop(self) -> None:
        """End every process and mount, also those that hang; harmless when not started."""

    def run(self, step: Step, folder: str, seconds: float) -> Outcome:
        """Do a step in `folder` of the share; `PeerError` if that fails or takes longer than `seconds`."""

    def round_trips(self) -> int | None:
        """Round trips since the start, of a peer that counts them."""


class Conversation:
    """A program that is talked to by its standard input and output, with a deadline for every answer."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
        )
        self._received = b""
        self.is_busy = True
        """Whether an answer has not come yet; a program that has just started owes one."""

    def say(self, text: str) -> None:
        """Send some lines that are a question."""
        self.is_busy = True
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(f"the program ended: {self._last_words()}") from None

    def hear(self, end: bytes, seconds: float) -> str:
        """All that comes up to and without `end`."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while end not in self._received[-len(end) - _LARGEST_PIECE :]:
            readable, _, _ = select.select(
                [self._process.stdout], [], [], max(0, deadline - time.monotonic())
            )
            if not readable:
                raise OverdueError(f"longer than {seconds:g} s")
            piece = os.read(self._process.stdout.fileno(), _LARGEST_PIECE)
            if not piece:
                raise PeerError(f"the program ended: {self._last_words()}")
            self._received += piece
        self.is_busy = False
        answer, _, self._received = self._received.partition(end)
        return answer.decode(errors="replace")

    def stop(self) -> None:
        """End the program: by the end of its input, and by force if it owes an answer or takes too long."""
        if self.is_busy:
            self._process.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _last_words(self) -> str:
        return self._received.decode(errors="replace").strip().rpartition("\n")[2]


class Driver:
    """`driver.py` as a process: its `files` are "os" or "smbprotocol"."""

    def __init__(
        self, files: str, env: Mapping[str, str], seconds: float, python: str = sys.executable
    ) -> None:
        self._conversation = Conversation([python, str(DRIVER), files], env)
        try:
            self._answer(seconds)
        except BaseException:
            self.stop()
            raise

    def run(self, step: Step, root: str, seconds: float) -> Outcome:
        """Do a step below `root`."""
        arguments = {**step.arguments, "path": f"{root}/{step.path}".rstrip("/")}
        if step.source_is_remote:
            arguments["source"] = f"{root}/{step.arguments['source']}"
        self._conversation.say(json.dumps({"action": step.action, "arguments": arguments}) + "\n")
        return self._answer(seconds)

    @property
    def is_busy(self) -> bool:
        """Whether a step has begun and not ended: it may hang in a mount, whose daemon has to end first."""
        return self._conversation.is_busy

    def stop(self) -> None:
        """End the process."""
        self._conversation.stop()

    def _answer(self, seconds: float) -> Outcome:
        line = self._conversation.hear(b"\n", seconds)
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            raise PeerError(line) from None
        if "error" in answer:
            raise PeerError(answer["error"])
        return Outcome(answer["seconds"], answer["proof"])
