"""What Kerberos demands of a server, with servers' ends that no domain has."""

from __future__ import annotations

from typing import cast

import pytest
import spnego

from engine import AuthError, AuthKind, Credentials, TicketError
from engine.client.kerberos import Kerberos
from engine.client.tickets import principal_name

TICKET = Credentials(kind=AuthKind.KERBEROS)


class ProvesNothing:
    """The context of a server that never showed that it can read the ticket."""

    complete = True
    negotiated_protocol = "kerberos"
    context_attr = spnego.ContextReq.integrity
    session_key = bytes(32)

    def step(self, token: bytes | None) -> bytes | None:
        return None


class GoesOverToNtlm(ProvesNothing):
    """That of one that chose what was not offered."""

    negotiated_protocol = "ntlm"
    context_attr = spnego.ContextReq.mutual_auth


class ProvesItself(ProvesNothing):
    """That of an honest server."""

    context_attr = spnego.ContextReq.mutual_auth


def log_on_with(context: ProvesNothing) -> Kerberos:
    log_on = Kerberos(TICKET, "server.example.test")
    log_on._context = cast(spnego.ContextProxy, context)
    log_on.step(b"token")
    return log_on


def test_server_that_proves_itself() -> None:
    log_on = log_on_with(ProvesItself())
    assert log_on.name == "Kerberos"
    assert len(log_on.session_key()) == 32


def test_server_that_proves_nothing() -> None:
    with pytest.raises(AuthError, match=r"the server did not prove that it is server\.example\.test"):
        log_on_with(ProvesNothing())


def test_server_that_goes_over_to_ntlm() -> None:
    with pytest.raises(AuthError, match="another way to log on than Kerberos"):
        log_on_with(GoesOverToNtlm())


@pytest.mark.parametrize("host", ["10.0.0.1", "::1", "fe80::1%eth0"])
def test_address_has_no_ticket(host: str) -> None:
    with pytest.raises(TicketError, match=f"{host} is an address"):
        Kerberos(TICKET, host).step(None)


def test_no_key_before_the_server_has_answered() -> None:
    assert Kerberos(TICKET, "server").session_key() == b""
    assert Kerberos(TICKET, "server").ticket is None


@pytest.mark.parametrize(
    ("name", "domain", "principal"),
    [
        ("", "", ""),
        ("", "example.test", ""),
        ("anna", "", "anna"),
        ("anna", "EXAMPLE", "anna"),
        ("anna", "example.test", "anna@EXAMPLE.TEST"),
        ("anna@OTHER.TEST", "example.test", "anna@OTHER.TEST"),
    ],
)
def test_how_kerberos_names_the_user(name: str, domain: str, principal: str) -> None:
    assert principal_name(Credentials(name, domain=domain)) == principal
