"""What the numbers of Kerberos libraries mean, and whether asking again could lock an account."""

from __future__ import annotations

import errno

import pytest

from engine import AuthError, KdcUnreachable, SmbError, TicketError
from engine.client.kerberos_errors import kerberos_error, number_of
from engine.errors import UnfitServer, UnknownService

BASE = -1765328384


class GssError(Exception):
    """As GSS-API's: numbers without a sign, and a text in some language."""

    def __init__(self, minor: int, major: int = 13 << 16) -> None:
        super().__init__("Uhr geht falsch")
        self.maj_code = major
        self.min_code = minor


class Wrapped(Exception):
    """As the authentication library's."""

    def __init__(self, error: Exception) -> None:
        super().__init__("wrapped")
        self.base_error = error


class Krb5Error(Exception):
    """As libkrb5's: numbers with a sign."""

    def __init__(self, number: int) -> None:
        super().__init__("text")
        self.err_code = number


@pytest.mark.parametrize(
    ("number", "kind", "words", "number_for_programs"),
    [
        (1, AuthError, "the account me has expired", errno.EACCES),
        (6, AuthError, "knows no user me", errno.EACCES),
        (7, UnknownService, "knows no service cifs/srv", errno.EACCES),
        (12, AuthError, "the domain's policy forbids me to log on here or now", errno.EACCES),
        (18, AuthError, "disabled, locked or expired", errno.EACCES),
        (23, AuthError, "the password of me has expired", errno.EACCES),
        (24, AuthError, "does not accept the password or key of me", errno.EACCES),
        (32, TicketError, "the ticket has expired: run kinit", errno.EKEYEXPIRED),
        (37, TicketError, "clocks of this machine and of the domain", errno.EACCES),
        (
            41,
            UnfitServer,
            "the server cannot read a ticket for cifs/srv: that name is another account's in the domain",
            errno.EACCES,
        ),
        (135, TicketError, "krb5.conf cannot be read", errno.ENOKEY),
        (141, TicketError, "there is no ticket: run kinit", errno.ENOKEY),
        (154, TicketError, "no KDC is known", errno.EACCES),
        (156, KdcUnreachable, "no KDC of the domain answers", errno.EHOSTUNREACH),
        (184, TicketError, "the keytab cannot be read: check keytab=", errno.ENOKEY),
        (194, TicketError, "the ticket cache may not be read by this user: use your own", errno.EACCES),
        (195, TicketError, "there is no ticket: run kinit", errno.ENOKEY),
        (200, TicketError, "krb5.conf allows no encryption type that the ticket has", errno.ENOKEY),
        (213, TicketError, "the keytab cannot be used: check keytab=", errno.ENOKEY),
    ],
)
def test_numbers(number: int, kind: type[SmbError], words: str, number_for_programs: int) -> None:
    for error in (GssError(BASE + number + (1 << 32)), Wrapped(Wrapped(GssError(BASE + number)))):
        meaning = kerberos_error(error, "me", "cifs/srv")
        assert type(meaning) is kind
        assert words in str(meaning)
        assert meaning.errno == number_for_programs
        assert "Uhr" not in str(meaning)
    assert type(kerberos_error(Krb5Error(BASE + number), "me", "cifs/srv")) is kind


def test_what_gss_api_says_itself() -> None:
    for routine_error in (11, 12):
        error = kerberos_error(GssError(100001, routine_error << 16), "", "cifs/srv")
        assert error.errno == errno.EKEYEXPIRED


@pytest.mark.parametrize("error", [GssError(0), GssError(12345), ValueError("Uhr geht falsch")])
def test_what_is_not_known_is_quoted_and_locks_nobody_out(error: Exception) -> None:
    meaning = kerberos_error(error, "me", "cifs/srv")
    assert type(meaning) is TicketError
    assert "Kerberos failed: Uhr" in str(meaning)


def test_an_error_without_a_number() -> None:
    assert number_of(Wrapped(ValueError())) is None
    assert number_of(None) is None
