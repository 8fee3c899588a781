"""What a volume is: the file system information classes ([MS-FSCC] 2.5).

Sizes are counted in allocation units of `sectors_per_allocation_unit × bytes_per_sector` bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, Self
from uuid import UUID

from engine.errors import LocalProtocolError
from engine.wire.fscc import sizes_checked
from engine.wire.primitives import decode_utf16_untrusted, encode_utf16, slice_checked, unpack_checked


class FsInformationClass(IntEnum):
    """What about a volume is read or set ([MS-FSCC] 2.5)."""

    FileFsVolumeInformation = 1
    FileFsLabelInformation = 2
    FileFsSizeInformation = 3
    FileFsDeviceInformation = 4
    FileFsAttributeInformation = 5
    FileFsControlInformation = 6
    FileFsFullSizeInformation = 7
    FileFsObjectIdInformation = 8
    FileFsSectorSizeInformation = 11


class FileSystemAttributes(IntFlag):
    """What a file system can do, in FileFsAttributeInformation ([MS-FSCC] 2.5)."""

    CASE_SENSITIVE_SEARCH = 0x00000001
    CASE_PRESERVED_NAMES = 0x00000002
    UNICODE_ON_DISK = 0x00000004
    PERSISTENT_ACLS = 0x00000008
    FILE_COMPRESSION = 0x00000010
    VOLUME_QUOTAS = 0x00000020
    SUPPORTS_SPARSE_FILES = 0x00000040
    SUPPORTS_REPARSE_POINTS = 0x00000080
    SUPPORTS_REMOTE_STORAGE = 0x00000100
    VOLUME_IS_COMPRESSED = 0x00008000
    SUPPORTS_OBJECT_IDS = 0x00010000
    SUPPORTS_ENCRYPTION = 0x00020000
    NAMED_STREAMS = 0x00040000
    READ_ONLY_VOLUME = 0x00080000
    SEQUENTIAL_WRITE_ONCE = 0x00100000
    SUPPORTS_TRANSACTIONS = 0x00200000
    SUPPORTS_HARD_LINKS = 0x00400000
    SUPPORTS_EXTENDED_ATTRIBUTES = 0x00800000
    SUPPORTS_OPEN_BY_FILE_ID = 0x01000000
    SUPPORTS_USN_JOURNAL = 0x02000000
    SUPPORT_INTEGRITY_STREAMS = 0x04000000
    SUPPORTS_BLOCK_REFCOUNTING = 0x08000000
    SUPPORTS_SPARSE_VDL = 0x10000000


@dataclass(slots=True)
class FileFsVolumeInformation:
    """Label, serial number and age (FILETIME) ([MS-FSCC] 2.5)."""

    INFORMATION_CLASS: ClassVar[int] = FsInformationClass.FileFsVolumeInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<qIIBx")

    volume_creation_time: int = 0
    volume_serial_number: int = 0
    supports_objects: bool = False
    volume_label: str = ""

    def encode(self) -> bytes:
        label = encode_utf16(self.volume_label)
        fixed = self._LAYOUT.pack(
            self.volume_creation_time, self.volume_serial_number, len(label), self.supports_objects
        )
        return fixed + label

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "FileFsVolumeInformation"
        created, serial, length, supports_objects = unpack_checked(cls._LAYOUT, view, 0, what)
        label = decode_utf16_untrusted(slice_checked(view, cls._LAYOUT.size, length, what))
        return cls(created, serial, bool(supports_objects), label)


@dataclass(slots=True)
class FileFsSizeInformation:
    """Total units, and those that are free to this user ([MS-FSCC] 2.5)."""

    INFORMATION_CLASS: ClassVar[int] = FsInformationClass.FileFsSizeInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<qqII")

    total_allocation_units: int
    available_allocation_units: int
    sectors_per_allocation_unit: int
    bytes_per_sector: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(
            self.total_allocation_units,
            self.available_allocation_units,
            self.sectors_per_allocation_unit,
            self.bytes_per_sector,
        )

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "FileFsSizeInformation"
        information = cls(*unpack_checked(cls._LAYOUT, view, 0, what))
        sizes_checked(what, information.total_allocation_units, information.available_allocation_units)
        return information


@dataclass(slots=True)
class FileFsFullSizeInformation:
    """Total units, those free to this user (quota), and those free at all ([MS-FSCC] 2.5)."""

    INFORMATION_CLASS: ClassVar[int] = FsInformationClass.FileFsFullSizeInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<qqqII")

    total_allocation_units: int
    caller_available_allocation_units: int
    actual_available_allocation_units: int
    sectors_per_allocation_unit: int
    bytes_per_sector: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(
            self.total_allocation_units,
            self.caller_available_allocation_units,
            self.actual_available_allocation_units,
            self.sectors_per_allocation_unit,
            self.bytes_per_sector,
        )

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "FileFsFullSizeInformation"
        information = cls(*unpack_checked(cls._LAYOUT, view, 0, what))
        sizes_checked(
            what,
            information.total_allocation_units,
            information.caller_available_allocation_units,
            information.actual_available_allocation_units,
        )
        return information


@dataclass(slots=True)
class FileFsAttributeInformation:
    """Abilities (`FileSystemAttributes`), longest name in characters, type's name ([MS-FSCC] 2.5)."""

    INFORMATION_CLASS: ClassVar[int] = FsInformationClass.FileFsAttributeInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IiI")

    file_system_attributes: int
    maximum_component_name_length: int = 255
    file_system_name: str = "NTFS"

    def encode(self) -> bytes:
        name = encode_utf16(self.file_system_name)
        fixed = self._LAYOUT.pack(self.file_system_attributes, self.maximum_component_name_length, len(name))
        return fixed + name

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "FileFsAttributeInformation"
        attributes, longest, length = unpack_checked(cls._LAYOUT, view, 0, what)
        sizes_checked(what, longest)
        name = decode_utf16_untrusted(slice_checked(view, cls._LAYOUT.size, length, what))
        return cls(attributes, longest, name)


