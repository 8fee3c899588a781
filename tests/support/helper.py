"""A helper of the tests as a process of its own, which is told things over a socket and answers each.

The helper's module is run with `--control FD`. It sends one answer when it is ready, then one to each
question, and ends when the socket does: it never outlives its owner.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import trio

CHECKOUT: Final = Path(__file__).resolve().parents[2]

_START_DEADLINE: Final = 15.0
_ANSWER_DEADLINE: Final = 15.0
_STOP_DEADLINE: Final = 10.0


class HelperProcess:
    """`python -m MODULE ARGUMENTS --control FD`; `name` is what it is called when something is wrong."""

    def __init__(self, name: str, module: str, *arguments: str) -> None:
        self.name = name
        self._command = [sys.executable, "-m", module, *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Connection[Any, Any] | None = None

    def start(self) -> Any:
        """Start it and return its first answer; `RuntimeError` if it ends instead."""
        ours, theirs = socket.socketpair()
        self._control = Connection(ours.detach())
        with theirs:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *self._command, "--control", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                pass_fds=[theirs.fileno()],
            )
        try:
            return self._answer(_START_DEADLINE)
        except BaseException:
            self.stop()
            raise

    def ask(self, question: object) -> Any:
        """Its answer; `RuntimeError` if it has ended or gives none."""
        assert self._control is not None, f"{self.name} is not running"
        with self._end_noticed():
            self._control.send(question)
        return self._answer(_ANSWER_DEADLINE)

    def stop(self) -> None:
        """End it and wait for its end; a second call does nothing."""
        control, self._control = self._control, None
        if control is not None:
            control.close()
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int:
        """The process id, while it runs."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    def _answer(self, seconds: float) -> Any:
        assert self._control is not None
        with self._end_noticed():
            if self._control.poll(seconds):
                return self._control.recv()
        raise RuntimeError(f"{self.name} did not answer within {seconds} s")

    @contextmanager
    def _end_noticed(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError):
            raise RuntimeError(f"{self.name} has ended by itself") from None


async def obey(control: int, ready: object, answer: Callable[[Any], object]) -> None:
    """The helper's side: say `ready`, then answer questions until the owner is gone. Messages are small."""
    owner: Connection[Any, Any] = Connection(control)
    with owner:
        try:
            owner.send(ready)
            while True:
                await trio.lowlevel.wait_readable(owner.fileno())
                owner.send(answer(owner.recv()))
        except (EOFError, ConnectionError):
            return
