"""The NTSTATUS codes we know: name, errno, exception leaf and plain words, in one table.

Codes and names are those of [MS-ERREF] 2.3.1. Each line of the table is both a constant
(`ntstatus.STATUS_PENDING`, an int) and the row that `lookup` returns.

The errno is what a POSIX program can act on, not the nearest word: a lost handle is ESTALE because the
program's own descriptor is still good, and a lost session is EIO because EAGAIN would make it spin.
"""

from errno import (
    E2BIG,
    EACCES,
    EAGAIN,
    EBUSY,
    ECANCELED,
    ECONNABORTED,
    ECONNREFUSED,
    ECONNRESET,
    EDEADLK,
    EDQUOT,
    EEXIST,
    EFBIG,
    EHOSTDOWN,
    EHOSTUNREACH,
    EILSEQ,
    EINVAL,
    EIO,
    EISDIR,
    EKEYEXPIRED,
    EKEYREVOKED,
    ELOOP,
    EMLINK,
    ENAMETOOLONG,
    ENETUNREACH,
    ENFILE,
    ENODATA,
    ENODEV,
    ENOENT,
    ENOMEDIUM,
    ENOSPC,
    ENOTDIR,
    ENOTEMPTY,
    ENXIO,
    EOPNOTSUPP,
    EPERM,
    EPIPE,
    EPROTONOSUPPORT,
    ERANGE,
    EREMOTE,
    EREMOTEIO,
    EROFS,
    ESTALE,
    ETIMEDOUT,
    EUSERS,
    EXDEV,
)
from typing import NamedTuple


class StatusInfo(NamedTuple):
    """One status: `errno` is 0 for success codes only; `leaf_name` is a class of `engine.errors`, or ""."""

    code: int
    name: str
    errno: int
    leaf_name: str
    meaning: str


_ROWS: dict[int, tuple[int, str, str]] = {}


def _row(code: int, errno: int, leaf_name: str, meaning: str) -> int:
    if code in _ROWS:
        raise ValueError(f"status 0x{code:08X} is in the table twice")
    _ROWS[code] = errno, leaf_name, meaning
    return code


# Success severity: replies, not errors.
STATUS_SUCCESS = _row(0x00000000, 0, "", "done")
STATUS_PENDING = _row(0x00000103, 0, "", "the server is still working on it")
STATUS_OPLOCK_BREAK_IN_PROGRESS = _row(0x00000108, 0, "", "the server is recalling another client's cache")
STATUS_NOTIFY_CLEANUP = _row(0x0000010B, 0, "", "the watched folder was closed")
STATUS_NOTIFY_ENUM_DIR = _row(0x0000010C, 0, "", "more has changed than the server could list")

# Warnings: the reply may carry data all the same.
STATUS_OBJECT_NAME_EXISTS = _row(0x40000000, EEXIST, "AlreadyExists", "that name is already taken")
STATUS_BUFFER_OVERFLOW = _row(
    0x80000005, ERANGE, "BufferOverflow", "the answer is longer than the room for it"
)
STATUS_NO_MORE_FILES = _row(0x80000006, ENOENT, "NoMoreFiles", "there are no more entries in the folder")
STATUS_PARTIAL_COPY = _row(0x8000000D, EIO, "", "only a part was copied")
STATUS_DEVICE_BUSY = _row(0x80000011, EBUSY, "", "the server's device is busy")
STATUS_NO_MORE_EAS = _row(0x80000012, ENODATA, "", "there are no more extended attributes")
STATUS_INVALID_EA_NAME = _row(0x80000013, EINVAL, "", "the server does not accept that attribute name")
STATUS_EA_LIST_INCONSISTENT = _row(0x80000014, EINVAL, "", "the list of extended attributes is malformed")
STATUS_NO_MORE_ENTRIES = _row(0x8000001A, ENOENT, "", "there are no more entries")
STATUS_STOPPED_ON_SYMLINK = _row(
    0x8000002D, ELOOP, "StoppedOnSymlink", "the path leads through a symbolic link"
)

