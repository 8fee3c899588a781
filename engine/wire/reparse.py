"""Reparse points: symbolic links, junctions and Unix's special files ([MS-FSCC] 2.1.2).

The payload of FSCTL_GET_, SET_ and DELETE_REPARSE_POINT. Targets are as the server sent them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self, TypeAlias
from uuid import UUID

from engine.errors import LocalProtocolError
from engine.wire.constants import SymlinkFlags
from engine.wire.primitives import (
    Buffer,
    decode_utf16_untrusted,
    encode_utf16,
    slice_checked,
    unpack_checked,
)


class ReparseTag(IntEnum):
    """Who understands a reparse point ([MS-FSCC] 2.1.2.1)."""

    MOUNT_POINT = 0xA0000003
    SYMLINK = 0xA000000C
    DEDUP = 0x80000013
    NFS = 0x80000014
    AF_UNIX = 0x80000023
    LX_SYMLINK = 0xA000001D
    LX_FIFO = 0x80000024
    LX_CHR = 0x80000025
    LX_BLK = 0x80000026


class NfsType(IntEnum):
    """What an NFS reparse point stands for ([MS-FSCC] 2.1.2.6)."""

    SYMLINK = 0x014B4E4C
    CHARACTER_DEVICE = 0x00524843
    BLOCK_DEVICE = 0x004B4C42
    FIFO = 0x4F464946
    SOCKET = 0x4B434F53


_HEADER: Final = struct.Struct("<IH2x")
_MICROSOFT: Final = 0x80000000
_GUID_SIZE: Final = 16
_NAMES: Final = struct.Struct("<HHHH")


def _length_checked(length: int) -> int:
    if length > 0xFFFF:
        raise LocalProtocolError(f"a reparse point of {length} bytes is too long")
    return length


def _encode_point(tag: int, data: Buffer, guid: bytes = b"") -> bytes:
    return b"".join((_HEADER.pack(tag, _length_checked(len(data))), guid, data))


def _encode_names(substitute: str, print_name: str, between: bytes = b"") -> bytes:
    first, second = encode_utf16(substitute), encode_utf16(print_name)
    _length_checked(len(first) + len(second))
    return _NAMES.pack(0, len(first), len(first), len(second)) + between + first + second


def _decode_names_untrusted(data: memoryview, buffer_offset: int, what: str) -> tuple[str, str]:
    first_at, first_length, second_at, second_length = unpack_checked(_NAMES, data, 0, what)
    names = slice_checked(data, buffer_offset, len(data) - buffer_offset, what)
    return (
        decode_utf16_untrusted(slice_checked(names, first_at, first_length, what)),
        decode_utf16_untrusted(slice_checked(names, second_at, second_length, what)),
    )


@dataclass(frozen=True, slots=True)
class SymbolicLink:
    r"""A Windows symbolic link ([MS-FSCC] 2.1.2.4); absolute targets begin with "\??\"."""

    TAG: ClassVar[int] = ReparseTag.SYMLINK
    _FLAGS: ClassVar[struct.Struct] = struct.Struct("<I")

    substitute_name: str
    print_name: str = ""
    flags: int = SymlinkFlags.RELATIVE

    @property
    def is_relative(self) -> bool:
        return bool(self.flags & SymlinkFlags.RELATIVE)

    def encode(self) -> bytes:
        names = _encode_names(self.substitute_name, self.print_name, self._FLAGS.pack(self.flags))
        return _encode_point(self.TAG, names)

    @classmethod
    def decode_data_untrusted(cls, data: memoryview) -> Self:
        (flags,) = unpack_checked(cls._FLAGS, data, _NAMES.size, "symbolic link")
        return cls(*_decode_names_untrusted(data, _NAMES.size + 4, "symbolic link"), flags)


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A junction or a volume's mount point ([MS-FSCC] 2.1.2.5)."""

    TAG: ClassVar[int] = ReparseTag.MOUNT_POINT

    substitute_name: str
    print_name: str = ""

    def encode(self) -> bytes:
        return _encode_point(self.TAG, _encode_names(self.substitute_name, self.print_name))

    @classmethod
    def decode_data_untrusted(cls, data: memoryview) -> Self:
        return cls(*_decode_names_untrusted(data, _NAMES.size, "mount point"))


