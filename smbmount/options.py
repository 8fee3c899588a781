"""Mount options: the table of all of them, and the parser that it drives.

`parse_options` turns the texts behind `-o` into one `MountOptions`. The table is the only place that knows
an option's names, value, field and help; `--help` is made from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

from smbmount import optionparsers as parse
from smbmount.failures import ExitCode, OptionError
from smbmount.optionparsers import VERSIONS, VersionRange
from smbmount.secret import Secret

Security = Literal["ntlmssp", "krb5", "krb5i", "krb5p", "negotiate", "none"]
Cache = Literal["strict", "none", "loose"]
Symlinks = Literal["contain", "all", "none"]

_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class MountOptions:
    """Every option, typed and checked. `None` = not given. Sizes are bytes, times are seconds."""

    username: str | None = None
    password: Secret | None = None
    domain: str | None = None
    credentials: str | None = None
    guest: bool = False
    sec: Security = "ntlmssp"
    keytab: str | None = None
    cruid: int | None = None
    vers: VersionRange = VERSIONS["default"]
    seal: bool = False
    sign: bool | None = None
    port: int | None = None
    ip: str | None = None
    uid: int | None = None
    gid: int | None = None
    file_mode: int = 0o755
    dir_mode: int = 0o755
    symlinks: Symlinks = "contain"
    cache: Cache = "strict"
    closetimeo: float = 10.0
    prefetch: bool = True
    actimeo: float | None = None
    acregmax: float | None = None
    acdirmax: float | None = None
    rsize: int | None = None
    wsize: int | None = None
    mapposix: bool = True
    mfsymlinks: bool = True
    serverino: bool = True
    dfs: bool = True
    dfs_hosts: tuple[str, ...] = ()
    timeout: float = 60.0
    hard: bool = False
    echo_interval: float = 60.0
    max_credits: int = 8192
    prefixpath: str | None = None
    read_only: bool = False
    allow_other: bool = False
    allow_root: bool = False
    noexec: bool = False
    insecure_dev: bool = False
    insecure_suid: bool = False
    nonempty: bool = False
    force: bool = False
    sloppy: bool = False

    @property
    def kerberos(self) -> bool:
        """Whether tickets are used, if only when there are some."""
        return self.sec not in ("ntlmssp", "none")

    @property
    def call_timeout(self) -> float:
        """Seconds without progress after which a call of a program fails."""
        return math.inf if self.hard else self.timeout

    @property
    def attribute_timeout_file(self) -> float:
        """Seconds that a file's attributes are believed."""
        return self._first_given(self.acregmax)

    @property
    def attribute_timeout_directory(self) -> float:
        """Seconds that a folder's attributes are believed."""
        return self._first_given(self.acdirmax)

    def _first_given(self, own: float | None) -> float:
        fallback = 0.0 if self.cache == "none" else 1.0
        return next((value for value in (own, self.actimeo) if value is not None), fallback)


class RawOption(NamedTuple):
    """One option as it was written; `key` has underscores for hyphens, `value` its commas unescaped."""

    key: str
    value: str | None
    raw: str


@dataclass(frozen=True, slots=True)
class Option:
    """A row of the table.

    The first of `names` is the one that help and errors show. A flag has `argument` "" and sets `field`
    to `constant`; another option's value goes through `parse`. `field` None = taken, as it is true anyway.
    """

    names: tuple[str, ...]
    field: str | None
    help: str
    argument: str = ""
    parse: Callable[[str], object] | None = None
    constant: object = True


@dataclass(frozen=True, slots=True)
class Refused:
    """An option that is known, and whose feature is not there: refused by name, with advice."""

    names: tuple[str, ...]
    advice: str
    code: ExitCode = ExitCode.USAGE


_SECURITY: Final[Mapping[str, Security]] = {
    "ntlmssp": "ntlmssp",
    "krb5": "krb5",
    "krb5i": "krb5i",
    "krb5p": "krb5p",
    "negotiate": "negotiate",
    "none": "none",
}
_CACHES: Final[Mapping[str, Cache]] = {"strict": "strict", "none": "none", "loose": "loose"}
_SYMLINKS: Final[Mapping[str, Symlinks]] = {"contain": "contain", "all": "all", "none": "none"}

SMALLEST_REQUEST: Final = 4096
"""A page: with less, a read-ahead of the kernel takes more requests than pages."""