# Names, paths and what they lead to.
STATUS_NO_SUCH_FILE = _row(0xC000000F, ENOENT, "NotFound", "there is no such file")
STATUS_OBJECT_NAME_INVALID = _row(0xC0000033, EINVAL, "NameInvalid", "the server does not accept that name")
STATUS_OBJECT_NAME_NOT_FOUND = _row(0xC0000034, ENOENT, "NotFound", "there is no such file or folder")
STATUS_OBJECT_NAME_COLLISION = _row(0xC0000035, EEXIST, "AlreadyExists", "that name is already taken")
STATUS_OBJECT_PATH_INVALID = _row(0xC0000039, ENOTDIR, "NotADirectory", "a part of the path is not a folder")
STATUS_OBJECT_PATH_NOT_FOUND = _row(0xC000003A, ENOENT, "NotFound", "a folder on the path does not exist")
STATUS_OBJECT_PATH_SYNTAX_BAD = _row(
    0xC000003B, EINVAL, "NameInvalid", "the server does not accept that path"
)
STATUS_ILLEGAL_CHARACTER = _row(
    0xC0000161, EILSEQ, "NameInvalid", "the name has a character that the server cannot store"
)
STATUS_UNMAPPABLE_CHARACTER = _row(
    0xC0000162, EILSEQ, "NameInvalid", "the name has a character that the server cannot translate"
)
STATUS_UNDEFINED_CHARACTER = _row(
    0xC0000163, EILSEQ, "NameInvalid", "the name has a character that Unicode does not define"
)
STATUS_NAME_TOO_LONG = _row(0xC0000106, ENAMETOOLONG, "", "the name is too long for the server")
STATUS_FILE_IS_A_DIRECTORY = _row(0xC00000BA, EISDIR, "IsADirectory", "that is a folder, not a file")
STATUS_NOT_A_DIRECTORY = _row(0xC0000103, ENOTDIR, "NotADirectory", "that is not a folder")
STATUS_DIRECTORY_NOT_EMPTY = _row(0xC0000101, ENOTEMPTY, "DirectoryNotEmpty", "the folder is not empty")
STATUS_DIRECTORY_IS_A_REPARSE_POINT = _row(0xC0000281, EINVAL, "", "the folder is a link to somewhere else")
STATUS_NOT_A_REPARSE_POINT = _row(0xC0000275, EINVAL, "", "that is not a symbolic link")
STATUS_REPARSE_POINT_NOT_RESOLVED = _row(
    0xC0000280, ELOOP, "", "the server could not follow a link on the path"
)
STATUS_IO_REPARSE_TAG_INVALID = _row(0xC0000276, EINVAL, "", "the server does not know that kind of link")
STATUS_IO_REPARSE_TAG_MISMATCH = _row(0xC0000277, EINVAL, "", "the file already is a link of another kind")
STATUS_IO_REPARSE_DATA_INVALID = _row(0xC0000278, EINVAL, "", "the server does not accept that link")
STATUS_IO_REPARSE_TAG_NOT_HANDLED = _row(
    0xC0000279, EOPNOTSUPP, "NotSupported", "the server cannot open that kind of link"
)
STATUS_TOO_MANY_LINKS = _row(0xC0000265, EMLINK, "", "the file has as many hard links as it may")
STATUS_NOT_SAME_DEVICE = _row(0xC00000D4, EXDEV, "", "source and target are on different volumes")
STATUS_NOT_FOUND = _row(0xC0000225, ENOENT, "NotFound", "the server did not find it")
STATUS_FILE_INVALID = _row(
    0xC0000098, EIO, "", "the file changed on the server so that the open one is no longer valid"
)
STATUS_FILE_RENAMED = _row(
    0xC00000D5, ESTALE, "", "the file was renamed on the server and can no longer be used"
)
STATUS_FILE_NOT_AVAILABLE = _row(0xC0000467, EBUSY, "", "the file is not available at the moment")
STATUS_PATH_NOT_COVERED = _row(
    0xC0000257, EREMOTE, "PathNotCovered", "the folder lives on another server (DFS)"
)
STATUS_DFS_UNAVAILABLE = _row(0xC000026D, EHOSTUNREACH, "", "the DFS service of the server does not answer")

