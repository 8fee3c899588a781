"""An SMB2/3 client for trio.

    async with engine.connect("//server/share", engine.Credentials("me", "secret")) as share:
        async with await share.open("notes.txt") as file:
            print(bytes(await file.read_at(0, 100)))

Everything that other packages may use is exported here.
"""

from engine.client.config import AuthKind, ConnectConfig, Credentials, Unc, parse_unc
from engine.client.connect import connect
from engine.client.file import File
from engine.client.folder import Folder
from engine.client.leases import Lease
from engine.client.share import ConnectionDescription, Share
from engine.client.stat import DirectoryEntry, FileStat, VolumeSize
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
    InvalidParameter,
    IsADirectory,
    LocalProtocolError,
    LockNotGranted,
    LogonFailure,
    NameInvalid,
    NoMoreFiles,
    NoSpace,
    NotADirectory,
    NotFound,
    NotSupported,
    NtStatusError,
    PathNotCovered,
    RemoteProtocolError,
    SessionDeleted,
    SessionExpired,
    SharingViolation,
    SmbError,
    StoppedOnSymlink,
    TransportError,
    TreeGone,
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
)
from engine.wire.primitives import Buffer

__all__ = [
    "SHARE_ALL",
    "Access",
    "AccessDenied",
    "AlreadyExists",
    "AuthError",
    "AuthKind",
    "Buffer",
    "BufferOverflow",
    "CannotDelete",
    "ConnectConfig",
    "ConnectionDescription",
    "CreateOptions",
    "Credentials",
    "DeletePending",
    "Dialect",
    "DirectoryEntry",
    "DirectoryNotEmpty",
    "Disposition",
    "EndOfFile",
    "File",
    "FileAttributes",
    "FileClosed",
    "FileStat",
    "Folder",
    "InvalidParameter",
    "IsADirectory",
    "Lease",
    "LeaseState",
    "LocalProtocolError",
    "LockNotGranted",
    "LogonFailure",
    "NameInvalid",
    "NoMoreFiles",
    "NoSpace",
    "NotADirectory",
    "NotFound",
    "NotSupported",
    "NtStatusError",
    "PathNotCovered",
    "RemoteProtocolError",
    "SessionDeleted",
    "SessionExpired",
    "Share",
    "ShareAccess",
    "SharingViolation",
    "SmbError",
    "Statistics",
    "StoppedOnSymlink",
    "TransportError",
    "TreeGone",
    "Unc",
    "VolumeSize",
    "connect",
    "error_from_status",
    "parse_unc",
]
