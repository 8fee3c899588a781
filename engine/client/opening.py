"""Opening a file: CREATE with what makes it cacheable and durable, and what became of one that was lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from engine import ntstatus
from engine.client.file import File
from engine.client.keeping import Durability, Keeping, decode_all, query_all
from engine.client.leases import Lease
from engine.client.stat import FileStat, stat_from_create
from engine.client.telling import Telling
from engine.client.tree import ATTEMPTS, Tree
from engine.errors import NotFound, OutcomeUnknown, RemoteProtocolError, SmbError, error_from_status
from engine.proto.inflight import Reply, Request
from engine.proto.leases import Claim
from engine.wire.constants import (
    Access,
    CreateAction,
    CreateOptions,
    Disposition,
    FileAttributes,
    ShareAccess,
)
from engine.wire.create import CreateRequest, CreateResponse
from engine.wire.io import ReadRequest, ReadResponse
from engine.wire.primitives import FILE_ID_RELATED

_BRIEF: Final = 2.0
"""Seconds after our request within which nobody else is believed to make a file of the very same name."""

_CLOCK_SLACK: Final = 0.25
"""Seconds by which a server's clock may be misjudged: its time came over the line once."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an open asks for; the fields are the arguments of `Share.open`."""

    path: str
    access: Access
    disposition: Disposition
    options: CreateOptions
    attributes: FileAttributes
    share_access: ShareAccess
    lease: Lease | None
    read: int
    details: bool


class Span:
    """The time from before something was sent until its connection was known to be lost."""

    def __init__(self) -> None:
        self._begin = self._end = trio.current_time()

    def end(self) -> None:
        """The connection is lost."""
        self._end = trio.current_time()

    def covers(self, tree: Tree, moment_ns: int) -> bool:
        """Whether a time that the server tells, in nanoseconds since 1970, lies in it."""
        return self._is_between(tree, moment_ns, self._end)

    def starts_near(self, tree: Tree, moment_ns: int) -> bool:
        """Whether such a time is so soon after the sending that it tells what our request did, however late
        the loss was noticed."""
        return self._is_between(tree, moment_ns, min(self._end, self._begin + _BRIEF))

    def _is_between(self, tree: Tree, moment_ns: int, end: float) -> bool:
        moment = (moment_ns - tree.connection.clock_ns) / 1e9
        return self._begin - _CLOCK_SLACK <= moment <= end + _CLOCK_SLACK


