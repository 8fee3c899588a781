"""A man between the client and a real server who makes both settle for less: nothing of it gets through."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable

import pytest
import trio

import engine
from engine import ConnectConfig, Dialect
from engine.wire.constants import Capabilities, Command, SessionFlags
from engine.wire.negotiate import (
    EncryptionCapabilities,
    NegotiateRequest,
    NegotiateResponse,
    PreauthIntegrityCapabilities,
    SigningCapabilities,
)
from tests.fakes.middleman import Change, answering, choosing, in_the_middle, offering, unchanged
from tests.integration.support_engine import account, in_trio
from tests.support.connections import kill_connections
from tests.support.logcheck import ExpectedWarnings
from tests.support.samba import SambaServer, ShareConfig

UP_TO_3_0_2 = Dialect.SMB_3_0_2


async def attempt(
    server: SambaServer,
    up: Change = unchanged,
    down: Change = unchanged,
    config: ConnectConfig | None = None,
) -> engine.SmbError | None:
    """Connect through the man in the middle and use the share; what it ends with."""
    async with in_the_middle(server.port, up=up, down=down) as port:
        try:
            async with engine.connect(f"//127.0.0.1:{port}/data", account(server), config) as share:
                await share.stat("")
        except engine.SmbError as error:
            return error
    return None


async def refused(
    server: SambaServer, up: Change = unchanged, down: Change = unchanged, config: ConnectConfig | None = None
) -> engine.SmbError:
    """The attempt fails on the way to the share, and not by the server's word alone."""
    error = await attempt(server, up, down, config)
    assert isinstance(error, engine.RemoteProtocolError | engine.TransportError | engine.AuthError), error
    return error


def only(*dialects: Dialect) -> Callable[[NegotiateRequest], None]:
    """Offers no more than these."""

    def change(request: NegotiateRequest) -> None:
        request.dialects = [dialect for dialect in request.dialects if dialect in dialects]

    return change


def without(*types: type) -> Callable[[NegotiateRequest | NegotiateResponse], None]:
    """Lacks these contexts."""

    def change(message: NegotiateRequest | NegotiateResponse) -> None:
        message.contexts = [one for one in message.contexts if not isinstance(one, types)]

    return change


def replaced(
    context: EncryptionCapabilities | SigningCapabilities | PreauthIntegrityCapabilities,
) -> Callable[[NegotiateRequest | NegotiateResponse], None]:
    """Has this context instead of its own."""

    def change(message: NegotiateRequest | NegotiateResponse) -> None:
        message.contexts = [context if type(one) is type(context) else one for one in message.contexts]

    return change


def field(name: str, value: object) -> Callable[[NegotiateRequest | NegotiateResponse], None]:
    """Says something else in one field."""

    def change(message: NegotiateRequest | NegotiateResponse) -> None:
        assert getattr(message, name) != value, "nothing would be changed"
        setattr(message, name, value)

    return change


def lacking(capability: Capabilities) -> Callable[[NegotiateRequest | NegotiateResponse], None]:
    """Cannot do this any more."""

    def change(message: NegotiateRequest | NegotiateResponse) -> None:
        assert message.capabilities & capability
        message.capabilities &= ~int(capability)

    return change


def older(response: NegotiateResponse) -> None:
    """The server seems to have chosen 3.0.2."""
    response.dialect_revision, response.contexts = Dialect.SMB_3_0_2, ()


