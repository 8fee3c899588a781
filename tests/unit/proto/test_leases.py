"""Leases and oplocks step by step: what is asked for, granted, broken, acknowledged and refused."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from engine.crypto.signing import SigningAlgorithm
from engine.errors import RemoteProtocolError
from engine.proto.lease_grants import LeaseKind, lease_kind, only_grant_untrusted
from engine.proto.leases import Claim, LeaseRecord, LeaseTable
from engine.proto.negotiation import Negotiated
from engine.wire import create_contexts
from engine.wire.constants import Dialect, LeaseBreakFlags, LeaseFlags, OplockLevel
from engine.wire.create import CreateResponse
from engine.wire.create_contexts import CreateContext, LeaseV2
from engine.wire.notify import LeaseBreakAcknowledgement, LeaseBreakNotification, OplockBreak
from engine.wire.primitives import FileId

R, RW, RH, RWH = 1, 5, 3, 7
NONE, LEVEL_II, EXCLUSIVE, BATCH = (
    int(level) for level in (OplockLevel.NONE, OplockLevel.II, OplockLevel.EXCLUSIVE, OplockLevel.BATCH)
)
LEASED: Final = int(OplockLevel.LEASE)
A, B = FileId(1, 1), FileId(2, 2)

NEGOTIATED: Final = Negotiated(
    dialect=Dialect.SMB_3_1_1,
    server_guid=uuid.UUID(int=1),
    server_security_mode=1,
    client_security_mode=1,
    server_capabilities=0,
    large_mtu=True,
    max_transact=65536,
    max_read=65536,
    max_write=65536,
    signing_algorithm=SigningAlgorithm.AES_CMAC,
    cipher=None,
    security_buffer=b"",
    leasing=True,
)


class Record(LeaseRecord):
    """A lease whose owner remembers the states that it was told of."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[int] = []

    def tell_owner(self) -> None:
        self.told.append(self.state)


def table_of(kind: LeaseKind) -> LeaseTable:
    table = LeaseTable()
    table.kind = kind
    return table


def created(
    level: int = NONE, contexts: Sequence[CreateContext] = (), *, file_id: FileId = A
) -> CreateResponse:
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
        file_id=file_id,
        contexts=contexts,
    )


def opened(table: LeaseTable, record: LeaseRecord, level: int, file_id: FileId = A) -> None:
    """Open a file with an oplock of this level."""
    with table.claim(record) as claim:
        assert claim.settle(created(level, file_id=file_id)) is (level != NONE)


def leased(table: LeaseTable, record: LeaseRecord, state: int, epoch: int = 1, file_id: FileId = A) -> None:
    """Open a file with a lease of version 2."""
    with table.claim(record) as claim:
        assert claim.settle(created(LEASED, [LeaseV2(record.key, state, epoch=epoch)], file_id=file_id))


def acknowledgement(record: LeaseRecord) -> OplockBreak | LeaseBreakAcknowledgement:
    """The one that is due."""
    assert record.needs_acknowledgement
    request = record.next_acknowledgement()
    assert isinstance(request, OplockBreak | LeaseBreakAcknowledgement)
    return request


# What can be asked for


@pytest.mark.parametrize(
    ("dialect", "leasing", "kind"),
    [
        (Dialect.SMB_2_0_2, True, LeaseKind.OPLOCK),
        (Dialect.SMB_2_0_2, False, LeaseKind.OPLOCK),
        (Dialect.SMB_2_1, True, LeaseKind.V1),
        (Dialect.SMB_2_1, False, LeaseKind.NONE),
        (Dialect.SMB_3_0, True, LeaseKind.V2),
        (Dialect.SMB_3_1_1, True, LeaseKind.V2),
        (Dialect.SMB_3_1_1, False, LeaseKind.NONE),
    ],
)
def test_what_a_connection_can_grant(dialect: Dialect, leasing: bool, kind: LeaseKind) -> None:
    assert lease_kind(replace(NEGOTIATED, dialect=dialect, leasing=leasing)) is kind


@pytest.mark.parametrize("kind", [LeaseKind.V1, LeaseKind.V2])
def test_a_lease_is_asked_for_in_the_version_of_the_dialect(kind: LeaseKind) -> None:
    table = table_of(kind)
    record = Record()
    claim = table.claim(record)
    assert claim.oplock_level == LEASED
    (context,) = claim.contexts
    assert context == (
        LeaseV2(record.key, RWH) if kind is LeaseKind.V2 else create_contexts.Lease(record.key, RWH)
    )


