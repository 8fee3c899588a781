r"""Short names: of hosts, which get a domain, and of domains, whose controllers are asked for.

Windows calls the servers of a tree, and domains, by names of one part unless it is told otherwise; only
names of DNS lead to addresses here. What stands in the account, and in the name that was asked for first,
tells which domain is meant; a controller of that one knows all that it trusts ([MS-DFSC] 3.1.4.2).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Iterable

import trio

from engine.client.config import AuthKind, Credentials
from engine.client.tickets import realm_of
from engine.client.trust import domains_of
from engine.errors import SmbError
from engine.proto.referrals import NameList

log = logging.getLogger(__name__)

Ask = Callable[[str, str], Awaitable[list[NameList]]]
"""Asks a controller, the first argument, about a domain, or with "" about all that it knows. Raises
`SmbError`."""


class ShortNames:
    """Finds out what short names stand for; what controllers said is kept until it expires.

    `origin` is the host, or the domain, that was asked for first.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._domains: dict[str, dict[str, NameList]] = {}
        self._controllers: dict[str, NameList] = {}

    async def hosts(self, name: str, port: int, credentials: Credentials, ask: Ask) -> list[str]:
        """The hosts that `name` may stand for, in the order in which they are to be tried.

        None if nothing is known of it: it has dots, no domain does, or no controller answers.
        """
        if "." in name or ":" in name:
            return []
        domains = await self._suffixes(credentials)
        for domain in domains:
            if await _is_known(f"{name}.{domain}", port):
                return [f"{name}.{domain}"]
        for domain in domains:
            try:
                found = await self._controllers_of(name, domain, ask)
            except SmbError as error:
                log.debug("%s does not say what domains there are: %s", domain, error)
            else:
                if found:
                    return found
        return []

    async def _suffixes(self, credentials: Credentials) -> list[str]:
        """The domains that short names may be in: that of what was asked for first, and the account's."""
        realm = credentials.domain if "." in credentials.domain else credentials.username.partition("@")[2]
        if not realm and credentials.kind in (AuthKind.KERBEROS, AuthKind.NEGOTIATE):
            realm = await trio.to_thread.run_sync(realm_of, credentials, abandon_on_cancel=True)
        found = [*domains_of(self._origin), realm.casefold()]
        return list(dict.fromkeys(domain for domain in found if "." in domain))

    async def _controllers_of(self, name: str, home: str, ask: Ask) -> list[str]:
        """The controllers of a domain that those of `home` know; none if they do not."""
        key, known = name.casefold(), self._domains.get(home, {})
        if not _lasting(known.values()):
            known = self._domains[home] = {one.name.casefold(): one for one in await ask(home, "")}
        if key not in known:
            return []
        found = self._controllers.get(key)
        if found is None or not _lasting([found]):
            answer = [one for one in await ask(home, name) if one.name.casefold() == key]
            if not answer:
                return []
            found = self._controllers[key] = answer[0]
        # A domain that is called by its short name has its controllers called by theirs.
        long = (one for one in (home, *known) if "." in one and one in known)
        domain = next((one for one in long if f".{home}".endswith(f".{one}")), home)
        return [host if "." in host else f"{host}.{domain}" for host in found.controllers]


def _lasting(lists: Iterable[NameList]) -> bool:
    """Whether there is something, and none of it has expired."""
    now = trio.current_time()
    ends = [one.expires for one in lists]
    return bool(ends) and min(ends) > now


async def _is_known(host: str, port: int) -> bool:
    """Whether the name service has a host of that name."""
    try:
        return bool(await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (socket.gaierror, UnicodeError):
        return False
