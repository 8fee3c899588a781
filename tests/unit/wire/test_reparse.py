"""Reparse points against bytes written down by hand from [MS-FSCC] 2.1.2."""

from __future__ import annotations

import struct
from uuid import UUID

import pytest

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.reparse import (
    LxSymlink,
    MountPoint,
    NfsSpecialFile,
    NfsType,
    OtherReparsePoint,
    ReparsePoint,
    SymbolicLink,
    decode_reparse_untrusted,
    encode_reparse_deletion,
)


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le")


VECTORS: list[tuple[ReparsePoint, bytes]] = [
    (
        SymbolicLink("..\\b", "../b", 1),
        struct.pack("<IHHHHHHI", 0xA000000C, 28, 0, 0, 8, 8, 8, 1) + _utf16("..\\b../b"),
    ),
    (
        SymbolicLink("\\??\\C:\\x", "C:\\x", 0),
        struct.pack("<IHHHHHHI", 0xA000000C, 36, 0, 0, 16, 16, 8, 0) + _utf16("\\??\\C:\\xC:\\x"),
    ),
    (
        MountPoint("\\??\\C:\\x", "C:\\x"),
        struct.pack("<IHHHHHH", 0xA0000003, 32, 0, 0, 16, 16, 8) + _utf16("\\??\\C:\\xC:\\x"),
    ),
    (
        NfsSpecialFile(NfsType.SYMLINK, "/a/b"),
        struct.pack("<IHHQ", 0x80000014, 16, 0, 0x014B4E4C) + _utf16("/a/b"),
    ),
    (
        NfsSpecialFile(NfsType.BLOCK_DEVICE, major=8, minor=1),
        struct.pack("<IHHQII", 0x80000014, 16, 0, 0x004B4C42, 8, 1),
    ),
    (NfsSpecialFile(NfsType.FIFO), struct.pack("<IHHQ", 0x80000014, 8, 0, 0x4F464946)),
    (LxSymlink("a/ü"), struct.pack("<IHHI", 0xA000001D, 8, 0, 2) + "a/ü".encode()),
    (OtherReparsePoint(0x80000024), struct.pack("<IHH", 0x80000024, 0, 0)),
    (OtherReparsePoint(0x80000013, b"dedup"), struct.pack("<IHH", 0x80000013, 5, 0) + b"dedup"),
    (
        OtherReparsePoint(0x00000123, b"own", UUID(int=1)),
        struct.pack("<IHH", 0x123, 3, 0) + UUID(int=1).bytes_le + b"own",
    ),
]


@pytest.mark.parametrize(("point", "encoded"), VECTORS, ids=lambda value: type(value).__name__)
def test_vectors(point: ReparsePoint, encoded: bytes) -> None:
    assert point.encode() == encoded
    assert decode_reparse_untrusted(memoryview(encoded)) == point


def test_relative_links() -> None:
    assert SymbolicLink("b").is_relative
    assert not SymbolicLink("\\??\\C:\\b", flags=0).is_relative


def test_names_in_the_order_that_windows_uses() -> None:
    """The print name first, as Windows itself writes it."""
    encoded = struct.pack("<IHHHHHHI", 0xA000000C, 18, 0, 2, 4, 0, 2, 1) + _utf16("p") + _utf16("st")
    assert decode_reparse_untrusted(memoryview(encoded)) == SymbolicLink("st", "p", 1)


@pytest.mark.parametrize(
    "names",
    [(0, 8, 0, 6), (6, 2, 0, 0), (0xFFFF, 2, 0, 0), (0, 0xFFFE, 0, 0), (0, 3, 0, 0), (0, 0, 4, 4)],
    ids=str,
)
def test_names_outside_their_buffer(names: tuple[int, int, int, int]) -> None:
    encoded = struct.pack("<IHHHHHHI", 0xA000000C, 18, 0, *names, 1) + _utf16("abc") + _utf16("more")
    with pytest.raises(RemoteProtocolError):
        decode_reparse_untrusted(memoryview(encoded))


def test_a_length_past_the_end() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_reparse_untrusted(memoryview(struct.pack("<IHH", 0x80000013, 6, 0) + b"dedup"))


@pytest.mark.parametrize(
    "encoded",
    [
        struct.pack("<IHHQ", 0x80000014, 8, 0, 0x1234),
        struct.pack("<IHHI", 0xA000001D, 5, 0, 3) + b"x",
    ],
)
def test_points_of_an_unknown_kind_are_opaque(encoded: bytes) -> None:
    tag, length, _ = struct.unpack_from("<IHH", encoded)
    point = decode_reparse_untrusted(memoryview(encoded))
    assert point == OtherReparsePoint(tag, encoded[8 : 8 + length])
    assert point.encode() == encoded


def test_bytes_that_are_not_utf8_survive() -> None:
    encoded = struct.pack("<IHHI", 0xA000001D, 6, 0, 2) + b"\xff\xfe"
    point = decode_reparse_untrusted(memoryview(encoded))
    assert point == LxSymlink("\udcff\udcfe")
    assert point.encode() == encoded


def test_deletion_names_the_tag_alone() -> None:
    assert encode_reparse_deletion(0xA000000C) == struct.pack("<IHH", 0xA000000C, 0, 0)
    own = encode_reparse_deletion(0x123, UUID(int=1))
    assert own == struct.pack("<IHH", 0x123, 0, 0) + UUID(int=1).bytes_le


def test_a_guid_where_none_belongs_or_none_where_one_does() -> None:
    with pytest.raises(LocalProtocolError):
        OtherReparsePoint(0x80000013, b"", UUID(int=1)).encode()
    with pytest.raises(LocalProtocolError):
        OtherReparsePoint(0x123).encode()


@pytest.mark.parametrize(
    "point",
    [
        SymbolicLink("x" * 32_768),
        SymbolicLink("x" * 16_384, "y" * 16_384),
        SymbolicLink("x" * 32_765),
        LxSymlink("x" * 65_535),
        OtherReparsePoint(0x80000013, bytes(65_536)),
    ],
    ids=lambda point: type(point).__name__,
)
def test_points_that_are_too_long(point: ReparsePoint) -> None:
    with pytest.raises(LocalProtocolError):
        point.encode()


def test_a_target_without_a_form_in_utf8() -> None:
    with pytest.raises(LocalProtocolError):
        LxSymlink("\ud800").encode()
