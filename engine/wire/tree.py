"""TREE_CONNECT and TREE_DISCONNECT ([MS-SMB2] 2.2.9 to 2.2.12)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from engine.errors import LocalProtocolError
from engine.wire.constants import Command, TreeConnectFlags
from engine.wire.primitives import (
    SMB2_HEADER_SIZE,
    EmptyBody,
    decode_utf16_untrusted,
    encode_name,
    slice_payload,
    unpack_body,
)

_REQUEST: Final = struct.Struct("<HHHH")
_PATH_OFFSET: Final = SMB2_HEADER_SIZE + _REQUEST.size
_RESPONSE: Final = struct.Struct("<HBBIII")


@dataclass(slots=True)
class TreeConnectRequest:
    r"""[MS-SMB2] 2.2.9. `path` is `\\server\share`; the extension of 2.2.9.1 is not spoken."""

    COMMAND: ClassVar[Command] = Command.TREE_CONNECT
    path: str
    flags: int = 0

    def encode(self) -> bytes:
        """Return the body; raise `LocalProtocolError` if `flags` promise an extension."""
        if self.flags & TreeConnectFlags.EXTENSION_PRESENT:
            raise LocalProtocolError("TREE_CONNECT request: the extension is not supported")
        path = encode_name(self.path, "TREE_CONNECT request")
        return _REQUEST.pack(9, self.flags, _PATH_OFFSET, len(path)) + (path or b"\0")

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message; the contexts of an extension are left aside."""
        _, flags, offset, length = unpack_body(_REQUEST, message, 9, "TREE_CONNECT request")
        path = slice_payload(message, offset, length, _PATH_OFFSET, "TREE_CONNECT path")
        return cls(decode_utf16_untrusted(path), flags)


@dataclass(slots=True)
class TreeConnectResponse:
    """[MS-SMB2] 2.2.10."""

    COMMAND: ClassVar[Command] = Command.TREE_CONNECT
    share_type: int
    share_flags: int
    capabilities: int
    maximal_access: int

    def encode(self) -> bytes:
        """Return the body."""
        return _RESPONSE.pack(
            16, self.share_type, 0, self.share_flags, self.capabilities, self.maximal_access
        )

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        fields = unpack_body(_RESPONSE, message, 16, "TREE_CONNECT response")
        _, share_type, _, share_flags, capabilities, maximal_access = fields
        return cls(share_type, share_flags, capabilities, maximal_access)


@dataclass(slots=True)
class TreeDisconnectRequest(EmptyBody):
    """[MS-SMB2] 2.2.11."""

    COMMAND: ClassVar[Command] = Command.TREE_DISCONNECT


@dataclass(slots=True)
class TreeDisconnectResponse(EmptyBody):
    """[MS-SMB2] 2.2.12."""

    COMMAND: ClassVar[Command] = Command.TREE_DISCONNECT
