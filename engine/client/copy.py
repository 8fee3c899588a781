"""Server-side copy: the data never leaves the server ([MS-SMB2] 3.2.4.17, 3.3.5.15.6).

A target in the making is marked for deletion from the request that creates it to the one that follows
its last byte. So whatever ends a copy on the way (a refusal, a cancellation, a lost connection, the end of
this process), the server itself removes the part that there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import trio

from engine import ntstatus
from engine.client.attributes import set_info
from engine.client.file import File
from engine.client.handles import Handle
from engine.client.tree import Tree
from engine.errors import RemoteProtocolError, SmbError, error_from_status
from engine.proto.inflight import Reply
from engine.wire.constants import (
    SHARE_ALL,
    Access,
    CreateOptions,
    Disposition,
    FileAttributes,
    IoctlFlags,
)
from engine.wire.create import CloseRequest, CreateRequest, CreateResponse
from engine.wire.fscc_set import FileDispositionInformation
from engine.wire.io import IoctlRequest, IoctlResponse
from engine.wire.ioctl import (
    CopyChunk,
    CopyChunkRequest,
    CopyChunkResponse,
    FsctlCode,
    ResumeKeyResponse,
)
from engine.wire.primitives import FILE_ID_RELATED

Progress = Callable[[int, int], None]
"""Told the bytes copied so far and all there are to copy, after each answer of the server."""

_CHUNK: Final = 1024 * 1024
_CHUNKS: Final = 16
"""The limits that every server starts from; one that has others says so and is obeyed."""
_SPAN: Final = _CHUNK * _CHUNKS

_IN_FLIGHT: Final = 4
"""Requests under way at once: 64 MiB hide the round trip, and a slow disk still finishes one in time."""

_RESUME_KEY_ROOM: Final = 32
_RESPONSE_ROOM: Final = 12


class _Limits(NamedTuple):
    """What one request may ask for: bytes per chunk, and chunks."""

    chunk: int = _CHUNK
    chunks: int = _CHUNKS


async def copy_new(tree: Tree, source: File, target: str, progress: Progress | None) -> int:
    """Copy all of `source` into the new file `target`; returns how many bytes that are.

    Raises `AlreadyExists`, and `NotSupported` where the server cannot. Cancelled or refused, it leaves
    no target, or a whole one if that was already on its way.
    """
    size = source.stat.size
    handle = await _create_marked(tree, target)
    try:
        if size:
            await _fill(tree, source, handle, progress)
        unmark = set_info(FileDispositionInformation(delete_pending=False), handle.file_id)
        await tree.exchange(
            unmark, CloseRequest(file_id=handle.file_id), what=f"keep {target}", handle=handle
        )
    except BaseException:
        # The file goes with its handle. Should it be closed already, this CLOSE is in vain.
        if handle.epoch == tree.epoch:
            tree.connection.close_later(handle.file_id, tree.batch)
        raise
    return size


async def _create_marked(tree: Tree, path: str) -> Handle:
    """Make a file that is deleted when it is closed, unless the mark is taken off it before."""
    create = CreateRequest(
        desired_access=Access.READ | Access.WRITE | Access.DELETE,
        file_attributes=FileAttributes.NORMAL,
        share_access=SHARE_ALL,
        create_disposition=Disposition.CREATE,
        create_options=CreateOptions.NON_DIRECTORY_FILE,
        name=path,
    )
    mark = set_info(FileDispositionInformation(), FILE_ID_RELATED)
    created, _ = await tree.exchange(create, mark, what=f"make {path}")
    return Handle(CreateResponse.decode_untrusted(created.message).file_id, tree.epoch, path)


async def _fill(tree: Tree, source: File, target: Handle, progress: Progress | None) -> None:
    output = await source.ioctl(FsctlCode.SRV_REQUEST_RESUME_KEY, room=_RESUME_KEY_ROOM)
    key = ResumeKeyResponse.decode_untrusted(output).resume_key
    what = f"copy {source.path} to {target.path}"
    copying = _Copying(tree, key, target, source.stat.size, what, progress)
    async with trio.open_nursery() as nursery:
        for _ in range(_IN_FLIGHT):
            nursery.start_soon(copying.work, nursery.cancel_scope)
    if copying.error is not None:
        raise copying.error


class _Copying:
    """One copy under way.

    Invariant: each span is one worker's; `done` counts the bytes that the server said it wrote.
    """

    def __init__(
        self, tree: Tree, key: bytes, target: Handle, size: int, what: str, progress: Progress | None
    ) -> None:
        self.error: SmbError | None = None
        self._tree = tree
        self._key = key
        self._target = target
        self._what = what
        self._size = size
        self._progress = progress
        self._spans: Iterator[int] = iter(range(0, size, _SPAN))
        self._limits = _Limits()
        self._done = 0

    async def work(self, all_workers: trio.CancelScope) -> None:
        """Copy spans until none is left; the first error stops all workers."""
        try:
            for start in self._spans:
                end = min(start + _SPAN, self._size)
                while start < end:
                    start += await self._copy_some(start, end)
        except SmbError as error:
            self.error = self.error or error
            all_workers.cancel()

    async def _copy_some(self, start: int, end: int) -> int:
        """One request; the bytes that it copied from `start` on, 0 if the server has smaller limits."""
        limits = self._limits
        chunks = _chunks(start, end, limits)
        (reply,) = await self._tree.exchange(
            IoctlRequest(
                ctl_code=FsctlCode.SRV_COPYCHUNK_WRITE,
                file_id=self._target.file_id,
                input=CopyChunkRequest(source_key=self._key, chunks=chunks).encode(),
                max_output_response=_RESPONSE_ROOM,
                flags=IoctlFlags.IS_FSCTL,
            ),
            what=self._what,
            passes=(ntstatus.STATUS_INVALID_PARAMETER,),
            handle=self._target,
        )
        if reply.header.status == ntstatus.STATUS_INVALID_PARAMETER:
            self._adopt(reply, limits)
            return 0
        written = _response(reply).total_bytes_written
        if not 0 < written <= sum(chunk.length for chunk in chunks):
            raise RemoteProtocolError(f"{self._what}: the server says that it copied {written} bytes")
        self._done += written
        if self._progress is not None:
            self._progress(self._done, self._size)
        return written

    def _adopt(self, reply: Reply, used: _Limits) -> None:
        """A server refuses chunks beyond its limits and tells them ([MS-SMB2] 3.3.5.15.6.2).

        Raises `InvalidParameter` if it cannot have been the limits `used` that it refused.
        """
        allowed = _allowed(reply)
        chunk = min(allowed.chunk, used.chunk)
        chunks = min(allowed.chunks, used.chunks)
        if not chunk or not chunks or (chunk, chunks) == used:
            raise error_from_status(ntstatus.STATUS_INVALID_PARAMETER, self._what)
        # Another request's answer may have made them smaller meanwhile.
        self._limits = _Limits(min(chunk, self._limits.chunk), min(chunks, self._limits.chunks))


def _allowed(reply: Reply) -> _Limits:
    """The limits in a refusal; none at all where it does not tell them, but is a mere error."""
    try:
        said = _response(reply)
    except RemoteProtocolError:
        return _Limits(0, 0)
    chunk = min(said.chunk_bytes_written, said.total_bytes_written)
    return _Limits(chunk, min(said.chunks_written, said.total_bytes_written // chunk if chunk else 0))


def _response(reply: Reply) -> CopyChunkResponse:
    output = memoryview(IoctlResponse.decode_untrusted(reply.message).output)
    return CopyChunkResponse.decode_untrusted(output)


def _chunks(start: int, end: int, limits: _Limits) -> list[CopyChunk]:
    end = min(end, start + limits.chunk * limits.chunks)
    return [
        CopyChunk(source_offset=at, target_offset=at, length=min(limits.chunk, end - at))
        for at in range(start, end, limits.chunk)
    ]
