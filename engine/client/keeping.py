"""An open file kept over lost connections: durable handles, else opened again by its path.

[MS-SMB2] 3.2.4.4. A server that grants durability keeps the open for a while when the connection ends, with
its lease and locks; one that does not may still grant resilience ([MS-SMB2] 2.2.31.3, 3.3.5.15.9), which is
asked for behind the open. Otherwise, or if it has forgotten it, the path is opened anew; that is the same
open only if it leads to the same file and nobody has changed it meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self
from uuid import UUID, uuid4

import trio

from engine.client.handles import Handle, NotGivenBack
from engine.client.leases import Lease
from engine.client.stat import FileStat, stat_from_all
from engine.client.tree import Tree
from engine.errors import (
    HandleLost,
    InvalidParameter,
    NotFound,
    NtStatusError,
    SessionDeleted,
    SessionExpired,
    SharingViolation,
    SmbError,
    TreeGone,
)
from engine.proto.inflight import Reply, Request
from engine.proto.lease_grants import LeaseKind
from engine.wire.constants import (
    Access,
    CreateOptions,
    Dialect,
    Disposition,
    InfoType,
    IoctlFlags,
    ShareAccess,
    ShareCapabilities,
)
from engine.wire.create import CreateRequest, CreateResponse
from engine.wire.create_contexts import (
    CreateContext,
    DurableHandleReconnect,
    DurableHandleReconnectV2,
    DurableHandleRequest,
    DurableHandleRequestV2,
    DurableHandleResponse,
    DurableHandleResponseV2,
)
from engine.wire.fscc import FileAllInformation
from engine.wire.io import IoctlRequest
from engine.wire.ioctl import FsctlCode, NetworkResiliencyRequest
from engine.wire.primitives import FILE_ID_RELATED, FileId
from engine.wire.query import QueryInfoRequest, QueryInfoResponse

log = logging.getLogger(__name__)

ALL_INFORMATION_ROOM: Final = 4096
"""Room for FileAllInformation with a name of 2,000 characters; a longer one is cut, which does no harm."""

_PERSISTENT: Final = 0x2
"""SMB2_DHANDLE_FLAG_PERSISTENT."""

_TRIES: Final = 8
"""Two may find the name that has the lease; the pauses of the others last longer than the link settles,
behind which our own renaming finds out that the file was moved."""

_PAUSE: Final = 0.3
"""Seconds between tries to open a file whose name is on its way elsewhere, or which somebody else has open:
our own open of before may be the one that is in the way, until the server has noticed."""

_RESILIENT_MS: Final = 60_000
"""Milliseconds for which a server is asked to keep an open, if it grants resilience alone."""

_KEPT: Final = 60.0
"""Seconds for which a server keeps an open that nobody asks for."""

_STAYS: Final = ~int(CreateOptions.DELETE_ON_CLOSE)


def query_all(file_id: FileId) -> QueryInfoRequest:
    """The QUERY_INFO that asks for FileAllInformation."""
    return QueryInfoRequest(
        info_type=InfoType.FILE,
        file_info_class=FileAllInformation.INFORMATION_CLASS,
        output_buffer_length=ALL_INFORMATION_ROOM,
        file_id=file_id,
    )


def decode_all(message: memoryview) -> FileStat:
    """The attributes in the answer to `query_all`; raises `RemoteProtocolError`."""
    response = QueryInfoResponse.decode_untrusted(message)
    return stat_from_all(FileAllInformation.decode_untrusted(memoryview(response.buffer)))


def was_not_written(known: FileStat, found: FileStat, lost_ns: int) -> bool:
    """Whether nobody has written the file since the connection was lost, at `lost_ns` by the server's clock.

    Another time alone does not tell: of a file that is open Samba tells an outdated one, until it is closed.
    """
    return found.write_ns == known.write_ns or found.write_ns < lost_ns


class Durability:
    """What a CREATE asks for so that the server keeps the open, and what it got.

    Samba (4.17 at least) gives an open back only if it is the file's only one, so nothing is asked for while
    another open has it, or asks for it, under the same lease: then neither would come back. It is the same as
    long as the server keeps one that nobody can ask for, as the answer to its CREATE got lost.
    """

    __slots__ = ("_flags", "_is_resilient", "_lease", "contexts", "guid", "is_granted")

    def __init__(self, tree: Tree, lease: Lease | None) -> None:
        self.guid: UUID | None = None
        self.is_granted = False
        self._flags = 0
        self._is_resilient = False
        self._lease: Lease | None = None
        self.contexts: Sequence[CreateContext] = ()
        if tree.link is None or lease is None or tree.connection.leases.kind is LeaseKind.NONE:
            return
        if lease.durability is not None or trio.current_time() < lease.durable_from:
            return
        self._lease, lease.durability = lease, self
        negotiated = tree.connection.negotiated
        if negotiated is not None and negotiated.dialect >= Dialect.SMB_3_0:
            self.guid = uuid4()
            available = tree.capabilities & ShareCapabilities.CONTINUOUS_AVAILABILITY
            flags = _PERSISTENT if available else 0
            self.contexts = (DurableHandleRequestV2(self.guid, flags=flags),)
        else:
            self.contexts = (DurableHandleRequest(),)

    def __enter__(self) -> Self:
        """Around the CREATE, and what has to succeed for its open to be of use."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, SmbError) and error.was_sent:
            self.leave_behind()
        elif kind is not None:
            self.end()

    def take(self, response: CreateResponse) -> None:
        """Note whether the server grants it."""
        for context in response.contexts:
            if isinstance(context, DurableHandleResponseV2) and self.guid is not None:
                self._flags = context.flags & _PERSISTENT
                self.is_granted = True
            elif isinstance(context, DurableHandleResponse) and self.guid is None:
                self.is_granted = bool(self.contexts)
        if not self.is_granted:
            self.end()

    def leave_behind(self) -> None:
        """The server may keep an open that is of no use any more: no other one would come back meanwhile, and
        one refusal after the other could cost connections for ever."""
        if self._lease is not None:
            self._lease.durable_from = trio.current_time() + _KEPT
        self.end()

    def end(self) -> None:
        """It is not had, or not needed, any more: the file's next open may ask for it."""
        self.is_granted = False
        if self._lease is not None and self._lease.durability is self:
            self._lease.durability = None

    def become_resilient(self) -> None:
        """The server keeps it after all ([MS-SMB2] 3.3.5.15.9)."""
        self.is_granted = self._is_resilient = True

    def reconnecting(self, file_id: FileId) -> CreateContext:
        """The context that asks for the open back."""
        if self.guid is None or self._is_resilient:
            return DurableHandleReconnect(file_id)
        return DurableHandleReconnectV2(file_id, self.guid, self._flags)


