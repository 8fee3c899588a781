"""DFS referrals: where the folders of a distributed tree really are ([MS-DFSC] 2.2).

They travel in IOCTL DFS_GET_REFERRALS. All strings are NUL-terminated UTF-16; an entry names them by
their distance from its own start, and entries may share them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import ClassVar, Final, Self
from uuid import UUID

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.primitives import decode_utf16_untrusted, encode_utf16, slice_checked, unpack_checked

_LENGTH: Final = struct.Struct("<H")
_NUL_SIZE: Final = 2
_NIL: Final = UUID(int=0)


class DfsHeaderFlags(IntFlag):
    """What the targets of a referral are ([MS-DFSC] 2.2.4)."""

    REFERRAL_SERVERS = 1
    STORAGE_SERVERS = 2
    TARGET_FAILBACK = 4


class DfsEntryFlags(IntFlag):
    """About one entry ([MS-DFSC] 2.2.5)."""

    NAME_LIST_REFERRAL = 2
    TARGET_SET_BOUNDARY = 4


class _Text:
    """Reads a buffer's strings, spending no more than the buffer's length on them all.

    Entries may share a string, so one that starts where another did costs next to nothing. Strings
    that overlap otherwise would let a few bytes stand for megabytes, and are refused.
    """

    def __init__(self, view: memoryview) -> None:
        self._bytes = bytes(view)
        self._budget = len(view)
        self._known: dict[int, tuple[str, int]] = {}

    def read(self, start: int) -> tuple[str, int]:
        """Return the string at `start`, and where the next one begins."""
        known = self._known.get(start)
        if known is not None:
            self._spend(_NUL_SIZE)
            return known
        end = self._bytes.find(b"\0\0", start)
        while end >= 0 and (end - start) % 2:
            end = self._bytes.find(b"\0\0", end + 1)
        if end < 0:
            raise RemoteProtocolError(f"DFS string at {start} does not end")
        self._spend(end - start + _NUL_SIZE)
        text = decode_utf16_untrusted(memoryview(self._bytes)[start:end])
        self._known[start] = text, end + _NUL_SIZE
        return self._known[start]

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise RemoteProtocolError("DFS strings that overlap")


def _encode_text(text: str) -> bytes:
    if "\0" in text:
        raise LocalProtocolError("a DFS string cannot hold NUL")
    return encode_utf16(text + "\0")


@dataclass(slots=True)
class DfsReferralRequest:
    r"""REQ_GET_DFS_REFERRAL ([MS-DFSC] 2.2.2): which targets has "\server\share\folder"?"""

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<H")

    request_file_name: str
    max_referral_level: int = 4

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.max_referral_level) + _encode_text(self.request_file_name)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        (level,) = unpack_checked(cls._LAYOUT, view, 0, "REQ_GET_DFS_REFERRAL")
        name, _ = _Text(view).read(cls._LAYOUT.size)
        return cls(name, level)


@dataclass(slots=True)
class DfsReferralRequestEx:
    """REQ_GET_DFS_REFERRAL_EX ([MS-DFSC] 2.2.3), with the client's site."""

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<HHI")
    _SITE_NAME_PRESENT: ClassVar[int] = 1

    request_file_name: str
    site_name: str | None = None
    max_referral_level: int = 4

    def encode(self) -> bytes:
        name = encode_utf16(self.request_file_name)
        data = _LENGTH.pack(len(name)) + name
        flags = 0
        if self.site_name is not None:
            flags = self._SITE_NAME_PRESENT
            site = encode_utf16(self.site_name)
            data += _LENGTH.pack(len(site)) + site
        return self._LAYOUT.pack(self.max_referral_level, flags, len(data)) + data

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "REQ_GET_DFS_REFERRAL_EX"
        level, flags, length = unpack_checked(cls._LAYOUT, view, 0, what)
        data = slice_checked(view, cls._LAYOUT.size, length, what)
        (name_length,) = unpack_checked(_LENGTH, data, 0, what)
        name = decode_utf16_untrusted(slice_checked(data, 2, name_length, what))
        site = None
        if flags & cls._SITE_NAME_PRESENT:
            (site_length,) = unpack_checked(_LENGTH, data, 2 + name_length, what)
            site = decode_utf16_untrusted(slice_checked(data, 4 + name_length, site_length, what))
        return cls(name, site, level)


@dataclass(slots=True)
class DfsReferral:
    r"""One entry of a referral, of any version ([MS-DFSC] 2.2.5).

    `server_type` is 1 for a root target, 0 for a link's; `time_to_live` in seconds. A target is
    `network_address` (version 1's ShareName), "\server\share", and serves `dfs_path`. A list of names
    (domains or their controllers, `is_name_list`) has `special_name` and `expanded_names` instead.
    """

    version: int
    network_address: str = ""
    dfs_path: str = ""
    dfs_alternate_path: str = ""
    server_type: int = 0
    referral_entry_flags: int = 0
    time_to_live: int = 0
    proximity: int = 0
    service_site_guid: UUID = _NIL
    special_name: str = ""
    expanded_names: Sequence[str] = ()

    @property
    def is_name_list(self) -> bool:
        return self.version >= 3 and bool(self.referral_entry_flags & DfsEntryFlags.NAME_LIST_REFERRAL)


