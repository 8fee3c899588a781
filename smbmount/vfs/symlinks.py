"""Symbolic links as small files: the "Minshall+French" format that cifs and macOS read and write.

A link is a regular file of exactly 1067 bytes: `XSym`, the target's length in four digits, its MD5 in
hexadecimal, each on a line, then the target and a newline, padded with spaces.
"""

from __future__ import annotations

import errno
import hashlib
from typing import Final

from smbmount.vfs.errors import PosixError

FILE_SIZE: Final = 1067
MAX_TARGET: Final = 1024
_HEADER: Final = 5 + 5 + 33


def encode(target: bytes) -> bytes:
    """The file's content for a link's target; `PosixError` ENAMETOOLONG, or ENOENT for an empty one."""
    if not target:
        raise PosixError(errno.ENOENT, "a symbolic link needs a target")
    if len(target) > MAX_TARGET:
        raise PosixError(errno.ENAMETOOLONG, f"a target may have {MAX_TARGET} bytes")
    content = b"XSym\n%04d\n%s\n%s" % (len(target), _digest(target), target)
    if len(target) < MAX_TARGET:
        content += b"\n"
    return content.ljust(FILE_SIZE)


def decode_untrusted(content: bytes) -> bytes | None:
    """The target, or None if the file is something else that happens to have that size."""
    if len(content) != FILE_SIZE or content[:5] != b"XSym\n" or content[9:10] != b"\n":
        return None
    digits = content[5:9]
    if not digits.isdigit() or not 0 < int(digits) <= MAX_TARGET:
        return None
    target = content[_HEADER : _HEADER + int(digits)]
    if content[10:_HEADER] != _digest(target) + b"\n" or b"\0" in target:
        return None
    return target


def is_contained(target: bytes, depth: int) -> bool:
    """Whether a target stays inside the mount, seen from a folder `depth` levels below its root.

    Only `..` at the front can be counted: behind a name it may climb from wherever another link leads.
    """
    if target.startswith(b"/"):
        return False
    climbed, at_front = 0, True
    for part in target.split(b"/"):
        if part in (b"", b"."):
            continue
        if part != b"..":
            at_front = False
        elif at_front:
            climbed += 1
        else:
            return False
    return climbed <= depth


def _digest(target: bytes) -> bytes:
    return hashlib.md5(target, usedforsecurity=False).hexdigest().encode()
