"""Dialects, signatures and encryption as real servers negotiate them, seen from both sides."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from engine import AccessDenied, AuthError, ConnectConfig, Dialect, NtStatusError, RemoteProtocolError, Share
from tests.integration.support_engine import connected, in_trio, listing
from tests.support.samba import SambaServer, ShareConfig

_SIGNING = {
    Dialect.SMB_2_0_2: "HMAC-SHA256",
    Dialect.SMB_2_1: "HMAC-SHA256",
    Dialect.SMB_3_0: "AES-CMAC",
    Dialect.SMB_3_0_2: "AES-CMAC",
    Dialect.SMB_3_1_1: "AES-GMAC",
}
_CIPHER = {
    Dialect.SMB_3_0: "AES-128-CCM",
    Dialect.SMB_3_0_2: "AES-128-CCM",
    Dialect.SMB_3_1_1: "AES-128-GCM",
}


each_dialect = pytest.mark.parametrize("dialect", Dialect, ids=lambda dialect: dialect.name)


def only(dialect: Dialect, *, signing: bool = True, seal: bool = False) -> ConnectConfig:
    return ConnectConfig(min_dialect=dialect, max_dialect=dialect, signing=signing, seal=seal)


async def assert_works(share: Share) -> None:
    """Data larger than a credit, a listing, a folder: there and back."""
    name = uuid.uuid4().hex
    data = os.urandom(150_001)
    await share.mkdir(name)
    path = f"{name}\\file"
    assert (await share.write_file(path, data)).size == len(data)
    assert await share.read_file(path, 200_000) == data
    assert [entry.name for entry in await listing(share, name)] == ["file"]
    await share.unlink(path)
    await share.rmdir(name)


@pytest.fixture(scope="module")
def encrypting() -> Iterator[SambaServer]:
    """One share that demands encryption, and one that does not."""
    shares = {"data": ShareConfig(), "secret": ShareConfig(options={"smb encrypt": "required"})}
    with SambaServer(shares) as server:
        yield server


@each_dialect
@in_trio
async def test_every_dialect_signed(samba: SambaServer, dialect: Dialect) -> None:
    async with connected(samba, config=only(dialect)) as share:
        assert share.description.dialect is dialect
        assert share.description.signing == _SIGNING[dialect]
        assert not share.description.encrypted
        await assert_works(share)


@each_dialect
@in_trio
async def test_every_dialect_unsigned_where_the_server_allows_it(
    samba: SambaServer, dialect: Dialect
) -> None:
    async with connected(samba, config=only(dialect, signing=False)) as share:
        assert share.description.signing is None
        assert share.description.cipher is None
        await assert_works(share)


@each_dialect
@in_trio
async def test_every_dialect_encrypted_or_refused(samba: SambaServer, dialect: Dialect) -> None:
    config = only(dialect, seal=True)
    if dialect not in _CIPHER:
        with pytest.raises(RemoteProtocolError, match="encryption is demanded, but the server offers none"):
            async with connected(samba, config=config):
                pass
        return
    async with connected(samba, config=config) as share:
        assert share.description.encrypted
        assert share.description.cipher == _CIPHER[dialect]
        await assert_works(share)
        assert _CIPHER[dialect] in samba.smbstatus("-b")


@each_dialect
@in_trio
async def test_share_that_demands_encryption_gets_it_unasked(
    encrypting: SambaServer, dialect: Dialect
) -> None:
    config = only(dialect)
    if dialect not in _CIPHER:
        with pytest.raises(AccessDenied, match="secret"):
            async with connected(encrypting, "secret", config):
                pass
        return
    async with connected(encrypting, "secret", config) as share:
        assert share.description.encrypted
        await assert_works(share)
    async with connected(encrypting, "data", config) as share:
        assert not share.description.encrypted
        await assert_works(share)


@pytest.mark.parametrize("signing", ["hmac-sha256", "aes-128-cmac", "aes-128-gmac"])
@pytest.mark.parametrize("cipher", ["aes-128-gcm", "aes-128-ccm", "aes-256-gcm", "aes-256-ccm"])
@in_trio
async def test_every_signing_algorithm_with_every_cipher(signing: str, cipher: str) -> None:
    options = {
        "server smb3 signing algorithms": signing,
        "server smb3 encryption algorithms": cipher,
    }
    with SambaServer(global_options=options) as server:
        async with connected(server) as share:
            assert share.description.signing == signing.upper().replace("AES-128", "AES")
            await assert_works(share)
        for config in (ConnectConfig(seal=True), ConnectConfig(seal=True, signing=False)):
            async with connected(server, config=config) as share:
                assert share.description.cipher == cipher.upper()
                await assert_works(share)
                assert cipher.upper() in server.smbstatus("-b")


@each_dialect
@in_trio
async def test_server_that_demands_signatures_gets_them_unasked(dialect: Dialect) -> None:
    with SambaServer(global_options={"server signing": "mandatory"}) as server:
        async with connected(server, config=only(dialect, signing=False)) as share:
            assert share.description.signing == _SIGNING[dialect]
            await assert_works(share)


@in_trio
async def test_server_that_demands_encryption_gets_it_unasked() -> None:
    with SambaServer(global_options={"smb encrypt": "required"}) as server:
        for dialect in _CIPHER:
            for signing in (True, False):
                async with connected(server, config=only(dialect, signing=signing)) as share:
                    assert share.description.encrypted
                    await assert_works(share)
        with pytest.raises(AuthError, match="STATUS_ACCESS_DENIED"):
            async with connected(server, config=only(Dialect.SMB_2_1)):
                pass


@in_trio
async def test_encryption_demanded_of_a_server_that_has_it_switched_off() -> None:
    with SambaServer(global_options={"smb encrypt": "off"}) as server:
        with pytest.raises(RemoteProtocolError, match="encryption is demanded, but the server offers none"):
            async with connected(server, config=ConnectConfig(seal=True)):
                pass
        async with connected(server) as share:
            await assert_works(share)


@pytest.mark.parametrize(
    ("limit", "highest"),
    [
        ("SMB2_02", Dialect.SMB_2_0_2),
        ("SMB2_10", Dialect.SMB_2_1),
        ("SMB3_00", Dialect.SMB_3_0),
        ("SMB3_02", Dialect.SMB_3_0_2),
    ],
)
@in_trio
async def test_older_server_gets_the_highest_dialect_that_it_knows(limit: str, highest: Dialect) -> None:
    with SambaServer(global_options={"server max protocol": limit}) as server:
        async with connected(server) as share:
            assert share.description.dialect is highest
            await assert_works(share)


@in_trio
async def test_dialects_that_do_not_meet() -> None:
    above = ConnectConfig(min_dialect=Dialect.SMB_3_0)
    below = ConnectConfig(max_dialect=Dialect.SMB_2_1)
    sentence = "agree on a protocol version .* see the option 'vers'"
    with SambaServer(global_options={"server max protocol": "SMB2_10"}) as server:
        with pytest.raises(NtStatusError, match=sentence) as caught:
            async with connected(server, config=above):
                pass
        assert "3.0 to 3.1.1" in str(caught.value)
    modern = {"server min protocol": "SMB3_00"}
    with SambaServer(global_options=modern) as server, pytest.raises(NtStatusError, match=sentence):
        async with connected(server, config=below):
            pass
