"""What went wrong on the way to the share, as one sentence with what to do next."""

from __future__ import annotations

import errno
import socket
from typing import Final

from engine import (
    AccessDenied,
    AuthError,
    Dialect,
    ForeignHost,
    KdcUnreachable,
    NoSmbServer,
    NotADirectory,
    NotFound,
    NotWelcome,
    PathNotCovered,
    RemoteProtocolError,
    ShareType,
    SmbError,
    TransportError,
    Unprotected,
)
from smbmount.failures import MountFailure
from smbmount.plan import Plan

_ENCRYPTS_FROM: Final = Dialect.SMB_3_0


def explain(error: SmbError, plan: Plan, tried: str = "mount") -> MountFailure:
    """The failure to mount, or what else was `tried`, for an error of the engine."""
    advice = _advice(error, plan)
    target = f", which leads to {error.target.replace(chr(92), '/')}" if _is_elsewhere(error) else ""
    return MountFailure(one_line(f"cannot {tried} {plan.source}{target}: {error}{advice and f'; {advice}'}"))


def _is_elsewhere(error: SmbError) -> bool:
    """Whether it is about another server than the one that was named, and does not say so itself."""
    return bool(error.target) and not isinstance(error, ForeignHost)


def explain_prefix(error: SmbError, plan: Plan) -> MountFailure:
    """The failure for an error about the folder of the share that was to be mounted."""
    folder = plan.prefix.replace("\\", "/")
    if isinstance(error, NotFound):
        why = f"the share has no folder {folder!r} ({error.name}): check its spelling"
    elif isinstance(error, NotADirectory):
        why = f"{folder!r} is not a folder ({error.name}): give a folder of the share"
    else:
        return explain(error, plan)
    return MountFailure(one_line(f"cannot mount {plan.source}: {why}"))


def explain_file(plan: Plan) -> MountFailure:
    """The failure for a name in the share that is no folder."""
    folder = plan.prefix.replace("\\", "/")
    return MountFailure(f"cannot mount {plan.source}: {folder!r} is a file: give a folder of the share")


def explain_type(kind: ShareType, plan: Plan) -> MountFailure:
    """The failure for a share that holds no files."""
    what = "a printer" if kind is ShareType.PRINT else "a share of named pipes"
    return MountFailure(f"cannot mount {plan.source}: it is {what}, not a share of files: name another share")


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())


def _advice(error: SmbError, plan: Plan) -> str:
    """What to do next; "" where the engine's own words say it already."""
    match error:
        case KdcUnreachable() | NotWelcome() | NoSmbServer():
            return ""
        case TransportError():
            if error.errno == errno.ECONNREFUSED or isinstance(error.__cause__, socket.gaierror):
                return ""
            return "check that the server runs, and that no firewall is in the way"
        case AccessDenied():
            advice = f"ask for the right to use the share, or log on as somebody else than {plan.login}"
            return advice + _if_it_demands_encryption(plan)
        case AuthError(name="STATUS_ACCESS_DENIED"):
            return f"ask whether {plan.login} may log on over the network" + _if_it_demands_encryption(plan)
        case PathNotCovered():
            return "leave out nodfs"
        case Unprotected():
            return "use vers=3 and an account, or leave out seal if this network can be trusted"
        case RemoteProtocolError(errno=errno.ELOOP):
            return "ask who keeps the distributed tree"
        case RemoteProtocolError():
            return "if this network can be trusted, run again with -d and report it"
        case _:
            return ""


def _if_it_demands_encryption(plan: Plan) -> str:
    """Servers that demand encryption deny access to who cannot encrypt, without saying why."""
    if plan.login.kind in ("guest", "anonymous"):
        return "; if the server demands encryption, use an account"
    if plan.options.vers.highest < _ENCRYPTS_FROM:
        return "; if the server demands encryption, use vers=3"
    return ""