@dataclass(frozen=True, slots=True)
class NfsSpecialFile:
    """What an NFS server made of a Unix special file ([MS-FSCC] 2.1.2.6).

    `target` is a symbolic link's, in POSIX form; `major` and `minor` are a device's.
    """

    TAG: ClassVar[int] = ReparseTag.NFS
    _TYPE: ClassVar[struct.Struct] = struct.Struct("<Q")
    _DEVICE: ClassVar[struct.Struct] = struct.Struct("<II")

    nfs_type: int
    target: str = ""
    major: int = 0
    minor: int = 0

    def encode(self) -> bytes:
        data = self._TYPE.pack(self.nfs_type)
        if self.nfs_type == NfsType.SYMLINK:
            data += encode_utf16(self.target)
        elif self.nfs_type in (NfsType.CHARACTER_DEVICE, NfsType.BLOCK_DEVICE):
            data += self._DEVICE.pack(self.major, self.minor)
        return _encode_point(self.TAG, data)

    @classmethod
    def decode_data_untrusted(cls, data: memoryview) -> Self | None:
        """Decode the data after the header; None if the type is unknown."""
        what = "NFS special file"
        (nfs_type,) = unpack_checked(cls._TYPE, data, 0, what)
        if nfs_type == NfsType.SYMLINK:
            return cls(nfs_type, decode_utf16_untrusted(data[cls._TYPE.size :]))
        if nfs_type in (NfsType.CHARACTER_DEVICE, NfsType.BLOCK_DEVICE):
            major, minor = unpack_checked(cls._DEVICE, data, cls._TYPE.size, what)
            return cls(nfs_type, major=major, minor=minor)
        if nfs_type in (NfsType.FIFO, NfsType.SOCKET):
            return cls(nfs_type)
        return None


@dataclass(frozen=True, slots=True)
class LxSymlink:
    """A symbolic link made by the Windows Subsystem for Linux: version 2, then the target in UTF-8.

    Bytes that are not UTF-8 become lone surrogates, as in Python's file names.
    """

    TAG: ClassVar[int] = ReparseTag.LX_SYMLINK
    _VERSION: ClassVar[struct.Struct] = struct.Struct("<I")

    target: str

    def encode(self) -> bytes:
        try:
            target = self.target.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise LocalProtocolError(f"the link target {self.target!r} has no form in UTF-8") from None
        return _encode_point(self.TAG, self._VERSION.pack(2) + target)

    @classmethod
    def decode_data_untrusted(cls, data: memoryview) -> Self | None:
        """Decode the data after the header; None if the version is unknown."""
        (version,) = unpack_checked(cls._VERSION, data, 0, "LX symbolic link")
        if version != 2:
            return None
        return cls(str(data[cls._VERSION.size :], "utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True)
class OtherReparsePoint:
    """A reparse point that is opaque here ([MS-FSCC] 2.1.2.2, 2.1.2.3).

    Tags without Microsoft's bit carry their owner's `guid` before the data. NFS and LX points of an
    unknown kind are here too: the file may be sound, and any other client may have written it.
    """

    tag: int
    data: Buffer = b""
    guid: UUID | None = None

    def encode(self) -> bytes:
        if (self.guid is None) != bool(self.tag & _MICROSOFT):
            raise LocalProtocolError(f"reparse tag {self.tag:#x}: a GUID is for tags of third parties")
        guid = self.guid.bytes_le if self.guid is not None else b""
        return _encode_point(self.tag, self.data, guid)


ReparsePoint: TypeAlias = SymbolicLink | MountPoint | NfsSpecialFile | LxSymlink | OtherReparsePoint


def decode_reparse_untrusted(view: memoryview) -> ReparsePoint:
    """Decode FSCTL_GET_REPARSE_POINT's output; raise `RemoteProtocolError` if it is malformed."""
    tag, length = unpack_checked(_HEADER, view, 0, "reparse point")
    if not tag & _MICROSOFT:
        guid = UUID(bytes_le=bytes(slice_checked(view, _HEADER.size, _GUID_SIZE, "reparse point")))
        data = slice_checked(view, _HEADER.size + _GUID_SIZE, length, "reparse point")
        return OtherReparsePoint(tag, data, guid)
    data = slice_checked(view, _HEADER.size, length, "reparse point")
    match tag:
        case ReparseTag.SYMLINK:
            return SymbolicLink.decode_data_untrusted(data)
        case ReparseTag.MOUNT_POINT:
            return MountPoint.decode_data_untrusted(data)
        case ReparseTag.NFS:
            return NfsSpecialFile.decode_data_untrusted(data) or OtherReparsePoint(tag, data)
        case ReparseTag.LX_SYMLINK:
            return LxSymlink.decode_data_untrusted(data) or OtherReparsePoint(tag, data)
        case _:
            return OtherReparsePoint(tag, data)


def encode_reparse_deletion(tag: int, guid: UUID | None = None) -> bytes:
    """Encode FSCTL_DELETE_REPARSE_POINT's input: the point's tag (and GUID), no data."""
    return OtherReparsePoint(tag, b"", guid).encode()