def test_the_lease_of_a_folder_is_asked_for_without_the_right_to_write() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    claim = table.claim(record, is_folder=True)
    assert claim.contexts == (LeaseV2(record.key, RH),)


def test_a_file_names_the_lease_of_its_folder() -> None:
    table = table_of(LeaseKind.V2)
    folder, record = Record(), Record()
    record.folder = folder
    (context,) = table.claim(record).contexts
    assert context == LeaseV2(record.key, RWH, LeaseFlags.PARENT_LEASE_KEY_SET, folder.key)


def test_the_first_oplock_is_a_batch_one_and_the_next_only_level_ii() -> None:
    table = table_of(LeaseKind.OPLOCK)
    record = Record()
    with table.claim(record) as first:
        assert (first.oplock_level, first.contexts) == (BATCH, ())
        assert table.claim(record).oplock_level == LEVEL_II


@pytest.mark.parametrize("kind", [LeaseKind.NONE, LeaseKind.V2])
def test_without_leases_or_a_lease_nothing_is_asked_for(kind: LeaseKind) -> None:
    table = table_of(kind)
    with table.claim(Record() if kind is LeaseKind.NONE else None) as claim:
        assert (claim.oplock_level, claim.contexts) == (NONE, ())
        assert not claim.settle(created(LEASED, [LeaseV2(bytes(16), RWH)]))
    assert len(table) == 0


def test_a_change_by_path_names_the_lease_that_it_is_not_to_break() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    assert table.asked_for_changes(record) == (NONE, ()), "nothing is open with it"
    leased(table, record, RW, epoch=4)
    assert table.asked_for_changes(record) == (LEASED, (LeaseV2(record.key, RW, epoch=4),))
    other = Record()
    other.folder = record
    level, (context,) = table.asked_for_changes(other)
    assert level == LEASED
    assert context == LeaseV2(other.key, 0, LeaseFlags.PARENT_LEASE_KEY_SET, record.key)
    oplocks = table_of(LeaseKind.OPLOCK)
    held = Record()
    opened(oplocks, held, BATCH)
    assert oplocks.asked_for_changes(held) == (NONE, ())


# What is granted


def test_the_wrong_grants() -> None:
    key = bytes(16)
    v1, v2 = create_contexts.Lease(key, R), LeaseV2(key, R)
    assert only_grant_untrusted(created(), key, LeaseKind.V2) is None
    assert only_grant_untrusted(created(contexts=[v2]), key, LeaseKind.V2) is v2
    assert only_grant_untrusted(created(contexts=[v1]), key, LeaseKind.V1) is v1
    for contexts, kind, words in (
        ([v2, v2], LeaseKind.V2, "under another key"),
        ([LeaseV2(bytes(15) + b"x", R)], LeaseKind.V2, "under another key"),
        ([v1], LeaseKind.V2, "of another version"),
        ([v2], LeaseKind.V1, "of another version"),
    ):
        with pytest.raises(RemoteProtocolError, match=words):
            only_grant_untrusted(created(contexts=contexts), key, kind)


@pytest.mark.parametrize("level", [NONE, LEVEL_II, BATCH, 0x77])
def test_a_grant_counts_only_with_the_level_that_says_so(level: int) -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    with table.claim(record) as claim:
        assert not claim.settle(created(level, [LeaseV2(record.key, RWH)]))
    assert record.state == 0
    assert not table.has_files


def test_the_same_handle_cannot_be_given_out_twice() -> None:
    table = table_of(LeaseKind.V2)
    leased(table, Record(), R)
    with pytest.raises(RemoteProtocolError, match="twice"):
        leased(table, Record(), R)


@pytest.mark.parametrize(("level", "state"), [(NONE, 0), (LEVEL_II, R), (EXCLUSIVE, RW), (BATCH, RWH)])
def test_what_an_oplock_is_worth(level: int, state: int) -> None:
    table = table_of(LeaseKind.OPLOCK)
    record = Record()
    opened(table, record, level)
    assert record.state == state
    assert table.has_files is (level != NONE)
    table.closing(A)
    assert record.state == 0
    assert not table.has_files
    assert len(table) == 0


