"""MessageIds, compounds, replies and cancellation of one connection, without any I/O."""

from __future__ import annotations

import gc

import pytest

from engine.crypto.sealing import Cipher, Sealer
from engine.crypto.signing import SigningAlgorithm, make_signer
from engine.errors import LocalProtocolError, RemoteProtocolError, TransportError
from engine.ntstatus import STATUS_CANCELLED, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_PENDING
from engine.proto.events import BreakReceived, LateReply
from engine.proto.inflight import Request, SessionState, SlotState
from engine.proto.machine import Machine, payload_size
from engine.wire.constants import Command, Dialect, HeaderFlags, InfoType, LockFlags
from engine.wire.create import CloseRequest, CloseResponse, CreateRequest
from engine.wire.error import ErrorResponse
from engine.wire.header import UNSOLICITED_MESSAGE_ID, Header, split_compound_untrusted
from engine.wire.io import (
    EchoRequest,
    IoctlRequest,
    LockElement,
    LockRequest,
    ReadRequest,
    ReadResponse,
    WriteRequest,
)
from engine.wire.notify import ChangeNotifyRequest, LeaseBreakNotification, OplockBreak
from engine.wire.primitives import FILE_ID_RELATED, FileId
from engine.wire.query import QueryDirectoryRequest, QueryInfoRequest, SetInfoRequest
from tests.unit.proto.support import EMPTY_BODY, FILE_ID, compound, created, feed, reply, sent

ASYNC = HeaderFlags.ASYNC_COMMAND
ERROR = ErrorResponse().encode()
CREATE = CreateRequest(desired_access=1, name="a")
CLOSE = CloseRequest(FILE_ID_RELATED)
QUERY = QueryInfoRequest(info_type=InfoType.FILE, output_buffer_length=100, file_id=FILE_ID_RELATED)


def machine(credits: int = 64, dialect: Dialect = Dialect.SMB_3_1_1) -> Machine:
    """A connection after NEGOTIATE, with `credits` in hand."""
    made = Machine(512)
    made.negotiated(dialect, large_mtu=True)
    made.credits.bank(credits - 1, 0)
    return made


def read(length: int) -> ReadRequest:
    return ReadRequest(file_id=FILE_ID, offset=0, length=length)


def lock(*flags: int) -> LockRequest:
    return LockRequest(FILE_ID, [LockElement(0, 1, flag) for flag in flags])


def headers(frame: memoryview) -> list[Header]:
    return [Header.decode_untrusted(message) for message in split_compound_untrusted(frame)]


def test_a_message_id_is_used_for_every_credit_of_the_charge() -> None:
    proto = machine()
    ids = [proto.start([read(length)]).slots[0].message_id for length in (1, 200_000, 65536, 65537, 1)]
    assert ids == [0, 1, 5, 6, 8]
    assert proto.credits.available == 64 - 9
    assert proto.credits.outstanding == 9


def test_a_charge_is_in_the_header_from_2_1_on() -> None:
    (header,) = headers(sent(machine().start([read(200_000)])))
    assert (header.credit_charge, header.message_id) == (4, 0)
    old = machine(dialect=Dialect.SMB_2_0_2)
    (header,) = headers(sent(old.start([read(65536)])))
    assert header.credit_charge == 0
    assert old.credits.outstanding == 1


def test_multi_credit_needs_a_server_that_offers_it() -> None:
    proto = machine()
    proto.negotiated(Dialect.SMB_2_1, large_mtu=False)
    assert not proto.multi_credit
    assert proto.charge(read(1 << 20)) == 1


