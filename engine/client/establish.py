"""The way to a share on a new connection: TCP, negotiation, log-on, tree connect, and the checks on each."""

from __future__ import annotations

import errno
import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from engine.client.buffers import BufferPool
from engine.client.config import DEFAULT_PORT, ConnectConfig, Credentials, Unc
from engine.client.connection import Batch, Connection, open_connection
from engine.client.session import Session, log_on
from engine.client.transport import open_transport
from engine.client.tree import Tree, connect_tree
from engine.crypto.preauth import PreauthIntegrity
from engine.errors import (
    NotWelcome,
    NtStatusError,
    RemoteProtocolError,
    SmbError,
    TransportError,
    Unprotected,
    error_from_status,
)
from engine.ntstatus import STATUS_ACCESS_DENIED, STATUS_SUCCESS
from engine.proto.inflight import SessionState
from engine.proto.leases import LeaseTable
from engine.proto.machine import Machine
from engine.proto.negotiation import (
    Negotiated,
    Offer,
    check_response_untrusted,
    check_validation_untrusted,
    negotiate_request,
    validate_request,
)
from engine.proto.statistics import Statistics
from engine.wire.constants import Dialect, IoctlFlags
from engine.wire.io import IoctlRequest, IoctlResponse
from engine.wire.ioctl import FsctlCode, ValidateNegotiateInfoResponse
from engine.wire.negotiate import NegotiateResponse
from engine.wire.primitives import FILE_ID_RELATED, filetime_to_ns

log = logging.getLogger(__name__)

_VALIDATION_ROOM: Final = 24


@dataclass(slots=True)
class Way:
    """Where a share is, and what stays the same over all connections to it.

    A server knows leases and durable handles by `client_guid`. `renew` tells which accounts to try when
    `credentials` are refused; it is called in a thread. `connecting_took` are the seconds for TCP last time.
    """

    unc: Unc
    credentials: Credentials
    config: ConnectConfig
    renew: Callable[[], Sequence[Credentials]] | None = None
    connecting_took: float = 0.0
    client_guid: uuid.UUID = field(default_factory=uuid.uuid4)
    leases: LeaseTable = field(default_factory=LeaseTable)
    statistics: Statistics = field(default_factory=Statistics)
    stage: str = ""
    """The part of the way that was begun last, see `SmbError.stage`."""

    @property
    def host(self) -> str:
        """The name or address to connect to."""
        return self.config.address or self.unc.server

    @property
    def port(self) -> int:
        """The TCP port."""
        return self.unc.port or self.config.port or DEFAULT_PORT

    @asynccontextmanager
    async def connection(
        self, seconds: float, address: str | None = None, leases: LeaseTable | None = None
    ) -> AsyncGenerator[Connection, None]:
        """A connection on which nothing was said yet; `address` is tried instead of the host's name. With its
        end those of `leases` are lost, by default all there are.

        Raises `TransportError`.
        """
        pool, began = BufferPool(), trio.current_time()
        with trio.move_on_after(seconds) as scope:
            transport = await open_transport(address or self.host, self.port, pool)
        if scope.cancelled_caught:
            raise TransportError(f"{self.host} port {self.port} did not answer within {seconds:g} s")
        self.connecting_took = trio.current_time() - began
        machine = Machine(self.config.max_credits, pool.allocate, self.statistics)
        table = self.leases if leases is None else leases
        async with open_connection(transport, machine, self.unc.server, table) as connection:
            yield connection

    async def answers(self, seconds: float, address: str | None = None) -> bool:
        """Whether the server answers over a new connection, which then ends; to `address` instead of the
        host's name."""
        with trio.move_on_after(seconds):
            try:
                async with self.connection(seconds, address, LeaseTable()) as connection:
                    await _negotiate(connection, self._offer(), PreauthIntegrity())
            except SmbError as error:
                log.debug("no answer over a new connection: %s", error)
            else:
                return True
        return False

    async def set_up(self, connection: Connection, seconds: float, previous_session_id: int = 0) -> Tree:
        """Go all the way to the share. The server ends the session `previous_session_id` of ours, if it still
        has it, before it begins a new one ([MS-SMB2] 3.3.5.5.3).

        Raises `TransportError` if that takes longer than `seconds`, and what `connect` does.
        """
        with trio.move_on_after(seconds) as scope:
            return await self._set_up(connection, previous_session_id)
        assert scope.cancelled_caught
        raise self.silent(seconds)

    def silent(self, seconds: float) -> TransportError:
        """The error (returned) that the server did not answer in time."""
        error = TransportError(
            f"{self.unc.server} took the connection but did not answer within {seconds:g} s"
        )
        error.stage = self.stage
        return error

    async def set_up_all(
        self, connection: Connection, seconds: float, previous_session_id: int, trees: Sequence[Tree]
    ) -> list[Tree | SmbError]:
        """The same for all shares that were connected to on one connection: each as it is on the new one, or
        what the server says that does not let us have it any more; raised, if it lets us have none."""
        with trio.move_on_after(seconds):
            session = await self.log_on(connection, previous_session_id)
            found = [await self._connect_again(session, tree) for tree in trees]
            refusals = [each for each in found if isinstance(each, SmbError)]
            if len(refusals) == len(found):
                raise refusals[0]
            return found
        raise self.silent(seconds)

    async def _connect_again(self, session: Session, tree: Tree) -> Tree | SmbError:
        try:
            return await self.connect_share(session, tree.path, tree.prefix)
        except (NtStatusError, RemoteProtocolError) as refusal:
            if session.connection.lost.is_set():
                raise
            return refusal

    async def _set_up(self, connection: Connection, previous_session_id: int) -> Tree:
        session = await self.log_on(connection, previous_session_id)
        return await self.connect_share(session, self.unc.tree_path, self.unc.prefix)

    async def log_on(self, connection: Connection, previous_session_id: int = 0) -> Session:
        """Agree on a dialect and log on. Raises what `connect` does."""
        preauth = PreauthIntegrity()
        with self.at("negotiate"):
            await _negotiate(connection, self._offer(), preauth)
        with self.at("log-on"):
            return await log_on(connection, self.credentials, self.config, preauth, previous_session_id)

    async def connect_share(self, session: Session, path: str, prefix: str = "") -> Tree:
        r"""Connect to `\\server\share`, and check the negotiation if need be ([MS-SMB2] 3.2.5.5).

        Raises `NtStatusError` if there is no such share or no right to it.
        """
        with self.at("share"):
            tree = await connect_tree(session, path, prefix)
        negotiated, offer = session.connection.negotiated, session.connection.offer
        assert negotiated is not None
        assert offer is not None
        if negotiated.dialect is not Dialect.SMB_3_1_1:
            await _validate(tree, offer, negotiated)
        return tree

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """Around a part of the way: what it raises tells which part it was."""
        self.stage = stage
        try:
            yield
        except SmbError as error:
            error.stage = stage
            raise

    def _offer(self) -> Offer:
        config = self.config
        return Offer(
            server=self.unc.server,
            min_dialect=config.min_dialect,
            max_dialect=config.max_dialect,
            signing=config.signing,
            seal=config.seal,
            client_guid=self.client_guid,
        )


