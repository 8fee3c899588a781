"""The SMB2 packet header and the cutting apart of compounds."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from engine.errors import RemoteProtocolError
from engine.wire.constants import HeaderFlags
from engine.wire.primitives import SMB2_HEADER_SIZE, Buffer

PROTOCOL_ID: Final = b"\xfeSMB"
NO_SIGNATURE: Final = bytes(16)
SIGNATURE_OFFSET: Final = 48
"""Where the sixteen bytes of the signature lie in the header."""

UNSOLICITED_MESSAGE_ID: Final = 0xFFFFFFFFFFFFFFFF
"""MessageId of the breaks that a server sends by itself ([MS-SMB2] 3.3.4.6)."""

# AsyncId, or Reserved and TreeId, are read as one number: a TreeId is its upper half.
_LAYOUT: Final = struct.Struct("<4sHHIHHIIQQQ16s")
_NEXT_COMMAND: Final = struct.Struct("<I")
_NEXT_COMMAND_OFFSET: Final = 20
# A plain number: `&` with an IntFlag member would cost more than the rest of the decoding.
_ASYNC_COMMAND: Final = int(HeaderFlags.ASYNC_COMMAND)


@dataclass(slots=True)
class Header:
    """The 64 bytes before every message ([MS-SMB2] 2.2.1.1 and 2.2.1.2).

    `status` is ChannelSequence in a request. `credits` is CreditRequest or CreditResponse.
    `async_id` counts only with `HeaderFlags.ASYNC_COMMAND`, `tree_id` only without.
    """

    command: int
    status: int = 0
    credit_charge: int = 0
    credits: int = 0
    flags: int = 0
    next_command: int = 0
    message_id: int = 0
    tree_id: int = 0
    async_id: int = 0
    session_id: int = 0
    signature: bytes = NO_SIGNATURE

    def encode(self) -> bytes:
        """Return the 64 bytes."""
        return _LAYOUT.pack(*self._fields())

    def encode_into(self, buffer: bytearray | memoryview, offset: int = 0) -> None:
        """Write the 64 bytes at `offset` of `buffer`."""
        _LAYOUT.pack_into(buffer, offset, *self._fields())

    def _fields(self) -> tuple[int | bytes, ...]:
        is_async = self.flags & _ASYNC_COMMAND
        return (
            PROTOCOL_ID,
            SMB2_HEADER_SIZE,
            self.credit_charge,
            self.status,
            self.command,
            self.credits,
            self.flags,
            self.next_command,
            self.message_id,
            self.async_id if is_async else self.tree_id << 32,
            self.session_id,
            self.signature,
        )

    @classmethod
    def decode_untrusted(cls, message: Buffer) -> Self:
        """Decode the header at the start of `message`; raise `RemoteProtocolError` if it is none."""
        if len(message) < SMB2_HEADER_SIZE:
            raise RemoteProtocolError(f"SMB2 header: {len(message)} bytes are too few")
        (
            protocol_id,
            structure_size,
            credit_charge,
            status,
            command,
            granted,
            flags,
            next_command,
            message_id,
            ids,
            session_id,
            signature,
        ) = _LAYOUT.unpack_from(message)
        if protocol_id != PROTOCOL_ID or structure_size != SMB2_HEADER_SIZE:
            raise RemoteProtocolError("SMB2 header: wrong ProtocolId or StructureSize")
        is_async = flags & _ASYNC_COMMAND
        return cls(
            command,
            status,
            credit_charge,
            granted,
            flags,
            next_command,
            message_id,
            0 if is_async else ids >> 32,
            ids if is_async else 0,
            session_id,
            signature,
        )


def split_compound_untrusted(frame: memoryview) -> list[memoryview]:
    """Cut a frame into its messages by NextCommand ([MS-SMB2] 3.2.5.1.9), padding included.

    A lone message comes back as a list of one. Raises `RemoteProtocolError` if a message is shorter
    than a header, unaligned, or reaches past the end.
    """
    messages: list[memoryview] = []
    offset = 0
    while True:
        remaining = len(frame) - offset
        if remaining < SMB2_HEADER_SIZE:
            raise RemoteProtocolError(f"compound: {remaining} bytes at {offset} hold no SMB2 header")
        (length,) = _NEXT_COMMAND.unpack_from(frame, offset + _NEXT_COMMAND_OFFSET)
        if not length:
            messages.append(frame[offset:])
            return messages
        if length % 8 or not SMB2_HEADER_SIZE <= length <= remaining:
            raise RemoteProtocolError(f"compound: NextCommand {length} at {offset} of {len(frame)} bytes")
        messages.append(frame[offset : offset + length])
        offset += length
