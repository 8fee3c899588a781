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

from engine import Access, DirectoryEntry, Share, ShareType, SmbError
from smbmount import visits
from smbmount.dfs import dfs_lines_untrusted, dfs_status
from smbmount.explain import explain, explain_prefix, explain_type
from smbmount.failures import MountFailure
from smbmount.plan import Plan, connect_config
from smbmount.service import describe

STEPS: Final = ("name", "TCP", "negotiate", "log-on", "share", "read", "DFS")

_TCP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one of `STEPS`, in one line that says what to do where it failed."""

    step: str
    is_well: bool
    words: str


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
    except trio.TooSlowError:
        raise Ill(f"nobody says which address {host} has: check DNS, or give ip=") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return addresses, f"{host} is {', '.join(addresses)}"


async def _reach(decided: Plan, addresses: list[str]) -> str:
    port, failures = connect_config(decided).port, []
    for address in addresses:
        began = trio.current_time()
        try:
            with trio.fail_after(_TCP_SECONDS):
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
            tell(Finding(step, True, await _read(share, decided)))
            step = "DFS"
            tell(Finding(step, True, "; ".join(dfs_lines_untrusted(dfs_status(share.dfs_steps())))))
    except SmbError as error:
        failed = step or error.stage or "DFS"
        if not step and error.stage:
            for before in STEPS[STEPS.index("negotiate") : STEPS.index(failed)]:
                tell(Finding(before, True, "done"))
        tell(Finding(failed, False, str(explain(error, decided, "go to"))))
        return False
    except MountFailure as failure:
        tell(Finding(step, False, str(failure)))
        return False
    return True


def _connected(share: Share) -> list[tuple[str, str]]:
    told = share.description
    ticket = told.ticket
    who = f", {ticket.principal} for {ticket.spn}" if ticket is not None else ""
    guest = ", as a guest" if told.guest else ""
    return [
        ("negotiate", describe(told)),
        ("log-on", f"by {told.authentication}{who}{guest}"),
        ("share", f"it is {told.share_type.name.lower()}, at {told.address}"),
    ]


async def _read(share: Share, decided: Plan) -> str:
    """List the folder that would be mounted, and read of a file in it; `SmbError` and `MountFailure`."""
    if share.description.share_type is not ShareType.DISK:
        raise explain_type(share.description.share_type, decided)
    if decided.prefix:
        try:
            await share.stat("")
        except SmbError as error:
            raise explain_prefix(error, decided) from error
    async with aclosing(share.scandir("")) as batches:
        entries: list[DirectoryEntry] = await anext(batches, [])
    file = next((entry for entry in entries if not entry.stat.is_directory), None)
    if file is None:
        return "the folder is listed, and has no file to be read"
    async with await share.open(file.name, access=Access.READ) as opened:
        await opened.read_at(0, 1)
    return f"the folder is listed, and {file.name} is read"