LARGEST_REQUEST: Final = 16 * 2**20
"""No known server takes more than 8 MiB in one request."""

_size = parse.integer(SMALLEST_REQUEST, LARGEST_REQUEST, "bytes")

OPTIONS: Final[tuple[Option, ...]] = (
    Option(("username", "user"), "username", "who logs on: NAME, DOMAIN\\NAME, DOMAIN/NAME or NAME@REALM",
           "NAME", lambda value: parse.account(parse.text(value))),
    Option(("password", "pass"), "password", "the password; a file or a variable keeps it out of sight",
           "TEXT", lambda value: Secret(parse.account(value))),
    Option(("domain", "dom", "workgroup"), "domain", "the account's domain", "NAME", parse.account),
    Option(("credentials", "cred"), "credentials",
           "file with username=, password= and domain= lines, readable by its owner only",
           "FILE", parse.text),
    Option(("guest",), "guest", "log on as guest, without a password"),
    Option(("sec",), "sec",
           "ntlmssp; krb5: Kerberos, krb5i signed, krb5p encrypted; negotiate: Kerberos, else NTLM; "
           "none: anonymous (default ntlmssp)", "KIND", parse.word(_SECURITY)),
    Option(("keytab",), "keytab", "file of Kerberos keys, readable by its owner only", "FILE", parse.text),
    Option(("cruid",), "cruid", "as root, use the Kerberos tickets of this user, number or name", "USER",
           parse.user_id),
    Option(("vers",), "vers",
           "2.0, 2.1, 3.0, 3.0.2 or 3.1.1 alone; 3 = 3.0 or newer; default = 2.1 or newer", "VERSION",
           parse.versions),
    Option(("seal",), "seal", "demand encryption of everything (SMB 3.0 or newer)"),
    Option(("sign",), "sign", "demand signatures: the default, except for guest and sec=none"),
    Option(("nosign",), "sign", "no signatures, unless the server demands them", constant=False),
    Option(("port",), "port", "TCP port (default 445)", "NUMBER", parse.integer(1, 65535)),
    Option(("ip", "addr"), "ip", "address to connect to, instead of looking the server's name up",
           "ADDRESS", parse.address),
    Option(("uid",), "uid", "owner of all files, number or name (default: who mounts)", "USER",
           parse.user_id),
    Option(("gid",), "gid", "group of all files, number or name (default: who mounts)", "GROUP",
           parse.group_id),
    Option(("forceuid",), None, "taken: uid= always holds for every file"),
    Option(("forcegid",), None, "taken: gid= always holds for every file"),
    Option(("file_mode",), "file_mode", "permissions of files, octal (default 0755)", "MODE", parse.mode),
    Option(("dir_mode",), "dir_mode", "permissions of folders, octal (default 0755)", "MODE", parse.mode),
    Option(("symlinks",), "symlinks",
           "contain: links that stay inside the mount; all: any target; none: no links (default contain)",
           "KIND", parse.word(_SYMLINKS)),
    Option(("cache",), "cache",
           "strict: only what the server vouches for; loose: also what looks unchanged; none: direct I/O "
           "(default strict)", "KIND", parse.word(_CACHES)),
    Option(("closetimeo",), "closetimeo",
           "seconds that a closed file or a listed folder is kept open for the next use (default 10)",
           "SECONDS", parse.seconds(0, 3600)),
    Option(("prefetch",), "prefetch",
           "on: folders and small files are fetched ahead of programs that go through a tree; off: never "
           "(default on; cache=none turns it off)", "KIND", parse.word({"on": True, "off": False})),
    Option(("actimeo",), "actimeo", "seconds that attributes are believed (default 1)", "SECONDS",
           parse.seconds(0, _DAY)),
    Option(("acregmax",), "acregmax", "the same, for files only", "SECONDS", parse.seconds(0, _DAY)),
    Option(("acdirmax",), "acdirmax", "the same, for folders only", "SECONDS", parse.seconds(0, _DAY)),
    Option(("rsize",), "rsize", "most bytes per read request (default: the server's limit)", "BYTES", _size),
    Option(("wsize",), "wsize", "most bytes per write request (default: the server's limit)", "BYTES", _size),
    Option(("mapposix",), "mapposix", 'names with : * ? " < > | and trailing dots are mapped (default)'),
    Option(("nomapposix",), "mapposix", "such names are refused", constant=False),
    Option(("nobrl",), None, "taken: file locks are local to this machine"),
    Option(("mfsymlinks",), "mfsymlinks", "symbolic links are kept in small files (default)"),
    Option(("nomfsymlinks",), "mfsymlinks", "no symbolic links in small files", constant=False),
    Option(("serverino",), "serverino", "inode numbers are the server's file ids (default)"),
    Option(("noserverino",), "serverino", "inode numbers are made up here", constant=False),
    Option(("nodfs",), "dfs", "DFS referrals to other servers are not followed, nor inside the mount",
           constant=False),
    Option(("dfs_hosts",), "dfs_hosts",
           "hosts besides those of the server's own domain that DFS may take the password to: names, "
           "addresses, *.DOMAIN", "HOST[:HOST…]", parse.hosts),
    Option(("soft",), "hard", "a call fails after timeout seconds (default)", constant=False),
    Option(("hard",), "hard", "a call waits for a server that is away as long as it takes"),
    Option(("timeout",), "timeout", "seconds that one call may take (default 60)", "SECONDS",
           parse.seconds(1, 3600)),
    Option(("echo_interval",), "echo_interval",
           "seconds of silence after which the server is asked for a sign of life (default 60)", "SECONDS",
           parse.seconds(1, 600)),
    Option(("max_credits",), "max_credits", "most requests at a time, in credits (default 8192)", "NUMBER",
           parse.integer(1, 60_000)),
    Option(("max_channels",), None, "taken: 1", "NUMBER",
           parse.word({"1": 1}, {str(count): "use max_channels=1" for count in range(2, 17)})),
    Option(("prefixpath",), "prefixpath", "folder of the share to mount", "PATH", parse.text),
    Option(("ro",), "read_only", "read only"),
    Option(("rw",), "read_only", "read and write (default)", constant=False),
    Option(("allow_other",), "allow_other", "let other users in, as the permissions say"),
    Option(("allow_root",), "allow_root", "let root in"),
    Option(("nosuid", "suid"), None, "always nosuid: see insecure_suid"),
    Option(("nodev", "dev"), None, "always nodev: see insecure_dev"),
    Option(("noexec",), "noexec", "no programs are run from the mount"),
    Option(("exec",), "noexec", "programs may be run (default)", constant=False),
    Option(("insecure_suid",), "insecure_suid", "set-user-id bits work: the server can make anyone root"),
    Option(("insecure_dev",), "insecure_dev", "device files work: the server can make them"),
    Option(("nonempty",), "nonempty", "mount over a folder that is not empty"),
    Option(("force",), "force", "as root, mount on another user's folder"),
    Option(("sloppy",), "sloppy", "ignore unknown options"),
)  # fmt: skip

