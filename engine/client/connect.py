"""From a share's name to a `Share`: connect, negotiate, log on, connect to the tree, check it all."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio

from engine.client.buffers import BufferPool
from engine.client.config import DEFAULT_PORT, ConnectConfig, Credentials, Unc, parse_unc
from engine.client.connection import Batch, Connection, open_connection
from engine.client.session import Session, log_on
from engine.client.share import Share
from engine.client.transport import open_transport
from engine.client.tree import Tree, connect_tree
from engine.crypto.preauth import PreauthIntegrity
from engine.errors import RemoteProtocolError, SmbError, TransportError, error_from_status
from engine.ntstatus import STATUS_ACCESS_DENIED, STATUS_SUCCESS
from engine.proto.inflight import SessionState
from engine.proto.machine import Machine
from engine.proto.negotiation import (
    Negotiated,
    Offer,
    check_response_untrusted,
    check_validation_untrusted,
    negotiate_request,
    validate_request,
)
from engine.wire.constants import Dialect, IoctlFlags
from engine.wire.io import IoctlRequest, IoctlResponse
from engine.wire.ioctl import FsctlCode, ValidateNegotiateInfoResponse
from engine.wire.negotiate import NegotiateResponse
from engine.wire.primitives import FILE_ID_RELATED

log = logging.getLogger(__name__)

_VALIDATION_ROOM: Final = 24
_GOODBYE: Final = 5.0
"""Seconds for LOGOFF; the server forgets us anyway when the connection ends."""


@asynccontextmanager
async def connect(
    unc: str | Unc, credentials: Credentials, config: ConnectConfig | None = None
) -> AsyncGenerator[Share, None]:
    """Connect to `//server[:port]/share`; the share is disconnected when the block ends.

    Raises `TransportError` (no server there, or it stays silent for `config.timeout` seconds),
    `AuthError` (the account is refused), `NtStatusError` (no such share, or no right to it),
    `RemoteProtocolError` (the server breaks the protocol, or cannot protect as asked for), and
    `ValueError` for a malformed name.
    """
    config = config or ConnectConfig()
    unc = parse_unc(unc) if isinstance(unc, str) else unc
    try:
        async with _connection(unc, config) as connection:
            yielded = _connected(connection, unc, credentials, config)
            async with yielded as share:
                yield share
    except BaseExceptionGroup as group:
        # The nursery wraps what is raised inside it; the tasks in it raise nothing themselves.
        error = _only_leaf(group)
        if error is None:
            raise
        raise error from error.__cause__


def _only_leaf(error: BaseException) -> BaseException | None:
    while isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) != 1:
            return None
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def _connection(unc: Unc, config: ConnectConfig) -> AsyncGenerator[Connection, None]:
    host = config.address or unc.server
    port = unc.port or config.port or DEFAULT_PORT
    pool = BufferPool()
    with trio.move_on_after(config.timeout) as scope:
        transport = await open_transport(host, port, pool)
    if scope.cancelled_caught:
        raise TransportError(f"{host} port {port} did not answer within {config.timeout:g} s")
    machine = Machine(config.max_credits, pool.allocate)
    async with open_connection(transport, machine, unc.server) as connection:
        yield connection


@asynccontextmanager
async def _connected(
    connection: Connection, unc: Unc, credentials: Credentials, config: ConnectConfig
) -> AsyncGenerator[Share, None]:
    with trio.move_on_after(config.timeout) as scope:
        session, tree = await _set_up(connection, unc, credentials, config)
    if scope.cancelled_caught:
        raise TransportError(
            f"{unc.server} took the connection but did not answer within {config.timeout:g} s"
        )
    negotiated = connection.negotiated
    assert negotiated is not None
    share = Share(
        tree,
        unc,
        max_read=min(negotiated.max_read, config.max_read or negotiated.max_read),
        max_write=min(negotiated.max_write, config.max_write or negotiated.max_write),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run_echo, config.echo_interval, session.batch())
        try:
            yield share
        finally:
            nursery.cancel_scope.cancel()
            # Servers hang up after LOGOFF, and may do so before the last CLOSE has left.
            connection.end()
            await _say_goodbye(session, tree)


async def _set_up(
    connection: Connection, unc: Unc, credentials: Credentials, config: ConnectConfig
) -> tuple[Session, Tree]:
    offer = Offer(
        server=unc.server,
        min_dialect=config.min_dialect,
        max_dialect=config.max_dialect,
        signing=config.signing,
        seal=config.seal,
    )
    preauth = PreauthIntegrity()
    negotiated = await _negotiate(connection, offer, preauth)
    session = await log_on(connection, credentials, config, preauth)
    tree = await connect_tree(session, unc.tree_path)
    if negotiated.dialect is not Dialect.SMB_3_1_1 and offer.max_dialect >= Dialect.SMB_3_0:
        await _validate(tree, offer, negotiated)
    return session, tree


async def _negotiate(connection: Connection, offer: Offer, preauth: PreauthIntegrity) -> Negotiated:
    reply = await connection.request_hashed(negotiate_request(offer), Batch(SessionState()), preauth)
    if reply.header.status != STATUS_SUCCESS:
        raise error_from_status(
            reply.header.status,
            f"agree on a protocol version ({_range(offer)} allowed here, see the option 'vers')",
        )
    preauth.update(reply.message)
    negotiated = check_response_untrusted(offer, NegotiateResponse.decode_untrusted(reply.message))
    if offer.seal and negotiated.cipher is None:
        raise RemoteProtocolError(
            f"encryption is demanded, but the server offers none with dialect 0x{negotiated.dialect:04X}"
        )
    connection.use(negotiated)
    return negotiated


def _range(offer: Offer) -> str:
    def name(dialect: Dialect) -> str:
        return dialect.name.removeprefix("SMB_").replace("_", ".")

    return f"{name(offer.min_dialect)} to {name(offer.max_dialect)}"


async def _validate(tree: Tree, offer: Offer, negotiated: Negotiated) -> None:
    """Ask again, under a signature, what was negotiated without one ([MS-SMB2] 3.2.5.5).

    A guest's session has no key to sign with, so there is nothing to be learnt from asking.
    """
    session = tree.session
    if session.keys is None:
        return
    batch = session.signed_batch(tree.batch)
    request = IoctlRequest(
        ctl_code=FsctlCode.VALIDATE_NEGOTIATE_INFO,
        file_id=FILE_ID_RELATED,
        input=validate_request(offer).encode(),
        max_output_response=_VALIDATION_ROOM,
        flags=IoctlFlags.IS_FSCTL,
    )
    reply = await tree.connection.request(request, batch)
    if reply.header.status != STATUS_SUCCESS:
        _accept_unvalidated(negotiated, reply.header.status)
        return
    output = IoctlResponse.decode_untrusted(reply.message).output
    check_validation_untrusted(negotiated, ValidateNegotiateInfoResponse.decode_untrusted(memoryview(output)))


def _accept_unvalidated(negotiated: Negotiated, status: int) -> None:
    """A signed refusal proves who sent it; only this one means tampering ([MS-SMB2] 3.2.5.14.12)."""
    if status == STATUS_ACCESS_DENIED:
        raise RemoteProtocolError("the server refuses to confirm the negotiation: it may have been altered")
    log.debug("dialect 0x%04X was not confirmed: %s", negotiated.dialect, error_from_status(status))


async def _say_goodbye(session: Session, tree: Tree) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _GOODBYE):
        try:
            await tree.disconnect()
            await session.log_off()
        except SmbError as error:
            log.debug("logging off failed: %s", error)
