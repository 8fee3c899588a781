"""One connection of the fake server: frames to requests, requests to replies, replies to frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import spnego
import trio

from engine import ntstatus
from engine.crypto.kdf import derive_keys
from engine.crypto.preauth import PreauthIntegrity
from engine.crypto.sealing import Sealer
from engine.crypto.signing import Signer, make_signer
from engine.proto.inflight import Request
from engine.proto.machine import payload_size
from engine.wire.constants import Command, Dialect, HeaderFlags, SessionFlags, ShareCapabilities
from engine.wire.create import CloseRequest, CreateRequest
from engine.wire.error import ErrorResponse
from engine.wire.header import Header, split_compound_untrusted
from engine.wire.io import (
    EchoRequest,
    EchoResponse,
    FlushRequest,
    FlushResponse,
    IoctlRequest,
    IoctlResponse,
    LockRequest,
    LockResponse,
    ReadRequest,
    ReadResponse,
    WriteRequest,
    WriteResponse,
)
from engine.wire.ioctl import FsctlCode
from engine.wire.negotiate import NegotiateRequest
from engine.wire.notify import (
    LeaseBreakAcknowledgement,
    OplockBreak,
    decode_break_acknowledgement_untrusted,
)
from engine.wire.primitives import FILE_ID_RELATED, FileId, align8
from engine.wire.query import (
    QueryDirectoryRequest,
    QueryDirectoryResponse,
    QueryInfoRequest,
    QueryInfoResponse,
    SetInfoRequest,
    SetInfoResponse,
)
from engine.wire.session import LogoffRequest, LogoffResponse, SessionSetupRequest, SessionSetupResponse
from engine.wire.transform import TRANSFORM_HEADER_SIZE, TRANSFORM_PROTOCOL_ID
from engine.wire.tree import (
    TreeConnectRequest,
    TreeConnectResponse,
    TreeDisconnectRequest,
    TreeDisconnectResponse,
)
from tests.fakes.server_books import CreditBooks
from tests.fakes.server_controls import Refused

if TYPE_CHECKING:
    from tests.fakes.server import FakeServer

SESSION_ID: Final = 0x1122334455667788
TREE_ID: Final = 0x51
_RAW_NTLM: Final = b"NTLMSSP\0"
_ACCESS_ALL: Final = 0x001F01FF


class _Decodable(Protocol):
    def decode_untrusted(self, message: memoryview, /) -> Request:
        """Decode a whole message."""


class _Acknowledgement:
    """Of an oplock's break or of a lease's."""

    @staticmethod
    def decode_untrusted(message: memoryview, /) -> Request:
        return decode_break_acknowledgement_untrusted(message)


_REQUESTS: Final[dict[int, _Decodable]] = {
    Command.NEGOTIATE: NegotiateRequest,
    Command.SESSION_SETUP: SessionSetupRequest,
    Command.LOGOFF: LogoffRequest,
    Command.TREE_CONNECT: TreeConnectRequest,
    Command.TREE_DISCONNECT: TreeDisconnectRequest,
    Command.CREATE: CreateRequest,
    Command.CLOSE: CloseRequest,
    Command.FLUSH: FlushRequest,
    Command.READ: ReadRequest,
    Command.WRITE: WriteRequest,
    Command.LOCK: LockRequest,
    Command.IOCTL: IoctlRequest,
    Command.ECHO: EchoRequest,
    Command.QUERY_DIRECTORY: QueryDirectoryRequest,
    Command.QUERY_INFO: QueryInfoRequest,
    Command.SET_INFO: SetInfoRequest,
    Command.OPLOCK_BREAK: _Acknowledgement,
}


class Acceptor(Protocol):
    """The server's side of a log-on."""

    def step(self, token: bytes, /) -> bytes | None:
        """Take the client's token, return the answer."""

    @property
    def complete(self) -> bool:
        """Whether the client is let in."""

    @property
    def session_key(self) -> bytes:
        """The key that both sides share then."""


class _Response(Protocol):
    def encode(self) -> bytes:
        """The body."""


@dataclass(eq=False)
class ServerSession:
    """A session as the server sees it."""

    preauth: PreauthIntegrity
    context: Acceptor | None = None
    signer: Signer | None = None
    sealer: Sealer | None = None
    legs: int = 0
    is_set_up: bool = False
    has_expired: bool = False