async def _negotiate(connection: Connection, offer: Offer, preauth: PreauthIntegrity) -> None:
    try:
        reply = await connection.request_hashed(negotiate_request(offer), Batch(SessionState()), preauth)
    except TransportError as error:
        if error.errno != errno.EHOSTDOWN:
            raise
        raise NotWelcome(
            "the server closed the connection at the first message: it may speak SMB 1 alone, which is never "
            "used, or take no more connections",
            errno=error.errno,
        ) from error
    if reply.header.status != STATUS_SUCCESS:
        raise error_from_status(
            reply.header.status,
            f"agree on a protocol version ({_range(offer)} allowed here, see the option 'vers')",
        )
    preauth.update(reply.message)
    response = NegotiateResponse.decode_untrusted(reply.message)
    negotiated = check_response_untrusted(offer, response)
    connection.clock_ns = filetime_to_ns(response.system_time) - int(trio.current_time() * 1e9)
    if offer.seal and negotiated.cipher is None:
        raise Unprotected(
            f"encryption is demanded, but the server offers none with dialect 0x{negotiated.dialect:04X}"
        )
    connection.use(negotiated, offer)


def _range(offer: Offer) -> str:
    def name(dialect: Dialect) -> str:
        return dialect.name.removeprefix("SMB_").replace("_", ".")

    if offer.min_dialect is offer.max_dialect:
        return f"{name(offer.min_dialect)} alone"
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
    try:
        reply = await tree.connection.request(request, batch)
    except TransportError as error:
        # What servers do that find another negotiation here than reached them.
        raise TransportError(
            "the server hung up when it was asked to confirm the negotiation, which may have been altered",
            errno=error.errno,
        ) from error
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
