"""Logging on: SESSION_SETUP until the session has its keys ([MS-SMB2] 3.2.4.2.3, 3.2.5.3)."""

from __future__ import annotations

import logging
import os
import struct
from dataclasses import dataclass, field
from typing import Final, Protocol

import spnego
from spnego.exceptions import SpnegoError

from engine import ntstatus
from engine.client.anonymous import authenticate_message, negotiate_message
from engine.client.config import AuthKind, ConnectConfig, Credentials
from engine.client.connection import Batch, Connection
from engine.crypto.kdf import SessionKeys, derive_keys
from engine.crypto.preauth import PreauthIntegrity
from engine.crypto.sealing import Sealer
from engine.crypto.signing import Signer, make_signer
from engine.errors import AuthError, RemoteProtocolError, SmbError
from engine.proto.inflight import Reply, SessionState
from engine.proto.negotiation import Negotiated
from engine.wire.constants import Dialect, HeaderFlags, SessionFlags
from engine.wire.session import LogoffRequest, SessionSetupRequest, SessionSetupResponse

_UNREADABLE: Final = (
    SpnegoError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    StopIteration,
    struct.error,
)
"""What the authentication library lets out when it is given bytes that a hostile server made up."""

_MAX_LEGS: Final = 10
"""NTLM takes two; a server that never finishes is cut off."""

# The authentication library logs its tokens, from which a weak password can be guessed.
logging.getLogger("spnego").setLevel(logging.INFO)


@dataclass(slots=True, eq=False)
class Session:
    """A session that is logged on; `encrypt` says that everything on it is to be encrypted."""

    connection: Connection
    state: SessionState
    encrypt: bool = False
    guest: bool = False
    anonymous: bool = False
    keys: SessionKeys | None = field(default=None, repr=False)
    signer: Signer | None = None
    """What signs with this session's key, even where ordinary requests are not signed."""

    def batch(self, tree_id: int = 0, *, sealed: bool = False) -> Batch:
        """How requests of this session are sent."""
        return Batch(self.state, tree_id, sealed or self.encrypt)

    def signed_batch(self, batch: Batch) -> Batch:
        """As `batch`, but signed both ways where it is not encrypted, whatever was agreed on."""
        if self.signer is None or batch.sealed:
            return batch
        state = SessionState(self.state.session_id, signer=self.signer, signing_required=True)
        return Batch(state, batch.tree_id)

    async def log_off(self) -> None:
        """End the session; raises `SmbError` if the server cannot be told."""
        await self.connection.request(LogoffRequest(), self.batch(), urgent=True)
        self.connection.remove_session(self.state)


class _Mechanism(Protocol):
    def step(self, token: bytes | None) -> bytes | None:
        """Take the server's token, return ours; raises `AuthError`."""

    def session_key(self) -> bytes:
        """The key that both sides now share; empty if there is none."""


class _NtlmPassword(spnego.Password):
    """A password that is used for NTLM alone, whatever else is installed."""

    @property
    def supported_protocols(self) -> list[str]:
        return ["ntlm"]


class _Ntlm:
    """NTLMv2 inside SPNEGO."""

    def __init__(self, credentials: Credentials, server: str) -> None:
        if os.environ.get("LM_COMPAT_LEVEL", "3") < "3":
            raise AuthError("the variable LM_COMPAT_LEVEL asks for NTLMv1, which is never used: unset it")
        name = credentials.username
        if credentials.domain and "@" not in name:
            name = f"{credentials.domain}\\{name}"
        self._context = spnego.client(
            _NtlmPassword(name, credentials.password),
            hostname=server,
            service="cifs",
            protocol="negotiate",
            options=spnego.NegotiateOptions.use_negotiate,
        )

    def step(self, token: bytes | None) -> bytes | None:
        try:
            return self._context.step(token or None)
        except _UNREADABLE as error:
            raise AuthError(f"the server's log-on messages make no sense: {error}") from error

    def session_key(self) -> bytes:
        return self._context.session_key if self._context.complete else b""


class _Anonymous:
    def __init__(self) -> None:
        self._messages = [negotiate_message(), authenticate_message()]

    def step(self, token: bytes | None) -> bytes | None:
        return self._messages.pop(0) if self._messages else None

    def session_key(self) -> bytes:
        return b""


def _mechanism(connection: Connection, credentials: Credentials) -> tuple[_Mechanism, bytes | None]:
    """How to log on, and the server's hint to begin with."""
    if credentials.kind is AuthKind.ANONYMOUS:
        return _Anonymous(), None
    assert connection.negotiated is not None
    return _Ntlm(credentials, connection.server), connection.negotiated.security_buffer


async def log_on(
    connection: Connection,
    credentials: Credentials,
    config: ConnectConfig,
    preauth: PreauthIntegrity,
    previous_session_id: int = 0,
) -> Session:
    """Set up a session. `preauth` is the hash after NEGOTIATE; it is not changed.

    A server that still has our session `previous_session_id` ends it first. Raises `AuthError` if the account
    is refused, is turned into a guest unasked, or cannot be protected as `config` demands.
    """
    negotiated = connection.negotiated
    assert negotiated is not None
    mechanism, hint = _mechanism(connection, credentials)
    state = SessionState()
    preauth = preauth.copy()
    token = mechanism.step(hint)
    for _ in range(_MAX_LEGS):
        request = SessionSetupRequest(
            security_mode=negotiated.client_security_mode & 0xFF,
            capabilities=0,
            security_buffer=token or b"",
            previous_session_id=previous_session_id,
        )
        reply = await connection.request_hashed(request, Batch(state), preauth)
        status = reply.header.status
        if status not in (ntstatus.STATUS_SUCCESS, ntstatus.STATUS_MORE_PROCESSING_REQUIRED):
            raise _refusal(status, credentials)
        response = SessionSetupResponse.decode_untrusted(reply.message)
        if state.session_id not in (0, reply.header.session_id):
            raise RemoteProtocolError("the server went on with another session in the middle of the log-on")
        state.session_id = reply.header.session_id
        if status == ntstatus.STATUS_SUCCESS:
            if response.security_buffer:
                mechanism.step(bytes(response.security_buffer))
            return _finish(connection, credentials, config, state, mechanism, response, reply, preauth)
        preauth.update(reply.message)
        token = mechanism.step(bytes(response.security_buffer))
    raise AuthError("the server never comes to an end with the log-on")


