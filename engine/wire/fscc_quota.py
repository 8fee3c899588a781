"""Disk quotas: lists of what each user has and may have ([MS-FSCC] 2.4, [MS-SMB2] 2.2.37.1)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from engine.errors import LocalProtocolError
from engine.wire.fscc import FileInformationClass
from engine.wire.fscc_chain import join_chain, split_chain_untrusted
from engine.wire.primitives import slice_checked, unpack_checked
from engine.wire.security import Sid


@dataclass(slots=True)
class FileQuotaInformation:
    """One user's quota ([MS-FSCC] 2.4): bytes used, to warn at and to stop at.

    −1 for the limit is none, −2 removes the entry. `change_time` is a FILETIME.
    """

    INFORMATION_CLASS: ClassVar[int] = FileInformationClass.FileQuotaInformation
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<4xIqqqq")

    sid: Sid
    quota_used: int = 0
    quota_threshold: int = -1
    quota_limit: int = -1
    change_time: int = 0

    def encode(self) -> bytes:
        """Encode as a list of one."""
        sid = self.sid.encode()
        fixed = self._LAYOUT.pack(
            len(sid), self.change_time, self.quota_used, self.quota_threshold, self.quota_limit
        )
        return fixed + sid

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        """Decode the first entry of a list."""
        what = "FileQuotaInformation"
        length, changed, used, threshold, limit = unpack_checked(cls._LAYOUT, view, 0, what)
        sid = Sid.decode_untrusted(slice_checked(view, cls._LAYOUT.size, length, what))
        return cls(sid, used, threshold, limit, changed)


def encode_quotas(quotas: Iterable[FileQuotaInformation]) -> bytes:
    """Encode the buffer of a reply or of a SET_INFO."""
    return join_chain([quota.encode() for quota in quotas], 8)


def decode_quotas_untrusted(view: memoryview) -> list[FileQuotaInformation]:
    """Decode all quotas in a buffer."""
    entries = split_chain_untrusted(view, 40, "FileQuotaInformation")
    return [FileQuotaInformation.decode_untrusted(entry) for entry in entries]


_GET_QUOTA: Final = struct.Struct("<4xI")


def encode_get_quotas(sids: Iterable[Sid]) -> bytes:
    """Encode FILE_GET_QUOTA_INFORMATION, the users whose quotas are asked for ([MS-FSCC] 2.4)."""
    encoded = [sid.encode() for sid in sids]
    return join_chain([_GET_QUOTA.pack(len(sid)) + sid for sid in encoded], 4)


def decode_get_quotas_untrusted(view: memoryview) -> list[Sid]:
    """Decode FILE_GET_QUOTA_INFORMATION ([MS-FSCC] 2.4)."""
    what = "FILE_GET_QUOTA_INFORMATION"
    sids: list[Sid] = []
    for entry in split_chain_untrusted(view, _GET_QUOTA.size, what):
        (length,) = unpack_checked(_GET_QUOTA, entry, 0, what)
        sids.append(Sid.decode_untrusted(slice_checked(entry, _GET_QUOTA.size, length, what)))
    return sids


@dataclass(slots=True)
class QueryQuotaInfo:
    """SMB2_QUERY_QUOTA_INFO, the input of a QUERY_INFO for quotas ([MS-SMB2] 2.2.37.1).

    Either `sids` picks users, or the scan goes on after `start_sid` (None: where it stopped).
    """

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("<BB2xIII")

    return_single: bool = False
    restart_scan: bool = False
    sids: Sequence[Sid] = ()
    start_sid: Sid | None = None

    def encode(self) -> bytes:
        if self.sids and self.start_sid is not None:
            raise LocalProtocolError("a quota query takes a list of users or one to start from, not both")
        sid_list = encode_get_quotas(self.sids)
        start_sid = self.start_sid.encode() if self.start_sid is not None else b""
        fixed = self._LAYOUT.pack(self.return_single, self.restart_scan, len(sid_list), len(start_sid), 0)
        return fixed + (sid_list or start_sid)

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        what = "SMB2_QUERY_QUOTA_INFO"
        single, restart, list_length, start_length, start_offset = unpack_checked(cls._LAYOUT, view, 0, what)
        inside = view[cls._LAYOUT.size :]
        sids: list[Sid] = []
        start_sid = None
        if list_length:
            sids = decode_get_quotas_untrusted(slice_checked(inside, 0, list_length, what))
        elif start_length:
            start_sid = Sid.decode_untrusted(slice_checked(inside, start_offset, start_length, what))
        return cls(bool(single), bool(restart), tuple(sids), start_sid)
