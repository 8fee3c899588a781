"""NTLMv2 inside SPNEGO ([MS-NLMP], RFC 4178)."""

from __future__ import annotations

import logging
import os
import struct
from typing import Final

import spnego
from spnego.exceptions import SpnegoError

from engine.client.config import Credentials
from engine.errors import AuthError

UNREADABLE: Final = (
    SpnegoError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    StopIteration,
    struct.error,
)
"""What the authentication library lets out when it is given bytes that a hostile server made up."""

# The authentication library logs its tokens, from which a weak password can be guessed.
logging.getLogger("spnego").setLevel(logging.INFO)


_NO_TICKETS: Final = "MEMORY:smbmount-has-no-tickets-here"
"""A cache that nobody fills."""


def ntlm_alone(credentials: Credentials) -> list[spnego.Credential]:
    """What makes the authentication library offer NTLM and nothing else; raises as `account_name` does.

    With Kerberos installed it would get a ticket for the password first: unasked, and where nobody may wait
    for a KDC. A cache before the password keeps it from that, as it finds no ticket there.
    """
    password = spnego.Password(account_name(credentials), credentials.password)
    return [spnego.KerberosCCache(_NO_TICKETS), password]


def account_name(credentials: Credentials) -> str:
    """The account as NTLM names it. Raises `AuthError` where the environment asks for something unsafe."""
    if os.environ.get("LM_COMPAT_LEVEL", "3") < "3":
        raise AuthError("the variable LM_COMPAT_LEVEL asks for NTLMv1, which is never used: unset it")
    name = credentials.username
    if credentials.domain and "@" not in name:
        return f"{credentials.domain}\\{name}"
    return name


class Ntlm:
    """One log-on."""

    blocks = False
    name = "NTLM"
    ticket = None

    def __init__(self, credentials: Credentials, server: str) -> None:
        self._context = spnego.client(
            ntlm_alone(credentials),
            hostname=server,
            service="cifs",
            protocol="negotiate",
            options=spnego.NegotiateOptions.use_negotiate,
        )

    def step(self, token: bytes | None) -> bytes | None:
        """Take the server's token, return ours. Raises `AuthError`."""
        try:
            return self._context.step(token or None)
        except UNREADABLE as error:
            raise AuthError(f"the server's log-on messages make no sense: {error}") from error

    def session_key(self) -> bytes:
        """The key that both sides share; empty if there is none."""
        return self._context.session_key if self._context.complete else b""