@dataclass(slots=True)
class FileFsDeviceInformation:
    """The kind of device and its traits ([MS-FSCC] 2.5); 7 is a disk."""

    INFORMATION_CLASS: ClassVar[int] = FsInformationClass.FileFsDeviceInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<II")

    device_type: int = 7
    characteristics: int = 0

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.device_type, self.characteristics)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileFsDeviceInformation"))


@dataclass(slots=True)
class FileFsControlInformation:
    """Quota defaults in bytes, and whether they hold ([MS-FSCC] 2.5); a limit of 2^64−1 is none."""

    INFORMATION_CLASS: ClassVar[int] = FsInformationClass.FileFsControlInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<qqqQQI4x")

    free_space_start_filtering: int = 0
    free_space_threshold: int = 0
    free_space_stop_filtering: int = 0
    default_quota_threshold: int = 0
    default_quota_limit: int = 0
    file_system_control_flags: int = 0

    def encode(self) -> bytes:
        return self._LAYOUT.pack(
            self.free_space_start_filtering,
            self.free_space_threshold,
            self.free_space_stop_filtering,
            self.default_quota_threshold,
            self.default_quota_limit,
            self.file_system_control_flags,
        )

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileFsControlInformation"))


@dataclass(slots=True)
class FileFsSectorSizeInformation:
    """Sector sizes and alignment offsets in bytes ([MS-FSCC] 2.5)."""

    INFORMATION_CLASS: ClassVar[int] = FsInformationClass.FileFsSectorSizeInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<7I")

    logical_bytes_per_sector: int
    physical_bytes_per_sector_for_atomicity: int
    physical_bytes_per_sector_for_performance: int
    effective_physical_bytes_per_sector_for_atomicity: int
    flags: int = 0
    byte_offset_for_sector_alignment: int = 0
    byte_offset_for_partition_alignment: int = 0

    def encode(self) -> bytes:
        return self._LAYOUT.pack(
            self.logical_bytes_per_sector,
            self.physical_bytes_per_sector_for_atomicity,
            self.physical_bytes_per_sector_for_performance,
            self.effective_physical_bytes_per_sector_for_atomicity,
            self.flags,
            self.byte_offset_for_sector_alignment,
            self.byte_offset_for_partition_alignment,
        )

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileFsSectorSizeInformation"))


@dataclass(slots=True)
class FileFsObjectIdInformation:
    """The volume's GUID and 48 bytes of the server's own ([MS-FSCC] 2.5)."""

    INFORMATION_CLASS: ClassVar[int] = FsInformationClass.FileFsObjectIdInformation
    _EXTENDED_INFO_SIZE: ClassVar[int] = 48

    object_id: UUID
    extended_info: bytes = bytes(48)

    def encode(self) -> bytes:
        if len(self.extended_info) != self._EXTENDED_INFO_SIZE:
            raise LocalProtocolError(f"extended info is {self._EXTENDED_INFO_SIZE} bytes long")
        return self.object_id.bytes_le + self.extended_info

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "FileFsObjectIdInformation"
        object_id = UUID(bytes_le=bytes(slice_checked(view, 0, 16, what)))
        return cls(object_id, bytes(slice_checked(view, 16, cls._EXTENDED_INFO_SIZE, what)))
