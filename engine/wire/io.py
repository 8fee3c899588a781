"""READ, WRITE, FLUSH, LOCK, IOCTL, ECHO and CANCEL ([MS-SMB2] 2.2.17 to 2.2.32).

RDMA is not spoken: Channel goes out as 0, and a request that names one is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from engine.errors import RemoteProtocolError
from engine.wire.constants import Command, IoctlFlags
from engine.wire.primitives import (
    SMB2_HEADER_SIZE,
    Buffer,
    EmptyBody,
    FileId,
    align8,
    slice_checked,
    slice_payload,
    unpack_body,
)

_FLUSH_REQUEST: Final = struct.Struct("<HHIQQ")
_READ_REQUEST: Final = struct.Struct("<HBBIQQQIIIHHx")
_READ_RESPONSE: Final = struct.Struct("<HBBIII")
_WRITE_REQUEST: Final = struct.Struct("<HHIQQQIIHHI")
_WRITE_RESPONSE: Final = struct.Struct("<HHIIHH")
_LOCK_REQUEST: Final = struct.Struct("<HHIQQ")
_LOCK_ELEMENT: Final = struct.Struct("<QQII")
_IOCTL_REQUEST: Final = struct.Struct("<HHIQQIIIIIIII")
_IOCTL_RESPONSE: Final = struct.Struct("<HHIQQIIIIII")

READ_DATA_OFFSET: Final = SMB2_HEADER_SIZE + _READ_RESPONSE.size
"""Where a READ response's data begins, from the start of the header; requests ask for this offset."""

WRITE_DATA_OFFSET: Final = SMB2_HEADER_SIZE + _WRITE_REQUEST.size
"""Where a WRITE request's data begins, from the start of the header."""

_IOCTL_INPUT_OFFSET: Final = SMB2_HEADER_SIZE + _IOCTL_REQUEST.size
_IOCTL_RESPONSE_OFFSET: Final = SMB2_HEADER_SIZE + _IOCTL_RESPONSE.size


@dataclass(slots=True)
class FlushRequest:
    """[MS-SMB2] 2.2.17."""

    COMMAND: ClassVar[Command] = Command.FLUSH
    file_id: FileId

    def encode(self) -> bytes:
        """Return the body."""
        return _FLUSH_REQUEST.pack(24, 0, 0, *self.file_id)

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        _, _, _, persistent, volatile = unpack_body(_FLUSH_REQUEST, message, 24, "FLUSH request")
        return cls(FileId(persistent, volatile))


@dataclass(slots=True)
class FlushResponse(EmptyBody):
    """[MS-SMB2] 2.2.18."""

    COMMAND: ClassVar[Command] = Command.FLUSH


@dataclass(slots=True, kw_only=True)
class ReadRequest:
    """[MS-SMB2] 2.2.19. Fewer than `minimum_count` bytes are STATUS_END_OF_FILE."""

    COMMAND: ClassVar[Command] = Command.READ
    file_id: FileId
    offset: int
    length: int
    minimum_count: int = 0
    remaining_bytes: int = 0
    flags: int = 0

    def encode(self) -> bytes:
        """Return the body."""
        return _READ_REQUEST.pack(
            49,
            READ_DATA_OFFSET,
            self.flags,
            self.length,
            self.offset,
            *self.file_id,
            self.minimum_count,
            0,
            self.remaining_bytes,
            0,
            0,
        )

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        (
            _,
            _,
            flags,
            length,
            offset,
            persistent,
            volatile,
            minimum_count,
            channel,
            remaining_bytes,
            _,
            _,
        ) = unpack_body(_READ_REQUEST, message, 49, "READ request")
        _refuse_channel(channel, "READ")
        return cls(
            file_id=FileId(persistent, volatile),
            offset=offset,
            length=length,
            minimum_count=minimum_count,
            remaining_bytes=remaining_bytes,
            flags=flags,
        )


