"""The headers around messages that are encrypted or compressed ([MS-SMB2] 2.2.41 and 2.2.42)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

from engine.errors import RemoteProtocolError
from engine.wire.header import PROTOCOL_ID
from engine.wire.primitives import Buffer, unpack_checked

TRANSFORM_PROTOCOL_ID: Final = b"\xfdSMB"
COMPRESSION_PROTOCOL_ID: Final = b"\xfcSMB"

_TRANSFORM: Final = struct.Struct("<4s16s16sIHHQ")
_COMPRESSION: Final = struct.Struct("<4xIHHI")

TRANSFORM_HEADER_SIZE: Final = _TRANSFORM.size
TRANSFORM_FLAG_ENCRYPTED: Final = 0x0001
"""Flags of 3.1.1; in older dialects EncryptionAlgorithm, whose only value is the same number."""


class FrameKind(Enum):
    """What a frame's first four bytes say it is."""

    PLAIN = PROTOCOL_ID
    ENCRYPTED = TRANSFORM_PROTOCOL_ID
    COMPRESSED = COMPRESSION_PROTOCOL_ID


_KINDS: Final = {kind.value: kind for kind in FrameKind}


def frame_kind_untrusted(frame: Buffer) -> FrameKind:
    """Tell what `frame` is; raise `RemoteProtocolError` if it is nothing of SMB2."""
    kind = _KINDS.get(bytes(frame[:4]))
    if kind is None:
        raise RemoteProtocolError(f"a frame that begins with {bytes(frame[:4])!r} is not SMB2")
    return kind


@dataclass(slots=True)
class TransformHeader:
    """The 52 bytes before an encrypted message ([MS-SMB2] 2.2.41); the nonce is padded to 16 bytes."""

    signature: bytes
    nonce: bytes
    original_message_size: int
    session_id: int
    flags: int = TRANSFORM_FLAG_ENCRYPTED

    def encode(self) -> bytes:
        """Return the 52 bytes."""
        return _TRANSFORM.pack(
            TRANSFORM_PROTOCOL_ID,
            self.signature,
            self.nonce,
            self.original_message_size,
            0,
            self.flags,
            self.session_id,
        )

    @classmethod
    def decode_untrusted(cls, frame: Buffer) -> Self:
        """Decode the start of `frame`; raise `RemoteProtocolError` if it is no transform header."""
        if len(frame) < TRANSFORM_HEADER_SIZE:
            raise RemoteProtocolError(f"transform header: {len(frame)} bytes are too few")
        protocol_id, signature, nonce, size, _, flags, session_id = _TRANSFORM.unpack_from(frame)
        if protocol_id != TRANSFORM_PROTOCOL_ID:
            raise RemoteProtocolError("transform header: wrong ProtocolId")
        return cls(signature, nonce, size, session_id, flags)


@dataclass(slots=True)
class CompressionTransformHeader:
    """[MS-SMB2] 2.2.42.1, as much as it takes to say what is being refused."""

    original_compressed_segment_size: int
    compression_algorithm: int
    flags: int
    offset: int

    @classmethod
    def decode_untrusted(cls, frame: Buffer) -> Self:
        """Decode the start of `frame`; raise `RemoteProtocolError` if it is no compression header."""
        size, algorithm, flags, offset = unpack_checked(
            _COMPRESSION, memoryview(frame), 0, "compression transform header"
        )
        if bytes(frame[:4]) != COMPRESSION_PROTOCOL_ID:
            raise RemoteProtocolError("compression transform header: wrong ProtocolId")
        return cls(size, algorithm, flags, offset)
