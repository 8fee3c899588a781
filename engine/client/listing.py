"""Directory listings: opened and read in one round trip, large buffers, attributes included."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

import trio

from engine import ntstatus
from engine.client.stat import DirectoryEntry, entry_from_listing
from engine.client.tree import Tree
from engine.proto.credits import CreditShortage
from engine.proto.inflight import Reply, Request
from engine.wire.constants import Access, CreateOptions
from engine.wire.create import CreateRequest, CreateResponse
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


async def scan(
    tree: Tree, path: str, pattern: str, max_transact: int
) -> AsyncGenerator[list[DirectoryEntry], None]:
    """List a folder in batches, without "." and ".."; wrap it in `contextlib.aclosing`.

    A folder whose entries fit into one reply costs one round trip, each further reply one more: the end
    is found in the round trip that brings the last entries. Who takes batches slowly gets small ones.
    Raises `NtStatusError`.
    """
    what = f"list {path or 'the share'}"
    room = most = min(_BATCH_ROOM, max_transact)
    create = CreateRequest(
        desired_access=Access.LIST_DIRECTORY | Access.READ_ATTRIBUTES,
        create_options=CreateOptions.DIRECTORY_FILE,
        name=path,
    )
    second = _query(FILE_ID_RELATED, pattern, _SECOND_ROOM)
    opened, *queries = await _ask(
        tree, what, room, lambda fits: (create, _query(FILE_ID_RELATED, pattern, fits), second)
    )
    file_id = CreateResponse.decode_untrusted(opened.message).file_id
    try:
        while True:
            # One batch per round trip: who takes one can ask for the next, which then really is on its way.
            full = [reply for reply in queries if reply.header.status not in _FINISHED]
            given = trio.current_time()
            yield [entry for reply in full for entry in _entries(reply)]
            room = _next_room(room, trio.current_time() - given, most)
            if len(full) < len(queries):
                return
            queries = await _ask(
                tree,
                what,
                room,
                lambda fits: (_query(file_id, pattern, fits), _query(file_id, pattern, _SECOND_ROOM)),
            )
    finally:
        tree.connection.close_later(file_id, tree.batch)


def _next_room(room: int, lay: float, most: int) -> int:
    """How much to ask for after a batch of `room` bytes that lay for so many seconds."""
    factor = 2.0 if lay <= _LIES_SECONDS / 2 else _LIES_SECONDS / lay
    return min(max(int(room * factor), _LEAST_ROOM), most)


async def _ask(
    tree: Tree, what: str, room: int, requests: Callable[[int], Sequence[Request]]
) -> list[Reply]:
    """Ask with `room` bytes for the reply, with fewer where the server's credits do not pay for them."""
    while True:
        fits = min(room, tree.connection.room_beside(2))
        try:
            return await tree.exchange(*requests(fits), what=what, passes=_FINISHED)
        except CreditShortage:
            # The server may have lowered its grants since `fits` was reckoned.
            if tree.connection.room_beside(2) >= fits:
                raise


def _query(file_id: FileId, pattern: str, room: int) -> QueryDirectoryRequest:
    return QueryDirectoryRequest(
        file_information_class=_CLASS, file_id=file_id, output_buffer_length=room, pattern=pattern
    )


def _entries(reply: Reply) -> list[DirectoryEntry]:
    buffer = memoryview(QueryDirectoryResponse.decode_untrusted(reply.message).buffer)
    records = decode_directory_untrusted(_CLASS, buffer)
    return [entry_from_listing(record) for record in records if record.file_name not in (".", "..")]


