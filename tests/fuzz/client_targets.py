"""The targets of `engine/client`: frames off the socket, the way to the share, log-on, answers of servers."""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final, cast
from unittest import mock

import trio

from engine.client import requests
from engine.client import session as session_module
from engine.client.buffers import BufferPool
from engine.client.config import AuthKind, ConnectConfig, Credentials, parse_unc
from engine.client.connection import Batch, Connection
from engine.client.establish import Way
from engine.client.extended_attributes import _by_name
from engine.client.folder import _entries
from engine.client.keeping import decode_all
from engine.client.ntlm import Ntlm
from engine.client.session import log_on_again
from engine.client.stat import stat_from_create, stat_of_created
from engine.client.transport import Transport
from engine.client.tree import Tree
from engine.crypto.kdf import derive_keys
from engine.crypto.preauth import PreauthIntegrity
from engine.crypto.signing import make_signer
from engine.errors import AuthError, NtStatusError, RemoteProtocolError, TransportError
from engine.proto.inflight import Reply, Request, SessionState
from engine.proto.negotiation import Negotiated, Offer
from engine.wire.constants import Dialect, HeaderFlags
from engine.wire.create import CreateResponse
from engine.wire.fscc import FileAllInformation
from engine.wire.fscc_set import FileEndOfFileInformation
from engine.wire.header import Header
from engine.wire.primitives import FILE_ID_RELATED
from tests.fuzz.target import Script, Target, covering

_REFUSALS: Final = (RemoteProtocolError, AuthError, NtStatusError, TransportError)
"""What the way to a share may end with, whatever the server says."""

_DIALECTS: Final = tuple(Dialect)
_HASHES: Final = f"{1:032x}:{2:032x}"
"""A password as the library takes it hashed already: DES written in Python would take most of the time."""
_ACCOUNTS: Final = (
    Credentials("somebody", _HASHES, "SOMEWHERE"),
    Credentials("somebody", kind=AuthKind.GUEST),
    Credentials(kind=AuthKind.ANONYMOUS),
    Credentials("somebody", _HASHES, "KEYED"),
)
_UNC: Final = parse_unc("//server/share")
_GUID: Final = uuid.UUID(int=1)

# Refusals are logged in detail for those who debug, which here would only cost time.
logging.getLogger("spnego").setLevel(logging.ERROR)


class _Keyed:
    """A log-on that believes every token: no script can make one that the real one takes for its server's."""

    KEY: Final = bytes(range(16))
    blocks = False
    name = "NTLM"
    ticket = None

    def __init__(self, credentials: Credentials, server: str) -> None:
        """As of the real one."""

    def step(self, token: bytes | None) -> bytes | None:
        return b"token"

    def session_key(self) -> bytes:
        return self.KEY


class _Scripted:
    """As much of a `Connection` as the way to the share needs: the next frame answers whatever is asked.

    With `signs`, the log-on's replies are signed with the key of `_Keyed`.
    """

    server = "server"

    def __init__(self, frames: Sequence[bytes], *, signs: bool) -> None:
        self._signs = signs
        self.negotiated: Negotiated | None = None
        self.offer: Offer | None = None
        self.sessions: list[SessionState] = []
        self.clock_ns = 0
        self._frames = list(frames)

    @property
    def has_more(self) -> bool:
        return bool(self._frames)

    def use(self, negotiated: Negotiated, offer: Offer) -> None:
        self.negotiated, self.offer = negotiated, offer

    def add_session(self, session: SessionState) -> None:
        self.sessions.append(session)

    async def request_hashed(self, request: Request, batch: Batch, preauth: PreauthIntegrity) -> Reply:
        preauth.update(request.encode())
        reply = await self.request(request, batch)
        negotiated = self.negotiated
        if self._signs and negotiated is not None:
            hashed = preauth.value if negotiated.dialect is Dialect.SMB_3_1_1 else None
            keys = derive_keys(negotiated.dialect, _Keyed.KEY, hashed, 0)
            message = bytearray(reply.message)
            message[16] |= HeaderFlags.SIGNED
            message[48:64] = make_signer(negotiated.signing_algorithm, keys.signing_key).sign(message)
            reply = Reply(Header.decode_untrusted(message), memoryview(message))
        return reply

    async def request(self, request: Request, batch: Batch, *, urgent: bool = False) -> Reply:
        request.encode()
        if not self._frames:
            raise TransportError("the server closed the connection")
        message = memoryview(self._frames.pop(0))
        return Reply(Header.decode_untrusted(message), message)


def frames_of(stream: bytes) -> list[bytes]:
    """Cut a stream at its lengths; the last frame may be short."""
    frames = []
    while stream:
        size = int.from_bytes(stream[:4], "big")
        frames.append(stream[4 : 4 + size])
        stream = stream[4 + size :]
    return frames


