"""What every codec is built from: checked slices, UTF-16 names, padding, times, buffers.

Every offset and length that came from the network goes through `slice_checked`, so a decoder can
only ever raise `RemoteProtocolError`.
"""

from __future__ import annotations

import struct
import uuid
from typing import Final, NamedTuple, Self, TypeAlias

from engine.errors import LocalProtocolError, RemoteProtocolError

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Anything whose bytes can be sent."""

SMB2_HEADER_SIZE: Final = 64
"""Offsets in message bodies count from the start of the SMB2 header, so bodies start here."""

_FILETIME_EPOCH_IN_NS: Final = 11_644_473_600 * 10**9
"""From 1601-01-01 to 1970-01-01, both UTC ([MS-DTYP] 2.3.3)."""

_FILETIME_MAX: Final = (1 << 63) - 1
"""Servers take FILETIME as a signed number; its negative values have special meanings ([MS-FSCC] 2.4.7)."""

_EMPTY: Final = struct.Struct("<HH")


class FileId(NamedTuple):
    """A server's name for an open file, SMB2_FILEID ([MS-SMB2] 2.2.14.1)."""

    persistent: int
    volatile: int


FILE_ID_RELATED: Final = FileId(0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
"""In a related compound: the file that the request before this one opened or used ([MS-SMB2] 3.2.4.1.4)."""


def slice_checked(view: memoryview, offset: int, length: int, what: str) -> memoryview:
    """Return `view[offset:offset + length]`; raise `RemoteProtocolError` naming `what` if it sticks out."""
    end = offset + length
    if offset < 0 or length < 0 or end > len(view):
        raise RemoteProtocolError(f"{what}: bytes {offset}..{end} lie outside the {len(view)} received")
    return view[offset:end]


def unpack_checked(layout: struct.Struct, view: memoryview, offset: int, what: str) -> tuple[int, ...]:
    """Unpack a layout that holds integers only; raise `RemoteProtocolError` if `view` is too short for it."""
    if offset < 0 or offset + layout.size > len(view):
        raise RemoteProtocolError(f"{what}: {layout.size} bytes at {offset} do not fit in {len(view)}")
    return layout.unpack_from(view, offset)


def unpack_body(
    layout: struct.Struct, message: memoryview, structure_size: int, what: str
) -> tuple[int, ...]:
    """Unpack the fixed part of a body, integers only, from a message that starts at the SMB2 header.

    The first field is StructureSize; raise `RemoteProtocolError` if it is not `structure_size` or the
    message is too short.
    """
    if len(message) < SMB2_HEADER_SIZE + layout.size:
        raise RemoteProtocolError(f"{what}: {len(message)} bytes are too few")
    fields = layout.unpack_from(message, SMB2_HEADER_SIZE)
    if fields[0] != structure_size:
        raise RemoteProtocolError(f"{what}: StructureSize is {fields[0]}, not {structure_size}")
    return fields


def slice_payload(message: memoryview, offset: int, length: int, minimum: int, what: str) -> memoryview:
    """Return a variable part; raise `RemoteProtocolError` if it sticks out or starts before `minimum`.

    An empty part is empty wherever its offset points: senders put 0 there, or anything.
    """
    if not length:
        return message[:0]
    if offset < minimum:
        raise RemoteProtocolError(f"{what}: offset {offset} points into the fields before {minimum}")
    return slice_checked(message, offset, length, what)


def read_guid(view: memoryview, offset: int) -> uuid.UUID:
    """Decode a GUID at an offset that the caller has checked ([MS-DTYP] 2.3.4.2)."""
    return uuid.UUID(bytes_le=bytes(view[offset : offset + 16]))


def decode_utf16_untrusted(view: memoryview) -> str:
    """Decode UTF-16LE, keeping lone surrogates; raise `RemoteProtocolError` on an odd byte count."""
    if len(view) % 2:
        raise RemoteProtocolError(f"UTF-16 text of {len(view)} bytes, which is odd")
    return str(view, "utf-16-le", "surrogatepass")


def encode_utf16(text: str) -> bytes:
    """Encode as UTF-16LE; lone surrogates go out as they are."""
    return text.encode("utf-16-le", "surrogatepass")


def encode_name(text: str, what: str) -> bytes:
    """Encode as UTF-16LE; raise `LocalProtocolError` past the 65,535 bytes that a 16-bit length can say."""
    data = encode_utf16(text)
    if len(data) > 0xFFFF:
        raise LocalProtocolError(f"{what}: a name of {len(data)} bytes is too long to be sent")
    return data


def align8(number: int) -> int:
    """Round up to a multiple of eight, the alignment of compounds, contexts and list entries."""
    return (number + 7) & ~7


def pad8(data: bytes) -> bytes:
    """`data` with zero bytes after it up to a multiple of eight."""
    return data.ljust(align8(len(data)), b"\0")


def filetime_to_ns(filetime: int) -> int:
    """Turn 100 ns units since 1601 into nanoseconds since 1970, for any integer."""
    return filetime * 100 - _FILETIME_EPOCH_IN_NS


def ns_to_filetime(ns: int) -> int:
    """Turn nanoseconds since 1970 into 100 ns units since 1601.

    Clamped to 1 … 2^63-1: 0 and negative numbers would mean "leave this time alone" in a SET_INFO.
    """
    return min(max((ns + _FILETIME_EPOCH_IN_NS) // 100, 1), _FILETIME_MAX)


class EmptyBody:
    """The body of the messages that say nothing but their command: StructureSize 4 and two reserved bytes."""

    __slots__ = ()

    def encode(self) -> bytes:
        """Return the four bytes."""
        return b"\x04\0\0\0"

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Check the four bytes after the header; raise `RemoteProtocolError` if they are not there."""
        unpack_body(_EMPTY, message, 4, cls.__name__)
        return cls()
