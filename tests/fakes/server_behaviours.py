"""Servers that misbehave, one way each; `armed` says from when on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Unpack

import trio

from engine import ntstatus
from engine.crypto.signing import Signer
from engine.wire.constants import Command, Dialect, HeaderFlags
from engine.wire.header import UNSOLICITED_MESSAGE_ID, Header
from engine.wire.ioctl import ValidateNegotiateInfoResponse
from engine.wire.negotiate import (
    EncryptionCapabilities,
    NegotiateContext,
    NegotiateRequest,
    NegotiateResponse,
)
from tests.fakes.server import FakeServer, ServerOptions
from tests.fakes.server_peer import Peer, Reply

_UNKNOWN_ID: Final = 1 << 40


class ReordersReplies(FakeServer):
    """Keeps replies until there are `count`, then sends the last one first."""

    def __init__(self, count: int, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._count = count
        self._kept: list[list[Reply]] = []

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        self._kept.append(replies)
        if not self.armed or len(self._kept) == self._count:
            for group in reversed(self._kept):
                await self.send(peer, group)
            self._kept.clear()


class GrantsNoCredits(FakeServer):
    """Takes credits and gives none back."""

    def grant(self, peer: Peer, reply: Reply) -> int:
        return 0 if self.armed else super().grant(peer, reply)


class GrantsFewCredits(FakeServer):
    """Lets the client hold no more than `count` credits."""

    def __init__(self, count: int, **options: Unpack[ServerOptions]) -> None:
        options["total_credits"] = count
        super().__init__(**options)


class AnswersPendingFirst(FakeServer):
    """Sends `times` interim replies before every final one, and grants with the first."""

    def __init__(self, times: int = 1, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._times = times

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        if self.armed:
            for reply in replies:
                for _ in range(self._times):
                    await self.send(peer, [reply.interim(reply.request.message_id + 1)])
        await self.send(peer, replies)


class KeepsWaiting(FakeServer):
    """Carries out `commands` at once, but keeps the replies until `release`.

    `interim` says that the client hears STATUS_PENDING meanwhile, `honours_cancel` that a CANCEL makes
    it answer STATUS_CANCELLED; else the outcome comes late, as if the CANCEL had crossed it.
    """

    def __init__(
        self,
        *commands: Command,
        interim: bool = False,
        honours_cancel: bool = False,
        **options: Unpack[ServerOptions],
    ) -> None:
        super().__init__(**options)
        self.commands = commands
        self._interim = interim
        self._honours_cancel = honours_cancel
        self.held: list[tuple[Peer, list[Reply]]] = []

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        first = next((at for at, reply in enumerate(replies) if reply.command in self.commands), None)
        if first is None or not self.armed:
            await self.send(peer, replies)
            return
        if self._interim:
            for reply in replies[:first]:
                await self.send(peer, [reply])
            replies = replies[first:]
            await self.send(peer, [replies[0].interim(replies[0].request.message_id + 100)])
        self.held.append((peer, replies))

    async def cancelled(self, peer: Peer, header: Header) -> None:
        await super().cancelled(peer, header)
        for entry in self.held:
            first = entry[1][0]
            named = first.async_id if header.flags & HeaderFlags.ASYNC_COMMAND else first.request.message_id
            asked = header.async_id if header.flags & HeaderFlags.ASYNC_COMMAND else header.message_id
            if self._honours_cancel and named == asked:
                first.fail(ntstatus.STATUS_CANCELLED)
                self.held.remove(entry)
                await self.send(*entry)
                return

    async def release(self) -> None:
        """Send everything that is kept, and keep nothing more."""
        self.armed = False
        held, self.held = self.held, []
        for peer, replies in held:
            await self.send(peer, replies)


class NeverAnswers(KeepsWaiting):
    """Silence after `commands`, for ever; after every command if none is named."""

    def __init__(self, *commands: Command, **options: Unpack[ServerOptions]) -> None:
        super().__init__(*(commands or Command), **options)


class RepeatsReplies(FakeServer):
    """Sends every frame twice."""

    async def write(self, peer: Peer, data: bytes) -> None:
        await super().write(peer, data)
        if self.armed:
            await super().write(peer, data)


class SendsUnknownMessageIds(FakeServer):
    """Sends an ECHO reply that nobody asked for before every frame."""

    async def write(self, peer: Peer, data: bytes) -> None:
        if self.armed:
            header = Header(
                command=Command.ECHO, flags=HeaderFlags.SERVER_TO_REDIR, message_id=_UNKNOWN_ID, credits=1
            )
            stray = header.encode() + b"\x04\0\0\0"
            await super().write(peer, len(stray).to_bytes(4, "big") + stray)
        await super().write(peer, data)


class AnswersAnotherCommand(FakeServer):
    """Says in the header that it answers ECHO, whatever was asked."""

    def sign(self, message: bytearray, reply: Reply, signer: Signer) -> None:
        if self.armed:
            message[12:14] = int(Command.ECHO).to_bytes(2, "little")
        super().sign(message, reply, signer)


class TruncatesReplies(FakeServer):
    """Cuts the body of replies, and signs what is left."""

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        if self.armed:
            replies = [replace(reply, body=reply.body[: len(reply.body) // 2]) for reply in replies]
        await self.send(peer, replies)


class AnswersWith(FakeServer):
    """Answers one command with this body, whatever was asked; what was asked is done all the same."""

    def __init__(self, command: Command, body: bytes, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._command = command
        self._body = body

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        for reply in replies:
            if self.armed and reply.command is self._command and not reply.status:
                reply.body = self._body
        await self.send(peer, replies)


class WrongSignature(FakeServer):
    """Signs with a bit the wrong way round."""

    def __init__(self, *commands: Command, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self.commands = commands or tuple(Command)

    def sign(self, message: bytearray, reply: Reply, signer: Signer) -> None:
        super().sign(message, reply, signer)
        if self.armed and reply.command in self.commands:
            message[50] ^= 0x10


class OmitsSignature(WrongSignature):
    """Sends replies without a signature."""

    def sign(self, message: bytearray, reply: Reply, signer: Signer) -> None:
        if not self.armed or reply.command not in self.commands:
            FakeServer.sign(self, message, reply, signer)


class AnswersInTheClear(FakeServer):
    """Does not encrypt the answers to encrypted requests; signs them, properly."""

    def seals(self, replies: Sequence[Reply]) -> bool:
        return not self.armed


class SplitsBytewise(FakeServer):
    """Sends one byte at a time."""

    async def write(self, peer: Peer, data: bytes) -> None:
        for offset in range(len(data)):
            await super().write(peer, data[offset : offset + 1])


class Trickles(FakeServer):
    """Sends `size` bytes at a time, with `seconds` before each of them."""

    def __init__(self, size: int, seconds: float, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._size = size
        self._seconds = seconds

    async def write(self, peer: Peer, data: bytes) -> None:
        size = self._size if self.armed else len(data)
        for offset in range(0, len(data), size):
            if self.armed:
                await trio.sleep(self._seconds)
            await super().write(peer, data[offset : offset + size])


class MergesFrames(FakeServer):
    """Keeps frames until there are `count`, then sends them in one piece."""

    def __init__(self, count: int, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._count = count
        self._kept: list[bytes] = []

    async def write(self, peer: Peer, data: bytes) -> None:
        self._kept.append(data)
        if not self.armed or len(self._kept) == self._count:
            merged = b"".join(self._kept)
            self._kept.clear()
            await super().write(peer, merged)


class ClosesAfter(FakeServer):
    """Ends the connection instead of sending the next frame after `count` of them."""

    def __init__(self, count: int, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._left = count

    async def write(self, peer: Peer, data: bytes) -> None:
        if not self.armed:
            await super().write(peer, data)
        elif self._left:
            self._left -= 1
            await super().write(peer, data)
        else:
            await peer.stream.aclose()


class CutsFrame(FakeServer):
    """Sends the first half of a frame, then ends the connection."""

    async def write(self, peer: Peer, data: bytes) -> None:
        if self.armed:
            await super().write(peer, data[: len(data) // 2])
            await peer.stream.aclose()
        else:
            await super().write(peer, data)


class OverlongFrame(FakeServer):
    """Announces a frame of `size` bytes."""

    def __init__(self, size: int, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._size = size

    async def write(self, peer: Peer, data: bytes) -> None:
        await super().write(peer, self._size.to_bytes(4, "big") if self.armed else data)


class ChangesReplies(FakeServer):
    """A man in the middle who changes `offset` of every frame's first message, after it was signed."""

    def __init__(self, offset: int, value: bytes, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._span = slice(4 + offset, 4 + offset + len(value))
        self._value = value

    async def write(self, peer: Peer, data: bytes) -> None:
        changed = bytearray(data)
        if self.armed:
            changed[self._span] = self._value
        await super().write(peer, bytes(changed))


class ChangesNegotiate(ChangesReplies):
    """A man in the middle who changes the answer to NEGOTIATE and nothing else."""

    async def write(self, peer: Peer, data: bytes) -> None:
        await super().write(peer, data)
        self.armed = False


class RefusesNegotiation(FakeServer):
    """Answers NEGOTIATE with this status."""

    def __init__(self, status: int, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._status = status

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        replies[0].fail(self._status)
        await self.send(peer, replies)


class Negotiates(FakeServer):
    """Answers NEGOTIATE with `changes` applied to the honest answer."""

    def __init__(self, changes: dict[str, int], **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._changes = changes

    def negotiate_response(self, request: NegotiateRequest) -> NegotiateResponse:
        response = super().negotiate_response(request)
        for name, value in self._changes.items():
            setattr(response, name, value)
        return response


class DowngradesDialect(FakeServer):
    """A man in the middle took dialects away: the server later confirms what it would have chosen."""

    def validation(self, data: memoryview) -> bytes:
        said = ValidateNegotiateInfoResponse.decode_untrusted(memoryview(super().validation(data)))
        return replace(said, dialect=Dialect.SMB_3_0_2).encode()


class AltersNegotiateInfo(FakeServer):
    """Confirms other capabilities than the client was told: one of the two messages was altered."""

    def validation(self, data: memoryview) -> bytes:
        said = ValidateNegotiateInfoResponse.decode_untrusted(memoryview(super().validation(data)))
        return replace(said, capabilities=said.capabilities ^ 1).encode()


class ChangesContexts(FakeServer):
    """Answers NEGOTIATE with these contexts instead of its own of the same types."""

    def __init__(self, *contexts: NegotiateContext, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._contexts = contexts

    def negotiate_contexts(self) -> list[NegotiateContext]:
        types = {context.context_type for context in self._contexts}
        kept = [context for context in super().negotiate_contexts() if context.context_type not in types]
        return [*kept, *self._contexts]


class ChoosesUnofferedCipher(ChangesContexts):
    """Picks a cipher that does not exist."""

    def __init__(self, **options: Unpack[ServerOptions]) -> None:
        super().__init__(EncryptionCapabilities([0x7777]), **options)


class DuplicateNegotiateContext(FakeServer):
    """Sends every context twice."""

    def negotiate_contexts(self) -> list[NegotiateContext]:
        return [*super().negotiate_contexts(), *super().negotiate_contexts()]


class MakesGuest(FakeServer):
    """Lets everybody in as a guest."""

    def __init__(self, **options: Unpack[ServerOptions]) -> None:
        options["guest"] = True
        super().__init__(**options)


class GarblesLogOn(FakeServer):
    """Sends log-on messages with mistakes in them, the same ones for the same `seed`."""

    def __init__(self, seed: int, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._random = random.Random(seed)

    def log_on_token(self, token: bytes) -> bytes:
        garbled = bytearray(token)
        for _ in range(self._random.randint(1, 3)):
            garbled[self._random.randrange(len(garbled))] = self._random.randrange(256)
        return bytes(garbled[: self._random.randint(len(garbled) // 2, 2 * len(garbled))])


class AnswersLogOnWith(FakeServer):
    """Gives every log-on message the same status, whatever is in it."""

    def __init__(self, status: int, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._status = status

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        if replies[0].command is Command.SESSION_SETUP:
            replies[0].status = self._status
        await self.send(peer, replies)


class SendsBreaks(FakeServer):
    """Sends these bodies as oplock breaks that nobody asked for, before every frame."""

    def __init__(self, *bodies: bytes, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self._bodies = bodies

    async def write(self, peer: Peer, data: bytes) -> None:
        for body in self._bodies if self.armed else ():
            header = Header(
                command=Command.OPLOCK_BREAK,
                flags=HeaderFlags.SERVER_TO_REDIR,
                message_id=UNSOLICITED_MESSAGE_ID,
            )
            message = header.encode() + body
            await super().write(peer, len(message).to_bytes(4, "big") + message)
        await super().write(peer, data)


class StopsReading(FakeServer):
    """Takes one more frame and then nothing more from the socket."""

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        if self.armed:
            self.moved()
            await trio.sleep_forever()
        await self.send(peer, replies)


class HostileNames(FakeServer):
    """Lists these names in every folder."""

    def __init__(self, *names: str, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self.tree.hostile_names = list(names)
