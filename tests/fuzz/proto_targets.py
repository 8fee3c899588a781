"""The targets of `engine/proto`: the negotiation, the machine and the leases, each driven by a program."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Final

from engine.crypto.sealing import TRANSFORM_HEADER_SIZE, Cipher
from engine.crypto.signing import SigningAlgorithm, make_signer
from engine.errors import TransportError
from engine.ntstatus import STATUS_PENDING
from engine.proto.inflight import Request, SessionState, Slot, SlotState
from engine.proto.lease_grants import LeaseKind, lease_kind, only_grant_untrusted
from engine.proto.leases import Claim, LeaseRecord, LeaseTable
from engine.proto.machine import Machine
from engine.proto.negotiation import (
    Negotiated,
    Offer,
    check_response_untrusted,
    check_validation_untrusted,
    negotiate_request,
)
from engine.proto.referrals import (
    LONGEST_LIFE,
    SHORTEST_LIFE,
    read_names_untrusted,
    read_untrusted,
    split_name,
)
from engine.wire import create_contexts
from engine.wire.constants import Command, Dialect, HeaderFlags, LeaseState, LockFlags, OplockLevel
from engine.wire.create import CloseRequest, CreateRequest, CreateResponse
from engine.wire.dfs import DfsReferralResponse
from engine.wire.header import UNSOLICITED_MESSAGE_ID, Header
from engine.wire.io import EchoRequest, IoctlRequest, LockElement, LockRequest, ReadRequest, WriteRequest
from engine.wire.ioctl import ValidateNegotiateInfoResponse
from engine.wire.negotiate import NegotiateResponse
from engine.wire.notify import LeaseBreakAcknowledgement, LeaseBreakNotification, OplockBreak
from engine.wire.primitives import FILE_ID_RELATED, FileId, align8
from tests.fuzz.crypto_targets import SESSION_ID, sealer
from tests.fuzz.target import Script, Target, covering

_GUID: Final = uuid.UUID(int=7)
_DIALECTS: Final = tuple(Dialect)


def offer_of(script: Script) -> Offer:
    """An offer by two bytes."""
    lowest = script.below(len(_DIALECTS))
    highest = lowest + script.below(len(_DIALECTS) - lowest)
    return Offer("server", _DIALECTS[lowest], _DIALECTS[highest], True, False, client_guid=_GUID)


# Negotiation


def _negotiation(data: bytes) -> None:
    """An offer, then a NEGOTIATE response: what is agreed on was offered, and holds together."""
    script = Script(data)
    offer = offer_of(script)
    negotiated = check_response_untrusted(offer, NegotiateResponse.decode_untrusted(memoryview(data)[2:]))
    assert negotiated.dialect in offer.dialects
    assert negotiated.cipher is None or negotiated.cipher in offer.ciphers
    assert negotiated.cipher is None or negotiated.dialect >= Dialect.SMB_3_0
    assert min(negotiated.max_read, negotiated.max_write, negotiated.max_transact) >= 65536
    assert max(negotiated.max_read, negotiated.max_write, negotiated.max_transact) <= 8 << 20
    assert lease_kind(negotiated) in LeaseKind
    negotiate_request(offer).encode()


_AGREED: Final = Negotiated(
    dialect=Dialect.SMB_3_0,
    server_guid=_GUID,
    server_security_mode=1,
    client_security_mode=1,
    server_capabilities=0x7F,
    large_mtu=True,
    max_transact=65536,
    max_read=65536,
    max_write=65536,
    signing_algorithm=SigningAlgorithm.AES_CMAC,
    cipher=Cipher.AES_128_CCM,
    security_buffer=b"",
)


def _validation(data: bytes) -> None:
    response = ValidateNegotiateInfoResponse.decode_untrusted(memoryview(data))
    check_validation_untrusted(_AGREED, response)
    assert response == ValidateNegotiateInfoResponse(0x7F, _GUID, 1, Dialect.SMB_3_0)


# The machine

_BIG: Final = 3 << 16
_REQUESTS: Final[tuple[Callable[[], Request], ...]] = (
    EchoRequest,
    lambda: CreateRequest(desired_access=1, name="a"),
    lambda: CloseRequest(FILE_ID_RELATED),
    lambda: ReadRequest(file_id=FILE_ID_RELATED, offset=0, length=_BIG),
    lambda: WriteRequest(file_id=FILE_ID_RELATED, offset=0, data=b"odd"),
    lambda: LockRequest(FILE_ID_RELATED, [LockElement(0, 1, LockFlags.EXCLUSIVE_LOCK)]),
    lambda: LockRequest(FILE_ID_RELATED, [LockElement(0, 1, LockFlags.UNLOCK)]),
    lambda: IoctlRequest(ctl_code=1, file_id=FILE_ID_RELATED, max_output_response=_BIG),
    lambda: OplockBreak(FileId(1, 1), 0),
)
_STATUSES: Final = (0, 0xC0000001, STATUS_PENDING, 0x80000005, 0xC0000120)
_ROOM: Final = bytes(16)


class _Wire:
    """A machine, and a server that follows a program: it says anything, now and then what it should."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.machine = Machine(max_credits=script.below(64) + 1)
        self.slots: list[Slot] = []
        flags = script.number()
        self.machine.negotiated(_DIALECTS[flags % len(_DIALECTS)], large_mtu=bool(flags & 8))
        self.session = SessionState(SESSION_ID, signing_required=bool(flags & 16))
        if flags & 32:
            self.session.signer = make_signer(SigningAlgorithm(flags % 3), bytes(16))
        if flags & 64:
            self.session.sealer = sealer(Cipher.AES_128_GCM)
        if flags & 128:
            self.machine.sessions[SESSION_ID] = self.session

    def run(self) -> None:
        steps = (self.start, self.answer, self.abandon, self.say_anything, self.answer, self.break_unasked)
        try:
            while self.script:
                steps[self.script.below(len(steps))]()
                self.check()
        finally:
            self.machine.fail_all(TransportError("over"))
            assert not self.machine.slots
            settled = (SlotState.DONE, SlotState.ABANDONED)
            assert all(slot.state in settled for slot in self.slots)

    def start(self) -> None:
        script, machine = self.script, self.machine
        choice = script.number()
        requests = [_REQUESTS[script.below(len(_REQUESTS))]() for _ in range(1 + choice % 3)]
        if sum(map(machine.charge, requests)) > machine.credits.usable:
            return
        sealed = bool(choice & 4) and self.session.sealer is not None
        outgoing = machine.start(requests, session=self.session, related=bool(choice & 8), sealed=sealed)
        assert len(outgoing.slots) == len(requests)
        self.slots += outgoing.slots

    def abandon(self) -> None:
        if self.slots:
            self.machine.abandon(self.slots[self.script.below(len(self.slots))])

    def say_anything(self) -> None:
        self.receive(self.script.blob())

    def break_unasked(self) -> None:
        header = Header(
            command=Command.OPLOCK_BREAK,
            flags=HeaderFlags.SERVER_TO_REDIR,
            message_id=UNSOLICITED_MESSAGE_ID,
        )
        self.receive(header.encode() + self.script.piece(self.script.below(64)))

    def answer(self) -> None:
        """One or two replies in a frame, to requests in flight or long answered, protected as may be."""
        if not self.slots:
            return
        how = self.script.number()
        messages = [self.reply(how) for _ in range(1 + (how & 1))]
        for message in messages[:-1]:
            message += bytes(align8(len(message)) - len(message))
            message[20:24] = len(message).to_bytes(4, "little")
        frame = b"".join(messages)
        if how & 2 and self.session.sealer is not None:
            frame = b"".join(self.session.sealer.seal([frame]))
        self.receive(frame)

    def reply(self, how: int) -> bytearray:
        script = self.script
        slot = self.slots[script.below(len(self.slots))]
        status = _STATUSES[script.below(len(_STATUSES))]
        flags = HeaderFlags.SERVER_TO_REDIR | (HeaderFlags.ASYNC_COMMAND if how & 4 else 0)
        header = Header(
            command=slot.request.COMMAND if how & 8 or how & 1 else script.number(),
            status=status,
            credits=script.below(8),
            flags=int(flags),
            message_id=slot.message_id,
            session_id=slot.session.session_id if not how & 16 else script.number(),
            async_id=script.number(),
        )
        message = bytearray(header.encode() + script.piece(script.below(96)))
        # The second of a compound is signed for itself, so only its own bytes count.
        if how & 32 and self.session.signer is not None and not how & 1:
            message[16] |= HeaderFlags.SIGNED
            message[48:64] = self.session.signer.sign(message)
        return message

    def receive(self, frame: bytes) -> None:
        sealed = frame[:4] == b"\xfdSMB"
        before = self.machine.statistics.bytes_received
        self.machine.receive(memoryview(bytearray(frame + _ROOM)), len(frame))
        assert self.machine.statistics.bytes_received == before + len(frame)
        assert not sealed or len(frame) > TRANSFORM_HEADER_SIZE

    def check(self) -> None:
        machine, ledger = self.machine, self.machine.credits
        assert ledger.available >= 0
        assert ledger.outstanding == sum(slot.owed for slot in machine.slots.values())
        assert all(slot.message_id == key for key, slot in machine.slots.items())
        for slot in self.slots:
            waits = slot.message_id in machine.slots
            assert waits == (slot.reply is None), "a slot leaves the table with its final reply"


