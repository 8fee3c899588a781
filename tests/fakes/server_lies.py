"""A server whose lies are values: a test names what it does wrong, and puts several together.

Each room of lies has one idea: `lies_replies` (which replies come, when, and with how many credits),
`lies_messages` (what stands in them, signed as if it were true), `lies_protection` (signatures and
encryption), `lies_frames` (what TCP carries), `lies_negotiation` (what was agreed on). `server_behaviours`
has the misbehaviour that needs a server of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from engine.crypto.signing import Signer
from engine.wire.negotiate import NegotiateRequest, NegotiateResponse
from tests.fakes.server import FakeServer, ServerOptions
from tests.fakes.server_peer import Acceptor, Peer, Reply


class Lie:
    """One thing that a server does wrong. Each kind overrides the step that it spoils; this one is honest."""

    def hear(self, peer: Peer, frame: bytes) -> None:
        """A frame of the client's, as it came."""

    def negotiate(self, response: NegotiateResponse) -> None:
        """The answer to NEGOTIATE, before it is sent."""

    def groups(self, peer: Peer, replies: list[Reply]) -> list[list[Reply]]:
        """The replies to one frame → the frames that they are sent in, now."""
        return [replies]

    def grant(self, reply: Reply, honest: int) -> int:
        """The credits that a reply grants."""
        return honest

    def message(self, peer: Peer, message: bytearray, reply: Reply) -> None:
        """A message, header included, before it is signed or encrypted."""

    def signed(self, message: bytearray, reply: Reply) -> None:
        """A message after it was signed."""

    def seals(self, replies: Sequence[Reply]) -> bool:
        """Whether the answer to an encrypted request is encrypted."""
        return True

    def frames(self, peer: Peer, frame: bytes) -> list[bytes]:
        """A whole frame, encrypted if it is to be → what is sent instead."""
        return [frame]

    def wire(self, data: bytes) -> bytes:
        """A frame with its length in front, as TCP carries it."""
        return data


class LyingServer(FakeServer):
    """A well-behaved server but for its `lies`, which each take what the one before has made of it.

    `armed` says from when on; it is False until a test sets it if the server was made so.
    """

    def __init__(self, *lies: Lie, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._lies = lies
        self.accepts: Acceptor | None = None
        """Who hears the log-on in this server's place."""
        self.excuses = False
        """Whether the client may do wrong: it was told credits, say, that there are not."""

    def acceptor(self) -> Acceptor:
        return self.accepts or super().acceptor()

    def complaints(self) -> list[str]:
        if self.excuses:
            return []
        # Who has no key of its own finds every signature wrong.
        return [said for said in super().complaints() if not (self.accepts and "signature" in said)]

    @property
    def lies(self) -> Sequence[Lie]:
        """What is told now."""
        return self._lies if self.armed else ()

    def heard(self, peer: Peer, frame: bytes) -> None:
        for lie in self._lies:
            lie.hear(peer, frame)

    def negotiate_response(self, request: NegotiateRequest) -> NegotiateResponse:
        response = super().negotiate_response(request)
        for lie in self.lies:
            lie.negotiate(response)
        return response

    def grant(self, peer: Peer, reply: Reply) -> int:
        granted = super().grant(peer, reply)
        for lie in self.lies:
            granted = lie.grant(reply, granted)
        return granted

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        groups = [replies]
        for lie in self.lies:
            groups = [made for group in groups for made in lie.groups(peer, group)]
        for group in groups:
            await self.send(peer, group)

    def alter(self, peer: Peer, message: bytearray, reply: Reply) -> None:
        for lie in self.lies:
            lie.message(peer, message, reply)

    def sign(self, message: bytearray, reply: Reply, signer: Signer) -> None:
        super().sign(message, reply, signer)
        for lie in self.lies:
            lie.signed(message, reply)

    def seals(self, replies: Sequence[Reply]) -> bool:
        return all(lie.seals(replies) for lie in self.lies)

    async def send(self, peer: Peer, replies: list[Reply]) -> None:
        async with peer.sending:
            frames = [peer.encode(replies)]
            for lie in self.lies:
                frames = [made for frame in frames for made in lie.frames(peer, frame)]
            for frame in frames:
                data = len(frame).to_bytes(4, "big") + frame
                for lie in self.lies:
                    data = lie.wire(data)
                await self.write(peer, data)
