"""QUERY_DIRECTORY, QUERY_INFO and SET_INFO ([MS-SMB2] 2.2.33, 2.2.34 and 2.2.37 to 2.2.40).

The envelopes only: what is in the buffers belongs to the information classes of [MS-FSCC].
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from engine.wire.constants import Command
from engine.wire.primitives import (
    SMB2_HEADER_SIZE,
    Buffer,
    FileId,
    decode_utf16_untrusted,
    encode_name,
    slice_payload,
    unpack_body,
)

_QUERY_DIRECTORY_REQUEST: Final = struct.Struct("<HBBIQQHHI")
_PATTERN_OFFSET: Final = SMB2_HEADER_SIZE + _QUERY_DIRECTORY_REQUEST.size
_QUERY_RESPONSE: Final = struct.Struct("<HHI")
_QUERY_RESPONSE_OFFSET: Final = SMB2_HEADER_SIZE + _QUERY_RESPONSE.size
_QUERY_INFO_REQUEST: Final = struct.Struct("<HBBIHHIIIQQ")
_QUERY_INPUT_OFFSET: Final = SMB2_HEADER_SIZE + _QUERY_INFO_REQUEST.size
_SET_INFO_REQUEST: Final = struct.Struct("<HBBIHHIQQ")
_SET_BUFFER_OFFSET: Final = SMB2_HEADER_SIZE + _SET_INFO_REQUEST.size
_SET_INFO_RESPONSE: Final = struct.Struct("<H")


@dataclass(slots=True, kw_only=True)
class QueryDirectoryRequest:
    """[MS-SMB2] 2.2.33. The server goes on where the last request on this file ended."""

    COMMAND: ClassVar[Command] = Command.QUERY_DIRECTORY
    file_information_class: int
    flags: int = 0
    file_index: int = 0
    file_id: FileId
    output_buffer_length: int
    pattern: str = "*"

    def encode(self) -> bytes:
        """Return the body; raise `LocalProtocolError` if the pattern is too long for the wire."""
        pattern = encode_name(self.pattern, "QUERY_DIRECTORY request")
        fixed = _QUERY_DIRECTORY_REQUEST.pack(
            33,
            self.file_information_class,
            self.flags,
            self.file_index,
            *self.file_id,
            _PATTERN_OFFSET if pattern else 0,
            len(pattern),
            self.output_buffer_length,
        )
        return fixed + (pattern or b"\0")

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        (
            _,
            file_information_class,
            flags,
            file_index,
            persistent,
            volatile,
            offset,
            length,
            output_buffer_length,
        ) = unpack_body(_QUERY_DIRECTORY_REQUEST, message, 33, "QUERY_DIRECTORY request")
        pattern = slice_payload(message, offset, length, _PATTERN_OFFSET, "QUERY_DIRECTORY pattern")
        return cls(
            file_information_class=file_information_class,
            flags=flags,
            file_index=file_index,
            file_id=FileId(persistent, volatile),
            output_buffer_length=output_buffer_length,
            pattern=decode_utf16_untrusted(pattern),
        )


@dataclass(slots=True)
class _QueryResponse:
    buffer: Buffer = b""

    def encode(self) -> bytes:
        """Return the body."""
        fixed = _QUERY_RESPONSE.pack(9, _QUERY_RESPONSE_OFFSET, len(self.buffer))
        return fixed + (self.buffer or b"\0")

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message; `buffer` is a view into it."""
        _, offset, length = unpack_body(_QUERY_RESPONSE, message, 9, cls.__name__)
        return cls(slice_payload(message, offset, length, _QUERY_RESPONSE_OFFSET, cls.__name__))


@dataclass(slots=True)
class QueryDirectoryResponse(_QueryResponse):
    """[MS-SMB2] 2.2.34. `buffer` is a list of entries of the class that was asked for."""

    COMMAND: ClassVar[Command] = Command.QUERY_DIRECTORY


@dataclass(slots=True, kw_only=True)
class QueryInfoRequest:
    """[MS-SMB2] 2.2.37. `input` is for quotas and extended attributes only."""

    COMMAND: ClassVar[Command] = Command.QUERY_INFO
    info_type: int
    file_info_class: int = 0
    output_buffer_length: int
    additional_information: int = 0
    flags: int = 0
    file_id: FileId
    input: Buffer = b""

    def encode(self) -> bytes:
        """Return the body."""
        fixed = _QUERY_INFO_REQUEST.pack(
            41,
            self.info_type,
            self.file_info_class,
            self.output_buffer_length,
            _QUERY_INPUT_OFFSET if self.input else 0,
            0,
            len(self.input),
            self.additional_information,
            self.flags,
            *self.file_id,
        )
        return fixed + (self.input or b"\0")

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message; `input` is a view into it."""
        (
            _,
            info_type,
            file_info_class,
            output_buffer_length,
            offset,
            _,
            length,
            additional_information,
            flags,
            persistent,
            volatile,
        ) = unpack_body(_QUERY_INFO_REQUEST, message, 41, "QUERY_INFO request")
        return cls(
            info_type=info_type,
            file_info_class=file_info_class,
            output_buffer_length=output_buffer_length,
            additional_information=additional_information,
            flags=flags,
            file_id=FileId(persistent, volatile),
            input=slice_payload(message, offset, length, _QUERY_INPUT_OFFSET, "QUERY_INFO input"),
        )


@dataclass(slots=True)
class QueryInfoResponse(_QueryResponse):
    """[MS-SMB2] 2.2.38. `buffer` is a structure of the class that was asked for."""

    COMMAND: ClassVar[Command] = Command.QUERY_INFO


@dataclass(slots=True, kw_only=True)
class SetInfoRequest:
    """[MS-SMB2] 2.2.39."""

    COMMAND: ClassVar[Command] = Command.SET_INFO
    info_type: int
    file_info_class: int = 0
    buffer: Buffer
    additional_information: int = 0
    file_id: FileId

    def encode(self) -> bytes:
        """Return the body."""
        fixed = _SET_INFO_REQUEST.pack(
            33,
            self.info_type,
            self.file_info_class,
            len(self.buffer),
            _SET_BUFFER_OFFSET,
            0,
            self.additional_information,
            *self.file_id,
        )
        return fixed + (self.buffer or b"\0")

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message; `buffer` is a view into it."""
        (
            _,
            info_type,
            file_info_class,
            length,
            offset,
            _,
            additional_information,
            persistent,
            volatile,
        ) = unpack_body(_SET_INFO_REQUEST, message, 33, "SET_INFO request")
        return cls(
            info_type=info_type,
            file_info_class=file_info_class,
            buffer=slice_payload(message, offset, length, _SET_BUFFER_OFFSET, "SET_INFO buffer"),
            additional_information=additional_information,
            file_id=FileId(persistent, volatile),
        )


@dataclass(slots=True)
class SetInfoResponse:
    """[MS-SMB2] 2.2.40."""

    COMMAND: ClassVar[Command] = Command.SET_INFO

    def encode(self) -> bytes:
        """Return the body, which is its StructureSize alone."""
        return _SET_INFO_RESPONSE.pack(2)

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        unpack_body(_SET_INFO_RESPONSE, message, 2, "SET_INFO response")
        return cls()
