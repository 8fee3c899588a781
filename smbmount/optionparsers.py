"""Values of mount options: text in, a checked value out, `ValueError` with one phrase otherwise.

The phrase goes behind "option 'name': ", and never holds more of the value than the user needs to see.
"""

from __future__ import annotations

import grp
import ipaddress
import pwd
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeVar

Value = TypeVar("Value")

_INTEGER: Final = re.compile(r"[0-9]{1,19}")
_DECIMAL: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_MODE: Final = re.compile(r"0?[0-7]{1,4}")
_HOST: Final = re.compile(r"\[[0-9A-Fa-f:.]+\]|(?:\*\.)?[^\s:/\\\\*\[\]]+")
_LAST_ID: Final = 2**32 - 2
"""2**32 - 1 is the kernel's "no such id"."""


class VersionRange(NamedTuple):
    """The lowest and highest SMB dialect to offer, as on the wire ([MS-SMB2] 2.2.3)."""

    lowest: int
    highest: int


VERSIONS: Final[Mapping[str, VersionRange]] = {
    "default": VersionRange(0x0210, 0x0311),
    "2.0": VersionRange(0x0202, 0x0202),
    "2.0.2": VersionRange(0x0202, 0x0202),
    "2.1": VersionRange(0x0210, 0x0210),
    "3": VersionRange(0x0300, 0x0311),
    "3.0": VersionRange(0x0300, 0x0300),
    "3.0.2": VersionRange(0x0302, 0x0302),
    "3.02": VersionRange(0x0302, 0x0302),
    "3.1.1": VersionRange(0x0311, 0x0311),
    "3.11": VersionRange(0x0311, 0x0311),
}
"""The words of mount.cifs; as there, 2.0.2 is spoken only if it is asked for by name."""


def text(value: str) -> str:
    """Any text but the empty one."""
    if not value:
        raise ValueError("needs a value")
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    return value


def is_utf8(value: str) -> bool:
    """Whether the text was UTF-8: bytes that were not are lone surrogates here."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def account(value: str) -> str:
    """Text for a server, which takes no other than Unicode."""
    if not is_utf8(value):
        raise ValueError("is not UTF-8: write it in UTF-8")
    return text_or_empty(value)


def text_or_empty(value: str) -> str:
    """Any text."""
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    return value


def integer(lowest: int, highest: int, unit: str = "") -> Callable[[str], int]:
    """A parser of whole numbers from `lowest` to `highest`."""

    def parse(value: str) -> int:
        if _INTEGER.fullmatch(value) is None or not lowest <= int(value) <= highest:
            raise ValueError(f"must be a whole number{unit and f' of {unit}'} from {lowest} to {highest}")
        return int(value)

    return parse


def seconds(lowest: float, highest: float) -> Callable[[str], float]:
    """A parser of seconds, with decimals, from `lowest` to `highest`."""

    def parse(value: str) -> float:
        if _DECIMAL.fullmatch(value) is None or not lowest <= float(value) <= highest:
            raise ValueError(f"must be a number of seconds from {lowest:g} to {highest:g}")
        return float(value)

    return parse


def mode(value: str) -> int:
    """Permission bits in octal."""
    if _MODE.fullmatch(value) is None:
        raise ValueError("must be permissions in octal, as 0755")
    return int(value, 8) & 0o7777


def user_id(value: str) -> int:
    """A user's number, or a user's name."""
    return _number_or_name(value, "user", lambda name: pwd.getpwnam(name).pw_uid)


def group_id(value: str) -> int:
    """A group's number, or a group's name."""
    return _number_or_name(value, "group", lambda name: grp.getgrnam(name).gr_gid)


def _number_or_name(value: str, kind: str, look_up: Callable[[str], int]) -> int:
    if _INTEGER.fullmatch(value):
        if int(value) > _LAST_ID:
            raise ValueError(f"is too large for a {kind} id")
        return int(value)
    try:
        return look_up(value)
    except (KeyError, ValueError):
        raise ValueError(f"there is no {kind} {value!r} on this machine: give an existing one") from None


def address(value: str) -> str:
    """An IPv4 or IPv6 address."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address") from None


def hosts(value: str) -> tuple[str, ...]:
    """Names, addresses (those of IPv6 in brackets) and patterns `*.domain`, with colons between them."""
    found = tuple(_HOST.findall(value))
    if not found or ":".join(found) != value:
        raise ValueError("must be host names, addresses or *.DOMAIN, colons between them, [IPv6] in brackets")
    return found


def versions(value: str) -> VersionRange:
    """One of the words of `VERSIONS`."""
    if value in ("1", "1.0"):
        raise ValueError("SMB1 is not safe and is never spoken: use vers=default, and SMB2 on the server")
    if value not in VERSIONS:
        raise ValueError(f"must be one of {', '.join(VERSIONS)}")
    return VERSIONS[value]


def word(words: Mapping[str, Value], refused: Mapping[str, str] | None = None) -> Callable[[str], Value]:
    """A parser of a few known words; `refused` maps words that are known but not served to advice."""
    refusals = refused or {}

    def parse(value: str) -> Value:
        if value in refusals:
            raise ValueError(f"{value} is not supported yet: {refusals[value]}")
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return words[value]

    return parse