REFUSED: Final[tuple[Refused, ...]] = (
    Refused(("multichannel",), "one connection is used; leave the option out"),
    Refused(("snapshot",), "leave the option out, and look for earlier versions on the server"),
    Refused(("mapchars",), "use mapposix, which maps the same characters"),
    Refused(("remount",), "unmount and mount again with the new options", ExitCode.MOUNT_FAILED),
)

IGNORED: Final = frozenset(
    ("auto", "noauto", "user", "nouser", "users", "_netdev", "nofail", "defaults", "async", "comment")
)
"""Words for fstab's readers, not for a mount; `user` is one only without a value. So is all of x-*."""

USERNAME_KEYS: Final = frozenset(("username", "user"))
PASSWORD_KEYS: Final = frozenset(("password", "pass"))

_BY_NAME: Final = {name: row for row in OPTIONS for name in row.names}
_REFUSED_BY_NAME: Final = {name: row for row in REFUSED for name in row.names}


def split_options(text: str) -> Iterator[RawOption]:
    """Cut at the commas that no backslash protects; empty pieces are skipped."""
    pieces = text.split(",")
    raw = ""
    for index, piece in enumerate(pieces):
        raw += piece
        if raw.endswith("\\") and index + 1 < len(pieces):
            raw += ","
            continue
        if raw:
            key, equals, value = raw.partition("=")
            yield RawOption(key.replace("-", "_"), value.replace("\\,", ",") if equals else None, raw)
        raw = ""