class Keeping:
    """How one open file was opened, and how it is opened again."""

    def __init__(
        self,
        tree: Tree,
        path: str,
        file_id: FileId,
        *,
        access: Access,
        options: CreateOptions,
        share_access: ShareAccess,
        lease: Lease | None,
        is_leased: bool,
        durability: Durability,
        stat: FileStat,
    ) -> None:
        self.access = access
        self.handle = Handle(file_id, tree.epoch, path, self._restore)
        self.changed = False
        """Whether anything was changed through it, so that size and times differ from those of the open."""
        self.has_locks = False
        self.locate: Callable[[], str | None] = lambda: self.handle.path
        self.recognise: Callable[[FileStat, int], bool] = self._is_unchanged
        self._tree = tree
        self._options = options
        self._share_access = share_access
        self._lease = lease
        self._is_leased = is_leased
        self._durability = durability
        self._stat = stat
        self.handle.is_durable, self.handle.has_lease = durability.is_granted, lease is not None
        if tree.link is not None:
            tree.handles.add(self.handle)
            self._ask_resilience()

    def end(self) -> None:
        """The file is closed, or about to be."""
        self._durability.end()

    def _is_unchanged(self, found: FileStat, lost_ns: int) -> bool:
        known = self._stat
        if found.file_id != known.file_id:
            return False
        return self.changed or (found.size == known.size and was_not_written(known, found, lost_ns))

    async def _restore(self) -> None:
        """Have the file open on the present connection.

        Raises `HandleLost` if that cannot be, `NotGivenBack` once where the server was to keep it, other
        errors if the connection is of no use.
        """
        if self.handle.is_durable:
            await self._take_back()
            return
        if self.handle.is_forsaken:
            raise HandleLost(f"{self.handle.path} was closed")
        if self.has_locks:
            raise HandleLost(f"{self.handle.path}: its locks ended with the connection")
        leased: str | None = None
        for left in reversed(range(_TRIES)):
            path = leased or self.locate()
            if path is None:
                raise HandleLost(
                    f"{self.handle.path} was removed, and its last open ended with the connection"
                )
            try:
                await self._open_again(path)
            except (NotFound, SharingViolation) as error:
                if not left:
                    raise HandleLost(f"{path} cannot be opened again: {error}") from error
                await trio.sleep(_PAUSE)
            except (SessionDeleted, SessionExpired, TreeGone):
                raise
            except InvalidParameter as error:
                if self._lease is None or not left:
                    raise HandleLost(f"{path} cannot be opened again: {error}") from error
                # The lease is in use under another name of the file. Without it this open would break it.
                leased = self._lease.path if leased is None else None
                if leased in (None, path):
                    self._lease, leased, self.handle.has_lease = None, None, False
            except NtStatusError as error:
                raise HandleLost(f"{path} cannot be opened again: {error}") from error
            else:
                return

    async def _take_back(self) -> None:
        """Ask for the open that the server has kept: servers want to be told its name."""
        paths = dict.fromkeys([self.locate() or self.handle.path, self.handle.path])
        refusal: NtStatusError | None = None
        for path in paths:
            refusal = await self._take_back_as(path)
            if not isinstance(refusal, InvalidParameter):
                break
        if refusal is not None:
            self.handle.is_durable = False
            self._durability.leave_behind()
            raise NotGivenBack(str(refusal)) from refusal

    async def _take_back_as(self, path: str) -> NtStatusError | None:
        tree, handle = self._tree, self.handle
        connection, batch, epoch = tree.connection, tree.batch, tree.epoch
        lease = self._lease if self._is_leased else None
        with tree.claim(lease, takes_back=True) as claim:
            context = self._durability.reconnecting(handle.file_id)
            create = self._create(path, claim.oplock_level, (context, *claim.contexts))
            (reply,) = await tree.attempt(connection, batch, [create], "")
            refusal = tree.refusal(reply, f"take {path} back")
            if isinstance(refusal, SessionDeleted | SessionExpired | TreeGone):
                raise refusal
            if refusal is not None:
                return refusal
            response = CreateResponse.decode_untrusted(reply.message)
            claim.settle(response)
        self._moved(path, response.file_id, epoch)
        return None

    async def _open_again(self, path: str) -> None:
        tree, handle = self._tree, self.handle
        connection, batch, epoch = tree.connection, tree.batch, tree.epoch
        durability = Durability(tree, self._lease)
        with durability, tree.claim(self._lease) as claim:
            create = self._create(path, claim.oplock_level, (*claim.contexts, *durability.contexts))
            requests: list[Request] = [create, query_all(FILE_ID_RELATED)]
            what = f"open {path} again"
            replies = await tree.attempt(connection, batch, requests, what)
            for reply in replies:
                refusal = tree.refusal(reply, what)
                if refusal is not None:
                    tree.close_leftover(connection, batch, requests, replies)
                    raise refusal
            response = CreateResponse.decode_untrusted(replies[0].message)
            if not self._is_same(replies[1]):
                connection.close_later(response.file_id, batch)
                raise HandleLost(f"{path} is another file now, or was changed while the connection was lost")
            self._is_leased = claim.settle(response)
        durability.take(response)
        self._durability, handle.is_durable = durability, durability.is_granted
        self._moved(path, response.file_id, epoch)
        self._ask_resilience()

    def _moved(self, path: str, file_id: FileId, epoch: int) -> None:
        if self._lease is not None:
            self._lease.path = path
        self.handle.path = path
        self.handle.move(file_id, epoch)

    def _ask_resilience(self) -> None:
        """Have the server keep what it did not make durable, without waiting for what it says to that."""
        tree, durability, negotiated = self._tree, self._durability, self._tree.connection.negotiated
        if durability.is_granted:
            # A server that knows durable handles is asked for nothing else.
            tree.may_be_resilient = False
        if self._lease is None or not tree.may_be_resilient:
            return
        if negotiated is None or negotiated.dialect < Dialect.SMB_2_1:
            return
        if trio.current_time() < self._lease.durable_from:
            return

        def take(replies: Sequence[Reply] | None) -> None:
            if replies is None or self._durability is not durability:
                return
            refusal = tree.refusal(replies[0], "ask for a resilient handle")
            if refusal is None:
                durability.become_resilient()
                self.handle.is_durable = True
            else:
                log.debug("%s", refusal)
                tree.may_be_resilient = False

        control = IoctlRequest(
            ctl_code=FsctlCode.LMR_REQUEST_RESILIENCY,
            file_id=self.handle.file_id,
            input=NetworkResiliencyRequest(_RESILIENT_MS).encode(),
            flags=IoctlFlags.IS_FSCTL,
        )
        tree.connection.send_later([control], tree.batch, take)

    def _create(self, path: str, level: int, contexts: Sequence[CreateContext]) -> CreateRequest:
        return CreateRequest(
            requested_oplock_level=level,
            desired_access=self.access | Access.READ_ATTRIBUTES,
            share_access=self._share_access,
            create_disposition=Disposition.OPEN,
            create_options=self._options & _STAYS,
            name=path,
            contexts=contexts,
        )

    def _is_same(self, queried: Reply) -> bool:
        return self.recognise(decode_all(queried.message), self._tree.lost_ns)