# Extended attributes.
STATUS_EAS_NOT_SUPPORTED = _row(
    0xC000004F, EOPNOTSUPP, "NotSupported", "the share has no extended attributes"
)
STATUS_EA_TOO_LARGE = _row(0xC0000050, E2BIG, "", "the extended attribute is too large for the server")
STATUS_NONEXISTENT_EA_ENTRY = _row(0xC0000051, ENODATA, "", "there is no such extended attribute")
STATUS_NO_EAS_ON_FILE = _row(0xC0000052, ENODATA, "", "the file has no extended attributes")
STATUS_EA_CORRUPT_ERROR = _row(0xC0000053, EIO, "", "the extended attributes are damaged on the server")

# Rights, sharing and locks.
STATUS_ACCESS_DENIED = _row(0xC0000022, EACCES, "AccessDenied", "the server denies access")
STATUS_PRIVILEGE_NOT_HELD = _row(
    0xC0000061, EPERM, "AccessDenied", "the account lacks the privilege for this"
)
STATUS_INVALID_OWNER = _row(
    0xC000005A, EPERM, "AccessDenied", "the account may not give the file to that owner"
)
STATUS_NETWORK_ACCESS_DENIED = _row(
    0xC00000CA, EACCES, "AccessDenied", "the server denies access from the network"
)
STATUS_NETWORK_OPEN_RESTRICTION = _row(
    0xC0000201, EACCES, "AccessDenied", "the server does not let this file be opened remotely"
)
STATUS_MEDIA_WRITE_PROTECTED = _row(0xC00000A2, EROFS, "", "the share is read-only")
STATUS_SHARING_VIOLATION = _row(0xC0000043, EBUSY, "SharingViolation", "another program has the file open")
STATUS_FILES_OPEN = _row(0xC0000107, EBUSY, "", "files inside are still open")
STATUS_DELETE_PENDING = _row(
    0xC0000056, ENOENT, "DeletePending", "the file is deleted but still open somewhere"
)
STATUS_CANNOT_DELETE = _row(
    0xC0000121, EACCES, "CannotDelete", "the file is read-only or in use and cannot be deleted"
)
STATUS_USER_MAPPED_FILE = _row(0xC0000243, EBUSY, "", "another program has the file mapped into memory")
STATUS_CANNOT_MAKE = _row(0xC00002EA, EIO, "", "the server cannot make that file")
STATUS_VIRUS_INFECTED = _row(0xC0000906, EPERM, "", "the server's virus scanner found something in the file")
STATUS_VIRUS_DELETED = _row(0xC0000907, EPERM, "", "the server's virus scanner deleted the file")
STATUS_FILE_LOCK_CONFLICT = _row(
    0xC0000054, EACCES, "LockNotGranted", "another program has locked that part of the file"
)
STATUS_LOCK_NOT_GRANTED = _row(
    0xC0000055, EAGAIN, "LockNotGranted", "another program holds a lock in the way"
)
STATUS_RANGE_NOT_LOCKED = _row(0xC000007E, EINVAL, "", "that part of the file is not locked")
STATUS_INVALID_LOCK_RANGE = _row(0xC00001A1, EINVAL, "", "the server cannot lock that part of the file")
STATUS_INVALID_LOCK_SEQUENCE = _row(0xC000001E, EIO, "", "the server lost count of the locks")
STATUS_POSSIBLE_DEADLOCK = _row(0xC0000194, EDEADLK, "", "waiting for this lock would never end")
STATUS_OPLOCK_NOT_GRANTED = _row(0xC00000E2, EBUSY, "", "the server does not let this client cache the file")
STATUS_INVALID_OPLOCK_PROTOCOL = _row(0xC00000E3, EIO, "", "the answer to a cache recall came out of turn")
STATUS_CANNOT_BREAK_OPLOCK = _row(0xC0000909, EBUSY, "", "another client's cache could not be recalled")
STATUS_INVALID_ACL = _row(0xC0000077, EINVAL, "", "the server does not accept that access list")
STATUS_INVALID_SID = _row(0xC0000078, EINVAL, "", "the server does not accept that account number")
STATUS_NONE_MAPPED = _row(0xC0000073, EINVAL, "", "the server knows none of these accounts")
STATUS_INVALID_SECURITY_DESCR = _row(0xC0000079, EINVAL, "", "the server does not accept these permissions")
STATUS_BAD_IMPERSONATION_LEVEL = _row(0xC00000A5, EACCES, "", "the server does not act in the account's name")

