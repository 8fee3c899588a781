"""The create contexts of [MS-SMB2] 2.2.13.2 and 2.2.14.2, and the chain that holds them.

Some names mean one layout in a request and another in a response, so there is a decoder for each
direction. A name without a class here comes back as `RawCreateContext`. The module is long because it
is a catalogue: twenty small classes of one shape, which are easier to compare in one place.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, Self

from engine.errors import RemoteProtocolError
from engine.wire.primitives import (
    FileId,
    align8,
    pad8,
    read_guid,
    slice_checked,
    slice_payload,
    unpack_checked,
)

_ENTRY: Final = struct.Struct("<IHHHHI")
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_TWO_U32: Final = struct.Struct("<II")
_TWO_U64: Final = struct.Struct("<QQ")
_LEASE: Final = struct.Struct("<16sIIQ")
_LEASE_INTEGERS: Final = struct.Struct("<16xIIQ")
_LEASE_V2: Final = struct.Struct("<16sIIQ16sHH")
_LEASE_V2_INTEGERS: Final = struct.Struct("<16xIIQ16xHH")
_DURABLE_V2_REQUEST: Final = struct.Struct("<IIQ16s")
_DURABLE_V2_REQUEST_INTEGERS: Final = struct.Struct("<IIQ16x")
_DURABLE_V2_RECONNECT: Final = struct.Struct("<QQ16sI")
_DURABLE_V2_RECONNECT_INTEGERS: Final = struct.Struct("<QQ16xI")
_ON_DISK_ID: Final = struct.Struct("<QQ16x")
_APP_INSTANCE_ID: Final = struct.Struct("<HH16s")
_APP_INSTANCE_ID_INTEGERS: Final = struct.Struct("<HH16x")
_APP_INSTANCE_VERSION: Final = struct.Struct("<HHIQQ")
_POSIX_RESPONSE: Final = struct.Struct("<III")


class CreateContext(Protocol):
    """One entry of a SMB2_CREATE_CONTEXT chain."""

    @property
    def name(self) -> bytes:
        """The tag on the wire, 4 or 16 bytes."""

    def encode(self) -> bytes:
        """Return the context's data, without its header."""


@dataclass(slots=True)
class RawCreateContext:
    """A context whose name has no class here, such as SVHDX_OPEN_DEVICE_CONTEXT: its bytes as they came."""

    name: bytes
    data: bytes

    def encode(self) -> bytes:
        """Return the context's data."""
        return self.data


@dataclass(slots=True)
class EaBuffer:
    """SMB2_CREATE_EA_BUFFER ([MS-SMB2] 2.2.13.2.1): `data` is a list of FILE_FULL_EA_INFORMATION."""

    name: ClassVar[bytes] = b"ExtA"
    data: bytes

    def encode(self) -> bytes:
        """Return the context's data."""
        return self.data

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        return cls(bytes(data))


@dataclass(slots=True)
class SecurityDescriptorBuffer:
    """SMB2_CREATE_SD_BUFFER ([MS-SMB2] 2.2.13.2.2): `data` is a self-relative SECURITY_DESCRIPTOR."""

    name: ClassVar[bytes] = b"SecD"
    data: bytes

    def encode(self) -> bytes:
        """Return the context's data."""
        return self.data

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        return cls(bytes(data))


@dataclass(slots=True)
class DurableHandleRequest:
    """[MS-SMB2] 2.2.13.2.3."""

    name: ClassVar[bytes] = b"DHnQ"

    def encode(self) -> bytes:
        """Return the context's data, sixteen reserved bytes."""
        return bytes(16)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        slice_checked(data, 0, 16, "durable handle request")
        return cls()


@dataclass(slots=True)
class DurableHandleResponse:
    """[MS-SMB2] 2.2.14.2.3."""

    name: ClassVar[bytes] = b"DHnQ"

    def encode(self) -> bytes:
        """Return the context's data, eight reserved bytes."""
        return bytes(8)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        slice_checked(data, 0, 8, "durable handle response")
        return cls()


@dataclass(slots=True)
class DurableHandleReconnect:
    """[MS-SMB2] 2.2.13.2.4."""

    name: ClassVar[bytes] = b"DHnC"
    file_id: FileId

    def encode(self) -> bytes:
        """Return the context's data."""
        return _TWO_U64.pack(*self.file_id)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        persistent, volatile = unpack_checked(_TWO_U64, data, 0, "durable handle reconnect")
        return cls(FileId(persistent, volatile))


