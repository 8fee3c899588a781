"""What a server tells unasked: CHANGE_NOTIFY and OPLOCK_BREAK ([MS-SMB2] 2.2.23 to 2.2.25, 2.2.35, 2.2.36).

One command carries the breaks of oplocks and of leases; StructureSize tells them apart.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from engine.errors import RemoteProtocolError
from engine.wire.constants import Command
from engine.wire.primitives import (
    SMB2_HEADER_SIZE,
    FileId,
    decode_utf16_untrusted,
    encode_utf16,
    slice_checked,
    slice_payload,
    unpack_body,
    unpack_checked,
)

_NOTIFY_REQUEST: Final = struct.Struct("<HHIQQII")
_NOTIFY_RESPONSE: Final = struct.Struct("<HHI")
_NOTIFY_BUFFER_OFFSET: Final = SMB2_HEADER_SIZE + _NOTIFY_RESPONSE.size
_NOTIFY_ENTRY: Final = struct.Struct("<III")
_STRUCTURE_SIZE: Final = struct.Struct("<H")
_OPLOCK_BREAK: Final = struct.Struct("<HBBIQQ")
_LEASE_BREAK: Final = struct.Struct("<HHI16sIIIII")
_LEASE_BREAK_INTEGERS: Final = struct.Struct("<HHI16xIIIII")
_LEASE_ACKNOWLEDGEMENT: Final = struct.Struct("<HHI16sIQ")
_LEASE_ACKNOWLEDGEMENT_INTEGERS: Final = struct.Struct("<HHI16xIQ")
_LEASE_KEY: Final = slice(SMB2_HEADER_SIZE + 8, SMB2_HEADER_SIZE + 24)


@dataclass(slots=True, kw_only=True)
class ChangeNotifyRequest:
    """[MS-SMB2] 2.2.35."""

    COMMAND: ClassVar[Command] = Command.CHANGE_NOTIFY
    file_id: FileId
    completion_filter: int
    output_buffer_length: int
    flags: int = 0

    def encode(self) -> bytes:
        """Return the body."""
        return _NOTIFY_REQUEST.pack(
            32, self.flags, self.output_buffer_length, *self.file_id, self.completion_filter, 0
        )

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        _, flags, output_buffer_length, persistent, volatile, completion_filter, _ = unpack_body(
            _NOTIFY_REQUEST, message, 32, "CHANGE_NOTIFY request"
        )
        return cls(
            file_id=FileId(persistent, volatile),
            completion_filter=completion_filter,
            output_buffer_length=output_buffer_length,
            flags=flags,
        )


@dataclass(slots=True)
class FileNotifyInformation:
    """One change below the watched directory ([MS-FSCC] 2.7.1); `action` is a `NotifyAction`."""

    action: int
    file_name: str


@dataclass(slots=True)
class ChangeNotifyResponse:
    """[MS-SMB2] 2.2.36. No `changes`: there were too many to tell."""

    COMMAND: ClassVar[Command] = Command.CHANGE_NOTIFY
    changes: Sequence[FileNotifyInformation] = ()

    def encode(self) -> bytes:
        """Return the body."""
        buffer = _encode_changes(self.changes)
        fixed = _NOTIFY_RESPONSE.pack(9, _NOTIFY_BUFFER_OFFSET, len(buffer))
        return fixed + (buffer or b"\0")

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        _, offset, length = unpack_body(_NOTIFY_RESPONSE, message, 9, "CHANGE_NOTIFY response")
        buffer = slice_payload(message, offset, length, _NOTIFY_BUFFER_OFFSET, "CHANGE_NOTIFY response")
        return cls(_decode_changes(buffer))


@dataclass(slots=True)
class OplockBreak:
    """A break of an oplock: notification, acknowledgement and response alike.

    [MS-SMB2] 2.2.23.1, 2.2.24.1 and 2.2.25.1.
    """

    COMMAND: ClassVar[Command] = Command.OPLOCK_BREAK
    STRUCTURE_SIZE: ClassVar[int] = 24
    file_id: FileId
    oplock_level: int

    def encode(self) -> bytes:
        """Return the body."""
        return _OPLOCK_BREAK.pack(self.STRUCTURE_SIZE, self.oplock_level, 0, 0, *self.file_id)

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        _, oplock_level, _, _, persistent, volatile = unpack_body(
            _OPLOCK_BREAK, message, cls.STRUCTURE_SIZE, "oplock break"
        )
        return cls(FileId(persistent, volatile), oplock_level)


@dataclass(slots=True)
class LeaseBreakNotification:
    """[MS-SMB2] 2.2.23.2. `new_epoch` counts for version 2 leases only."""

    COMMAND: ClassVar[Command] = Command.OPLOCK_BREAK
    STRUCTURE_SIZE: ClassVar[int] = 44
    lease_key: bytes
    current_lease_state: int
    new_lease_state: int
    flags: int = 0
    new_epoch: int = 0

    def encode(self) -> bytes:
        """Return the body."""
        return _LEASE_BREAK.pack(
            self.STRUCTURE_SIZE,
            self.new_epoch,
            self.flags,
            self.lease_key,
            self.current_lease_state,
            self.new_lease_state,
            0,
            0,
            0,
        )

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        _, new_epoch, flags, current_lease_state, new_lease_state, _, _, _ = unpack_body(
            _LEASE_BREAK_INTEGERS, message, cls.STRUCTURE_SIZE, "lease break"
        )
        return cls(bytes(message[_LEASE_KEY]), current_lease_state, new_lease_state, flags, new_epoch)


@dataclass(slots=True)
class LeaseBreakAcknowledgement:
    """A client's acknowledgement and the server's response to it ([MS-SMB2] 2.2.24.2 and 2.2.25.2)."""

    COMMAND: ClassVar[Command] = Command.OPLOCK_BREAK
    STRUCTURE_SIZE: ClassVar[int] = 36
    lease_key: bytes
    lease_state: int

    def encode(self) -> bytes:
        """Return the body."""
        return _LEASE_ACKNOWLEDGEMENT.pack(self.STRUCTURE_SIZE, 0, 0, self.lease_key, self.lease_state, 0)

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        _, _, _, lease_state, _ = unpack_body(
            _LEASE_ACKNOWLEDGEMENT_INTEGERS, message, cls.STRUCTURE_SIZE, "lease break acknowledgement"
        )
        return cls(bytes(message[_LEASE_KEY]), lease_state)


def decode_break_notification_untrusted(message: memoryview) -> OplockBreak | LeaseBreakNotification:
    """Decode the OPLOCK_BREAK that a server sends by itself."""
    if _structure_size(message) == OplockBreak.STRUCTURE_SIZE:
        return OplockBreak.decode_untrusted(message)
    return LeaseBreakNotification.decode_untrusted(message)


def decode_break_acknowledgement_untrusted(message: memoryview) -> OplockBreak | LeaseBreakAcknowledgement:
    """Decode the OPLOCK_BREAK that a client sends, or the server's response to it."""
    if _structure_size(message) == OplockBreak.STRUCTURE_SIZE:
        return OplockBreak.decode_untrusted(message)
    return LeaseBreakAcknowledgement.decode_untrusted(message)


