"""Directory listings against bytes written down by hand, and hostile chains."""

from __future__ import annotations

import struct

import pytest

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.fscc import FileInformationClass
from engine.wire.fscc_directory import DirectoryRecord, decode_directory_untrusted, encode_directory
from tests.unit.wire.structures import DIRECTORY_CLASSES

COMMON = struct.pack("<IIqqqqqqII", 0, 7, 1, 2, 3, 4, 5, 4096, 0x20, 6)
"""Index 7, times 1 to 4, five bytes in 4096, archive, a name of six bytes."""

NAME = "a.b".encode("utf-16-le")
SHORT = b"\x04\0" + "A~".encode("utf-16-le").ljust(24, b"\0")

VECTORS = {
    FileInformationClass.FileDirectoryInformation: COMMON + NAME,
    FileInformationClass.FileFullDirectoryInformation: COMMON + struct.pack("<I", 9) + NAME,
    FileInformationClass.FileBothDirectoryInformation: COMMON + struct.pack("<I", 9) + SHORT + NAME,
    FileInformationClass.FileIdBothDirectoryInformation: COMMON
    + struct.pack("<I", 9)
    + SHORT
    + b"\0\0"
    + struct.pack("<Q", 77)
    + NAME,
    FileInformationClass.FileIdFullDirectoryInformation: COMMON + struct.pack("<IIQ", 9, 0, 77) + NAME,
    FileInformationClass.FileIdExtdDirectoryInformation: COMMON + struct.pack("<IIQQ", 9, 0, 77, 1) + NAME,
    FileInformationClass.FileNamesInformation: struct.pack("<III", 0, 7, 6) + NAME,
}

each_class = pytest.mark.parametrize("information_class", DIRECTORY_CLASSES, ids=lambda value: value.name)


def _expected(information_class: FileInformationClass) -> DirectoryRecord:
    record = DirectoryRecord("a.b", 7)
    if information_class == FileInformationClass.FileNamesInformation:
        return record
    record = DirectoryRecord("a.b", 7, 1, 2, 3, 4, 5, 4096, 0x20)
    if information_class != FileInformationClass.FileDirectoryInformation:
        record.ea_size = 9
    if "Id" in information_class.name:
        record.file_id = 77 + (1 << 64 if "Extd" in information_class.name else 0)
    if "Both" in information_class.name:
        record.short_name = "A~"
    return record


@each_class
def test_one_entry(information_class: FileInformationClass) -> None:
    record = _expected(information_class)
    assert encode_directory(information_class, [record]) == VECTORS[information_class]
    assert decode_directory_untrusted(information_class, memoryview(VECTORS[information_class])) == [record]


@each_class
def test_entries_are_aligned_to_eight_bytes(information_class: FileInformationClass) -> None:
    record = _expected(information_class)
    encoded = encode_directory(information_class, [record, record, record])
    (step,) = struct.unpack_from("<I", encoded)
    single = len(VECTORS[information_class])
    assert step == (single + 7) // 8 * 8
    assert len(encoded) == 2 * step + single
    assert decode_directory_untrusted(information_class, memoryview(encoded)) == [record] * 3


@each_class
def test_unaligned_entries_are_read_as_they_stand(information_class: FileInformationClass) -> None:
    entry = VECTORS[information_class]
    buffer = struct.pack("<I", len(entry) + 1) + entry[4:] + b"\xff" + entry
    assert len(decode_directory_untrusted(information_class, memoryview(buffer))) == 2


@each_class
@pytest.mark.parametrize("step", [1, 8, 12, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFF8])
def test_a_next_entry_that_overlaps_or_lies_outside(
    information_class: FileInformationClass, step: int
) -> None:
    entry = VECTORS[information_class]
    buffer = struct.pack("<I", step) + entry[4:] + entry
    with pytest.raises(RemoteProtocolError):
        decode_directory_untrusted(information_class, memoryview(buffer))


