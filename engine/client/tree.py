"""A connected share: compounds as values, statuses as exceptions ([MS-SMB2] 3.2.4.1.4, 3.2.4.2.4)."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Collection, Sequence
from typing import Final, Protocol, TypeVar

from engine import ntstatus
from engine.client.connection import Batch, Connection
from engine.client.session import Session
from engine.errors import NtStatusError, RemoteProtocolError, SmbError, error_from_status
from engine.proto.credits import CreditShortage
from engine.proto.inflight import Reply, Request
from engine.wire.constants import Command, ShareFlags, ShareType
from engine.wire.create import CloseRequest, CreateRequest, CreateResponse
from engine.wire.io import FlushRequest, IoctlRequest, ReadRequest, WriteRequest
from engine.wire.primitives import FILE_ID_RELATED, FileId
from engine.wire.query import QueryDirectoryRequest, QueryInfoRequest, SetInfoRequest
from engine.wire.tree import TreeConnectRequest, TreeConnectResponse, TreeDisconnectRequest

log = logging.getLogger(__name__)

_CARRY_WHAT_FITTED: Final = frozenset({Command.QUERY_INFO, Command.IOCTL, Command.READ})
"""Commands whose reply to STATUS_BUFFER_OVERFLOW is their usual one, with what fitted."""

_ON_A_FILE: Final = (
    CloseRequest,
    FlushRequest,
    IoctlRequest,
    QueryDirectoryRequest,
    QueryInfoRequest,
    ReadRequest,
    SetInfoRequest,
    WriteRequest,
)
"""What may follow a CREATE in a compound."""

_SHARE_TYPES: Final = frozenset(ShareType)

_Response = TypeVar("_Response", covariant=True)


class ResponseType(Protocol[_Response]):
    """A response class of the wire floor."""

    def decode_untrusted(self, message: memoryview, /) -> _Response:
        """Decode a whole message."""


class Tree:
    """One tree connect: everything a share does goes through `exchange`."""

    def __init__(self, session: Session, path: str, tree_id: int, response: TreeConnectResponse) -> None:
        self.session = session
        self.path = path
        self.connection: Connection = session.connection
        self.share_type = ShareType(response.share_type)
        self.share_flags = response.share_flags
        self.capabilities = response.capabilities
        self.maximal_access = response.maximal_access
        self.batch: Batch = session.batch(
            tree_id, sealed=bool(response.share_flags & ShareFlags.ENCRYPT_DATA)
        )
        """How requests to this share are sent."""

    async def exchange(
        self,
        *requests: Request,
        what: str,
        passes: Collection[int] = (),
        required: int | None = None,
        urgent: bool = False,
    ) -> list[Reply]:
        """Send requests, related where there are several, in one round trip where credits allow.

        The first status that is neither success nor one of `passes` raises its `NtStatusError`, which
        holds the index and the replies. A handle that was opened and would be left open is closed.
        `what` says what is tried, for the message; of what comes after the first `required` requests
        any status passes.
        """
        related = len(requests) > 1
        try:
            if related and not self.connection.fits(requests):
                raise CreditShortage(f"{what}: too few credits for {len(requests)} requests at once")
            replies = await self.connection.exchange(requests, self.batch, related=related, urgent=urgent)
        except CreditShortage:
            if not related:
                raise
            replies = await self._one_by_one(requests)
        for index, reply in enumerate(replies[:required]):
            if reply.header.status in passes:
                continue
            error = self.refusal(reply, what)
            if error is not None:
                self.close_leftover(requests, replies)
                error.index, error.replies = index, tuple(replies)
                raise error
        return replies

    async def exchange_each(self, *requests: Request) -> list[Reply]:
        """Send requests that have nothing to do with each other, in one frame where credits allow.

        Returns their replies, whatever their statuses.
        """
        try:
            return await self.connection.exchange(requests, self.batch)
        except CreditShortage:
            if len(requests) == 1:
                raise
        half = len(requests) // 2
        replies = await self.exchange_each(*requests[:half])
        try:
            return replies + await self.exchange_each(*requests[half:])
        except BaseException:
            self.close_opened(replies)
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

    async def _one_by_one(self, requests: Sequence[Request]) -> list[Reply]:
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
                reply = await self.connection.request(request, self.batch)
                replies.append(reply)
                if request.COMMAND is Command.CREATE:
                    if reply.header.status != ntstatus.STATUS_SUCCESS:
                        return replies
                    file_id = to_close = CreateResponse.decode_untrusted(reply.message).file_id
        except BaseException:
            if to_close is not None:
                self.connection.close_later(to_close, self.batch)
            raise
        return replies

    def close_leftover(self, requests: Sequence[Request], replies: Sequence[Reply]) -> None:
        """Close what a related compound opened and did not close."""
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
            self.connection.close_later(opened, self.batch)

    def close_opened(self, replies: Sequence[Reply]) -> None:
        """Close what unrelated requests opened, as far as their replies make sense."""
        for reply in replies:
            header = reply.header
            if header.command == Command.CREATE and header.status == ntstatus.STATUS_SUCCESS:
                with contextlib.suppress(RemoteProtocolError):
                    opened = CreateResponse.decode_untrusted(reply.message).file_id
                    self.connection.close_later(opened, self.batch)

    async def call(self, request: Request, response_type: ResponseType[_Response], what: str) -> _Response:
        """Send one request and decode its reply; raises `NtStatusError` with `what` in its message."""
        (reply,) = await self.exchange(request, what=what)
        return response_type.decode_untrusted(reply.message)

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


def _handle_to_close(requests: Sequence[Request]) -> FileId | None:
    for request in requests:
        if isinstance(request, CloseRequest) and request.file_id != FILE_ID_RELATED:
            return request.file_id
    return None


def _with_file_id(request: Request, file_id: FileId) -> Request:
    if isinstance(request, _ON_A_FILE) and request.file_id == FILE_ID_RELATED:
        return dataclasses.replace(request, file_id=file_id)
    return request


async def connect_tree(session: Session, path: str) -> Tree:
    r"""Connect to `\\server\share`. Raises `NtStatusError` if there is no such share or no right to it."""
    # 3.1.1 demands this one signed even where nothing else is ([MS-SMB2] 3.2.4.1.1).
    batch = session.signed_batch(session.batch())
    reply = await session.connection.request(TreeConnectRequest(path), batch)
    if reply.header.status != ntstatus.STATUS_SUCCESS:
        raise error_from_status(reply.header.status, f"connect to the share {path}")
    response = TreeConnectResponse.decode_untrusted(reply.message)
    if response.share_flags & ShareFlags.ENCRYPT_DATA and session.state.sealer is None:
        raise RemoteProtocolError(
            "the share demands encryption, but this session has no key or no cipher for it"
        )
    if response.share_type not in _SHARE_TYPES:
        raise RemoteProtocolError(f"{path} is a share of an unknown type, {response.share_type}")
    return Tree(session, path, reply.header.tree_id, response)
