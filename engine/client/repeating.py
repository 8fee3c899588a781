"""Which requests may be made once more when nobody knows whether the server has carried them out.

What reads, and what has the same effect the second time, may; what another client's doing in between could
turn into something else (a name that is made, moved or removed, a lock) may not: its outcome is looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.proto.inflight import Request
from engine.wire.constants import Command, CreateOptions, Disposition, InfoType
from engine.wire.create import CreateRequest
from engine.wire.fscc import FileInformationClass
from engine.wire.io import IoctlRequest
from engine.wire.ioctl import FsctlCode
from engine.wire.query import SetInfoRequest

_ALWAYS: Final = frozenset(
    {Command.READ, Command.WRITE, Command.FLUSH, Command.QUERY_INFO, Command.CLOSE, Command.ECHO}
)
_SETTING: Final = frozenset(
    {
        FileInformationClass.FileBasicInformation,
        FileInformationClass.FileEndOfFileInformation,
        FileInformationClass.FileAllocationInformation,
        FileInformationClass.FileFullEaInformation,
    }
)
_CONTROLS: Final = frozenset(
    {
        FsctlCode.SET_SPARSE,
        FsctlCode.SET_ZERO_DATA,
        FsctlCode.QUERY_ALLOCATED_RANGES,
        FsctlCode.GET_REPARSE_POINT,
        FsctlCode.SRV_ENUMERATE_SNAPSHOTS,
        FsctlCode.QUERY_NETWORK_INTERFACE_INFO,
        FsctlCode.DFS_GET_REFERRALS,
        FsctlCode.DFS_GET_REFERRALS_EX,
    }
)


def may_repeat(requests: Sequence[Request]) -> bool:
    """Whether these, sent in one frame, may be sent again after their connection was lost."""
    opens = False
    for request in requests:
        if isinstance(request, CreateRequest):
            opens = True
            if request.create_disposition == Disposition.CREATE:
                return False
            if request.create_options & CreateOptions.DELETE_ON_CLOSE:
                return False
        elif isinstance(request, SetInfoRequest):
            if request.info_type != InfoType.FILE or request.file_info_class not in _SETTING:
                return False
        elif isinstance(request, IoctlRequest):
            if request.ctl_code not in _CONTROLS:
                return False
        elif request.COMMAND is Command.QUERY_DIRECTORY:
            # On a folder that was open before, it would go on behind entries that nobody has seen.
            if not opens:
                return False
        elif request.COMMAND not in _ALWAYS:
            return False
    return True