def _machine(data: bytes) -> None:
    _Wire(Script(data)).run()


def _frame(data: bytes) -> None:
    """One frame as it comes, to a machine that waits for replies to the first MessageIds."""
    machine = Machine(max_credits=64)
    machine.credits.bank(16, 0)
    slots = [machine.start([make()]).slots[0] for make in _REQUESTS]
    try:
        machine.receive(memoryview(bytearray(data + _ROOM)), len(data))
    finally:
        assert all((slot.reply is None) == (slot.message_id in machine.slots) for slot in slots)


# Leases

_KINDS: Final = tuple(LeaseKind)
_LEVELS: Final = tuple(OplockLevel)


class _Record(LeaseRecord):
    def tell_owner(self) -> None:
        """Nobody listens."""


class _Leases:
    """A table with a folder's lease and two of files in it, and a server that follows a program."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.table = LeaseTable()
        self.table.kind = _KINDS[script.below(len(_KINDS))]
        self.records = [_Record() for _ in range(3)]
        self.records[1].folder = self.records[0]
        self.claims: list[Claim] = []
        self.files: list[FileId] = []
        self.due: list[tuple[LeaseRecord, Request]] = []

    def run(self) -> None:
        steps = (
            *(self.claim, self.settle, self.settle_with_anything, self.withdraw, self.close),
            *(self.break_lease, self.break_oplock, self.acknowledge, self.answered, self.lose),
        )
        while self.script:
            steps[self.script.below(len(steps))]()
            self.check()

    def record(self) -> _Record:
        return self.records[self.script.below(len(self.records))]

    def claim(self) -> None:
        record = self.record()
        is_folder = record is self.records[0] and self.table.kind in (LeaseKind.V1, LeaseKind.V2)
        self.table.asked_for_changes(record)
        self.claims.append(self.table.claim(record, is_folder=is_folder))

    def file_id(self) -> FileId:
        return FileId(self.script.below(8), 0)

    def settle(self) -> None:
        if not self.claims:
            return
        script = self.script
        claim = self.claims.pop(script.below(len(self.claims)))
        key = claim.lease.key if claim.lease is not None else bytes(16)
        state, flags, epoch = script.below(16), script.below(8), script.number(2)
        contexts: Sequence[create_contexts.CreateContext] = (
            (create_contexts.LeaseV2(key, state, flags, epoch=epoch),)
            if self.table.kind is LeaseKind.V2
            else (create_contexts.Lease(key, state, flags),)
        )
        self.book(claim, self.created(_LEVELS[script.below(len(_LEVELS))], contexts))

    def settle_with_anything(self) -> None:
        if not self.claims:
            return
        response = CreateResponse.decode_untrusted(memoryview(bytes(64) + self.script.blob()))
        self.book(self.claims.pop(), response)

    def created(self, level: int, contexts: Sequence[create_contexts.CreateContext]) -> CreateResponse:
        return CreateResponse(
            oplock_level=level,
            create_action=1,
            creation_time=0,
            last_access_time=0,
            last_write_time=0,
            change_time=0,
            allocation_size=0,
            end_of_file=0,
            file_attributes=0,
            file_id=self.file_id(),
            contexts=contexts,
        )

    def book(self, claim: Claim, response: CreateResponse) -> None:
        with claim:
            if claim.settle(response):
                self.files.append(response.file_id)

    def withdraw(self) -> None:
        if self.claims:
            self.table.withdraw(self.claims.pop(self.script.below(len(self.claims))))

    def close(self) -> None:
        """Of a file that is open, or of one that never was."""
        if self.files and self.script.below(4):
            self.table.closing(self.files.pop(self.script.below(len(self.files))))
        else:
            file_id = FileId(self.script.number(2) + 8, 0)
            self.files = [file for file in self.files if file != file_id]
            self.table.closing(file_id)

    def break_lease(self) -> None:
        script = self.script
        key = self.record().key if script.below(8) else script.piece(16)
        notification = LeaseBreakNotification(key, script.number(), script.number(), script.below(2))
        notification.new_epoch = script.number(2)
        self.table.take_break(notification)

    def break_oplock(self) -> None:
        self.table.take_break(OplockBreak(self.file_id(), self.script.number()))

    def acknowledge(self) -> None:
        record = self.record()
        request = record.next_acknowledgement()
        if request is not None:
            self.due.append((record, request))

    def answered(self) -> None:
        if self.due:
            record, request = self.due.pop(self.script.below(len(self.due)))
            record.answered(request)

    def lose(self) -> None:
        if not self.script.below(16):
            self.table.lose(tell=True)
            # As the engine does: what was under way is withdrawn, and the table is not used again.
            for claim in self.claims:
                self.table.withdraw(claim)
            self.claims, self.files = [], []

    def check(self) -> None:
        open_by = {record: record._levels for record in self.records}
        for record, levels in open_by.items():
            assert levels or not record.state, "something is believed of a file that is not open"
            assert (
                not record.state
                & ~LeaseState.READ_CACHING
                & ~LeaseState.WRITE_CACHING
                & ~(LeaseState.HANDLE_CACHING)
            )
            for _, request in self.due:
                if isinstance(request, LeaseBreakAcknowledgement) and request.lease_key == record.key:
                    assert not record.state & ~request.lease_state, "more than an unanswered acknowledgement"
        assert self.table.has_files == any(open_by.values())


def _leases(data: bytes) -> None:
    _Leases(Script(data)).run()


def _grant(data: bytes) -> None:
    """A kind, then the contexts of a CREATE response, taken for an answer to a lease of zeros."""
    script = Script(data)
    kind = _KINDS[script.below(len(_KINDS))]
    response = CreateResponse.decode_untrusted(memoryview(bytes(64) + data[1:]))
    grant = only_grant_untrusted(response, bytes(16), kind)
    assert grant is None or grant.lease_key == bytes(16)


def _referral(data: bytes) -> None:
    """The length of a name, the name, and what is said of it."""
    script = Script(data)
    length = script.number()
    name = ("server", "share", *split_name(script.piece(length).decode("latin-1")))
    response = DfsReferralResponse.decode_untrusted(memoryview(data)[1 + length :])
    entry = read_untrusted(name, response, 0.0)
    assert entry.name == name[: len(entry.name)]
    assert SHORTEST_LIFE <= entry.expires <= LONGEST_LIFE
    assert set(entry.order) == set(entry.targets)
    assert all(len(target.place) >= 2 for target in entry.targets)


def _names(data: bytes) -> None:
    """What a controller says of domains."""
    for listed in read_names_untrusted(DfsReferralResponse.decode_untrusted(memoryview(data)), 0.0):
        assert SHORTEST_LIFE <= listed.expires <= LONGEST_LIFE
        for name in (listed.name, *listed.controllers):
            assert 0 < len(name) <= 255
            assert not set(name) & set("\\/:*?\0\n")


PROTO_TARGETS: Final = (
    Target("proto.negotiation", _negotiation, covers=covering(check_response_untrusted)),
    Target("proto.validation", _validation, covers=covering(check_validation_untrusted)),
    Target("proto.machine", _machine),
    Target("proto.frame", _frame),
    Target("proto.leases", _leases),
    Target("proto.grant", _grant, covers=covering(only_grant_untrusted)),
    Target("proto.referral", _referral, covers=covering(read_untrusted)),
    Target("proto.names", _names, covers=covering(read_names_untrusted)),
)
