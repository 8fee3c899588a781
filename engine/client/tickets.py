"""Where a Kerberos ticket comes from: a cache, a keytab or a password. All of it blocks.

Nothing here reads or changes the environment of the process, which all its threads share: every cache is
named.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from engine.client.config import Credentials, TicketSource
from engine.errors import AuthError, TicketError

if TYPE_CHECKING:
    import krb5

_AT_ITS_END: Final = 2.0
"""Seconds that a ticket for a service has to be valid yet: a log-on takes less."""

_MISSING: Final = (
    "Kerberos needs Python packages that are not installed: run pip install 'smbmount[kerberos]' "
    "(which needs Debian's libkrb5-dev and gcc)"
)


def missing_for_kerberos() -> str:
    """One sentence that says what has to be installed before Kerberos can be used; "" = nothing."""
    try:
        import gssapi  # noqa: F401
        import krb5  # noqa: F401
    except ImportError:
        return _MISSING
    return ""


def principal_name(credentials: Credentials) -> str:
    """The user as Kerberos names it, "" if none was given; without a realm it is in the default one.

    A domain is a realm if it is one of DNS; Windows' short names for domains are none.
    """
    name, domain = credentials.username, credentials.domain
    if name and "@" not in name and "." in domain:
        return f"{name}@{domain.upper()}"
    return name


def is_got_anew(credentials: Credentials) -> bool:
    """Whether a ticket is got for keys or a password, and not taken from a cache that is there already."""
    return bool(credentials.tickets.keytab or credentials.password)


def realm_of(credentials: Credentials) -> str:
    """The realm of whoever a ticket, or a key, is for; "" if there is none to be found."""
    if missing_for_kerberos():
        return ""
    import krb5

    source = credentials.tickets
    try:
        context = krb5.init_context()
        if source.keytab:
            check_readable(source.keytab)
            # An entry owns its principal, so the list stays.
            keys = list(krb5.kt_resolve(context, b"FILE:" + os.fsencode(source.keytab)))
            return _realm(keys[0].principal) if keys else ""
        if source.owner is not None:
            with _cache_of(source.owner) as theirs:
                cache = krb5.cc_resolve(context, theirs.encode())
                return _realm(cache.principal)
        cache = krb5.cc_resolve(context, _existing(context, source, principal_name(credentials)).encode())
        return _realm(cache.principal)
    except (krb5.Krb5Error, AuthError):
        return ""


def _realm(principal: krb5.Principal | None) -> str:
    return os.fsdecode(principal.realm or b"") if principal is not None else ""


@contextmanager
def ticket_cache(credentials: Credentials) -> Iterator[str]:
    """The name of a cache with a ticket of the account, valid inside the block.

    For a keytab or a password the ticket is got anew, and its cache is in memory and gone behind the block.
    Raises `TicketError`, `AuthError`, and `krb5.Krb5Error` for what the library says.
    """
    import krb5

    source = credentials.tickets
    context = krb5.init_context()
    if is_got_anew(credentials):
        with _new_ticket(context, credentials) as name:
            yield name
    elif source.owner is not None:
        with _cache_of(source.owner) as theirs, _lasting(context, theirs) as name:
            yield name
    else:
        with _lasting(context, _existing(context, source, principal_name(credentials))) as name:
            yield name


@contextmanager
def _new_ticket(context: krb5.Context, credentials: Credentials) -> Iterator[str]:
    import krb5

    options = krb5.get_init_creds_opt_alloc(context)
    # A domain may name its users in another spelling than they do themselves.
    krb5.get_init_creds_opt_set_canonicalize(options, True)
    name = principal_name(credentials).encode()
    if credentials.tickets.keytab:
        path = credentials.tickets.keytab
        check_readable(path)
        keytab = krb5.kt_resolve(context, b"FILE:" + os.fsencode(path))
        entries = [] if name else list(keytab)
        if not name and not entries:
            raise TicketError(f"the keytab {path} is empty: check keytab=")
        # An entry owns its principal, so the list stays.
        principal = krb5.parse_name_flags(context, name) if name else entries[0].principal
        assert principal is not None
        ticket = krb5.get_init_creds_keytab(context, principal, options, keytab)
    else:
        principal = krb5.parse_name_flags(context, name)
        ticket = krb5.get_init_creds_password(context, principal, options, credentials.password.encode())
    with _in_memory(context, ticket.client, [ticket]) as cache:
        yield cache


@contextmanager
def _in_memory(context: krb5.Context, owner: krb5.Principal, tickets: list[krb5.Creds]) -> Iterator[str]:
    import krb5

    cache = krb5.cc_new_unique(context, b"MEMORY")
    try:
        krb5.cc_initialize(context, cache, owner)
        for ticket in tickets:
            krb5.cc_store_cred(context, cache, ticket)
        yield _full_name(cache)
    finally:
        krb5.cc_destroy(context, cache)


@contextmanager
def _lasting(context: krb5.Context, name: str) -> Iterator[str]:
    """The cache, or a copy without the tickets for services that are at their end: new ones are got for them.

    The library takes such a ticket up to its last second, and then fails in the middle of the log-on.
    """
    import krb5

    cache = krb5.cc_resolve(context, os.fsencode(name))
    tickets, earliest = list(cache), time.time() + _AT_ITS_END
    lasting = [ticket for ticket in tickets if _is_for_more(ticket) or ticket.times.endtime > earliest]
    if len(lasting) == len(tickets) or cache.principal is None:
        yield name
        return
    with _in_memory(context, cache.principal, lasting) as copy:
        yield copy


def end_of_service(name: str, spn: str) -> float | None:
    """When the ticket for a service that is in a cache ends, in Unix time; None if there is none."""
    import krb5

    context = krb5.init_context()
    try:
        tickets = list(krb5.cc_resolve(context, os.fsencode(name)))
    except krb5.Krb5Error:
        return None
    wanted = f"{spn}@".casefold().encode()
    ends = [
        ticket.times.endtime for ticket in tickets if (ticket.server.name or b"").lower().startswith(wanted)
    ]
    return max(ends, default=None)


def _is_for_more(ticket: krb5.Creds) -> bool:
    """Whether it is the user's own ticket, which gets others, or a note of the library, which never ends."""
    return (ticket.server.name or b"").startswith(b"krbtgt/") or not ticket.times.endtime