def _way_to_the_share(data: bytes) -> None:
    """Three bytes say who connects how, then comes the server's stream, frames with their lengths."""
    script = Script(data)
    account = _ACCOUNTS[script.below(len(_ACCOUNTS))]
    keyed = account.domain == "KEYED"
    lowest = script.below(len(_DIALECTS))
    flags = script.number()
    config = ConnectConfig(
        min_dialect=_DIALECTS[lowest],
        max_dialect=_DIALECTS[lowest + ((flags >> 2) & 7) % (len(_DIALECTS) - lowest)],
        signing=bool(flags & 1),
        seal=bool(flags & 2),
    )
    scripted = _Scripted(frames_of(data[3:]), signs=keyed and bool(flags & 128))
    connection = cast(Connection, scripted)
    with mock.patch.object(session_module, "Ntlm", _Keyed) if keyed else nullcontext():
        tree = trio.run(_log_on_twice, Way(_UNC, account, config, client_guid=_GUID), connection)
    session = tree.session
    assert session.guest or session.anonymous or session.keys is not None
    assert account.kind is not AuthKind.NTLM or scripted.sessions == [session.state]
    assert not config.seal or session.encrypt
    assert not (config.signing and session.keys) or session.state.signer is not None


async def _log_on_twice(way: Way, connection: Connection) -> Tree:
    """Go to the share, and authenticate again if the server has more to say."""
    tree = await way._set_up(connection, 0)
    session = tree.session
    before = session.state.session_id, session.keys, session.state.signer
    if cast(_Scripted, connection).has_more and session.keys is not None:
        await log_on_again(session, way.credentials)
        assert before == (session.state.session_id, session.keys, session.state.signer)
    return tree


def _log_on_tokens(data: bytes) -> None:
    """The hint of NEGOTIATE and up to three tokens, for the authentication library behind its wall."""
    script = Script(data)
    mechanism = Ntlm(_ACCOUNTS[0], "server")
    for _ in range(4):
        mechanism.step(script.blob())
        if not script:
            break
    mechanism.session_key()


_UNTAGGED: Final = bytes(16)


async def _receive(data: bytes, pieces: int) -> list[bytes]:
    ours, theirs = socket.socketpair()
    with theirs:
        transport = Transport(ours, BufferPool())
        ours.setblocking(False)
        frames = []
        try:
            step = max(1, len(data) // pieces)
            for start in range(0, len(data), step):
                theirs.sendall(data[start : start + step])
            theirs.shutdown(socket.SHUT_WR)
            while True:
                buffer, length = await transport.receive()
                assert len(buffer) >= length + len(_UNTAGGED)
                frames.append(bytes(buffer[:length]))
        except TransportError:
            return frames
        finally:
            transport.close()


def _transport(data: bytes) -> None:
    """A stream in up to eight pieces; the frames are those that its lengths say, and no other."""
    pieces, stream = Script(data).below(8) + 1, data[1:]
    frames = trio.run(_receive, stream, pieces)
    assert stream.startswith(b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames))
    expected = frames_of(stream)
    assert frames in (expected, expected[:-1])


def _stats(data: bytes) -> None:
    """What is told of a file is told for any numbers."""
    response = CreateResponse.decode_untrusted(memoryview(data))
    stat_of_created(response)
    assert stat_from_create(response, 1).file_id == 1


def _listing(data: bytes) -> None:
    message = memoryview(data)
    entries = _entries(Reply(Header.decode_untrusted(message), message))
    assert all(entry.name not in (".", "..") for entry in entries)


_ANSWERED: Final = (
    requests.Create("a").read_untrusted,
    requests.Close(FILE_ID_RELATED).read_untrusted,
    requests.Read(FILE_ID_RELATED, 0, 64).read_untrusted,
    requests.Write(FILE_ID_RELATED, 0, bytes(64)).read_untrusted,
    requests.Flush(FILE_ID_RELATED).read_untrusted,
    requests.QueryInfo(FILE_ID_RELATED, FileAllInformation).read_untrusted,
    requests.SetInfo(FILE_ID_RELATED, FileEndOfFileInformation(1)).read_untrusted,
    requests.Ioctl(FILE_ID_RELATED, 1, room=64).read_untrusted,
)


def _answers(data: bytes) -> None:
    """The first byte says which request the rest answers."""
    read = _ANSWERED[Script(data).below(len(_ANSWERED))]
    answer = read(memoryview(data)[1:])
    if isinstance(answer, memoryview):
        assert len(answer) <= 64
    assert not isinstance(answer, int) or answer <= 64


def _unc(data: bytes) -> None:
    unc = parse_unc(data.decode("utf-8", "surrogateescape"))
    assert unc.server
    assert unc.share
    assert "/" not in f"{unc.server}{unc.share}{unc.prefix}"
    assert ".." not in unc.prefix.split("\\")
    assert unc.port is None or 0 < unc.port < 65536


CLIENT_TARGETS: Final = (
    Target("client.connect", _way_to_the_share, _REFUSALS),
    Target("client.log_on", _log_on_tokens, (AuthError,)),
    Target("client.transport", _transport),
    Target("client.answers", _answers, covers=covering(*_ANSWERED)),
    Target("client.stat", _stats),
    Target("client.stat_all", lambda data: decode_all(memoryview(data))),
    Target("client.listing", _listing),
    Target("client.extended_attributes", lambda data: _by_name(memoryview(data))),
    Target("client.unc", _unc, (ValueError,)),
)
