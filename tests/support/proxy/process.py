"""The proxy as a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from tests.support.helper import HelperProcess
from tests.support.proxy.faults import Counts, Fault, Link
from tests.support.proxy.server import LOOPBACK

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
        self._helper = HelperProcess(
            "the proxy",
            "tests.support.proxy",
            *("--to", f"{target[0]}:{target[1]}", "--listen", f"{listen[0]}:{listen[1]}"),
            *("--delay", str(link.round_trip * 1000), "--queue", str(link.queue)),
            *(("--rate", str(link.rate)) if link.rate is not None else ()),
        )

    def __enter__(self) -> Self:
        self.port = self._helper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._helper.stop()

    @property
    def pid(self) -> int:
        """The process id, while it runs."""
        return self._helper.pid

    def tell(self, fault: Fault) -> Counts:
        """Have the line fail, or work, in this way; it does when this returns the counters."""
        counts: Counts = self._helper.ask(fault)
        return counts

    def counts(self) -> Counts:
        """What happened since the start."""
        counts: Counts = self._helper.ask(None)
        return counts

    def wait_for(
        self, condition: Callable[[Counts], bool], what: str, seconds: float = _WAIT_DEADLINE
    ) -> Counts:
        """Wait until the counters are such; an `AssertionError` with `what` when they do not become so."""
        deadline = time.monotonic() + seconds
        while not condition(counts := self.counts()):
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}; {counts}"
            time.sleep(_POLL_SECONDS)
        return counts
