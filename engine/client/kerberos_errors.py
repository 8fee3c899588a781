"""What a Kerberos library says, by its numbers, in plain words; its own texts depend on the language set.

The numbers are those of RFC 4120 7.5.9 and of MIT Kerberos' library, counted from `_BASE`.
"""

from __future__ import annotations

import enum
import errno
from typing import Final, NamedTuple

from engine.errors import AuthError, KdcUnreachable, SmbError, TicketError, UnfitServer, UnknownService

_BASE: Final = -1765328384
_MECHANISM_BASE: Final = 39756032
"""Where the numbers of the GSS mechanism's own mistakes begin."""


_GSS_EXPIRED: Final = (11, 12)
"""GSS_S_CREDENTIALS_EXPIRED and GSS_S_CONTEXT_EXPIRED, which come without a number of Kerberos' own."""


class _Kind(enum.Enum):
    REFUSED = enum.auto()
    """The domain refused the account: asking again soon could lock it."""
    NO_TICKET = enum.auto()
    """There is no ticket to begin with, or none for this server: nobody's password was tried."""
    UNFIT_SERVER = enum.auto()
    UNKNOWN_SERVICE = enum.auto()
    """These two are of this server: others may have other answers."""
    UNREACHABLE = enum.auto()


class _Meaning(NamedTuple):
    kind: _Kind
    words: str
    errno: int = errno.EACCES


def _no_ticket(words: str, number: int = errno.ENOKEY) -> _Meaning:
    return _Meaning(_Kind.NO_TICKET, words, number)


def _refused(words: str) -> _Meaning:
    return _Meaning(_Kind.REFUSED, words)


_CLOCK: Final = _no_ticket(
    "the clocks of this machine and of the domain are too far apart (5 minutes are allowed): set the clock, "
    "best by NTP",
    errno.EACCES,
)
_NO_CACHE: Final = _no_ticket("there is no ticket: run kinit, or check KRB5CCNAME")
_EXPIRED: Final = _no_ticket("the ticket has expired: run kinit", errno.EKEYEXPIRED)
_UNKNOWN_SERVER: Final = _Meaning(
    _Kind.UNKNOWN_SERVICE,
    "the domain knows no service {spn}: use the server's name in the domain, or have this one added (setspn)",
)
_UNKNOWN_USER: Final = _refused("the domain knows no user {who}: check the name and the realm")
_NO_ETYPE: Final = _refused("this machine and the domain have no encryption type in common: see krb5.conf")
_WRONG_PASSWORD: Final = _refused("the domain does not accept the password or key of {who}")
_UNREACHABLE: Final = _Meaning(
    _Kind.UNREACHABLE, "no KDC of the domain answers: check the network, and the realm in krb5.conf"
)
_NO_REALM: Final = _no_ticket(
    "no KDC is known for the realm: name one in krb5.conf, or write the user as NAME@REALM", errno.EACCES
)
_BROKEN_CACHE: Final = _no_ticket("the ticket cache cannot be used: run kinit, and check KRB5CCNAME")
_BROKEN_KEYTAB: Final = _no_ticket("the keytab cannot be used: check keytab=")
_WRONG_KEY: Final = _Meaning(
    _Kind.UNFIT_SERVER,
    "the server cannot read a ticket for {spn}: that name is another account's in the domain",
)

_TICKET_EXPIRED: Final = 32
"""KRB_AP_ERR_TKT_EXPIRED."""

