"""Short names in a real Active Directory domain: its controller is asked which domains there are."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import trio

import engine
from engine import AuthKind, ConnectConfig, Credentials, TicketSource
from tests.integration.support_engine import in_trio
from tests.support.domain import HOST, PASSWORD, REALM, USER, Domain
from tests.support.names import Names

DOMAIN = REALM.lower()
SHORT = REALM.partition(".")[0]


@pytest.fixture(autouse=True)
def _in_the_domain(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(domain.krb5_conf))
    monkeypatch.delenv("KRB5CCNAME", raising=False)


@pytest.fixture
def ticket(domain: Domain, tmp_path: Path) -> Credentials:
    """Somebody who gives no name and no domain, but has a ticket."""
    return Credentials(kind=AuthKind.KERBEROS, tickets=TicketSource(cache=domain.kinit(tmp_path / "cache")))


@pytest.fixture
def keys(domain: Domain, tmp_path: Path) -> Credentials:
    """The same with a keytab."""
    keytab = domain.make_keytab(tmp_path / "keytab")
    return Credentials(kind=AuthKind.KERBEROS, tickets=TicketSource(keytab=str(keytab)))


async def content(domain: Domain, unc: str, credentials: Credentials, **options: Any) -> bytes:
    """What the file `here` holds in the share "data" of `unc`, where the name service has the domain."""
    domain.share_path().joinpath("here").write_bytes(b"there")
    names = {DOMAIN: domain.address, HOST: domain.address}
    trio.socket.set_custom_hostname_resolver(Names(names))
    async with engine.connect(unc, credentials, ConnectConfig(port=domain.port, **options)) as share:
        return await share.read_file("here", 10)


@in_trio
async def test_a_domain_by_its_short_name(domain: Domain, ticket: Credentials) -> None:
    assert await content(domain, f"//{SHORT}/data", ticket) == b"there"


@in_trio
async def test_a_host_by_its_short_name(domain: Domain, keys: Credentials) -> None:
    assert await content(domain, f"//{HOST.partition('.')[0]}/data", keys) == b"there"


@in_trio
async def test_a_password_goes_to_the_domains_hosts_if_that_is_allowed(domain: Domain) -> None:
    account = Credentials(USER, PASSWORD, domain=DOMAIN)
    hosts = (DOMAIN, f"*.{DOMAIN}")
    assert await content(domain, f"//{SHORT}/data", account, dfs_hosts=hosts) == b"there"
    with pytest.raises(engine.HostUnknown) as caught:
        await content(domain, f"//{SHORT}/data", account)
    assert caught.value.errno == errno.EHOSTUNREACH
