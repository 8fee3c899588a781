"""The file system controls of the fake server ([MS-SMB2] 3.3.5.15, [MS-FSCC] 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, NamedTuple, Protocol

from engine import ntstatus
from engine.wire.dfs import DfsReferralRequest, DfsReferralRequestEx, DfsReferralResponse
from engine.wire.fscc_control import (
    AllocatedRange,
    SetZeroDataRequest,
    decode_allocated_ranges_untrusted,
    encode_allocated_ranges,
)
from engine.wire.ioctl import (
    CopyChunkRequest,
    CopyChunkResponse,
    FsctlCode,
    NetworkInterfaceInfo,
    ResumeKeyResponse,
    SnapshotsResponse,
    encode_network_interfaces,
)
from engine.wire.primitives import FileId

_BLOCK: Final = 4096
_PIPE_ROOM: Final = 65536


class Refused(Exception):
    """The request fails with this NTSTATUS; the answer to an IOCTL or READ has `output` all the same."""

    def __init__(self, status: int, output: bytes | None = None) -> None:
        super().__init__(ntstatus.lookup(status).name)
        self.status = status
        self.output = output


class CopyLimits(NamedTuple):
    """What one SRV_COPYCHUNK may ask for ([MS-SMB2] 3.3.3)."""

    chunks: int = 16
    chunk: int = 1 << 20
    total: int = 16 << 20


class Content(Protocol):
    """As much of a file as controls need."""

    file_id: int
    data: bytearray
    reparse: bytes


@dataclass
class Controls:
    """How the server answers controls; tests change it."""

    copy_limits: CopyLimits = field(default_factory=CopyLimits)
    tells_copy_limits: bool = True
    """Whether the refusal of a copy holds the limits, or is nothing but an error."""
    copy_at_most: int | None = None
    """Bytes that one request copies at most, without a word that more was asked for."""
    copy_claims: int | None = None
    """Bytes that the server says it copied, whatever it did."""
    ranges_at_once: int = 1000
    """Allocated ranges that one answer holds."""
    tells_partial_ranges: bool = True
    """Whether an answer that is too long is cut, or is nothing but an error."""
    snapshots: list[str] = field(default_factory=list)
    referrals: dict[str, DfsReferralResponse] = field(default_factory=dict)
    """By the name that is asked for, behind the site and a colon where a site is named."""
    interfaces: list[NetworkInterfaceInfo] = field(default_factory=list)
    answers_pipe: list[bytes] = field(default_factory=list)
    """What the next transactions of a pipe are answered with."""
    on_control: Callable[[FileId, int, memoryview], bytes | None] | None = None
    """Asked first about each control on an open file; None = answered as usual."""
    refusal: tuple[int, bytes | None] | None = None
    """The status of every control, and its output all the same."""

    def answer_tree(self, code: int, data: memoryview) -> bytes:
        """The output of a control that needs no file; raises `Refused`."""
        self._refuse()
        match code:
            case FsctlCode.DFS_GET_REFERRALS:
                return self._referral(DfsReferralRequest.decode_untrusted(data).request_file_name)
            case FsctlCode.DFS_GET_REFERRALS_EX:
                asked = DfsReferralRequestEx.decode_untrusted(data)
                return self._referral(f"{asked.site_name}:{asked.request_file_name}")
            case FsctlCode.QUERY_NETWORK_INTERFACE_INFO:
                return encode_network_interfaces(self.interfaces)
            case _:
                raise Refused(ntstatus.STATUS_NOT_SUPPORTED)

    def _refuse(self) -> None:
        if self.refusal is not None:
            raise Refused(*self.refusal)

    def _referral(self, name: str) -> bytes:
        if name not in self.referrals:
            raise Refused(ntstatus.STATUS_NOT_FOUND)
        return self.referrals[name].encode()

    def answer(self, code: int, data: memoryview, node: Content, opened: Iterable[Content]) -> bytes:
        """The output of a control on `node`; raises `Refused`. `opened` are all files that are open."""
        self._refuse()
        match code:
            case FsctlCode.SRV_REQUEST_RESUME_KEY:
                return ResumeKeyResponse(node.file_id.to_bytes(24, "little")).encode()
            case FsctlCode.SRV_COPYCHUNK_WRITE:
                return self._copy_chunks(node, CopyChunkRequest.decode_untrusted(data), opened)
            case FsctlCode.SET_SPARSE:
                return b""
            case FsctlCode.SET_ZERO_DATA:
                zero = SetZeroDataRequest.decode_untrusted(data)
                size = zero.beyond_final_zero - zero.file_offset
                node.data[zero.file_offset : zero.beyond_final_zero] = bytes(size)
                return b""
            case FsctlCode.QUERY_ALLOCATED_RANGES:
                (asked,) = decode_allocated_ranges_untrusted(data)
                return self._ranges(node, asked)
            case FsctlCode.SRV_ENUMERATE_SNAPSHOTS:
                return SnapshotsResponse(self.snapshots).encode()
            case FsctlCode.GET_REPARSE_POINT | FsctlCode.SET_REPARSE_POINT | FsctlCode.DELETE_REPARSE_POINT:
                return self._reparse(code, bytes(data), node)
            case FsctlCode.PIPE_TRANSCEIVE:
                return self._transceive(bytes(data), node)
            case _:
                raise Refused(ntstatus.STATUS_NOT_SUPPORTED)

    @staticmethod
    def _reparse(code: int, data: bytes, node: Content) -> bytes:
        """[MS-FSA] 2.1.5.10.37 and the sections about its two sisters."""
        if code == FsctlCode.SET_REPARSE_POINT:
            if node.reparse and node.reparse[:4] != data[:4]:
                raise Refused(ntstatus.STATUS_IO_REPARSE_TAG_MISMATCH)
            node.reparse = data
            return b""
        if not node.reparse:
            raise Refused(ntstatus.STATUS_NOT_A_REPARSE_POINT)
        if code == FsctlCode.GET_REPARSE_POINT:
            return node.reparse
        if node.reparse[:4] != data[:4]:
            raise Refused(ntstatus.STATUS_IO_REPARSE_TAG_MISMATCH)
        node.reparse = b""
        return b""

    def _transceive(self, data: bytes, pipe: Content) -> bytes:
        """What does not fit stays in the pipe, for READ ([MS-SMB2] 3.3.5.15.3)."""
        answer = self.answers_pipe.pop(0) if self.answers_pipe else data
        if len(answer) <= _PIPE_ROOM:
            return answer
        pipe.data[:] = answer[_PIPE_ROOM:]
        raise Refused(ntstatus.STATUS_BUFFER_OVERFLOW, answer[:_PIPE_ROOM])

    def _copy_chunks(self, target: Content, request: CopyChunkRequest, opened: Iterable[Content]) -> bytes:
        lengths = [chunk.length for chunk in request.chunks]
        limits = self.copy_limits
        if len(lengths) > limits.chunks or max(lengths) > limits.chunk or sum(lengths) > limits.total:
            told = CopyChunkResponse(*limits).encode() if self.tells_copy_limits else None
            raise Refused(ntstatus.STATUS_INVALID_PARAMETER, told)
        number = int.from_bytes(request.source_key, "little")
        source = next(node for node in opened if node.file_id == number)
        done = 0
        for chunk in request.chunks:
            room = chunk.length if self.copy_at_most is None else self.copy_at_most - done
            piece = source.data[chunk.source_offset : chunk.source_offset + min(chunk.length, room)]
            target.data.extend(bytes(max(0, chunk.target_offset - len(target.data))))
            target.data[chunk.target_offset : chunk.target_offset + len(piece)] = piece
            done += len(piece)
        if self.copy_claims is not None:
            done = self.copy_claims
        return CopyChunkResponse(len(lengths), 0, done).encode()

    def _ranges(self, node: Content, asked: AllocatedRange) -> bytes:
        end = min(asked.file_offset + asked.length, len(node.data))
        blocks = range(asked.file_offset // _BLOCK, -(-end // _BLOCK))
        found = []
        for is_used, run in groupby(
            blocks, lambda block: any(node.data[block * _BLOCK : (block + 1) * _BLOCK])
        ):
            numbers = list(run)
            first = max(numbers[0] * _BLOCK, asked.file_offset)
            if is_used:
                found.append(AllocatedRange(first, min((numbers[-1] + 1) * _BLOCK, end) - first))
        if len(found) <= self.ranges_at_once:
            return encode_allocated_ranges(found)
        if self.tells_partial_ranges:
            output = encode_allocated_ranges(found[: self.ranges_at_once])
            raise Refused(ntstatus.STATUS_BUFFER_OVERFLOW, output)
        raise Refused(ntstatus.STATUS_BUFFER_TOO_SMALL)
