"""The proxy as a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support.proxy.faults import Counts, Fault, Link
from tests.support.proxy.server import LOOPBACK

CHECKOUT: Final = Path(__file__).resolve().parents[3]

_START_DEADLINE: Final = 15.0
_ANSWER_DEADLINE: Final = 15.0
_STOP_DEADLINE: Final = 10.0
_WAIT_DEADLINE: Final = 30.0
_POLL_SECONDS: Final = 0.005


class ProxyProcess:
    """A proxy that shares no event loop, and ends when its owner does; a context manager.

    `address` and `port` are where it listens, from the moment that it is entered.
    """

    def __init__(
        self, target: tuple[str, int], link: Link | None = None, listen: tuple[str, int] = (LOOPBACK, 0)
    ) -> None:
        self.address, self.port = listen
        link = link or Link()
        self._command = [
            *("setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "tests.support.proxy"),
            *("--to", f"{target[0]}:{target[1]}", "--listen", f"{listen[0]}:{listen[1]}"),
            *("--delay", str(link.round_trip * 1000), "--queue", str(link.queue)),
            *(("--rate", str(link.rate)) if link.rate is not None else ()),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Connection[Any, Any] | None = None

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        self._control = Connection(ours.detach())
        with theirs:
            self._process = subprocess.Popen(
                [*self._command, "--control", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                pass_fds=[theirs.fileno()],
            )
        try:
            self.port = self._answer(_START_DEADLINE)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """The process id, while it runs."""
        assert self._process is not None
        return self._process.pid

    def tell(self, fault: Fault) -> Counts:
        """Have the line fail, or work, in this way; it does when this returns the counters."""
        return self._ask(fault)

    def counts(self) -> Counts:
        """What happened since the start."""
        return self._ask(None)

    def wait_for(
        self, condition: Callable[[Counts], bool], what: str, seconds: float = _WAIT_DEADLINE
    ) -> Counts:
        """Wait until the counters are such; an `AssertionError` with `what` when they do not become so."""
        deadline = time.monotonic() + seconds
        while not condition(counts := self.counts()):
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}; {counts}"
            time.sleep(_POLL_SECONDS)
        return counts

    def _ask(self, question: Fault | None) -> Counts:
        assert self._control is not None, "the proxy is not running"
        with _end_noticed():
            self._control.send(question)
        counts: Counts = self._answer(_ANSWER_DEADLINE)
        return counts

    def _answer(self, seconds: float) -> Any:
        assert self._control is not None
        with _end_noticed():
            if self._control.poll(seconds):
                return self._control.recv()
        raise RuntimeError(f"the proxy did not answer within {seconds} s")

    def _stop(self) -> None:
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


@contextmanager
def _end_noticed() -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionError):
        raise RuntimeError("the proxy has ended by itself") from None