@dataclass(slots=True)
class AllocationSize:
    """[MS-SMB2] 2.2.13.2.6, in bytes."""

    name: ClassVar[bytes] = b"AlSi"
    allocation_size: int

    def encode(self) -> bytes:
        """Return the context's data."""
        return _U64.pack(self.allocation_size)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        (allocation_size,) = unpack_checked(_U64, data, 0, "allocation size")
        return cls(allocation_size)


@dataclass(slots=True)
class QueryMaximalAccessRequest:
    """[MS-SMB2] 2.2.13.2.5. `timestamp` (FILETIME): answer only if the file's last change is another one."""

    name: ClassVar[bytes] = b"MxAc"
    timestamp: int | None = None

    def encode(self) -> bytes:
        """Return the context's data."""
        return b"" if self.timestamp is None else _U64.pack(self.timestamp)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        if not data:
            return cls()
        (timestamp,) = unpack_checked(_U64, data, 0, "maximal access request")
        return cls(timestamp)


@dataclass(slots=True)
class QueryMaximalAccessResponse:
    """[MS-SMB2] 2.2.14.2.5. `maximal_access` counts only if `query_status` is a success."""

    name: ClassVar[bytes] = b"MxAc"
    query_status: int
    maximal_access: int

    def encode(self) -> bytes:
        """Return the context's data."""
        return _TWO_U32.pack(self.query_status, self.maximal_access)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        query_status, maximal_access = unpack_checked(_TWO_U32, data, 0, "maximal access response")
        return cls(query_status, maximal_access)


@dataclass(slots=True)
class TimewarpToken:
    """[MS-SMB2] 2.2.13.2.7: open the file as the snapshot of this FILETIME has it."""

    name: ClassVar[bytes] = b"TWrp"
    timestamp: int

    def encode(self) -> bytes:
        """Return the context's data."""
        return _U64.pack(self.timestamp)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        (timestamp,) = unpack_checked(_U64, data, 0, "timewarp token")
        return cls(timestamp)


@dataclass(slots=True)
class QueryOnDiskIdRequest:
    """[MS-SMB2] 2.2.13.2.9."""

    name: ClassVar[bytes] = b"QFid"

    def encode(self) -> bytes:
        """Return the context's data, which is empty."""
        return b""

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        if data:
            raise RemoteProtocolError(f"on-disk id request: {len(data)} bytes where none belong")
        return cls()


@dataclass(slots=True)
class QueryOnDiskIdResponse:
    """[MS-SMB2] 2.2.14.2.9."""

    name: ClassVar[bytes] = b"QFid"
    disk_file_id: int
    volume_id: int

    def encode(self) -> bytes:
        """Return the context's data."""
        return _ON_DISK_ID.pack(self.disk_file_id, self.volume_id)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        disk_file_id, volume_id = unpack_checked(_ON_DISK_ID, data, 0, "on-disk id response")
        return cls(disk_file_id, volume_id)


@dataclass(slots=True)
class Lease:
    """A lease of version 1, asked for or granted ([MS-SMB2] 2.2.13.2.8 and 2.2.14.2.10)."""

    name: ClassVar[bytes] = b"RqLs"
    lease_key: bytes
    lease_state: int
    lease_flags: int = 0

    def encode(self) -> bytes:
        """Return the context's data."""
        return _LEASE.pack(self.lease_key, self.lease_state, self.lease_flags, 0)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        lease_state, lease_flags, _ = unpack_checked(_LEASE_INTEGERS, data, 0, "lease")
        return cls(bytes(data[:16]), lease_state, lease_flags)


@dataclass(slots=True)
class LeaseV2:
    """A lease of version 2, asked for or granted ([MS-SMB2] 2.2.13.2.10 and 2.2.14.2.11)."""

    name: ClassVar[bytes] = b"RqLs"
    lease_key: bytes
    lease_state: int
    lease_flags: int = 0
    parent_lease_key: bytes = bytes(16)
    epoch: int = 0

    def encode(self) -> bytes:
        """Return the context's data."""
        return _LEASE_V2.pack(
            self.lease_key, self.lease_state, self.lease_flags, 0, self.parent_lease_key, self.epoch, 0
        )

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        lease_state, lease_flags, _, epoch, _ = unpack_checked(_LEASE_V2_INTEGERS, data, 0, "lease v2")
        return cls(bytes(data[:16]), lease_state, lease_flags, bytes(data[32:48]), epoch)


@dataclass(slots=True)
class DurableHandleRequestV2:
    """[MS-SMB2] 2.2.13.2.11. `timeout` in milliseconds, 0 = as the server likes."""

    name: ClassVar[bytes] = b"DH2Q"
    create_guid: uuid.UUID
    timeout: int = 0
    flags: int = 0

    def encode(self) -> bytes:
        """Return the context's data."""
        return _DURABLE_V2_REQUEST.pack(self.timeout, self.flags, 0, self.create_guid.bytes_le)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        timeout, flags, _ = unpack_checked(_DURABLE_V2_REQUEST_INTEGERS, data, 0, "durable handle request v2")
        return cls(read_guid(data, 16), timeout, flags)


