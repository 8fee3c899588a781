"""Directory listings: the buffer of an SMB2 QUERY_DIRECTORY reply ([MS-FSCC] 2.4).

This is the client's hottest decoder, so all seven information classes share one loop and one record
type: an `unpack_from` and a name decoded in place per entry. File attributes stay a plain int, as an
`IntFlag` would keep every combination that a server ever made up in memory for good.
"""

from __future__ import annotations

import struct
from codecs import utf_16_le_decode
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.constants import FileAttributes
from engine.wire.fscc import FileInformationClass
from engine.wire.fscc_chain import join_chain
from engine.wire.primitives import decode_utf16_untrusted, encode_utf16

_REPARSE_POINT: Final = int(FileAttributes.REPARSE_POINT)
_LOW_64_BITS: Final = (1 << 64) - 1


@dataclass(slots=True)
class DirectoryRecord:
    """One entry of a listing; what the information class does not carry keeps its default.

    Times are FILETIMEs, sizes bytes and never negative. `file_attributes` holds `FileAttributes`
    bits. `file_id` is 64 bits wide, or 128 from FileIdExtdDirectoryInformation; 0 is unknown. The
    names are as the server sent them and may be hostile.
    """

    file_name: str
    file_index: int = 0
    creation_time: int = 0
    last_access_time: int = 0
    last_write_time: int = 0
    change_time: int = 0
    end_of_file: int = 0
    allocation_size: int = 0
    file_attributes: int = 0
    ea_size: int = 0
    reparse_point_tag: int = 0
    file_id: int = 0
    short_name: str = field(default="", kw_only=True)


class _Format(NamedTuple):
    """A layout, and where in its unpacked tuple a field is (0: the class has none)."""

    layout: struct.Struct
    name_length: int = 9
    ea_size: int = 0
    tag: int = 0
    file_id: int = 0
    file_id_high: int = 0
    short_name_length: int = 0


_COMMON: Final = "<IIqqqqqqII"
_SHORT_NAME_OFFSET: Final = 70
_SHORT_NAME_SIZE: Final = 24

# The short name is skipped by the layouts: it is nearly always empty, and is sliced out when not.
_FORMATS: Final[dict[int, _Format]] = {
    FileInformationClass.FileDirectoryInformation: _Format(struct.Struct(_COMMON)),
    FileInformationClass.FileFullDirectoryInformation: _Format(struct.Struct(_COMMON + "I"), ea_size=10),
    FileInformationClass.FileBothDirectoryInformation: _Format(
        struct.Struct(_COMMON + "IBx24x"), ea_size=10, short_name_length=11
    ),
    FileInformationClass.FileNamesInformation: _Format(struct.Struct("<III"), name_length=2),
    FileInformationClass.FileIdBothDirectoryInformation: _Format(
        struct.Struct(_COMMON + "IBx24x2xQ"), ea_size=10, short_name_length=11, file_id=12
    ),
    FileInformationClass.FileIdFullDirectoryInformation: _Format(
        struct.Struct(_COMMON + "I4xQ"), ea_size=10, file_id=11
    ),
    FileInformationClass.FileIdExtdDirectoryInformation: _Format(
        struct.Struct(_COMMON + "IIQQ"), ea_size=10, tag=11, file_id=12, file_id_high=13
    ),
}


def _format_of(file_information_class: int) -> _Format:
    format_ = _FORMATS.get(file_information_class)
    if format_ is None:
        raise LocalProtocolError(f"information class {file_information_class} does not list directories")
    return format_


def decode_directory_untrusted(file_information_class: int, view: memoryview) -> list[DirectoryRecord]:
    """Decode the whole buffer of a reply, in the server's order, "." and ".." included.

    `file_information_class` is the class that was asked for. A reply without an entry is refused: a
    directory's end has a status of its own, and asking on for nothing would never end.
    """
    layout, name_length_at, ea_at, tag_at, id_at, id_high_at, short_at = _format_of(file_information_class)
    unpack, fixed_size, end = layout.unpack_from, layout.size, len(view)
    records: list[DirectoryRecord] = []
    offset = 0
    while True:
        name_start = offset + fixed_size
        if name_start > end:
            raise RemoteProtocolError(f"directory entry at {offset} does not fit in {end} bytes")
        fields: tuple[int, ...] = unpack(view, offset)
        name_length = fields[name_length_at]
        name_end = name_start + name_length
        limit = offset + fields[0] if fields[0] else end
        # As a name ends before the next entry begins, entries cannot overlap and each step goes on.
        if name_end > limit or limit > end or name_length & 1:
            raise RemoteProtocolError(
                f"directory entry from {offset} to {limit} in {end} bytes, with a name of {name_length}"
            )
        name = utf_16_le_decode(view[name_start:name_end], "surrogatepass", True)[0]
        record = DirectoryRecord(name, *fields[1:name_length_at])
        if record.end_of_file < 0 or record.allocation_size < 0:
            raise RemoteProtocolError(f"directory entry at {offset} with a negative size")
        if ea_at:
            # A reparse point has no extended attributes; its tag stands in their place.
            if record.file_attributes & _REPARSE_POINT:
                record.reparse_point_tag = fields[tag_at or ea_at]
            else:
                record.ea_size = fields[ea_at]
        if id_at:
            record.file_id = fields[id_at] | fields[id_high_at] << 64 if id_high_at else fields[id_at]
        if short_at and fields[short_at]:
            record.short_name = _short_name_untrusted(view, offset, fields[short_at])
        records.append(record)
        if not fields[0]:
            return records
        offset = limit


def _short_name_untrusted(view: memoryview, entry: int, length: int) -> str:
    if length > _SHORT_NAME_SIZE:
        raise RemoteProtocolError(f"short name of {length} bytes in a field of {_SHORT_NAME_SIZE}")
    start = entry + _SHORT_NAME_OFFSET
    return decode_utf16_untrusted(view[start : start + length])


def encode_directory(file_information_class: int, records: Iterable[DirectoryRecord]) -> bytes:
    """Encode a listing as a server sends it; what the class has no field for is left out."""
    format_ = _format_of(file_information_class)
    return join_chain([_encode_record(format_, record) for record in records], 8)


def _encode_record(format_: _Format, record: DirectoryRecord) -> bytes:
    name = encode_utf16(record.file_name)
    short_name = encode_utf16(record.short_name)
    if len(short_name) > _SHORT_NAME_SIZE:
        raise LocalProtocolError(f"the short name {record.short_name!r} is longer than 8.3")
    fields = [0, record.file_index]
    if format_.name_length > 2:
        fields += record.creation_time, record.last_access_time, record.last_write_time, record.change_time
        fields += record.end_of_file, record.allocation_size, record.file_attributes
    fields.append(len(name))
    if format_.ea_size:
        is_reparse_point = record.file_attributes & _REPARSE_POINT
        fields.append(record.reparse_point_tag if is_reparse_point else record.ea_size)
    if format_.tag:
        fields.append(record.reparse_point_tag)
    if format_.short_name_length:
        fields.append(len(short_name))
    if format_.file_id:
        fields.append(record.file_id & _LOW_64_BITS)
    if format_.file_id_high:
        fields.append(record.file_id >> 64)
    entry = bytearray(format_.layout.pack(*fields))
    if format_.short_name_length:
        entry[_SHORT_NAME_OFFSET : _SHORT_NAME_OFFSET + len(short_name)] = short_name
    return bytes(entry) + name
