"""Every dialect, signed, sealed and in the clear, against the fake server."""

from __future__ import annotations

import contextlib

import pytest
import trio

import engine
from engine.crypto.sealing import Cipher
from tests.fakes.server import FakeServer
from tests.unit.client.support import NOBODY, connected, settled


async def use(share: engine.Share) -> None:
    """Use most of what a share can do."""
    await share.mkdir("dir")
    async with await share.open(
        "dir\\a", access=engine.Access.READ | engine.Access.WRITE, disposition=engine.Disposition.CREATE
    ) as file:
        assert not file.existed
        assert await file.write_at(0, b"hello" * 50_000) == 250_000
        assert bytes(await file.read_at(5, 300_000)) == b"hello" * 49_999
        assert bytes(await file.read_at(250_000, 10)) == b""
        await file.flush()
        await file.truncate(100)
        assert (await file.query()).size == 100
        await file.lock(0, 10, exclusive=True, wait=False)
        await file.unlock(0, 10)
    assert (await share.stat("dir\\a")).size == 100
    await share.rename("dir\\a", "b", replace=False)
    assert await share.read_file("b", 7) == b"hellohe"
    await share.write_file("c", b"abc")
    async with contextlib.aclosing(share.scandir("")) as batches:
        names = [entry.name async for batch in batches for entry in batch]
    assert sorted(names) == ["b", "c", "dir"]
    await share.truncate("c", 1)
    await share.set_basic("c", write_ns=1_600_000_000_000_000_000)
    assert (await share.stat("c")).write_ns == 1_600_000_000_000_000_000
    await share.link("c", "d")
    assert (await share.volume_size()).total_units == 1000
    for name in "b", "c", "d":
        await share.unlink(name)
    await share.rmdir("dir")
    with pytest.raises(engine.NotFound):
        await share.stat("b")
    await share.echo()


@pytest.mark.parametrize(
    ("dialect", "seal"),
    [(dialect, False) for dialect in engine.Dialect]
    + [(dialect, True) for dialect in engine.Dialect if dialect >= engine.Dialect.SMB_3_0],
)
def test_everything_works_with(dialect: engine.Dialect, seal: bool) -> None:
    async def main() -> None:
        server = FakeServer(dialect=dialect)
        async with connected(server, engine.ConnectConfig(seal=seal)) as share:
            assert share.description.dialect is dialect
            assert share.description.encrypted is seal
            assert (share.description.cipher is not None) is seal
            await use(share)
            await settled(server, share)

    trio.run(main)


@pytest.mark.parametrize("cipher", list(Cipher), ids=str)
def test_the_server_can_demand_encryption_with(cipher: Cipher) -> None:
    async def main() -> None:
        server = FakeServer(cipher=cipher, encrypts=True)
        async with connected(server) as share:
            assert share.description.cipher == str(cipher)
            await use(share)
            await settled(server, share)

    trio.run(main)


def test_a_session_whose_signatures_nobody_demands_is_not_signed() -> None:
    async def main() -> None:
        server = FakeServer(signing_required=False)
        async with connected(server, engine.ConnectConfig(signing=False)) as share:
            assert share.description.signing is None
            await use(share)
            await settled(server, share)

    trio.run(main)


def test_an_anonymous_session() -> None:
    async def main() -> None:
        server = FakeServer(signing_required=False)
        async with connected(server, credentials=NOBODY) as share:
            assert share.description.guest
            await use(share)
            await settled(server, share)

    trio.run(main)


@pytest.mark.parametrize("dialect", list(engine.Dialect), ids=lambda dialect: dialect.name)
def test_a_guest_who_asked_to_be_one(dialect: engine.Dialect) -> None:
    async def main() -> None:
        server = FakeServer(dialect=dialect, signing_required=False, guest=True)
        credentials = engine.Credentials("somebody", "", kind=engine.AuthKind.GUEST)
        async with connected(server, credentials=credentials) as share:
            assert share.description.guest
            await use(share)
            await settled(server, share)

    trio.run(main)