def test_oplocks_of_several_handles_add_up_and_closing_one_is_told() -> None:
    table = table_of(LeaseKind.OPLOCK)
    record = Record()
    opened(table, record, BATCH, A)
    opened(table, record, LEVEL_II, B)
    assert record.state == RWH
    term = record.term
    table.closing(A)
    assert record.state == R
    assert record.told == [R]
    assert record.term == term, "the right to cache reads was never lost"
    table.closing(B)
    assert record.state == 0


def test_what_another_handle_vouches_for_as_well_is_not_lost_with_one() -> None:
    table = table_of(LeaseKind.OPLOCK)
    record = Record()
    for file_id in (A, B, FileId(3, 3)):
        opened(table, record, LEVEL_II, file_id)
    table.take_break(OplockBreak(A, NONE))
    table.closing(B)
    assert (record.state, record.told, record.needs_acknowledgement) == (R, [], False)


def test_closing_what_is_no_part_of_a_lease_changes_nothing() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    leased(table, record, RWH)
    table.closing(B)
    assert record.state == RWH


# Breaks of oplocks


def test_an_oplock_is_broken_and_the_break_acknowledged() -> None:
    table = table_of(LeaseKind.OPLOCK)
    record = Record()
    opened(table, record, BATCH)
    table.take_break(OplockBreak(A, LEVEL_II))
    assert record.state == R
    assert record.told == [R]
    request = acknowledgement(record)
    assert request == OplockBreak(A, LEVEL_II)
    record.answered(request)
    assert not record.needs_acknowledgement
    assert record.next_acknowledgement() is None


def test_nobody_waits_for_level_ii_to_go_unless_an_acknowledgement_is_due_anyway() -> None:
    table = table_of(LeaseKind.OPLOCK)
    record = Record()
    opened(table, record, LEVEL_II)
    table.take_break(OplockBreak(A, NONE))
    assert record.state == 0
    assert not record.needs_acknowledgement
    again = Record()
    opened(table, again, BATCH, B)
    table.take_break(OplockBreak(B, LEVEL_II))
    table.take_break(OplockBreak(B, NONE))
    assert acknowledgement(again) == OplockBreak(B, NONE)


@pytest.mark.parametrize("level", [LEVEL_II, BATCH, 0xFF])
def test_a_break_that_breaks_nothing_is_ignored(level: int) -> None:
    table = table_of(LeaseKind.OPLOCK)
    record = Record()
    opened(table, record, LEVEL_II)
    table.take_break(OplockBreak(A, level))
    assert (record.state, record.told, record.needs_acknowledgement) == (R, [], False)


def test_a_break_is_due_no_more_when_the_file_is_closed() -> None:
    table = table_of(LeaseKind.OPLOCK)
    record = Record()
    opened(table, record, BATCH)
    table.take_break(OplockBreak(A, NONE))
    table.closing(A)
    assert not record.needs_acknowledgement


def test_a_break_that_arrives_before_the_handle_is_kept_for_it() -> None:
    table = table_of(LeaseKind.OPLOCK)
    record = Record()
    with table.claim(record) as claim:
        table.take_break(OplockBreak(A, LEVEL_II))
        assert claim.settle(created(BATCH))
    assert record.state == R
    assert acknowledgement(record) == OplockBreak(A, LEVEL_II)


def test_early_breaks_are_forgotten_with_the_last_create_in_flight_and_are_not_kept_without_one() -> None:
    table = table_of(LeaseKind.OPLOCK)
    record = Record()
    table.take_break(OplockBreak(A, NONE))
    with table.claim(record):
        table.take_break(OplockBreak(A, NONE))
    opened(table, record, BATCH)
    assert record.state == RWH


def test_no_more_early_breaks_are_kept_than_there_can_be() -> None:
    table = table_of(LeaseKind.OPLOCK)
    record = Record()
    with table.claim(record) as claim:
        for number in range(10_000):
            table.take_break(OplockBreak(FileId(number, 0), NONE))
        assert len(table._early) == 256
        assert claim.settle(created(BATCH, file_id=FileId(9_999, 0)))
    assert record.state == RWH


def test_an_oplock_break_of_a_leased_file_is_ignored() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    leased(table, record, RWH)
    table.take_break(OplockBreak(A, NONE))
    assert (record.state, record.needs_acknowledgement) == (RWH, False)


# Breaks of leases


def test_a_lease_break_where_there_are_no_leases_is_ignored() -> None:
    """On 2.0.2 nobody asked for a lease, and an acknowledgement would be one of another dialect."""
    table = table_of(LeaseKind.OPLOCK)
    record = Record()
    opened(table, record, BATCH)
    table.take_break(LeaseBreakNotification(record.key, RWH, 0, LeaseBreakFlags.ACK_REQUIRED, 1))
    assert (record.state, record.told, record.needs_acknowledgement) == (RWH, [], False)