def parse_options(*texts: str) -> MountOptions:
    """Parse the texts of all `-o` arguments, the last of a repeated option winning.

    Raises `OptionError`; its message never holds a password, nor a piece of one.
    """
    values: dict[str, Any] = {}
    unknown: list[tuple[RawOption, bool]] = []
    after_password = False
    for option in (option for text in texts for option in split_options(text)):
        if not _is_ignored(option):
            row = _BY_NAME.get(option.key)
            if row is not None:
                field, value = _read(row, option)
                if field is not None:
                    values[field] = value
            elif option.key in _REFUSED_BY_NAME:
                raise _refusal(_REFUSED_BY_NAME[option.key])
            else:
                unknown.append((option, after_password))
        after_password = _holds_password(option) or (after_password and option.key not in _BY_NAME)
    options = MountOptions(**values)
    if unknown and not options.sloppy:
        raise _unknown(*unknown[0])
    return _checked(options)


def _holds_password(option: RawOption) -> bool:
    if option.value is None:
        return False
    return option.key in PASSWORD_KEYS or (option.key in USERNAME_KEYS and "%" in option.value)


def _is_ignored(option: RawOption) -> bool:
    if option.key.startswith("x_") or option.key == "comment":
        return True
    return option.value is None and option.key in IGNORED


def _read(row: Option, option: RawOption) -> tuple[str | None, object]:
    name = option.key
    if row.parse is None:
        if option.value is not None:
            raise OptionError(f"option '{name}' takes no value: write just {name}")
        return row.field, row.constant
    if option.value is None:
        raise OptionError(f"option '{name}' needs a value: write {name}={row.argument}")
    try:
        return row.field, row.parse(option.value)
    except ValueError as error:
        raise OptionError(f"option '{name}': {error}") from None


def _refusal(row: Refused) -> OptionError:
    return OptionError(f"option '{row.names[0]}' is not supported: {row.advice}", row.code)


def _unknown(option: RawOption, after_password: bool) -> OptionError:
    if after_password:
        return OptionError("unknown option behind password=: write a comma inside the password as '\\,'")
    name = option.raw.partition("=")[0]
    return OptionError(f"unknown option {name!r}; see smbmount --help, or add sloppy to ignore it")


def _checked(options: MountOptions) -> MountOptions:
    """Look at the options side by side, and settle what one means for another."""
    if options.username is not None and "%" in options.username:
        name, _, password = options.username.partition("%")
        options = replace(options, username=name or None, password=options.password or Secret(password))
    options = _checked_kerberos(options)
    anonymous = options.guest or options.sec == "none"
    if options.allow_other and options.allow_root:
        raise OptionError("allow_other and allow_root exclude each other: allow_other lets root in too")
    if options.sign and anonymous:
        raise OptionError("sign needs an account with a password: leave out sign, or guest and sec=none")
    if options.seal and anonymous:
        raise OptionError("seal needs an account with a password: leave out seal, or guest and sec=none")
    if options.seal and options.vers.highest < 0x0300:
        raise OptionError("seal needs SMB 3.0 or newer: use vers=3")
    if options.seal and options.vers.lowest < 0x0300:
        return replace(options, vers=VersionRange(0x0300, options.vers.highest))
    return options


def _checked_kerberos(options: MountOptions) -> MountOptions:
    for name, value in (("keytab", options.keytab), ("cruid", options.cruid)):
        if value is not None and not options.kerberos:
            raise OptionError(f"{name} belongs to Kerberos: add sec=krb5, or leave it out")
    ways = {"keytab": options.keytab, "cruid": options.cruid, "password": options.password}
    given = [name for name, value in ways.items() if value is not None]
    if options.kerberos and len(given) > 1:
        raise OptionError(f"{given[0]} and {given[1]} are two ways to a ticket: give one of them")
    if options.kerberos and options.guest:
        raise OptionError(f"guest and sec={options.sec} exclude each other: a guest has no ticket")
    if options.sec in ("krb5i", "krb5p") and options.sign is False:
        raise OptionError(f"sec={options.sec} demands protection: leave out nosign, or use sec=krb5")
    return replace(options, seal=True) if options.sec == "krb5p" else options


def help_lines() -> list[str]:
    """One line per option for `--help`: its names, its value, what it does."""
    lines = []
    for row in OPTIONS:
        names = ", ".join(f"{name}={row.argument}" if row.argument else name for name in row.names)
        lines.append(f"  {names:<34} {row.help}")
    return lines
