"""An SMB2/3 client for trio.

    async with engine.connect("//server/share", engine.Credentials("me", "secret")) as share:
        async with await share.open("notes.txt") as file:
            print(bytes(await file.read_at(0, 100)))

Everything that other packages may use is exported here. `Share.compound` takes requests as values: `Create`,
`Read`, `Write`, `Flush`, `QueryInfo`, `SetInfo`, `Ioctl` and `Close`.
"""

from engine.client.condition import Condition, ShareState
from engine.client.config import AuthKind, ConnectConfig, Credentials, TicketSource, Unc, parse_unc
from engine.client.connect import connect
from engine.client.crossing import Crossing
from engine.client.description import ConnectionDescription
from engine.client.dfs import DfsStep, DfsTarget
from engine.client.file import File
from engine.client.folder import Folder
from engine.client.keeping import was_not_written
from engine.client.kerberos import Ticket
from engine.client.leases import Lease
from engine.client.pipe import Pipe
from engine.client.requests import (
    RELATED,
    Close,
    CompoundRequest,
    Create,
    Flush,
    Ioctl,
    QueryInfo,
    Read,
    SetInfo,
    Write,
)
from engine.client.share import Share
from engine.client.stat import DirectoryEntry, FileStat, VolumeSize
from engine.client.tickets import missing_for_kerberos
from engine.errors import (
    AccessDenied,
    AlreadyExists,
    AuthError,
    BufferOverflow,
    CannotDelete,
    DeletePending,
    DirectoryNotEmpty,
    EndOfFile,
    FileClosed,
    ForeignHost,
    HandleLost,
    InvalidParameter,
    IsADirectory,
    KdcUnreachable,
    LocalProtocolError,
    LockNotGranted,
    LogonFailure,
    NameInvalid,
    NoMoreFiles,
    NoSmbServer,
    NoSpace,
    NotADirectory,
    NotFound,
    NotSupported,
    NotWelcome,
    NtStatusError,
    OutcomeUnknown,
    PathNotCovered,
    RemoteProtocolError,
    SessionDeleted,
    SessionExpired,
    SharingViolation,
    SmbError,
    StoppedOnSymlink,
    TicketError,
    TransportError,
    TreeGone,
    Unprotected,
    error_from_status,
)
from engine.proto.statistics import Statistics
from engine.wire.constants import (
    SHARE_ALL,
    Access,
    CreateOptions,
    Dialect,
    Disposition,
    FileAttributes,
    LeaseState,
    ShareAccess,
    ShareType,
)
from engine.wire.create import CloseResponse, CreateResponse
from engine.wire.dfs import DfsReferral, DfsReferralResponse
from engine.wire.fscc import (
    FileAllInformation,
    FileBasicInformation,
    FileInternalInformation,
    FileNetworkOpenInformation,
    FileStandardInformation,
)
from engine.wire.fscc_set import (
    FileDispositionInformation,
    FileEndOfFileInformation,
    FileLinkInformation,
    FileRenameInformation,
)
from engine.wire.fscc_volume import (
    FileFsAttributeInformation,
    FileFsFullSizeInformation,
    FileFsVolumeInformation,
)
from engine.wire.ioctl import FsctlCode, NetworkInterfaceInfo
from engine.wire.primitives import Buffer, FileId
from engine.wire.reparse import (
    LxSymlink,
    MountPoint,
    NfsSpecialFile,
    OtherReparsePoint,
    ReparsePoint,
    ReparseTag,
    SymbolicLink,
)

__all__ = [
    "RELATED",
    "SHARE_ALL",
    "Access",
    "AccessDenied",
    "AlreadyExists",
    "AuthError",
    "AuthKind",
    "Buffer",
    "BufferOverflow",
    "CannotDelete",
    "Close",
    "CloseResponse",
    "CompoundRequest",
    "Condition",
    "ConnectConfig",
    "ConnectionDescription",
    "Create",
    "CreateOptions",
    "CreateResponse",
    "Credentials",
    "Crossing",
    "DeletePending",
    "DfsReferral",
    "DfsReferralResponse",
    "DfsStep",
    "DfsTarget",
    "Dialect",
    "DirectoryEntry",
    "DirectoryNotEmpty",
    "Disposition",
    "EndOfFile",
    "File",
    "FileAllInformation",
    "FileAttributes",
    "FileBasicInformation",
    "FileClosed",
    "FileDispositionInformation",
    "FileEndOfFileInformation",
    "FileFsAttributeInformation",
    "FileFsFullSizeInformation",
    "FileFsVolumeInformation",
    "FileId",
    "FileInternalInformation",
    "FileLinkInformation",
    "FileNetworkOpenInformation",
    "FileRenameInformation",
    "FileStandardInformation",
    "FileStat",
    "Flush",
    "Folder",
    "ForeignHost",
    "FsctlCode",
    "HandleLost",
    "InvalidParameter",
    "Ioctl",
    "IsADirectory",
    "KdcUnreachable",
    "Lease",
    "LeaseState",
    "LocalProtocolError",
    "LockNotGranted",
    "LogonFailure",
    "LxSymlink",
    "MountPoint",
    "NameInvalid",
    "NetworkInterfaceInfo",
    "NfsSpecialFile",
    "NoMoreFiles",
    "NoSmbServer",
    "NoSpace",
    "NotADirectory",
    "NotFound",
    "NotSupported",
    "NotWelcome",
    "NtStatusError",
    "OtherReparsePoint",
    "OutcomeUnknown",
    "PathNotCovered",
    "Pipe",
    "QueryInfo",
    "Read",
    "RemoteProtocolError",
    "ReparsePoint",
    "ReparseTag",
    "SessionDeleted",
    "SessionExpired",
    "SetInfo",
    "Share",
    "ShareAccess",
    "ShareState",
    "ShareType",
    "SharingViolation",
    "SmbError",
    "Statistics",
    "StoppedOnSymlink",
    "SymbolicLink",
    "Ticket",
    "TicketError",
    "TicketSource",
    "TransportError",
    "TreeGone",
    "Unc",
    "Unprotected",
    "VolumeSize",
    "Write",
    "connect",
    "error_from_status",
    "missing_for_kerberos",
    "parse_unc",
    "was_not_written",
]
