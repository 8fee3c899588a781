"""What went wrong on the way to the share, as one sentence with what to do next."""

from __future__ import annotations

import errno
import socket

from engine import (
    AccessDenied,
    KdcUnreachable,
    NotADirectory,
    NotFound,
    PathNotCovered,
    RemoteProtocolError,
    ShareType,
    SmbError,
    TransportError,
)
from smbmount.failures import MountFailure
from smbmount.plan import Plan


def explain(error: SmbError, plan: Plan, tried: str = "mount") -> MountFailure:
    """The failure to mount, or what else was `tried`, for an error of the engine."""
    advice = _advice(error, plan)
    return MountFailure(one_line(f"cannot {tried} {plan.source}: {error}{advice and f'; {advice}'}"))


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
        case KdcUnreachable():
            return ""
        case TransportError():
            if error.errno == errno.ECONNREFUSED or isinstance(error.__cause__, socket.gaierror):
                return ""
            return "check that the server runs, and that no firewall is in the way"
        case AccessDenied():
            return f"ask for the right to use the share, or log on as somebody else than {plan.login}"
        case PathNotCovered():
            return "leave out nodfs"
        case RemoteProtocolError():
            return "if this network can be trusted, run again with -d and report it"
        case _:
            return ""
