"""What a received frame can mean to the floor above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from engine.proto.inflight import Reply, Slot
from engine.wire.notify import LeaseBreakNotification, OplockBreak


@dataclass(slots=True, frozen=True)
class LateReply:
    """A final reply whose waiter is gone; what it created on the server must be undone."""

    slot: Slot
    reply: Reply


@dataclass(slots=True, frozen=True)
class BreakReceived:
    """The server breaks an oplock or a lease ([MS-SMB2] 3.2.5.19)."""

    notification: OplockBreak | LeaseBreakNotification


Event: TypeAlias = LateReply | BreakReceived
