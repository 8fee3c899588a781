"""Kerberos in a real Active Directory domain: who gets in, how it is protected, and what refusals say."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

import engine
from engine import (
    AuthError,
    AuthKind,
    ConnectConfig,
    Credentials,
    Dialect,
    KdcUnreachable,
    Share,
    SmbError,
    TicketError,
    TicketSource,
    TransportError,
)
from engine.client import kerberos
from engine.client.ntlm import Ntlm
from tests.integration.support_engine import in_trio
from tests.support.domain import ALIAS, HOST, OTHER_USER, PASSWORD, REALM, USER, Domain
from tests.support.samba import SambaServer
from tests.support.server import HarnessError
from tests.support.tools import wait_until

_KERBEROS = bytes.fromhex("06092a864886f712010202")
"""The mechanism's object identifier (RFC 4121)."""

WITH_PASSWORD = Credentials(USER, PASSWORD, kind=AuthKind.KERBEROS)


@pytest.fixture(autouse=True)
def _in_the_domain(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(domain.krb5_conf))
    monkeypatch.delenv("KRB5CCNAME", raising=False)


@pytest.fixture(scope="module")
def cache(domain: Domain, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache with a ticket of the user."""
    return domain.kinit(tmp_path_factory.mktemp("tickets") / "cache")


@pytest.fixture(scope="module")
def keytab(domain: Domain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's keys."""
    return domain.make_keytab(tmp_path_factory.mktemp("keys") / "keytab")


def ticket(cache: str = "", **more: Any) -> Credentials:
    return Credentials(kind=AuthKind.KERBEROS, tickets=TicketSource(cache=cache), **more)


def from_keytab(keytab: Path, username: str = "") -> Credentials:
    return Credentials(username, kind=AuthKind.KERBEROS, tickets=TicketSource(keytab=str(keytab)))


def connected(
    domain: Domain, credentials: Credentials, host: str = HOST, config: ConnectConfig | None = None
) -> AbstractAsyncContextManager[Share]:
    config = replace(config or ConnectConfig(), address=domain.address)
    return engine.connect(f"//{host}:{domain.port}/data", credentials, config)


async def assert_works(share: Share) -> None:
    """Data larger than a credit, there and back."""
    name, data = uuid.uuid4().hex, os.urandom(150_001)
    await share.write_file(name, data)
    assert await share.read_file(name, 200_000) == data
    await share.unlink(name)


async def refused(
    domain: Domain, credentials: Credentials, host: str = HOST, config: ConnectConfig | None = None
) -> SmbError:
    with pytest.raises(SmbError) as caught:
        async with connected(domain, credentials, host, config):
            pass
    assert PASSWORD not in str(caught.value)
    return caught.value


# Protection


@pytest.mark.parametrize("dialect", Dialect, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("seal", [False, True], ids=["signed", "sealed"])
@in_trio
async def test_every_dialect_signed_and_sealed(
    domain: Domain, cache: str, dialect: Dialect, seal: bool
) -> None:
    config = ConnectConfig(min_dialect=dialect, max_dialect=dialect, seal=seal)
    if seal and dialect < Dialect.SMB_3_0:
        assert "encryption is demanded" in str(await refused(domain, ticket(cache), config=config))
        return
    async with connected(domain, ticket(cache), config=config) as share:
        description = share.description
        assert (description.dialect, description.encrypted) == (dialect, seal)
        assert description.authentication == "Kerberos"
        assert description.signing is not None
        await assert_works(share)


@pytest.mark.parametrize("cipher", ["AES-256-GCM", "AES-256-CCM", "AES-128-CCM"])
@in_trio
async def test_full_session_key_makes_keys_of_aes_256(domain: Domain, cache: str, cipher: str) -> None:
    """[MS-SMB2] 3.2.5.3.3: the ticket's key has 32 bytes, and all other keys come from the first 16."""
    with domain.configured(server_smb3_encryption_algorithms=cipher):
        async with connected(domain, ticket(cache), config=ConnectConfig(seal=True)) as share:
            assert share.description.cipher == cipher
            await assert_works(share)


@in_trio
async def test_aes_256_with_a_session_key_of_ntlm(domain: Domain) -> None:
    with domain.configured(server_smb3_encryption_algorithms="AES-256-GCM"):
        credentials = Credentials(USER, PASSWORD, "EXAMPLE")
        async with connected(domain, credentials, config=ConnectConfig(seal=True)) as share:
            assert share.description.cipher == "AES-256-GCM"
            assert share.description.authentication == "NTLM"
            assert share.description.ticket is None
            await assert_works(share)


# Where tickets come from


@in_trio
async def test_ticket_of_a_cache(domain: Domain, cache: str) -> None:
    async with connected(domain, ticket(cache)) as share:
        used = share.description.ticket
        assert used is not None
        assert used.principal == f"{USER}@{REALM}"
        assert used.spn == f"cifs/{HOST}"


@in_trio
async def test_cache_of_the_variable(domain: Domain, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5CCNAME", cache)
    async with connected(domain, ticket()) as share:
        await assert_works(share)


@pytest.mark.parametrize("who", [USER, OTHER_USER, f"{OTHER_USER}@{REALM}"])
@in_trio
async def test_user_of_a_collection(domain: Domain, tmp_path: Path, who: str) -> None:
    collection = f"DIR:{tmp_path}"
    for number, user in enumerate((USER, OTHER_USER)):
        domain.kinit(f"DIR::{tmp_path}/tkt{number}", user=user)
    async with connected(domain, ticket(collection, username=who)) as share:
        assert share.description.ticket is not None
        assert share.description.ticket.principal == f"{who.partition('@')[0]}@{REALM}"


@pytest.mark.parametrize("username", ["", USER, f"{USER}@{REALM}"])
@in_trio
async def test_keytab(domain: Domain, keytab: Path, username: str) -> None:
    async with connected(domain, from_keytab(keytab, username)) as share:
        assert share.description.ticket is not None
        assert share.description.ticket.principal == f"{USER}@{REALM}"
        await assert_works(share)


@pytest.mark.parametrize(
    ("username", "of_domain"),
    [(USER, ""), (USER, "EXAMPLE"), (USER, "example.test"), (f"{USER}@{REALM}", ""), (USER.upper(), "")],
)
@in_trio
async def test_password(domain: Domain, username: str, of_domain: str) -> None:
    before = set(domain.base.rglob("*cache*"))
    credentials = Credentials(username, PASSWORD, of_domain, kind=AuthKind.KERBEROS)
    async with connected(domain, credentials) as share:
        assert share.description.authentication == "Kerberos"
        await assert_works(share)
    assert set(domain.base.rglob("*cache*")) == before


@pytest.fixture
def theirs(cache: str) -> Iterator[Path]:
    """A copy of the cache where that of another user would be; the owner, in its name, is root yet."""
    owner = 60_000 + os.getpid() % 4_000
    path = Path(f"/tmp/krb5cc_{owner}")
    try:
        path.write_bytes(Path(cache.removeprefix("FILE:")).read_bytes())
        yield path
    finally:
        path.unlink(missing_ok=True)


def owned(path: Path) -> Credentials:
    owner = int(path.name.rpartition("_")[2])
    return Credentials(kind=AuthKind.KERBEROS, tickets=TicketSource(owner=owner))


@pytest.fixture
def keyring(domain: Domain) -> Iterator[int]:
    """The user in whose persistent keyring a ticket is."""
    owner = 60_000 + os.getpid() % 4_000
    try:
        domain.kinit(f"KEYRING:persistent:{owner}")
    except HarnessError as error:
        pytest.skip(f"containers often forbid keyrings: {error}")
    yield owner
    domain.kdestroy(f"KEYRING:persistent:{owner}")


@in_trio
async def test_ticket_in_a_keyring(domain: Domain, keyring: int) -> None:
    by_name, by_owner = TicketSource(f"KEYRING:persistent:{keyring}"), TicketSource(owner=keyring)
    for source in (by_name, by_owner):
        async with connected(domain, Credentials(kind=AuthKind.KERBEROS, tickets=source)) as share:
            assert share.description.ticket is not None


@in_trio
async def test_cache_of_another_user(domain: Domain, theirs: Path) -> None:
    credentials = owned(theirs)
    assert "does not belong to user" in str(await refused(domain, credentials))
    owner = credentials.tickets.owner or 0
    os.chown(theirs, owner, owner)
    async with connected(domain, credentials) as share:
        await assert_works(share)


def test_another_user_s_cache_is_not_followed(domain: Domain, theirs: Path, cache: str) -> None:
    theirs.unlink()
    assert isinstance(trio.run(refused, domain, owned(theirs)), TicketError)
    theirs.symlink_to(cache.removeprefix("FILE:"))
    assert "cannot use the ticket cache" in str(trio.run(refused, domain, owned(theirs)))


# Names of the server


@pytest.mark.parametrize("host", [ALIAS, "dc1", HOST.upper(), f"{HOST}."])
@in_trio
async def test_other_names_of_the_server(domain: Domain, cache: str, host: str) -> None:
    async with connected(domain, ticket(cache), host) as share:
        assert share.description.authentication == "Kerberos"


@in_trio
async def test_name_that_the_domain_does_not_know(domain: Domain, cache: str) -> None:
    error = await refused(domain, ticket(cache), "unknown.example.test")
    assert isinstance(error, TicketError)
    assert "the domain knows no service cifs/unknown.example.test" in str(error)


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
@in_trio
async def test_address_instead_of_a_name(domain: Domain, cache: str, address: str) -> None:
    error = await refused(domain, ticket(cache), address)
    assert "Kerberos knows servers by name" in str(error)


@in_trio
async def test_name_of_another_server_s_account(domain: Domain, cache: str) -> None:
    """The domain gives a ticket, and the server has not the key to read it with."""
    domain.samba_tool("user", "create", "other-server", PASSWORD)
    domain.samba_tool("spn", "add", "cifs/other.example.test", "other-server")
    error = await refused(domain, ticket(cache), "other.example.test")
    assert isinstance(error, AuthError)


@pytest.mark.parametrize(
    "token",
    [bytes.fromhex("a1073005a0030a0100"), bytes.fromhex("a1073005a0030a0101"), b"NTLMSSP\0" + bytes(40)],
    ids=["accepted without proof", "not rejected", "NTLM"],
)
def test_server_that_says_yes_without_a_proof(domain: Domain, cache: str, token: bytes) -> None:
    log_on = kerberos.Kerberos(ticket(cache), HOST)
    assert log_on.step(None)
    with pytest.raises(AuthError, match=f"could not prove that it is {HOST}"):
        log_on.step(token)
    assert log_on.session_key() == b""


# Refusals


@in_trio
async def test_no_ticket(domain: Domain, tmp_path: Path) -> None:
    error = await refused(domain, ticket(f"FILE:{tmp_path}/none"))
    assert isinstance(error, TicketError)
    assert error.errno == errno.ENOKEY
    assert "run kinit" in str(error)


@in_trio
async def test_cache_that_holds_something_else(domain: Domain, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"nonsense")
    error = await refused(domain, ticket(f"FILE:{tmp_path}/cache"))
    assert "the ticket cache cannot be used" in str(error)


@in_trio
async def test_cache_of_somebody_else_than_the_user_given(domain: Domain, cache: str) -> None:
    error = await refused(domain, ticket(cache, username=OTHER_USER))
    assert f"holds no ticket of {OTHER_USER}" in str(error)


@in_trio
async def test_expired_ticket(domain: Domain, tmp_path: Path) -> None:
    cache = domain.kinit(tmp_path / "cache", "-l", "1s")
    await trio.to_thread.run_sync(wait_until_expired, domain, cache)
    error = await refused(domain, ticket(cache))
    assert isinstance(error, TicketError)
    assert error.errno == errno.EKEYEXPIRED
    assert "the ticket has expired: run kinit" in str(error)


def wait_until_expired(domain: Domain, cache: str) -> None:
    command = ["klist", "-s", "-c", cache]
    wait_until(
        lambda: subprocess.run(command, env=domain.environ, check=False).returncode != 0, "the ticket's end"
    )


@in_trio
async def test_wrong_password(domain: Domain) -> None:
    error = await refused(domain, replace(WITH_PASSWORD, password="wrong"))
    assert isinstance(error, AuthError)
    assert not isinstance(error, TicketError)
    assert f"does not accept the password or key of {USER}" in str(error)


@in_trio
async def test_unknown_user(domain: Domain) -> None:
    error = await refused(domain, replace(WITH_PASSWORD, username="nobody"))
    assert not isinstance(error, TicketError)
    assert "knows no user nobody" in str(error)


@in_trio
async def test_unknown_realm(domain: Domain) -> None:
    error = await refused(domain, replace(WITH_PASSWORD, username=f"{USER}@NOWHERE.TEST"))
    assert "no KDC is known for the realm" in str(error)


@in_trio
async def test_disabled_account(domain: Domain) -> None:
    domain.samba_tool("user", "create", "retired", PASSWORD)
    domain.samba_tool("user", "disable", "retired")
    error = await refused(domain, replace(WITH_PASSWORD, username="retired"))
    assert not isinstance(error, TicketError)
    assert "disabled, locked or expired" in str(error)


@in_trio
async def test_keytab_of_nobody_or_of_somebody_else(domain: Domain, keytab: Path, tmp_path: Path) -> None:
    assert "cannot read the keytab" in str(await refused(domain, from_keytab(tmp_path / "none")))
    assert "no key of bob" in str(await refused(domain, from_keytab(keytab, OTHER_USER)))
    (tmp_path / "keytab").write_bytes(b"\5\2")
    assert "is empty" in str(await refused(domain, from_keytab(tmp_path / "keytab")))


@in_trio
async def test_keytab_with_keys_of_before_the_password_was_changed(domain: Domain, tmp_path: Path) -> None:
    domain.samba_tool("user", "create", "changing", PASSWORD)
    keytab = domain.make_keytab(tmp_path / "keytab", user="changing")
    domain.samba_tool("user", "setpassword", "changing", f"--newpassword={PASSWORD}2")
    error = await refused(domain, from_keytab(keytab))
    assert not isinstance(error, TicketError)
    assert "does not accept the password or key of" in str(error)


@in_trio
async def test_server_outside_of_the_domain(domain: Domain, samba: SambaServer, cache: str) -> None:
    with pytest.raises(TicketError, match="does not take Kerberos"):
        async with engine.connect(
            f"//{HOST}:{samba.port}/data", ticket(cache), ConnectConfig(address=samba.address)
        ):
            pass


@in_trio
async def test_packages_that_are_missing(domain: Domain, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kerberos, "missing_for_kerberos", lambda: "pip install 'smbmount[kerberos]'")
    assert "pip install 'smbmount[kerberos]'" in str(await refused(domain, ticket(cache)))


# A KDC that is away


@in_trio
async def test_no_kdc_there(domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = domain.write_krb5_conf(tmp_path / "krb5.conf", kdc="127.0.0.1:1")
    monkeypatch.setenv("KRB5_CONFIG", str(config))
    error = await refused(domain, WITH_PASSWORD)
    assert isinstance(error, KdcUnreachable)
    assert "no KDC of the domain answers" in str(error)


@pytest.fixture
def silent_kdc() -> Iterator[str]:
    """The address of a KDC that takes everything and answers nothing."""
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        stream.bind(("127.0.0.1", 0))
        datagrams.bind(stream.getsockname())
        stream.listen()
        yield "{}:{}".format(*stream.getsockname())


@in_trio
async def test_silent_kdc_holds_up_nobody_else(
    domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_kdc: str
) -> None:
    config = domain.write_krb5_conf(tmp_path / "krb5.conf", kdc=silent_kdc)
    monkeypatch.setenv("KRB5_CONFIG", str(config))
    ticks = 0

    async def count() -> None:
        nonlocal ticks
        while True:
            await trio.sleep(0.01)
            ticks += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        error = await refused(domain, WITH_PASSWORD, config=ConnectConfig(timeout=1))
        nursery.cancel_scope.cancel()
    assert isinstance(error, TransportError)
    assert ticks > 20


# Kerberos first, NTLM second


def test_ntlm_alone_offers_no_kerberos_and_asks_no_kdc(
    domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_kdc: str
) -> None:
    """It is asked for on the event loop, where nobody may wait."""
    credentials = Credentials(f"{USER}@{REALM}", PASSWORD)
    assert _KERBEROS in (kerberos.Kerberos(WITH_PASSWORD, HOST).step(None) or b"")
    assert _KERBEROS not in (Ntlm(credentials, HOST).step(None) or b"")
    config = domain.write_krb5_conf(tmp_path / "krb5.conf", kdc=silent_kdc)
    monkeypatch.setenv("KRB5_CONFIG", str(config))
    began = time.monotonic()
    assert Ntlm(credentials, HOST).step(None)
    assert time.monotonic() - began < 1


@in_trio
async def test_negotiation_prefers_kerberos(domain: Domain, cache: str) -> None:
    both = replace(WITH_PASSWORD, kind=AuthKind.NEGOTIATE)
    for credentials in (both, replace(ticket(cache), kind=AuthKind.NEGOTIATE)):
        async with connected(domain, credentials) as share:
            assert share.description.authentication == "Kerberos"
            await assert_works(share)


@pytest.mark.parametrize("host", ["unknown.example.test", "127.0.0.1"])
@in_trio
async def test_negotiation_goes_on_to_ntlm(domain: Domain, host: str) -> None:
    both = replace(WITH_PASSWORD, kind=AuthKind.NEGOTIATE)
    async with connected(domain, both, host) as share:
        assert share.description.authentication == "NTLM"
        assert share.description.ticket is None
        await assert_works(share)


@in_trio
async def test_negotiation_without_ticket_and_password(domain: Domain) -> None:
    error = await refused(domain, replace(ticket(), kind=AuthKind.NEGOTIATE))
    assert "run kinit" in str(error)