_ENTRY: Final = struct.Struct("<HHHH")
_ENTRY_V2: Final = struct.Struct("<IIHHH")
_ENTRY_V3: Final = struct.Struct("<IHHH")
_NAMES_V3: Final = struct.Struct("<IHHH")
_SITE_GUID_OFFSET: Final = _ENTRY.size + _ENTRY_V3.size
_SITE_GUID_SIZE: Final = 16


@dataclass(slots=True)
class DfsReferralResponse:
    """RESP_GET_DFS_REFERRAL ([MS-DFSC] 2.2.4).

    `path_consumed` is how many bytes of the request's name (as UTF-16) the referral answers for.
    """

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<HHI")

    path_consumed: int
    referral_header_flags: int = 0
    referrals: Sequence[DfsReferral] = ()

    def encode(self) -> bytes:
        fixed = self._LAYOUT.pack(self.path_consumed, len(self.referrals), self.referral_header_flags)
        sizes = [_entry_size(referral) for referral in self.referrals]
        strings = bytearray()
        entries: list[bytes] = []
        for index, referral in enumerate(self.referrals):
            to_strings = sum(sizes[index:]) + len(strings)
            entry, own_strings = _encode_entry(referral, sizes[index], to_strings)
            entries.append(entry)
            strings += own_strings
        return fixed + b"".join(entries) + bytes(strings)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "RESP_GET_DFS_REFERRAL"
        consumed, count, flags = unpack_checked(cls._LAYOUT, view, 0, what)
        text = _Text(view)
        referrals: list[DfsReferral] = []
        position = cls._LAYOUT.size
        for _ in range(count):
            version, size, server_type, entry_flags = unpack_checked(_ENTRY, view, position, what)
            entry = slice_checked(view, position, size, what)
            referral = DfsReferral(version, server_type=server_type, referral_entry_flags=entry_flags)
            _fill_untrusted(referral, entry, text, position)
            referrals.append(referral)
            position += size
        return cls(consumed, flags, tuple(referrals))


def _fill_untrusted(referral: DfsReferral, entry: memoryview, text: _Text, start: int) -> None:
    """Read what follows the common head of `entry`, which begins `start` bytes into the response."""
    what = f"DFS referral of version {referral.version}"
    if referral.version == 1:
        # The name stands in the entry itself, which therefore has to hold it.
        referral.network_address, end = text.read(start + _ENTRY.size)
        slice_checked(entry, 0, end - start, what)
    elif referral.version == 2:
        proximity, ttl, *offsets = unpack_checked(_ENTRY_V2, entry, _ENTRY.size, what)
        referral.proximity, referral.time_to_live = proximity, ttl
        _fill_paths(referral, text, start, offsets)
    elif referral.is_name_list and referral.version in (3, 4):
        ttl, name_at, count, names_at = unpack_checked(_NAMES_V3, entry, _ENTRY.size, what)
        referral.time_to_live = ttl
        referral.special_name, _ = text.read(start + name_at)
        names: list[str] = []
        position = start + names_at
        for _ in range(count):
            name, position = text.read(position)
            names.append(name)
        referral.expanded_names = tuple(names)
    elif referral.version in (3, 4):
        referral.time_to_live, *offsets = unpack_checked(_ENTRY_V3, entry, _ENTRY.size, what)
        guid = slice_checked(entry, _SITE_GUID_OFFSET, _SITE_GUID_SIZE, what)
        referral.service_site_guid = UUID(bytes_le=bytes(guid))
        _fill_paths(referral, text, start, offsets)
    else:
        raise RemoteProtocolError(f"{what}, which nobody asked for")


def _fill_paths(referral: DfsReferral, text: _Text, start: int, offsets: Sequence[int]) -> None:
    path, alternate, address = (text.read(start + offset)[0] for offset in offsets)
    referral.dfs_path, referral.dfs_alternate_path, referral.network_address = path, alternate, address


def _entry_size(referral: DfsReferral) -> int:
    if referral.version == 1:
        return _ENTRY.size + len(_encode_text(referral.network_address))
    if referral.version == 2:
        return _ENTRY.size + _ENTRY_V2.size
    if referral.version in (3, 4):
        return _SITE_GUID_OFFSET + _SITE_GUID_SIZE
    raise LocalProtocolError(f"there is no DFS referral of version {referral.version}")


def _encode_entry(referral: DfsReferral, size: int, to_strings: int) -> tuple[bytes, bytes]:
    """Return the entry and its strings, which will begin `to_strings` bytes after the entry does."""
    head = _ENTRY.pack(referral.version, size, referral.server_type, referral.referral_entry_flags)
    if referral.version == 1:
        return head + _encode_text(referral.network_address), b""
    if referral.is_name_list:
        special = _encode_text(referral.special_name)
        names = b"".join(map(_encode_text, referral.expanded_names))
        count = len(referral.expanded_names)
        names_at = to_strings + len(special) if count else 0
        body = _NAMES_V3.pack(referral.time_to_live, to_strings, count, names_at)
        return head + body + bytes(_SITE_GUID_SIZE), special + names
    path = _encode_text(referral.dfs_path)
    alternate = _encode_text(referral.dfs_alternate_path)
    address = _encode_text(referral.network_address)
    offsets = to_strings, to_strings + len(path), to_strings + len(path) + len(alternate)
    if referral.version == 2:
        body = _ENTRY_V2.pack(referral.proximity, referral.time_to_live, *offsets)
    else:
        body = _ENTRY_V3.pack(referral.time_to_live, *offsets) + referral.service_site_guid.bytes_le
    return head + body, path + alternate + address
