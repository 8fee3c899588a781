"""What a caller says about the server, the account and the protection."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from engine.wire.constants import Dialect

DEFAULT_PORT: Final = 445


class AuthKind(enum.Enum):
    """How to log on."""

    NTLM = "ntlm"
    KERBEROS = "kerberos"
    NEGOTIATE = "negotiate"
    """Kerberos if there is a ticket and the server takes it, else NTLM."""
    GUEST = "guest"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class TicketSource:
    """Where Kerberos finds the ticket of somebody who gives no password.

    `keytab` is the path of a file with keys, for which a ticket is got each time; else `cache` names a cache
    of tickets as KRB5CCNAME does, "" being the default one. `owner` is the user whose own cache is used
    instead, and who has to own it.
    """

    cache: str = ""
    keytab: str = ""
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who logs on. The password never shows in `repr`.

    Kerberos gets a ticket for the keys in a keytab or for the password, if there is one, else it takes that
    of the cache; the user name may be left out then. Raises `ValueError` for what is no Unicode: the log-on
    could not say it.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    domain: str = ""
    kind: AuthKind = AuthKind.NTLM
    tickets: TicketSource = TicketSource()

    def __post_init__(self) -> None:
        for what, text in (
            ("user name", self.username),
            ("password", self.password),
            ("domain", self.domain),
        ):
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError(f"the {what} has lone surrogates in it, so it is no Unicode")


@dataclass(frozen=True, slots=True)
class ConnectConfig:
    """How to connect.

    `signing` demands signatures in both directions of every session that has a key; without it they
    are used only where the server demands them. `seal` demands encryption of the whole session.
    `timeout` bounds, in seconds, the way to the share; `echo_interval` is the silence, in seconds,
    after which the server is asked for a sign of life. `max_read` and `max_write` lower the
    server's own limits, in bytes. `reconnect` has a lost connection made anew. `dfs` has referrals to
    other servers followed, all of which have to protect as is demanded here; `port` is theirs too, `address`
    is not. With a password this goes to hosts of the same domain alone, and to `dfs_hosts`: names, addresses,
    and patterns `*.example.com`.
    """

    port: int = DEFAULT_PORT
    address: str | None = None
    min_dialect: Dialect = Dialect.SMB_2_0_2
    max_dialect: Dialect = Dialect.SMB_3_1_1
    signing: bool = True
    seal: bool = False
    timeout: float = 60.0
    echo_interval: float = 60.0
    max_credits: int = 8192
    max_read: int | None = None
    max_write: int | None = None
    reconnect: bool = False
    dfs: bool = True
    dfs_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.min_dialect > self.max_dialect:
            raise ValueError("the lowest dialect allowed is above the highest: swap or widen them")
        if not (self.timeout > 0 and self.echo_interval > 0 and self.max_credits > 0):
            raise ValueError("timeout, echo interval and credits have to be more than 0")


class Unc(NamedTuple):
    """The parts of `//server[:port]/share[/sub/folder]`; `prefix` is the sub-folder with backslashes."""

    server: str
    port: int | None
    share: str
    prefix: str

    def __str__(self) -> str:
        folder = self.prefix.replace("\\", "/")
        return f"//{self.server}/{self.share}" + (f"/{folder}" if folder else "")

    @property
    def tree_path(self) -> str:
        """What TREE_CONNECT takes: `\\\\server\\share`."""
        return f"\\\\{self.server}\\{self.share}"


def parse_unc(text: str) -> Unc:
    """Parse `//server[:port]/share[/sub/folder]`, slashes either way, IPv6 addresses in brackets.

    Raises `ValueError` with one sentence that says what is wrong.
    """
    path = text.replace("\\", "/")
    if not path.startswith("//"):
        raise ValueError(f"{text!r} is no share: write it as //server/share")
    if "\0" in text:
        raise ValueError("the share's name has a NUL character in it")
    host, *parts = path[2:].split("/")
    server, port = _split_host(host, text)
    parts = [part for part in parts if part and part != "."]
    if not server or not parts:
        raise ValueError(f"{text!r} names no {'share' if server else 'server'}: write it as //server/share")
    if ".." in parts:
        raise ValueError(f"{text!r} has '..' in it: name the folder directly")
    return Unc(server, port, parts[0], "\\".join(parts[1:]))


def _split_host(host: str, text: str) -> tuple[str, int | None]:
    if host.startswith("["):
        server, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"the address in {text!r} has no closing bracket: write it as //[::1]/share")
        port = rest[1:]
    elif host.count(":") > 1:
        raise ValueError(f"write the IPv6 address in {text!r} in brackets: //[::1]/share")
    else:
        server, _, port = host.partition(":")
    if not port:
        return server, None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is no TCP port: take a number from 1 to 65535")
    return server, int(port)
