"""The numbers of [MS-SMB2]: commands, dialects, flags and enumerations, under the spec's names.

Messages keep such values as plain `int`, whose members these are: an unknown bit or number from the
network survives, decoding costs no enum look-up, and a hostile peer cannot fill the table in which
`IntFlag` remembers every combination that it has ever seen.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final


class Command(IntEnum):
    """[MS-SMB2] 2.2.1."""

    NEGOTIATE = 0x00
    SESSION_SETUP = 0x01
    LOGOFF = 0x02
    TREE_CONNECT = 0x03
    TREE_DISCONNECT = 0x04
    CREATE = 0x05
    CLOSE = 0x06
    FLUSH = 0x07
    READ = 0x08
    WRITE = 0x09
    LOCK = 0x0A
    IOCTL = 0x0B
    CANCEL = 0x0C
    ECHO = 0x0D
    QUERY_DIRECTORY = 0x0E
    CHANGE_NOTIFY = 0x0F
    QUERY_INFO = 0x10
    SET_INFO = 0x11
    OPLOCK_BREAK = 0x12


class Dialect(IntEnum):
    """[MS-SMB2] 2.2.3."""

    SMB_2_0_2 = 0x0202
    SMB_2_1 = 0x0210
    SMB_3_0 = 0x0300
    SMB_3_0_2 = 0x0302
    SMB_3_1_1 = 0x0311


DIALECT_WILDCARD: Final = 0x02FF
"""The answer to an SMB1 negotiate that offered "SMB 2.???": never valid after an SMB2 one."""


class HeaderFlags(IntFlag):
    """[MS-SMB2] 2.2.1.2."""

    SERVER_TO_REDIR = 0x00000001
    ASYNC_COMMAND = 0x00000002
    RELATED_OPERATIONS = 0x00000004
    SIGNED = 0x00000008
    PRIORITY_MASK = 0x00000070
    DFS_OPERATIONS = 0x10000000
    REPLAY_OPERATION = 0x20000000


class SecurityMode(IntFlag):
    """[MS-SMB2] 2.2.3."""

    SIGNING_ENABLED = 1
    SIGNING_REQUIRED = 2


class Capabilities(IntFlag):
    """[MS-SMB2] 2.2.3 and 2.2.4."""

    DFS = 0x01
    LEASING = 0x02
    LARGE_MTU = 0x04
    MULTI_CHANNEL = 0x08
    PERSISTENT_HANDLES = 0x10
    DIRECTORY_LEASING = 0x20
    ENCRYPTION = 0x40
    NOTIFICATIONS = 0x80


class NegotiateContextType(IntEnum):
    """[MS-SMB2] 2.2.3.1; POSIX_EXTENSIONS is from the SMB 3.1.1 POSIX extensions."""

    PREAUTH_INTEGRITY_CAPABILITIES = 0x0001
    ENCRYPTION_CAPABILITIES = 0x0002
    COMPRESSION_CAPABILITIES = 0x0003
    NETNAME_NEGOTIATE_CONTEXT_ID = 0x0005
    TRANSPORT_CAPABILITIES = 0x0006
    RDMA_TRANSFORM_CAPABILITIES = 0x0007
    SIGNING_CAPABILITIES = 0x0008
    POSIX_EXTENSIONS = 0x0100


class HashAlgorithm(IntEnum):
    """[MS-SMB2] 2.2.3.1.1."""

    SHA_512 = 1


class CompressionAlgorithm(IntEnum):
    """[MS-SMB2] 2.2.3.1.3."""

    NONE = 0
    LZNT1 = 1
    LZ77 = 2
    LZ77_HUFFMAN = 3
    PATTERN_V1 = 4
    LZ4 = 5


class SessionSetupFlags(IntFlag):
    """[MS-SMB2] 2.2.5."""

    BINDING = 1


class SessionFlags(IntFlag):
    """[MS-SMB2] 2.2.6."""

    IS_GUEST = 1
    IS_NULL = 2
    ENCRYPT_DATA = 4


class TreeConnectFlags(IntFlag):
    """[MS-SMB2] 2.2.9."""

    CLUSTER_RECONNECT = 1
    REDIRECT_TO_OWNER = 2
    EXTENSION_PRESENT = 4


class ShareType(IntEnum):
    """[MS-SMB2] 2.2.10."""

    DISK = 1
    PIPE = 2
    PRINT = 3


class ShareFlags(IntFlag):
    """[MS-SMB2] 2.2.10. The caching modes are two bits wide: NO_CACHING is both of them."""

    DFS = 0x00000001
    DFS_ROOT = 0x00000002
    AUTO_CACHING = 0x00000010
    VDO_CACHING = 0x00000020
    NO_CACHING = 0x00000030
    RESTRICT_EXCLUSIVE_OPENS = 0x00000100
    FORCE_SHARED_DELETE = 0x00000200
    ALLOW_NAMESPACE_CACHING = 0x00000400
    ACCESS_BASED_DIRECTORY_ENUM = 0x00000800
    FORCE_LEVELII_OPLOCK = 0x00001000
    ENABLE_HASH_V1 = 0x00002000
    ENABLE_HASH_V2 = 0x00004000
    ENCRYPT_DATA = 0x00008000
    IDENTITY_REMOTING = 0x00040000
    COMPRESS_DATA = 0x00100000
    ISOLATED_TRANSPORT = 0x00200000


class ShareCapabilities(IntFlag):
    """[MS-SMB2] 2.2.10."""

    DFS = 0x00000008
    CONTINUOUS_AVAILABILITY = 0x00000010
    SCALEOUT = 0x00000020
    CLUSTER = 0x00000040
    ASYMMETRIC = 0x00000080
    REDIRECT_TO_OWNER = 0x00000100


class OplockLevel(IntEnum):
    """[MS-SMB2] 2.2.13."""

    NONE = 0x00
    II = 0x01
    EXCLUSIVE = 0x08
    BATCH = 0x09
    LEASE = 0xFF


class ImpersonationLevel(IntEnum):
    """[MS-SMB2] 2.2.13."""

    ANONYMOUS = 0
    IDENTIFICATION = 1
    IMPERSONATION = 2
    DELEGATE = 3


class Access(IntFlag):
    """What a handle may do: the access mask of [MS-SMB2] 2.2.13.1, with the directories' names as aliases."""

    READ_DATA = 0x00000001
    LIST_DIRECTORY = 0x00000001
    WRITE_DATA = 0x00000002
    ADD_FILE = 0x00000002
    APPEND_DATA = 0x00000004
    ADD_SUBDIRECTORY = 0x00000004
    READ_EA = 0x00000008
    WRITE_EA = 0x00000010
    EXECUTE = 0x00000020
    TRAVERSE = 0x00000020
    DELETE_CHILD = 0x00000040
    READ_ATTRIBUTES = 0x00000080
    WRITE_ATTRIBUTES = 0x00000100
    DELETE = 0x00010000
    READ_CONTROL = 0x00020000
    WRITE_DAC = 0x00040000
    WRITE_OWNER = 0x00080000
    SYNCHRONIZE = 0x00100000
    ACCESS_SYSTEM_SECURITY = 0x01000000
    MAXIMUM_ALLOWED = 0x02000000
    GENERIC_ALL = 0x10000000
    GENERIC_EXECUTE = 0x20000000
    GENERIC_WRITE = 0x40000000
    GENERIC_READ = 0x80000000

    READ = READ_DATA | READ_ATTRIBUTES | READ_EA | READ_CONTROL | SYNCHRONIZE
    WRITE = WRITE_DATA | APPEND_DATA | WRITE_ATTRIBUTES | WRITE_EA | READ_ATTRIBUTES | SYNCHRONIZE


