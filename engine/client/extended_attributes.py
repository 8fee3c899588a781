"""Extended attributes of a file, by path in one compound each ([MS-FSCC] 2.4.16)."""

from __future__ import annotations

from typing import Final

from engine import ntstatus
from engine.client.tree import Tree
from engine.wire.constants import Access, EaQueryFlags, InfoType
from engine.wire.create import CloseRequest, CreateRequest
from engine.wire.fscc import FileInformationClass
from engine.wire.fscc_ea import (
    FileFullEaInformation,
    decode_full_eas_untrusted,
    encode_full_eas,
    encode_get_eas,
)
from engine.wire.primitives import FILE_ID_RELATED, Buffer, FileId
from engine.wire.query import QueryInfoRequest, QueryInfoResponse, SetInfoRequest

_CLOSE: Final = CloseRequest(file_id=FILE_ID_RELATED)
_ROOM: Final = 65536
"""All of a file's attributes together have at most that many bytes ([MS-FSCC] 2.4.12: EaSize)."""

_NONE: Final = (
    ntstatus.STATUS_NO_EAS_ON_FILE,
    ntstatus.STATUS_NONEXISTENT_EA_ENTRY,
    ntstatus.STATUS_NO_MORE_EAS,
)


async def list_eas(tree: Tree, path: str) -> dict[str, bytes]:
    """All attributes by name."""
    return _by_name(await _query(tree, path, b"", EaQueryFlags.RESTART_SCAN))


async def get_ea(tree: Tree, path: str, name: str) -> bytes:
    """One attribute; `KeyError` if it is not there."""
    found = _by_name(await _query(tree, path, encode_get_eas([_encode(name)]), EaQueryFlags(0)))
    for other, value in found.items():
        # Names compare without case on every server; an absent one may come back empty.
        if other.casefold() == name.casefold() and value:
            return value
    raise KeyError(name)


async def set_ea(tree: Tree, path: str, name: str, value: Buffer) -> None:
    """Set one attribute; an empty value removes it."""
    create = CreateRequest(desired_access=Access.WRITE_EA, name=path)
    change = setting_ea(FILE_ID_RELATED, name, value)
    await tree.exchange(create, change, _CLOSE, what=f"set an extended attribute of {path}")


def setting_ea(file_id: FileId, name: str, value: Buffer) -> SetInfoRequest:
    """The request that sets one attribute of an open file."""
    return SetInfoRequest(
        info_type=InfoType.FILE,
        file_info_class=FileInformationClass.FileFullEaInformation,
        buffer=encode_full_eas([FileFullEaInformation(ea_name=_encode(name), ea_value=value)]),
        file_id=file_id,
    )


async def _query(tree: Tree, path: str, names: bytes, flags: EaQueryFlags) -> memoryview:
    create = CreateRequest(desired_access=Access.READ_EA, name=path)
    query = QueryInfoRequest(
        info_type=InfoType.FILE,
        file_info_class=FileInformationClass.FileFullEaInformation,
        output_buffer_length=_ROOM,
        flags=flags,
        file_id=FILE_ID_RELATED,
        input=names,
    )
    _, reply, _ = await tree.exchange(
        create, query, _CLOSE, what=f"read extended attributes of {path}", passes=_NONE
    )
    if reply.header.status in _NONE:
        return memoryview(b"")
    return memoryview(QueryInfoResponse.decode_untrusted(reply.message).buffer)


def _by_name(buffer: memoryview) -> dict[str, bytes]:
    if not buffer:
        return {}
    return {
        entry.ea_name.decode("utf-8", "surrogateescape"): bytes(entry.ea_value)
        for entry in decode_full_eas_untrusted(buffer)
    }


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