@each_class
def test_a_next_entry_in_the_middle_of_the_name(information_class: FileInformationClass) -> None:
    entry = VECTORS[information_class]
    buffer = struct.pack("<I", len(entry) - 2) + entry[4:] + entry
    with pytest.raises(RemoteProtocolError):
        decode_directory_untrusted(information_class, memoryview(buffer))


@each_class
def test_a_next_entry_at_the_very_end(information_class: FileInformationClass) -> None:
    entry = VECTORS[information_class]
    with pytest.raises(RemoteProtocolError):
        decode_directory_untrusted(information_class, memoryview(struct.pack("<I", len(entry)) + entry[4:]))


@each_class
def test_an_empty_listing_is_refused(information_class: FileInformationClass) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_directory_untrusted(information_class, memoryview(b""))


@pytest.mark.parametrize("length", [5, 8, 0xFFFFFFFE])
def test_name_lengths_that_are_odd_or_too_long(length: int) -> None:
    entry = COMMON[:60] + struct.pack("<I", length) + NAME
    with pytest.raises(RemoteProtocolError):
        decode_directory_untrusted(FileInformationClass.FileDirectoryInformation, memoryview(entry))


@pytest.mark.parametrize("offset", [40, 48])
def test_negative_sizes(offset: int) -> None:
    entry = bytearray(COMMON + NAME)
    entry[offset : offset + 8] = b"\xff" * 8
    with pytest.raises(RemoteProtocolError):
        decode_directory_untrusted(FileInformationClass.FileDirectoryInformation, memoryview(entry))


@pytest.mark.parametrize("length", [3, 25, 26, 255])
def test_short_names_that_are_odd_or_too_long(length: int) -> None:
    kind = FileInformationClass.FileIdBothDirectoryInformation
    entry = bytearray(VECTORS[kind])
    entry[68] = length
    with pytest.raises(RemoteProtocolError):
        decode_directory_untrusted(kind, memoryview(entry))


@pytest.mark.parametrize(
    "information_class",
    [
        FileInformationClass.FileFullDirectoryInformation,
        FileInformationClass.FileIdFullDirectoryInformation,
        FileInformationClass.FileIdBothDirectoryInformation,
    ],
)
def test_a_reparse_points_tag_stands_in_the_ea_size(information_class: FileInformationClass) -> None:
    entry = bytearray(VECTORS[information_class])
    struct.pack_into("<I", entry, 56, 0x400)
    struct.pack_into("<I", entry, 64, 0xA000000C)
    (record,) = decode_directory_untrusted(information_class, memoryview(entry))
    assert (record.reparse_point_tag, record.ea_size) == (0xA000000C, 0)
    assert encode_directory(information_class, [record]) == bytes(entry)


def test_the_extended_class_has_a_field_for_the_tag() -> None:
    kind = FileInformationClass.FileIdExtdDirectoryInformation
    entry = bytearray(VECTORS[kind])
    struct.pack_into("<I", entry, 56, 0x400)
    struct.pack_into("<II", entry, 64, 9, 0xA000001D)
    (record,) = decode_directory_untrusted(kind, memoryview(entry))
    assert (record.reparse_point_tag, record.ea_size) == (0xA000001D, 0)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "\ud800", "\udc00\ud800", "😀", "x" * 300])
def test_hostile_names_come_through_untouched(name: str) -> None:
    kind = FileInformationClass.FileIdBothDirectoryInformation
    buffer = encode_directory(kind, [DirectoryRecord(name), DirectoryRecord("after")])
    assert [record.file_name for record in decode_directory_untrusted(kind, memoryview(buffer))] == [
        name,
        "after",
    ]


def test_a_class_that_lists_nothing_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        decode_directory_untrusted(FileInformationClass.FileBasicInformation, memoryview(COMMON))
    with pytest.raises(LocalProtocolError):
        encode_directory(FileInformationClass.FileBasicInformation, [])


def test_a_short_name_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        encode_directory(
            FileInformationClass.FileBothDirectoryInformation, [DirectoryRecord("a", short_name="x" * 13)]
        )