def _structure_size(message: memoryview) -> int:
    (structure_size,) = unpack_checked(_STRUCTURE_SIZE, message, SMB2_HEADER_SIZE, "break")
    return structure_size


def _encode_changes(changes: Sequence[FileNotifyInformation]) -> bytes:
    encoded = bytearray()
    last = len(changes) - 1
    for index, change in enumerate(changes):
        name = encode_utf16(change.file_name)
        size = _NOTIFY_ENTRY.size + len(name)
        # Entries are aligned to four bytes ([MS-FSCC] 2.7.1).
        following = 0 if index == last else (size + 3) & ~3
        encoded += _NOTIFY_ENTRY.pack(following, change.action, len(name))
        encoded += name.ljust(max(following, size) - _NOTIFY_ENTRY.size, b"\0")
    return bytes(encoded)


def _decode_changes(view: memoryview) -> tuple[FileNotifyInformation, ...]:
    changes: list[FileNotifyInformation] = []
    while view:
        following, action, name_length = unpack_checked(_NOTIFY_ENTRY, view, 0, "notification")
        if following and not _NOTIFY_ENTRY.size <= following <= len(view):
            raise RemoteProtocolError(f"notification: NextEntryOffset {following} of {len(view)} bytes")
        entry = view[:following] if following else view
        name = slice_checked(entry, _NOTIFY_ENTRY.size, name_length, "notification name")
        changes.append(FileNotifyInformation(action, decode_utf16_untrusted(name)))
        view = view[following:] if following else view[:0]
    return tuple(changes)
