"""What a file is: the information classes that SMB2 QUERY_INFO reads ([MS-FSCC] 2.4).

Those that SET_INFO alone takes are in `fscc_set`, lists in `fscc_ea` and `fscc_stream`, directory
listings in `fscc_directory`, pipes in `fscc_pipe`. A class is named as its section is; the numbers
below 2.4 shift from edition to edition. Flag fields are plain ints, as anything can stand in them.
A buffer may be longer than its structure; the rest is ignored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from engine.errors import RemoteProtocolError
from engine.wire.primitives import decode_utf16_untrusted, encode_utf16, slice_checked, unpack_checked


class FileInformationClass(IntEnum):
    """What about a file is read or set ([MS-FSCC] 2.4)."""

    FileDirectoryInformation = 1
    FileFullDirectoryInformation = 2
    FileBothDirectoryInformation = 3
    FileBasicInformation = 4
    FileStandardInformation = 5
    FileInternalInformation = 6
    FileEaInformation = 7
    FileAccessInformation = 8
    FileNameInformation = 9
    FileRenameInformation = 10
    FileLinkInformation = 11
    FileNamesInformation = 12
    FileDispositionInformation = 13
    FilePositionInformation = 14
    FileFullEaInformation = 15
    FileModeInformation = 16
    FileAlignmentInformation = 17
    FileAllInformation = 18
    FileAllocationInformation = 19
    FileEndOfFileInformation = 20
    FileAlternateNameInformation = 21
    FileStreamInformation = 22
    FilePipeInformation = 23
    FilePipeLocalInformation = 24
    FileCompressionInformation = 28
    FileQuotaInformation = 32
    FileNetworkOpenInformation = 34
    FileAttributeTagInformation = 35
    FileIdBothDirectoryInformation = 37
    FileIdFullDirectoryInformation = 38
    FileValidDataLengthInformation = 39
    FileShortNameInformation = 40
    FileNormalizedNameInformation = 48
    FileIdInformation = 59
    FileIdExtdDirectoryInformation = 60
    FileDispositionInformationEx = 64
    FileRenameInformationEx = 65
    FileLinkInformationEx = 72


def sizes_checked(what: str, *sizes: int) -> None:
    """Raise `RemoteProtocolError` naming `what` unless every size is ≥ 0, as [MS-FSCC] 2.4 demands."""
    if min(sizes) < 0:
        raise RemoteProtocolError(f"{what}: a negative size among {sizes}")


@dataclass(slots=True)
class FileBasicInformation:
    """Times (FILETIME) and attributes ([MS-FSCC] 2.4).

    To set: a time of 0 is left alone, −1 stops the server from updating it on this handle, −2 lets it
    again; attributes of 0 are left alone.
    """

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileBasicInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<qqqqI4x")

    creation_time: int = 0
    last_access_time: int = 0
    last_write_time: int = 0
    change_time: int = 0
    file_attributes: int = 0

    def encode(self) -> bytes:
        return self._LAYOUT.pack(
            self.creation_time,
            self.last_access_time,
            self.last_write_time,
            self.change_time,
            self.file_attributes,
        )

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileBasicInformation"))


@dataclass(slots=True)
class FileStandardInformation:
    """Sizes, links and whether the file is going away ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileStandardInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<qqIBB2x")

    allocation_size: int
    end_of_file: int
    number_of_links: int = 1
    delete_pending: bool = False
    directory: bool = False

    def encode(self) -> bytes:
        return self._LAYOUT.pack(
            self.allocation_size, self.end_of_file, self.number_of_links, self.delete_pending, self.directory
        )

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "FileStandardInformation"
        allocation, end_of_file, links, deleting, directory = unpack_checked(cls._LAYOUT, view, 0, what)
        sizes_checked(what, allocation, end_of_file)
        return cls(allocation, end_of_file, links, bool(deleting), bool(directory))


@dataclass(slots=True)
class FileInternalInformation:
    """The 64-bit file id, 0 where the file system has none ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileInternalInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<Q")

    index_number: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.index_number)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileInternalInformation"))


@dataclass(slots=True)
class FileIdInformation:
    """The volume's serial number and the file's 128-bit id ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileIdInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQQ")

    volume_serial_number: int
    file_id: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(
            self.volume_serial_number, self.file_id & 0xFFFF_FFFF_FFFF_FFFF, self.file_id >> 64
        )

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        volume, low, high = unpack_checked(cls._LAYOUT, view, 0, "FileIdInformation")
        return cls(volume, low | high << 64)


@dataclass(slots=True)
class FileEaInformation:
    """The size in bytes of all extended attributes together ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileEaInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")

    ea_size: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.ea_size)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileEaInformation"))


@dataclass(slots=True)
class FileAccessInformation:
    """The access that the handle was granted, as an access mask ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileAccessInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")

    access_flags: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.access_flags)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileAccessInformation"))


@dataclass(slots=True)
class FilePositionInformation:
    """The handle's current offset in bytes ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FilePositionInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<q")

    current_byte_offset: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.current_byte_offset)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FilePositionInformation"))


@dataclass(slots=True)
class FileModeInformation:
    """How the handle was opened, as create options ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileModeInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")

    mode: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.mode)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileModeInformation"))


