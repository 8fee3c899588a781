"""Which hosts of a distributed tree may be told who we are.

A referral can name any host. With NTLM whoever is logged on to can pass the log-on to a third server, and
guess at the password at leisure, so it goes only to where the user who mounts has sent it, or may well have
meant to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from engine.client.config import AuthKind, Credentials

_SHORT: Final = 3
"""Letters up to which a label under a country's is taken for a registry's, as "co" of co.uk."""


def may_send_ntlm(credentials: Credentials) -> bool:
    """Whether a log-on with these may be one by NTLM that says something of a password."""
    if credentials.kind is AuthKind.NEGOTIATE:
        return bool(credentials.password)
    return credentials.kind is AuthKind.NTLM


def may_log_on(origin: str, host: str, allowed: Sequence[str]) -> bool:
    """Whether an account that was given for `origin` may be used at `host`.

    That is the same host, one of the same domain, or one that `allowed` has: by name, by address, or by a
    pattern `*.example.com`.
    """
    origin, host = _plain(origin), _plain(host)
    if host == origin or any(_fits(host, _plain(pattern)) for pattern in allowed):
        return True
    if _is_address(origin) or _is_address(host):
        return False
    return any(host.endswith(f".{domain}") for domain in domains_of(origin))


def _plain(name: str) -> str:
    return name.strip("[]").rstrip(".").casefold()


def _fits(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def domains_of(origin: str) -> list[str]:
    """The domains that a host's name says it belongs to: that of its own name, and the one above; none for an
    address."""
    origin = _plain(origin)
    if "." not in origin or _is_address(origin):
        return []
    parent = origin.partition(".")[2]
    labels = parent.split(".")
    is_registry = len(labels) == 1 or (len(labels) == 2 and len(labels[1]) == 2 and len(labels[0]) <= _SHORT)
    return [origin] if is_registry else [origin, parent]
