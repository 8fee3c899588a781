"""What `smbmountctl doctor` does: it goes the way of a mount step by step, and says where it ends and why."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import trio

from engine import (
    Access,
    AuthError,
    DirectoryEntry,
    NtStatusError,
    SessionDeleted,
    SessionExpired,
    Share,
    ShareType,
    SmbError,
    TreeGone,
)
from smbmount import visits
from smbmount.dfs import dfs_lines_untrusted, dfs_status
from smbmount.explain import explain, explain_file, explain_prefix, explain_type
from smbmount.failures import MountFailure
from smbmount.plan import Plan, connect_config
from smbmount.service import describe

STEPS: Final = ("name", "TCP", "negotiate", "log-on", "share", "read", "DFS")

_TCP_SECONDS: Final = 5.0

_TRIED: Final = 16
"""Files of which one that can be read is looked for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one of `STEPS`, in one line that says what to do where it failed."""

    step: str
    is_well: bool
    words: str
    remark: str = ""
    """What is worth a word though the step is well."""
    status: str = ""
    """The name of the server's own code, where it refused."""

    def as_dict(self) -> dict[str, object]:
        """For JSON: the keys stay as they are."""
        return {
            "step": self.step,
            "ok": self.is_well,
            "said": self.words,
            "remark": self.remark or None,
            "status": self.status or None,
        }

    @property
    def line(self) -> str:
        """For a person."""
        remark = f"; but {self.remark}" if self.remark else ""
        return f"{self.step:<10} {'ok' if self.is_well else 'FAILED':<7} {self.words}{remark}"


Tell = Callable[[Finding], None]


class Ill(Exception):
    """A step failed; `str()` says why, and what to do."""


async def examine(decided: Plan, tell: Tell) -> bool:
    """Go to a share; `tell` gets each finding as soon as it is known. Whether all is well."""
    try:
        step = "name"
        addresses, words = await _resolve(decided)
        tell(Finding(step, True, words))
        step = "TCP"
        tell(Finding(step, True, await _reach(decided, addresses)))
    except Ill as ill:
        tell(Finding(step, False, str(ill)))
        return False
    return await _visit(decided, tell)


async def _resolve(decided: Plan) -> tuple[list[str], str]:
    host, address = decided.unc.server, decided.options.ip
    if address is not None:
        return [str(address)], f"{host} is not looked up, as ip= names an address"
    try:
        with trio.fail_after(decided.options.timeout):
            found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise Ill(f"no host {host} is known ({error.strerror}): check name and DNS, or give ip=") from None
    except UnicodeError:
        raise Ill(f"no host can have the name {host}: check its spelling, or give ip=") from None
    except trio.TooSlowError:
        raise Ill(f"nobody says which address {host} has: check DNS, or give ip=") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return addresses, f"{host} is {', '.join(addresses)}"


async def _reach(decided: Plan, addresses: list[str]) -> str:
    port, failures = connect_config(decided).port, []
    for address in addresses:
        began = trio.current_time()
        try:
            with trio.fail_after(min(_TCP_SECONDS, decided.options.timeout)):
                stream = await trio.open_tcp_stream(address, port)
        except trio.TooSlowError:
            failures.append(f"{address} is silent: check that it runs, and that no firewall is in the way")
        except OSError as error:
            failures.append(_refusal(address, port, error))
        else:
            await trio.aclose_forcefully(stream)
            return f"{address} answers on port {port} after {1000 * (trio.current_time() - began):.1f} ms"
    raise Ill("; ".join(failures))


def _refusal(address: str, port: int, error: OSError) -> str:
    cause: BaseException | None = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    number = (cause if isinstance(cause, OSError) else error).errno
    if number == errno.ECONNREFUSED:
        return f"nothing listens on port {port} of {address}: start the server, or give port="
    return f"{address} cannot be reached ({os.strerror(number) if number else error}): check the network"


async def _visit(decided: Plan, tell: Tell) -> bool:
    step = ""
    try:
        async with visits.connected(decided) as share:
            for step, words in _connected(share):
                tell(Finding(step, True, words))
            step = "read"
            words, remark = await _read(share, decided)
            tell(Finding(step, True, words, remark))
            step = "DFS"
            tell(Finding(step, True, "; ".join(dfs_lines_untrusted(dfs_status(share.dfs_steps())))))
    except SmbError as error:
        failed = step or error.stage or "DFS"
        if not step and error.stage:
            for before in STEPS[STEPS.index("negotiate") : STEPS.index(failed)]:
                tell(Finding(before, True, "done"))
        status = error.name if isinstance(error, AuthError | NtStatusError) else ""
        tell(Finding(failed, False, str(explain(error, decided, "go to")), status=status))
        return False
    except MountFailure as failure:
        cause = failure.__cause__
        status = cause.name if isinstance(cause, NtStatusError) else ""
        tell(Finding(step, False, str(failure), status=status))
        return False
    return True


def _connected(share: Share) -> list[tuple[str, str]]:
    told = share.description
    ticket = told.ticket
    who = f", {ticket.principal} for {ticket.spn}" if ticket is not None else ""
    how = f"without an account ({told.authentication})" if told.guest else f"by {told.authentication}"
    return [
        ("negotiate", describe(told)),
        ("log-on", f"{how}{who}"),
        ("share", f"it is {told.share_type.name.lower()}, at {told.address}"),
    ]


async def _read(share: Share, decided: Plan) -> tuple[str, str]:
    """List the folder that would be mounted, and read of a file in it; `SmbError` and `MountFailure`.

    Returns what was done, and a remark: that files may not be read says nothing against the way to them.
    """
    if share.description.share_type is not ShareType.DISK:
        raise explain_type(share.description.share_type, decided)
    if decided.prefix:
        try:
            found = await share.stat("")
        except SmbError as error:
            raise explain_prefix(error, decided) from error
        if not found.is_directory:
            raise explain_file(decided)
    async with aclosing(share.scandir("")) as batches:
        entries: list[DirectoryEntry] = await anext(batches, [])
    files = [entry.name for entry in entries if not entry.stat.is_directory][:_TRIED]
    refusals: list[str] = []
    for name in files:
        refusal = await _refusal_to_read(share, name)
        if not refusal:
            remark = f"{len(refusals)} others could not be read: {refusals[0]}" if refusals else ""
            return f"the folder is listed, and {name} is read", remark
        refusals.append(refusal)
    if refusals:
        return "the folder is listed", f"none of its first {len(files)} files could be read: {refusals[0]}"
    return "the folder is listed, and has no file to be read", ""


async def _refusal_to_read(share: Share, name: str) -> str:
    """Read of a file; returns what the server has against that, "" if nothing."""
    try:
        async with await share.open(name, access=Access.READ) as opened:
            await opened.read_at(0, 1)
    except (SessionDeleted, SessionExpired, TreeGone):
        raise
    except NtStatusError as error:
        return str(error)
    return ""
