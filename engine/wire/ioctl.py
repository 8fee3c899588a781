"""What goes in and comes out of SMB2 IOCTL: the codes and SMB2's own payloads ([MS-SMB2] 2.2.31, 2.2.32).

The file system's payloads are in `fscc_control`, `fscc_pipe`, `reparse` and `dfs`. A named pipe's
transaction (PIPE_TRANSCEIVE) has no structure: the bytes of the caller go both ways.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Final, NamedTuple, Self
from uuid import UUID

from engine.errors import LocalProtocolError
from engine.wire.fscc_chain import join_chain, split_chain_untrusted
from engine.wire.primitives import decode_utf16_untrusted, encode_utf16, slice_checked, unpack_checked


class FsctlCode(IntEnum):
    """CtlCode of an SMB2 IOCTL ([MS-SMB2] 2.2.31, [MS-FSCC] 2.3)."""

    DFS_GET_REFERRALS = 0x00060194
    DFS_GET_REFERRALS_EX = 0x000601B0
    SET_REPARSE_POINT = 0x000900A4
    GET_REPARSE_POINT = 0x000900A8
    DELETE_REPARSE_POINT = 0x000900AC
    SET_SPARSE = 0x000900C4
    QUERY_ALLOCATED_RANGES = 0x000940CF
    SET_ZERO_DATA = 0x000980C8
    FILE_LEVEL_TRIM = 0x00098208
    DUPLICATE_EXTENTS_TO_FILE = 0x00098344
    PIPE_WAIT = 0x00110018
    PIPE_PEEK = 0x0011400C
    PIPE_TRANSCEIVE = 0x0011C017
    SRV_REQUEST_RESUME_KEY = 0x00140078
    SRV_ENUMERATE_SNAPSHOTS = 0x00144064
    LMR_REQUEST_RESILIENCY = 0x001401D4
    QUERY_NETWORK_INTERFACE_INFO = 0x001401FC
    VALIDATE_NEGOTIATE_INFO = 0x00140204
    SRV_COPYCHUNK = 0x001440F2
    SRV_READ_HASH = 0x001441BB
    SRV_COPYCHUNK_WRITE = 0x001480F2


@dataclass(slots=True)
class ValidateNegotiateInfoRequest:
    """VALIDATE_NEGOTIATE_INFO request ([MS-SMB2] 2.2.31.4): what the NEGOTIATE request said."""

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I16xHH")

    capabilities: int
    guid: UUID
    security_mode: int
    dialects: Sequence[int]

    def encode(self) -> bytes:
        fixed = bytearray(self._LAYOUT.pack(self.capabilities, self.security_mode, len(self.dialects)))
        fixed[4:20] = self.guid.bytes_le
        return bytes(fixed) + struct.pack(f"<{len(self.dialects)}H", *self.dialects)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "VALIDATE_NEGOTIATE_INFO request"
        capabilities, security_mode, count = unpack_checked(cls._LAYOUT, view, 0, what)
        dialects = struct.unpack(f"<{count}H", slice_checked(view, cls._LAYOUT.size, 2 * count, what))
        return cls(capabilities, UUID(bytes_le=bytes(view[4:20])), security_mode, dialects)


@dataclass(slots=True)
class ValidateNegotiateInfoResponse:
    """VALIDATE_NEGOTIATE_INFO response ([MS-SMB2] 2.2.32.6): what the NEGOTIATE response said."""

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I16xHH")

    capabilities: int
    guid: UUID
    security_mode: int
    dialect: int

    def encode(self) -> bytes:
        fixed = bytearray(self._LAYOUT.pack(self.capabilities, self.security_mode, self.dialect))
        fixed[4:20] = self.guid.bytes_le
        return bytes(fixed)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "VALIDATE_NEGOTIATE_INFO response"
        capabilities, security_mode, dialect = unpack_checked(cls._LAYOUT, view, 0, what)
        return cls(capabilities, UUID(bytes_le=bytes(view[4:20])), security_mode, dialect)


class NetworkInterfaceCapability(IntFlag):
    """What an interface can do ([MS-SMB2] 2.2.32.5)."""

    RSS_CAPABLE = 1
    RDMA_CAPABLE = 2


_AF_INET: Final = 0x0002
_AF_INET6: Final = 0x0017


@dataclass(slots=True)
class NetworkInterfaceInfo:
    """One address of the server ([MS-SMB2] 2.2.32.5); `link_speed` in bits per second.

    `address` is None for a family that is neither IPv4 nor IPv6.
    """

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<4xII4xQH126x")
    _ADDRESS_OFFSET: ClassVar[int] = 24

    interface_index: int
    capability: int
    link_speed: int
    address: IPv4Address | IPv6Address | None

    def encode(self) -> bytes:
        """Encode as a list of one."""
        family, at = 0, 0
        packed = b""
        if isinstance(self.address, IPv4Address):
            family, at, packed = _AF_INET, 4, self.address.packed
        elif isinstance(self.address, IPv6Address):
            family, at, packed = _AF_INET6, 8, self.address.packed
        entry = bytearray(self._LAYOUT.pack(self.interface_index, self.capability, self.link_speed, family))
        at += self._ADDRESS_OFFSET
        entry[at : at + len(packed)] = packed
        return bytes(entry)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        """Decode the first entry of a list."""
        what = "network interface"
        index, capability, speed, family = unpack_checked(cls._LAYOUT, view, 0, what)
        address: IPv4Address | IPv6Address | None = None
        if family == _AF_INET:
            address = IPv4Address(bytes(slice_checked(view, cls._ADDRESS_OFFSET + 4, 4, what)))
        elif family == _AF_INET6:
            address = IPv6Address(bytes(slice_checked(view, cls._ADDRESS_OFFSET + 8, 16, what)))
        return cls(index, capability, speed, address)


def encode_network_interfaces(interfaces: Iterable[NetworkInterfaceInfo]) -> bytes:
    """Encode the reply to QUERY_NETWORK_INTERFACE_INFO ([MS-SMB2] 2.2.32.5)."""
    return join_chain([interface.encode() for interface in interfaces], 8)


def decode_network_interfaces_untrusted(view: memoryview) -> list[NetworkInterfaceInfo]:
    """Decode the reply to QUERY_NETWORK_INTERFACE_INFO ([MS-SMB2] 2.2.32.5)."""
    entries = split_chain_untrusted(view, NetworkInterfaceInfo._LAYOUT.size, "network interface")
    return [NetworkInterfaceInfo.decode_untrusted(entry) for entry in entries]


RESUME_KEY_SIZE: Final = 24


@dataclass(slots=True)
class ResumeKeyResponse:
    """SRV_REQUEST_RESUME_KEY response ([MS-SMB2] 2.2.32.3): the source's name in a server-side copy."""

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")

    resume_key: bytes
    context: bytes = b""

    def encode(self) -> bytes:
        if len(self.resume_key) != RESUME_KEY_SIZE:
            raise LocalProtocolError(f"a resume key is {RESUME_KEY_SIZE} bytes long")
        return self.resume_key + self._LAYOUT.pack(len(self.context)) + self.context

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "SRV_REQUEST_RESUME_KEY response"
        (length,) = unpack_checked(cls._LAYOUT, view, RESUME_KEY_SIZE, what)
        context = slice_checked(view, RESUME_KEY_SIZE + cls._LAYOUT.size, length, what)
        return cls(bytes(view[:RESUME_KEY_SIZE]), bytes(context))


