"""Servers that misbehave, one way each."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio

from engine import ntstatus
from engine.crypto.signing import Signer
from engine.wire.constants import Command, Dialect, HeaderFlags
from engine.wire.header import Header
from engine.wire.ioctl import ValidateNegotiateInfoResponse
from engine.wire.negotiate import (
    EncryptionCapabilities,
    NegotiateContext,
    NegotiateRequest,
    NegotiateResponse,
)
from tests.fakes.server import FakeServer
from tests.fakes.server_peer import Peer, Reply

_SETS_UP: Final = (Command.NEGOTIATE, Command.SESSION_SETUP, Command.TREE_CONNECT)
_MESSAGE_ID: Final = slice(24, 32)
_SIGNATURE_BYTE: Final = 50
_ANYTHING: Final[dict[str, Any]] = {}


class ReordersReplies(FakeServer):
    """Holds replies back until `count` of them are there, then sends them last one first."""

    count = 4

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        if not self.armed:
            await self.send(peer, replies)
            return
        kept = self.__dict__.setdefault("kept", [])
        kept.append(replies)
        if len(kept) == self.count:
            for group in reversed(kept):
                await self.send(peer, group)
            kept.clear()
