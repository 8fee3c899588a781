"""The ERROR response and the data that some statuses bring along ([MS-SMB2] 2.2.2)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.constants import ErrorId, SymlinkFlags
from engine.wire.primitives import (
    SMB2_HEADER_SIZE,
    Buffer,
    align8,
    decode_utf16_untrusted,
    encode_utf16,
    slice_checked,
    unpack_body,
    unpack_checked,
)

_RESPONSE: Final = struct.Struct("<HBBI")
_DATA_OFFSET: Final = SMB2_HEADER_SIZE + _RESPONSE.size
_CONTEXT: Final = struct.Struct("<II")
_SYMLINK: Final = struct.Struct("<IIIHHHHHHI")
_REQUIRED_LENGTH: Final = struct.Struct("<I")

_SYMLINK_ERROR_TAG: Final = 0x4C4D5953
_REPARSE_TAG_SYMLINK: Final = 0xA000000C
# SymLinkLength counts what comes after itself; ReparseDataLength what comes after UnparsedPathLength.
_BEFORE_SYMLINK_LENGTH_ENDS: Final = 4
_BEFORE_REPARSE_DATA: Final = 16


@dataclass(slots=True)
class ErrorContext:
    """[MS-SMB2] 2.2.2.1; `error_id` is an `ErrorId`."""

    data: Buffer
    error_id: int = ErrorId.DEFAULT


@dataclass(slots=True)
class ErrorResponse:
    """The body of a response whose status is a failure ([MS-SMB2] 2.2.2).

    Dialect 3.1.1 wraps error data in `contexts`, older ones put it into `error_data`: never both.
    """

    error_data: Buffer = b""
    contexts: Sequence[ErrorContext] = ()

    @property
    def details(self) -> Buffer:
        """The data about this failure, wherever it was; empty if there is none."""
        for context in self.contexts:
            if context.error_id == ErrorId.DEFAULT:
                return context.data
        return self.error_data

    def encode(self) -> bytes:
        """Return the body; raise `LocalProtocolError` if there are both contexts and bare data."""
        if self.contexts and self.error_data:
            raise LocalProtocolError("ERROR response: both contexts and bare data")
        data = _encode_contexts(self.contexts) if self.contexts else self.error_data
        return _RESPONSE.pack(9, len(self.contexts), 0, len(data)) + (data or b"\0")

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message; the data are views into it."""
        _, context_count, _, byte_count = unpack_body(_RESPONSE, message, 9, "ERROR response")
        data = slice_checked(message, _DATA_OFFSET, byte_count, "ERROR data")
        if not context_count:
            return cls(data)
        return cls(contexts=_decode_contexts(data, context_count))


@dataclass(slots=True)
class SymbolicLinkErrorResponse:
    """Where a path met a symbolic link: the data of STATUS_STOPPED_ON_SYMLINK ([MS-SMB2] 2.2.2.2.1).

    `unparsed_path_length` is the number of bytes at the end of the sent path (UTF-16) that the server
    had not looked at yet.
    """

    substitute_name: str
    print_name: str = ""
    unparsed_path_length: int = 0
    flags: int = 0

    @property
    def is_relative(self) -> bool:
        """Whether the target counts from the folder that holds the link."""
        return bool(self.flags & SymlinkFlags.RELATIVE)

    def encode(self) -> bytes:
        """Return the error data."""
        substitute_name = encode_utf16(self.substitute_name)
        print_name = encode_utf16(self.print_name)
        size = _SYMLINK.size + len(substitute_name) + len(print_name)
        fixed = _SYMLINK.pack(
            size - _BEFORE_SYMLINK_LENGTH_ENDS,
            _SYMLINK_ERROR_TAG,
            _REPARSE_TAG_SYMLINK,
            size - _BEFORE_REPARSE_DATA,
            self.unparsed_path_length,
            0,
            len(substitute_name),
            len(substitute_name),
            len(print_name),
            self.flags,
        )
        return fixed + substitute_name + print_name

    @classmethod
    def decode_untrusted(cls, details: Buffer) -> Self:
        """Decode `ErrorResponse.details`; raise `RemoteProtocolError` if it is no such thing."""
        view = memoryview(details)
        (
            _,
            error_tag,
            reparse_tag,
            _,
            unparsed_path_length,
            substitute_offset,
            substitute_length,
            print_offset,
            print_length,
            flags,
        ) = unpack_checked(_SYMLINK, view, 0, "symbolic link error")
        if error_tag != _SYMLINK_ERROR_TAG or reparse_tag != _REPARSE_TAG_SYMLINK:
            raise RemoteProtocolError("symbolic link error: wrong SymLinkErrorTag or ReparseTag")
        path_buffer = view[_SYMLINK.size :]
        substitute_name = slice_checked(path_buffer, substitute_offset, substitute_length, "symbolic link")
        print_name = slice_checked(path_buffer, print_offset, print_length, "symbolic link print name")
        return cls(
            decode_utf16_untrusted(substitute_name),
            decode_utf16_untrusted(print_name),
            unparsed_path_length,
            flags,
        )


def decode_required_length_untrusted(details: Buffer) -> int:
    """Decode the data of STATUS_BUFFER_TOO_SMALL: the buffer length that would do ([MS-SMB2] 2.2.2.2)."""
    (length,) = unpack_checked(_REQUIRED_LENGTH, memoryview(details), 0, "required buffer length")
    return length


def encode_required_length(length: int) -> bytes:
    """Encode the data of STATUS_BUFFER_TOO_SMALL."""
    return _REQUIRED_LENGTH.pack(length)


def _encode_contexts(contexts: Sequence[ErrorContext]) -> bytes:
    encoded = bytearray()
    for context in contexts:
        encoded.extend(bytes(align8(len(encoded)) - len(encoded)))
        encoded += _CONTEXT.pack(len(context.data), context.error_id)
        encoded += context.data
    return bytes(encoded)


def _decode_contexts(data: memoryview, count: int) -> tuple[ErrorContext, ...]:
    contexts: list[ErrorContext] = []
    offset = 0
    for _ in range(count):
        length, error_id = unpack_checked(_CONTEXT, data, offset, "ERROR context")
        payload = slice_checked(data, offset + _CONTEXT.size, length, "ERROR context")
        contexts.append(ErrorContext(payload, error_id))
        offset = align8(offset + _CONTEXT.size + length)
    return tuple(contexts)
