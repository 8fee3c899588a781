"""Leases over the wire: what is asked for and granted, breaks at every moment, acknowledgements."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import engine
from engine import Access, Dialect, Disposition, LeaseState, ntstatus
from engine.wire import create_contexts
from engine.wire.constants import Command, LeaseBreakFlags, LeaseFlags, OplockLevel
from engine.wire.create import CreateRequest, CreateResponse
from engine.wire.create_contexts import LeaseV2
from engine.wire.io import ReadResponse
from engine.wire.notify import LeaseBreakAcknowledgement, LeaseBreakNotification, OplockBreak
from engine.wire.primitives import FileId
from tests.fakes.server_behaviours import AnswersWith
from tests.fakes.server_leases import GrantsLeases
from tests.fakes.server_peer import Peer, Reply
from tests.unit.client.support import connected, settled
from tests.unit.client.test_cancellation import finishes

R: Final = LeaseState.READ_CACHING
RH: Final = LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING
RWH: Final = RH | LeaseState.WRITE_CACHING
OLDEST: Final = Dialect.SMB_2_0_2


@dataclass
class Owner:
    """Remembers what it was told: the state, and whether an acknowledgement is due."""

    told: list[tuple[int, bool]] = field(default_factory=list)

    def on_break(self, lease: engine.Lease) -> None:
        self.told.append((lease.state, lease.needs_acknowledgement))


@dataclass
class Held:
    """A server, a connection to it, and a lease that nothing is open with yet."""

    server: GrantsLeases
    share: engine.Share
    owner: Owner
    lease: engine.Lease

    @property
    def in_use(self) -> int:
        return len(self.share._tree.connection.leases)

    async def open(self, name: str = "a") -> engine.File:
        return await self.share.open(name, lease=self.lease)

    async def take_break(self, state: int, epoch: int = 0, *, waits: bool = True) -> None:
        """Have the server break the lease, and wait until the client has read that."""
        flags = LeaseBreakFlags.ACK_REQUIRED if waits else 0
        await self.send(LeaseBreakNotification(self.lease.key, 0, state, flags, epoch))

    async def take_oplock_break(self, file: engine.File | FileId, level: OplockLevel) -> None:
        await self.send(OplockBreak(file.file_id if isinstance(file, engine.File) else file, level))

    async def send(self, notification: LeaseBreakNotification | OplockBreak) -> None:
        before = self.share.statistics().bytes_received
        await self.server.send_break(notification)
        while self.share.statistics().bytes_received == before:
            await wait_all_tasks_blocked()


class HangsUpAtLogOff(GrantsLeases):
    """Ends the connection instead of answering LOGOFF."""

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        if replies[0].command is Command.LOGOFF:
            self.hang_up()
        else:
            await super().respond(peer, replies)


@asynccontextmanager
async def holding(*commands: Command, dialect: Dialect = Dialect.SMB_3_1_1) -> AsyncGenerator[Held, None]:
    server = GrantsLeases(*commands, dialect=dialect)
    server.tree.add_file("a", b"content")
    async with connected(server) as share:
        owner = Owner()
        yield Held(server, share, owner, share.lease(owner.on_break))


def asked(server: GrantsLeases, number: int = -1) -> create_contexts.Lease | LeaseV2:
    """The lease that a CREATE asked for."""
    request = server.asked[number]
    assert request.requested_oplock_level == OplockLevel.LEASE
    (context,) = leases_in(request)
    return context


def leases_in(message: CreateRequest | CreateResponse) -> list[create_contexts.Lease | LeaseV2]:
    """The leases that a CREATE asks for, or grants."""
    kinds = create_contexts.Lease | LeaseV2
    return [context for context in message.contexts if isinstance(context, kinds)]


@pytest.mark.parametrize("dialect", [dialect for dialect in Dialect if dialect != OLDEST])
def test_all_is_asked_for_in_one_round_trip_and_what_is_granted_holds_until_the_close(
    dialect: Dialect,
) -> None:
    async def main() -> None:
        async with holding(dialect=dialect) as held:
            lease = held.lease
            assert held.share.supports_leases
            assert len(lease.key) == 16
            for granted in (R, RH, R | LeaseState.WRITE_CACHING, RWH):
                held.server.state = granted
                file = await held.open()
                assert file.lease is lease
                assert lease.state == granted
                assert asked(held.server).lease_key == lease.key
                assert asked(held.server).lease_state == RWH
                assert isinstance(asked(held.server), LeaseV2) is (dialect >= Dialect.SMB_3_0)
                await file.close()
                assert lease.state == 0
                assert held.in_use == 0
            assert held.owner.told == []
            assert held.share.statistics().trips["CREATE+QUERY_INFO"] == 4

    trio.run(main)


def test_a_lease_that_the_server_forgot_is_granted_anew_with_epochs_that_go_on() -> None:
    async def main() -> None:
        async with holding() as held:
            for epoch in range(3):
                async with await held.open():
                    context = asked(held.server)
                    assert isinstance(context, LeaseV2)
                    assert context.epoch == epoch
                    assert held.lease.term == epoch + 1

    trio.run(main)


def test_a_server_without_leases_is_not_asked() -> None:
    async def main() -> None:
        server = GrantsLeases()
        server.offers_leases = False
        server.tree.add_file("a")
        async with connected(server) as share:
            assert not share.supports_leases
            lease = share.lease(Owner().on_break)
            file = await share.open("a", lease=lease)
            assert file.lease is None
            assert server.asked[-1].requested_oplock_level == OplockLevel.NONE
            assert not leases_in(server.asked[-1])

    trio.run(main)


def _without_context(response: CreateResponse) -> None:
    response.contexts = ()


def _without_level(response: CreateResponse) -> None:
    response.oplock_level = OplockLevel.NONE


def _with_an_oplock(response: CreateResponse) -> None:
    response.oplock_level, response.contexts = OplockLevel.BATCH, ()


@pytest.mark.parametrize("change", [_without_context, _without_level, _with_an_oplock])
def test_an_answer_without_a_lease_is_none(change: Callable[[CreateResponse], None]) -> None:
    async def main() -> None:
        async with holding() as held:
            held.server.change = change
            file = await held.open()
            assert file.lease is None
            assert held.lease.state == 0
            assert held.in_use == 0

    trio.run(main)


def _other_key(response: CreateResponse) -> None:
    response.contexts = (LeaseV2(bytes(16), RWH, epoch=1),)


def _other_version(response: CreateResponse) -> None:
    (context,) = leases_in(response)
    response.contexts = (create_contexts.Lease(context.lease_key, RWH),)


def _twice(response: CreateResponse) -> None:
    response.contexts = [*response.contexts, *response.contexts]


@pytest.mark.parametrize("change", [_other_key, _other_version, _twice])
def test_a_lease_that_was_not_asked_for_is_an_error(change: Callable[[CreateResponse], None]) -> None:
    async def main() -> None:
        async with holding() as held:
            held.server.change = change
            with pytest.raises(engine.RemoteProtocolError, match="granted a lease"):
                await held.open()
            assert held.in_use == 0
            await settled(held.server, held.share)

    trio.run(main)


def test_a_break_lowers_the_state_at_once_and_is_acknowledged_when_the_owner_says_so() -> None:
    async def main() -> None:
        async with holding() as held:
            file = await held.open()
            await held.take_break(RH, 2)
            assert held.owner.told == [(RH, True)]
            await held.share.echo()
            assert held.server.acknowledged == []
            await held.lease.acknowledge()
            assert held.server.acknowledged == [LeaseBreakAcknowledgement(held.lease.key, RH)]
            assert not held.lease.needs_acknowledgement
            await held.lease.acknowledge()
            assert len(held.server.acknowledged) == 1
            await held.take_break(R, 3)
            await held.lease.acknowledge()
            await held.take_break(0, 4, waits=False)
            assert held.owner.told == [(RH, True), (R, True), (0, False)]
            await held.lease.acknowledge()
            key = held.lease.key
            assert held.server.acknowledged == [LeaseBreakAcknowledgement(key, state) for state in (RH, R)]
            await file.close()
            await settled(held.server, held.share)

    trio.run(main)


def test_two_breaks_before_the_first_is_acknowledged_need_one_acknowledgement() -> None:
    async def main() -> None:
        async with holding() as held:
            await held.open()
            await held.take_break(RH, 2)
            await held.take_break(0, 3)
            assert held.owner.told == [(RH, True), (0, True)]
            await held.lease.acknowledge()
            assert held.server.acknowledged == [LeaseBreakAcknowledgement(held.lease.key, 0)]

    trio.run(main)


@pytest.mark.parametrize("first", [1, 0x7FFF, 0xFFFE, 0xFFFF])
def test_a_stale_break_is_ignored_also_where_the_epoch_wraps(first: int) -> None:
    async def main() -> None:
        async with holding() as held:
            held.server.epoch = first
            await held.open()
            await held.take_break(R, first - 1 & 0xFFFF)
            assert held.lease.state == RWH
            assert held.owner.told == []
            await held.take_break(RH, first + 2 & 0xFFFF)
            await held.take_break(0, first + 1 & 0xFFFF)
            assert held.owner.told == [(RH, True)]

    trio.run(main)


def test_a_server_that_does_not_count_epochs_is_believed_where_it_takes_something_back() -> None:
    async def main() -> None:
        async with holding() as held:
            held.server.epoch = 0
            await held.open()
            await held.take_break(R, 0)
            assert held.owner.told == [(R, True)]
            await held.open()
            assert held.lease.state == R

    trio.run(main)


def test_breaks_for_what_is_not_held_are_ignored() -> None:
    async def main() -> None:
        async with holding() as held:
            file = await held.open()
            await held.send(LeaseBreakNotification(bytes(16), RWH, 0, LeaseBreakFlags.ACK_REQUIRED, 9))
            await held.take_oplock_break(FileId(1, 99), OplockLevel.NONE)
            await held.take_oplock_break(file, OplockLevel.NONE)
            assert held.lease.state == RWH
            await file.close()
            await held.take_break(0, 2)
            assert held.owner.told == []
            assert not held.lease.needs_acknowledgement

    trio.run(main)


@pytest.mark.parametrize("dialect", [Dialect.SMB_2_1, Dialect.SMB_3_1_1])
@pytest.mark.parametrize("broken_to", [0, R, RH])
def test_a_break_before_the_reply_of_its_create(dialect: Dialect, broken_to: int) -> None:
    async def main() -> None:
        async with holding(Command.CREATE, dialect=dialect) as held:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(held.open)
                await held.server.until(lambda: len(held.server.held) == 1)
                await held.take_break(broken_to, 2)
                assert held.owner.told == [(0, True)]
                await held.lease.acknowledge()
                acknowledged = LeaseBreakAcknowledgement(held.lease.key, broken_to)
                assert held.server.acknowledged == [acknowledged]
                await held.server.release()
            assert held.lease.state == broken_to
            assert not held.lease.needs_acknowledgement

    trio.run(main)


def test_a_grant_that_is_newer_than_the_break_before_it_counts() -> None:
    async def main() -> None:
        async with holding(Command.CREATE) as held:
            held.server.epoch = 3
            async with trio.open_nursery() as nursery:
                nursery.start_soon(held.open)
                await held.server.until(lambda: len(held.server.held) == 1)
                await held.take_break(0, 2, waits=False)
                await held.server.release()
            assert held.lease.state == RWH

    trio.run(main)


def test_a_grant_while_a_break_is_in_progress_does_not_raise_the_state() -> None:
    async def main() -> None:
        async with holding() as held:
            await held.open()
            await held.take_break(R, 2)
            held.server.flags, held.server.epoch = LeaseFlags.BREAK_IN_PROGRESS, 2
            await held.open()
            assert held.lease.state == R
            await held.lease.acknowledge()
            held.server.flags, held.server.epoch = 0, 3
            await held.open()
            assert held.lease.state == RWH

    trio.run(main)


def test_a_break_in_progress_that_was_never_heard_of_is_acknowledged() -> None:
    async def main() -> None:
        async with holding() as held:
            held.server.flags = LeaseFlags.BREAK_IN_PROGRESS
            await held.open()
            assert held.owner.told == [(0, True)]
            await held.lease.acknowledge()
            assert held.server.acknowledged == [LeaseBreakAcknowledgement(held.lease.key, 0)]

    trio.run(main)


def test_an_older_grant_of_two_does_not_undo_the_newer_one() -> None:
    async def main() -> None:
        async with holding() as held:
            held.server.epoch = 5
            await held.open()
            held.server.epoch, held.server.state = 4, R
            await held.open()
            assert held.lease.state == RWH
            assert held.owner.told == []

    trio.run(main)


def test_the_lease_lives_as_long_as_one_of_its_files() -> None:
    async def main() -> None:
        async with holding() as held:
            first, second = await held.open(), await held.open()
            await first.close()
            assert held.lease.state == RWH
            assert (await second.close_and_stat()).size == 7
            assert held.lease.state == 0
            third = await held.open()
            assert held.lease.state == RWH
            third.close_later()
            assert held.lease.state == 0
            await settled(held.server, held.share)
            assert held.in_use == 0

    trio.run(main)


def test_closing_the_last_file_answers_a_break() -> None:
    async def main() -> None:
        async with holding() as held:
            file = await held.open()
            await held.take_break(R, 2)
            await file.close()
            assert not held.lease.needs_acknowledgement
            await held.lease.acknowledge()
            assert held.server.acknowledged == []

    trio.run(main)


def test_a_failed_open_leaves_no_trace() -> None:
    async def main() -> None:
        async with holding() as held:
            with pytest.raises(engine.NotFound):
                await held.open("nothing")
            assert held.in_use == 0
            held.server.refusals[Command.QUERY_INFO] = ntstatus.STATUS_DATA_ERROR
            with pytest.raises(engine.NtStatusError):
                await held.open()
            assert held.in_use == 0
            assert held.lease.state == 0
            await settled(held.server, held.share)

    trio.run(main)


def test_a_cancelled_open_leaves_no_trace() -> None:
    async def main() -> None:
        async with holding(Command.CREATE) as held:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(held.open)
                    await held.server.until(lambda: len(held.server.held) == 1)
                    await wait_all_tasks_blocked()
                    assert held.in_use == 1
                    scope.cancel()
            assert held.in_use == 0
            await held.server.release()
            await settled(held.server, held.share)
            assert held.lease.state == 0
            assert held.owner.told == []

    trio.run(main)


@pytest.mark.parametrize("dialect", [OLDEST, Dialect.SMB_2_1, Dialect.SMB_3_1_1])
def test_cancelled_at_every_wait_nothing_is_left(dialect: Dialect) -> None:
    async def main() -> None:
        async with holding(dialect=dialect) as held:

            async def work() -> None:
                first = await held.share.open("a", lease=held.lease, read=100)
                async with first, await held.open() as second:
                    await held.server.send_break(LeaseBreakNotification(held.lease.key, 7, 1, 1, 99))
                    await held.server.send_break(OplockBreak(first.file_id, OplockLevel.II))
                    await held.share.echo()
                    await held.lease.acknowledge()
                    await second.read_at(0, 10)
                await (await held.open()).close_and_stat()

            step = 1
            while not await finishes(step, work):
                step += 1
                await settled(held.server, held.share)
                assert held.in_use == 0
                assert held.lease.state == 0
                assert not held.lease.needs_acknowledgement
            assert step > 8

    trio.run(main)


def test_a_lost_connection_takes_everything_and_says_so_once() -> None:
    async def main() -> None:
        async with holding() as held:
            await held.open()
            other = held.share.lease(held.owner.on_break)
            held.server.hang_up()
            await held.share.wait_lost()
            assert held.owner.told == [(0, False)]
            assert held.lease.state == other.state == 0
            await held.lease.acknowledge()
            assert held.in_use == 0

    trio.run(main)


def test_an_acknowledgement_on_a_connection_that_gets_lost_raises_nothing() -> None:
    async def main() -> None:
        async with holding(Command.OPLOCK_BREAK) as held:
            await held.open()
            await held.take_break(R, 2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(held.lease.acknowledge)
                await held.server.until(lambda: len(held.server.held) == 1)
                held.server.hang_up()
            assert held.owner.told == [(R, True), (0, False)]

    trio.run(main)


def test_disconnecting_in_good_order_tells_nobody() -> None:
    async def main() -> None:
        async with holding() as held:
            await held.open()
        assert held.owner.told == []
        assert held.lease.state == 0

    trio.run(main)


def test_a_server_that_hangs_up_after_the_log_off_is_no_loss() -> None:
    """The owners of leases are gone by then, and could not do anything about it."""

    async def main() -> None:
        server, owner = HangsUpAtLogOff(), Owner()
        server.tree.add_file("a")
        async with connected(server) as share:
            await share.open("a", lease=share.lease(owner.on_break))
        assert server.received[-1] is Command.LOGOFF
        assert owner.told == []

    trio.run(main)


def test_an_acknowledgement_that_is_refused_raises_nothing() -> None:
    async def main() -> None:
        async with holding() as held:
            await held.open()
            await held.take_break(R, 2)
            held.server.refusals[Command.OPLOCK_BREAK] = ntstatus.STATUS_UNSUCCESSFUL
            await held.lease.acknowledge()
            assert not held.lease.needs_acknowledgement

    trio.run(main)


def test_a_cancelled_acknowledgement_is_sent_all_the_same() -> None:
    async def main() -> None:
        async with holding() as held:
            file = await held.open()
            await held.take_break(R, 2)
            with trio.CancelScope() as scope:
                scope.cancel()
                await held.lease.acknowledge()
            assert scope.cancelled_caught
            await held.server.until(lambda: len(held.server.acknowledged) == 1)
            assert not held.server.cancels
            await file.close()
            await settled(held.server, held.share)

    trio.run(main)


def test_an_acknowledgement_overtakes_what_waits_for_credits() -> None:
    async def main() -> None:
        server = GrantsLeases(Command.READ, total_credits=8)
        server.tree.add_file("a", bytes(4 << 16))
        async with connected(server) as share:
            owner = Owner()
            held = Held(server, share, owner, share.lease(owner.on_break))
            file = await held.open()
            await share.echo()
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(file.read_at, number << 16, 1 << 16)
                await wait_all_tasks_blocked()
                waiting = len(server.held)
                assert 0 < waiting < 20
                await held.take_break(R, 2)
                await held.lease.acknowledge()
                assert len(server.acknowledged) == 1
                assert len(server.held) == waiting
                await server.release()

    trio.run(main)


def test_changes_by_path_carry_the_key_and_ask_for_nothing_new() -> None:
    async def main() -> None:
        async with holding() as held:
            share, lease = held.share, held.lease
            await share.truncate("a", 5, lease=lease)
            assert held.server.asked[-1].requested_oplock_level == OplockLevel.NONE
            held.server.state = RH
            file = await held.open()
            made = len(held.server.asked)
            await share.truncate("a", 5, lease=lease)
            await share.set_basic("a", write_ns=10**18, lease=lease)
            await share.write_file("a", b"new", disposition=Disposition.OVERWRITE_IF, lease=lease)
            await share.rename("a", "b", replace=False, lease=lease)
            await share.unlink("b", lease=lease)
            for number in range(made, made + 5):
                assert asked(held.server, number).lease_key == lease.key
                assert asked(held.server, number).lease_state == RH
            assert lease.state == RH
            await file.close()

    trio.run(main)


def test_oplocks_stand_in_for_leases_on_the_oldest_dialect() -> None:
    async def main() -> None:
        async with holding(dialect=OLDEST) as held:
            assert held.share.supports_leases
            for level, state in (
                (OplockLevel.BATCH, RWH),
                (OplockLevel.EXCLUSIVE, R | LeaseState.WRITE_CACHING),
                (OplockLevel.II, R),
                (OplockLevel.NONE, 0),
            ):
                held.server.level = level
                file = await held.open()
                assert held.server.asked[-1].requested_oplock_level == OplockLevel.BATCH
                assert not leases_in(held.server.asked[-1])
                assert held.lease.state == state
                assert file.lease is (held.lease if state else None)
                await file.close()
                assert held.lease.state == 0
            assert held.in_use == 0

    trio.run(main)


def test_an_oplock_is_broken_and_acknowledged_by_handle() -> None:
    async def main() -> None:
        async with holding(dialect=OLDEST) as held:
            first = await held.open()
            await held.take_oplock_break(first, OplockLevel.II)
            assert held.owner.told == [(R, True)]
            await held.lease.acknowledge()
            assert held.server.acknowledged == [OplockBreak(first.file_id, OplockLevel.II)]
            second = await held.open()
            assert held.server.asked[-1].requested_oplock_level == OplockLevel.II
            await held.take_oplock_break(first, OplockLevel.NONE)
            assert held.owner.told == [(R, True)], "the second file's oplock still vouches"
            await held.take_oplock_break(second, OplockLevel.NONE)
            assert held.owner.told == [(R, True), (0, False)]
            assert len(held.server.acknowledged) == 1

    trio.run(main)


def test_a_second_oplock_break_before_the_first_is_acknowledged() -> None:
    async def main() -> None:
        async with holding(dialect=OLDEST) as held:
            file = await held.open()
            await held.take_oplock_break(file, OplockLevel.II)
            await held.take_oplock_break(file, OplockLevel.NONE)
            await held.lease.acknowledge()
            assert held.server.acknowledged == [OplockBreak(file.file_id, OplockLevel.NONE)]

    trio.run(main)


def test_closing_the_file_whose_oplock_vouched_tells_the_owner_of_the_others() -> None:
    async def main() -> None:
        async with holding(dialect=OLDEST) as held:
            held.server.level = OplockLevel.II
            first, second = await held.open(), await held.open()
            await held.take_oplock_break(second, OplockLevel.NONE)
            assert held.lease.state == R
            assert held.owner.told == []
            await first.close()
            assert held.owner.told == [(0, False)]
            await second.close()
            assert held.in_use == 0

    trio.run(main)


def test_an_oplock_break_before_the_reply_of_its_create() -> None:
    async def main() -> None:
        async with holding(Command.CREATE, dialect=OLDEST) as held:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(held.open)
                await held.server.until(lambda: len(held.server.held) == 1)
                (file_id,) = held.server.tree.opens
                await held.take_oplock_break(file_id, OplockLevel.II)
                assert held.owner.told == []
                await held.server.release()
            assert held.owner.told == [(R, True)]
            await held.lease.acknowledge()
            assert held.server.acknowledged == [OplockBreak(file_id, OplockLevel.II)]

    trio.run(main)


def test_nothing_is_kept_of_a_lease_that_is_not_in_use() -> None:
    async def main() -> None:
        async with holding() as held:
            lease = held.share.lease(Owner().on_break)
            file = await held.share.open("a", lease=lease)
            await file.close()
            gone = weakref.ref(lease)
            del lease, file
            gc.collect()
            assert gone() is None

    trio.run(main)


@pytest.mark.parametrize(
    ("content", "length", "expected"),
    [(b"content", 100, b"content"), (b"content", 3, b"con"), (b"", 100, b""), (b"content", 0, None)],
)
def test_the_first_bytes_come_with_the_open(content: bytes, length: int, expected: bytes | None) -> None:
    async def main() -> None:
        async with holding() as held:
            held.server.tree.add_file("b", content)
            before = held.share.statistics().round_trips
            file = await held.share.open("b", lease=held.lease, read=length)
            assert held.share.statistics().round_trips == before + 1
            assert (file.initial_data if file.initial_data is None else bytes(file.initial_data)) == expected

    trio.run(main)


def test_a_read_that_is_refused_does_not_fail_the_open() -> None:
    async def main() -> None:
        async with holding() as held:
            held.server.refusals[Command.READ] = ntstatus.STATUS_ACCESS_DENIED
            async with await held.share.open("a", access=Access.READ_ATTRIBUTES, read=100) as file:
                assert file.initial_data is None
                assert file.stat.size == 7
            await settled(held.server, held.share)

    trio.run(main)


@pytest.mark.parametrize("total", [1, 2, 4])
def test_a_read_that_the_credits_do_not_allow_is_left_out(total: int) -> None:
    async def main() -> None:
        server = GrantsLeases(total_credits=total)
        server.tree.add_file("a", bytes(300_000))
        async with connected(server) as share:
            async with await share.open("a", lease=share.lease(Owner().on_break), read=300_000) as file:
                assert file.initial_data is None
                assert file.stat.size == 300_000
            assert Command.READ not in server.received
            await settled(server, share)

    trio.run(main)


def test_more_bytes_than_were_asked_for_are_an_error() -> None:
    async def main() -> None:
        server = AnswersWith(Command.READ, ReadResponse(b"more").encode())
        server.tree.add_file("a", b"content")
        async with connected(server) as share:
            with pytest.raises(engine.RemoteProtocolError, match="4 bytes where 3 were asked for"):
                await share.open("a", read=3)
            await settled(server, share)

    trio.run(main)


def lease_asked(server: GrantsLeases, number: int = -1) -> LeaseV2:
    """The lease among the contexts of a CREATE."""
    assert server.asked[number].requested_oplock_level == OplockLevel.LEASE
    (context,) = (context for context in server.asked[number].contexts if isinstance(context, LeaseV2))
    return context


def test_a_folder_is_listed_under_a_lease_that_lasts_until_it_is_closed() -> None:
    async def main() -> None:
        async with holding() as held:
            held.server.state = RH
            folder = await held.share.open_folder("", lease=held.lease)
            assert lease_asked(held.server).lease_state == RH
            assert folder.lease is held.lease
            assert folder.stat.is_directory
            async with contextlib.aclosing(folder.batches()) as batches:
                assert [entry.name async for batch in batches for entry in batch] == ["a"]
            states = [held.lease.state]
            await held.take_break(0, epoch=2)
            states.append(held.lease.state)
            assert states == [RH, 0]
            assert held.owner.told == [(0, True)]
            folder.close_later()
            assert not held.lease.needs_acknowledgement
            folder.close_later()

    trio.run(main)


def test_what_is_done_in_a_folder_says_so_under_any_lease() -> None:
    async def main() -> None:
        async with holding() as held:
            share, folder = held.share, held.share.lease(lambda lease: None)
            lease = held.lease
            lease.folder = folder
            file = await held.open()
            for never_granted in (False, True):
                if never_granted:
                    await file.close()
                    lease = share.lease(lambda lease: None)
                    lease.folder = folder
                made = len(held.server.asked)
                await share.set_basic("a", write_ns=10**18, lease=lease)
                await share.mkdir(f"folder {never_granted}", lease=lease)
                await share.unlink("a", lease=lease)
                for number in range(made - (not never_granted), made + 3):
                    context = lease_asked(held.server, number)
                    assert context.lease_key == lease.key
                    assert context.parent_lease_key == folder.key
                    assert context.lease_flags == LeaseFlags.PARENT_LEASE_KEY_SET
                    assert never_granted == (context.lease_state == 0)
                held.server.tree.add_file("a", b"content")

    trio.run(main)
