"""Lists whose entries begin with NextEntryOffset: cut apart and put together.

An entry ends where the next one begins, so entries cannot overlap and a hostile list costs no more
than its own length ([MS-FSCC] 2.4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from engine.errors import RemoteProtocolError
from engine.wire.primitives import unpack_checked

_NEXT_ENTRY_OFFSET = struct.Struct("<I")


def split_chain_untrusted(view: memoryview, entry_size: int, what: str) -> Iterator[memoryview]:
    """Yield the entries of `view`, each at least `entry_size` bytes; an empty view holds none.

    Raise `RemoteProtocolError` naming `what` where an offset points into its own entry or past the
    end. Entries that are not aligned are taken as they stand: nothing here depends on it.
    """
    offset = 0
    while offset < len(view):
        (step,) = unpack_checked(_NEXT_ENTRY_OFFSET, view, offset, what)
        end = offset + step if step else len(view)
        if end > len(view) or end - offset < entry_size:
            raise RemoteProtocolError(f"{what}: an entry from {offset} to {end} in {len(view)} bytes")
        yield view[offset:end]
        offset = end


def join_chain(entries: Sequence[bytes], alignment: int) -> bytes:
    """Put entries together, filling in the NextEntryOffset that each begins with.

    All but the last are padded to `alignment` bytes, as the spec has it.
    """
    if not entries:
        return b""
    parts: list[bytes] = []
    for entry in entries[:-1]:
        padded = entry + bytes(-len(entry) % alignment)
        parts += _NEXT_ENTRY_OFFSET.pack(len(padded)), padded[_NEXT_ENTRY_OFFSET.size :]
    last = entries[-1]
    parts += _NEXT_ENTRY_OFFSET.pack(0), last[_NEXT_ENTRY_OFFSET.size :]
    return b"".join(parts)
