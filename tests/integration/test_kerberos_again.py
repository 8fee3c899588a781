"""Kerberos the second time: sessions that end, connections that are lost, tickets that are gone meanwhile."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import pytest
import trio

import engine
from engine import AuthKind, ConnectConfig, Credentials, Disposition, Share, TicketError, TicketSource
from engine.client.link import Link
from engine.errors import TransportError
from tests.integration.support_engine import READ_WRITE, in_trio
from tests.support.domain import HOST, PASSWORD, USER, Domain

_LIFETIME: Final = 9


@pytest.fixture(autouse=True)
def _in_the_domain(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(domain.krb5_conf))
    monkeypatch.delenv("KRB5CCNAME", raising=False)


def connected(domain: Domain, credentials: Credentials) -> AbstractAsyncContextManager[Share]:
    config = ConnectConfig(address=domain.address, reconnect=True)
    return engine.connect(f"//{HOST}:{domain.port}/data", credentials, config)


def from_cache(cache: str) -> Credentials:
    return Credentials(kind=AuthKind.KERBEROS, tickets=TicketSource(cache=cache))


def link_of(share: Share) -> Link:
    link = share._tree.link
    assert isinstance(link, Link)
    return link


def lose(share: Share) -> None:
    """Have the connection end from this side."""
    share._tree.connection.abort(TransportError("cut by the test"))


@pytest.mark.parametrize("way", ["cache", "keytab", "password"])
@in_trio
async def test_session_that_has_ended_is_renewed(domain: Domain, tmp_path: Path, way: str) -> None:
    """[MS-SMB2] 3.2.5.1.6: on the same connection and session, whose keys and open files stay."""
    cache = domain.kinit(tmp_path / "cache")
    end = domain.get_service_ticket(cache, _LIFETIME)
    async with connected(domain, from_cache(cache)) as share:
        name = f"renewed by {way}"
        file = await share.open(name, access=READ_WRITE, disposition=Disposition.CREATE)
        first, before = file.file_id, share.description
        # The session is to end soon, which no ticket of a keytab or a password does.
        if way == "keytab":
            keytab = domain.make_keytab(tmp_path / "keytab")
            tickets = TicketSource(keytab=str(keytab))
            link_of(share)._way.credentials = Credentials(kind=AuthKind.KERBEROS, tickets=tickets)
        elif way == "password":
            link_of(share)._way.credentials = Credentials(USER, PASSWORD, kind=AuthKind.KERBEROS)
        await trio.sleep(end - time.time())
        await file.write_at(0, b"after")
        assert file.file_id == first
        trips = share.statistics().trips
        assert (trips["NEGOTIATE"], trips["SESSION_SETUP"]) == (1, 2)
        assert before.ticket is not None
        assert share.description.ticket is not None
        assert share.description.ticket.principal == before.ticket.principal
        await file.close()
        assert await share.read_file(name, 10) == b"after"
        await share.unlink(name)


@in_trio
async def test_ticket_is_taken_anew_for_each_connection(domain: Domain, tmp_path: Path) -> None:
    cache = domain.kinit(tmp_path / "cache")
    async with connected(domain, from_cache(cache)) as share:
        before = share.description.ticket
        lose(share)
        await share.stat("")
        assert share.description.ticket is not None
        assert before is not None
        assert share.description.ticket.end == pytest.approx(before.end, abs=2)
        domain.kinit(tmp_path / "cache", "-l", "1h")
        lose(share)
        await share.stat("")
        assert share.description.ticket.end == pytest.approx(time.time() + 3600, abs=30)


@pytest.mark.expected_warnings("refuses us since the connection was lost: .* there is no ticket")
@in_trio
async def test_ticket_that_is_gone_is_an_error_at_once_and_kinit_ends_it(
    domain: Domain, tmp_path: Path
) -> None:
    cache = domain.kinit(tmp_path / "cache")
    async with connected(domain, from_cache(cache)) as share:
        Path(cache.removeprefix("FILE:")).unlink()  # noqa: ASYNC240
        lose(share)
        with pytest.raises(TicketError, match="run kinit"):
            await share.stat("")
        began = trio.current_time()
        domain.kinit(tmp_path / "cache")
        await share.wait_returned()
        await share.stat("")
        # A refusal of the server would be asked about again after half a minute.
        assert trio.current_time() - began < 10
