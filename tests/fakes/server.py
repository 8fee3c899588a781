"""A scripted SMB2 server for tests: real sockets, real signatures, strict about what the client owes it.

`FakeServer` behaves; its subclasses in `server_behaviours` each do one thing wrong. Whatever the client
does against the rules ends up in `complaints()`, and `running` fails the test for it.
"""

from __future__ import annotations

import socket
import struct
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypedDict, Unpack

import spnego
import trio

from engine import ntstatus
from engine.crypto.sealing import Cipher
from engine.crypto.signing import Signer, SigningAlgorithm
from engine.wire.constants import (
    Capabilities,
    Command,
    Dialect,
    HashAlgorithm,
    HeaderFlags,
    SecurityMode,
    ShareType,
)
from engine.wire.create import CreateRequest, CreateResponse
from engine.wire.header import Header
from engine.wire.ioctl import ValidateNegotiateInfoRequest, ValidateNegotiateInfoResponse
from engine.wire.negotiate import (
    EncryptionCapabilities,
    NegotiateContext,
    NegotiateRequest,
    NegotiateResponse,
    PreauthIntegrityCapabilities,
    SigningCapabilities,
)
from engine.wire.notify import LeaseBreakAcknowledgement, OplockBreak
from tests.fakes.server_controls import Refused
from tests.fakes.server_peer import Acceptor, Peer, Reply
from tests.fakes.server_tree import MemoryTree

USER: Final = "fakeuser"
PASSWORD: Final = "fake-secret-1"
DOMAIN: Final = "example.test"
USER_FILE: Final = f":{USER}:{PASSWORD}\n{DOMAIN}:{USER}:{PASSWORD}\n"
"""The content of the file that the variable NTLM_USER_FILE has to name for `acceptor` to work."""

_GUID: Final = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
_SIGNATURE: Final = slice(48, 64)
_LINGER_ZERO: Final = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class ServerOptions(TypedDict, total=False):
    """How a server is set up."""

    dialect: Dialect
    cipher: Cipher | None
    max_size: int
    total_credits: int
    signing_required: bool
    encrypts: bool
    guest: bool
    armed: bool


