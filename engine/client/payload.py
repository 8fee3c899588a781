"""Reads and writes of any size: cut to what the server takes, several in flight, put together again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Final

import trio

from engine import ntstatus
from engine.client.handles import Handle
from engine.client.tree import ATTEMPTS, REVIVALS, Tree
from engine.errors import RemoteProtocolError, SmbError, error_from_status
from engine.proto.inflight import Reply, Request
from engine.wire.io import ReadRequest, ReadResponse, WriteRequest, WriteResponse
from engine.wire.primitives import Buffer

_IN_FLIGHT: Final = 16
"""Pieces of one large read or write under way at once; credits bound them further."""

_READ: Final = (ntstatus.STATUS_SUCCESS, ntstatus.STATUS_BUFFER_OVERFLOW, ntstatus.STATUS_END_OF_FILE)
_WRITTEN: Final = (ntstatus.STATUS_SUCCESS,)

_EMPTY: Final = memoryview(b"")


async def read_once(tree: Tree, handle: Handle, offset: int, length: int, what: str) -> memoryview:
    """One READ of at most `length` bytes, fewer where credits are few; empty at the end of the file."""

    def request(length: int) -> Request:
        return ReadRequest(length=length, offset=offset, file_id=handle.file_id)

    reply, length = await _transfer(tree, handle, length, request, what, _READ)
    if reply.header.status == ntstatus.STATUS_END_OF_FILE:
        return _EMPTY
    data = ReadResponse.decode_untrusted(reply.message).data
    if len(data) > length:
        raise RemoteProtocolError(f"the server sent {len(data)} bytes where {length} were asked for")
    return memoryview(data)


async def write_once(tree: Tree, handle: Handle, offset: int, data: memoryview, what: str) -> int:
    """One WRITE of the beginning of `data`; returns how many bytes the server took, at least one."""

    def request(length: int) -> Request:
        return WriteRequest(data=data[:length], offset=offset, file_id=handle.file_id)

    reply, length = await _transfer(tree, handle, len(data), request, what, _WRITTEN)
    count = WriteResponse.decode_untrusted(reply.message).count
    if not 0 < count <= length:
        raise RemoteProtocolError(f"the server says it wrote {count} of {length} bytes")
    return count


async def _transfer(
    tree: Tree,
    handle: Handle,
    length: int,
    request: Callable[[int], Request],
    what: str,
    passes: Collection[int],
) -> tuple[Reply, int]:
    """Send `request(n)`, on as many connections as it takes; its reply, and the n credits paid for."""
    revivals = 0
    for attempt in range(ATTEMPTS):
        connection, batch = await tree.ready(handle), tree.batch
        try:
            paid = await connection.claim_payload(length)
            reply = await connection.exchange_claimed(request(paid), batch)
        except SmbError as error:
            tree.give_way(error, connection, repeatable=True)
            if attempt == ATTEMPTS - 1:
                raise
            continue
        if reply.header.status in passes:
            return reply, paid
        refusal = error_from_status(reply.header.status, what)
        if revivals == REVIVALS or not await tree.revive(refusal, connection, handle):
            raise refusal
        revivals += 1
    raise AssertionError("the last attempt returns or raises")


async def read(tree: Tree, handle: Handle, offset: int, length: int, limit: int, what: str) -> memoryview:
    """Read up to `length` bytes at `offset`; fewer only at the end of the file.

    Up to `limit` bytes come without a copy, as a view into the buffer they were received in.
    """
    if length <= limit:
        data = await read_once(tree, handle, offset, length, what)
        if len(data) == length or not data:
            return data
        return await _read_rest(tree, handle, offset, length, data, what)
    whole = memoryview(bytearray(length))
    ends = await _pipelined(
        [(start, min(start + limit, length)) for start in range(0, length, limit)],
        lambda start, end: _read_piece(tree, handle, offset, whole[start:end], start, what),
    )
    for end, wanted in ends:
        if end < wanted:
            return whole[:end]
    return whole


async def _read_rest(
    tree: Tree, handle: Handle, offset: int, length: int, first: memoryview, what: str
) -> memoryview:
    whole = memoryview(bytearray(length))
    whole[: len(first)] = first
    got = await _fill(tree, handle, offset, whole, len(first), what)
    return whole[:got]


async def _fill(tree: Tree, handle: Handle, offset: int, room: memoryview, got: int, what: str) -> int:
    while got < len(room):
        data = await read_once(tree, handle, offset + got, len(room) - got, what)
        if not data:
            break
        room[got : got + len(data)] = data
        got += len(data)
    return got


async def _read_piece(
    tree: Tree, handle: Handle, offset: int, room: memoryview, start: int, what: str
) -> tuple[int, int]:
    got = await _fill(tree, handle, offset + start, room, 0, what)
    return start + got, start + len(room)


async def write(tree: Tree, handle: Handle, offset: int, data: Buffer, limit: int, what: str) -> int:
    """Write all of `data` at `offset`; returns its length. On an error any part may have been written."""
    view = memoryview(data)
    length = len(view)
    if length <= limit:
        await _write_piece(tree, handle, offset, view, what)
        return length
    await _pipelined(
        [(start, min(start + limit, length)) for start in range(0, length, limit)],
        lambda start, end: _write_piece(tree, handle, offset + start, view[start:end], what),
    )
    return length


async def _write_piece(
    tree: Tree, handle: Handle, offset: int, view: memoryview, what: str
) -> tuple[int, int]:
    written = 0
    while written < len(view):
        written += await write_once(tree, handle, offset + written, view[written:], what)
    return written, written


async def _pipelined(
    spans: list[tuple[int, int]], work: Callable[[int, int], Awaitable[tuple[int, int]]]
) -> list[tuple[int, int]]:
    """Run `work` for every span, `_IN_FLIGHT` at once; the error of the first span that failed is raised.

    After an error none is begun, and those under way are waited for: a cancelled WRITE may still take effect,
    and then undo one that is sent after this returned.
    """
    results: list[tuple[int, int] | SmbError | None] = [None] * len(spans)
    pending = iter(range(len(spans)))
    failed = False

    async def worker() -> None:
        nonlocal failed
        for index in pending:
            try:
                results[index] = await work(*spans[index])
            except SmbError as error:
                results[index] = error
                failed = True
            if failed:
                return

    async with trio.open_nursery() as nursery:
        for _ in range(min(_IN_FLIGHT, len(spans))):
            nursery.start_soon(worker)
    done: list[tuple[int, int]] = []
    for result in results:
        if isinstance(result, SmbError):
            raise result
        if result is not None:
            done.append(result)
    return done
