"""SESSION_SETUP and LOGOFF ([MS-SMB2] 2.2.5 to 2.2.8)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from engine.wire.constants import Command
from engine.wire.primitives import SMB2_HEADER_SIZE, Buffer, EmptyBody, slice_payload, unpack_body

_REQUEST: Final = struct.Struct("<HBBIIHHQ")
_REQUEST_BUFFER_OFFSET: Final = SMB2_HEADER_SIZE + _REQUEST.size
_RESPONSE: Final = struct.Struct("<HHHH")
_RESPONSE_BUFFER_OFFSET: Final = SMB2_HEADER_SIZE + _RESPONSE.size


@dataclass(slots=True, kw_only=True)
class SessionSetupRequest:
    """[MS-SMB2] 2.2.5."""

    COMMAND: ClassVar[Command] = Command.SESSION_SETUP
    flags: int = 0
    security_mode: int
    capabilities: int = 0
    previous_session_id: int = 0
    security_buffer: Buffer

    def encode(self) -> bytes:
        """Return the body."""
        fixed = _REQUEST.pack(
            25,
            self.flags,
            self.security_mode,
            self.capabilities,
            0,
            _REQUEST_BUFFER_OFFSET,
            len(self.security_buffer),
            self.previous_session_id,
        )
        return fixed + (self.security_buffer or b"\0")

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        fields = unpack_body(_REQUEST, message, 25, "SESSION_SETUP request")
        _, flags, security_mode, capabilities, _, offset, length, previous_session_id = fields
        return cls(
            flags=flags,
            security_mode=security_mode,
            capabilities=capabilities,
            previous_session_id=previous_session_id,
            security_buffer=slice_payload(
                message, offset, length, _REQUEST_BUFFER_OFFSET, "SESSION_SETUP request"
            ),
        )


@dataclass(slots=True)
class SessionSetupResponse:
    """[MS-SMB2] 2.2.6."""

    COMMAND: ClassVar[Command] = Command.SESSION_SETUP
    session_flags: int = 0
    security_buffer: Buffer = b""

    def encode(self) -> bytes:
        """Return the body."""
        fixed = _RESPONSE.pack(9, self.session_flags, _RESPONSE_BUFFER_OFFSET, len(self.security_buffer))
        return fixed + (self.security_buffer or b"\0")

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        _, session_flags, offset, length = unpack_body(_RESPONSE, message, 9, "SESSION_SETUP response")
        return cls(
            session_flags,
            slice_payload(message, offset, length, _RESPONSE_BUFFER_OFFSET, "SESSION_SETUP response"),
        )


@dataclass(slots=True)
class LogoffRequest(EmptyBody):
    """[MS-SMB2] 2.2.7."""

    COMMAND: ClassVar[Command] = Command.LOGOFF


@dataclass(slots=True)
class LogoffResponse(EmptyBody):
    """[MS-SMB2] 2.2.8."""

    COMMAND: ClassVar[Command] = Command.LOGOFF
