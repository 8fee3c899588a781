"""A connected share: compounds as values, statuses as exceptions ([MS-SMB2] 3.2.4.1.4, 3.2.4.2.4)."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol, TypeVar

from engine import ntstatus
from engine.client.connection import Batch, Connection
from engine.client.handles import ON_A_FILE, Handle
from engine.client.leases import Lease
from engine.client.repeating import may_repeat
from engine.client.rooting import below, rooted
from engine.client.session import Session
from engine.errors import (
    FileClosed,
    HandleLost,
    NtStatusError,
    OutcomeUnknown,
    PathNotCovered,
    RemoteProtocolError,
    SessionDeleted,
    SessionExpired,
    SmbError,
    TransportError,
    TreeGone,
    Unprotected,
    error_from_status,
)
from engine.proto.credits import CreditShortage
from engine.proto.inflight import Reply, Request
from engine.proto.leases import Claim
from engine.wire.constants import Command, ShareCapabilities, ShareFlags, ShareType
from engine.wire.create import CloseRequest, CreateRequest, CreateResponse
from engine.wire.primitives import FILE_ID_RELATED, FileId
from engine.wire.tree import TreeConnectRequest, TreeConnectResponse, TreeDisconnectRequest

log = logging.getLogger(__name__)

_CARRY_WHAT_FITTED: Final = frozenset({Command.QUERY_INFO, Command.IOCTL, Command.READ})
"""Commands whose reply to STATUS_BUFFER_OVERFLOW is their usual one, with what fitted."""

ATTEMPTS: Final = 32
"""Connections that one request may lose: one that makes the server drop us is not to do so for ever."""

REVIVALS: Final = 3
"""How often one request has the server's memory of session, share or file renewed."""

_NO_FILE: Final = (FILE_ID_RELATED,)
"""FileIds that stand for no open file."""

_SHARE_TYPES: Final = frozenset(ShareType)

_Response = TypeVar("_Response", covariant=True)


class ResponseType(Protocol[_Response]):
    """A response class of the wire floor."""

    def decode_untrusted(self, message: memoryview, /) -> _Response:
        """Decode a whole message."""


class Link(Protocol):
    """Who brings a tree back when its connection is lost; `engine.client.link.Link`."""

    async def wait_up(self, tree: Tree) -> None:
        """Wait until a tree is connected again; raises `SmbError` if it will not be for now."""

    async def authenticate_again(self, connection: Connection) -> None:
        """Renew a session that has expired; if that fails, the connection is ended."""

    def restore_soon(self, tree: Tree, handle: Handle) -> None:
        """Have a file opened again that the server has forgotten."""


