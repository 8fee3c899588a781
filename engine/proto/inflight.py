"""Requests in flight: one slot per MessageId, which owns the reply whoever waits for it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from engine.crypto.sealing import Sealer
from engine.crypto.signing import Signer
from engine.errors import SmbError
from engine.wire.constants import Command
from engine.wire.header import Header


class Request(Protocol):
    """What every request of the wire floor can do."""

    COMMAND: ClassVar[Command]

    def encode(self) -> bytes:
        """The body without the header."""


@dataclass(slots=True, eq=False)
class SessionState:
    """What the messages of one session are protected with ([MS-SMB2] 3.2.1.3)."""

    session_id: int = 0
    signer: Signer | None = None
    sealer: Sealer | None = None
    signing_required: bool = False


class SlotState(enum.Enum):
    """A slot's life: SENT → PENDING (an interim reply came) → DONE, or ABANDONED by its waiter."""

    SENT = enum.auto()
    PENDING = enum.auto()
    DONE = enum.auto()
    ABANDONED = enum.auto()


@dataclass(slots=True)
class Reply:
    """A final reply: its header and the whole message, from the header on."""

    header: Header
    message: memoryview


@dataclass(slots=True, eq=False)
class Slot:
    """One request in flight.

    **Invariant:** from the moment it is sent until its final reply (or the connection's end) the
    slot is in the table under its MessageId, whatever happens to the task that waits for it.
    """

    request: Request
    message_id: int
    charge: int
    session: SessionState
    tree_id: int
    sealed: bool
    sent_at: float
    closed: bool = False
    """For a CREATE: a CLOSE of what it opens went out in the same compound."""
    closes: Slot | None = None
    """For that CLOSE: the CREATE. One way only: a cycle would keep both replies' buffers from their pool."""
    state: SlotState = SlotState.SENT
    async_id: int = 0
    owed: int = field(init=False)
    reply: Reply | None = None
    error: SmbError | None = None
    on_done: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self.owed = self.charge

    def settle(self, reply: Reply | None, error: SmbError | None) -> None:
        """Hand over the outcome and wake the waiter."""
        self.reply = reply
        self.error = error
        if self.state is not SlotState.ABANDONED:
            self.state = SlotState.DONE
        if self.on_done is not None:
            self.on_done()
