"""A line that is cut at random, message by message, while operations are played over it."""

from __future__ import annotations

import random
import threading
from types import TracebackType
from typing import Final, Self

from tests.support.proxy import Cut, Heal, Loss, Place, ProxyProcess, Way
from tests.support.samba import SambaServer

_MESSAGES: Final = 120
"""At most so many messages of one way go by between two cuts; 500 operations are some 2,000."""

_POLL: Final = 0.01


class CutLine:
    """A proxy to a server, which cuts every connection again and again until `heal`; a context manager.

    A seed decides where. When that is, in terms of operations, depends on what is under way.
    """

    def __init__(self, server: SambaServer, seed: int) -> None:
        self._proxy = ProxyProcess((server.address, server.port))
        self._random = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._cut_on)
        self.cuts = 0
        """How many there were, once it is healed."""

    @property
    def port(self) -> int:
        """Where the mounts have to connect to."""
        return self._proxy.port

    def __enter__(self) -> Self:
        self._proxy.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.heal()
        finally:
            self._proxy.__exit__(kind, error, traceback)

    def begin(self) -> None:
        """Cut from now on."""
        self._thread.start()

    def heal(self) -> None:
        """Cut no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
            self.cuts = self._proxy.tell(Heal()).cuts

    def _cut_on(self) -> None:
        while not self._ended.is_set():
            made = self._proxy.tell(self._next()).cuts
            while not self._ended.wait(_POLL) and self._proxy.counts().cuts == made:
                pass

    def _next(self) -> Cut:
        chance = self._random
        return Cut(
            chance.choice(list(Way)),
            message=chance.randint(1, _MESSAGES),
            place=chance.choice(list(Place)),
            loss=chance.choice((Loss.RESET, Loss.RESET, Loss.END)),
        )
