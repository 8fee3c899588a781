"""One connection's protocol state: requests become buffers to send, frames become settled slots.

No I/O and no clock: buffers and times come in as arguments. Nothing here waits; waiting for
credits and for replies is the floor above.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import EHOSTDOWN, EINVAL
from typing import Final

from engine.errors import LocalProtocolError, RemoteProtocolError, SmbError, TransportError
from engine.ntstatus import STATUS_PENDING, STATUS_SUCCESS, STATUS_USER_SESSION_DELETED
from engine.proto.credits import CREDIT_UNIT, CreditLedger, credit_charge
from engine.proto.events import BreakReceived, Event, LateReply
from engine.proto.inflight import Reply, Request, SessionState, Slot, SlotState
from engine.proto.statistics import Statistics
from engine.wire.constants import Command, Dialect, HeaderFlags, LockFlags
from engine.wire.create import CloseRequest, CreateRequest
from engine.wire.header import UNSOLICITED_MESSAGE_ID, Header, split_compound_untrusted
from engine.wire.io import CancelRequest, IoctlRequest, LockRequest, ReadRequest, WriteRequest
from engine.wire.notify import ChangeNotifyRequest, decode_break_notification_untrusted
from engine.wire.primitives import SMB2_HEADER_SIZE, Buffer, align8
from engine.wire.query import QueryDirectoryRequest, QueryInfoRequest, SetInfoRequest
from engine.wire.transform import TRANSFORM_HEADER_SIZE, TRANSFORM_PROTOCOL_ID

# Plain numbers: `&` with an IntFlag member costs a microsecond, several times for each message.
_SERVER_TO_REDIR: Final = int(HeaderFlags.SERVER_TO_REDIR)
_ASYNC_COMMAND: Final = int(HeaderFlags.ASYNC_COMMAND)
_RELATED_OPERATIONS: Final = int(HeaderFlags.RELATED_OPERATIONS)
_DFS_OPERATIONS: Final = int(HeaderFlags.DFS_OPERATIONS)
_SIGNED: Final = int(HeaderFlags.SIGNED)

_SIGNATURE: Final = slice(48, 64)
_NO_SESSION: Final = SessionState()
_PADDING: Final = bytes(8)


@dataclass(slots=True)
class Outgoing:
    """A frame to send, without its transport prefix, and the slots that its replies will settle."""

    buffers: list[Buffer]
    slots: list[Slot]


def payload_size(request: Request) -> int:
    """Bytes that the larger of request and reply carries, which is what credits pay for."""
    match request:
        case ReadRequest():
            return request.length
        case WriteRequest():
            return len(request.data)
        case QueryDirectoryRequest() | ChangeNotifyRequest():
            return request.output_buffer_length
        case QueryInfoRequest():
            return max(request.output_buffer_length, len(request.input))
        case SetInfoRequest():
            return len(request.buffer)
        case IoctlRequest():
            return max(len(request.input), request.max_output_response)
        case _:
            return 0


def _encode(request: Request) -> bytes:
    try:
        return request.encode()
    except struct.error as error:
        name = request.COMMAND.name
        raise LocalProtocolError(f"a number in a {name} is out of range: {error}", errno=EINVAL) from error


def left_behind(slot: Slot, reply: Reply) -> LateReply | None:
    """What `reply`, for which nobody waits any more, shows to be left on the server: a handle or a lock."""
    succeeded = reply.header.status == STATUS_SUCCESS
    match slot.request:
        case CreateRequest() if succeeded and not slot.closed:
            return LateReply(slot, reply)
        case CloseRequest() if not succeeded and slot.closes is not None:
            # Some servers let the failure of one part of a compound spread to the CLOSE behind it.
            created = slot.closes
            if created.reply is not None and created.reply.header.status == STATUS_SUCCESS:
                return LateReply(created, created.reply)
        case LockRequest(locks=locks) if succeeded:
            if not all(element.flags & LockFlags.UNLOCK for element in locks):
                return LateReply(slot, reply)
    return None


def _pair(slots: Sequence[Slot]) -> None:
    """Note which CREATE of a compound is followed by the CLOSE of what it opens."""
    opening = next((slot for slot in slots if slot.request.COMMAND is Command.CREATE), None)
    closing = next((slot for slot in slots if slot.request.COMMAND is Command.CLOSE), None)
    if opening is not None and closing is not None:
        opening.closed, closing.closes = True, opening


def _allocate(size: int) -> memoryview:
    return memoryview(bytearray(size))


_BRING_DATA: Final = frozenset({Command.READ, Command.QUERY_DIRECTORY})


class Machine:
    """The state of one connection: MessageIds, credits, slots, sessions."""

    def __init__(
        self,
        max_credits: int,
        allocate: Callable[[int], memoryview] = _allocate,
        statistics: Statistics | None = None,
    ) -> None:
        self.credits = CreditLedger(max_credits)
        self.statistics = statistics or Statistics()
        self.slots: dict[int, Slot] = {}
        self.sessions: dict[int, SessionState] = {}
        self.multi_credit = False
        self._allocate = allocate
        self._next_message_id = 0

    def negotiated(self, dialect: Dialect, *, large_mtu: bool) -> None:
        """Multi-credit requests exist from 2.1 on, where the server offers them ([MS-SMB2] 3.2.4.1.5)."""
        self.multi_credit = large_mtu and dialect >= Dialect.SMB_2_1

    def charge(self, request: Request) -> int:
        """Credits that `request` costs on this connection."""
        return credit_charge(payload_size(request)) if self.multi_credit else 1

    @property
    def awaited(self) -> int:
        """Bytes of files and listings that the requests in flight may bring."""
        bring = (slot.charge for slot in self.slots.values() if slot.request.COMMAND in _BRING_DATA)
        return CREDIT_UNIT * sum(bring)

    def start(
        self,
        requests: Sequence[Request],
        *,
        session: SessionState = _NO_SESSION,
        tree_id: int = 0,
        related: bool = False,
        sealed: bool = False,
        now: float = 0.0,
    ) -> Outgoing:
        """Turn requests into one frame, a compound where there are several, and open their slots.

        The caller has made sure that the credits are there. `now` is the monotonic time in seconds.
        Raises `LocalProtocolError`, and spends nothing, if a request cannot be encoded.
        """
        if sealed and session.sealer is None:
            raise LocalProtocolError("encryption asked for on a session that has no encryption keys")
        bodies = [_encode(request) for request in requests]
        buffers: list[Buffer] = []
        slots: list[Slot] = []
        last = len(requests) - 1
        for index, request in enumerate(requests):
            slot = self._open_slot(request, session, tree_id, sealed, now)
            slots.append(slot)
            flags = _RELATED_OPERATIONS if related and index else 0
            if isinstance(request, CreateRequest) and request.in_dfs:
                flags |= _DFS_OPERATIONS
            buffers += self._message(slot, bodies[index], flags, is_last=index == last)
        if related:
            _pair(slots)
        self.statistics.most_in_flight = max(self.statistics.most_in_flight, len(self.slots))
        self.statistics.trips["+".join(request.COMMAND.name for request in requests)] += 1
        if sealed and session.sealer is not None:
            buffers = list(session.sealer.seal(buffers, self._allocate))
        self.statistics.bytes_sent += sum(map(len, buffers))
        return Outgoing(buffers, slots)

    def abandon(self, slot: Slot) -> list[Buffer]:
        """Give up waiting for `slot`; returns the CANCEL to send, or nothing if its reply is there.

        A CLOSE is not cancelled: nobody wants the handle that this would leave open. Nor is the
        acknowledgement of a break: somebody else waits for it. Nor is a log-on: the server may have answered
        it, and demand signatures from then on that we cannot make.
        The slot stays in the table, and its final reply still banks its credits and is reported as a
        `LateReply` if it left something on the server ([MS-SMB2] 3.2.4.24).
        """
        if slot.state not in (SlotState.SENT, SlotState.PENDING):
            return []
        if slot.request.COMMAND in (Command.CLOSE, Command.OPLOCK_BREAK, Command.SESSION_SETUP):
            slot.state = SlotState.ABANDONED
            slot.on_done = None
            return []
        header = Header(
            command=Command.CANCEL,
            message_id=slot.message_id,
            session_id=slot.session.session_id,
            tree_id=slot.tree_id,
        )
        if slot.state is SlotState.PENDING:
            header.flags |= _ASYNC_COMMAND
            header.async_id = slot.async_id
        slot.state = SlotState.ABANDONED
        slot.on_done = None
        self.statistics.cancels += 1
        message = bytearray(header.encode() + CancelRequest().encode())
        if slot.sealed and slot.session.sealer is not None:
            return list(slot.session.sealer.seal([message]))
        self._sign(slot.session, message, [])
        return [message]

    def receive(self, buffer: memoryview, length: int, now: float = 0.0) -> list[Event]:
        """Take one frame: settle the slots that it answers and return what else it means.

        `buffer` holds the frame in its first `length` bytes and has at least 16 bytes of room behind
        it; the replies keep views into it. Raises `RemoteProtocolError` if the connection cannot be
        trusted any more, `TransportError` if the server has forgotten the session; the caller then drops it.
        """
        self.statistics.bytes_received += length
        frame = buffer[:length]
        sealed_by: SessionState | None = None
        if bytes(frame[:4]) == TRANSFORM_PROTOCOL_ID:
            frame, sealed_by = self._unseal(buffer, length)
        events: list[Event] = []
        for message in split_compound_untrusted(frame):
            self._receive_message(message, sealed_by, events, now)
        return events

    def fail_all(self, error: SmbError) -> None:
        """Settle every slot with `error`: the connection is gone."""
        slots = list(self.slots.values())
        self.slots.clear()
        for slot in slots:
            slot.settle(None, error)

    def snapshot(self) -> Statistics:
        """The statistics as of now."""
        self.statistics.credits = self.credits.available
        self.statistics.credits_in_use = self.credits.outstanding
        self.statistics.in_flight = len(self.slots)
        return self.statistics.snapshot()

    def _open_slot(
        self, request: Request, session: SessionState, tree_id: int, sealed: bool, now: float
    ) -> Slot:
        charge = self.charge(request)
        self.credits.spend(charge)
        message_id = self._next_message_id
        self._next_message_id += charge
        slot = Slot(request, message_id, charge, session, tree_id, sealed, now)
        self.slots[message_id] = slot
        self.statistics.requests[request.COMMAND.name] += 1
        return slot

    def _message(self, slot: Slot, body: bytes, flags: int, *, is_last: bool) -> list[Buffer]:
        request = slot.request
        parts: list[Buffer] = [body]
        if isinstance(request, WriteRequest):
            parts.append(request.data)
        size = SMB2_HEADER_SIZE + sum(map(len, parts))
        if not is_last and (padding := align8(size) - size):
            parts.append(_PADDING[:padding])
        header = bytearray(
            Header(
                command=request.COMMAND,
                credit_charge=slot.charge if self.multi_credit else 0,
                credits=self.credits.to_request(slot.charge),
                flags=flags,
                next_command=0 if is_last else align8(size),
                message_id=slot.message_id,
                tree_id=slot.tree_id,
                session_id=slot.session.session_id,
            ).encode()
        )
        if not slot.sealed:
            self._sign(slot.session, header, parts)
        return [header, *parts]

    @staticmethod
    def _sign(session: SessionState, header: bytearray, parts: Sequence[Buffer]) -> None:
        if session.signer is not None:
            header[16] |= _SIGNED
            header[_SIGNATURE] = session.signer.sign(memoryview(header), *parts)

    def _unseal(self, buffer: memoryview, length: int) -> tuple[memoryview, SessionState]:
        if length < TRANSFORM_HEADER_SIZE + SMB2_HEADER_SIZE:
            raise RemoteProtocolError(f"an encrypted frame of {length} bytes is too short")
        session_id = int.from_bytes(buffer[44:52], "little")
        session = self.sessions.get(session_id)
        if session is None or session.sealer is None:
            raise RemoteProtocolError("an encrypted frame for a session that we do not have")
        out = self._allocate(length - TRANSFORM_HEADER_SIZE)
        size = session.sealer.unseal_into_untrusted(
            buffer[:TRANSFORM_HEADER_SIZE], buffer[TRANSFORM_HEADER_SIZE : length + 16], out
        )
        if bytes(out[:4]) == TRANSFORM_PROTOCOL_ID:
            raise RemoteProtocolError("the server sent a message that was encrypted twice")
        return out[:size], session

    def _receive_message(
        self, message: memoryview, sealed_by: SessionState | None, events: list[Event], now: float
    ) -> None:
        header = Header.decode_untrusted(message)
        if not header.flags & _SERVER_TO_REDIR:
            raise RemoteProtocolError("the server sent a request where only replies may come")
        if header.message_id == UNSOLICITED_MESSAGE_ID:
            if header.command == Command.OPLOCK_BREAK:
                events.append(BreakReceived(decode_break_notification_untrusted(message)))
            return
        slot = self.slots.get(header.message_id)
        if slot is None:
            self.statistics.unknown_replies += 1
            return
        if header.command != slot.request.COMMAND:
            raise RemoteProtocolError(f"{slot.request.COMMAND.name} was answered by command {header.command}")
        interim = header.status == STATUS_PENDING
        if interim and not header.flags & _ASYNC_COMMAND:
            # Taken for a final reply it would be one that nothing protects.
            raise RemoteProtocolError("an interim reply came without an AsyncId")
        self._check_protection(slot, header, message, sealed_by)
        # An interim reply that grants nothing leaves it to the final one.
        settled = slot.owed if header.credits or not interim else 0
        self.credits.bank(header.credits, settled)
        slot.owed -= settled
        if interim:
            self.statistics.interim_replies += 1
            slot.async_id = header.async_id
            if slot.state is SlotState.SENT:
                slot.state = SlotState.PENDING
            return
        del self.slots[header.message_id]
        self.statistics.seconds[slot.request.COMMAND.name] += now - slot.sent_at
        reply = Reply(header, message)
        if slot.state is SlotState.ABANDONED:
            self._receive_late(slot, reply, events)
        slot.settle(reply, None)

    def _receive_late(self, slot: Slot, reply: Reply, events: list[Event]) -> None:
        self.statistics.late_replies += 1
        if late := left_behind(slot, reply):
            events.append(late)

    @staticmethod
    def _check_protection(
        slot: Slot, header: Header, message: memoryview, sealed_by: SessionState | None
    ) -> None:
        """[MS-SMB2] 3.2.5.1.1 and 3.2.5.1.3; the last SESSION_SETUP is checked where its key is made."""
        if sealed_by is not None:
            if sealed_by is not slot.session or header.session_id != sealed_by.session_id:
                raise RemoteProtocolError("an encrypted reply belongs to another session than its request")
            return
        signer, fault = slot.session.signer, ""
        if slot.sealed:
            fault = "an encrypted request was answered in the clear"
        elif signer is None or header.status == STATUS_PENDING:
            return
        elif header.flags & _SIGNED:
            if not signer.verify(message):
                fault = "a reply's signature is wrong: the data was altered on the way"
        elif slot.session.signing_required:
            fault = f"a reply to {slot.request.COMMAND.name} is not signed, which this session requires"
        if fault and header.status == STATUS_USER_SESSION_DELETED:
            # Who has forgotten the session has no key for it. True or not, only a new connection helps.
            raise TransportError("the server says that it has forgotten the session", errno=EHOSTDOWN)
        if fault:
            raise RemoteProtocolError(fault)
