"""Server-side copy: the data never leaves the server ([MS-SMB2] 3.2.4.17, 3.3.5.15.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine import ntstatus
from engine.client.file import File
from engine.client.tree import Tree
from engine.errors import RemoteProtocolError, error_from_status
from engine.wire.constants import IoctlFlags
from engine.wire.io import IoctlRequest, IoctlResponse
from engine.wire.ioctl import (
    CopyChunk,
    CopyChunkRequest,
    CopyChunkResponse,
    FsctlCode,
    ResumeKeyResponse,
)

_CHUNK: Final = 1024 * 1024
_CHUNKS: Final = 16
"""The limits that every server starts from; one that has others says so and is obeyed."""

_RESUME_KEY_ROOM: Final = 32
_RESPONSE_ROOM: Final = 12


@dataclass(slots=True)
class _Limits:
    chunk: int = _CHUNK
    chunks: int = _CHUNKS


async def copy_data(tree: Tree, source: File, target: File, size: int) -> int:
    """Copy the first `size` bytes of `source` into `target`; returns how many there were.

    Raises `NtStatusError`, `NotSupported` among them, after which `target` may hold a part.
    """
    what = f"copy {source.path} to {target.path}"
    key_output = await source.ioctl(FsctlCode.SRV_REQUEST_RESUME_KEY, room=_RESUME_KEY_ROOM)
    key = ResumeKeyResponse.decode_untrusted(key_output).resume_key
    limits = _Limits()
    done = 0
    while done < size:
        done += await _copy_some(tree, key, target, done, size, limits, what)
    return done


async def _copy_some(
    tree: Tree, key: bytes, target: File, start: int, size: int, limits: _Limits, what: str
) -> int:
    chunks = _chunks(start, size, limits)
    (reply,) = await tree.exchange(
        IoctlRequest(
            ctl_code=FsctlCode.SRV_COPYCHUNK_WRITE,
            file_id=target.file_id,
            input=CopyChunkRequest(source_key=key, chunks=chunks).encode(),
            max_output_response=_RESPONSE_ROOM,
            flags=IoctlFlags.IS_FSCTL,
        ),
        what=what,
        passes=(ntstatus.STATUS_INVALID_PARAMETER,),
    )
    output = memoryview(IoctlResponse.decode_untrusted(reply.message).output)
    if reply.header.status == ntstatus.STATUS_INVALID_PARAMETER:
        _adopt(limits, CopyChunkResponse.decode_untrusted(output), what)
        return 0
    written = CopyChunkResponse.decode_untrusted(output).total_bytes_written
    if not 0 < written <= sum(chunk.length for chunk in chunks):
        raise RemoteProtocolError(f"{what}: the server says that it copied {written} bytes")
    return written


def _chunks(start: int, size: int, limits: _Limits) -> list[CopyChunk]:
    end = min(size, start + limits.chunk * limits.chunks)
    return [
        CopyChunk(source_offset=at, target_offset=at, length=min(limits.chunk, end - at))
        for at in range(start, end, limits.chunk)
    ]


def _adopt(limits: _Limits, said: CopyChunkResponse, what: str) -> None:
    """A server refuses chunks beyond its limits and tells them ([MS-SMB2] 3.3.5.15.6.2)."""
    chunk = min(said.chunk_bytes_written, said.total_bytes_written, limits.chunk)
    chunks = min(said.chunks_written, limits.chunks, said.total_bytes_written // chunk if chunk else 0)
    if not chunks or (chunks, chunk) == (limits.chunks, limits.chunk):
        raise error_from_status(ntstatus.STATUS_INVALID_PARAMETER, what)
    limits.chunks, limits.chunk = chunks, chunk