# Space and resources.
STATUS_DISK_FULL = _row(0xC000007F, ENOSPC, "NoSpace", "the disk is full")
STATUS_DISK_QUOTA_EXCEEDED = _row(0xC0000802, EDQUOT, "NoSpace", "the account's share of the disk is used up")
STATUS_QUOTA_EXCEEDED = _row(0xC0000044, EDQUOT, "NoSpace", "a quota on the server is used up")
STATUS_FILE_TOO_LARGE = _row(0xC0000904, EFBIG, "", "the file is too large for the server")
STATUS_INSUFFICIENT_RESOURCES = _row(0xC000009A, EREMOTEIO, "", "the server has not enough resources left")
STATUS_INSUFF_SERVER_RESOURCES = _row(
    0xC0000205, EREMOTEIO, "", "the server has not enough resources left for this client"
)
STATUS_NO_MEMORY = _row(0xC0000017, EREMOTEIO, "", "the server is out of memory")
STATUS_TOO_MANY_OPENED_FILES = _row(0xC000011F, ENFILE, "", "too many files are open on the server")
STATUS_TOO_MANY_SESSIONS = _row(0xC00000CE, EUSERS, "", "too many clients are connected to the server")
STATUS_TOO_MANY_CONTEXT_IDS = _row(0xC000015A, EUSERS, "", "the server cannot take another log-on")
STATUS_REQUEST_NOT_ACCEPTED = _row(0xC00000D0, EUSERS, "", "the share has as many users as it may")
STATUS_CONNECTION_COUNT_LIMIT = _row(0xC0000246, EUSERS, "", "the server has as many connections as it may")
STATUS_INSTANCE_NOT_AVAILABLE = _row(0xC00000AB, EAGAIN, "", "all instances of the pipe are busy")

# The data.
STATUS_END_OF_FILE = _row(0xC0000011, ENODATA, "EndOfFile", "that is behind the end of the file")
STATUS_DATA_ERROR = _row(0xC000003E, EIO, "", "the server's disk has a read error")
STATUS_CRC_ERROR = _row(0xC000003F, EIO, "", "the server's disk has a checksum error")
STATUS_DEVICE_DATA_ERROR = _row(0xC000009C, EIO, "", "the server's disk has a data error")
STATUS_IO_DEVICE_ERROR = _row(0xC0000185, EIO, "", "the server's disk has an input or output error")
STATUS_DISK_CORRUPT_ERROR = _row(0xC0000032, EIO, "", "the server's file system is damaged")
STATUS_FILE_CORRUPT_ERROR = _row(0xC0000102, EIO, "", "the file or folder is damaged on the server")
STATUS_DISK_OPERATION_FAILED = _row(0xC000016A, EIO, "", "the server's disk failed")
STATUS_FILE_DELETED = _row(0xC0000123, ESTALE, "", "the file was deleted on the server")
STATUS_FILE_CLOSED = _row(0xC0000128, ESTALE, "FileClosed", "the server has closed this file")
STATUS_INVALID_HANDLE = _row(0xC0000008, ESTALE, "FileClosed", "the server does not know this open file")
STATUS_FILE_FORCED_CLOSED = _row(0xC00000B6, ESTALE, "FileClosed", "the server was told to close this file")
STATUS_OBJECT_TYPE_MISMATCH = _row(
    0xC0000024, EINVAL, "", "that is not the kind of object the request is for"
)
STATUS_DUPLICATE_OBJECTID = _row(0xC000022A, EEXIST, "AlreadyExists", "that object id is already taken")
STATUS_OBJECTID_NOT_FOUND = _row(0xC00002F0, ENOENT, "NotFound", "the server does not know that object id")

