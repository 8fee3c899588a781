"""Paths as servers take them: what a tree's users give starts at the folder that is the root for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from engine.proto.inflight import Request
from engine.wire.constants import InfoType
from engine.wire.create import CreateRequest
from engine.wire.fscc_set import FileLinkInformation, FileRenameInformation
from engine.wire.query import SetInfoRequest

_TARGETS: Final = {
    kind.INFORMATION_CLASS: kind.decode_untrusted for kind in (FileRenameInformation, FileLinkInformation)
}
"""What a SET_INFO holds that has a path in it ([MS-FSCC] 2.4)."""


def below(prefix: str, path: str) -> str:
    """`path` in the folder `prefix`; "" is the folder itself."""
    return f"{prefix}\\{path}" if prefix and path else prefix or path


def rooted(requests: Sequence[Request], prefix: str, dfs_share: str = "") -> Sequence[Request]:
    r"""The requests with the paths in them put below `prefix`.

    In a `dfs_share`, `server\share`, files are opened by their full names ([MS-SMB2] 3.2.4.3); what renames
    and links name stays below the share.
    """
    if not (prefix or dfs_share):
        return requests
    return [_rooted(request, prefix, dfs_share) for request in requests]


def _rooted(request: Request, prefix: str, dfs_share: str) -> Request:
    if isinstance(request, CreateRequest):
        name = below(dfs_share, below(prefix, request.name))
        return dataclasses.replace(request, name=name, in_dfs=bool(dfs_share))
    if prefix and isinstance(request, SetInfoRequest) and request.info_type == InfoType.FILE:
        decode = _TARGETS.get(request.file_info_class)
        if decode is not None:
            target = decode(memoryview(request.buffer))
            target.file_name = below(prefix, target.file_name)
            return dataclasses.replace(request, buffer=target.encode())
    return request
