"""Who gets in, who does not, and what they are told."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
import trio

import engine
from engine import (
    AccessDenied,
    AuthError,
    AuthKind,
    ConnectConfig,
    Credentials,
    Dialect,
    NtStatusError,
    TransportError,
)
from tests.integration.support_engine import account, connected, in_trio, listing
from tests.support.samba import (
    GUEST_GLOBAL_OPTIONS,
    GUEST_SHARE_OPTIONS,
    SambaServer,
    ShareConfig,
)
from tests.support.server import LOOPBACK

STATUS_LOGON_FAILURE = 0xC000006D
STATUS_ACCOUNT_DISABLED = 0xC0000072

GUEST = Credentials(kind=AuthKind.GUEST)
ANONYMOUS = Credentials(kind=AuthKind.ANONYMOUS)


@pytest.fixture(scope="module")
def hospitable() -> Iterator[SambaServer]:
    """Lets strangers in as guests, but only into the share "public"."""
    shares = {"data": ShareConfig(), "public": ShareConfig(options=GUEST_SHARE_OPTIONS)}
    with SambaServer(shares, global_options=GUEST_GLOBAL_OPTIONS) as server:
        yield server


async def refused(server: SambaServer, credentials: Credentials, share: str = "data") -> AuthError:
    with pytest.raises(AuthError) as caught:
        async with connected(server, share, credentials=credentials):
            pass
    assert server.password not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("dialect", Dialect, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("kind", [AuthKind.GUEST, AuthKind.ANONYMOUS])
@pytest.mark.parametrize("signing", [True, False])
@in_trio
async def test_without_an_account(
    hospitable: SambaServer, kind: AuthKind, dialect: Dialect, signing: bool
) -> None:
    config = ConnectConfig(min_dialect=dialect, max_dialect=dialect, signing=signing)
    who = Credentials(kind=kind)
    (hospitable.share_path("public") / "notice").write_text("welcome")
    async with connected(hospitable, "public", config, who) as share:
        assert share.description.guest
        assert share.description.signing is None
        assert await share.read_file("notice", 100) == b"welcome"
        assert [entry.name for entry in await listing(share, "")] == ["notice"]
    with pytest.raises(AccessDenied, match="connect to the share"):
        async with connected(hospitable, "data", config, who):
            pass


@in_trio
async def test_account_on_a_server_that_has_guests_too(hospitable: SambaServer) -> None:
    async with connected(hospitable) as share:
        assert not share.description.guest
        assert share.description.signing == "AES-GMAC"


@in_trio
async def test_domain_is_sent(samba: SambaServer) -> None:
    credentials = Credentials(samba.user, samba.password, domain="SMBMOUNT")
    async with connected(samba, credentials=credentials) as share:
        await share.stat("")


@in_trio
async def test_wrong_password(samba: SambaServer) -> None:
    error = await refused(samba, Credentials(samba.user, "wrong"))
    assert error.status == STATUS_LOGON_FAILURE
    assert error.errno == errno.EACCES
    assert f"log-on as '{samba.user}' refused" in str(error)
    assert "STATUS_LOGON_FAILURE" in str(error)


@in_trio
async def test_empty_password(samba: SambaServer) -> None:
    assert (await refused(samba, Credentials(samba.user, ""))).status == STATUS_LOGON_FAILURE


@in_trio
async def test_unknown_user(samba: SambaServer) -> None:
    error = await refused(samba, Credentials("nobody-of-this-name", samba.password))
    assert error.status == STATUS_LOGON_FAILURE


@in_trio
async def test_unknown_user_does_not_silently_become_a_guest(hospitable: SambaServer) -> None:
    error = await refused(hospitable, Credentials("nobody-of-this-name", "secret"), "public")
    assert "only as a guest" in str(error)


@pytest.mark.parametrize("who", [GUEST, ANONYMOUS])
@in_trio
async def test_encryption_without_an_account(hospitable: SambaServer, who: Credentials) -> None:
    with pytest.raises(AuthError, match="no key to encrypt with"):
        async with connected(hospitable, "public", ConnectConfig(seal=True), who):
            pass


@in_trio
async def test_guest_where_none_are_wanted(samba: SambaServer) -> None:
    error = await refused(samba, GUEST)
    assert error.status == STATUS_LOGON_FAILURE
    assert "log-on as 'guest' refused" in str(error)


@in_trio
async def test_disabled_account() -> None:
    with SambaServer() as server:
        await trio.run_process(["smbpasswd", "-c", server.conf, "-d", server.user], capture_stdout=True)
        error = await refused(server, account(server))
        assert error.status == STATUS_ACCOUNT_DISABLED


@in_trio
async def test_share_that_does_not_exist(samba: SambaServer) -> None:
    with pytest.raises(NtStatusError, match=r"connect to the share .* no share of that name") as caught:
        async with connected(samba, "no-such-share"):
            pass
    assert caught.value.errno == errno.ENOENT
    assert caught.value.name == "STATUS_BAD_NETWORK_NAME"


@in_trio
async def test_share_that_the_account_may_not_use() -> None:
    shares = {"data": ShareConfig(options={"valid users": "root"})}
    with SambaServer(shares) as server, pytest.raises(AccessDenied, match="connect to the share"):
        async with connected(server):
            pass


@pytest.mark.parametrize("seal", [True, False])
@in_trio
async def test_pipe_share_connects(samba: SambaServer, seal: bool) -> None:
    async with connected(samba, "IPC$", ConnectConfig(seal=seal)) as share:
        await share.echo()
        assert share.description.encrypted is seal
        with pytest.raises(NtStatusError):
            await share.stat("")
        await share.echo()


@in_trio
async def test_several_connections_and_accounts_at_once(hospitable: SambaServer) -> None:
    async with (
        connected(hospitable) as first,
        connected(hospitable) as second,
        connected(hospitable, "public", credentials=GUEST) as third,
    ):
        await first.write_file("from-first", b"1")
        assert await second.read_file("from-first", 10) == b"1"
        await second.unlink("from-first")
        assert third.description.guest
        await third.stat("")


@in_trio
async def test_nothing_listens_there() -> None:
    with SambaServer() as server:
        server.stop_service()
        sentence = f"nothing listens on TCP port {server.port} of {LOOPBACK}"
        with pytest.raises(TransportError, match=sentence) as caught:
            async with connected(server):
                pass
    assert caught.value.errno == errno.ECONNREFUSED


@in_trio
async def test_host_name_that_does_not_exist(samba: SambaServer) -> None:
    config = ConnectConfig(address="no-such-host.invalid")
    with pytest.raises(TransportError, match="cannot be resolved"):
        async with connected(samba, config=config):
            pass


@in_trio
async def test_address_takes_the_place_of_the_server_s_name(samba: SambaServer) -> None:
    unc = f"//a-name-of-its-own:{samba.port}/data"
    async with engine.connect(unc, account(samba), ConnectConfig(address=LOOPBACK)) as share:
        assert share.description.address == LOOPBACK
        await share.stat("")