# Requests.
STATUS_UNSUCCESSFUL = _row(0xC0000001, EIO, "", "the server failed without saying why")
STATUS_NOT_IMPLEMENTED = _row(
    0xC0000002, EOPNOTSUPP, "NotSupported", "the server does not have that function"
)
STATUS_INVALID_INFO_CLASS = _row(
    0xC0000003, EOPNOTSUPP, "NotSupported", "the server does not give that kind of information"
)
STATUS_INFO_LENGTH_MISMATCH = _row(0xC0000004, EINVAL, "", "the server found the request's length wrong")
STATUS_INVALID_PARAMETER = _row(
    0xC000000D, EINVAL, "InvalidParameter", "the server does not accept a value in the request"
)
STATUS_INVALID_DEVICE_REQUEST = _row(
    0xC0000010, EOPNOTSUPP, "NotSupported", "the server or its file system cannot do that"
)
STATUS_ILLEGAL_FUNCTION = _row(0xC00000AF, EOPNOTSUPP, "NotSupported", "the server cannot do that here")
STATUS_NOT_SUPPORTED = _row(0xC00000BB, EOPNOTSUPP, "NotSupported", "the server does not support that")
STATUS_INVALID_LEVEL = _row(
    0xC0000148, EOPNOTSUPP, "NotSupported", "the server does not give that level of information"
)
STATUS_INVALID_VIEW_SIZE = _row(
    0xC000001F, EINVAL, "InvalidParameter", "the server does not accept that size"
)
STATUS_BUFFER_TOO_SMALL = _row(0xC0000023, EINVAL, "", "the answer does not fit into the room for it")
STATUS_INVALID_BUFFER_SIZE = _row(0xC0000206, EINVAL, "", "the server does not accept the request's size")
STATUS_INVALID_USER_BUFFER = _row(0xC00000E8, EINVAL, "", "the server does not accept the request's data")
STATUS_FS_DRIVER_REQUIRED = _row(
    0xC000019C, EOPNOTSUPP, "NotSupported", "the server lacks the driver for that file system"
)
STATUS_HASH_NOT_SUPPORTED = _row(
    0xC000A100, EOPNOTSUPP, "NotSupported", "the server offers no content hashes"
)
STATUS_HASH_NOT_PRESENT = _row(0xC000A101, ENODATA, "", "the server has no content hash of the file")
STATUS_CANCELLED = _row(0xC0000120, ECANCELED, "", "the request was called off")
STATUS_REQUEST_ABORTED = _row(0xC0000240, EIO, "", "the server gave the request up")
STATUS_IO_TIMEOUT = _row(0xC00000B5, ETIMEDOUT, "", "the server gave up waiting")
STATUS_RETRY = _row(0xC000022D, EBUSY, "", "the server asks to try again")
STATUS_INTERNAL_ERROR = _row(0xC00000E5, EIO, "", "the server ran into a mistake of its own")
STATUS_INVALID_NETWORK_RESPONSE = _row(
    0xC00000C3, EIO, "", "the server received an answer that it does not understand"
)
STATUS_UNEXPECTED_NETWORK_ERROR = _row(0xC00000C4, EIO, "", "the server ran into a network error")
STATUS_UNEXPECTED_IO_ERROR = _row(
    0xC00000E9, EIO, "", "the server ran into an unexpected input or output error"
)

