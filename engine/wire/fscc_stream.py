"""A file's data streams ([MS-FSCC] 2.4)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from engine.wire.fscc import FileInformationClass, sizes_checked
from engine.wire.fscc_chain import join_chain, split_chain_untrusted
from engine.wire.primitives import decode_utf16_untrusted, encode_utf16, slice_checked, unpack_checked

_WHAT = "FileStreamInformation"


@dataclass(slots=True)
class FileStreamInformation:
    """One stream ([MS-FSCC] 2.4); its name is ":name:$DATA", the file's own data "::$DATA"."""

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileStreamInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<4xIqq")

    stream_name: str
    stream_size: int = 0
    stream_allocation_size: int = 0

    def encode(self) -> bytes:
        """Encode as a list of one."""
        name = encode_utf16(self.stream_name)
        return self._LAYOUT.pack(len(name), self.stream_size, self.stream_allocation_size) + name

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        """Decode the first entry of a list."""
        length, size, allocation = unpack_checked(cls._LAYOUT, view, 0, _WHAT)
        sizes_checked(_WHAT, size, allocation)
        name = decode_utf16_untrusted(slice_checked(view, cls._LAYOUT.size, length, _WHAT))
        return cls(name, size, allocation)


def encode_streams(streams: Iterable[FileStreamInformation]) -> bytes:
    """Encode a reply's buffer; a directory, which has no streams, has an empty one."""
    return join_chain([stream.encode() for stream in streams], 8)


def decode_streams_untrusted(view: memoryview) -> list[FileStreamInformation]:
    """Decode all streams in a reply's buffer."""
    return [FileStreamInformation.decode_untrusted(entry) for entry in split_chain_untrusted(view, 24, _WHAT)]
