"""IOCTL payloads against bytes written down by hand from [MS-SMB2] 2.2.31, 2.2.32 and [MS-FSCC] 2.3."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

import pytest

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.fscc_control import (
    AllocatedRange,
    DuplicateExtentsRequest,
    FileLevelTrimRequest,
    SetSparseRequest,
    SetZeroDataRequest,
    TrimRange,
    decode_allocated_ranges_untrusted,
    encode_allocated_ranges,
)
from engine.wire.ioctl import (
    CopyChunk,
    CopyChunkRequest,
    CopyChunkResponse,
    NetworkInterfaceInfo,
    NetworkResiliencyRequest,
    ResumeKeyResponse,
    SnapshotsResponse,
    ValidateNegotiateInfoRequest,
    ValidateNegotiateInfoResponse,
    decode_network_interfaces_untrusted,
    encode_network_interfaces,
)
from engine.wire.primitives import FileId

GUID = UUID("00112233-4455-6677-8899-aabbccddeeff")
GUID_BYTES = bytes.fromhex("33221100554477668899aabbccddeeff")


def test_validate_negotiate_info() -> None:
    request = ValidateNegotiateInfoRequest(0x7F, GUID, 1, (0x0202, 0x0302))
    encoded = struct.pack("<I", 0x7F) + GUID_BYTES + struct.pack("<HHHH", 1, 2, 0x0202, 0x0302)
    assert request.encode() == encoded
    assert ValidateNegotiateInfoRequest.decode_untrusted(memoryview(encoded)) == request
    response = ValidateNegotiateInfoResponse(0x7F, GUID, 3, 0x0302)
    encoded = struct.pack("<I", 0x7F) + GUID_BYTES + struct.pack("<HH", 3, 0x0302)
    assert response.encode() == encoded
    assert ValidateNegotiateInfoResponse.decode_untrusted(memoryview(encoded)) == response


def _interface(index: int, next_entry: int, address: bytes) -> bytes:
    return struct.pack("<IIIIQ", next_entry, index, 1, 0, 10**9) + address.ljust(128, b"\0")


def test_network_interfaces() -> None:
    v4 = struct.pack("<HH", 2, 0) + bytes((192, 0, 2, 1))
    v6 = struct.pack("<HHI", 0x17, 0, 0) + IPv6Address("2001:db8::1").packed
    other = struct.pack("<H", 0x1234) + b"\xff" * 20
    encoded = _interface(1, 152, v4) + _interface(2, 152, v6) + _interface(3, 0, other)
    interfaces = decode_network_interfaces_untrusted(memoryview(encoded))
    assert interfaces == [
        NetworkInterfaceInfo(1, 1, 10**9, IPv4Address("192.0.2.1")),
        NetworkInterfaceInfo(2, 1, 10**9, IPv6Address("2001:db8::1")),
        NetworkInterfaceInfo(3, 1, 10**9, None),
    ]
    assert encode_network_interfaces(interfaces[:2]) == _interface(1, 152, v4) + _interface(2, 0, v6)


@pytest.mark.parametrize("step", [1, 151, 153, 0xFFFFFFFF])
def test_network_interfaces_in_a_broken_chain(step: int) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_network_interfaces_untrusted(memoryview(_interface(1, step, b"") + _interface(2, 0, b"")))


KEY = bytes(range(24))


@pytest.mark.parametrize("tail", [b"\0\0\0\0", b"\0\0\0\0pad!"])
def test_resume_key(tail: bytes) -> None:
    assert ResumeKeyResponse.decode_untrusted(memoryview(KEY + tail)) == ResumeKeyResponse(KEY)
    assert ResumeKeyResponse(KEY).encode() == KEY + b"\0\0\0\0"


def test_a_resume_key_of_the_wrong_length() -> None:
    with pytest.raises(LocalProtocolError):
        ResumeKeyResponse(KEY[1:]).encode()
    with pytest.raises(LocalProtocolError):
        CopyChunkRequest(KEY[1:], ()).encode()


def test_copychunk() -> None:
    request = CopyChunkRequest(KEY, (CopyChunk(1, 2, 3), CopyChunk(1 << 40, 5, 6)))
    encoded = KEY + struct.pack("<IIQQIIQQII", 2, 0, 1, 2, 3, 0, 1 << 40, 5, 6, 0)
    assert request.encode() == encoded
    assert CopyChunkRequest.decode_untrusted(memoryview(encoded)) == request
    response = CopyChunkResponse.decode_untrusted(memoryview(struct.pack("<III", 2, 0, 9)))
    assert response == CopyChunkResponse(2, 0, 9)


def test_more_copychunks_than_there_are() -> None:
    encoded = KEY + struct.pack("<IIQQII", 0xFFFFFFFF, 0, 1, 2, 3, 0)
    with pytest.raises(RemoteProtocolError):
        CopyChunkRequest.decode_untrusted(memoryview(encoded))


SNAPSHOT = "@GMT-2024.01.02-03.04.05"


def test_snapshots() -> None:
    array = f"{SNAPSHOT}\0{SNAPSHOT}\0\0".encode("utf-16-le")
    encoded = struct.pack("<III", 2, 2, len(array)) + array
    response = SnapshotsResponse.decode_untrusted(memoryview(encoded))
    assert response == SnapshotsResponse((SNAPSHOT, SNAPSHOT), 2, len(array))
    assert response.encode() == encoded


def test_snapshots_that_did_not_fit() -> None:
    encoded = struct.pack("<III", 40, 0, 2002)
    response = SnapshotsResponse.decode_untrusted(memoryview(encoded + bytes(4)))
    assert response == SnapshotsResponse((), 40, 2002)
    assert response.encode() == encoded


def test_a_count_of_snapshots_that_is_a_lie() -> None:
    array = f"{SNAPSHOT}\0\0".encode("utf-16-le")
    encoded = struct.pack("<III", 0xFFFFFFFF, 0xFFFFFFFF, len(array)) + array
    assert SnapshotsResponse.decode_untrusted(memoryview(encoded)).snapshots == (SNAPSHOT,)


def test_resiliency() -> None:
    assert NetworkResiliencyRequest(120_000).encode() == struct.pack("<II", 120_000, 0)


def test_sparse_and_zero() -> None:
    assert (SetSparseRequest().encode(), SetSparseRequest(False).encode()) == (b"\1", b"\0")
    assert SetSparseRequest.decode_untrusted(memoryview(b"")) == SetSparseRequest(True)
    assert SetZeroDataRequest(4096, 1 << 40).encode() == struct.pack("<qq", 4096, 1 << 40)


def test_allocated_ranges() -> None:
    ranges = [AllocatedRange(0, 4096), AllocatedRange((1 << 63) - 2, 1)]
    encoded = struct.pack("<qqqq", 0, 4096, (1 << 63) - 2, 1)
    assert encode_allocated_ranges(ranges) == encoded
    assert decode_allocated_ranges_untrusted(memoryview(encoded)) == ranges
    assert decode_allocated_ranges_untrusted(memoryview(b"")) == []


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1), ((1 << 63) - 1, 1), (1 << 62, 1 << 62)])
def test_allocated_ranges_outside_any_file(offset: int, length: int) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_allocated_ranges_untrusted(memoryview(struct.pack("<qq", offset, length)))


@pytest.mark.parametrize("length", [1, 8, 15, 17, 31])
def test_half_an_allocated_range(length: int) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_allocated_ranges_untrusted(memoryview(bytes(length)))


def test_trim() -> None:
    request = FileLevelTrimRequest((TrimRange(1, 2), TrimRange(3, 4)))
    encoded = struct.pack("<IIQQQQ", 0, 2, 1, 2, 3, 4)
    assert request.encode() == encoded
    with pytest.raises(RemoteProtocolError):
        FileLevelTrimRequest.decode_untrusted(memoryview(struct.pack("<IIQQ", 0, 2, 1, 2)))


def test_duplicate_extents() -> None:
    request = DuplicateExtentsRequest(FileId(1, 2), 3, 4, 5)
    assert request.encode() == struct.pack("<QQqqq", 1, 2, 3, 4, 5)
