"""The run: for each protection a server, for each delay a proxy, and all peers in turn."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.memory import populate
from tests.benchmarks.peers.peer import (
    Peer,
    PeerError,
    Protection,
    Site,
    UnsupportedError,
)
from tests.benchmarks.peers.results import Cell, Condition, Results
from tests.benchmarks.peers.works import Step, Work
from tests.support.proxy import Link, ProxyProcess
from tests.support.samba import SambaServer

SERVER_OPTIONS: Final[dict[Protection, dict[str, str]]] = {
    "plain": {},
    "signed": {"server signing": "mandatory"},
    "sealed": {"smb encrypt": "required"},
}
"""The server demands the protection, so that no peer can do with less than the others."""


_GRACE: Final = 10.0
"""Seconds for what a client still does after the last close."""
_POLL: Final = 0.005


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server and its proxy listen. smbnetfs needs port 445, so they have an address each."""

    server: str
    proxy: str
    port: int


class Bench:
    """All that stays the same over a run: who does what, how often, and how long it may take."""

    def __init__(
        self,
        peers: Sequence[Peer],
        works: Sequence[Work],
        *,
        rounds: int,
        limit: float,
        scratch: Path,
        addresses: Addresses,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._peers = list(peers)
        self._works = list(works)
        self._rounds = rounds
        self._limit = limit
        self._scratch = scratch
        self._addresses = addresses
        self._tell = tell
        self.results = Results(
            kinds={peer.name: peer.kind for peer in peers},
            settings={peer.name: peer.settings for peer in peers},
        )

    def run(self, protections: Sequence[Protection], delays: Sequence[float]) -> None:
        """Measure everything; the results are in `results`, those of an interrupted run too."""
        for protection in protections:
            with self._server(protection) as server:
                for delay in delays:
                    with self._site(server, protection, delay) as site:
                        self._measure(site, Condition(delay, protection))

    @contextmanager
    def _server(self, protection: Protection) -> Iterator[SambaServer]:
        where = self._addresses
        options = {"interfaces": f"{where.server}/8", **SERVER_OPTIONS[protection]}
        with SambaServer(global_options=options, port=where.port, address=where.server) as server:
            yield server

    @contextmanager
    def _site(self, server: SambaServer, protection: Protection, delay: float) -> Iterator[Site]:
        """Without a delay there is no proxy in the way."""
        with ExitStack() as stack:
            address, port = server.address, server.port
            if delay:
                link, listen = Link(delay / 1000), (self._addresses.proxy, self._addresses.port)
                proxy = stack.enter_context(ProxyProcess((address, port), link, listen))
                address, port = proxy.address, proxy.port
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._scratch)))
            yield Site(server, address, port, protection, scratch)

    def _measure(self, site: Site, condition: Condition) -> None:
        for work in self._works:
            for turn in range(self._rounds):
                first = turn % len(self._peers)
                for peer in (*self._peers[first:], *self._peers[:first]):
                    self._one(site, condition, work, peer)

    def _one(self, site: Site, condition: Condition, work: Work, peer: Peer) -> None:
        """One peer does one work in a folder that is new to it; what fails once is not tried again."""
        cells = {step.title: self.results.cell(condition, step.title, peer.name) for step in work.steps}
        if any(cell.failure for cell in cells.values()):
            return
        folder = site.server.share_path(site.share) / uuid.uuid4().hex
        folder.mkdir()
        try:
            work.prepare(folder)
            site.server.adopt(folder)
            self._do_steps(site, work, peer, folder, cells)
        finally:
            shutil.rmtree(folder)
        for title, cell in cells.items():
            what = cell.failure or f"{cell.times[-1]:.3f} s"
            self._tell(f"{condition}, {title}, {peer.name}: {what}")

    def _do_steps(self, site: Site, work: Work, peer: Peer, folder: Path, cells: dict[str, Cell]) -> None:
        """A step that goes wrong takes those after it along: they rest on it."""
        waiting = list(work.steps)
        try:
            try:
                peer.start(site)
                while waiting:
                    self._step(peer, waiting[0], folder, cells[waiting[0].title])
                    waiting.pop(0)
            finally:
                peer.stop()
        except PeerError as error:
            for step in waiting or work.steps:
                cells[step.title].failure = _in_one_line(error)
                cells[step.title].unsupported = isinstance(error, UnsupportedError)

    def _step(self, peer: Peer, step: Step, folder: Path, cell: Cell) -> None:
        if step.memory:
            populate(step.memory)
        before = peer.round_trips()
        outcome = peer.run(step, folder.name, self._limit)
        after = peer.round_trips()
        if outcome.proof != step.proof:
            raise PeerError(f"wrong result: {outcome.proof}, not {step.proof}")
        late = _seconds_until_right(step, folder)
        cell.times.append(outcome.seconds + late)
        if before is not None and after is not None:
            cell.round_trips.append(after - before)


def _seconds_until_right(step: Step, folder: Path) -> float:
    """How long after its end a step's result is on the server, 0 if it was there at once; `PeerError` if
    it does not come."""
    end = time.perf_counter()
    late = 0.0
    while complaint := _complaint(step, folder):
        if step.synced or late > _GRACE:
            raise PeerError(f"wrong result: {complaint}")
        time.sleep(_POLL)
        late = time.perf_counter() - end
    return late


def _complaint(step: Step, folder: Path) -> str:
    try:
        return step.check(folder)
    except OSError as error:
        return str(error)


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}…"