class ShareAccess(IntFlag):
    """[MS-SMB2] 2.2.13."""

    READ = 1
    WRITE = 2
    DELETE = 4


SHARE_ALL: Final = ShareAccess.READ | ShareAccess.WRITE | ShareAccess.DELETE
"""What POSIX programs expect: an open file hinders nobody."""


class Disposition(IntEnum):
    """What CREATE does if the file exists, and if not ([MS-SMB2] 2.2.13)."""

    SUPERSEDE = 0
    OPEN = 1
    CREATE = 2
    OPEN_IF = 3
    OVERWRITE = 4
    OVERWRITE_IF = 5


class CreateOptions(IntFlag):
    """[MS-SMB2] 2.2.13."""

    DIRECTORY_FILE = 0x00000001
    WRITE_THROUGH = 0x00000002
    SEQUENTIAL_ONLY = 0x00000004
    NO_INTERMEDIATE_BUFFERING = 0x00000008
    SYNCHRONOUS_IO_ALERT = 0x00000010
    SYNCHRONOUS_IO_NONALERT = 0x00000020
    NON_DIRECTORY_FILE = 0x00000040
    COMPLETE_IF_OPLOCKED = 0x00000100
    NO_EA_KNOWLEDGE = 0x00000200
    RANDOM_ACCESS = 0x00000800
    DELETE_ON_CLOSE = 0x00001000
    OPEN_BY_FILE_ID = 0x00002000
    OPEN_FOR_BACKUP_INTENT = 0x00004000
    NO_COMPRESSION = 0x00008000
    OPEN_REMOTE_INSTANCE = 0x00000400
    OPEN_REQUIRING_OPLOCK = 0x00010000
    DISALLOW_EXCLUSIVE = 0x00020000
    RESERVE_OPFILTER = 0x00100000
    OPEN_REPARSE_POINT = 0x00200000
    OPEN_NO_RECALL = 0x00400000
    OPEN_FOR_FREE_SPACE_QUERY = 0x00800000


class CreateAction(IntEnum):
    """[MS-SMB2] 2.2.14."""

    SUPERSEDED = 0
    OPENED = 1
    CREATED = 2
    OVERWRITTEN = 3


class CreateResponseFlags(IntFlag):
    """[MS-SMB2] 2.2.14."""

    REPARSEPOINT = 1


