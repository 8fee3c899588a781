"""Servers, and men in the middle, that must not get through ([MS-SMB2] 3.2.5)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

import engine
from engine import ntstatus
from engine.wire.constants import Command, ShareFlags, ShareType
from engine.wire.negotiate import EncryptionCapabilities, PreauthIntegrityCapabilities, SigningCapabilities
from engine.wire.notify import LeaseBreakNotification, OplockBreak
from engine.wire.primitives import FileId
from tests.fakes.server import FakeServer
from tests.fakes.server_behaviours import (
    AltersNegotiateInfo,
    AnswersAnotherCommand,
    AnswersInTheClear,
    ChangesContexts,
    ChangesNegotiate,
    ChangesReplies,
    ChoosesUnofferedCipher,
    DowngradesDialect,
    DuplicateNegotiateContext,
    HostileNames,
    MakesGuest,
    Negotiates,
    OmitsSignature,
    RefusesNegotiation,
    RepeatsReplies,
    SendsBreaks,
    SendsUnknownMessageIds,
    TruncatesReplies,
    WrongSignature,
)
from tests.unit.client.support import NOBODY, connected, lost_at_work, refused, settled

D = engine.Dialect


def test_3_2_5_2_a_cipher_that_was_not_offered() -> None:
    refused(ChoosesUnofferedCipher(), engine.RemoteProtocolError, "ciphers")


def test_3_2_5_2_contexts_that_come_twice() -> None:
    refused(DuplicateNegotiateContext(), engine.RemoteProtocolError, "2 times")


def test_3_2_5_2_another_hash() -> None:
    server = ChangesContexts(PreauthIntegrityCapabilities([2], b""))
    refused(server, engine.RemoteProtocolError, "SHA-512")


def test_3_2_5_2_a_signing_algorithm_that_was_not_offered() -> None:
    refused(ChangesContexts(SigningCapabilities([5])), engine.RemoteProtocolError, "signing algorithms")


def test_3_2_5_2_a_dialect_below_the_lowest_allowed() -> None:
    config = engine.ConnectConfig(min_dialect=D.SMB_3_0)
    refused(FakeServer(dialect=D.SMB_2_1), engine.RemoteProtocolError, "not offered", config)


def test_3_2_5_2_sizes_that_are_too_small() -> None:
    refused(Negotiates({"max_read_size": 4096}), engine.RemoteProtocolError, "only 4096 bytes")


def test_a_refused_negotiation_is_told_in_plain_words() -> None:
    server = RefusesNegotiation(ntstatus.STATUS_NOT_SUPPORTED)
    config = engine.ConnectConfig(min_dialect=D.SMB_3_0, max_dialect=D.SMB_3_0_2)
    refused(server, engine.NotSupported, r"protocol version \(3\.0 to 3\.0\.2 allowed", config)


@pytest.mark.parametrize("dialect", [D.SMB_2_0_2, D.SMB_2_1, D.SMB_3_0, D.SMB_3_0_2])
def test_3_2_5_14_12_a_downgrade_is_found(dialect: engine.Dialect) -> None:
    server = AltersNegotiateInfo(dialect=dialect)
    refused(server, engine.RemoteProtocolError, "altered the negotiation")
    if dialect is not D.SMB_3_0_2:
        refused(DowngradesDialect(dialect=dialect), engine.RemoteProtocolError, "altered the negotiation")


@pytest.mark.parametrize("newest", [D.SMB_2_0_2, D.SMB_2_1], ids=lambda dialect: dialect.name)
def test_3_2_5_5_the_negotiation_is_confirmed_whatever_was_offered(newest: engine.Dialect) -> None:
    """Also where 3.0 was not even offered: there is something to alter in every negotiation."""
    config = engine.ConnectConfig(max_dialect=newest)
    refused(
        AltersNegotiateInfo(dialect=newest), engine.RemoteProtocolError, "altered the negotiation", config
    )


def test_3_2_5_14_12_a_downgrade_is_found_on_an_encrypted_session_too() -> None:
    config = engine.ConnectConfig(seal=True)
    server = AltersNegotiateInfo(dialect=D.SMB_3_0)
    refused(server, engine.RemoteProtocolError, "altered the negotiation", config)


@pytest.mark.parametrize("behaviour", [WrongSignature, OmitsSignature])
@pytest.mark.parametrize("signing", [True, False])
def test_3_2_5_5_the_validation_itself_has_to_be_signed(
    behaviour: type[WrongSignature], signing: bool
) -> None:
    server = behaviour(Command.IOCTL, dialect=D.SMB_3_0_2, signing_required=False)
    config = engine.ConnectConfig(signing=signing)
    refused(server, engine.RemoteProtocolError, "signature|not signed", config)


def test_3_2_5_14_12_a_server_that_refuses_to_confirm_is_an_attacker() -> None:
    server = FakeServer(dialect=D.SMB_3_0)
    server.refusals[Command.IOCTL] = ntstatus.STATUS_ACCESS_DENIED
    refused(server, engine.RemoteProtocolError, "refuses to confirm")


@pytest.mark.parametrize(
    "status",
    [ntstatus.STATUS_FILE_CLOSED, ntstatus.STATUS_INVALID_DEVICE_REQUEST, ntstatus.STATUS_NOT_SUPPORTED],
)
def test_3_2_5_14_12_an_old_server_that_knows_no_validation_is_taken(status: int) -> None:
    async def main() -> None:
        server = FakeServer(dialect=D.SMB_2_1)
        server.refusals[Command.IOCTL] = status
        async with connected(server) as share:
            await share.stat("")

    trio.run(main)


def test_3_2_5_3_a_guest_although_an_account_was_given() -> None:
    refused(MakesGuest(), engine.AuthError, "only as a guest")
    refused(MakesGuest(), engine.AuthError, "only as a guest", engine.ConnectConfig(signing=False))


def test_3_2_5_3_encryption_for_a_guest() -> None:
    credentials = engine.Credentials("somebody", kind=engine.AuthKind.GUEST)
    config = engine.ConnectConfig(seal=True)
    refused(MakesGuest(), engine.AuthError, "drop 'seal'", config, credentials)
    refused(FakeServer(), engine.AuthError, "drop 'seal'", config, NOBODY)


@pytest.mark.parametrize("dialect", list(D), ids=lambda dialect: dialect.name)
def test_3_2_5_3_a_log_on_whose_last_reply_has_a_wrong_signature(dialect: engine.Dialect) -> None:
    server = WrongSignature(Command.SESSION_SETUP, dialect=dialect)
    refused(server, engine.RemoteProtocolError, "the log-on was altered")


@pytest.mark.parametrize("signing", [True, False])
def test_3_2_5_3_a_log_on_with_3_1_1_whose_last_reply_is_not_signed(signing: bool) -> None:
    server = OmitsSignature(Command.SESSION_SETUP, signing_required=False)
    refused(server, engine.RemoteProtocolError, "not signed", engine.ConnectConfig(signing=signing))


@pytest.mark.parametrize("dialect", list(D), ids=lambda dialect: dialect.name)
def test_3_2_5_1_3_a_log_on_whose_last_reply_is_not_signed_although_signing_is_required(
    dialect: engine.Dialect,
) -> None:
    """Who leaves the signature out could also have changed what the session is."""
    server = OmitsSignature(Command.SESSION_SETUP, dialect=dialect)
    refused(server, engine.RemoteProtocolError, "not signed")


@pytest.mark.parametrize("dialect", [D.SMB_2_0_2, D.SMB_2_1, D.SMB_3_0, D.SMB_3_0_2])
def test_3_2_5_1_3_a_log_on_whose_signature_nobody_requires_may_be_unsigned(dialect: engine.Dialect) -> None:
    async def main() -> None:
        server = OmitsSignature(Command.SESSION_SETUP, dialect=dialect, signing_required=False)
        async with connected(server, engine.ConnectConfig(signing=False)) as share:
            await share.stat("")

    trio.run(main)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(66, b"\x01"), (72, b"\xff"), (88, b"\x04\x01"), (101, b"\x77"), (104, b"\x01"), (112, b"\x01")],
    ids=["security mode", "server guid", "capabilities", "max write size", "system time", "start time"],
)
def test_the_preauthentication_hash_finds_any_change_of_the_negotiation(offset: int, value: bytes) -> None:
    refused(ChangesNegotiate(offset, value), engine.RemoteProtocolError, "the log-on was altered")


def test_encryption_is_demanded_of_a_server_that_has_none() -> None:
    config = engine.ConnectConfig(seal=True)
    match = "the server offers none"
    refused(FakeServer(cipher=None), engine.RemoteProtocolError, match, config)
    refused(FakeServer(cipher=None, dialect=D.SMB_3_0), engine.RemoteProtocolError, match, config)
    refused(FakeServer(dialect=D.SMB_2_1), engine.RemoteProtocolError, match, config)
    refused(ChangesContexts(EncryptionCapabilities([0])), engine.RemoteProtocolError, match, config)


def test_a_share_that_demands_encryption_where_there_is_none() -> None:
    server = FakeServer(cipher=None)
    server.share_flags = ShareFlags.ENCRYPT_DATA
    refused(server, engine.RemoteProtocolError, "the share demands encryption")


def test_a_share_that_demands_encryption_gets_it() -> None:
    async def main() -> None:
        server = FakeServer()
        server.share_flags = ShareFlags.ENCRYPT_DATA
        async with connected(server) as share:
            assert share.description.encrypted
            await share.stat("")

    trio.run(main)


def test_a_share_of_a_type_that_there_is_not() -> None:
    server = FakeServer()
    server.share_type = 4
    refused(server, engine.RemoteProtocolError, "of an unknown type, 4")


@pytest.mark.parametrize("kind", list(ShareType))
def test_a_share_says_what_it_is_of(kind: ShareType) -> None:
    async def main() -> None:
        server = FakeServer()
        server.share_type = kind
        async with connected(server) as share:
            assert share.description.share_type is kind

    trio.run(main)


def test_a_share_that_does_not_exist() -> None:
    server = FakeServer()
    server.refusals[Command.TREE_CONNECT] = ntstatus.STATUS_BAD_NETWORK_NAME
    refused(server, engine.NtStatusError, r"connect to the share .*STATUS_BAD_NETWORK_NAME")


@pytest.mark.parametrize("dialect", list(D), ids=lambda dialect: dialect.name)
def test_3_2_5_1_3_a_wrong_signature(dialect: engine.Dialect) -> None:
    lost_at_work(WrongSignature(dialect=dialect), "signature is wrong")


def test_3_2_5_1_3_a_missing_signature() -> None:
    lost_at_work(OmitsSignature(), "not signed")


def test_3_2_5_1_3_an_altered_reply() -> None:
    lost_at_work(ChangesReplies(90, b"\xff"), "signature is wrong")


def test_3_2_5_1_1_an_altered_encrypted_reply() -> None:
    lost_at_work(ChangesReplies(90, b"\xff"), "not encrypted with", engine.ConnectConfig(seal=True))


def test_3_2_5_1_1_an_answer_in_the_clear() -> None:
    lost_at_work(AnswersInTheClear(), "in the clear", engine.ConnectConfig(seal=True))


def test_3_2_5_1_an_answer_to_another_command() -> None:
    lost_at_work(AnswersAnotherCommand(), "was answered by command")


def test_a_reply_that_is_cut_short_is_an_error_of_this_call_alone() -> None:
    async def main() -> None:
        server = TruncatesReplies(armed=False)
        async with connected(server) as share:
            server.armed = True
            with pytest.raises(engine.RemoteProtocolError):
                await share.open("new", disposition=engine.Disposition.OPEN_IF)
            server.armed = False
            assert (await share.stat("new")).size == 0

    trio.run(main)


@pytest.mark.parametrize(
    "make", [RepeatsReplies, SendsUnknownMessageIds], ids=["repeated replies", "unknown message ids"]
)
def test_3_2_5_1_2_replies_that_nobody_waits_for_are_dropped(make: Callable[[], FakeServer]) -> None:
    async def main() -> None:
        server = make()
        async with connected(server) as share:
            before = share.statistics().unknown_replies
            for _ in range(5):
                await share.stat("")
            assert share.statistics().unknown_replies >= before + 5
            await settled(server, share)

    trio.run(main)


@pytest.mark.parametrize(
    "body", [OplockBreak(FileId(1, 2), 0).encode(), LeaseBreakNotification(bytes(16), 7, 0).encode()]
)
def test_3_2_5_19_breaks_of_what_we_do_not_know_are_ignored(body: bytes) -> None:
    async def main() -> None:
        server = SendsBreaks(body, body)
        async with connected(server) as share:
            await share.stat("")
            await settled(server, share)

    trio.run(main)


def test_3_2_5_19_a_break_that_makes_no_sense() -> None:
    lost_at_work(SendsBreaks(b"\x09\0"), "break|OPLOCK|few")


def test_hostile_names_come_as_they_are_and_break_nothing() -> None:
    names = ["a/b", "nul\0", "..", "x" * 300, "", "\ud800", "a\\b", "CON", ".", "good"]

    async def main() -> None:
        async with connected(HostileNames(*names)) as share:
            found = [entry.name async for batch in share.scandir("") for entry in batch]
            assert found == [name for name in names if name not in (".", "..")]

    trio.run(main)
