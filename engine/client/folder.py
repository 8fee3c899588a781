"""Folders, opened and listed: in one round trip, large buffers, attributes included, under a lease."""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import trio

from engine import ntstatus
from engine.client.handles import Handle
from engine.client.leases import Lease
from engine.client.stat import DirectoryEntry, FileStat, entry_from_listing, stat_of_created
from engine.client.tree import ATTEMPTS, Tree
from engine.errors import HandleLost, OutcomeUnknown, RemoteProtocolError, TransportError
from engine.proto.credits import CreditShortage
from engine.proto.inflight import Reply, Request
from engine.wire.constants import Access, CreateOptions, OplockLevel
from engine.wire.create import CreateRequest, CreateResponse
from engine.wire.create_contexts import CreateContext, QueryOnDiskIdRequest
from engine.wire.fscc import FileInformationClass
from engine.wire.fscc_directory import decode_directory_untrusted
from engine.wire.primitives import FILE_ID_RELATED, FileId
from engine.wire.query import QueryDirectoryRequest, QueryDirectoryResponse

_BATCH_ROOM: Final = 1024 * 1024
"""About 7,000 entries; more in one reply would keep the first ones waiting."""

_LEAST_ROOM: Final = 65536
_LIES_SECONDS: Final = 0.1
"""How long a batch may lie here before it is taken. Attributes that became too old meanwhile are asked for
one by one, and a program that takes 7,000 of them so slowly would never catch up."""

_SECOND_ROOM: Final = 65536
"""The second query of each compound only has to find that the folder is at its end."""

_CLASS: Final = FileInformationClass.FileIdBothDirectoryInformation
_FINISHED: Final = (ntstatus.STATUS_NO_MORE_FILES, ntstatus.STATUS_NO_SUCH_FILE)


class Folder:
    """An open folder and the first of its entries; made by `open_folder`, and to be closed."""

    def __init__(
        self, tree: Tree, path: str, handle: Handle, stat: FileStat, lease: Lease | None, listing: _Listing
    ) -> None:
        self.path = path
        self.stat = stat
        """As of the open; `number_of_links` is not told."""
        self.lease = lease
        """The lease that the server made this folder part of, if it did: as long as it lasts, and the folder
        is open, no name in the folder comes, goes or becomes another file's."""
        self._tree = tree
        self._handle = handle
        self._listing = listing
        self._closed = False
        self._known: frozenset[int] = frozenset()
        self._given = array("q")
        """Hashes of the names that were given: what a listing that has to begin anew leaves out."""

    async def batches(self) -> AsyncGenerator[list[DirectoryEntry], None]:
        """The entries, once, without "." and ".."; wrap it in `contextlib.aclosing`.

        The first batch is here already, each further one costs a round trip: the end is found in the one
        that brings the last entries. Who takes batches slowly gets small ones. Raises `NtStatusError`.
        """
        listing, queries = self._listing, self._listing.first
        while True:
            # One batch per round trip: who takes one can ask for the next, which then really is on its way.
            full = [reply for reply in queries if reply.header.status not in _FINISHED]
            given = trio.current_time()
            entries = [entry for reply in full for entry in _entries(reply)]
            if self._tree.link is not None:
                entries = self._only_new(entries)
            yield entries
            listing.taken_after(trio.current_time() - given)
            if len(full) < len(queries):
                return
            try:
                queries = await listing.ask(self._tree, self._handle)
            except (HandleLost, OutcomeUnknown):
                queries = await self._begin_anew()

    def _only_new(self, entries: list[DirectoryEntry]) -> list[DirectoryEntry]:
        if self._known:
            entries = [entry for entry in entries if hash(entry.name) not in self._known]
        self._given.extend(hash(entry.name) for entry in entries)
        return entries

    async def _begin_anew(self) -> Sequence[Reply]:
        """The connection was lost, and the server's place in the listing with it."""
        for _ in range(ATTEMPTS):
            self._known = frozenset(self._given)
            try:
                response = await self._listing.open(self._tree, _opening(self.path))
            except OutcomeUnknown:
                continue
            self._handle = Handle(response.file_id, self._tree.epoch, self.path)
            return self._listing.first
        raise TransportError(f"list {self.path}: the connection is lost each time")

    def close_later(self) -> None:
        """Close it without waiting for the server; a second call does nothing."""
        if not self._closed:
            self._closed = True
            if self._handle.epoch == self._tree.epoch:
                self._tree.connection.close_later(self._handle.file_id, self._tree.batch)


