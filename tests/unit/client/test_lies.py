"""A server that lies: about replies, lengths, frames, and about who it is ([MS-SMB2] 3.2.5)."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import pytest
import trio

import engine
from engine import ntstatus
from engine.client.transport import FRAME_LIMIT_UNNEGOTIATED
from engine.crypto.sealing import Cipher
from engine.wire.constants import Command, HeaderFlags
from engine.wire.header import UNSOLICITED_MESSAGE_ID, Header
from engine.wire.notify import LeaseBreakNotification, OplockBreak
from engine.wire.primitives import FileId
from tests.fakes import lies_protection
from tests.fakes.lies_frames import AnnouncesMore, Ends, SendsInstead
from tests.fakes.lies_messages import MESSAGE_ID, NEXT_COMMAND, SESSION_ID, Answers, Cuts, Says
from tests.fakes.lies_protection import (
    AnswersInTheClear,
    ChangesTransform,
    FlipsCiphertext,
    LeavesUnsigned,
    Reflects,
    ReplaysSealed,
    SealsTwice,
    SignsEarlierReply,
    SignsWrongly,
)
from tests.fakes.lies_replies import Grants, PendingStorm, Reorders, Repeats, Strays, Unasked
from tests.fakes.server_lies import Lie, LyingServer
from tests.unit.client.support import connected, lost_at_work, refused, settled

D = engine.Dialect
SEALED = engine.ConnectConfig(seal=True)
PROTECTIONS = pytest.mark.parametrize("config", [None, SEALED], ids=["signed", "sealed"])
MIB = 1 << 20
BREAKS = (OplockBreak(FileId(1, 2), 0).encode(), LeaseBreakNotification(b"k" * 16, 7, 0, flags=1).encode())


def unasked(command: int, body: bytes, *, message_id: int = UNSOLICITED_MESSAGE_ID) -> bytes:
    """A message that no request belongs to."""
    header = Header(command=command, flags=HeaderFlags.SERVER_TO_REDIR, message_id=message_id)
    return header.encode() + body


async def echo_for_ever(share: engine.Share) -> None:
    """Until something goes wrong."""
    while True:
        await share.echo()


async def have_sent(share: engine.Share, command: Command) -> None:
    """Do something that sends `command` and needs its answer."""
    match command:
        case Command.READ:
            await share.read_file("file", 100)
        case Command.QUERY_INFO:
            await share.volume_size()
        case Command.QUERY_DIRECTORY:
            async with contextlib.aclosing(share.scandir("")) as batches:
                async for _ in batches:
                    pass
        case _:
            await share.open("file")


def survives(server: LyingServer, config: engine.ConnectConfig | None = None) -> engine.Statistics:
    """Everything works all the same, and the books balance."""

    async def main() -> engine.Statistics:
        server.armed = False
        server.tree.add_file("file", b"content")
        async with connected(server, config) as share:
            server.armed = True
            for number in range(5):
                assert await share.read_file("file", 100) == b"content"
                await share.write_file(f"new{number}", b"x")
            async with trio.open_nursery() as nursery:
                for _ in range(6):
                    nursery.start_soon(share.stat, "file")
            server.armed = False
            await settled(server, share)
            return share.statistics()

    return trio.run(main)


@PROTECTIONS
def test_3_2_5_1_2_replies_repeated_reordered_and_invented_at_once(
    config: engine.ConnectConfig | None,
) -> None:
    """What nobody waits for is dropped and brings no credits, whatever it says."""
    server = LyingServer(Repeats(3), Strays(1 << 40, credits=500), Strays(0, Command.CREATE, credits=9))
    assert survives(server, config).unknown_replies > 50


def test_3_2_5_1_2_a_reply_that_names_another_request_is_not_taken_for_it() -> None:
    """Signed as it is, it answers a request that was answered long ago."""

    async def main() -> None:
        server = LyingServer(Says(MESSAGE_ID, bytes(8), Command.ECHO), armed=False)
        async with connected(server) as share:
            server.armed = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(echo_for_ever, share)
                await server.until(lambda: Command.ECHO in server.received)
                await share.stat("")
                assert share.statistics().unknown_replies == 1
                assert share.statistics().in_flight == 1
                server.armed = False
                nursery.cancel_scope.cancel()

    trio.run(main)


@PROTECTIONS
@pytest.mark.parametrize("moves", [False, True], ids=["one id", "new ids"])
def test_3_2_5_1_5_a_storm_of_interim_replies(config: engine.ConnectConfig | None, moves: bool) -> None:
    assert survives(LyingServer(PendingStorm(200, moves=moves)), config).interim_replies > 2000


@PROTECTIONS
def test_3_2_5_1_5_storms_strays_and_breaks_at_once(config: engine.ConnectConfig | None) -> None:
    breaks = Unasked(*(unasked(Command.OPLOCK_BREAK, body) for body in BREAKS))
    server = LyingServer(PendingStorm(20), Strays(1 << 50), breaks)
    assert survives(server, config).interim_replies >= 20


def test_3_2_5_1_2_replies_in_another_order_reach_their_requests() -> None:
    async def main() -> None:
        server = LyingServer(Reorders(4), armed=False)
        for number in range(4):
            server.tree.add_file(f"f{number}", b"%d" % number)
        async with connected(server) as share:
            server.armed = True
            found: dict[int, bytes] = {}

            async def read(number: int) -> None:
                found[number] = bytes(await share.read_file(f"f{number}", 10))

            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(read, number)
            server.armed = False
            assert found == {number: b"%d" % number for number in range(4)}
            await settled(server, share)

    trio.run(main)


def test_3_2_5_1_4_a_server_that_grants_nothing_is_left() -> None:
    async def main() -> None:
        server = LyingServer(Grants(0), armed=False)
        async with connected(server) as share:
            server.armed = True
            with pytest.raises(engine.RemoteProtocolError, match="granted 0 credits"):
                await echo_for_ever(share)

    trio.run(main)


def test_3_2_5_1_4_a_server_that_grants_too_much_gets_no_more_than_we_mean_to_use() -> None:
    """As many requests as there are credits would be as many buffers."""

    async def main() -> None:
        server = LyingServer(Grants(65535), armed=False)
        config = engine.ConnectConfig(max_credits=16)
        async with connected(server, config) as share:
            server.armed = True
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(share.echo)
            assert share.statistics().credits > 1_000_000
            assert share.statistics().most_in_flight <= 16

    trio.run(main)


@PROTECTIONS
def test_3_2_5_19_unknown_breaks_are_ignored_and_not_acknowledged(
    config: engine.ConnectConfig | None,
) -> None:
    server = LyingServer(Unasked(*(unasked(Command.OPLOCK_BREAK, body) for body in BREAKS)))
    survives(server, config)
    assert Command.OPLOCK_BREAK not in server.received


def test_3_2_5_1_other_messages_that_no_request_belongs_to_are_ignored() -> None:
    survives(LyingServer(Unasked(unasked(0x13, b"\x04\0\0\0"), unasked(Command.READ, b"\xff" * 40))))


OVERSTATED = {
    "READ length": (Command.READ, Says(68, b"\xff\xff\xff\x7f", Command.READ)),
    "READ offset": (Command.READ, Says(66, b"\xff", Command.READ)),
    "QUERY_INFO length": (Command.QUERY_INFO, Says(68, b"\xff\xff\xff\xff", Command.QUERY_INFO)),
    "QUERY_INFO offset": (Command.QUERY_INFO, Says(66, b"\xff\xff", Command.QUERY_INFO)),
    "QUERY_DIRECTORY length": (
        Command.QUERY_DIRECTORY,
        Says(68, b"\xf0\xff\xff\xff", Command.QUERY_DIRECTORY),
    ),
    "QUERY_DIRECTORY offset": (Command.QUERY_DIRECTORY, Says(66, b"\xf0\xff", Command.QUERY_DIRECTORY)),
    "first name": (Command.QUERY_DIRECTORY, Says(72 + 60, b"\xf0\xff\xff\xff", Command.QUERY_DIRECTORY)),
    "next entry": (Command.QUERY_DIRECTORY, Says(72, b"\x08\0\0\0", Command.QUERY_DIRECTORY)),
    "CREATE contexts length": (Command.CREATE, Says(148, b"\xff\xff\xff\x7f", Command.CREATE)),
    "CREATE contexts offset": (Command.CREATE, Says(144, b"\xf8\xff\xff\xff", Command.CREATE)),
    "structure size": (Command.QUERY_INFO, Says(64, b"\x07\0", Command.QUERY_INFO)),
    "too short": (Command.CREATE, Cuts(70, Command.CREATE)),
    "all of it missing": (Command.READ, Answers(Command.READ, b"")),
}


@PROTECTIONS
@pytest.mark.parametrize(("command", "lie"), OVERSTATED.values(), ids=OVERSTATED)
def test_3_2_5_1_7_lengths_and_offsets_that_lead_out_of_the_message(
    config: engine.ConnectConfig | None, command: Command, lie: Lie
) -> None:
    """An error of the call, nothing allocated for it, nothing from outside the message given out."""

    async def main() -> None:
        server = LyingServer(lie, armed=False)
        server.tree.add_file("file", b"content")
        async with connected(server, config) as share:
            await share.stat("file")
            server.armed = True
            tracemalloc.start()
            try:
                with pytest.raises(engine.RemoteProtocolError):
                    await have_sent(share, command)
                assert tracemalloc.get_traced_memory()[1] < 8 * MIB
            finally:
                tracemalloc.stop()

    trio.run(main)


@PROTECTIONS
@pytest.mark.parametrize("next_command", [8, 63, 72 + 8, 1 << 16, 0xFFFFFFF8])
def test_3_2_5_1_9_a_compound_that_leads_out_of_its_frame(
    config: engine.ConnectConfig | None, next_command: int
) -> None:
    lie = Says(NEXT_COMMAND, struct.pack("<I", next_command), Command.CLOSE, Command.ECHO)
    lost_at_work(LyingServer(lie), "compound|signature|SMB2 header", config)


@pytest.mark.parametrize("command", [Command.NEGOTIATE, Command.SESSION_SETUP], ids=lambda one: one.name)
@pytest.mark.parametrize("dialect", [D.SMB_2_1, D.SMB_3_1_1], ids=lambda one: one.name)
def test_3_2_5_1_7_overstated_tokens_before_there_is_any_protection(
    command: Command, dialect: engine.Dialect
) -> None:
    offset = 120 if command is Command.NEGOTIATE else 68
    server = LyingServer(Says(offset, b"\xff\x7f\xff\x7f", command, failures=True), dialect=dialect)
    refused(server, engine.RemoteProtocolError, ".")


NO_SMB2 = {
    "nothing": b"",
    "three bytes": b"\xfeSM",
    "half a header": b"\xfeSMB" + bytes(40),
    "SMB 1": b"\xffSMB" + bytes(60),
    "compressed": b"\xfcSMB" + struct.pack("<IHHI", 1 << 30, 1, 0, 0) + bytes(80),
    "encrypted by nobody": b"\xfdSMB" + bytes(32) + struct.pack("<IHHQ", 64, 0, 1, 77) + bytes(64),
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n".ljust(100),
}


@pytest.mark.parametrize("frame", NO_SMB2.values(), ids=NO_SMB2)
def test_what_is_no_message_of_ours_ends_the_connection(frame: bytes) -> None:
    lost_at_work(LyingServer(SendsInstead(frame)), ".")
    refused(LyingServer(SendsInstead(frame)), engine.RemoteProtocolError, ".")


@PROTECTIONS
@pytest.mark.parametrize("length", [1, 63, 64, 67])
def test_a_frame_that_ends_before_its_message_does(config: engine.ConnectConfig | None, length: int) -> None:
    lost_at_work(LyingServer(Ends(length)), ".", config)


def test_a_frame_that_is_announced_longer_than_what_comes_is_waited_for_no_longer_than_timeout() -> None:
    config = engine.ConnectConfig(timeout=0.3)
    refused(LyingServer(AnnouncesMore(5)), engine.TransportError, "did not answer within", config)


@pytest.mark.parametrize("extra", [FRAME_LIMIT_UNNEGOTIATED, 1 << 24, 0xFFFFF000])
def test_a_frame_is_refused_by_its_length_before_memory_is_taken_for_it(extra: int) -> None:
    tracemalloc.start()
    try:
        refused(LyingServer(AnnouncesMore(extra)), engine.RemoteProtocolError, "announced a frame")
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dialect", list(D), ids=lambda one: one.name)
@pytest.mark.parametrize("lie", [SignsWrongly, LeavesUnsigned, SignsEarlierReply])
def test_3_2_5_1_3_a_signature_that_is_wrong_missing_or_another_replys(
    lie: type[Lie], dialect: engine.Dialect
) -> None:
    lost_at_work(LyingServer(lie(), dialect=dialect), "signature is wrong|is not signed")


SEALED_WRONGLY = {
    "wrong tag": (ChangesTransform(lies_protection.SIGNATURE, bytes(16)), "not encrypted with"),
    "wrong nonce": (ChangesTransform(lies_protection.NONCE, b"\xff" * 11), "not encrypted with"),
    "nonce padding": (ChangesTransform(lies_protection.NONCE + 12, b"\1"), "not encrypted with"),
    "flipped bit": (FlipsCiphertext(), "not encrypted with"),
    "another size": (ChangesTransform(lies_protection.ORIGINAL_SIZE, b"\1\0\0\0"), "OriginalMessageSize 1"),
    "no encryption flag": (ChangesTransform(lies_protection.FLAGS, b"\0\0"), "flags 0x0000"),
    "unknown session": (ChangesTransform(lies_protection.SESSION_ID, b"\7" * 8), "a session that we do not"),
    "another session inside": (Says(SESSION_ID, b"\7" * 8, failures=True), "another session than its"),
    "twice": (SealsTwice(), "encrypted twice"),
    "not at all": (AnswersInTheClear(), "in the clear"),
    "reflected": (Reflects(), "not encrypted with"),
}


@pytest.mark.parametrize(("lie", "match"), SEALED_WRONGLY.values(), ids=SEALED_WRONGLY)
def test_3_2_5_1_1_1_what_does_not_decrypt_as_it_must_ends_the_connection(lie: Lie, match: str) -> None:
    lost_at_work(LyingServer(lie), match, SEALED)


@pytest.mark.parametrize("cipher", list(Cipher), ids=str)
def test_3_2_5_1_1_1_no_cipher_takes_an_altered_message(cipher: Cipher) -> None:
    for lie in (FlipsCiphertext(), ChangesTransform(lies_protection.SIGNATURE, bytes(16)), Reflects()):
        lost_at_work(LyingServer(lie, cipher=cipher), "not encrypted with", SEALED)


def test_3_2_5_1_1_1_an_encrypted_reply_sent_again_answers_nothing() -> None:
    """It decrypts, as it did the first time, but its MessageId is used up."""
    assert survives(LyingServer(ReplaysSealed()), SEALED).unknown_replies >= 5


@pytest.mark.parametrize("dialect", list(D), ids=lambda one: one.name)
def test_our_own_messages_sent_back_are_no_answers(dialect: engine.Dialect) -> None:
    """As they are, they are requests; made to look like replies, their signature is wrong."""
    lost_at_work(LyingServer(Reflects(), dialect=dialect), "sent a request")
    server = LyingServer(Reflects(as_reply=True), dialect=dialect)
    lost_at_work(server, "signature is wrong|compound")


def test_3_2_5_1_6_an_expired_session_is_told_and_ends_nothing_else() -> None:
    async def main() -> None:
        server = LyingServer()
        async with connected(server) as share:
            server.refusals[Command.CREATE] = ntstatus.STATUS_NETWORK_SESSION_EXPIRED
            with pytest.raises(engine.SessionExpired):
                await share.stat("")
            assert not share.is_lost
            server.refusals.clear()
            await share.stat("")

    trio.run(main)
