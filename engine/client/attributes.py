"""SET_INFO requests: which structure goes into which request ([MS-SMB2] 2.2.39)."""

from __future__ import annotations

from typing import ClassVar, Protocol

from engine import ntstatus
from engine.errors import error_from_status
from engine.wire.constants import InfoType
from engine.wire.fscc import FileBasicInformation
from engine.wire.primitives import FileId, ns_to_filetime
from engine.wire.query import SetInfoRequest


class SetInfo(Protocol):
    """An information class that can be set."""

    INFORMATION_CLASS: ClassVar[int]

    def encode(self) -> bytes:
        """The structure's bytes."""


def set_info(info: SetInfo, file_id: FileId) -> SetInfoRequest:
    """The request that sets `info` on an open file."""
    return SetInfoRequest(
        info_type=InfoType.FILE,
        file_info_class=info.INFORMATION_CLASS,
        buffer=info.encode(),
        file_id=file_id,
    )


def check_target(path: str) -> None:
    """Raise `NameInvalid` for a NUL: a server that takes names as C strings would cut there, and succeed."""
    if "\0" in path:
        raise error_from_status(ntstatus.STATUS_OBJECT_NAME_INVALID, f"use the name {path}")


def basic_information(
    access_ns: int | None = None,
    write_ns: int | None = None,
    creation_ns: int | None = None,
    change_ns: int | None = None,
    attributes: int | None = None,
) -> FileBasicInformation:
    """Times in nanoseconds since 1970 as FILETIMEs; 0 there means "leave as it is" ([MS-FSCC] 2.4.7)."""

    def filetime(ns: int | None) -> int:
        return 0 if ns is None else ns_to_filetime(ns)

    return FileBasicInformation(
        creation_time=filetime(creation_ns),
        last_access_time=filetime(access_ns),
        last_write_time=filetime(write_ns),
        change_time=filetime(change_ns),
        file_attributes=attributes or 0,
    )