class Tree:
    """One tree connect: everything a share does goes through `exchange`.

    With a `link` it is the same tree over several connections, one after the other; `epoch` counts them.
    """

    def __init__(
        self, session: Session, path: str, tree_id: int, response: TreeConnectResponse, prefix: str = ""
    ) -> None:
        self.epoch = 0
        self.moves = 0
        """How often another server has taken the place of the one before."""
        self.lost_ns = 0
        """When the last connection was last heard of, by the server's clock, in nanoseconds since 1970."""
        self.link: Link | None = None
        self.is_settling = False
        """Whether files are still being opened again: what changes names is to come behind that."""
        self.handles: set[Handle] = set()
        """What is open and can be opened again."""
        self.may_be_resilient = True
        """Whether the server has neither refused a resilient handle yet nor granted a durable one."""
        self.on_moved: Callable[[], None] = lambda: None
        """Called when another server is found in place of the one before."""
        self._use(session, path, prefix, tree_id, response)

    def _use(
        self, session: Session, path: str, prefix: str, tree_id: int, response: TreeConnectResponse
    ) -> None:
        self.path = path
        """The share, as TREE_CONNECT names it."""
        self.prefix = prefix
        """The folder of the share that paths start at."""
        self.session = session
        self.connection: Connection = session.connection
        self.tree_id = tree_id
        self.response = response
        self.speaks_dfs = bool(response.capabilities & ShareCapabilities.DFS)
        """Whether files are opened by their full names in the distributed tree ([MS-SMB2] 3.2.5.5)."""
        self.batch: Batch = session.batch(
            tree_id, sealed=bool(response.share_flags & ShareFlags.ENCRYPT_DATA)
        )
        """How requests to this share are sent."""

    def adopt(self, other: Tree, *, elsewhere: bool = False) -> None:
        """Go on as `other`, which is the same share on a new connection.

        `elsewhere` says that it is another server's copy of it. What was open is lost then: no number or time
        of the one server tells which file it is on the other.
        """
        self.lost_ns = self.connection.clock_ns + int(self.connection.last_heard * 1e9)
        self._use(other.session, other.path, other.prefix, other.tree_id, other.response)
        self.epoch += 1
        if elsewhere:
            self.moves += 1
            self.may_be_resilient = True
            self.on_moved()
            self._lose_handles()
        for handle in self.handles:
            if handle.epoch != self.epoch:
                handle.await_restoration()

    def check_not_moved(self, moves: int, what: str) -> None:
        """Raise `TransportError` if `moves` counts more than then: another server cannot tell what became of
        a request that the one before did not answer."""
        if self.moves != moves:
            raise TransportError(f"{what}: another server has taken over, and what became of it is not known")

    def _lose_handles(self) -> None:
        handles, self.handles = self.handles, set()
        for handle in handles:
            handle.give_up(HandleLost(f"{handle.path} was open on a server that another has replaced"))

    @property
    def is_distributed(self) -> bool:
        """Whether the share says that folders of it may be elsewhere ([MS-SMB2] 2.2.10)."""
        flags = self.response.share_flags & (ShareFlags.DFS | ShareFlags.DFS_ROOT)
        return bool(flags or self.response.capabilities & ShareCapabilities.DFS)

    @property
    def share_type(self) -> ShareType:
        """Disk, pipe or printer."""
        return ShareType(self.response.share_type)

    @property
    def capabilities(self) -> int:
        """What the share offers, a set of `ShareCapabilities` bits."""
        return self.response.capabilities

    async def ready(self, handle: Handle | None = None) -> Connection:
        """The connection to send on; with a link, it is waited for, and for `handle` to be open on it.

        Raises `HandleLost`, and what `Link.wait_up` does. Without a checkpoint after it, both hold.
        """
        while True:
            connection = self.connection
            if self.link is None:
                return connection
            if self.is_settling or connection.lost.is_set():
                await self.link.wait_up(self)
            elif handle is None or handle.epoch == self.epoch:
                return connection
            elif handle in self.handles:
                await handle.wait()
            else:
                raise HandleLost(f"{handle.path or 'the share'}: what was open ended with the connection")

    def give_way(self, error: SmbError, connection: Connection, *, repeatable: bool) -> None:
        """After `error` ended requests: return if they may be sent once more, else raise.

        `OutcomeUnknown` is for those that must not be made twice and may have been made.
        """
        is_loss = isinstance(error, TransportError | RemoteProtocolError) and connection.lost.is_set()
        if self.link is None or not is_loss:
            raise error
        if error.was_sent and not repeatable:
            raise OutcomeUnknown(str(error), errno=error.errno) from error

    async def revive(self, error: NtStatusError, connection: Connection, handle: Handle | None) -> bool:
        """Whether a refused request may be sent again, as what the server has forgotten is brought back."""
        if self.link is None:
            return False
        match error:
            case SessionExpired():
                await self.link.authenticate_again(connection)
            case SessionDeleted() | TreeGone():
                connection.abort(TransportError(f"the server ended the session: {error}"))
            case FileClosed() if handle is not None and handle in self.handles:
                if handle.epoch == self.epoch:
                    self.link.restore_soon(self, handle)
            case _:
                return False
        return True

    async def exchange(
        self,
        *requests: Request,
        what: str,
        passes: Collection[int] = (),
        required: int | None = None,
        urgent: bool = False,
        handle: Handle | None = None,
        once: bool = False,
    ) -> list[Reply]:
        """Send requests, related where there are several, in one round trip where credits allow.

        The first status that is neither success nor one of `passes` raises its `NtStatusError`, which
        holds the index and the replies. A handle that was opened and would be left open is closed.
        `what` says what is tried, for the message; of what comes after the first `required` requests
        any status passes. `handle` is the open file that they are about, if they name one. With `once` the
        loss of the connection is the caller's to deal with, who then calls `give_way`.
        """
        file_id = handle.file_id if handle is not None else FILE_ID_RELATED
        revivals = 0
        for attempt in range(ATTEMPTS):
            connection, batch = await self.ready(handle), self.batch
            sent = handle.address(requests, file_id) if handle is not None else self._checked(requests)
            try:
                replies = await self.attempt(connection, batch, sent, what, urgent=urgent)
            except SmbError as error:
                if once:
                    raise
                self.give_way(error, connection, repeatable=may_repeat(requests))
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            failed = self._failure(replies[:required], passes, what)
            if failed is None:
                return replies
            self.close_leftover(connection, batch, sent, replies)
            failed.replies = tuple(replies)
            if isinstance(failed, PathNotCovered):
                failed.place = self._place_of(requests)
            if revivals == REVIVALS or not await self.revive(failed, connection, handle):
                raise failed
            revivals += 1
            if failed.index and not may_repeat(requests):
                raise OutcomeUnknown(str(failed)) from failed
        raise AssertionError("the last attempt returns or raises")

    def _failure(self, replies: Sequence[Reply], passes: Collection[int], what: str) -> NtStatusError | None:
        for index, reply in enumerate(replies):
            if reply.header.status in passes:
                continue
            error = self.refusal(reply, what)
            if error is not None:
                error.index = index
                return error
        return None

    def _place_of(self, requests: Sequence[Request]) -> str:
        """`//server/share/folder` of what requests are about, as far as they name it."""
        path = next((request.name for request in requests if isinstance(request, CreateRequest)), "")
        return f"{self.path}\\{below(self.prefix, path)}".rstrip("\\").replace("\\", "/")

    def _rooted(self, requests: Sequence[Request]) -> Sequence[Request]:
        return rooted(requests, self.prefix, self.path.lstrip("\\") if self.speaks_dfs else "")

    def _checked(self, requests: Sequence[Request]) -> Sequence[Request]:
        """Raise `HandleLost` for a FileId from before a loss, maybe: it could be another file's now."""
        if self.epoch and any(isinstance(one, ON_A_FILE) and one.file_id not in _NO_FILE for one in requests):
            raise HandleLost("what was open ended with the connection")
        return requests

    async def attempt(
        self,
        connection: Connection,
        batch: Batch,
        requests: Sequence[Request],
        what: str,
        *,
        urgent: bool = False,
    ) -> list[Reply]:
        """Send requests once on `connection`, related where there are several; whatever their statuses."""
        related, requests = len(requests) > 1, self._rooted(requests)
        try:
            if related and not connection.fits(requests):
                raise CreditShortage(f"{what}: too few credits for {len(requests)} requests at once")
            return await connection.exchange(requests, batch, related=related, urgent=urgent)
        except CreditShortage:
            if not related:
                raise
            return await self._one_by_one(connection, batch, requests)

    async def exchange_each(self, *requests: Request) -> list[Reply]:
        """Send requests that have nothing to do with each other, in one frame where credits allow.

        Returns their replies, whatever their statuses.
        """
        for attempt in range(ATTEMPTS):
            connection, batch = await self.ready(), self.batch
            try:
                return await self._send_each(connection, batch, self._rooted(self._checked(requests)))
            except SmbError as error:
                self.give_way(error, connection, repeatable=may_repeat(requests))
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _send_each(
        self, connection: Connection, batch: Batch, requests: Sequence[Request]
    ) -> list[Reply]:
        try:
            return await connection.exchange(requests, batch)
        except CreditShortage:
            if len(requests) == 1:
                raise
        half = len(requests) // 2
        replies = await self._send_each(connection, batch, requests[:half])
        try:
            return replies + await self._send_each(connection, batch, requests[half:])
        except BaseException as error:
            if isinstance(error, SmbError):
                error.was_sent = True
            _close_opened(connection, batch, replies)
            raise

    @staticmethod
    def refusal(reply: Reply, what: str) -> NtStatusError | None:
        """The error that a reply stands for; None if it is an answer, be it a cut one."""
        status = reply.header.status
        if status == ntstatus.STATUS_SUCCESS:
            return None
        if status == ntstatus.STATUS_BUFFER_OVERFLOW and reply.header.command in _CARRY_WHAT_FITTED:
            return None
        return error_from_status(status, what)

    async def _one_by_one(
        self, connection: Connection, batch: Batch, requests: Sequence[Request]
    ) -> list[Reply]:
        """The same as a related compound, for servers that grant fewer credits than it needs."""
        replies: list[Reply] = []
        file_id: FileId | None = None
        to_close = _handle_to_close(requests)
        try:
            for request in requests:
                if file_id is not None:
                    request = _with_file_id(request, file_id)
                if isinstance(request, CloseRequest):
                    to_close = None
                reply = await connection.request(request, batch)
                replies.append(reply)
                if request.COMMAND is Command.CREATE:
                    if reply.header.status != ntstatus.STATUS_SUCCESS:
                        return replies
                    file_id = to_close = CreateResponse.decode_untrusted(reply.message).file_id
        except BaseException as error:
            if isinstance(error, SmbError) and replies:
                error.was_sent = True
            if to_close is not None:
                connection.close_later(to_close, batch)
            raise
        return replies

    def close_leftover(
        self, connection: Connection, batch: Batch, requests: Sequence[Request], replies: Sequence[Reply]
    ) -> None:
        """Close what a related compound, sent on `connection`, opened and did not close."""
        # A handle from before is in doubt if its CLOSE was one of several requests.
        opened = _handle_to_close(requests) if len(requests) > 1 else None
        for request, reply in zip(requests, replies, strict=False):
            if reply.header.status != ntstatus.STATUS_SUCCESS:
                continue
            if isinstance(request, CreateRequest):
                opened = CreateResponse.decode_untrusted(reply.message).file_id
            elif isinstance(request, CloseRequest):
                opened = None
        if opened is not None:
            connection.close_later(opened, batch)

    def close_opened(self, replies: Sequence[Reply]) -> None:
        """Close what unrelated requests opened, as far as their replies, which just came, make sense."""
        _close_opened(self.connection, self.batch, replies)

    async def call(
        self,
        request: Request,
        response_type: ResponseType[_Response],
        what: str,
        handle: Handle | None = None,
    ) -> _Response:
        """Send one request and decode its reply; raises `NtStatusError` with `what` in its message."""
        (reply,) = await self.exchange(request, what=what, handle=handle)
        return response_type.decode_untrusted(reply.message)

    def claim(self, lease: Lease | None, *, is_folder: bool = False, takes_back: bool = False) -> Claim:
        """Announce a CREATE on the present connection that asks for `lease`, whose breaks are acknowledged
        there from now on; arguments as of `LeaseTable.claim`."""
        claim = self.connection.leases.claim(lease, is_folder=is_folder, takes_back=takes_back)
        if lease is not None and claim.lease is lease:
            lease.send = self.acknowledge
        return claim

    async def acknowledge(self, request: Request) -> None:
        """Send the acknowledgement of a break and wait until it is taken.

        It may be refused, because the handle or the lease is gone meanwhile, and the connection may be
        lost: either way nobody waits for it any more, so nothing is raised.
        """
        try:
            reply = await self.connection.request(request, self.batch, urgent=True)
        except SmbError as error:
            log.debug("a break was not acknowledged: %s", error)
        else:
            if reply.header.status != ntstatus.STATUS_SUCCESS:
                log.debug("%s", error_from_status(reply.header.status, "acknowledge a break"))

    async def disconnect(self) -> None:
        """Let the server forget the share; raises `SmbError` if it cannot be told."""
        await self.connection.request(TreeDisconnectRequest(), self.batch, urgent=True)

    def disconnect_later(self) -> None:
        """The same without waiting for the server, or for whether it can be told."""
        self.connection.send_later([TreeDisconnectRequest()], self.batch)


