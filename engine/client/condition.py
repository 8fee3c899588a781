"""How a share stands at the moment: connected or not and since when, and what it holds on the server."""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import trio

from engine.client.tree import Tree
from engine.errors import SmbError


class ShareState(enum.Enum):
    """What a share's connection is doing."""

    CONNECTED = "connected"
    REOPENING = "reopening"
    """Connected again; files are being opened again, and other calls wait for a moment."""
    RECONNECTING = "reconnecting"
    REFUSED = "refused"
    """The server was reached again, and does not want us; it is asked again from time to time."""


@dataclass(slots=True)
class History:
    """What became of a share's connections, one after the other. Times are Unix times.

    A connection counts as back when requests go on: one that is given up before, as the server does not give
    files back on it, was an attempt.
    """

    connected_at: float = field(default_factory=time.time)
    """Since when requests go on, or went on before the last loss."""
    lost_at: float | None = None
    """When the connection was lost last."""
    reason: str = ""
    """Why it was."""
    reconnects: int = 0
    is_away: bool = False
    """Whether it is not back yet."""
    failures: int = 0
    """Attempts to get it back that failed so far."""
    obstacle: str = ""
    """Why the last of these failed."""

    def note_loss(self, error: SmbError) -> None:
        """The connection is gone."""
        if self.is_away:
            self.note_failure(error)
            return
        self.is_away = True
        self.lost_at, self.reason = time.time(), str(error)

    def note_failure(self, error: SmbError) -> None:
        """An attempt to get it back failed."""
        self.failures += 1
        self.obstacle = str(error)

    def note_return(self) -> None:
        """Requests go on, or do for the first time."""
        if not self.is_away:
            return
        self.is_away = False
        self.reconnects += 1
        self.connected_at = time.time()
        self.failures, self.obstacle = 0, ""


@dataclass(slots=True, frozen=True)
class Condition:
    """How a share stands, for logs and users. Times are Unix times."""

    name: str
    r"""The share of now, as `\\server\share\folder`; not the one that was asked for, where DFS leads on."""
    state: ShareState
    since: float
    """Since when requests go on, or wait."""
    silence: float
    """Seconds for which the server has owed an answer without a sign of life; 0 if it owes none."""
    history: History
    leases: Mapping[str, Mapping[str, int]]
    """How many "files" and "folders" the server vouches for, by what for: R, W and H for reading, writing and
    the handle."""
    handles: int
    """Files that are open on the server, or closed and kept by it until it knows."""
    durable_handles: int
    """Those that it was asked to keep over a lost connection, and said it would."""

    @property
    def is_lost(self) -> bool:
        """Whether there is no connection."""
        return self.state in (ShareState.RECONNECTING, ShareState.REFUSED)


def condition_of(tree: Tree, history: History, *, is_refused: bool) -> Condition:
    """How a tree stands whose connections were as `history` says."""
    connection = tree.connection
    if connection.lost.is_set():
        state = ShareState.REFUSED if is_refused else ShareState.RECONNECTING
    else:
        state = ShareState.REOPENING if tree.is_settling else ShareState.CONNECTED
    owes = connection.is_waiting and not connection.lost.is_set()
    folder = f"\\{tree.prefix}" if tree.prefix else ""
    return Condition(
        name=f"{tree.path}{folder}",
        state=state,
        since=_since(history, is_connected=state is ShareState.CONNECTED),
        silence=trio.current_time() - connection.last_heard if owes else 0.0,
        history=history,
        leases=connection.leases.held(),
        handles=len(tree.handles),
        durable_handles=sum(handle.is_durable for handle in tree.handles),
    )


def _since(history: History, *, is_connected: bool) -> float:
    if is_connected:
        return history.connected_at
    # The loss may have happened in this very moment, and be known in the next.
    return history.lost_at if history.is_away and history.lost_at is not None else time.time()
