"""What can be done to a file: the information classes for SMB2 SET_INFO alone ([MS-FSCC] 2.4).

FileBasicInformation, which is read and set, is in `fscc`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import ClassVar, Final, Self

from engine.wire.fscc import FileInformationClass
from engine.wire.primitives import decode_utf16_untrusted, encode_utf16, slice_checked, unpack_checked


class DispositionFlags(IntFlag):
    """How FileDispositionInformationEx deletes ([MS-FSCC] 2.4)."""

    DELETE = 0x01
    POSIX_SEMANTICS = 0x02
    FORCE_IMAGE_SECTION_CHECK = 0x04
    ON_CLOSE = 0x08
    IGNORE_READONLY_ATTRIBUTE = 0x10


class RenameFlags(IntFlag):
    """How FileRenameInformationEx and FileLinkInformationEx treat their target ([MS-FSCC] 2.4)."""

    REPLACE_IF_EXISTS = 0x01
    POSIX_SEMANTICS = 0x02
    SUPPRESS_PIN_STATE_INHERITANCE = 0x04
    SUPPRESS_STORAGE_RESERVE_INHERITANCE = 0x08
    NO_INCREASE_AVAILABLE_SPACE = 0x10
    NO_DECREASE_AVAILABLE_SPACE = 0x20
    IGNORE_READONLY_ATTRIBUTE = 0x40


@dataclass(slots=True)
class FileEndOfFileInformation:
    """The new size in bytes ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileEndOfFileInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<q")

    end_of_file: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.end_of_file)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileEndOfFileInformation"))


@dataclass(slots=True)
class FileAllocationInformation:
    """The bytes to reserve; fewer than the size truncate ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileAllocationInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<q")

    allocation_size: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.allocation_size)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileAllocationInformation"))


@dataclass(slots=True)
class FileValidDataLengthInformation:
    """How many bytes from the start need not be zeroed ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileValidDataLengthInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<q")

    valid_data_length: int

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.valid_data_length)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileValidDataLengthInformation"))


@dataclass(slots=True)
class FileDispositionInformation:
    """Whether the file goes away when its last handle is closed ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileDispositionInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<B")

    delete_pending: bool = True

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.delete_pending)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        (deleting,) = unpack_checked(cls._LAYOUT, view, 0, "FileDispositionInformation")
        return cls(bool(deleting))


@dataclass(slots=True)
class FileDispositionInformationEx:
    """Delete, as `DispositionFlags` say ([MS-FSCC] 2.4); newer Windows servers only."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileDispositionInformationEx
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")

    flags: int = DispositionFlags.DELETE

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.flags)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        return cls(*unpack_checked(cls._LAYOUT, view, 0, "FileDispositionInformationEx"))


_TARGET: Final = struct.Struct("<I4xQI")
_TARGET_MINIMUM: Final = 24
"""Windows refuses a rename or link buffer that is smaller than its padded C structure."""


def _encode_target(leading: int, root_directory: int, name: str) -> bytes:
    encoded = encode_utf16(name)
    return (_TARGET.pack(leading, root_directory, len(encoded)) + encoded).ljust(_TARGET_MINIMUM, b"\0")


def _decode_target_untrusted(view: memoryview, what: str) -> tuple[int, int, str]:
    leading, root_directory, length = unpack_checked(_TARGET, view, 0, what)
    name = decode_utf16_untrusted(slice_checked(view, _TARGET.size, length, what))
    return leading, root_directory, name


@dataclass(slots=True)
class FileRenameInformation:
    r"""The new path from the share's root, without a leading "\" ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileRenameInformation

    file_name: str
    replace_if_exists: bool = False
    root_directory: int = 0

    def encode(self) -> bytes:
        return _encode_target(self.replace_if_exists, self.root_directory, self.file_name)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        leading, root, name = _decode_target_untrusted(view, "FileRenameInformation")
        # A one-byte boolean; the three bytes after it are reserved and may hold anything.
        return cls(name, bool(leading & 0xFF), root)


@dataclass(slots=True)
class FileRenameInformationEx:
    """As FileRenameInformation, with `RenameFlags` ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileRenameInformationEx

    file_name: str
    flags: int = 0
    root_directory: int = 0

    def encode(self) -> bytes:
        return _encode_target(self.flags, self.root_directory, self.file_name)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        flags, root, name = _decode_target_untrusted(view, "FileRenameInformationEx")
        return cls(name, flags, root)


@dataclass(slots=True)
class FileLinkInformation:
    r"""A further hard link at this path from the share's root, without a leading "\" ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileLinkInformation

    file_name: str
    replace_if_exists: bool = False
    root_directory: int = 0

    def encode(self) -> bytes:
        return _encode_target(self.replace_if_exists, self.root_directory, self.file_name)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        leading, root, name = _decode_target_untrusted(view, "FileLinkInformation")
        return cls(name, bool(leading & 0xFF), root)


@dataclass(slots=True)
class FileLinkInformationEx:
    """As FileLinkInformation, with `RenameFlags` ([MS-FSCC] 2.4)."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileLinkInformationEx

    file_name: str
    flags: int = 0
    root_directory: int = 0

    def encode(self) -> bytes:
        return _encode_target(self.flags, self.root_directory, self.file_name)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        flags, root, name = _decode_target_untrusted(view, "FileLinkInformationEx")
        return cls(name, flags, root)