class FakeServer:
    """A well-behaved server with one share, one account and an in-memory tree."""

    def __init__(self, **options: Unpack[ServerOptions]) -> None:
        self.dialect = options.get("dialect", Dialect.SMB_3_1_1)
        self.cipher = self._cipher_of(options.get("cipher", Cipher.AES_128_GCM))
        self.max_size = options.get("max_size", 1 << 20)
        self.total_credits = options.get("total_credits", 64)
        self.signing_required = options.get("signing_required", True)
        self.encrypts = options.get("encrypts", False)
        self.guest = options.get("guest", False)
        self.armed = options.get("armed", True)
        """Misbehaviour that a test wants only later starts when this becomes true."""
        self.share_flags = 0
        self.share_type: int = ShareType.DISK
        self.share_capabilities = 0
        self.takes_at_most: int | None = None
        """Bytes that one WRITE gets rid of."""
        self.gives_at_most: int | None = None
        """Bytes that one READ gets."""
        self.failure_spreads = False
        """Whether a failed part of a compound makes the parts after it fail, CLOSE included."""
        self.refusals: dict[Command, int] = {}
        """Commands that fail with this status."""
        self.refuses_accounts = False
        """Whether nobody is let in any more."""
        self.tree = MemoryTree()
        self.host = "127.0.0.1"
        self.port = 0
        self.refused_shares: dict[str, int] = {}
        """The statuses of shares that nobody may connect to, by their names in lower case."""
        self.peers: list[Peer] = []
        self.tree_connects: list[str] = []
        self.received: list[Command] = []
        self.cancels: list[Header] = []
        self._negotiated: NegotiateResponse | None = None
        self._client_guids: set[uuid.UUID] = set()
        self._progress = trio.Event()

    def _cipher_of(self, wanted: Cipher | None) -> Cipher | None:
        if wanted is None or self.dialect < Dialect.SMB_3_0:
            return None
        return wanted if self.dialect is Dialect.SMB_3_1_1 else Cipher.AES_128_CCM

    @property
    def unc(self) -> str:
        """What to connect to."""
        return f"//{self.host}:{self.port}/data"

    @property
    def signing_algorithm(self) -> SigningAlgorithm:
        """What signs with the dialect."""
        if self.dialect < Dialect.SMB_3_0:
            return SigningAlgorithm.HMAC_SHA256
        return SigningAlgorithm.AES_GMAC if self.dialect is Dialect.SMB_3_1_1 else SigningAlgorithm.AES_CMAC

    @property
    def capabilities(self) -> int:
        """What the server says that it can."""
        found = Capabilities.LARGE_MTU if self.dialect >= Dialect.SMB_2_1 else Capabilities(0)
        if Dialect.SMB_3_0 <= self.dialect < Dialect.SMB_3_1_1 and self.cipher is not None:
            found |= Capabilities.ENCRYPTION
        return int(found)

    def moved(self) -> None:
        """Something happened: let those look who wait in `until`."""
        self._progress.set()
        self._progress = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds."""
        while not condition():
            await self._progress.wait()

    def complaints(self) -> list[str]:
        """What clients did wrong."""
        return [complaint for peer in self.peers for complaint in peer.books.complaints]

    def negotiate(self, request: NegotiateRequest) -> NegotiateResponse:
        """Answer NEGOTIATE."""
        self._client_guids.add(request.client_guid)
        response = self.negotiate_response(request)
        self._negotiated = response
        return response

    def negotiate_response(self, request: NegotiateRequest) -> NegotiateResponse:
        """The answer to NEGOTIATE."""
        limit = self.max_size if self.dialect >= Dialect.SMB_2_1 else 65536
        mode = SecurityMode.SIGNING_ENABLED
        if self.signing_required:
            mode |= SecurityMode.SIGNING_REQUIRED
        return NegotiateResponse(
            security_mode=int(mode),
            dialect_revision=self.dialect,
            server_guid=_GUID,
            capabilities=self.capabilities,
            max_transact_size=limit,
            max_read_size=limit,
            max_write_size=limit,
            contexts=self.negotiate_contexts() if self.dialect is Dialect.SMB_3_1_1 else (),
        )

    def negotiate_contexts(self) -> list[NegotiateContext]:
        """The contexts of the answer with 3.1.1."""
        contexts: list[NegotiateContext] = [
            PreauthIntegrityCapabilities([HashAlgorithm.SHA_512], bytes(32)),
            SigningCapabilities([self.signing_algorithm]),
        ]
        if self.cipher is not None:
            contexts.append(EncryptionCapabilities([self.cipher]))
        return contexts

    def validation(self, data: memoryview) -> bytes:
        """The output of FSCTL_VALIDATE_NEGOTIATE_INFO ([MS-SMB2] 3.3.5.15.12)."""
        asked = ValidateNegotiateInfoRequest.decode_untrusted(data)
        if asked.guid not in self._client_guids:
            self.peers[-1].books.complaints.append("what is confirmed was never negotiated")
        said = self._negotiated
        assert said is not None
        return ValidateNegotiateInfoResponse(
            said.capabilities, said.server_guid, said.security_mode, said.dialect_revision
        ).encode()

    def acceptor(self) -> Acceptor:
        """The server's side of NTLM inside SPNEGO."""
        return spnego.server(protocol="negotiate", options=spnego.NegotiateOptions.use_negotiate)

    def challenge(self, token: bytes) -> bytes:
        """The second message of a log-on whose outcome is certain already."""
        if token.startswith(b"NTLMSSP\0"):
            return b"NTLMSSP\0\x02\0\0\0"
        context = self.acceptor()
        return context.step(token) or b""

    def log_on_token(self, token: bytes) -> bytes:
        """What a SESSION_SETUP reply carries."""
        return token

    def create(self, request: CreateRequest) -> CreateResponse:
        """Carry out a CREATE; raises `Refused`."""
        response = self.tree.create(request)
        self.created(request, response)
        return response

    def created(self, request: CreateRequest, response: CreateResponse) -> None:
        """A CREATE succeeds: add to `response` what it grants."""

    def acknowledge(
        self, request: LeaseBreakAcknowledgement | OplockBreak
    ) -> LeaseBreakAcknowledgement | OplockBreak:
        """The answer to the acknowledgement of a break; raises `Refused`: nothing was granted."""
        raise Refused(ntstatus.STATUS_UNSUCCESSFUL)

    def grant(self, peer: Peer, reply: Reply) -> int:
        """Credits for `reply`: as asked for, as long as the client's total stays within `total_credits`."""
        held = peer.books.in_hand + peer.books.outstanding - reply.charge
        return max(0, min(reply.request.credits, self.total_credits - held))

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        """Send the replies to one frame."""
        await self.send(peer, replies)

    async def send(self, peer: Peer, replies: list[Reply]) -> None:
        """Send replies as one frame, now."""
        async with peer.sending:
            frame = peer.encode(replies)
            await self.write(peer, len(frame).to_bytes(4, "big") + frame)

    async def write(self, peer: Peer, data: bytes) -> None:
        """Write a frame with its length."""
        await peer.stream.send_all(data)

    def heard(self, peer: Peer, frame: bytes) -> None:
        """A frame came, as the client sent it."""

    def alter(self, peer: Peer, message: bytearray, reply: Reply) -> None:
        """Change a message before it is signed or encrypted."""

    def sign(self, message: bytearray, reply: Reply, signer: Signer) -> None:
        """Put the signature into a message."""
        message[16] |= HeaderFlags.SIGNED
        message[_SIGNATURE] = signer.sign(message)

    def seals(self, replies: Sequence[Reply]) -> bool:
        """Whether the answer to an encrypted request is encrypted."""
        return True

    async def cancelled(self, peer: Peer, header: Header) -> None:
        """A CANCEL came; everything is answered already, so it is too late."""
        self.cancels.append(header)

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection."""
        peer = Peer(self, stream)
        self.peers.append(peer)
        try:
            async with stream:
                await peer.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            self.moved()

    def hang_up(self) -> None:
        """Cut every connection with a reset."""
        for peer in self.peers:
            if peer.stream.socket.fileno() == -1:
                continue
            peer.stream.setsockopt(*_LINGER_ZERO)
            peer.stream.socket.close()


@asynccontextmanager
async def running(server: FakeServer) -> AsyncGenerator[FakeServer, None]:
    """Run `server` on its port, or a free one, of its host; fails if a client broke the rules."""
    (listener,) = await trio.open_tcp_listeners(server.port, host=server.host)
    server.port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.handle, [listener])
        yield server
        nursery.cancel_scope.cancel()
    assert not server.complaints(), server.complaints()
