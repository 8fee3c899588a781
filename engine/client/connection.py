"""One connection: the gate for credits, the reader and writer tasks, and waiting for replies.

A request passes gate → MessageId → signature → socket or send queue in one section without a
checkpoint, so frames leave in the order of their MessageIds. One reader task settles the slots.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import trio

from engine.client.transport import Transport
from engine.crypto.preauth import PreauthIntegrity
from engine.errors import RemoteProtocolError, SmbError, TransportError, raised_again
from engine.proto.credits import CREDIT_UNIT
from engine.proto.events import Event, LateReply
from engine.proto.inflight import Reply, Request, SessionState, Slot, SlotState
from engine.proto.lease_grants import lease_kind
from engine.proto.leases import LeaseTable
from engine.proto.machine import Machine, Outgoing, left_behind
from engine.proto.negotiation import Negotiated, Offer
from engine.proto.statistics import Statistics
from engine.wire.constants import Command, LockFlags
from engine.wire.create import CloseRequest, CreateResponse
from engine.wire.io import EchoRequest, LockElement, LockRequest
from engine.wire.primitives import FILE_ID_RELATED, Buffer, FileId

log = logging.getLogger(__name__)

_FRAMES_PER_TURN: Final = 32
"""Frames the reader takes before it lets other tasks run, however many are waiting."""

_BYTES_PER_TURN: Final = 2 * 1024 * 1024

_MAX_LATER: Final = 65536
"""Clean-ups that may wait: more than there can be credits, so more than can be cancelled at once."""

_FRAME_OVERHEAD: Final = 128 * 1024
"""Around the largest payload: headers and contexts of a compound, and the second query of a listing."""


@dataclass(eq=False, slots=True)
class _Waiter:
    turn: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True, eq=False)
class Batch:
    """What a set of requests is sent with."""

    session: SessionState
    tree_id: int = 0
    sealed: bool = False


_NO_SESSION: Final = Batch(SessionState())

Answered = Callable[[Sequence[Reply] | None], None]
"""Takes the replies to what nobody waits for, None if the connection was lost; it must not wait or raise."""


class _Later(NamedTuple):
    """Requests that are sent without a task that waits for them."""

    requests: Sequence[Request]
    batch: Batch
    answered: Answered | None


class Connection:
    """Requests in, replies out. Made by `open_connection`.

    **Invariant:** `_waiters` is served first come, first served; only urgent requests overtake.
    """

    def __init__(self, transport: Transport, machine: Machine, server: str, leases: LeaseTable) -> None:
        self.server = server
        self.negotiated: Negotiated | None = None
        self.offer: Offer | None = None
        self.clock_ns = 0
        """The server's clock in nanoseconds since 1970, less trio's."""
        self._transport = transport
        self._machine = machine
        self._waiters: deque[_Waiter] = deque()
        self.leases = leases
        self._lost: SmbError | None = None
        self._ending = False
        self._busy = trio.Event()
        self._later, self._to_send = trio.open_memory_channel[_Later](_MAX_LATER)
        self.lost = trio.Event()
        """Set once the connection is gone and every request on it has failed."""

    def use(self, negotiated: Negotiated, offer: Offer) -> None:
        """Adopt what was negotiated for `offer`: limits, and whether requests may cost several credits."""
        self.negotiated, self.offer = negotiated, offer
        self.leases.kind = lease_kind(negotiated)
        self._machine.negotiated(negotiated.dialect, large_mtu=negotiated.large_mtu)
        largest = max(negotiated.max_read, negotiated.max_write, negotiated.max_transact)
        self._transport.frame_limit = largest + _FRAME_OVERHEAD

    def add_session(self, session: SessionState) -> None:
        """Let frames that this session encrypted be read."""
        self._machine.sessions[session.session_id] = session

    def remove_session(self, session: SessionState) -> None:
        """Forget a session that was logged off."""
        self._machine.sessions.pop(session.session_id, None)

    async def wait_lost(self) -> SmbError:
        """Wait until the connection is gone; returns why."""
        await self.lost.wait()
        assert self._lost is not None
        return self._lost

    async def wait_busy(self) -> None:
        """Wait until a request is in flight."""
        while not self._machine.slots:
            self._busy = trio.Event()
            await self._busy.wait()

    @property
    def is_waiting(self) -> bool:
        """Whether a request is in flight that the server has said nothing to yet."""
        return any(slot.state is SlotState.SENT for slot in self._machine.slots.values())

    @property
    def last_heard(self) -> float:
        """When there was a sign of life, in trio's clock."""
        return self._transport.last_heard

    @property
    def sent_since_heard(self) -> int:
        """Bytes sent since the last byte came."""
        return self._transport.sent_since_heard

    @property
    def retransmissions(self) -> int:
        """How often TCP has repeated, in vain, what it sent last."""
        return self._transport.retransmissions

    def statistics(self) -> Statistics:
        """The counters as of now."""
        return self._machine.snapshot()

    @property
    def upload(self) -> tuple[int, int]:
        """Bytes that were to be sent so far, and how many of them have arrived at the server's end."""
        return self._transport.upload

    @property
    def download(self) -> tuple[int, int]:
        """Bytes of data that requests in flight may bring, and how many have arrived so far."""
        return self._machine.awaited, self._transport.downloaded

    def release_buffers(self) -> None:
        """Let go of the receive buffers that nobody uses."""
        self._transport.release_buffers()

    @property
    def remote_address(self) -> str:
        """The server's IP address."""
        return self._transport.remote_address

    async def request(self, request: Request, batch: Batch = _NO_SESSION, *, urgent: bool = False) -> Reply:
        """Send one request and wait for its final reply, whatever its status.

        Raises `TransportError` when the connection is lost. A cancelled wait sends CANCEL.
        """
        return (await self.exchange([request], batch, urgent=urgent))[0]

    async def request_hashed(self, request: Request, batch: Batch, preauth: PreauthIntegrity) -> Reply:
        """As `request`, and add what was sent, byte for byte, to the pre-authentication hash."""
        await self._pass_gate(1, 1, urgent=False)
        outgoing = self._send([request], batch, related=False)
        preauth.update(*outgoing.buffers)
        return (await self._finish(outgoing.slots))[0]

    async def exchange(
        self, requests: Sequence[Request], batch: Batch, *, related: bool = False, urgent: bool = False
    ) -> list[Reply]:
        """Send requests in one frame and wait for all their final replies.

        Raises `CreditShortage`, and has sent nothing, if the server does not grant credits for that
        many at once. If this is cancelled, a CLOSE or an acknowledgement among them is sent all the same.
        """
        charge = sum(map(self._machine.charge, requests))
        try:
            await self._pass_gate(charge, charge, urgent)
        except trio.Cancelled:
            for request in requests:
                if _must_arrive(request):
                    self.send_later([request], batch)
            raise
        return await self._finish(self._send(requests, batch, related).slots)

    async def claim_payload(self, length: int) -> int:
        """Wait for credits for a READ or WRITE of `length` bytes; return how many bytes they pay for.

        Fewer than `length` where the server's grants never reach that far. The request has to be
        sent by `exchange_claimed` before the next checkpoint.
        """
        if not self._machine.multi_credit:
            await self._pass_gate(1, 1, urgent=False)
            return min(length, CREDIT_UNIT)
        wanted = max(1, -(-length // CREDIT_UNIT))
        return min(length, await self._pass_gate(wanted, 1, urgent=False) * CREDIT_UNIT)

    async def exchange_claimed(self, request: Request, batch: Batch) -> Reply:
        """Send what `claim_payload` was called for and wait for its reply."""
        return (await self._finish(self._send([request], batch, related=False).slots))[0]

    def fits(self, requests: Sequence[Request]) -> bool:
        """Whether the credits that the server grants suffice to send these as one frame."""
        return sum(map(self._machine.charge, requests)) <= self._machine.credits.attainable

    def room_beside(self, others: int) -> int:
        """Bytes that a request may carry, or ask for, in one compound with `others` small ones."""
        if not self._machine.multi_credit:
            return CREDIT_UNIT
        return max(1, self._machine.credits.attainable - others) * CREDIT_UNIT

    def _send(self, requests: Sequence[Request], batch: Batch, related: bool) -> Outgoing:
        if self._lost is not None:
            raise self._lost_again(was_sent=False)
        outgoing = self._machine.start(
            requests,
            session=batch.session,
            tree_id=batch.tree_id,
            related=related,
            sealed=batch.sealed,
            now=trio.current_time(),
        )
        self._busy.set()
        self._transmit(outgoing.buffers)
        if self.leases.has_files:
            for request in requests:
                if isinstance(request, CloseRequest):
                    self.leases.closing(request.file_id)
        return outgoing

    async def _finish(self, slots: list[Slot]) -> list[Reply]:
        try:
            for slot in slots:
                if slot.reply is None and slot.error is None:
                    answered = trio.Event()
                    slot.on_done = answered.set
                    await answered.wait()
        except BaseException:
            self._abandon(slots)
            raise
        replies: list[Reply] = []
        for slot in slots:
            if slot.reply is None:
                raise self._lost_again(was_sent=True)
            replies.append(slot.reply)
        return replies

    def _abandon(self, slots: list[Slot]) -> None:
        for slot in slots:
            if slot.reply is not None and (late := left_behind(slot, slot.reply)):
                self._undo_late(late)
            buffers = self._machine.abandon(slot)
            if buffers and self._lost is None:
                self._transmit(buffers)

    def _transmit(self, buffers: Sequence[Buffer]) -> None:
        try:
            self._transport.send(buffers)
        except TransportError as error:
            # Not in this step: whoever sends is in the middle of something, and those that hear of the loss
            # close files and drop caches.
            trio.lowlevel.current_trio_token().run_sync_soon(self.abort, error)

    async def _pass_gate(self, wanted: int, minimum: int, urgent: bool) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._lost is not None:
            raise self._lost_again(was_sent=False)
        if urgent or not self._waiters:
            offered = self._offer(wanted, minimum, urgent)
            if offered:
                return offered
        waiter = _Waiter()
        if urgent:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        try:
            while True:
                await waiter.turn.wait()
                if self._lost is not None:
                    raise self._lost_again(was_sent=False)
                waiter.turn = trio.Event()
                offered = self._offer(wanted, minimum, urgent)
                if offered:
                    return offered
        finally:
            self._waiters.remove(waiter)
            self._wake_next()

    def _offer(self, wanted: int, minimum: int, urgent: bool) -> int:
        try:
            return self._machine.credits.offer(wanted, minimum=minimum, urgent=urgent)
        except RemoteProtocolError as error:
            self.abort(error)
            raise

    def _wake_next(self) -> None:
        """Let the first waiter look at the books again."""
        if self._waiters:
            self._waiters[0].turn.set()

    async def run_reader(self) -> None:
        """Take frames until the connection ends, then fail whatever waits."""
        frames = size = 0
        try:
            while True:
                buffer, length = await self._transport.receive()
                self._handle(self._machine.receive(buffer, length, trio.current_time()))
                del buffer
                self._wake_next()
                frames += 1
                size += length
                if frames >= _FRAMES_PER_TURN or size >= _BYTES_PER_TURN:
                    await trio.lowlevel.checkpoint()
                    frames = size = 0
        except SmbError as error:
            self.abort(error)
        except trio.ClosedResourceError:
            self.abort(TransportError("the connection was closed"))

    async def run_writer(self) -> None:
        """Send what the socket did not take at once."""
        try:
            await self._transport.run_writer()
        except SmbError as error:
            self.abort(error)
        except trio.ClosedResourceError:
            self.abort(TransportError("the connection was closed"))

    async def run_echo(self, interval: float, batch: Batch) -> None:
        """Every `interval` seconds of silence send an ECHO; end the connection if two stay unanswered."""
        while not self.lost.is_set():
            last_heard = self._transport.last_heard
            await trio.sleep_until(last_heard + interval)
            if self._transport.last_heard != last_heard:
                continue
            with trio.move_on_after(interval), contextlib.suppress(SmbError):
                await self.request(EchoRequest(), batch, urgent=True)
            if self._transport.last_heard == last_heard:
                self.abort(TransportError(f"the server has been silent for {2 * interval:g} s"))

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, LateReply):
                self._undo_late(event)
            else:
                self.leases.take_break(event.notification)

    def _undo_late(self, late: LateReply) -> None:
        """Close or unlock what a request did whose waiter is gone."""
        slot, reply = late.slot, late.reply
        batch = Batch(slot.session, slot.tree_id, slot.sealed)
        if slot.request.COMMAND is Command.CREATE:
            try:
                file_id = CreateResponse.decode_untrusted(reply.message).file_id
            except RemoteProtocolError as error:
                # Whoever cancelled is not to get this instead; the handle goes with the connection.
                self.abort(error)
            else:
                self.close_later(file_id, batch)
        elif isinstance(slot.request, LockRequest):
            self.send_later([_unlock(slot.request)], batch)

    def close_later(self, file_id: FileId, batch: Batch) -> None:
        """Close a handle without waiting for it; for handles that nobody can use any more."""
        self.send_later([CloseRequest(file_id=file_id)], batch)

    def send_later(self, requests: Sequence[Request], batch: Batch, answered: Answered | None = None) -> None:
        """Send small requests, related where there are several, without waiting for credits or replies.

        `answered` is called in the step in which the last reply is here.
        """
        if self._lost is None and self._machine.credits.usable >= len(requests):
            # At once, so that whatever is sent next finds it done.
            slots = self._send(requests, batch, related=len(requests) > 1).slots
            if answered is not None:
                _tell_when_done(slots, answered)
        elif self._lost is None:
            self._later.send_nowait(_Later(requests, batch, answered))
        elif answered is not None:
            answered(None)

    async def run_clean_up(self) -> None:
        """Send what `send_later` could not send at once, until the connection ends."""
        async with trio.open_nursery() as nursery:
            async for later in self._to_send:
                nursery.start_soon(self._clean_up, later)

    async def _clean_up(self, later: _Later) -> None:
        replies: list[Reply] | None = None
        try:
            # One by one: this is for times without credits for more.
            replies = [await self.request(one, later.batch, urgent=True) for one in later.requests]
        except SmbError as error:
            log.debug("cleaning up with %s failed: %s", later.requests[-1].COMMAND.name, error)
        if later.answered is not None:
            later.answered(replies)

    def end(self) -> None:
        """From now on the connection's end is no loss, whoever ends it: the owners of leases are gone."""
        self._ending = True

    def abort(self, error: SmbError) -> None:
        """The connection is gone, or not to be trusted: fail everything on it with `error`."""
        if self._lost is not None:
            return
        self._lost = error
        self._transport.close()
        self._machine.fail_all(error)
        self._later.close()
        for waiter in self._waiters:
            waiter.turn.set()
        self.lost.set()
        self.leases.lose(tell=not self._ending)

    def _lost_again(self, *, was_sent: bool) -> SmbError:
        error = self._lost or TransportError("the connection is closed")
        return raised_again(error, was_sent=was_sent)


def _tell_when_done(slots: Sequence[Slot], answered: Answered) -> None:
    waiting = list(slots)

    def look() -> None:
        if any(slot.reply is None and slot.error is None for slot in waiting):
            return
        # What refers to its own slot would keep the reply's buffer from its pool.
        done = waiting.copy()
        waiting.clear()
        for slot in done:
            slot.on_done = None
        replies = [slot.reply for slot in done if slot.reply is not None]
        answered(replies if len(replies) == len(done) else None)

    for slot in slots:
        slot.on_done = look
    look()


def _must_arrive(request: Request) -> bool:
    """Whether the server is to get this even if nobody waits for its answer any more."""
    if isinstance(request, CloseRequest):
        return request.file_id != FILE_ID_RELATED
    return request.COMMAND is Command.OPLOCK_BREAK


def _unlock(request: LockRequest) -> LockRequest:
    elements = [
        LockElement(offset=element.offset, length=element.length, flags=LockFlags.UNLOCK)
        for element in request.locks
        if not element.flags & LockFlags.UNLOCK
    ]
    return LockRequest(file_id=request.file_id, locks=elements)


@asynccontextmanager
async def open_connection(
    transport: Transport, machine: Machine, server: str, leases: LeaseTable
) -> AsyncGenerator[Connection, None]:
    """Run a connection's tasks around the body; the transport is closed at the end.

    `leases` is the table of the connection before, if there was one: its owners go on using it.
    """
    connection = Connection(transport, machine, server, leases)
    # Shielded: a cancelled body still needs the connection to take leave of the server.
    scope = trio.CancelScope(shield=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_run, connection, scope)
        try:
            yield connection
        finally:
            connection.end()
            connection.abort(TransportError("the connection was closed by us"))
            scope.cancel()


async def _run(connection: Connection, scope: trio.CancelScope) -> None:
    with scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run_reader)
            nursery.start_soon(connection.run_writer)
            nursery.start_soon(connection.run_clean_up)
