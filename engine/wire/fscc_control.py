"""Payloads of the file system controls about ranges of a file ([MS-FSCC] 2.3).

Offsets and lengths are bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple, Self

from engine.errors import RemoteProtocolError
from engine.wire.primitives import FileId, slice_checked, unpack_checked

_OFFSET_MAX: Final = (1 << 63) - 1


@dataclass(slots=True)
class SetSparseRequest:
    """FSCTL_SET_SPARSE: make the file sparse or whole ([MS-FSCC] 2.3); no buffer at all means sparse."""

    set_sparse: bool = True

    def encode(self) -> bytes:
        return bytes((self.set_sparse,))

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(not len(view) or bool(view[0]))


@dataclass(slots=True)
class SetZeroDataRequest:
    """FSCTL_SET_ZERO_DATA: zero the bytes from `file_offset` up to `beyond_final_zero` ([MS-FSCC] 2.3)."""

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<qq")

    file_offset: int
    beyond_final_zero: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.file_offset, self.beyond_final_zero)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FSCTL_SET_ZERO_DATA"))


class AllocatedRange(NamedTuple):
    """FILE_ALLOCATED_RANGE_BUFFER ([MS-FSCC] 2.3); one is FSCTL_QUERY_ALLOCATED_RANGES' input."""

    file_offset: int
    length: int


_RANGE: Final = struct.Struct("<qq")


def encode_allocated_ranges(ranges: Iterable[AllocatedRange]) -> bytes:
    """Encode FSCTL_QUERY_ALLOCATED_RANGES' input (one range) or output (any number)."""
    return b"".join(_RANGE.pack(*range_) for range_ in ranges)


def decode_allocated_ranges_untrusted(view: memoryview) -> list[AllocatedRange]:
    """Decode FSCTL_QUERY_ALLOCATED_RANGES' input or output; no range starts or ends outside 0 … 2^63−1."""
    if len(view) % _RANGE.size:
        raise RemoteProtocolError(f"allocated ranges in {len(view)} bytes, not a multiple of {_RANGE.size}")
    ranges = [AllocatedRange(*fields) for fields in _RANGE.iter_unpack(view)]
    for offset, length in ranges:
        if offset < 0 or length < 0 or offset + length > _OFFSET_MAX:
            raise RemoteProtocolError(f"allocated range of {length} bytes at {offset}")
    return ranges


class TrimRange(NamedTuple):
    """FILE_LEVEL_TRIM_RANGE ([MS-FSCC] 2.3)."""

    offset: int
    length: int


@dataclass(slots=True)
class FileLevelTrimRequest:
    """FSCTL_FILE_LEVEL_TRIM: these ranges are not needed any more ([MS-FSCC] 2.3); the key is always 0."""

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<4xI")
    _RANGE: ClassVar[struct.Struct] = struct.Struct("<QQ")

    ranges: Sequence[TrimRange]

    def encode(self) -> bytes:
        return self._LAYOUT.pack(len(self.ranges)) + b"".join(self._RANGE.pack(*item) for item in self.ranges)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "FSCTL_FILE_LEVEL_TRIM"
        (count,) = unpack_checked(cls._LAYOUT, view, 0, what)
        inside = slice_checked(view, cls._LAYOUT.size, count * cls._RANGE.size, what)
        return cls(tuple(TrimRange(*fields) for fields in cls._RANGE.iter_unpack(inside)))


@dataclass(slots=True)
class FileLevelTrimResponse:
    """How many of the ranges were trimmed ([MS-FSCC] 2.3)."""

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")

    num_ranges_processed: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.num_ranges_processed)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FSCTL_FILE_LEVEL_TRIM reply"))


@dataclass(slots=True)
class DuplicateExtentsRequest:
    """FSCTL_DUPLICATE_EXTENTS_TO_FILE: share clusters between two files of a volume ([MS-FSCC] 2.3)."""

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQqqq")

    source_file_id: FileId
    source_file_offset: int
    target_file_offset: int
    byte_count: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(
            *self.source_file_id, self.source_file_offset, self.target_file_offset, self.byte_count
        )

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "FSCTL_DUPLICATE_EXTENTS_TO_FILE"
        persistent, volatile, source, target, count = unpack_checked(cls._LAYOUT, view, 0, what)
        return cls(FileId(persistent, volatile), source, target, count)