def _close_opened(connection: Connection, batch: Batch, replies: Sequence[Reply]) -> None:
    for reply in replies:
        header = reply.header
        if header.command == Command.CREATE and header.status == ntstatus.STATUS_SUCCESS:
            with contextlib.suppress(RemoteProtocolError):
                connection.close_later(CreateResponse.decode_untrusted(reply.message).file_id, batch)


def _handle_to_close(requests: Sequence[Request]) -> FileId | None:
    for request in requests:
        if isinstance(request, CloseRequest) and request.file_id != FILE_ID_RELATED:
            return request.file_id
    return None


def _with_file_id(request: Request, file_id: FileId) -> Request:
    if isinstance(request, ON_A_FILE) and request.file_id == FILE_ID_RELATED:
        return dataclasses.replace(request, file_id=file_id)
    return request


async def connect_tree(session: Session, path: str, prefix: str = "") -> Tree:
    r"""Connect to `\\server\share`, whose folder `prefix` is to be the root of all paths.

    Raises `NtStatusError` if there is no such share or no right to it.
    """
    tree, _ = await connect_tree_and_ask(session, path, prefix)
    return tree


async def connect_tree_and_ask(
    session: Session, path: str, prefix: str = "", *questions: Request
) -> tuple[Tree, list[Reply]]:
    """As `connect_tree`, and send requests to that share in the same frame, where credits allow.

    Their replies are returned whatever their statuses, none if they were not sent.
    """
    # 3.1.1 demands this one signed even where nothing else is ([MS-SMB2] 3.2.4.1.1).
    batch = session.signed_batch(session.batch())
    connection, request = session.connection, TreeConnectRequest(path)
    replies: list[Reply] = []
    if questions and connection.fits([request, *questions]):
        reply, *replies = await connection.exchange([request, *questions], batch, related=True)
    else:
        reply = await connection.request(request, batch)
    if reply.header.status != ntstatus.STATUS_SUCCESS:
        raise error_from_status(reply.header.status, f"connect to the share {path}")
    response = TreeConnectResponse.decode_untrusted(reply.message)
    if response.share_flags & ShareFlags.ENCRYPT_DATA and session.state.sealer is None:
        raise Unprotected("the share demands encryption, but this session has no key or no cipher for it")
    if response.share_type not in _SHARE_TYPES:
        raise RemoteProtocolError(f"{path} is a share of an unknown type, {response.share_type}")
    return Tree(session, path, reply.header.tree_id, response, prefix), replies