def test_a_lease_break_of_an_unknown_key_is_ignored() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    leased(table, record, RWH)
    table.take_break(LeaseBreakNotification(bytes(16), RWH, 0, LeaseBreakFlags.ACK_REQUIRED, 2))
    assert record.state == RWH


def test_a_break_that_asks_for_no_acknowledgement_and_takes_nothing_is_not_told() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    leased(table, record, R)
    table.take_break(LeaseBreakNotification(record.key, R, R, 0, 2))
    assert (record.state, record.told) == (R, [])


def test_a_late_break_of_an_older_epoch_takes_nothing() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    leased(table, record, RWH, epoch=0xFFFF)
    table.take_break(LeaseBreakNotification(record.key, RWH, 0, 0, 0xFFFE))
    assert record.state == RWH
    table.take_break(LeaseBreakNotification(record.key, RWH, R, 0, 0))
    assert record.state == R, "epochs wrap around"


def test_two_breaks_need_one_acknowledgement_of_what_both_leave() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    leased(table, record, RWH)
    for state, epoch in ((RH, 2), (R, 3)):
        table.take_break(LeaseBreakNotification(record.key, RWH, state, LeaseBreakFlags.ACK_REQUIRED, epoch))
    request = acknowledgement(record)
    assert request == LeaseBreakAcknowledgement(record.key, R)
    assert not record.needs_acknowledgement
    record.answered(request)


def test_until_it_is_answered_nothing_above_an_acknowledgement_is_believed() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    leased(table, record, RWH)
    table.take_break(LeaseBreakNotification(record.key, RWH, R, LeaseBreakFlags.ACK_REQUIRED, 2))
    request = acknowledgement(record)
    leased(table, record, RWH, epoch=3, file_id=B)
    assert record.state == R
    record.answered(request)
    leased(table, record, RWH, epoch=4, file_id=FileId(3, 3))
    assert record.state == RWH


# Grants that are not what they were when the server made them


def granted(
    record: LeaseRecord, claim: Claim, state: int, *, epoch: int = 0, flags: int = 0, file_id: FileId = A
) -> None:
    """Answer a CREATE with a lease of the version that `claim` asked for."""
    (asked,) = claim.contexts
    context: CreateContext = (
        LeaseV2(record.key, state, flags, epoch=epoch)
        if isinstance(asked, LeaseV2)
        else create_contexts.Lease(record.key, state, flags)
    )
    with claim:
        assert claim.settle(created(LEASED, [context], file_id=file_id))


def test_of_two_grants_of_one_epoch_the_lower_one_counts_and_an_older_one_does_not() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    granted(record, table.claim(record), RH, epoch=5, file_id=A)
    granted(record, table.claim(record), RWH, epoch=5, file_id=B)
    assert record.state == RH
    granted(record, table.claim(record), 0, epoch=4, file_id=FileId(3, 3))
    assert record.state == RH
    granted(record, table.claim(record), R, epoch=6, file_id=FileId(4, 4))
    assert record.state == R
    assert record.told == [R]


def test_without_epochs_the_grant_of_the_newest_create_counts() -> None:
    table = table_of(LeaseKind.V1)
    record = Record()
    older, newer = table.claim(record), table.claim(record)
    granted(record, newer, RH, file_id=A)
    granted(record, older, RWH, file_id=B)
    assert record.state == RH
    granted(record, table.claim(record), RWH, file_id=FileId(3, 3))
    assert record.state == RWH


@pytest.mark.parametrize("kind", [LeaseKind.V1, LeaseKind.V2])
def test_a_break_that_overtakes_the_grant_limits_it(kind: LeaseKind) -> None:
    table = table_of(kind)
    record = Record()
    claim = table.claim(record)
    for state, epoch in ((RH, 7), (R, 8), (RWH, 6)):
        table.take_break(LeaseBreakNotification(record.key, RWH, state, 0, epoch))
    granted(record, claim, RWH, epoch=8)
    assert record.state == R


def test_a_grant_that_is_newer_than_the_break_that_overtook_it_is_not_limited() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    claim = table.claim(record)
    table.take_break(LeaseBreakNotification(record.key, RWH, 0, 0, 7))
    granted(record, claim, RWH, epoch=8)
    assert record.state == RWH