class CopyChunk(NamedTuple):
    """One range of a server-side copy, in bytes ([MS-SMB2] 2.2.31.1.1)."""

    source_offset: int
    target_offset: int
    length: int


@dataclass(slots=True)
class CopyChunkRequest:
    """SRV_COPYCHUNK and SRV_COPYCHUNK_WRITE request ([MS-SMB2] 2.2.31.1)."""

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I4x")
    _CHUNK: ClassVar[struct.Struct] = struct.Struct("<QQI4x")

    source_key: bytes
    chunks: Sequence[CopyChunk]

    def encode(self) -> bytes:
        if len(self.source_key) != RESUME_KEY_SIZE:
            raise LocalProtocolError(f"a resume key is {RESUME_KEY_SIZE} bytes long")
        chunks = b"".join(self._CHUNK.pack(*chunk) for chunk in self.chunks)
        return self.source_key + self._LAYOUT.pack(len(self.chunks)) + chunks

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "SRV_COPYCHUNK request"
        (count,) = unpack_checked(cls._LAYOUT, view, RESUME_KEY_SIZE, what)
        inside = slice_checked(view, RESUME_KEY_SIZE + cls._LAYOUT.size, count * cls._CHUNK.size, what)
        chunks = [CopyChunk(*fields) for fields in cls._CHUNK.iter_unpack(inside)]
        return cls(bytes(view[:RESUME_KEY_SIZE]), tuple(chunks))


@dataclass(slots=True)
class CopyChunkResponse:
    """SRV_COPYCHUNK response ([MS-SMB2] 2.2.32.1).

    With STATUS_INVALID_PARAMETER the three are the server's limits instead: chunks per request, bytes
    per chunk, bytes per request.
    """

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<III")

    chunks_written: int
    chunk_bytes_written: int
    total_bytes_written: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.chunks_written, self.chunk_bytes_written, self.total_bytes_written)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "SRV_COPYCHUNK response"))


@dataclass(slots=True)
class SnapshotsResponse:
    """SRV_ENUMERATE_SNAPSHOTS response ([MS-SMB2] 2.2.32.2).

    `snapshots` are "@GMT-YYYY.MM.DD-HH.MM.SS". Where they did not all fit it is empty, and
    `number_of_snapshots` and `snapshot_array_size` (bytes) say what to ask for.
    """

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<III")

    snapshots: Sequence[str]
    number_of_snapshots: int = 0
    snapshot_array_size: int = 0

    def encode(self) -> bytes:
        array = encode_utf16("".join(f"{name}\0" for name in self.snapshots) + "\0")
        total = max(self.number_of_snapshots, len(self.snapshots))
        size = len(array) if self.snapshots else self.snapshot_array_size
        fixed = self._LAYOUT.pack(total, len(self.snapshots), size)
        return fixed + array if self.snapshots else fixed

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "SRV_ENUMERATE_SNAPSHOTS response"
        total, returned, size = unpack_checked(cls._LAYOUT, view, 0, what)
        if not returned:
            return cls((), total, size)
        array = decode_utf16_untrusted(slice_checked(view, cls._LAYOUT.size, size, what))
        # The list ends with an empty name; split's last piece is what follows the last NUL.
        names = array.split("\0", returned)[:returned]
        return cls(tuple(name for name in names if name), total, size)


@dataclass(slots=True)
class NetworkResiliencyRequest:
    """LMR_REQUEST_RESILIENCY request ([MS-SMB2] 2.2.31.3): outlive a disconnection for `timeout` ms."""

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I4x")

    timeout: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.timeout)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "LMR_REQUEST_RESILIENCY request"))
