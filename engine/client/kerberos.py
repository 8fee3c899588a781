"""Kerberos inside SPNEGO, with NTLM behind it where that is allowed ([MS-SMB2] 3.2.4.2.3, RFC 4178)."""

from __future__ import annotations

import ipaddress
import logging
import time
from dataclasses import dataclass, replace

import spnego
from spnego.exceptions import BadMechanismError

from engine.client.config import AuthKind, Credentials
from engine.client.kerberos_errors import is_understood, kerberos_error, number_of
from engine.client.ntlm import UNREADABLE, account_name, ntlm_alone
from engine.client.tickets import (
    end_of_service,
    is_got_anew,
    missing_for_kerberos,
    principal_name,
    ticket_cache,
)
from engine.errors import AuthError, KdcUnreachable, SmbError, TicketError, UnfitServer, UnknownService

log = logging.getLogger(__name__)

_NO_COMMON_MECHANISM = "the server does not take Kerberos, as servers outside of a domain: use sec=ntlmssp"


@dataclass(frozen=True, slots=True)
class Ticket:
    """The ticket that a session was set up with: whose it is, for which service, and its end in Unix time,
    with which the server ends the session."""

    principal: str
    spn: str
    end: float


class Kerberos:
    """One log-on; for the next one the ticket is taken anew. `step` blocks.

    With a `domain` the server is believed only if that domain says that it is one of its controllers.
    """

    blocks = True

    def __init__(self, credentials: Credentials, server: str, domain: str = "") -> None:
        self._credentials = credentials
        self._host = server.rstrip(".")
        self._domain = domain.rstrip(".")
        self._spn = f"cifs/{self._host}"
        self._context: spnego.ContextProxy | None = None
        self._key = b""
        self._ticket: Ticket | None = None

    @property
    def ticket(self) -> Ticket | None:
        """The ticket that was used, if the server took Kerberos."""
        return self._ticket if self.name == "Kerberos" else None

    @property
    def offered(self) -> Ticket | None:
        """The ticket that the server was shown, if one was found."""
        return self._ticket

    @property
    def name(self) -> str:
        """The protocol that both sides agreed on."""
        protocol = self._context.negotiated_protocol if self._context is not None else None
        return "Kerberos" if protocol == "kerberos" else "NTLM"

    def step(self, token: bytes | None) -> bytes | None:
        """Take the server's token, return ours. Raises `AuthError` and `KdcUnreachable`."""
        if self._context is None:
            return self._begin(token)
        try:
            answer = self._context.step(token or None)
            if self._context.complete:
                self._finish(self._context)
        except UNREADABLE as error:
            raise self._distrust(error) from error
        return answer

    def session_key(self) -> bytes:
        """The key that both sides share, of up to 32 bytes; empty before the server has proved who it is."""
        return self._key

    def _begin(self, hint: bytes | None) -> bytes | None:
        try:
            return self._begin_with_ticket(hint)
        except (AuthError, KdcUnreachable) as error:
            if self._credentials.kind is not AuthKind.NEGOTIATE or not self._credentials.password:
                raise
            log.info("no Kerberos, so NTLM is offered alone: %s", error)
        return self._offer(hint, ntlm_alone(self._credentials))

    def _begin_with_ticket(self, hint: bytes | None) -> bytes | None:
        _check_name(self._host)
        if problem := missing_for_kerberos():
            raise AuthError(problem)
        import krb5
        from gssapi.raw import GSSError

        who = principal_name(self._credentials)
        try:
            with ticket_cache(self._credentials) as cache:
                self._ticket = self._look_at(cache, "" if is_got_anew(self._credentials) else who)
                if self._domain:
                    self._check_controller(cache)
                means: list[spnego.Credential] = [spnego.KerberosCCache(cache)]
                if self._credentials.kind is AuthKind.NEGOTIATE and self._credentials.password:
                    # It is for NTLM: the library gets no ticket for it, as the cache comes first.
                    means.append(spnego.Password(account_name(self._credentials), self._credentials.password))
                answer = self._offer(hint, means)
                end = end_of_service(cache, self._spn)
                if end is not None:
                    self._ticket = replace(self._ticket, end=end)
                return answer
        except (GSSError, krb5.Krb5Error) as error:
            raise kerberos_error(error, who, self._spn) from error

    def _look_at(self, cache: str, who: str) -> Ticket:
        """Whose ticket is in a cache, and until when; the library's error says what is wrong with it."""
        import gssapi

        name = gssapi.Name(who, gssapi.NameType.user) if who else None
        found = gssapi.Credentials(
            name=name, usage="initiate", mechs=[gssapi.MechType.kerberos], store={"ccache": cache}
        )
        return Ticket(str(found.name), self._spn, time.time() + (found.lifetime or 0))

    def _check_controller(self, cache: str) -> None:
        """Have the domain say that this is one of its controllers, by a ticket for `cifs/server/domain`.

        Controllers alone have services of three parts: no other account may give itself one ([MS-ADTS]
        3.1.1.5.3.1.1.4).
        """
        import gssapi
        from gssapi.raw import GSSError

        kerberos = gssapi.MechType.kerberos
        credentials = gssapi.Credentials(usage="initiate", mechs=[kerberos], store={"ccache": cache})
        spn = f"{self._spn}/{self._domain}@{self._domain.upper()}"
        name = gssapi.Name(spn, gssapi.NameType.kerberos_principal)
        try:
            gssapi.SecurityContext(name=name, creds=credentials, usage="initiate", mech=kerberos).step()
        except GSSError as error:
            failure = kerberos_error(error, "", self._spn)
            if not isinstance(failure, UnknownService):
                raise
            raise UnknownService(
                f"Kerberos: {self._domain} leads to a server that calls itself {self._host}, and that the "
                "domain does not know as one of its controllers: check the name, and DNS"
            ) from error

    def _offer(self, hint: bytes | None, means: list[spnego.Credential]) -> bytes | None:
        context = spnego.client(
            means,
            hostname=self._host,
            service="cifs",
            protocol="negotiate",
            options=spnego.NegotiateOptions.use_negotiate,
        )
        try:
            answer = context.step(hint or None)
        except UNREADABLE as error:
            raise self._failure(error) from error
        self._context = context
        return answer

    def _failure(self, error: Exception) -> SmbError:
        """What an error of the first step means: there the ticket for the service is asked for."""
        if number_of(error) is not None:
            who = self._ticket.principal if self._ticket is not None else ""
            return kerberos_error(error, who, self._spn)
        if isinstance(error, BadMechanismError):
            return UnfitServer(_NO_COMMON_MECHANISM)
        return AuthError(f"the server's log-on messages make no sense: {error}")

    def _distrust(self, error: Exception) -> SmbError:
        """What an error of a later step means: there the server proves who it is."""
        if is_understood(error):
            return self._failure(error)
        return AuthError(f"the server could not prove that it is {self._host}: {error}")

    def _finish(self, context: spnego.ContextProxy) -> None:
        is_kerberos = context.negotiated_protocol == "kerberos"
        if not is_kerberos and self._credentials.kind is AuthKind.KERBEROS:
            raise AuthError("the server went over to another way to log on than Kerberos")
        if is_kerberos and not context.context_attr & spnego.ContextReq.mutual_auth:
            raise AuthError(f"the server did not prove that it is {self._host}")
        self._key = context.session_key


def _check_name(host: str) -> None:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    raise TicketError(
        f"Kerberos knows servers by name, and {host} is an address: mount //NAME/share, with ip= if need be"
    )
