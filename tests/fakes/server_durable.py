"""A server that keeps opens over lost connections, as durable, persistent or resilient ones."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Unpack
from uuid import UUID

import trio

from engine import ntstatus
from engine.wire import create_contexts
from engine.wire.constants import Dialect, OplockLevel
from engine.wire.create import CreateRequest, CreateResponse
from engine.wire.create_contexts import (
    CreateContext,
    DurableHandleReconnect,
    DurableHandleReconnectV2,
    DurableHandleRequest,
    DurableHandleRequestV2,
    DurableHandleResponse,
    DurableHandleResponseV2,
    LeaseV2,
)
from engine.wire.ioctl import FsctlCode, NetworkResiliencyRequest
from engine.wire.primitives import FileId
from tests.fakes.server import ServerOptions
from tests.fakes.server_controls import Refused
from tests.fakes.server_leases import GrantsLeases
from tests.fakes.server_peer import Peer

PERSISTENT = 0x2


class Grant(enum.Enum):
    """What the server does for those that ask to have their opens kept."""

    NOTHING = "every open ends with its connection"
    DURABLE = "durable handles"
    PERSISTENT = "persistent handles"
    RESILIENT = "resilient handles only"


@dataclass
class Kept:
    """An open that outlives its connection, and what has to be known to get it back."""

    path: str
    guid: UUID | None
    lease_key: bytes | None
    flags: int = 0
    is_resilient: bool = False
    peer: Peer | None = None

    @property
    def is_promised(self) -> bool:
        """Whether it outlives its connection."""
        return self.guid is not None or self.is_resilient


class KeepsOpens(GrantsLeases):
    """Grants what `grants` says. An open that nobody is promised is closed when its connection ends."""

    def __init__(self, grants: Grant = Grant.DURABLE, **options: Unpack[ServerOptions]) -> None:
        super().__init__(**options)
        self.grants = grants
        self.kept: dict[FileId, Kept] = {}
        self.reconnects: list[CreateRequest] = []
        """CREATEs that asked for an open back, whatever came of them."""
        self.asked_for_resilience = 0
        self.refuses_reconnects = False
        self.grants_caching = True
        self.tree.controls.on_control = self._control

    def create(self, request: CreateRequest) -> CreateResponse:
        for context in request.contexts:
            if isinstance(context, DurableHandleReconnect | DurableHandleReconnectV2):
                return self._reconnect(request, context)
        response = super().create(request)
        lease_key = _lease_key(request.contexts) if response.oplock_level == OplockLevel.LEASE else None
        self.kept[response.file_id] = Kept(request.name, None, lease_key, peer=self.peers[-1])
        for context in request.contexts:
            self._promise(context, request, response)
        return response

    def created(self, request: CreateRequest, response: CreateResponse) -> None:
        if self.grants_caching:
            super().created(request, response)

    def _promise(self, context: CreateContext, request: CreateRequest, response: CreateResponse) -> None:
        kept = self.kept[response.file_id]
        is_cached = response.oplock_level in (OplockLevel.LEASE, OplockLevel.BATCH)
        if self.grants not in (Grant.DURABLE, Grant.PERSISTENT) or not is_cached:
            return
        if isinstance(context, DurableHandleRequestV2):
            kept.guid = context.create_guid
            kept.flags = context.flags & (PERSISTENT if self.grants is Grant.PERSISTENT else 0)
            response.contexts = [*response.contexts, DurableHandleResponseV2(60_000, kept.flags)]
        elif isinstance(context, DurableHandleRequest):
            assert self.dialect < Dialect.SMB_3_0
            kept.guid = UUID(int=0)
            response.contexts = [*response.contexts, DurableHandleResponse()]

    def _reconnect(
        self, request: CreateRequest, context: DurableHandleReconnect | DurableHandleReconnectV2
    ) -> CreateResponse:
        """[MS-SMB2] 3.3.5.9.7, 3.3.5.9.12."""
        self.reconnects.append(request)
        old = context.file_id
        kept = self.kept.get(old)
        if kept is None or old not in self.tree.opens or self.refuses_reconnects:
            raise Refused(ntstatus.STATUS_OBJECT_NAME_NOT_FOUND)
        # The session of before ends with the log-on of the next one, whenever its connection is seen to end.
        if kept.peer is self.peers[-1] or not kept.is_promised:
            raise Refused(ntstatus.STATUS_OBJECT_NAME_NOT_FOUND)
        if isinstance(context, DurableHandleReconnectV2):
            is_right = context.create_guid == kept.guid and context.flags == kept.flags
        else:
            is_right = kept.is_resilient or kept.guid == UUID(int=0)
        if not is_right or _lease_key(request.contexts) != kept.lease_key:
            raise Refused(ntstatus.STATUS_OBJECT_NAME_NOT_FOUND)
        if kept.lease_key is not None and request.name != kept.path:
            raise Refused(ntstatus.STATUS_INVALID_PARAMETER)
        new = FileId(old.persistent, old.volatile + 1)
        self.kept[new], self.tree.opens[new] = self.kept.pop(old), self.tree.opens.pop(old)
        kept.peer = self.peers[-1]
        response = self.tree.told(new)
        self.created(request, response)
        return response

    def _control(self, file_id: FileId, code: int, data: memoryview) -> bytes | None:
        if code != FsctlCode.LMR_REQUEST_RESILIENCY:
            return None
        self.asked_for_resilience += 1
        if self.grants is not Grant.RESILIENT:
            raise Refused(ntstatus.STATUS_NOT_SUPPORTED)
        assert 0 < NetworkResiliencyRequest.decode_untrusted(data).timeout <= 300_000
        self.kept[file_id].is_resilient = True
        return b""

    async def handle(self, stream: trio.SocketStream) -> None:
        await super().handle(stream)
        for file_id, kept in tuple(self.kept.items()):
            if kept.peer is not None and kept.peer.stream is stream:
                kept.peer = None
                if not kept.is_promised:
                    del self.kept[file_id]
                    self.tree.opens.pop(file_id, None)
        self.moved()


def _lease_key(contexts: object) -> bytes | None:
    assert isinstance(contexts, list | tuple)
    for context in contexts:
        if isinstance(context, LeaseV2 | create_contexts.Lease):
            return bytes(context.lease_key)
    return None