# Servers, shares and connections.
STATUS_BAD_NETWORK_NAME = _row(
    0xC00000CC, ENOENT, "", "the server has no share of that name; check the spelling, or list its shares"
)
STATUS_BAD_NETWORK_PATH = _row(0xC00000BE, EHOSTUNREACH, "", "the network path was not found")
STATUS_BAD_DEVICE_TYPE = _row(
    0xC00000CB, ENODEV, "", "the share is not a disk; printers and pipes cannot be mounted"
)
STATUS_BAD_REMOTE_ADAPTER = _row(0xC00000C5, EIO, "", "the server is not able to do that on its network")
STATUS_NETWORK_NAME_DELETED = _row(0xC00000C9, EIO, "TreeGone", "the share was taken away on the server")
STATUS_SMB_BAD_CLUSTER_DIALECT = _row(
    0xC05D0001, EPROTONOSUPPORT, "", "the cluster needs another protocol version"
)
STATUS_SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP = _row(
    0xC05D0000, EPROTONOSUPPORT, "", "client and server share no hash for the negotiation"
)
STATUS_SHARE_UNAVAILABLE = _row(0xC0000480, EIO, "TreeGone", "the share is not available at the moment")
STATUS_NETWORK_BUSY = _row(0xC00000BF, EBUSY, "", "the network is busy")
STATUS_NETWORK_UNREACHABLE = _row(0xC000023C, ENETUNREACH, "", "the network cannot be reached")
STATUS_HOST_UNREACHABLE = _row(0xC000023D, EHOSTUNREACH, "", "the host cannot be reached")
STATUS_CONNECTION_REFUSED = _row(0xC0000236, ECONNREFUSED, "", "the server refused the connection")
STATUS_CONNECTION_DISCONNECTED = _row(0xC000020C, ECONNABORTED, "", "the connection was closed")
STATUS_CONNECTION_RESET = _row(0xC000020D, ECONNRESET, "", "the connection was reset")
STATUS_CONNECTION_ABORTED = _row(0xC0000241, ECONNABORTED, "", "the connection was aborted")
STATUS_CONNECTION_INVALID = _row(0xC000023A, EIO, "", "the server does not know this connection")
STATUS_INVALID_CONNECTION = _row(0xC0000140, EIO, "", "the server does not know this connection")
STATUS_REMOTE_NOT_LISTENING = _row(0xC00000BC, ECONNREFUSED, "", "the remote side is not listening")
STATUS_SERVER_UNAVAILABLE = _row(0xC0000466, EHOSTDOWN, "", "the server is not available at the moment")
STATUS_SERVER_DISABLED = _row(0xC0000080, EHOSTDOWN, "", "the server is switched off")
STATUS_REDIRECTOR_NOT_STARTED = _row(0xC00000FB, EIO, "", "the file service of the server is not running")
STATUS_VOLUME_DISMOUNTED = _row(0xC000026E, EIO, "", "the server has taken the disk away")
STATUS_NO_SUCH_DEVICE = _row(0xC000000E, ENXIO, "", "the server does not have that device")
STATUS_NO_MEDIA_IN_DEVICE = _row(0xC0000013, ENOMEDIUM, "", "there is no medium in the server's drive")
STATUS_DEVICE_NOT_READY = _row(0xC00000A3, ENXIO, "", "the server's drive is not ready")
STATUS_DEVICE_NOT_CONNECTED = _row(0xC000009D, ENXIO, "", "the server's drive is not connected")
STATUS_DEVICE_OFF_LINE = _row(0x80000010, ENXIO, "", "the server's drive is offline")
STATUS_PIPE_NOT_AVAILABLE = _row(0xC00000AC, EAGAIN, "", "the pipe has no free instance")
STATUS_PIPE_BUSY = _row(0xC00000AE, EBUSY, "", "the pipe is busy")
STATUS_PIPE_DISCONNECTED = _row(0xC00000B0, EPIPE, "", "the pipe is disconnected")
STATUS_PIPE_CLOSING = _row(0xC00000B1, EPIPE, "", "the pipe is being closed")
STATUS_PIPE_BROKEN = _row(0xC000014B, EPIPE, "", "the pipe is broken")
STATUS_PIPE_EMPTY = _row(0xC00000D9, EAGAIN, "", "the pipe holds no data")
STATUS_INVALID_PIPE_STATE = _row(0xC00000AD, EPIPE, "", "the pipe is in the wrong state")