@pytest.mark.parametrize(
    ("request_", "size"),
    [
        (read(100_000), 100_000),
        (WriteRequest(file_id=FILE_ID, offset=0, data=bytes(70_000)), 70_000),
        (QueryDirectoryRequest(file_information_class=37, file_id=FILE_ID, output_buffer_length=9), 9),
        (ChangeNotifyRequest(file_id=FILE_ID, completion_filter=1, output_buffer_length=8), 8),
        (QueryInfoRequest(info_type=1, output_buffer_length=5, file_id=FILE_ID, input=bytes(7)), 7),
        (QueryInfoRequest(info_type=1, output_buffer_length=9, file_id=FILE_ID, input=bytes(7)), 9),
        (SetInfoRequest(info_type=1, buffer=bytes(6), file_id=FILE_ID), 6),
        (IoctlRequest(ctl_code=1, file_id=FILE_ID, input=bytes(4), max_output_response=3), 4),
        (IoctlRequest(ctl_code=1, file_id=FILE_ID, input=bytes(4), max_output_response=5), 5),
        (EchoRequest(), 0),
    ],
)
def test_the_larger_of_request_and_reply_is_paid_for(request_: Request, size: int) -> None:
    assert payload_size(request_) == size


def test_requests_ask_for_the_credits_that_are_missing() -> None:
    (header,) = headers(sent(machine(credits=10).start([EchoRequest()])))
    assert header.credits == 1 + 512 - 10


def test_a_compound_is_aligned_and_related_from_its_second_part_on() -> None:
    proto = machine()
    outgoing = proto.start([CREATE, QUERY, CLOSE], tree_id=7, related=True)
    frame = sent(outgoing)
    found = headers(frame)
    assert [header.command for header in found] == [Command.CREATE, Command.QUERY_INFO, Command.CLOSE]
    related = HeaderFlags.RELATED_OPERATIONS
    assert [header.flags for header in found] == [0, related, related]
    assert [header.message_id for header in found] == [0, 1, 2]
    assert [header.tree_id for header in found] == [7, 7, 7]
    assert all(header.next_command % 8 == 0 for header in found)
    assert len(frame) == sum(header.next_command for header in found) + 64 + len(CLOSE.encode())


def test_every_part_of_a_compound_pays_for_itself() -> None:
    proto = machine()
    outgoing = proto.start([CREATE, read(150_000), CLOSE], related=True)
    assert [slot.charge for slot in outgoing.slots] == [1, 3, 1]
    assert [header.credit_charge for header in headers(sent(outgoing))] == [1, 3, 1]
    assert [header.message_id for header in headers(sent(outgoing))] == [0, 1, 4]


@pytest.mark.parametrize("algorithm", list(SigningAlgorithm), ids=str)
def test_a_compounds_signatures_cover_header_body_data_and_padding(algorithm: SigningAlgorithm) -> None:
    signer = make_signer(algorithm, bytes(range(16)))
    write = WriteRequest(file_id=FILE_ID_RELATED, offset=0, data=b"odd")
    outgoing = machine().start([CREATE, write, CLOSE], session=SessionState(5, signer), related=True)
    messages = split_compound_untrusted(sent(outgoing))
    assert len(messages) == 3
    for message in messages:
        assert Header.decode_untrusted(message).flags & HeaderFlags.SIGNED
        assert signer.verify(message)
    assert len(messages[1]) % 8 == 0
    assert bytes(messages[1]).rstrip(b"\0").endswith(b"odd")


def test_a_full_name_in_a_distributed_tree_is_told_by_the_header() -> None:
    create = CreateRequest(desired_access=1, name="server\\share\\a", in_dfs=True)
    first, second, third = headers(sent(machine().start([CREATE, create, CLOSE], related=True)))
    assert [bool(header.flags & HeaderFlags.DFS_OPERATIONS) for header in (first, second, third)] == [
        False,
        True,
        False,
    ]


def test_requests_that_are_not_related_carry_no_such_flag() -> None:
    found = headers(sent(machine().start([EchoRequest(), EchoRequest()])))
    assert [header.flags for header in found] == [0, 0]


def test_a_sealed_request_is_one_transform_frame_without_a_signature() -> None:
    ours, theirs = bytes(16), bytes(range(16))
    session = SessionState(9, make_signer(SigningAlgorithm.AES_CMAC, bytes(16)))
    session.sealer = Sealer(Cipher.AES_128_GCM, ours, theirs, 9)
    frame = sent(machine().start([EchoRequest()], session=session, sealed=True))
    server = Sealer(Cipher.AES_128_GCM, theirs, ours, 9)
    out = bytearray(200)
    size = server.unseal_into_untrusted(frame[:52], bytearray(frame[52:]) + bytes(16), out)
    (header,) = headers(memoryview(out)[:size])
    assert (header.command, header.flags, header.session_id) == (Command.ECHO, 0, 9)