@dataclass(slots=True)
class ReadResponse:
    """[MS-SMB2] 2.2.20."""

    COMMAND: ClassVar[Command] = Command.READ
    data: Buffer
    data_remaining: int = 0
    flags: int = 0

    def encode(self) -> bytes:
        """Return the body, data included."""
        fixed = _READ_RESPONSE.pack(17, READ_DATA_OFFSET, 0, len(self.data), self.data_remaining, self.flags)
        return fixed + self.data

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message; `data` is a view into it."""
        _, offset, _, length, data_remaining, flags = unpack_body(
            _READ_RESPONSE, message, 17, "READ response"
        )
        data = slice_payload(message, offset, length, READ_DATA_OFFSET, "READ data")
        return cls(data, data_remaining, flags)


@dataclass(slots=True, kw_only=True)
class WriteRequest:
    """[MS-SMB2] 2.2.21."""

    COMMAND: ClassVar[Command] = Command.WRITE
    file_id: FileId
    offset: int
    data: Buffer
    remaining_bytes: int = 0
    flags: int = 0

    def encode(self) -> bytes:
        """Return the body without the data, which the caller sends right behind it, uncopied."""
        return _WRITE_REQUEST.pack(
            49,
            WRITE_DATA_OFFSET,
            len(self.data),
            self.offset,
            *self.file_id,
            0,
            self.remaining_bytes,
            0,
            0,
            self.flags,
        )

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message; `data` is a view into it."""
        (
            _,
            data_offset,
            length,
            offset,
            persistent,
            volatile,
            channel,
            remaining_bytes,
            _,
            _,
            flags,
        ) = unpack_body(_WRITE_REQUEST, message, 49, "WRITE request")
        _refuse_channel(channel, "WRITE")
        return cls(
            file_id=FileId(persistent, volatile),
            offset=offset,
            data=slice_payload(message, data_offset, length, WRITE_DATA_OFFSET, "WRITE data"),
            remaining_bytes=remaining_bytes,
            flags=flags,
        )


@dataclass(slots=True)
class WriteResponse:
    """[MS-SMB2] 2.2.22. `count` bytes were written."""

    COMMAND: ClassVar[Command] = Command.WRITE
    count: int

    def encode(self) -> bytes:
        """Return the body."""
        return _WRITE_RESPONSE.pack(17, 0, self.count, 0, 0, 0)

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        _, _, count, _, _, _ = unpack_body(_WRITE_RESPONSE, message, 17, "WRITE response")
        return cls(count)


@dataclass(slots=True)
class LockElement:
    """A range of bytes and what to do with it, by `LockFlags` ([MS-SMB2] 2.2.26.1)."""

    offset: int
    length: int
    flags: int


@dataclass(slots=True)
class LockRequest:
    """[MS-SMB2] 2.2.26. The sequence fields let a durable handle's lock be repeated safely; 0 = unused."""

    COMMAND: ClassVar[Command] = Command.LOCK
    file_id: FileId
    locks: Sequence[LockElement]
    lock_sequence_number: int = 0
    lock_sequence_index: int = 0

    def encode(self) -> bytes:
        """Return the body."""
        sequence = self.lock_sequence_index << 4 | self.lock_sequence_number
        fixed = _LOCK_REQUEST.pack(48, len(self.locks), sequence, *self.file_id)
        return fixed + b"".join(
            _LOCK_ELEMENT.pack(lock.offset, lock.length, lock.flags, 0) for lock in self.locks
        )

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        _, count, sequence, persistent, volatile = unpack_body(_LOCK_REQUEST, message, 48, "LOCK request")
        elements = slice_checked(
            message, SMB2_HEADER_SIZE + _LOCK_REQUEST.size, count * _LOCK_ELEMENT.size, "LOCK request"
        )
        locks = tuple(
            LockElement(offset, length, flags)
            for offset, length, flags, _ in _LOCK_ELEMENT.iter_unpack(elements)
        )
        return cls(FileId(persistent, volatile), locks, sequence & 0xF, sequence >> 4)