# Sessions, log-on and cryptography: what the user should do next.
STATUS_MORE_PROCESSING_REQUIRED = _row(0xC0000016, EIO, "", "the log-on needs another step")
STATUS_USER_SESSION_DELETED = _row(0xC0000203, EIO, "SessionDeleted", "the server has ended the session")
STATUS_NETWORK_SESSION_EXPIRED = _row(
    0xC000035C, EIO, "SessionExpired", "the session has expired; logging on again is needed"
)
STATUS_LOGON_FAILURE = _row(
    0xC000006D, EACCES, "LogonFailure", "user name or password is wrong; check both, and the domain"
)
STATUS_WRONG_PASSWORD = _row(0xC000006A, EACCES, "LogonFailure", "the password is wrong")
STATUS_NO_SUCH_USER = _row(
    0xC0000064, EACCES, "LogonFailure", "the server does not know that user; check spelling and domain"
)
STATUS_INVALID_ACCOUNT_NAME = _row(
    0xC0000062, EACCES, "LogonFailure", "the server does not accept that user name"
)
STATUS_NO_SUCH_DOMAIN = _row(0xC00000DF, EACCES, "LogonFailure", "the server does not know that domain")
STATUS_INVALID_LOGON_HOURS = _row(
    0xC000006F, EACCES, "LogonFailure", "the account may not log on at this hour"
)
STATUS_INVALID_WORKSTATION = _row(
    0xC0000070, EACCES, "LogonFailure", "the account may not log on from this computer"
)
STATUS_ACCOUNT_RESTRICTION = _row(
    0xC000006E, EACCES, "LogonFailure", "a rule forbids this log-on (an empty password?)"
)
STATUS_LOGON_TYPE_NOT_GRANTED = _row(
    0xC000015B, EACCES, "LogonFailure", "the account may not log on over the network"
)
STATUS_PASSWORD_EXPIRED = _row(
    0xC0000071, EKEYEXPIRED, "LogonFailure", "the password has expired; set a new one and try again"
)
STATUS_PASSWORD_MUST_CHANGE = _row(
    0xC0000224, EKEYEXPIRED, "LogonFailure", "the password must be changed first; do so and try again"
)
STATUS_ACCOUNT_DISABLED = _row(
    0xC0000072, EKEYREVOKED, "LogonFailure", "the account is disabled; ask the server's administrator"
)
STATUS_ACCOUNT_EXPIRED = _row(
    0xC0000193, EKEYEXPIRED, "LogonFailure", "the account has expired; ask the server's administrator"
)
STATUS_ACCOUNT_LOCKED_OUT = _row(
    0xC0000234, EACCES, "LogonFailure", "the account is locked after wrong passwords; wait, or ask its admin"
)
STATUS_SMARTCARD_LOGON_REQUIRED = _row(
    0xC00002FA, EACCES, "LogonFailure", "the account must log on with a smart card"
)
STATUS_AUTHENTICATION_FIREWALL_FAILED = _row(
    0xC0000413, EACCES, "LogonFailure", "the account's domain may not log on to this server"
)
STATUS_NTLM_BLOCKED = _row(
    0xC0000418, EACCES, "LogonFailure", "the server does not accept NTLM; use Kerberos (sec=krb5)"
)
STATUS_TRUSTED_DOMAIN_FAILURE = _row(
    0xC000018C, EACCES, "LogonFailure", "the server's domain does not trust the account's domain"
)
STATUS_TRUSTED_RELATIONSHIP_FAILURE = _row(
    0xC000018D, EACCES, "LogonFailure", "the server has lost the trust of its domain; ask the administrator"
)
STATUS_TRUST_FAILURE = _row(
    0xC0000190, EACCES, "LogonFailure", "the trust between the domains failed; ask the administrator"
)
STATUS_NO_TRUST_SAM_ACCOUNT = _row(
    0xC000018B, EACCES, "LogonFailure", "the server is no longer in its domain; ask the administrator"
)
STATUS_NO_TRUST_LSA_SECRET = _row(
    0xC000018A, EACCES, "LogonFailure", "the server has lost its place in the domain; ask the administrator"
)
STATUS_NOLOGON_WORKSTATION_TRUST_ACCOUNT = _row(
    0xC0000199, EACCES, "LogonFailure", "that is a computer's account; use a user's"
)
STATUS_NOLOGON_SERVER_TRUST_ACCOUNT = _row(
    0xC000019A, EACCES, "LogonFailure", "that is a server's account; use a user's"
)
STATUS_NOLOGON_INTERDOMAIN_TRUST_ACCOUNT = _row(
    0xC0000198, EACCES, "LogonFailure", "that is a domain's trust account; use a user's"
)
STATUS_NO_LOGON_SERVERS = _row(
    0xC000005E, EACCES, "LogonFailure", "no domain controller answers the server; try again later"
)
STATUS_NETLOGON_NOT_STARTED = _row(
    0xC0000192, EACCES, "LogonFailure", "the log-on service of the server is not running; try again later"
)
STATUS_TIME_DIFFERENCE_AT_DC = _row(
    0xC0000133, EACCES, "LogonFailure", "the clocks of client and server differ too much; set them right"
)
STATUS_NO_SUCH_LOGON_SESSION = _row(
    0xC000005F, EACCES, "LogonFailure", "the server does not know that log-on"
)
STATUS_CANT_ACCESS_DOMAIN_INFO = _row(
    0xC00000DA, EACCES, "LogonFailure", "the server cannot reach its domain; try again later"
)
STATUS_WRONG_CREDENTIAL_HANDLE = _row(
    0xC00002F2, EACCES, "LogonFailure", "the server lost the thread of the log-on; try again"
)
STATUS_INVALID_TOKEN = _row(0xC0000465, EIO, "", "the server does not accept the token")
STATUS_DOWNGRADE_DETECTED = _row(
    0xC0000388, EACCES, "", "somebody is weakening the log-on; the connection is not safe"
)
STATUS_DECRYPTION_FAILED = _row(0xC000028B, EIO, "", "the server could not decrypt the request")
STATUS_ENCRYPTION_FAILED = _row(0xC000028A, EIO, "", "the server could not encrypt its answer")
STATUS_INVALID_SIGNATURE = _row(0xC000A000, EIO, "", "the server found a wrong signature")


_TABLE = {
    code: StatusInfo(code, name, *_ROWS[code])
    for name, code in list(globals().items())
    if name.startswith("STATUS_") and isinstance(code, int)
}


def lookup(code: int) -> StatusInfo:
    """Return what is known of a status; an unknown one is named by its number and is EIO."""
    info = _TABLE.get(code)
    if info is None:
        name = f"STATUS_0x{code & 0xFFFFFFFF:08X}"
        return StatusInfo(code, name, EIO, "", "the server answered with a status unknown to us")
    return info