@dataclass(slots=True)
class FileAlignmentInformation:
    """The buffer alignment of the device below, as a mask ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileAlignmentInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")

    alignment_requirement: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.alignment_requirement)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileAlignmentInformation"))


@dataclass(slots=True)
class FileAttributeTagInformation:
    """Attributes, and the tag if the file is a reparse point ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileAttributeTagInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<II")

    file_attributes: int
    reparse_tag: int = 0

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.file_attributes, self.reparse_tag)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileAttributeTagInformation"))


@dataclass(slots=True)
class FileCompressionInformation:
    """How the file is compressed; the shifts are log2 of byte counts ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileCompressionInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<qHBBB3x")

    compressed_file_size: int
    compression_format: int = 0
    compression_unit_shift: int = 0
    chunk_shift: int = 0
    cluster_shift: int = 0

    def encode(self) -> bytes:
        return self._LAYOUT.pack(
            self.compressed_file_size,
            self.compression_format,
            self.compression_unit_shift,
            self.chunk_shift,
            self.cluster_shift,
        )

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "FileCompressionInformation"
        information = cls(*unpack_checked(cls._LAYOUT, view, 0, what))
        sizes_checked(what, information.compressed_file_size)
        return information


@dataclass(slots=True)
class FileNetworkOpenInformation:
    """Times (FILETIME), sizes and attributes ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileNetworkOpenInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<qqqqqqI4x")

    creation_time: int
    last_access_time: int
    last_write_time: int
    change_time: int
    allocation_size: int
    end_of_file: int
    file_attributes: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(
            self.creation_time,
            self.last_access_time,
            self.last_write_time,
            self.change_time,
            self.allocation_size,
            self.end_of_file,
            self.file_attributes,
        )

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "FileNetworkOpenInformation"
        information = cls(*unpack_checked(cls._LAYOUT, view, 0, what))
        sizes_checked(what, information.allocation_size, information.end_of_file)
        return information


@dataclass(slots=True)
class FileAllInformation:
    """Everything at once, flattened from its nine parts ([MS-FSCC] 2.4).

    Times are FILETIMEs; `file_name` is the path from the share's root, or what the server makes of it.
    It is as much as there is: a server cuts it where it is asked for less (STATUS_BUFFER_OVERFLOW).
    """

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileAllInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<qqqqI4xqqIBB2xQIIqIII")

    creation_time: int
    last_access_time: int
    last_write_time: int
    change_time: int
    file_attributes: int
    allocation_size: int
    end_of_file: int
    number_of_links: int = 1
    delete_pending: bool = False
    directory: bool = False
    index_number: int = 0
    ea_size: int = 0
    access_flags: int = 0
    current_byte_offset: int = 0
    mode: int = 0
    alignment_requirement: int = 0
    file_name: str = ""

    def encode(self) -> bytes:
        name = encode_utf16(self.file_name)
        fixed = self._LAYOUT.pack(
            self.creation_time,
            self.last_access_time,
            self.last_write_time,
            self.change_time,
            self.file_attributes,
            self.allocation_size,
            self.end_of_file,
            self.number_of_links,
            self.delete_pending,
            self.directory,
            self.index_number,
            self.ea_size,
            self.access_flags,
            self.current_byte_offset,
            self.mode,
            self.alignment_requirement,
            len(name),
        )
        return fixed + name

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "FileAllInformation"
        fields = unpack_checked(cls._LAYOUT, view, 0, what)
        # fmt: off
        (created, accessed, written, changed, attributes, allocation, end_of_file, links, deleting,
         directory, index_number, ea_size, access, position, mode, alignment, name_length) = fields
        # fmt: on
        sizes_checked(what, allocation, end_of_file)
        available = (len(view) - cls._LAYOUT.size) & ~1
        name = slice_checked(view, cls._LAYOUT.size, min(name_length, available), what)
        return cls(
            created,
            accessed,
            written,
            changed,
            attributes,
            allocation,
            end_of_file,
            links,
            bool(deleting),
            bool(directory),
            index_number,
            ea_size,
            access,
            position,
            mode,
            alignment,
            decode_utf16_untrusted(name),
        )


_NAME_LENGTH = struct.Struct("<I")


def _encode_name(name: str) -> bytes:
    encoded = encode_utf16(name)
    return _NAME_LENGTH.pack(len(encoded)) + encoded


def _decode_name_untrusted(view: memoryview, what: str) -> str:
    (length,) = unpack_checked(_NAME_LENGTH, view, 0, what)
    return decode_utf16_untrusted(slice_checked(view, _NAME_LENGTH.size, length, what))


@dataclass(slots=True)
class FileNormalizedNameInformation:
    """The path from the share's root without short names ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileNormalizedNameInformation

    file_name: str

    def encode(self) -> bytes:
        return _encode_name(self.file_name)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(_decode_name_untrusted(view, "FileNormalizedNameInformation"))


@dataclass(slots=True)
class FileAlternateNameInformation:
    """The file's 8.3 name ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileAlternateNameInformation

    file_name: str

    def encode(self) -> bytes:
        return _encode_name(self.file_name)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(_decode_name_untrusted(view, "FileAlternateNameInformation"))