async def log_on_again(session: Session, credentials: Credentials) -> None:
    """Authenticate anew on a session that has expired; its keys stay ([MS-SMB2] 3.2.5.1.6, 3.2.4.2.3).

    Raises `AuthError` if the account is refused now.
    """
    connection = session.connection
    assert connection.negotiated is not None
    mechanism, hint = _mechanism(connection, credentials)
    token = mechanism.step(hint)
    for _ in range(_MAX_LEGS):
        request = SessionSetupRequest(
            security_mode=connection.negotiated.client_security_mode & 0xFF,
            capabilities=0,
            security_buffer=token or b"",
        )
        reply = await connection.request(request, session.signed_batch(session.batch()), urgent=True)
        status = reply.header.status
        if status not in (ntstatus.STATUS_SUCCESS, ntstatus.STATUS_MORE_PROCESSING_REQUIRED):
            raise _refusal(status, credentials)
        response = SessionSetupResponse.decode_untrusted(reply.message)
        if status == ntstatus.STATUS_SUCCESS:
            return
        token = mechanism.step(bytes(response.security_buffer))
    raise AuthError("the server never comes to an end with the log-on")


def _finish(
    connection: Connection,
    credentials: Credentials,
    config: ConnectConfig,
    state: SessionState,
    mechanism: _Mechanism,
    response: SessionSetupResponse,
    reply: Reply,
    preauth: PreauthIntegrity,
) -> Session:
    negotiated = connection.negotiated
    assert negotiated is not None
    guest = bool(response.session_flags & SessionFlags.IS_GUEST)
    # Samba sets no flag for a session without an account; it can be nothing else if none was given.
    anonymous = bool(response.session_flags & SessionFlags.IS_NULL) or (
        credentials.kind is AuthKind.ANONYMOUS and not guest
    )
    session = Session(connection, state, guest=guest, anonymous=anonymous)
    _check_identity(credentials, config, guest=guest, anonymous=anonymous)
    if guest or anonymous:
        return session
    key = mechanism.session_key()
    if not key:
        raise AuthError("the log-on gave no session key, so nothing could be signed: use another account")
    _protect(session, negotiated, key, preauth)
    state.signing_required = config.signing or negotiated.signing_required
    _check_final_reply(negotiated, state, reply)
    session.encrypt = config.seal or bool(response.session_flags & SessionFlags.ENCRYPT_DATA)
    if session.encrypt and state.sealer is None:
        raise AuthError("encryption is demanded, but client and server have no cipher in common")
    if not state.signing_required:
        state.signer = None
    connection.add_session(state)
    return session


def _check_identity(credentials: Credentials, config: ConnectConfig, *, guest: bool, anonymous: bool) -> None:
    """[MS-SMB2] 3.2.5.3.1: a guest has no keys, so being made one unasked could be an attack."""
    if credentials.kind is AuthKind.NTLM and (guest or anonymous):
        raise AuthError(
            "the server let the account in only as a guest, without any protection: check the user name "
            "and password, or ask for it with the option 'guest'",
            status=ntstatus.STATUS_LOGON_FAILURE,
        )
    if config.seal and (guest or anonymous):
        raise AuthError("a guest's session has no key to encrypt with: drop 'seal' or use an account")


def _protect(session: Session, negotiated: Negotiated, key: bytes, preauth: PreauthIntegrity) -> None:
    cipher = negotiated.cipher
    preauth_hash = preauth.value if negotiated.dialect is Dialect.SMB_3_1_1 else None
    key_length = cipher.key_length if cipher is not None else 0
    keys = derive_keys(negotiated.dialect, key, preauth_hash, key_length)
    session.keys = keys
    session.signer = session.state.signer = make_signer(negotiated.signing_algorithm, keys.signing_key)
    if cipher is not None:
        session.state.sealer = Sealer(
            cipher, keys.encryption_key, keys.decryption_key, session.state.session_id
        )


def _check_final_reply(negotiated: Negotiated, state: SessionState, reply: Reply) -> None:
    """The last SESSION_SETUP reply is signed with the new key ([MS-SMB2] 3.2.5.1.3, 3.2.5.3.1)."""
    assert state.signer is not None
    if reply.header.flags & HeaderFlags.SIGNED:
        if not state.signer.verify(reply.message):
            raise RemoteProtocolError("the log-on was altered on the way: its signature is wrong")
    elif state.signing_required or negotiated.dialect is Dialect.SMB_3_1_1:
        raise RemoteProtocolError("the last message of the log-on is not signed: it may be forged")


def _refusal(status: int, credentials: Credentials) -> SmbError:
    info = ntstatus.lookup(status)
    who = credentials.username or ("nobody" if credentials.kind is AuthKind.ANONYMOUS else "guest")
    return AuthError(
        f"log-on as {who!r} refused: {info.meaning} ({info.name})", status=status, errno=info.errno
    )