@dataclass(slots=True)
class LockResponse(EmptyBody):
    """[MS-SMB2] 2.2.27."""

    COMMAND: ClassVar[Command] = Command.LOCK


@dataclass(slots=True, kw_only=True)
class IoctlRequest:
    """[MS-SMB2] 2.2.31. Pass `FILE_ID_RELATED` for the controls that need no file."""

    COMMAND: ClassVar[Command] = Command.IOCTL
    ctl_code: int
    file_id: FileId
    input: Buffer = b""
    max_input_response: int = 0
    max_output_response: int = 0
    flags: int = IoctlFlags.IS_FSCTL

    def encode(self) -> bytes:
        """Return the body."""
        fixed = _IOCTL_REQUEST.pack(
            57,
            0,
            self.ctl_code,
            *self.file_id,
            _IOCTL_INPUT_OFFSET if self.input else 0,
            len(self.input),
            self.max_input_response,
            0,
            0,
            self.max_output_response,
            self.flags,
            0,
        )
        return fixed + (self.input or b"\0")

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message; `input` is a view into it. Output sent by a client means nothing."""
        (
            _,
            _,
            ctl_code,
            persistent,
            volatile,
            input_offset,
            input_count,
            max_input_response,
            _,
            _,
            max_output_response,
            flags,
            _,
        ) = unpack_body(_IOCTL_REQUEST, message, 57, "IOCTL request")
        return cls(
            ctl_code=ctl_code,
            file_id=FileId(persistent, volatile),
            input=slice_payload(message, input_offset, input_count, _IOCTL_INPUT_OFFSET, "IOCTL input"),
            max_input_response=max_input_response,
            max_output_response=max_output_response,
            flags=flags,
        )


@dataclass(slots=True, kw_only=True)
class IoctlResponse:
    """[MS-SMB2] 2.2.32."""

    COMMAND: ClassVar[Command] = Command.IOCTL
    ctl_code: int
    file_id: FileId
    input: Buffer = b""
    output: Buffer = b""
    flags: int = 0

    def encode(self) -> bytes:
        """Return the body."""
        output_offset = align8(_IOCTL_RESPONSE_OFFSET + len(self.input))
        fixed = _IOCTL_RESPONSE.pack(
            49,
            0,
            self.ctl_code,
            *self.file_id,
            _IOCTL_RESPONSE_OFFSET,
            len(self.input),
            output_offset,
            len(self.output),
            self.flags,
            0,
        )
        padding = bytes(output_offset - _IOCTL_RESPONSE_OFFSET - len(self.input))
        return b"".join((fixed, self.input, padding, self.output))

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message; `input` and `output` are views into it."""
        (
            _,
            _,
            ctl_code,
            persistent,
            volatile,
            input_offset,
            input_count,
            output_offset,
            output_count,
            flags,
            _,
        ) = unpack_body(_IOCTL_RESPONSE, message, 49, "IOCTL response")
        minimum = _IOCTL_RESPONSE_OFFSET
        return cls(
            ctl_code=ctl_code,
            file_id=FileId(persistent, volatile),
            input=slice_payload(message, input_offset, input_count, minimum, "IOCTL input"),
            output=slice_payload(message, output_offset, output_count, minimum, "IOCTL output"),
            flags=flags,
        )


@dataclass(slots=True)
class EchoRequest(EmptyBody):
    """[MS-SMB2] 2.2.28."""

    COMMAND: ClassVar[Command] = Command.ECHO


@dataclass(slots=True)
class EchoResponse(EmptyBody):
    """[MS-SMB2] 2.2.29."""

    COMMAND: ClassVar[Command] = Command.ECHO


@dataclass(slots=True)
class CancelRequest(EmptyBody):
    """[MS-SMB2] 2.2.30. There is no response: the cancelled request gets its own."""

    COMMAND: ClassVar[Command] = Command.CANCEL


def _refuse_channel(channel: int, what: str) -> None:
    if channel:
        raise RemoteProtocolError(f"{what} request: RDMA channel {channel}, which nobody negotiated")