class FileAttributes(IntFlag):
    """[MS-FSCC] 2.6."""

    READONLY = 0x00000001
    HIDDEN = 0x00000002
    SYSTEM = 0x00000004
    DIRECTORY = 0x00000010
    ARCHIVE = 0x00000020
    NORMAL = 0x00000080
    TEMPORARY = 0x00000100
    SPARSE_FILE = 0x00000200
    REPARSE_POINT = 0x00000400
    COMPRESSED = 0x00000800
    OFFLINE = 0x00001000
    NOT_CONTENT_INDEXED = 0x00002000
    ENCRYPTED = 0x00004000
    INTEGRITY_STREAM = 0x00008000
    NO_SCRUB_DATA = 0x00020000
    RECALL_ON_OPEN = 0x00040000
    PINNED = 0x00080000
    UNPINNED = 0x00100000
    RECALL_ON_DATA_ACCESS = 0x00400000


class LeaseState(IntFlag):
    """[MS-SMB2] 2.2.13.2.8."""

    READ_CACHING = 1
    HANDLE_CACHING = 2
    WRITE_CACHING = 4


class LeaseFlags(IntFlag):
    """[MS-SMB2] 2.2.13.2.10 and 2.2.14.2.10."""

    BREAK_IN_PROGRESS = 2
    PARENT_LEASE_KEY_SET = 4


class LeaseBreakFlags(IntFlag):
    """[MS-SMB2] 2.2.23.2."""

    ACK_REQUIRED = 1


class DurableHandleFlags(IntFlag):
    """[MS-SMB2] 2.2.13.2.11."""

    PERSISTENT = 2


class CloseFlags(IntFlag):
    """[MS-SMB2] 2.2.15."""

    POSTQUERY_ATTRIB = 1


class ReadFlags(IntFlag):
    """[MS-SMB2] 2.2.19."""

    READ_UNBUFFERED = 1
    REQUEST_COMPRESSED = 2


class WriteFlags(IntFlag):
    """[MS-SMB2] 2.2.21."""

    WRITE_THROUGH = 1
    WRITE_UNBUFFERED = 2


class LockFlags(IntFlag):
    """[MS-SMB2] 2.2.26.1."""

    SHARED_LOCK = 0x01
    EXCLUSIVE_LOCK = 0x02
    UNLOCK = 0x04
    FAIL_IMMEDIATELY = 0x10


class IoctlFlags(IntFlag):
    """[MS-SMB2] 2.2.31."""

    IS_FSCTL = 1


class QueryDirectoryFlags(IntFlag):
    """[MS-SMB2] 2.2.33."""

    RESTART_SCANS = 0x01
    RETURN_SINGLE_ENTRY = 0x02
    INDEX_SPECIFIED = 0x04
    REOPEN = 0x10


class ChangeNotifyFlags(IntFlag):
    """[MS-SMB2] 2.2.35."""

    WATCH_TREE = 1


class CompletionFilter(IntFlag):
    """Which changes to hear of ([MS-SMB2] 2.2.35)."""

    FILE_NAME = 0x001
    DIR_NAME = 0x002
    ATTRIBUTES = 0x004
    SIZE = 0x008
    LAST_WRITE = 0x010
    LAST_ACCESS = 0x020
    CREATION = 0x040
    EA = 0x080
    SECURITY = 0x100
    STREAM_NAME = 0x200
    STREAM_SIZE = 0x400
    STREAM_WRITE = 0x800


class NotifyAction(IntEnum):
    """[MS-FSCC] 2.7.1."""

    ADDED = 0x01
    REMOVED = 0x02
    MODIFIED = 0x03
    RENAMED_OLD_NAME = 0x04
    RENAMED_NEW_NAME = 0x05
    ADDED_STREAM = 0x06
    REMOVED_STREAM = 0x07
    MODIFIED_STREAM = 0x08
    REMOVED_BY_DELETE = 0x09
    ID_NOT_TUNNELLED = 0x0A
    TUNNELLED_ID_COLLISION = 0x0B


class InfoType(IntEnum):
    """[MS-SMB2] 2.2.37."""

    FILE = 1
    FILESYSTEM = 2
    SECURITY = 3
    QUOTA = 4


class SecurityInformation(IntFlag):
    """Which parts of a security descriptor ([MS-SMB2] 2.2.37, AdditionalInformation)."""

    OWNER = 0x00000001
    GROUP = 0x00000002
    DACL = 0x00000004
    SACL = 0x00000008
    LABEL = 0x00000010
    ATTRIBUTE = 0x00000020
    SCOPE = 0x00000040
    BACKUP = 0x00010000


class EaQueryFlags(IntFlag):
    """Flags of a QUERY_INFO for FileFullEaInformation ([MS-SMB2] 2.2.37)."""

    RESTART_SCAN = 1
    RETURN_SINGLE_ENTRY = 2
    INDEX_SPECIFIED = 4


class ErrorId(IntEnum):
    """[MS-SMB2] 2.2.2.1."""

    DEFAULT = 0x00000000
    SHARE_REDIRECT = 0x72645253


class SymlinkFlags(IntFlag):
    """[MS-SMB2] 2.2.2.2.1."""

    RELATIVE = 1
