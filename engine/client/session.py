"""Logging on: SESSION_SETUP until the session has its keys ([MS-SMB2] 3.2.4.2.3, 3.2.5.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from engine import ntstatus
from engine.client.anonymous import authenticate_message, negotiate_message
from engine.client.config import AuthKind, ConnectConfig, Credentials
from engine.client.connection import Batch, Connection
from engine.client.controller import controller_behind
from engine.client.kerberos import Kerberos, Ticket
from engine.client.ntlm import Ntlm
from engine.crypto.kdf import SessionKeys, derive_keys
from engine.crypto.preauth import PreauthIntegrity
from engine.crypto.sealing import Sealer
from engine.crypto.signing import Signer, make_signer
from engine.errors import AuthError, KdcUnreachable, RemoteProtocolError, SmbError, UnknownService
from engine.proto.inflight import Reply, SessionState
from engine.proto.negotiation import Negotiated
from engine.wire.constants import Dialect, HeaderFlags, SessionFlags
from engine.wire.session import LogoffRequest, SessionSetupRequest, SessionSetupResponse

_MAX_LEGS: Final = 10
"""NTLM takes two; a server that never finishes is cut off."""

_KDC_PATIENCE: Final = 20.0
"""Seconds for what a log-on asks of the domain; a library that finds no KDC takes half a minute to say so."""


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
    authentication: str = "none"
    """How the account proved itself: Kerberos or NTLM; guest or anonymous if it did not."""
    ticket: Ticket | None = None
    controller: str = ""
    """The name of the controller that was logged on to, where the server's name is its domain's."""

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
    @property
    def blocks(self) -> bool:
        """Whether `step` may wait for files and other servers, and so belongs into a thread."""

    @property
    def name(self) -> str:
        """What it is called, once it is complete."""

    @property
    def ticket(self) -> Ticket | None:
        """The ticket that was used, if one was."""

    def step(self, token: bytes | None) -> bytes | None:
        """Take the server's token, return ours; raises `AuthError`."""

    def session_key(self) -> bytes:
        """The key that both sides now share; empty if there is none."""


class _Anonymous:
    blocks = False
    name = "none"
    ticket = None

    def __init__(self) -> None:
        self._messages = [negotiate_message(), authenticate_message()]

    def step(self, token: bytes | None) -> bytes | None:
        return self._messages.pop(0) if self._messages else None

    def session_key(self) -> bytes:
        return b""


def _mechanism(
    connection: Connection, credentials: Credentials, controller: str = ""
) -> tuple[_Mechanism, bytes | None]:
    """How to log on, and the server's hint to begin with."""
    if credentials.kind is AuthKind.ANONYMOUS:
        return _Anonymous(), None
    assert connection.negotiated is not None
    hint = connection.negotiated.security_buffer
    if credentials.kind not in (AuthKind.KERBEROS, AuthKind.NEGOTIATE):
        return Ntlm(credentials, connection.server), hint
    if controller:
        return Kerberos(credentials, controller, domain=connection.server), hint
    return Kerberos(credentials, connection.server), hint


async def _begin(connection: Connection, credentials: Credentials) -> tuple[_Mechanism, bytes | None, str]:
    """How to log on, our first token, and the controller's name where the server's is its domain's."""
    mechanism, hint = _mechanism(connection, credentials)
    try:
        return mechanism, await _step(mechanism, hint), ""
    except UnknownService:
        controller = await controller_behind(connection)
        if not controller:
            raise
    mechanism, hint = _mechanism(connection, credentials, controller)
    return mechanism, await _step(mechanism, hint), controller


async def _step(mechanism: _Mechanism, token: bytes | None) -> bytes | None:
    """One step of the log-on, in a thread if it may block, where it goes on if nobody waits any more."""
    if not mechanism.blocks:
        return mechanism.step(token)
    with trio.move_on_after(_KDC_PATIENCE):
        return await trio.to_thread.run_sync(mechanism.step, token, abandon_on_cancel=True)
    raise KdcUnreachable(f"Kerberos: no KDC of the domain answered within {_KDC_PATIENCE:g} s")


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
    mechanism, token, controller = await _begin(connection, credentials)
    state = SessionState()
    preauth = preauth.copy()
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
            raise _refusal(status, credentials, mechanism)
        response = SessionSetupResponse.decode_untrusted(reply.message)
        if state.session_id not in (0, reply.header.session_id):
            raise RemoteProtocolError("the server went on with another session in the middle of the log-on")
        state.session_id = reply.header.session_id
        if status == ntstatus.STATUS_SUCCESS:
            if response.security_buffer:
                await _step(mechanism, bytes(response.security_buffer))
            session = _finish(connection, credentials, config, state, mechanism, response, reply, preauth)
            session.controller = controller
            return session
        preauth.update(reply.message)
        token = await _step(mechanism, bytes(response.security_buffer))
    raise AuthError("the server never comes to an end with the log-on")


async def log_on_again(session: Session, credentials: Credentials) -> None:
    """Authenticate anew on a session that has expired; its keys stay ([MS-SMB2] 3.2.5.1.6, 3.2.4.2.3).

    Raises `AuthError` if the account is refused now.
    """
    connection = session.connection
    assert connection.negotiated is not None
    mechanism, hint = _mechanism(connection, credentials, session.controller)
    token = await _step(mechanism, hint)
    for _ in range(_MAX_LEGS):
        request = SessionSetupRequest(
            security_mode=connection.negotiated.client_security_mode & 0xFF,
            capabilities=0,
            security_buffer=token or b"",
        )
        reply = await connection.request(request, session.signed_batch(session.batch()), urgent=True)
        status = reply.header.status
        if status not in (ntstatus.STATUS_SUCCESS, ntstatus.STATUS_MORE_PROCESSING_REQUIRED):
            raise _refusal(status, credentials, mechanism)
        response = SessionSetupResponse.decode_untrusted(reply.message)
        if status == ntstatus.STATUS_SUCCESS:
            if response.security_buffer:
                await _step(mechanism, bytes(response.security_buffer))
            session.ticket = mechanism.ticket
            return
        token = await _step(mechanism, bytes(response.security_buffer))
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
        session.authentication = "guest" if guest else "anonymous"
        return session
    key = mechanism.session_key()
    if not key:
        raise AuthError("the log-on gave no session key, so nothing could be signed: use another account")
    session.authentication, session.ticket = mechanism.name, mechanism.ticket
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
    if credentials.kind not in (AuthKind.GUEST, AuthKind.ANONYMOUS) and (guest or anonymous):
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


def _refusal(status: int, credentials: Credentials, mechanism: _Mechanism) -> SmbError:
    info = ntstatus.lookup(status)
    if isinstance(mechanism, Kerberos) and credentials.kind is AuthKind.KERBEROS:
        return _refusal_of_ticket(info, mechanism.offered)
    who = credentials.username or ("nobody" if credentials.kind is AuthKind.ANONYMOUS else "guest")
    return AuthError(
        f"log-on as {who!r} refused: {info.meaning} ({info.name})", status=status, errno=info.errno
    )


def _refusal_of_ticket(info: ntstatus.StatusInfo, ticket: Ticket | None) -> SmbError:
    """The domain has vouched for the account, so a log-on that fails is about the server's name."""
    who, spn = (ticket.principal, ticket.spn) if ticket is not None else ("this user", "it")
    meaning = info.meaning
    if info.code == ntstatus.STATUS_LOGON_FAILURE:
        meaning = f"the server takes no ticket for {spn}: is that name another account's in the domain?"
    return AuthError(
        f"log-on as {who!r} refused: {meaning} ({info.name})", status=info.code, errno=info.errno
    )
