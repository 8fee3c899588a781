"""Names: the kernel's bytes ↔ the server's characters.

Linux allows every byte but `/` and NUL, SMB forbids a dozen characters. As Linux' cifs does with
`mapposix`, the forbidden ones travel as characters of the private use area (the "SFM" map that macOS
uses too), so that all three see the same names. Lone UTF-16 surrogates, which Windows allows, travel
as the three bytes that UTF-8 would give them.

Invariant: both directions are one-to-one where they are defined, so that two names of the server never
become one name here. 255 bytes of UTF-8 never exceed the 255 UTF-16 units that servers allow.
"""

from __future__ import annotations

import errno
import re
from typing import Final

from smbmount.vfs.errors import PosixError

MAX_NAME_BYTES: Final = 255
"""NAME_MAX: more is refused by the kernel's users."""

_RESERVED: Final = {'"': 0xF020, "*": 0xF021, ":": 0xF022, "<": 0xF023, ">": 0xF024, "?": 0xF025, "|": 0xF027}
_TO_SMB: Final = (
    {ord(char): smb for char, smb in _RESERVED.items()}
    | {ord("\\"): 0xF026}
    | {control: 0xF000 + control for control in range(1, 0x20)}
)
_TO_POSIX: Final = {smb: posix for posix, smb in _TO_SMB.items()}
_LAST_TO_SMB: Final = {" ": "\uf028", ".": "\uf029"}
_LAST_TO_POSIX: Final = {smb: posix for posix, smb in _LAST_TO_SMB.items()}

_find_reserved = re.compile(r'["*:<>?\\|\x01-\x1f]|[ .]\Z').search
_find_mapped = re.compile("[\uf001-\uf01f\uf020-\uf027]|[\uf028\uf029]\\Z").search
_find_separator = re.compile(r"[\x00/\\]").search
_find_surrogate_pair = re.compile("[\ud800-\udbff][\udc00-\udfff]").search


class NameMap:
    """Both directions, with or without the map of reserved characters."""

    def __init__(self, *, map_reserved: bool) -> None:
        self._map_reserved = map_reserved

    def encode(self, name: bytes) -> str:
        """The server's name for a name of the kernel.

        Raises `PosixError`: ENAMETOOLONG; EILSEQ for what is no UTF-8; EINVAL for what SMB cannot hold.
        """
        if len(name) > MAX_NAME_BYTES:
            raise PosixError(errno.ENAMETOOLONG)
        try:
            text = name.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise PosixError(errno.EILSEQ, "the name is not UTF-8") from None
        if text in ("", ".", "..") or "/" in text or "\0" in text:
            raise PosixError(errno.EINVAL, "that is no name")
        if _find_surrogate_pair(text):
            raise PosixError(errno.EILSEQ, "the name is not UTF-8")
        if self._map_reserved and _find_mapped(text):
            raise PosixError(errno.EINVAL, "the name has characters that stand for others on the server")
        if _find_reserved(text):
            return self._encode_reserved(text)
        return text

    def _encode_reserved(self, text: str) -> str:
        if not self._map_reserved:
            raise PosixError(errno.EINVAL, "the name has characters that SMB does not allow")
        text = text.translate(_TO_SMB)
        return text[:-1] + _LAST_TO_SMB.get(text[-1], text[-1])

    def decode_untrusted(self, name: str) -> bytes | None:
        """The kernel's name for a name of the server; None for one that must not be shown.

        Those are the names that could lead elsewhere (separators, `.`, `..`, empty, NUL), those that no
        program could name (over-long), and those that would collide with the map.
        """
        if not name or _find_separator(name) or _find_reserved(name):
            return None
        if self._map_reserved and _find_mapped(name):
            name = name.translate(_TO_POSIX)
            name = name[:-1] + _LAST_TO_POSIX.get(name[-1], name[-1])
        encoded = name.encode("utf-8", "surrogatepass")
        return encoded if len(encoded) <= MAX_NAME_BYTES and encoded not in (b".", b"..") else None


def fold(name: str) -> str:
    """A key under which the server takes names for equal, near enough: only optimisations rely on it."""
    return name.upper()


def join(folder: str, name: str) -> str:
    """The SMB path of a name in a folder; "" is the share's root."""
    return f"{folder}\\{name}" if folder else name
