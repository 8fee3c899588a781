"""Every exception that this project raises on purpose.

`LocalProtocolError` and `RemoteProtocolError` keep apart who broke the rules; `NtStatusError` is a server
that said no. Each has an `errno`, never 0, for the file system above.
"""

from errno import EACCES, EHOSTUNREACH, EIO, ESTALE

from engine import ntstatus


def printable(text: str) -> str:
    """`text` with control characters and lone surrogates as escapes: names are whatever someone made."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class SmbError(Exception):
    """Base of all ours; `errno` is what a POSIX program is told."""

    def __init__(self, message: str = "", *, errno: int = EIO) -> None:
        super().__init__(message)
        self.errno = errno or EIO
        self.was_sent = False
        """Whether a request that this ended may have reached the server."""
        self.stage = ""
        """The part of connecting that failed: "negotiate", "log-on", "share", or "DFS" for the way on."""
        self.target = ""
        r"""The `\\server\share` of a distributed tree that could not be used, where that led there."""


class LocalProtocolError(SmbError):
    """We were used wrongly: a mistake in this program, nothing was sent."""


class RemoteProtocolError(SmbError):
    """The peer broke the protocol, or somebody between us changed the bytes."""


class NoSmbServer(RemoteProtocolError):
    """What answers speaks something else than SMB."""


class Unprotected(RemoteProtocolError):
    """The server cannot encrypt as was demanded, or demands it where there is no key or cipher for it."""


class TransportError(SmbError):
    """The TCP connection could not be made, or was lost; `errno` says how."""


class HostUnknown(TransportError):
    """The name of a host leads to no address."""

    def __init__(self, message: str = "", *, errno: int = EHOSTUNREACH) -> None:
        super().__init__(message, errno=errno)


class NotWelcome(TransportError):
    """The server ends the connection at its very beginning."""


class KdcUnreachable(TransportError):
    """No Kerberos server of the domain answers, so nobody can prove who they are."""

    def __init__(self, message: str = "", *, errno: int = EHOSTUNREACH) -> None:
        super().__init__(message, errno=errno)


class OutcomeUnknown(TransportError):
    """The connection was lost while a request was under way that must not be made twice: look what it did."""


class HandleLost(SmbError):
    """An open file that could not be brought back after a lost connection; others are not concerned."""

    def __init__(self, message: str = "", *, errno: int = ESTALE) -> None:
        super().__init__(message, errno=errno)


class AuthError(SmbError):
    """The log-on failed; `status` is the server's NTSTATUS, or None if it never got that far."""

    def __init__(self, message: str = "", *, status: int | None = None, errno: int = EACCES) -> None:
        super().__init__(message, errno=errno)
        self.status = status

    @property
    def name(self) -> str:
        """The status' name in [MS-ERREF], "" if there is none."""
        return "" if self.status is None else ntstatus.lookup(self.status).name


class ForeignHost(AuthError):
    """A distributed tree leads to a host that the account was not given for; nothing was sent there."""


class TicketError(AuthError):
    """No Kerberos ticket for the server, and no password was tried: asking again soon locks nobody out."""


class UnfitServer(TicketError):
    """Tickets are of no use at this server, for a reason of its own: others may well take them."""


class UnknownService(UnfitServer):
    """The domain knows no service of the server's name: it may be an alias, or a whole domain's name."""


class NtStatusError(SmbError):
    """The server refused a request. Made by `error_from_status`, which chooses the leaf.

    `status` is the code, `name` its name in [MS-ERREF], `meaning` one phrase for the user.
    """

    def __init__(self, info: ntstatus.StatusInfo, what: str = "") -> None:
        prefix = f"{printable(what)}: " if what else ""
        super().__init__(f"{prefix}{info.meaning} ({info.name})", errno=info.errno)
        self.status = info.code
        self.name = info.name
        self.meaning = info.meaning
        self.index = 0
        """Which request of a compound failed."""
        self.replies: tuple[object, ...] = ()
        """All replies of that compound."""


class NotFound(NtStatusError):
    """The name, or a folder on the way to it, does not exist."""


class AccessDenied(NtStatusError):
    """The account lacks the right."""


class AlreadyExists(NtStatusError):
    """The name is taken."""


class SharingViolation(NtStatusError):
    """Another open of the file excludes this one."""


class DirectoryNotEmpty(NtStatusError):
    """The folder cannot be removed yet."""


class NotADirectory(NtStatusError):
    """A folder was asked for, or the path goes through something that is none."""


class IsADirectory(NtStatusError):
    """A file was asked for, and the name is a folder."""


class DeletePending(NtStatusError):
    """The file is deleted but still open somewhere; its name frees itself with the last close."""


class NameInvalid(NtStatusError):
    """The server does not accept the name or the path."""


class EndOfFile(NtStatusError):
    """The read starts at or behind the end of the file."""


class NoSpace(NtStatusError):
    """The disk or the quota is full."""


class NotSupported(NtStatusError):
    """The server does not know the request, or the share's file system cannot do it."""


class BufferOverflow(NtStatusError):
    """The answer was cut to the room given; what fitted is in the reply."""


class NoMoreFiles(NtStatusError):
    """The listing is finished."""


class CannotDelete(NtStatusError):
    """The file is read-only or mapped, and so cannot be deleted."""


class PathNotCovered(NtStatusError):
    """The path belongs to another server: ask for a DFS referral. `place` is the path's name as a share."""

    place = ""


class SessionExpired(NtStatusError):
    """Authenticate again on the same session ([MS-SMB2] 3.2.5.1.6)."""


class SessionDeleted(NtStatusError):
    """The server has forgotten the session; a new one is needed."""


class TreeGone(NtStatusError):
    """The tree connect is void; connect to the share again."""


class FileClosed(NtStatusError):
    """The server does not know this open file any more."""


class LogonFailure(NtStatusError):
    """The account cannot log on: wrong password, expired, disabled, locked."""


class LockNotGranted(NtStatusError):
    """Another's byte-range lock is in the way."""


class StoppedOnSymlink(NtStatusError):
    """The path leads through a symbolic link that the client has to resolve."""


class InvalidParameter(NtStatusError):
    """The server does not accept one of the request's values."""


def raised_again(error: SmbError, *, was_sent: bool = False) -> SmbError:
    """The same error for one more caller: what several tasks raise would gather all their tracebacks."""
    again = type(error).__new__(type(error), *error.args)
    again.__dict__.update(error.__dict__)
    again.__cause__ = error
    again.was_sent = was_sent
    return again


_LEAVES: dict[str, type[NtStatusError]] = {leaf.__name__: leaf for leaf in NtStatusError.__subclasses__()}


def error_from_status(status: int, what: str = "") -> NtStatusError:
    """Return (not raise) the exception for an NTSTATUS; `what` says what was tried, as "open a\\b.txt"."""
    info = ntstatus.lookup(status)
    return _LEAVES.get(info.leaf_name, NtStatusError)(info, what)