@dataclass(slots=True)
class DurableHandleResponseV2:
    """[MS-SMB2] 2.2.14.2.12. `timeout` in milliseconds."""

    name: ClassVar[bytes] = b"DH2Q"
    timeout: int
    flags: int = 0

    def encode(self) -> bytes:
        """Return the context's data."""
        return _TWO_U32.pack(self.timeout, self.flags)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        timeout, flags = unpack_checked(_TWO_U32, data, 0, "durable handle response v2")
        return cls(timeout, flags)


@dataclass(slots=True)
class DurableHandleReconnectV2:
    """[MS-SMB2] 2.2.13.2.12."""

    name: ClassVar[bytes] = b"DH2C"
    file_id: FileId
    create_guid: uuid.UUID
    flags: int = 0

    def encode(self) -> bytes:
        """Return the context's data."""
        return _DURABLE_V2_RECONNECT.pack(*self.file_id, self.create_guid.bytes_le, self.flags)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        persistent, volatile, flags = unpack_checked(
            _DURABLE_V2_RECONNECT_INTEGERS, data, 0, "durable handle reconnect v2"
        )
        return cls(FileId(persistent, volatile), read_guid(data, 16), flags)


@dataclass(slots=True)
class AppInstanceId:
    """[MS-SMB2] 2.2.13.2.13."""

    name: ClassVar[bytes] = bytes.fromhex("45bca66aefa7f74a9008fa462e144d74")
    app_instance_id: uuid.UUID

    def encode(self) -> bytes:
        """Return the context's data."""
        return _APP_INSTANCE_ID.pack(20, 0, self.app_instance_id.bytes_le)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        structure_size, _ = unpack_checked(_APP_INSTANCE_ID_INTEGERS, data, 0, "application instance id")
        if structure_size != 20:
            raise RemoteProtocolError(f"application instance id: StructureSize is {structure_size}, not 20")
        return cls(read_guid(data, 4))


@dataclass(slots=True)
class AppInstanceVersion:
    """[MS-SMB2] 2.2.13.2.15."""

    name: ClassVar[bytes] = bytes.fromhex("b982d0b73b56074fa07b524a8116a010")
    app_instance_version_high: int
    app_instance_version_low: int

    def encode(self) -> bytes:
        """Return the context's data."""
        return _APP_INSTANCE_VERSION.pack(
            24, 0, 0, self.app_instance_version_high, self.app_instance_version_low
        )

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        fields = unpack_checked(_APP_INSTANCE_VERSION, data, 0, "application instance version")
        structure_size, _, _, high, low = fields
        if structure_size != 24:
            raise RemoteProtocolError(
                f"application instance version: StructureSize is {structure_size}, not 24"
            )
        return cls(high, low)


POSIX_CONTEXT_NAME: Final = bytes.fromhex("93ad25509cb411e7b42383de968bcd7c")
"""SMB2_CREATE_TAG_POSIX; also the data of the POSIX negotiate context (SMB 3.1.1 POSIX extensions)."""


@dataclass(slots=True)
class PosixRequest:
    """The mode that a created file is to have (SMB 3.1.1 POSIX extensions)."""

    name: ClassVar[bytes] = POSIX_CONTEXT_NAME
    mode: int

    def encode(self) -> bytes:
        """Return the context's data."""
        return _U32.pack(self.mode)

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        (mode,) = unpack_checked(_U32, data, 0, "POSIX create request")
        return cls(mode)


@dataclass(slots=True)
class PosixResponse:
    """What POSIX knows of the opened file (SMB 3.1.1 POSIX extensions); the SIDs as their bytes."""

    name: ClassVar[bytes] = POSIX_CONTEXT_NAME
    number_of_links: int
    reparse_tag: int
    mode: int
    owner_sid: bytes
    group_sid: bytes

    def encode(self) -> bytes:
        """Return the context's data."""
        fixed = _POSIX_RESPONSE.pack(self.number_of_links, self.reparse_tag, self.mode)
        return fixed + self.owner_sid + self.group_sid

    @classmethod
    def decode_untrusted(cls, data: memoryview) -> Self:
        """Decode the context's data."""
        number_of_links, reparse_tag, mode = unpack_checked(_POSIX_RESPONSE, data, 0, "POSIX create response")
        owner = _slice_sid(data, _POSIX_RESPONSE.size)
        group = _slice_sid(data, _POSIX_RESPONSE.size + len(owner))
        return cls(number_of_links, reparse_tag, mode, owner, group)


