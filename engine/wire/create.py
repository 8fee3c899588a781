"""CREATE and CLOSE ([MS-SMB2] 2.2.13 to 2.2.16)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from engine.wire.constants import (
    SHARE_ALL,
    Command,
    Disposition,
    FileAttributes,
    ImpersonationLevel,
    OplockLevel,
)
from engine.wire.create_contexts import (
    CreateContext,
    decode_request_contexts_untrusted,
    decode_response_contexts_untrusted,
    encode_contexts,
)
from engine.wire.primitives import (
    SMB2_HEADER_SIZE,
    FileId,
    decode_utf16_untrusted,
    encode_name,
    pad8,
    slice_payload,
    unpack_body,
)

_CREATE_REQUEST: Final = struct.Struct("<HBBIQQIIIIIHHII")
_NAME_OFFSET: Final = SMB2_HEADER_SIZE + _CREATE_REQUEST.size
_CREATE_RESPONSE: Final = struct.Struct("<HBBIQQQQQQIIQQII")
_RESPONSE_CONTEXTS_OFFSET: Final = SMB2_HEADER_SIZE + _CREATE_RESPONSE.size
_CLOSE_REQUEST: Final = struct.Struct("<HHIQQ")
_CLOSE_RESPONSE: Final = struct.Struct("<HHIQQQQQQI")


@dataclass(slots=True, kw_only=True)
class CreateRequest:
    r"""[MS-SMB2] 2.2.13. `name` is relative to the share, without a leading `\`; "" is its root.

    With `in_dfs` it is a full one, `server\share\path`, and the header says so (SMB2_FLAGS_DFS_OPERATIONS).
    """

    COMMAND: ClassVar[Command] = Command.CREATE
    requested_oplock_level: int = OplockLevel.NONE
    impersonation_level: int = ImpersonationLevel.IMPERSONATION
    desired_access: int
    file_attributes: int = FileAttributes.NORMAL
    share_access: int = SHARE_ALL
    create_disposition: int = Disposition.OPEN
    create_options: int = 0
    name: str
    contexts: Sequence[CreateContext] = ()
    in_dfs: bool = False

    def encode(self) -> bytes:
        """Return the body; raise `LocalProtocolError` if the name is too long for the wire."""
        name = encode_name(self.name, "CREATE request")
        # Servers refuse a CREATE with nothing behind its fixed part, even if the name is empty.
        name_and_padding = pad8(name or b"\0")
        contexts = encode_contexts(self.contexts)
        fixed = _CREATE_REQUEST.pack(
            57,
            0,
            self.requested_oplock_level,
            self.impersonation_level,
            0,
            0,
            self.desired_access,
            self.file_attributes,
            self.share_access,
            self.create_disposition,
            self.create_options,
            _NAME_OFFSET,
            len(name),
            _NAME_OFFSET + len(name_and_padding) if contexts else 0,
            len(contexts),
        )
        return fixed + name_and_padding + contexts

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        (
            _,
            _,
            requested_oplock_level,
            impersonation_level,
            _,
            _,
            desired_access,
            file_attributes,
            share_access,
            create_disposition,
            create_options,
            name_offset,
            name_length,
            contexts_offset,
            contexts_length,
        ) = unpack_body(_CREATE_REQUEST, message, 57, "CREATE request")
        name = slice_payload(message, name_offset, name_length, _NAME_OFFSET, "CREATE name")
        contexts = slice_payload(message, contexts_offset, contexts_length, _NAME_OFFSET, "CREATE contexts")
        return cls(
            requested_oplock_level=requested_oplock_level,
            impersonation_level=impersonation_level,
            desired_access=desired_access,
            file_attributes=file_attributes,
            share_access=share_access,
            create_disposition=create_disposition,
            create_options=create_options,
            name=decode_utf16_untrusted(name),
            contexts=decode_request_contexts_untrusted(contexts),
        )


@dataclass(slots=True, kw_only=True)
class CreateResponse:
    """[MS-SMB2] 2.2.14. Times are FILETIMEs, sizes are bytes."""

    COMMAND: ClassVar[Command] = Command.CREATE
    oplock_level: int = OplockLevel.NONE
    flags: int = 0
    create_action: int
    creation_time: int
    last_access_time: int
    last_write_time: int
    change_time: int
    allocation_size: int
    end_of_file: int
    file_attributes: int
    file_id: FileId
    contexts: Sequence[CreateContext] = ()

    def encode(self) -> bytes:
        """Return the body."""
        contexts = encode_contexts(self.contexts)
        fixed = _CREATE_RESPONSE.pack(
            89,
            self.oplock_level,
            self.flags,
            self.create_action,
            self.creation_time,
            self.last_access_time,
            self.last_write_time,
            self.change_time,
            self.allocation_size,
            self.end_of_file,
            self.file_attributes,
            0,
            *self.file_id,
            _RESPONSE_CONTEXTS_OFFSET if contexts else 0,
            len(contexts),
        )
        return fixed + contexts

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        (
            _,
            oplock_level,
            flags,
            create_action,
            creation_time,
            last_access_time,
            last_write_time,
            change_time,
            allocation_size,
            end_of_file,
            file_attributes,
            _,
            persistent,
            volatile,
            contexts_offset,
            contexts_length,
        ) = unpack_body(_CREATE_RESPONSE, message, 89, "CREATE response")
        contexts: tuple[CreateContext, ...] = ()
        if contexts_length:
            contexts = decode_response_contexts_untrusted(
                slice_payload(
                    message, contexts_offset, contexts_length, _RESPONSE_CONTEXTS_OFFSET, "CREATE contexts"
                )
            )
        return cls(
            oplock_level=oplock_level,
            flags=flags,
            create_action=create_action,
            creation_time=creation_time,
            last_access_time=last_access_time,
            last_write_time=last_write_time,
            change_time=change_time,
            allocation_size=allocation_size,
            end_of_file=end_of_file,
            file_attributes=file_attributes,
            file_id=FileId(persistent, volatile),
            contexts=contexts,
        )


@dataclass(slots=True)
class CloseRequest:
    """[MS-SMB2] 2.2.15. With `CloseFlags.POSTQUERY_ATTRIB` the response tells times and sizes."""

    COMMAND: ClassVar[Command] = Command.CLOSE
    file_id: FileId
    flags: int = 0

    def encode(self) -> bytes:
        """Return the body."""
        return _CLOSE_REQUEST.pack(24, self.flags, 0, *self.file_id)

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        _, flags, _, persistent, volatile = unpack_body(_CLOSE_REQUEST, message, 24, "CLOSE request")
        return cls(FileId(persistent, volatile), flags)


@dataclass(slots=True, kw_only=True)
class CloseResponse:
    """[MS-SMB2] 2.2.16. Without `CloseFlags.POSTQUERY_ATTRIB` in `flags` all else is 0 and means nothing."""

    COMMAND: ClassVar[Command] = Command.CLOSE
    flags: int = 0
    creation_time: int = 0
    last_access_time: int = 0
    last_write_time: int = 0
    change_time: int = 0
    allocation_size: int = 0
    end_of_file: int = 0
    file_attributes: int = 0

    def encode(self) -> bytes:
        """Return the body."""
        return _CLOSE_RESPONSE.pack(
            60,
            self.flags,
            0,
            self.creation_time,
            self.last_access_time,
            self.last_write_time,
            self.change_time,
            self.allocation_size,
            self.end_of_file,
            self.file_attributes,
        )

    @classmethod
    def decode_untrusted(cls, message: memoryview) -> Self:
        """Decode a whole message."""
        (
            _,
            flags,
            _,
            creation_time,
            last_access_time,
            last_write_time,
            change_time,
            allocation_size,
            end_of_file,
            file_attributes,
        ) = unpack_body(_CLOSE_RESPONSE, message, 60, "CLOSE response")
        return cls(
            flags=flags,
            creation_time=creation_time,
            last_access_time=last_access_time,
            last_write_time=last_write_time,
            change_time=change_time,
            allocation_size=allocation_size,
            end_of_file=end_of_file,
            file_attributes=file_attributes,
        )