def test_sealing_without_keys_is_our_own_mistake() -> None:
    proto = machine()
    with pytest.raises(LocalProtocolError, match="no encryption keys"):
        proto.start([EchoRequest()], sealed=True)
    assert not proto.slots
    assert proto.credits.available == 64


@pytest.mark.parametrize(
    "bad",
    [CreateRequest(desired_access=1, name="x" * 40_000), ReadRequest(file_id=FILE_ID, offset=-1, length=1)],
    ids=["name too long", "number out of range"],
)
def test_a_request_that_cannot_be_encoded_uses_up_nothing(bad: Request) -> None:
    proto = machine()
    with pytest.raises(LocalProtocolError):
        proto.start([EchoRequest(), bad])
    assert not proto.slots
    assert (proto.credits.available, proto.credits.outstanding) == (64, 0)
    assert proto.start([EchoRequest()]).slots[0].message_id == 0


def test_replies_may_come_in_any_order() -> None:
    proto = machine()
    slots = [proto.start([EchoRequest()]).slots[0] for _ in range(4)]
    for slot in (slots[2], slots[0], slots[3], slots[1]):
        assert feed(proto, reply(slot)) == []
        assert slot.reply is not None
        assert slot.reply.header.message_id == slot.message_id
        assert slot.state is SlotState.DONE
    assert not proto.slots
    assert (proto.credits.available, proto.credits.outstanding) == (64, 0)


def test_a_compound_may_be_answered_in_one_frame_or_in_several() -> None:
    proto = machine()
    create, close = proto.start([CREATE, CLOSE], related=True).slots
    feed(proto, compound(reply(create, created()), reply(close, bytes(60))))
    assert create.reply is not None
    assert close.reply is not None
    first, second = proto.start([CREATE, CLOSE], related=True).slots
    feed(proto, reply(first, created()))
    assert second.reply is None
    feed(proto, reply(second))
    assert second.reply is not None


def test_the_waiter_is_woken_once_its_reply_is_there() -> None:
    proto = machine()
    (slot,) = proto.start([EchoRequest()], now=10.0).slots
    woken: list[bool] = []
    slot.on_done = lambda: woken.append(slot.reply is not None)
    frame = reply(slot)
    proto.receive(memoryview(bytearray(frame) + bytearray(16)), len(frame), now=12.5)
    assert woken == [True]
    assert proto.statistics.seconds == {"ECHO": 2.5}


def test_an_unknown_message_id_is_dropped_and_counted_3_2_5_1_2() -> None:
    proto = machine()
    (slot,) = proto.start([EchoRequest()]).slots
    assert feed(proto, reply(slot, message_id=99, granted=50)) == []
    assert proto.snapshot().unknown_replies == 1
    assert proto.credits.available == 63, "no request, no credits"
    assert slot.reply is None


def test_a_repeated_reply_is_an_unknown_one() -> None:
    proto = machine()
    (slot,) = proto.start([EchoRequest()]).slots
    feed(proto, reply(slot))
    feed(proto, reply(slot, granted=9))
    assert proto.statistics.unknown_replies == 1
    assert proto.credits.available == 64


def test_a_reply_to_another_command_ends_the_connection() -> None:
    proto = machine()
    (slot,) = proto.start([EchoRequest()]).slots
    with pytest.raises(RemoteProtocolError, match="ECHO was answered by command 8"):
        feed(proto, reply(slot, command=Command.READ))
    assert slot.reply is None


def test_a_request_from_the_server_ends_the_connection() -> None:
    proto = machine()
    message = bytearray(Header(command=Command.ECHO).encode() + EMPTY_BODY)
    with pytest.raises(RemoteProtocolError, match="sent a request"):
        feed(proto, message)


