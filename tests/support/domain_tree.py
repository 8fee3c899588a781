"""A distributed tree in a domain: its root is on the controller, its links lead to two members."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.dfs import LinkedServers
from tests.support.domain import HOST, REALM, Domain
from tests.support.member import Member
from tests.support.mounting import CHECKOUT
from tests.support.samba import SambaServer
from tests.support.server import ThrowAwayServer

DOMAIN_NAME: Final = REALM.lower()
"""The domain's own name, which leads to its controllers."""

FOREIGN: Final = "nas.elsewhere.test"
"""A name of the first member that is not one of the domain."""

_PRELOAD: Final = Path(__file__).parent / "preload"


class DomainTree(LinkedServers):
    """`domain` has the share `dfs`, which `link` fills; `first` and `second` have `data` and `dfs`."""

    def __init__(self, domain: Domain, first: Member, second: Member) -> None:
        super().__init__(domain.port)
        self.domain = domain
        self.first = first
        self.second = second
        self.names = {
            DOMAIN_NAME: domain.address,
            HOST: domain.address,
            first.name: first.address,
            second.name: second.address,
            FOREIGN: first.address,
        }
        """What DNS would say."""

    @property
    def namespace(self) -> Domain:
        """Whose share `dfs` links are made in."""
        return self.domain

    @property
    def servers(self) -> tuple[ThrowAwayServer, ...]:
        """Those that may be stopped."""
        return self.first, self.second

    @staticmethod
    def target(server: SambaServer, path: str) -> str:
        r"""How a link names a folder of a member: `host\share\folder`."""
        assert isinstance(server, Member)
        return f"{server.name}\\{path}"

    def environ(self, cache: str) -> dict[str, str]:
        """What a mount needs to be in this domain, with the tickets of `cache`."""
        hosts = self.domain.base / "hosts"
        hosts.write_text("".join(f"{address} {name}\n" for name, address in self.names.items()))
        return {
            "KRB5_CONFIG": str(self.domain.krb5_conf),
            "KRB5CCNAME": cache,
            "PYTHONPATH": f"{_PRELOAD}:{CHECKOUT}",
            "SMBMOUNT_TEST_HOSTS": str(hosts),
        }


@contextmanager
def grown(domain: Domain) -> Iterator[DomainTree]:
    """Two members of a domain, and the tree."""
    with Member(domain, "fs1") as first, Member(domain, "fs2") as second:
        yield DomainTree(domain, first, second)
