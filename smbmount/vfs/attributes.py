"""What `stat` tells: the server's attributes in POSIX words."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Final

from engine import FileAttributes, FileStat
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.symlinks import FILE_SIZE

FILE: Final = stat.S_IFREG
DIRECTORY: Final = stat.S_IFDIR
SYMLINK: Final = stat.S_IFLNK

PREFERRED_IO: Final = 1 << 20
"""`st_blksize`: programs that copy in units of it make requests as large as the kernel's."""

_READONLY: Final = int(FileAttributes.READONLY)
_SPARSE: Final = int(FileAttributes.SPARSE_FILE | FileAttributes.COMPRESSED)
_REPARSE: Final = int(FileAttributes.REPARSE_POINT)
_SETTABLE: Final = int(
    FileAttributes.READONLY
    | FileAttributes.HIDDEN
    | FileAttributes.SYSTEM
    | FileAttributes.ARCHIVE
    | FileAttributes.TEMPORARY
    | FileAttributes.OFFLINE
    | FileAttributes.NOT_CONTENT_INDEXED
)

_MAX_SIZE: Final = (1 << 63) - 1
_MIN_FILETIME_NS: Final = -11_644_473_600 * 1_000_000_000 + 100
_MAX_FILETIME_NS: Final = ((1 << 63) - 1) * 100 + _MIN_FILETIME_NS - 100
_WRITE_BITS: Final = 0o222


@dataclass(slots=True)
class Attributes:
    """One reply to the kernel. Times are nanoseconds since 1970, timeouts seconds."""

    number: int
    mode: int
    links: int
    uid: int
    gid: int
    size: int
    blocks: int
    access_ns: int
    write_ns: int
    change_ns: int
    attribute_timeout: float
    entry_timeout: float


@dataclass(slots=True, kw_only=True)
class AttributeChanges:
    """What setattr changes; None leaves alone. `mode` as in chmod. No change of the owner is stored."""

    size: int | None = None
    mode: int | None = None
    access_ns: int | None = None
    write_ns: int | None = None


def mode_of(kind: int, attributes: int, config: FileSystemConfig) -> int:
    """`st_mode`: the configured bits, without the write bits for a read-only file.

    On a folder the attribute only marks a decorated one; it protects nothing.
    """
    if kind == DIRECTORY:
        return DIRECTORY | config.dir_mode & 0o7777
    if kind == SYMLINK:
        return SYMLINK | 0o777
    mode = config.file_mode & 0o7777
    return FILE | (mode & ~_WRITE_BITS if attributes & _READONLY else mode)


def size_of(kind: int, info: FileStat, target: bytes | None) -> int:
    """`st_size`; hostile sizes are cut to what the kernel accepts."""
    if target is not None:
        return len(target)
    return 0 if kind == DIRECTORY else min(info.size, _MAX_SIZE)


def blocks_of(info: FileStat) -> int:
    """`st_blocks` in units of 512 bytes. Small files live in the server's own tables and occupy none:
    they must not look like holes."""
    allocated = info.allocation_size
    if not allocated and not info.attributes & _SPARSE:
        allocated = info.size
    return min(allocated + 511, _MAX_SIZE) >> 9


def attributes_for_mode(attributes: int, mode: int) -> FileAttributes | None:
    """The DOS attributes that store a chmod, or None if nothing changes."""
    wanted = attributes & ~_READONLY if mode & _WRITE_BITS else attributes | _READONLY
    if wanted == attributes:
        return None
    return settable(wanted)


def attributes_for_new(mode: int) -> FileAttributes:
    """The DOS attributes of a file made with these permission bits."""
    return FileAttributes.NORMAL if mode & _WRITE_BITS else FileAttributes.READONLY


def settable(attributes: int) -> FileAttributes:
    """The attributes that may be sent; 0 would mean "leave alone"."""
    return FileAttributes(attributes & _SETTABLE or FileAttributes.NORMAL)


def is_readonly(attributes: int) -> bool:
    """Whether the read-only attribute is set."""
    return bool(attributes & _READONLY)


def storable_ns(time_ns: int) -> int:
    """The time as a FILETIME can hold it: 100 ns steps, from 1601 on; 0 has a meaning of its own there."""
    return min(max(time_ns // 100 * 100, _MIN_FILETIME_NS), _MAX_FILETIME_NS)


def shown_ns(time_ns: int) -> int:
    """The time cut to what a FILETIME can mean, whatever the server sent."""
    return min(max(time_ns, _MIN_FILETIME_NS - 100), _MAX_FILETIME_NS)


def may_be_symlink(info: FileStat) -> bool:
    """Whether a file has to be read to tell if it is a symbolic link."""
    return info.size == FILE_SIZE and not info.is_directory and not info.attributes & _REPARSE


def has_no_eas(info: FileStat) -> bool:
    """Whether the server said that there are no extended attributes."""
    return info.ea_size == 0 and not info.attributes & _REPARSE