def _slice_sid(data: memoryview, offset: int) -> bytes:
    # [MS-DTYP] 2.4.2.2: the second byte counts the 32-bit sub-authorities behind the first eight bytes.
    sub_authority_count = slice_checked(data, offset, 8, "SID")[1]
    return bytes(slice_checked(data, offset, 8 + 4 * sub_authority_count, "SID"))


def _decode_lease(data: memoryview) -> Lease | LeaseV2:
    # Both versions have one name: their length tells which it is ([MS-SMB2] 3.3.5.9.11).
    return LeaseV2.decode_untrusted(data) if len(data) > _LEASE.size else Lease.decode_untrusted(data)


_Decoders = Mapping[bytes, Callable[[memoryview], CreateContext]]

_REQUEST_DECODERS: Final[_Decoders] = {
    EaBuffer.name: EaBuffer.decode_untrusted,
    SecurityDescriptorBuffer.name: SecurityDescriptorBuffer.decode_untrusted,
    DurableHandleRequest.name: DurableHandleRequest.decode_untrusted,
    DurableHandleReconnect.name: DurableHandleReconnect.decode_untrusted,
    AllocationSize.name: AllocationSize.decode_untrusted,
    QueryMaximalAccessRequest.name: QueryMaximalAccessRequest.decode_untrusted,
    TimewarpToken.name: TimewarpToken.decode_untrusted,
    QueryOnDiskIdRequest.name: QueryOnDiskIdRequest.decode_untrusted,
    Lease.name: _decode_lease,
    DurableHandleRequestV2.name: DurableHandleRequestV2.decode_untrusted,
    DurableHandleReconnectV2.name: DurableHandleReconnectV2.decode_untrusted,
    AppInstanceId.name: AppInstanceId.decode_untrusted,
    AppInstanceVersion.name: AppInstanceVersion.decode_untrusted,
    PosixRequest.name: PosixRequest.decode_untrusted,
}

_RESPONSE_DECODERS: Final[_Decoders] = {
    DurableHandleResponse.name: DurableHandleResponse.decode_untrusted,
    QueryMaximalAccessResponse.name: QueryMaximalAccessResponse.decode_untrusted,
    QueryOnDiskIdResponse.name: QueryOnDiskIdResponse.decode_untrusted,
    Lease.name: _decode_lease,
    DurableHandleResponseV2.name: DurableHandleResponseV2.decode_untrusted,
    PosixResponse.name: PosixResponse.decode_untrusted,
}


def encode_contexts(contexts: Sequence[CreateContext]) -> bytes:
    """Return the chain; nothing for no contexts."""
    encoded = bytearray()
    last = len(contexts) - 1
    for index, context in enumerate(contexts):
        data = context.encode()
        data_offset = align8(_ENTRY.size + len(context.name))
        following = 0 if index == last else align8(data_offset + len(data))
        encoded += _ENTRY.pack(following, _ENTRY.size, len(context.name), 0, data_offset, len(data))
        encoded += pad8(context.name)
        encoded += data if index == last else pad8(data)
    return bytes(encoded)


def decode_request_contexts_untrusted(view: memoryview) -> tuple[CreateContext, ...]:
    """Decode the chain of a CREATE request; raise `RemoteProtocolError` if it is malformed."""
    return _decode_chain(view, _REQUEST_DECODERS)


def decode_response_contexts_untrusted(view: memoryview) -> tuple[CreateContext, ...]:
    """Decode the chain of a CREATE response; raise `RemoteProtocolError` if it is malformed."""
    return _decode_chain(view, _RESPONSE_DECODERS)


def _decode_chain(view: memoryview, decoders: _Decoders) -> tuple[CreateContext, ...]:
    contexts: list[CreateContext] = []
    while view:
        following, name_offset, name_length, _, data_offset, data_length = unpack_checked(
            _ENTRY, view, 0, "create context"
        )
        if following % 8 or (following and not _ENTRY.size <= following <= len(view)):
            raise RemoteProtocolError(f"create context: Next is {following} with {len(view)} bytes left")
        entry = view[:following] if following else view
        name = bytes(slice_checked(entry, name_offset, name_length, "create context name"))
        data = slice_payload(entry, data_offset, data_length, _ENTRY.size, "create context data")
        decoder = decoders.get(name)
        contexts.append(decoder(data) if decoder else RawCreateContext(name, bytes(data)))
        view = view[following:] if following else view[:0]
    return tuple(contexts)