OFFERS: dict[str, Callable[[NegotiateRequest], None]] = {
    "no 3.1.1": only(*(one for one in Dialect if one < Dialect.SMB_3_1_1)),
    "nothing with encryption": only(Dialect.SMB_2_0_2, Dialect.SMB_2_1),
    "the oldest alone": only(Dialect.SMB_2_0_2),
    "no ciphers": without(EncryptionCapabilities),
    "the slowest cipher": replaced(EncryptionCapabilities([1])),
    "no signing algorithms": without(SigningCapabilities),
    "the oldest signing algorithm": replaced(SigningCapabilities([0])),
    "another salt": replaced(PreauthIntegrityCapabilities([1], bytes(32))),
    "signing not required": field("security_mode", 1),
    "no signing": field("security_mode", 0),
    "no encryption": lacking(Capabilities.ENCRYPTION),
    "no capabilities": field("capabilities", 0),
    "another client": field("client_guid", uuid.UUID(int=5)),
}
CHOICES: dict[str, Callable[[NegotiateResponse], None]] = {
    "an older dialect": older,
    "no cipher": without(EncryptionCapabilities),
    "another cipher": replaced(EncryptionCapabilities([1])),
    "no signing algorithm": without(SigningCapabilities),
    "another signing algorithm": replaced(SigningCapabilities([0])),
    "signing only possible": field("security_mode", 0),
    "no large messages": lacking(Capabilities.LARGE_MTU),
    "another server": field("server_guid", uuid.UUID(int=5)),
    "small messages": field("max_read_size", 65536),
}
BEFORE_3_1_1 = ["nothing with encryption", "the oldest alone", "signing not required", "no signing"]
BEFORE_3_1_1 += ["no encryption", "no capabilities", "another client"]
SIGNING = pytest.mark.parametrize("signing", [True, False], ids=["signed", "nosign"])


def both_ways(names: Iterable[str]) -> list[tuple[str, bool]]:
    """With and without signatures, but for what `nosign` says itself."""
    return [(name, way) for name in names for way in (True, False) if way or name != "signing not required"]


@in_trio
async def test_an_honest_man_in_the_middle_changes_nothing(samba: SambaServer) -> None:
    for newest in Dialect:
        for signing in True, False:
            config = ConnectConfig(max_dialect=newest, signing=signing)
            assert await attempt(samba, config=config) is None


@pytest.mark.parametrize(("name", "signing"), both_ways(OFFERS))
@in_trio
async def test_what_the_client_offers_cannot_be_made_less(
    samba: SambaServer, name: str, signing: bool
) -> None:
    await refused(samba, up=offering(OFFERS[name]), config=ConnectConfig(signing=signing))


@SIGNING
@pytest.mark.parametrize("change", CHOICES.values(), ids=CHOICES)
@in_trio
async def test_what_the_server_chooses_cannot_be_made_less(
    samba: SambaServer, change: Callable[[NegotiateResponse], None], signing: bool
) -> None:
    await refused(samba, down=choosing(change), config=ConnectConfig(signing=signing))


@pytest.mark.parametrize(("name", "signing"), both_ways(BEFORE_3_1_1))
@in_trio
async def test_before_3_1_1_the_confirmation_finds_an_altered_offer(
    samba: SambaServer, name: str, signing: bool
) -> None:
    """Here the keys do not depend on what was negotiated."""
    config = ConnectConfig(max_dialect=UP_TO_3_0_2, signing=signing)
    await refused(samba, up=offering(OFFERS[name]), config=config)


@SIGNING
@pytest.mark.parametrize("name", ["signing only possible", "no large messages", "another server"])
@in_trio
async def test_before_3_1_1_the_confirmation_finds_an_altered_choice(
    samba: SambaServer, name: str, signing: bool
) -> None:
    config = ConnectConfig(max_dialect=UP_TO_3_0_2, signing=signing)
    await refused(samba, down=choosing(CHOICES[name]), config=config)


@in_trio
async def test_a_server_that_hangs_up_instead_of_confirming_is_told_of(samba: SambaServer) -> None:
    """As Samba and Windows do when they find that what reached them is not what was offered."""
    error = await refused(samba, up=offering(OFFERS["no 3.1.1"]))
    assert "hung up when it was asked to confirm" in str(error)


@in_trio
async def test_with_2_1_as_the_newest_the_confirmation_is_asked_for_too(samba: SambaServer) -> None:
    config = ConnectConfig(max_dialect=Dialect.SMB_2_1)
    await refused(samba, up=offering(only(Dialect.SMB_2_0_2)), config=config)
    await refused(samba, down=choosing(lacking(Capabilities.LARGE_MTU)), config=config)