_MEANINGS: Final[dict[int, _Meaning]] = {
    1: _refused("the account {who} has expired"),  # KDC_ERR_NAME_EXP
    6: _UNKNOWN_USER,  # KDC_ERR_C_PRINCIPAL_UNKNOWN
    7: _UNKNOWN_SERVER,  # KDC_ERR_S_PRINCIPAL_UNKNOWN
    12: _refused("the domain's policy forbids {who} to log on here or now"),  # KDC_ERR_POLICY
    14: _NO_ETYPE,  # KDC_ERR_ETYPE_NOSUPP
    18: _refused("the account {who} is disabled, locked or expired"),  # KDC_ERR_CLIENT_REVOKED
    20: _EXPIRED,  # KDC_ERR_TGT_REVOKED
    23: _refused("the password of {who} has expired: change it, with kpasswd for example"),  # KDC_ERR_KEY_EXP
    24: _WRONG_PASSWORD,  # KDC_ERR_PREAUTH_FAILED
    29: _UNREACHABLE,  # KDC_ERR_SVC_UNAVAILABLE
    31: _WRONG_PASSWORD,  # KRB_AP_ERR_BAD_INTEGRITY
    _TICKET_EXPIRED: _EXPIRED,
    33: _CLOCK,  # KRB_AP_ERR_TKT_NYV
    35: _WRONG_KEY,  # KRB_AP_ERR_NOT_US
    37: _CLOCK,  # KRB_AP_ERR_SKEW
    41: _WRONG_KEY,  # KRB_AP_ERR_MODIFIED
    68: _NO_REALM,  # KDC_ERR_WRONG_REALM
    135: _no_ticket("krb5.conf cannot be read"),  # KRB5_CONFIG_CANTOPEN
    136: _no_ticket("krb5.conf is malformed"),  # KRB5_CONFIG_BADFORMAT
    139: _BROKEN_CACHE,  # KRB5_CC_BADNAME
    140: _BROKEN_CACHE,  # KRB5_CC_UNKNOWN_TYPE
    141: _NO_CACHE,  # KRB5_CC_NOTFOUND
    142: _NO_CACHE,  # KRB5_CC_END
    148: _CLOCK,  # KRB5_KDCREP_SKEW
    154: _NO_REALM,  # KRB5_REALM_UNKNOWN
    156: _UNREACHABLE,  # KRB5_KDC_UNREACH
    179: _BROKEN_KEYTAB,  # KRB5_KT_BADNAME
    181: _no_ticket("the keytab has no key of {who}"),  # KRB5_KT_NOTFOUND
    184: _no_ticket("the keytab cannot be read: check keytab="),  # KRB5_KT_IOERR
    193: _BROKEN_CACHE,  # KRB5_CC_IO
    194: _no_ticket("the ticket cache may not be read by this user: use your own", errno.EACCES),  # FCC_PERM
    195: _NO_CACHE,  # KRB5_FCC_NOFILE
    199: _BROKEN_CACHE,  # KRB5_CC_FORMAT
    200: _no_ticket(  # KRB5_CC_NOT_KTYPE
        "krb5.conf allows no encryption type that the ticket has: run kinit, or mend krb5.conf"
    ),
    210: _WRONG_PASSWORD,  # KRB5_PREAUTH_FAILED
    212: _BROKEN_CACHE,  # KRB5_CCACHE_BADVNO
    213: _BROKEN_KEYTAB,  # KRB5_KEYTAB_BADVNO
    220: _UNREACHABLE,  # KRB5_REALM_CANT_RESOLVE
    224: _NO_REALM,  # KRB5_CONFIG_NODEFREALM
}

_MECHANISM_MEANINGS: Final[dict[int, _Meaning]] = {
    0: _no_ticket("the ticket cache holds no ticket of {who}: run kinit, or leave the user name out"),
    12: _NO_CACHE,  # KG_EMPTY_CCACHE
}


def number_of(error: BaseException | None) -> int | None:
    """The number that a Kerberos library gave for an error, found in whatever the error is wrapped in."""
    while error is not None:
        if getattr(error, "maj_code", 0) >> 16 & 0xFF in _GSS_EXPIRED:
            return _BASE + _TICKET_EXPIRED
        for name in ("min_code", "err_code"):
            number = getattr(error, name, None)
            if isinstance(number, int):
                # GSS-API has the number unsigned.
                return number - (1 << 32) if number >= 1 << 31 else number
        error = getattr(error, "base_error", None)
    return None


def is_understood(error: Exception) -> bool:
    """Whether `kerberos_error` knows what the error means."""
    number = number_of(error)
    return number is not None and _meaning(number) is not None


def kerberos_error(error: Exception, who: str, spn: str) -> SmbError:
    """Return (not raise) what an error of the Kerberos libraries means for `who` on the way to `spn`.

    `TicketError` where nobody's password was tried, `UnfitServer` or `UnknownService` among them if it is for
    the server's sake; `KdcUnreachable`; else `AuthError`.
    """
    number = number_of(error)
    meaning = None if number is None else _meaning(number)
    if meaning is None:
        return TicketError(f"Kerberos failed: {error}")
    words = f"Kerberos: {meaning.words.format(who=who or 'this user', spn=spn)}"
    match meaning.kind:
        case _Kind.REFUSED:
            return AuthError(words, errno=meaning.errno)
        case _Kind.NO_TICKET:
            return TicketError(words, errno=meaning.errno)
        case _Kind.UNFIT_SERVER:
            return UnfitServer(words, errno=meaning.errno)
        case _Kind.UNKNOWN_SERVICE:
            return UnknownService(words, errno=meaning.errno)
        case _Kind.UNREACHABLE:
            return KdcUnreachable(words)


def _meaning(number: int) -> _Meaning | None:
    return _MEANINGS.get(number - _BASE) or _MECHANISM_MEANINGS.get(number - _MECHANISM_BASE)
