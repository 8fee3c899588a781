"""Lies about replies: their order, their number, what goes before them, the credits that they bring."""

from __future__ import annotations

from engine.wire.constants import Command, HeaderFlags
from engine.wire.header import Header
from tests.fakes.server_lies import Lie
from tests.fakes.server_peer import Peer, Reply


class Reorders(Lie):
    """Keeps the replies until there are `count` frames of them, then sends the last one first."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[list[Reply]] = []

    def groups(self, peer: Peer, replies: list[Reply]) -> list[list[Reply]]:
        self._kept.append(replies)
        if len(self._kept) < self._count:
            return []
        kept, self._kept = self._kept, []
        return kept[::-1]


class PendingStorm(Lie):
    """Sends `times` interim replies before every final one; the first takes over the grant.

    `moves` gives each of them another AsyncId than the one before.
    """

    def __init__(self, times: int, *, moves: bool = False) -> None:
        self._times = times
        self._moves = moves

    def groups(self, peer: Peer, replies: list[Reply]) -> list[list[Reply]]:
        storm = [
            [reply.interim(reply.request.message_id * self._times + (number if self._moves else 1))]
            for reply in replies
            if reply.command not in (Command.NEGOTIATE, Command.SESSION_SETUP)
            for number in range(1, self._times + 1)
        ]
        return [*storm, replies]


class Grants(Lie):
    """Every reply grants so many credits, whatever was asked for."""

    def __init__(self, credits: int) -> None:
        self._credits = credits

    def grant(self, reply: Reply, honest: int) -> int:
        return self._credits


class Repeats(Lie):
    """Sends every frame so many times."""

    def __init__(self, times: int = 2) -> None:
        self._times = times

    def frames(self, peer: Peer, frame: bytes) -> list[bytes]:
        return [frame] * self._times


class Strays(Lie):
    """Before every frame a reply in the clear that nobody asked for, unsigned, with credits to give away."""

    def __init__(self, message_id: int, command: Command = Command.ECHO, credits: int = 1) -> None:
        header = Header(
            command=command, flags=HeaderFlags.SERVER_TO_REDIR, message_id=message_id, credits=credits
        )
        self._message = header.encode() + b"\x04\0\0\0"

    def frames(self, peer: Peer, frame: bytes) -> list[bytes]:
        return [self._message, frame]


class Unasked(Lie):
    """Before every frame these messages, which no request belongs to: breaks, notifications."""

    def __init__(self, *messages: bytes) -> None:
        self._messages = messages

    def frames(self, peer: Peer, frame: bytes) -> list[bytes]:
        return [*self._messages, frame]