@in_trio
async def test_a_demand_for_encryption_cannot_be_taken_out_of_the_log_on() -> None:
    """Neither the session's nor the share's."""

    def no_flags(message: bytearray) -> None:
        message[66:68] = bytes(2)

    def no_share_flags(message: bytearray) -> None:
        message[68:72] = bytes(4)

    with SambaServer(global_options={"smb encrypt": "required"}) as server:
        for newest in Dialect.SMB_3_0, Dialect.SMB_3_1_1:
            down = answering(Command.SESSION_SETUP, no_flags)
            await refused(server, down=down, config=ConnectConfig(max_dialect=newest))
    with SambaServer({"data": ShareConfig(options={"smb encrypt": "required"})}) as server:
        for newest in Dialect.SMB_3_0, Dialect.SMB_3_1_1:
            down = answering(Command.TREE_CONNECT, no_share_flags)
            error = await refused(server, down=down, config=ConnectConfig(max_dialect=newest))
            assert "signature is wrong" in str(error)


@pytest.mark.parametrize("dialect", list(Dialect), ids=lambda one: one.name)
@in_trio
async def test_an_account_cannot_be_turned_into_a_guest(samba: SambaServer, dialect: Dialect) -> None:
    def guest(message: bytearray) -> None:
        message[66] |= SessionFlags.IS_GUEST
        message[16] &= ~0x08

    down = answering(Command.SESSION_SETUP, guest)
    for signing in True, False:
        error = await refused(samba, down=down, config=ConnectConfig(max_dialect=dialect, signing=signing))
        assert isinstance(error, engine.AuthError)


class Later:
    """A change that is made once the test says so; `made` counts how often."""

    def __init__(self, change: Change) -> None:
        self.armed = False
        self.made = 0
        self._change = change
        self._news = trio.Event()

    def __call__(self, frame: bytes) -> bytes | None:
        changed = self._change(frame) if self.armed else frame
        if changed != frame:
            self.made += 1
            self._news.set()
            self._news = trio.Event()
        return changed

    async def wait_made(self, times: int) -> None:
        """Wait until it was made that often."""
        while self.made < times:
            await self._news.wait()


def flip(message: bytearray) -> None:
    """One bit of the signature is the other way round."""
    message[50] ^= 1


RECONNECTS: dict[str, tuple[Change, Change]] = {
    "no 3.1.1": (offering(OFFERS["no 3.1.1"]), unchanged),
    "no signing": (offering(OFFERS["no signing"]), unchanged),
    "an older dialect": (unchanged, choosing(CHOICES["an older dialect"])),
    "forged log-on": (unchanged, answering(Command.SESSION_SETUP, flip)),
    "forged replies": (unchanged, answering(Command.CREATE, flip)),
}


@pytest.mark.parametrize("changes", RECONNECTS.values(), ids=RECONNECTS)
@in_trio
async def test_a_connection_that_is_made_anew_is_checked_as_the_first_one(
    changes: tuple[Change, Change], expected_warnings: ExpectedWarnings
) -> None:
    """No attempt through the man in the middle gets to the share; once he is gone, the next one does."""
    expected_warnings.allow("cannot be trusted since the connection was lost")
    up, down = map(Later, changes)
    config = ConnectConfig(reconnect=True)
    with SambaServer() as server:
        async with (
            in_the_middle(server.port, up=up, down=down) as port,
            engine.connect(f"//127.0.0.1:{port}/data", account(server), config) as share,
        ):
            await share.stat("")
            up.armed = down.armed = True
            kill_connections(server)
            await share.wait_lost()
            done = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stat, share, done)
                await (up if changes[0] is not unchanged else down).wait_made(2)
                assert not done.is_set()
                up.armed = down.armed = False
            await share.stat("")


async def _stat(share: engine.Share, done: trio.Event) -> None:
    with contextlib.suppress(engine.RemoteProtocolError):
        await share.stat("")
    done.set()
