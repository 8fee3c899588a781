"""Extended attributes: lists of names and of names with values ([MS-FSCC] 2.4).

Names are bytes, in whatever 8-bit encoding the server uses for them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from engine.errors import LocalProtocolError
from engine.wire.fscc import FileInformationClass
from engine.wire.fscc_chain import join_chain, split_chain_untrusted
from engine.wire.primitives import Buffer, slice_checked, unpack_checked

FILE_NEED_EA: Final = 0x80
"""In `flags`: the file makes no sense to whoever does not understand this attribute."""

EA_NAME_MAX: Final = 255
EA_VALUE_MAX: Final = 65_535

_ALIGNMENT: Final = 4


def _name_checked(name: bytes) -> bytes:
    if not 1 <= len(name) <= EA_NAME_MAX or b"\0" in name:
        raise LocalProtocolError(f"{name!r} cannot be the name of an extended attribute")
    return name


@dataclass(slots=True)
class FileFullEaInformation:
    """One extended attribute ([MS-FSCC] 2.4); set with an empty value, it is removed."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileFullEaInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<4xBBH")

    ea_name: bytes
    ea_value: Buffer = b""
    flags: int = 0

    def encode(self) -> bytes:
        """Encode as a list of one; raise `LocalProtocolError` on a name or value that cannot be sent."""
        name = _name_checked(self.ea_name)
        if len(self.ea_value) > EA_VALUE_MAX:
            raise LocalProtocolError(f"an extended attribute holds at most {EA_VALUE_MAX} bytes")
        return b"".join(
            (self._LAYOUT.pack(self.flags, len(name), len(self.ea_value)), name, b"\0", self.ea_value)
        )

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        """Decode the first entry of a list."""
        what = "FileFullEaInformation"
        flags, name_length, value_length = unpack_checked(cls._LAYOUT, view, 0, what)
        name = slice_checked(view, cls._LAYOUT.size, name_length, what)
        value = slice_checked(view, cls._LAYOUT.size + name_length + 1, value_length, what)
        return cls(bytes(name), value, flags)


def encode_full_eas(attributes: Iterable[FileFullEaInformation]) -> bytes:
    """Encode the buffer of a SET_INFO for, or of a reply about, extended attributes."""
    return join_chain([attribute.encode() for attribute in attributes], _ALIGNMENT)


def decode_full_eas_untrusted(view: memoryview) -> list[FileFullEaInformation]:
    """Decode all extended attributes in a buffer; the values are views into it."""
    what = "FileFullEaInformation"
    return [FileFullEaInformation.decode_untrusted(entry) for entry in split_chain_untrusted(view, 8, what)]


_GET_EA: Final = struct.Struct("<4xB")


def encode_get_eas(names: Iterable[bytes]) -> bytes:
    """Encode FILE_GET_EA_INFORMATION, the input of a QUERY_INFO for these attributes ([MS-FSCC] 2.4)."""
    entries = [_GET_EA.pack(len(_name_checked(name))) + name + b"\0" for name in names]
    return join_chain(entries, _ALIGNMENT)


def decode_get_eas_untrusted(view: memoryview) -> list[bytes]:
    """Decode FILE_GET_EA_INFORMATION into names ([MS-FSCC] 2.4)."""
    what = "FILE_GET_EA_INFORMATION"
    names: list[bytes] = []
    for entry in split_chain_untrusted(view, _GET_EA.size, what):
        (length,) = unpack_checked(_GET_EA, entry, 0, what)
        names.append(bytes(slice_checked(entry, _GET_EA.size, length, what)))
    return names