BREAKING: Final = int(LeaseFlags.BREAK_IN_PROGRESS)


def test_while_a_break_is_under_way_a_grant_tells_what_was_before_it() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    granted(record, table.claim(record), RWH, epoch=1)
    claim = table.claim(record)
    table.take_break(LeaseBreakNotification(record.key, RWH, R, LeaseBreakFlags.ACK_REQUIRED, 2))
    granted(record, claim, RWH, epoch=3, flags=BREAKING, file_id=B)
    assert record.state == R
    assert acknowledgement(record) == LeaseBreakAcknowledgement(record.key, R)


def test_the_first_grant_says_that_a_break_is_under_way_which_was_heard_of() -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    claim = table.claim(record)
    table.take_break(LeaseBreakNotification(record.key, RWH, R, LeaseBreakFlags.ACK_REQUIRED, 2))
    granted(record, claim, RWH, epoch=2, flags=BREAKING)
    assert record.state == R
    assert acknowledgement(record) == LeaseBreakAcknowledgement(record.key, R)


def test_the_first_grant_says_that_a_break_is_under_way_which_got_lost() -> None:
    """It was for a CREATE that was given up: the server waits, so all of it is given back."""
    table = table_of(LeaseKind.V2)
    record = Record()
    granted(record, table.claim(record), RWH, epoch=2, flags=BREAKING)
    assert record.state == 0
    assert record.told == [0]
    assert acknowledgement(record) == LeaseBreakAcknowledgement(record.key, 0)


def test_the_owner_has_to_be_somebody() -> None:
    with pytest.raises(NotImplementedError):
        LeaseRecord().tell_owner()


@pytest.mark.parametrize(
    ("epoch", "is_known"),
    [(0x4001, False), (0x4000, True), (1, True), (0x3FFF, True), (0xC001, True), (0, False)],
)
def test_whether_the_server_knew_the_lease_before_shows_in_its_epoch(epoch: int, is_known: bool) -> None:
    table = table_of(LeaseKind.V2)
    record = Record()
    assert not record.is_from_before
    record.set_epoch_apart()
    claim = table.claim(record)
    (asked,) = claim.contexts
    assert isinstance(asked, LeaseV2)
    granted(record, claim, RWH, epoch=epoch)
    assert record.is_from_before is is_known
    table.closing(A)
    assert not record.is_from_before


# The end of a connection


@pytest.mark.parametrize("tell", [True, False])
@pytest.mark.parametrize("kind", [LeaseKind.OPLOCK, LeaseKind.V2])
def test_with_the_connection_all_is_lost(kind: LeaseKind, tell: bool) -> None:
    table = table_of(kind)
    held, asked, idle = Record(), Record(), Record()
    if kind is LeaseKind.V2:
        leased(table, held, RWH)
        table.take_break(LeaseBreakNotification(held.key, RWH, RH, LeaseBreakFlags.ACK_REQUIRED, 2))
    else:
        opened(table, held, BATCH)
        table.take_break(OplockBreak(A, LEVEL_II))
    held.told.clear()
    claim: Claim = table.claim(asked)
    table.lose(tell=tell)
    assert [record.state for record in (held, asked, idle)] == [0, 0, 0]
    assert held.told == ([0] if tell else [])
    assert not asked.told
    assert not held.needs_acknowledgement
    assert not table.has_files
    assert len(table) == 1, "the CREATE in flight is withdrawn by whoever sent it"
    table.withdraw(claim)
    assert len(table) == 0


def test_what_is_held_is_counted_by_kind_and_state() -> None:
    table = table_of(LeaseKind.V2)
    files = [Record() for _ in range(3)]
    for number, (record, state) in enumerate(zip(files, (RWH, RH, RWH), strict=True)):
        leased(table, record, state, file_id=FileId(number, number))
    folder, file_id = Record(), FileId(9, 9)
    with table.claim(folder, is_folder=True) as claim:
        claim.settle(created(LEASED, [LeaseV2(folder.key, RH, epoch=1)], file_id=file_id))
    assert table.held() == {"files": {"RH": 1, "RWH": 2}, "folders": {"RH": 1}}
    table.take_break(LeaseBreakNotification(files[0].key, RWH, R, 0, 2))
    table.closing(file_id)
    assert table.held() == {"files": {"R": 1, "RH": 1, "RWH": 1}, "folders": {}}
    table.lose(tell=False)
    assert table.held() == {"files": {}, "folders": {}}
