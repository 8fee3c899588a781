"""Lies about who speaks: wrong or missing signatures, encryption that is nested, replayed or another's."""

from __future__ import annotations

from collections.abc import Sequence

from engine.wire.constants import Command
from engine.wire.transform import TRANSFORM_HEADER_SIZE, TRANSFORM_PROTOCOL_ID
from tests.fakes.server_lies import Lie
from tests.fakes.server_peer import Peer, Reply

SIGNATURE = 4
NONCE = 20
ORIGINAL_SIZE = 36
FLAGS = 42
SESSION_ID = 44
"""Where these fields of the TRANSFORM_HEADER lie."""

_SIGNED_FLAG_BYTE = 16
_SIGNED = 0x08


class SignsWrongly(Lie):
    """One bit of the signature is the other way round."""

    def __init__(self, *commands: Command) -> None:
        self._commands = commands or tuple(Command)

    def signed(self, message: bytearray, reply: Reply) -> None:
        if reply.command in self._commands:
            message[50] ^= 0x10


class LeavesUnsigned(Lie):
    """No signature, and no flag that there is one."""

    def signed(self, message: bytearray, reply: Reply) -> None:
        message[_SIGNED_FLAG_BYTE] &= ~_SIGNED
        message[48:64] = bytes(16)


class SignsEarlierReply(Lie):
    """The signature of the reply before, which was right there."""

    def __init__(self) -> None:
        self._last = bytes(16)

    def signed(self, message: bytearray, reply: Reply) -> None:
        self._last, message[48:64] = bytes(message[48:64]), self._last


class AnswersInTheClear(Lie):
    """The answers to encrypted requests are not encrypted."""

    def seals(self, replies: Sequence[Reply]) -> bool:
        return False


class ChangesTransform(Lie):
    """`value` at `offset` of every TRANSFORM_HEADER, after the encryption."""

    def __init__(self, offset: int, value: bytes) -> None:
        self._span = slice(offset, offset + len(value))
        self._value = value

    def frames(self, peer: Peer, frame: bytes) -> list[bytes]:
        if frame[:4] != TRANSFORM_PROTOCOL_ID:
            return [frame]
        changed = bytearray(frame)
        changed[self._span] = self._value
        return [bytes(changed)]


class FlipsCiphertext(Lie):
    """One bit of what is encrypted, the first one, is the other way round."""

    def frames(self, peer: Peer, frame: bytes) -> list[bytes]:
        changed = bytearray(frame)
        changed[TRANSFORM_HEADER_SIZE] ^= 1
        return [bytes(changed)]


class SealsTwice(Lie):
    """Encrypts what is encrypted already, with the session's own key."""

    def frames(self, peer: Peer, frame: bytes) -> list[bytes]:
        sealer = peer.session.sealer if peer.session is not None else None
        return [frame if sealer is None else b"".join(sealer.seal([frame]))]


class ReplaysSealed(Lie):
    """Sends every encrypted frame once more behind the next one."""

    def __init__(self) -> None:
        self._last: list[bytes] = []

    def frames(self, peer: Peer, frame: bytes) -> list[bytes]:
        replayed, self._last = self._last, [frame]
        return [frame, *replayed]


class Reflects(Lie):
    """Sends the client's own frame back to it instead of an answer.

    `as_reply` turns the header's flag that says who speaks, which no encrypted frame shows.
    """

    def __init__(self, *, as_reply: bool = False) -> None:
        self._as_reply = as_reply
        self._heard = b""

    def hear(self, peer: Peer, frame: bytes) -> None:
        self._heard = frame

    def frames(self, peer: Peer, frame: bytes) -> list[bytes]:
        reflected = bytearray(self._heard)
        if self._as_reply:
            reflected[16] |= 1
        return [bytes(reflected)]