class Opener:
    """Opens the files of one share."""

    def __init__(
        self, tree: Tree, telling: Telling, max_read: Callable[[], int], max_write: Callable[[], int]
    ) -> None:
        self._tree = tree
        self._telling = telling
        self._max_read = max_read
        self._max_write = max_write

    async def open(self, wanted: Wanted) -> File:
        """Open or create; over as many connections as it takes. Raises what `Share.open` does.

        A CREATE that is repeated has a new CreateGuid, and one that must not be is looked up.
        """
        exclusive = wanted.disposition is Disposition.CREATE
        for attempt in range(ATTEMPTS):
            connection, span, moves = await self._tree.ready(), Span(), self._tree.moves
            try:
                return await self._open_once(wanted)
            except SmbError as error:
                span.end()
                try:
                    self._tree.give_way(error, connection, repeatable=not exclusive)
                except OutcomeUnknown:
                    made = await self._find_made(wanted, span)
                    if self._tree.moves != moves and made is not None:
                        made.close_later()
                    self._tree.check_not_moved(moves, f"make {wanted.path}")
                    if made is not None:
                        return made
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _open_once(self, wanted: Wanted) -> File:
        await self._tree.ready()
        tree, durability = self._tree, Durability(self._tree, wanted.lease)
        with durability, tree.claim(wanted.lease) as claim:
            create = CreateRequest(
                requested_oplock_level=claim.oplock_level,
                desired_access=wanted.access | Access.READ_ATTRIBUTES,
                file_attributes=wanted.attributes,
                share_access=wanted.share_access,
                create_disposition=wanted.disposition,
                create_options=wanted.options,
                name=wanted.path,
                contexts=(*claim.contexts, *durability.contexts, *self._telling.contexts),
            )
            requests: list[Request] = [create]
            if wanted.details or not self._telling.has_ids:
                requests.append(query_all(FILE_ID_RELATED))
            required = len(requests)
            if wanted.read > 0:
                reading = ReadRequest(length=wanted.read, offset=0, file_id=FILE_ID_RELATED)
                if self._tree.connection.fits([*requests, reading]):
                    requests.append(reading)
            replies = await self._tree.exchange(
                *requests, what=f"open {wanted.path}", required=required, once=True
            )
            response = CreateResponse.decode_untrusted(replies[0].message)
            durability.take(response)
            file = self._opened(wanted, claim, durability, response, replies[1:required], replies[required:])
        if required == 1 and self._telling.file_id(response) is None:
            await self._ask_opened(file, response)
        return file

    def _opened(
        self,
        wanted: Wanted,
        claim: Claim,
        durability: Durability,
        response: CreateResponse,
        queried: Sequence[Reply],
        read: Sequence[Reply],
    ) -> File:
        tree = self._tree
        try:
            is_leased = claim.settle(response)
            if queried:
                stat = decode_all(queried[0].message)
                self._telling.compare(response, stat)
            else:
                stat = stat_from_create(response, self._telling.file_id(response) or 0)
            initial_data = _decode_initial(read[0], wanted.read) if read else None
        except RemoteProtocolError:
            tree.connection.close_later(response.file_id, tree.batch)
            raise
        keeping = Keeping(
            tree,
            wanted.path,
            response.file_id,
            access=wanted.access,
            options=wanted.options,
            share_access=wanted.share_access,
            lease=wanted.lease,
            is_leased=is_leased,
            durability=durability,
            stat=stat,
        )
        return File(
            tree,
            keeping,
            stat,
            self._telling,
            existed=response.create_action != CreateAction.CREATED,
            max_read=self._max_read(),
            max_write=self._max_write(),
            lease=wanted.lease if is_leased else None,
            initial_data=initial_data,
        )

    async def _ask_opened(self, file: File, response: CreateResponse) -> None:
        """The CREATE did not tell which file it is, or for the first time on this volume."""
        try:
            file.stat = await file.query()
        except BaseException:
            file.close_later()
            raise
        self._telling.compare(response, file.stat)

    async def _find_made(self, wanted: Wanted, span: Span) -> File | None:
        """The file that a lost CREATE made, open; None if it made none.

        Raises `AlreadyExists` if the file that is there may be somebody else's.
        """
        lease = wanted.lease
        if lease is not None:
            lease.set_epoch_apart()
        try:
            file = await self.open(replace(wanted, disposition=Disposition.OPEN, details=True, read=0))
        except NotFound:
            return None
        kept_lease = lease is not None and file.lease is lease and lease.is_from_before
        is_ours = kept_lease and span.covers(self._tree, file.stat.creation_ns)
        if not file.stat.size and (is_ours or was_made(file.stat, span, self._tree)):
            file.existed = False
            return file
        file.close_later()
        raise error_from_status(ntstatus.STATUS_OBJECT_NAME_COLLISION, f"make {wanted.path}")


def _decode_initial(reply: Reply, length: int) -> memoryview | None:
    status = reply.header.status
    if status == ntstatus.STATUS_END_OF_FILE:
        return memoryview(b"")
    if status != ntstatus.STATUS_SUCCESS:
        return None
    data = ReadResponse.decode_untrusted(reply.message).data
    if len(data) > length:
        raise RemoteProtocolError(f"the server sent {len(data)} bytes where {length} were asked for")
    return memoryview(data)


def was_made(stat: FileStat, span: Span, tree: Tree) -> bool:
    """Whether what is there is what was being made when the connection was lost.

    Nothing but the time of its creation tells.
    """
    return span.starts_near(tree, stat.creation_ns)