@pytest.mark.parametrize("frame", [b"", b"\xfeSMB", b"\xffSMB" + bytes(100), b"\xfcSMB" + bytes(100)])
def test_what_is_no_smb2_frame_ends_the_connection(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        feed(machine(), frame)


def test_an_interim_reply_banks_its_credits_and_settles_the_charge_once() -> None:
    proto = machine(credits=10)
    (slot,) = proto.start([read(200_000)]).slots
    assert (proto.credits.available, proto.credits.outstanding) == (6, 4)
    interim = reply(slot, ERROR, status=STATUS_PENDING, flags=ASYNC, async_id=77, granted=4)
    assert feed(proto, interim) == []
    assert (slot.state, slot.async_id) == (SlotState.PENDING, 77)
    assert (proto.credits.available, proto.credits.outstanding) == (10, 0)
    feed(proto, reply(slot, ERROR, status=STATUS_PENDING, flags=ASYNC, async_id=77, granted=0))
    feed(proto, reply(slot, ReadResponse(b"x").encode(), flags=ASYNC, async_id=77, granted=0))
    assert slot.state is SlotState.DONE
    assert (proto.credits.available, proto.credits.outstanding) == (10, 0)
    assert proto.statistics.interim_replies == 2


def test_an_interim_reply_that_grants_nothing_leaves_it_to_the_final_one() -> None:
    proto = machine(credits=10)
    (slot,) = proto.start([EchoRequest()]).slots
    feed(proto, reply(slot, ERROR, status=STATUS_PENDING, flags=ASYNC, async_id=1, granted=0))
    assert (proto.credits.available, proto.credits.outstanding) == (9, 1)
    feed(proto, reply(slot, flags=ASYNC, async_id=1, granted=1))
    assert (proto.credits.available, proto.credits.outstanding) == (10, 0)


def test_an_interim_reply_without_an_async_id_ends_the_connection() -> None:
    proto = machine()
    (slot,) = proto.start([EchoRequest()]).slots
    with pytest.raises(RemoteProtocolError, match="without an AsyncId"):
        feed(proto, reply(slot, ERROR, status=STATUS_PENDING))
    assert slot.reply is None


def test_abandon_cancels_by_message_id_and_only_once() -> None:
    proto = machine()
    proto.start([EchoRequest()])
    (slot,) = proto.start([read(1)], session=SessionState(5), tree_id=6).slots
    (message,) = proto.abandon(slot)
    header = Header.decode_untrusted(message)
    assert (header.command, header.message_id, header.flags) == (Command.CANCEL, 1, 0)
    assert (header.session_id, header.tree_id, header.credits) == (5, 6, 0)
    assert proto.abandon(slot) == []
    assert proto.credits.available == 62, "a CANCEL costs nothing"
    assert proto.statistics.cancels == 1
    assert proto.slots[1] is slot, "its reply is still due"


def test_abandon_cancels_by_async_id_after_an_interim_reply() -> None:
    proto = machine()
    (slot,) = proto.start([read(1)]).slots
    feed(proto, reply(slot, ERROR, status=STATUS_PENDING, flags=ASYNC, async_id=77))
    (message,) = proto.abandon(slot)
    header = Header.decode_untrusted(message)
    assert header.flags == ASYNC
    assert header.async_id == 77


def test_an_interim_reply_does_not_bring_an_abandoned_request_back() -> None:
    proto = machine()
    (slot,) = proto.start([read(1)]).slots
    assert proto.abandon(slot)
    feed(proto, reply(slot, ERROR, status=STATUS_PENDING, flags=ASYNC, async_id=77))
    assert slot.state is SlotState.ABANDONED
    assert proto.abandon(slot) == []


def test_an_answered_request_is_not_cancelled() -> None:
    proto = machine()
    (slot,) = proto.start([EchoRequest()]).slots
    feed(proto, reply(slot))
    assert proto.abandon(slot) == []


def test_a_close_is_abandoned_without_a_cancel() -> None:
    proto = machine()
    (slot,) = proto.start([CloseRequest(FILE_ID)]).slots
    assert proto.abandon(slot) == []
    assert slot.state is SlotState.ABANDONED
    assert proto.statistics.cancels == 0


def test_a_cancel_is_signed() -> None:
    proto = machine()
    signer = make_signer(SigningAlgorithm.AES_GMAC, bytes(16))
    (slot,) = proto.start([read(1)], session=SessionState(5, signer)).slots
    (message,) = proto.abandon(slot)
    assert Header.decode_untrusted(message).flags & HeaderFlags.SIGNED
    assert signer.verify(message)


def test_the_cancel_of_a_sealed_request_is_sealed() -> None:
    proto = machine()
    session = SessionState(9, sealer=Sealer(Cipher.AES_128_CCM, bytes(16), bytes(16), 9))
    (slot,) = proto.start([read(1)], session=session, sealed=True).slots
    frame = b"".join(proto.abandon(slot))
    assert frame[:4] == b"\xfdSMB"


def test_a_late_reply_banks_its_credits_and_wakes_nobody() -> None:
    proto = machine()
    (slot,) = proto.start([read(1)]).slots
    slot.on_done = lambda: pytest.fail("nobody waits")
    proto.abandon(slot)
    assert feed(proto, reply(slot, ERROR, status=STATUS_CANCELLED)) == []
    assert not proto.slots
    assert proto.credits.available == 64
    assert proto.statistics.late_replies == 1


def test_a_late_create_is_reported_to_be_closed() -> None:
    proto = machine()
    (slot,) = proto.start([CREATE]).slots
    proto.abandon(slot)
    (event,) = feed(proto, reply(slot, created()))
    assert isinstance(event, LateReply)
    assert event.slot is slot


def test_a_late_create_that_failed_left_nothing() -> None:
    proto = machine()
    (slot,) = proto.start([CREATE]).slots
    proto.abandon(slot)
    assert feed(proto, reply(slot, ERROR, status=STATUS_OBJECT_NAME_NOT_FOUND)) == []


def test_a_late_create_with_its_close_behind_it_left_nothing() -> None:
    proto = machine()
    create, query, close = proto.start([CREATE, QUERY, CLOSE], related=True).slots
    for slot in (create, query, close):
        proto.abandon(slot)
    answers = reply(create, created()), reply(query, bytes(9)), reply(close, bytes(60))
    assert feed(proto, compound(*answers)) == []


def test_a_late_close_that_failed_with_its_compound_leaves_the_handle_to_be_closed() -> None:
    proto = machine()
    create, query, close = proto.start([CREATE, QUERY, CLOSE], related=True).slots
    for slot in (create, query, close):
        proto.abandon(slot)
    answers = [reply(create, created())]
    answers += [reply(slot, ERROR, status=STATUS_CANCELLED) for slot in (query, close)]
    (event,) = feed(proto, compound(*answers))
    assert isinstance(event, LateReply)
    assert event.slot is create
    assert event.reply.header.command == Command.CREATE


def test_a_late_close_whose_create_failed_leaves_nothing() -> None:
    proto = machine()
    create, close = proto.start([CREATE, CLOSE], related=True).slots
    for slot in (create, close):
        proto.abandon(slot)
    failed = [reply(slot, ERROR, status=STATUS_OBJECT_NAME_NOT_FOUND) for slot in (create, close)]
    assert feed(proto, compound(*failed)) == []


def test_a_late_close_of_an_earlier_open_leaves_nothing() -> None:
    proto = machine()
    query, close = proto.start([QUERY, CloseRequest(FILE_ID)], related=True).slots
    proto.abandon(query)
    proto.abandon(close)
    failed = [reply(slot, ERROR, status=STATUS_CANCELLED) for slot in (query, close)]
    assert feed(proto, compound(*failed)) == []


@pytest.mark.parametrize(
    ("request_", "status", "reported"),
    [
        (lock(LockFlags.EXCLUSIVE_LOCK), 0, True),
        (lock(LockFlags.EXCLUSIVE_LOCK), STATUS_CANCELLED, False),
        (lock(LockFlags.UNLOCK), 0, False),
        (lock(LockFlags.UNLOCK, LockFlags.SHARED_LOCK), 0, True),
    ],
)
def test_a_late_lock_is_reported_to_be_released(request_: LockRequest, status: int, reported: bool) -> None:
    proto = machine()
    (slot,) = proto.start([request_]).slots
    proto.abandon(slot)
    events = feed(proto, reply(slot, EMPTY_BODY if not status else ERROR, status=status))
    assert [isinstance(event, LateReply) for event in events] == [True] * reported


@pytest.mark.parametrize(
    ("body", "notification"),
    [
        (OplockBreak(FileId(1, 2), 1).encode(), OplockBreak(FileId(1, 2), 1)),
        (LeaseBreakNotification(bytes(16), 7, 1).encode(), LeaseBreakNotification(bytes(16), 7, 1)),
    ],
)
def test_a_break_is_an_event(body: bytes, notification: OplockBreak | LeaseBreakNotification) -> None:
    proto = machine()
    header = Header(
        command=Command.OPLOCK_BREAK, flags=HeaderFlags.SERVER_TO_REDIR, message_id=UNSOLICITED_MESSAGE_ID
    )
    (event,) = feed(proto, header.encode() + body)
    assert isinstance(event, BreakReceived)
    assert event.notification == notification
    assert proto.credits.available == 64


def test_other_unsolicited_messages_are_ignored_3_2_5_19() -> None:
    header = Header(
        command=Command.ECHO, flags=HeaderFlags.SERVER_TO_REDIR, message_id=UNSOLICITED_MESSAGE_ID
    )
    proto = machine()
    assert feed(proto, header.encode() + EMPTY_BODY) == []
    assert proto.statistics.unknown_replies == 0


def test_when_the_connection_is_gone_every_slot_fails() -> None:
    proto = machine()
    slots = [proto.start([EchoRequest()]).slots[0] for _ in range(3)]
    proto.abandon(slots[2])
    woken: list[int] = []
    for slot in slots[:2]:
        slot.on_done = lambda slot=slot: woken.append(slot.message_id)
    error = TransportError("gone")
    proto.fail_all(error)
    assert woken == [0, 1]
    assert [slot.error for slot in slots] == [error] * 3
    assert [slot.state for slot in slots] == [SlotState.DONE, SlotState.DONE, SlotState.ABANDONED]
    assert not proto.slots


def test_statistics_tell_what_was_done() -> None:
    proto = machine()
    slots = proto.start([CREATE, CLOSE], related=True).slots
    frame = sent(proto.start([EchoRequest()]))
    snapshot = proto.snapshot()
    assert snapshot.requests == {"CREATE": 1, "CLOSE": 1, "ECHO": 1}
    assert snapshot.trips == {"CREATE+CLOSE": 1, "ECHO": 1}
    assert snapshot.round_trips == 2
    assert (snapshot.in_flight, snapshot.most_in_flight, snapshot.credits) == (3, 3, 61)
    assert snapshot.credits_in_use == 3
    assert snapshot.bytes_sent > 2 * len(frame)
    answer = reply(slots[0], created())
    feed(proto, answer)
    assert snapshot.bytes_received == 0, "a snapshot stands still"
    again = proto.snapshot()
    assert again.bytes_received == len(answer)
    assert (again.in_flight, again.most_in_flight) == (2, 3)
    told = again.as_dict()
    assert told["round_trips"] == 2
    assert told["trips"] == {"CREATE+CLOSE": 1, "ECHO": 1}
    assert set(told) == set(Machine(1).snapshot().as_dict())


def test_a_finished_compound_keeps_no_buffer_alive() -> None:
    connection = machine()
    outgoing = connection.start([CREATE, CLOSE], related=True)
    opening, closing = outgoing.slots
    answer = compound(reply(opening, created()), reply(closing, CloseResponse().encode()))
    buffer = bytearray(answer) + bytearray(16)
    gc.disable()
    try:
        connection.receive(memoryview(buffer), len(answer))
        del outgoing, opening, closing
        buffer.append(0)  # BufferError as long as a reply has a view of it.
    finally:
        gc.enable()


def test_the_data_that_may_come_is_what_requests_in_flight_paid_for() -> None:
    made = machine()
    assert made.awaited == 0
    listing = QueryDirectoryRequest(
        file_information_class=37, file_id=FILE_ID, output_buffer_length=2 * 65536
    )
    (slot,) = made.start([read(65537)]).slots
    made.start([listing, EchoRequest()])
    assert made.awaited == 4 * 65536
    feed(made, reply(slot, ReadResponse(b"short").encode()))
    assert made.awaited == 2 * 65536