@dataclass(slots=True)
class Reply:
    """A reply that is not sent yet, and so has granted nothing yet."""

    request: Header
    charge: int
    status: int
    body: bytes
    session: ServerSession | None
    sealed: bool
    signed: bool
    async_id: int = 0
    hash_into: PreauthIntegrity | None = None
    tree_id: int = 0
    """That of the share that was just connected to."""

    @property
    def command(self) -> Command:
        """What it answers."""
        return Command(self.request.command)

    def interim(self, async_id: int) -> Reply:
        """The STATUS_PENDING that goes before this reply; it takes over the grant."""
        pending = replace(self, async_id=async_id, signed=False, hash_into=None)
        pending.fail(ntstatus.STATUS_PENDING)
        self.async_id = async_id
        self.charge = 0
        return pending

    def fail(self, status: int) -> None:
        """Answer with this status instead."""
        self.status = status
        self.body = ErrorResponse().encode()


class Peer:
    """The server's side of one connection."""

    def __init__(self, server: FakeServer, stream: trio.SocketStream) -> None:
        self.server = server
        self.stream = stream
        self.books = CreditBooks()
        self.dialect = 0
        self.preauth = PreauthIntegrity()
        self.session: ServerSession | None = None
        self.sending = trio.Lock()
        self.trees: dict[int, str] = {}
        """The shares that are connected to, by their ids."""
        self._tree_ids = itertools.count(TREE_ID)
        self._buffer = bytearray()
        self._current: FileId | None = None
        self._chain_status = ntstatus.STATUS_SUCCESS

    async def run(self) -> None:
        """Answer frames until the client ends the connection."""
        async for chunk in self.stream:
            self._buffer += chunk
            for frame in list(self._frames()):
                await self._handle(frame)
                self.server.moved()

    def _frames(self) -> Iterator[bytes]:
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                return
            frame = bytes(self._buffer[4:end])
            del self._buffer[:end]
            yield frame

    async def _handle(self, frame: bytes) -> None:
        self.server.heard(self, frame)
        view, sealed = memoryview(frame), False
        if frame[:4] == TRANSFORM_PROTOCOL_ID:
            view, sealed = self._unseal(frame), True
        replies: list[Reply] = []
        messages = split_compound_untrusted(view)
        is_chain = False
        for index, message in enumerate(messages):
            header = Header.decode_untrusted(message)
            self._check_signature(header, message, sealed)
            if header.command == Command.CANCEL:
                await self.server.cancelled(self, header)
                continue
            related = bool(header.flags & HeaderFlags.RELATED_OPERATIONS)
            if index == 1:
                is_chain = related
            if related is not (index > 0 and is_chain):
                self.books.complaints.append(f"message {index} of a compound has flags {header.flags}")
            replies.append(self._answer(header, message, sealed, related))
        if replies:
            await self.server.respond(self, replies)

    def _take_full_name(self, request: CreateRequest, header: Header) -> None:
        """A name in a share of a distributed tree is a full one, as the header says; elsewhere neither."""
        is_full = bool(header.flags & HeaderFlags.DFS_OPERATIONS)
        if is_full != bool(self.server.share_capabilities & ShareCapabilities.DFS):
            self.books.complaints.append(f"CREATE {header.message_id}: DFS_OPERATIONS is {is_full}")
        if is_full:
            server, share, *rest = [*request.name.split("\\", 2), ""][:3]
            request.name = rest[0]
            if f"\\\\{server}\\{share}" not in self.server.tree_connects:
                self.books.complaints.append(f"CREATE {header.message_id} is in {share} of {server}")

    def _unseal(self, frame: bytes) -> memoryview:
        assert self.session is not None
        assert self.session.sealer is not None
        out = memoryview(bytearray(len(frame)))
        room = bytearray(frame[TRANSFORM_HEADER_SIZE:]) + bytes(16)
        size = self.session.sealer.unseal_into_untrusted(frame[:TRANSFORM_HEADER_SIZE], room, out)
        return out[:size]

    def _check_signature(self, header: Header, message: memoryview, sealed: bool) -> None:
        signer = self.session.signer if self.session is not None else None
        what = f"{Command(header.command).name} {header.message_id}"
        if signer is None or sealed:
            return
        if not header.flags & HeaderFlags.SIGNED:
            if self.server.signing_required:
                self.books.complaints.append(f"{what} is not signed")
        elif not signer.verify(message):
            self.books.complaints.append(f"{what} has a wrong signature")

    def _answer(self, header: Header, message: memoryview, sealed: bool, related: bool) -> Reply:
        request = _REQUESTS[header.command].decode_untrusted(message)
        if isinstance(request, CreateRequest):
            self._take_full_name(request, header)
        multi_credit = self.dialect >= Dialect.SMB_2_1
        charge = self.books.take(header, payload_size(request), multi_credit=multi_credit)
        self.server.received.append(Command(header.command))
        signed = bool(header.flags & HeaderFlags.SIGNED)
        reply = Reply(header, charge, ntstatus.STATUS_SUCCESS, b"", self.session, sealed, signed)
        if not related:
            self._current, self._chain_status = None, ntstatus.STATUS_SUCCESS
        try:
            if isinstance(request, NegotiateRequest):
                self._negotiate(request, message, reply)
            elif isinstance(request, SessionSetupRequest):
                self._set_up_session(request, message, reply)
            else:
                self._check_chain(request)
                self._check_tree(header, request)
                reply.body = self._dispatch(request).encode()
                if isinstance(request, TreeConnectRequest):
                    reply.tree_id = next(self._tree_ids)
                    self.trees[reply.tree_id] = request.path
        except Refused as refusal:
            reply.fail(refusal.status)
            if refusal.output is not None:
                reply.body = _partial(request, refusal.output)
            if request.COMMAND is Command.CREATE or self.server.failure_spreads:
                self._chain_status = refusal.status
        return reply

    def _check_chain(self, request: Request) -> None:
        if self._chain_status != ntstatus.STATUS_SUCCESS:
            raise Refused(self._chain_status)
        if self.session is not None and self.session.has_expired:
            raise Refused(ntstatus.STATUS_NETWORK_SESSION_EXPIRED)
        if refusal := self.server.refusals.get(request.COMMAND):
            raise Refused(refusal)

    def _check_tree(self, header: Header, request: Request) -> None:
        names_tree = isinstance(request, CreateRequest | TreeDisconnectRequest)
        # After interim replies there is no room for the id in the answer that tells it.
        if names_tree and header.tree_id and header.tree_id not in self.trees:
            self.books.complaints.append(f"{header.message_id} is about a share that is not connected to")
        if isinstance(request, TreeDisconnectRequest):
            self.trees.pop(header.tree_id, None)

    def _file(self, file_id: FileId) -> FileId:
        if file_id != FILE_ID_RELATED:
            self._current = file_id
        if self._current is None:
            raise Refused(ntstatus.STATUS_INVALID_PARAMETER)
        return self._current

    def _negotiate(self, request: NegotiateRequest, message: memoryview, reply: Reply) -> None:
        self.preauth.update(message)
        response = self.server.negotiate(request)
        self.dialect = response.dialect_revision
        reply.body = response.encode()
        reply.hash_into = self.preauth

    def _set_up_session(self, request: SessionSetupRequest, message: memoryview, reply: Reply) -> None:
        if self.session is None:
            self.session = ServerSession(self.preauth.copy())
        session = reply.session = self.session
        if self.server.refuses_accounts:
            raise Refused(ntstatus.STATUS_LOGON_FAILURE)
        if session.is_set_up:
            session.context, session.is_set_up = None, False
        session.preauth.update(message)
        session.legs += 1
        token = bytes(request.security_buffer)
        flags = 0
        if self.server.guest or token.startswith(_RAW_NTLM):
            answer = self.server.challenge(token) if session.legs == 1 else b""
            finished = session.legs > 1
            flags = SessionFlags.IS_GUEST if self.server.guest else SessionFlags.IS_NULL
        else:
            if session.context is None:
                session.context = self.server.acceptor()
            try:
                answer = session.context.step(token) or b""
            except spnego.exceptions.SpnegoError:
                raise Refused(ntstatus.STATUS_LOGON_FAILURE) from None
            finished = session.context.complete
        if not finished:
            reply.status, flags = ntstatus.STATUS_MORE_PROCESSING_REQUIRED, 0
            reply.hash_into = session.preauth
        elif session.context is not None:
            if session.signer is None:
                flags = self._protect(session, session.context.session_key)
            # What is authenticated anew keeps its keys.
            session.is_set_up, session.has_expired = True, False
            reply.signed = session.signer is not None
        reply.body = SessionSetupResponse(flags, self.server.log_on_token(answer)).encode()

    def _protect(self, session: ServerSession, key: bytes) -> int:
        server = self.server
        cipher = server.cipher
        is_newest = self.dialect == Dialect.SMB_3_1_1
        length = cipher.key_length if cipher is not None else 0
        keys = derive_keys(self.dialect, key, session.preauth.value if is_newest else None, length)
        session.signer = make_signer(server.signing_algorithm, keys.signing_key)
        flags = SessionFlags.ENCRYPT_DATA if server.encrypts else 0
        if cipher is None:
            return flags
        session.sealer = Sealer(cipher, keys.decryption_key, keys.encryption_key, SESSION_ID)
        return flags

    def _dispatch(self, request: Request) -> _Response:
        tree = self.server.tree
        match request:
            case LogoffRequest():
                return LogoffResponse()
            case TreeConnectRequest():
                share = request.path.rpartition("\\")[2].lower()
                if refusal := self.server.refused_shares.get(share):
                    raise Refused(refusal)
                self.server.tree_connects.append(request.path)
                return TreeConnectResponse(
                    self.server.share_type,
                    self.server.share_flags,
                    self.server.share_capabilities,
                    _ACCESS_ALL,
                )
            case TreeDisconnectRequest():
                return TreeDisconnectResponse()
            case EchoRequest():
                return EchoResponse()
            case CreateRequest():
                created = self.server.create(request)
                self._current = created.file_id
                return created
            case LeaseBreakAcknowledgement() | OplockBreak():
                return self.server.acknowledge(request)
            case CloseRequest():
                return tree.close(replace(request, file_id=self._file(request.file_id)))
            case FlushRequest():
                tree.opened(self._file(request.file_id))
                return FlushResponse()
            case ReadRequest():
                content = tree.read(self._file(request.file_id), request.offset, request.length)
                return ReadResponse(content[: self.server.gives_at_most])
            case WriteRequest():
                data = bytes(request.data)[: self.server.takes_at_most]
                return WriteResponse(tree.write(self._file(request.file_id), request.offset, data))
            case LockRequest():
                tree.lock(self._file(request.file_id), list(request.locks))
                return LockResponse()
            case QueryDirectoryRequest():
                named = replace(request, file_id=self._file(request.file_id))
                return QueryDirectoryResponse(tree.query_directory(named))
            case QueryInfoRequest():
                named_query = replace(request, file_id=self._file(request.file_id))
                return QueryInfoResponse(tree.query_info(named_query))
            case SetInfoRequest():
                tree.set_info(replace(request, file_id=self._file(request.file_id)))
                return SetInfoResponse()
            case IoctlRequest():
                return self._ioctl(request)
            case _:
                raise AssertionError(f"{request.COMMAND.name} has no answer here")

    def _ioctl(self, request: IoctlRequest) -> IoctlResponse:
        if request.ctl_code == FsctlCode.VALIDATE_NEGOTIATE_INFO:
            output = self.server.validation(memoryview(request.input))
        elif self._current is None and request.file_id == FILE_ID_RELATED:
            controls = self.server.tree.controls
            output = controls.answer_tree(request.ctl_code, memoryview(request.input))
            if len(output) > request.max_output_response:
                raise Refused(ntstatus.STATUS_BUFFER_OVERFLOW, output[: request.max_output_response])
        else:
            output = self.server.tree.ioctl(
                self._file(request.file_id), request.ctl_code, memoryview(request.input)
            )
        return _ioctl_response(request, output)

    def encode(self, replies: list[Reply]) -> bytes:
        """One frame of replies, credits granted, padded, signed or sealed as they were asked for."""
        frame = bytearray()
        for index, reply in enumerate(replies):
            is_last = index == len(replies) - 1
            message = self._message(reply, is_last)
            if reply.hash_into is not None:
                reply.hash_into.update(message)
            frame += message
        sealer = replies[0].session.sealer if replies[0].session is not None else None
        if replies[0].sealed and sealer is not None and self.server.seals(replies):
            return b"".join(sealer.seal([frame]))
        return bytes(frame)

    def _message(self, reply: Reply, is_last: bool) -> bytearray:
        granted = self.server.grant(self, reply) if reply.charge else 0
        self.books.settle(reply.charge, granted)
        size = 64 + len(reply.body)
        flags = HeaderFlags.SERVER_TO_REDIR
        if reply.async_id:
            flags |= HeaderFlags.ASYNC_COMMAND
        if reply.request.flags & HeaderFlags.RELATED_OPERATIONS:
            flags |= HeaderFlags.RELATED_OPERATIONS
        header = Header(
            command=reply.command,
            status=reply.status,
            credit_charge=reply.request.credit_charge,
            credits=granted,
            flags=flags,
            next_command=0 if is_last else align8(size),
            message_id=reply.request.message_id,
            tree_id=reply.tree_id or reply.request.tree_id,
            async_id=reply.async_id,
            session_id=SESSION_ID if reply.session is not None else 0,
        )
        message = bytearray(header.encode() + reply.body)
        if not is_last:
            message += bytes(align8(size) - size)
        self.server.alter(self, message, reply)
        if reply.session is not None and reply.session.signer is not None and reply.signed:
            self.server.sign(message, reply, reply.session.signer)
        return message


def _partial(request: Request, output: bytes) -> bytes:
    """The body of an error that is an answer all the same."""
    if isinstance(request, IoctlRequest):
        return _ioctl_response(request, output).encode()
    return ReadResponse(output).encode()


def _ioctl_response(request: IoctlRequest, output: bytes) -> IoctlResponse:
    return IoctlResponse(ctl_code=request.ctl_code, file_id=request.file_id, output=output)
