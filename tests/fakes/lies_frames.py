"""Lies about frames: the four bytes of length in front, and what is no SMB2 at all."""

from __future__ import annotations

from tests.fakes.server_lies import Lie
from tests.fakes.server_peer import Peer


class AnnouncesMore(Lie):
    """The length in front of every frame is `extra` more than comes."""

    def __init__(self, extra: int) -> None:
        self._extra = extra

    def wire(self, data: bytes) -> bytes:
        announced = int.from_bytes(data[:4], "big") + self._extra
        return announced.to_bytes(4, "big") + data[4:]


class SendsInstead(Lie):
    """These frames instead of every frame."""

    def __init__(self, *frames: bytes) -> None:
        self._frames = frames

    def frames(self, peer: Peer, frame: bytes) -> list[bytes]:
        return list(self._frames)


class Ends(Lie):
    """Every frame ends after this many bytes, and says so: what was promised inside is missing."""

    def __init__(self, length: int) -> None:
        self._length = length

    def frames(self, peer: Peer, frame: bytes) -> list[bytes]:
        return [frame[: self._length]]