def check_readable(path: str) -> None:
    """Raise `TicketError` if a file of keys cannot be opened: the library would take that for a wrong key."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise TicketError(f"cannot read the keytab {path}: {error.strerror}") from None


def _existing(context: krb5.Context, source: TicketSource, principal: str) -> str:
    """The cache to use; of a collection (DIR, KEYRING) that of the principal, if one is given."""
    import krb5

    if source.cache:
        krb5.cc_set_default_name(context, os.fsencode(source.cache))
    if principal:
        wanted = krb5.parse_name_flags(context, principal.encode()).name
        for cache in krb5.cccol_iter(context):
            if cache.cache_type != b"MEMORY" and cache.principal and cache.principal.name == wanted:
                return _full_name(cache)
    return _full_name(krb5.cc_default(context))


def _full_name(cache: krb5.CCache) -> str:
    return os.fsdecode((cache.cache_type or b"FILE") + b":" + (cache.name or b""))


@contextmanager
def _cache_of(owner: int) -> Iterator[str]:
    """The cache of another user, where kinit puts it. What lies there and is not that user's is not touched.

    The file is named by its descriptor: whoever may rename files there could put another one into its place
    between the check and its use.
    """
    path = f"/tmp/krb5cc_{owner}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield f"KEYRING:persistent:{owner}"
        return
    except OSError as error:
        raise TicketError(f"cannot use the ticket cache {path}: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != owner:
            raise AuthError(f"the ticket cache {path} does not belong to user {owner}, so it is not used")
        yield f"FILE:/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