class _Listing:
    """How the entries are asked for, and the replies that came with the open."""

    def __init__(self, what: str, pattern: str, room: int) -> None:
        self.what = what
        self.first: Sequence[Reply] = ()
        self._pattern = pattern
        self._room = self._most = room

    async def open(self, tree: Tree, create: CreateRequest) -> CreateResponse:
        """Open the folder and ask for its first entries."""
        opened, *self.first = await self._ask(tree, FILE_ID_RELATED, create)
        return CreateResponse.decode_untrusted(opened.message)

    def taken_after(self, seconds: float) -> None:
        """A batch has lain here for so long: the next one is as large as can be taken in time."""
        self._room = _next_room(self._room, seconds, self._most)

    async def ask(self, tree: Tree, handle: Handle) -> list[Reply]:
        """The next entries."""
        return await self._ask(tree, handle.file_id, handle=handle)

    async def _ask(
        self, tree: Tree, file_id: FileId, *before: CreateRequest, handle: Handle | None = None
    ) -> list[Reply]:
        """Ask with room for many, with less where the server's credits do not pay for it."""
        second = self._query(file_id, _SECOND_ROOM)
        while True:
            fits = min(self._room, tree.connection.room_beside(2))
            requests: list[Request] = [*before, self._query(file_id, fits), second]
            try:
                return await tree.exchange(*requests, what=self.what, passes=_FINISHED, handle=handle)
            except CreditShortage:
                # The server may have lowered its grants since `fits` was reckoned.
                if tree.connection.room_beside(2) >= fits:
                    raise

    def _query(self, file_id: FileId, room: int) -> QueryDirectoryRequest:
        return QueryDirectoryRequest(
            file_information_class=_CLASS, file_id=file_id, output_buffer_length=room, pattern=self._pattern
        )


def _next_room(room: int, lay: float, most: int) -> int:
    """How much to ask for after a batch of `room` bytes that lay for so many seconds."""
    factor = 2.0 if lay <= _LIES_SECONDS / 2 else _LIES_SECONDS / lay
    return min(max(int(room * factor), _LEAST_ROOM), most)


async def open_folder(
    tree: Tree, path: str, pattern: str, max_transact: int, lease: Lease | None = None
) -> Folder:
    """Open a folder, under `lease` if given, and read its first entries (one round trip)."""
    with tree.claim(lease, is_folder=True) as claim:
        create = _opening(path, claim.oplock_level, (*claim.contexts, QueryOnDiskIdRequest()))
        listing = _Listing(f"list {path or 'the share'}", pattern, min(_BATCH_ROOM, max_transact))
        response = await listing.open(tree, create)
        try:
            is_leased = claim.settle(response)
            stat = stat_of_created(response)
        except RemoteProtocolError:
            tree.connection.close_later(response.file_id, tree.batch)
            raise
        handle = Handle(response.file_id, tree.epoch, path)
        return Folder(tree, path, handle, stat, lease if is_leased else None, listing)


def _opening(
    path: str, level: int = OplockLevel.NONE, contexts: Sequence[CreateContext] = ()
) -> CreateRequest:
    return CreateRequest(
        requested_oplock_level=level,
        desired_access=Access.LIST_DIRECTORY | Access.READ_ATTRIBUTES,
        create_options=CreateOptions.DIRECTORY_FILE,
        name=path,
        contexts=contexts,
    )


def _entries(reply: Reply) -> list[DirectoryEntry]:
    buffer = memoryview(QueryDirectoryResponse.decode_untrusted(reply.message).buffer)
    records = decode_directory_untrusted(_CLASS, buffer)
    return [entry_from_listing(record) for record in records if record.file_name not in (".", "..")]
