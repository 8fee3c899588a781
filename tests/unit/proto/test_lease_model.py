"""Leases against a model of a server, with requests, replies and breaks under way in both directions.

Whatever happens, the client never believes in more than the server vouches for, and a break that waits for
an acknowledgement gets one.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from engine.proto.lease_grants import LeaseKind
from engine.proto.leases import Claim, LeaseRecord, LeaseTable
from engine.wire import create_contexts
from engine.wire.constants import LeaseBreakFlags, LeaseFlags, OplockLevel
from engine.wire.create import CreateResponse
from engine.wire.create_contexts import LeaseV2
from engine.wire.notify import LeaseBreakAcknowledgement, LeaseBreakNotification
from engine.wire.primitives import FileId

STATES = (0, 1, 3, 5, 7)
"""The states that there are: none, R, RH, RW, RWH."""


@dataclass(eq=False)
class Create:
    """A CREATE on its way; `claim` is None once the client gave it up."""

    claim: Claim | None
    epoch: int


@dataclass
class Close:
    file_id: FileId


@dataclass
class Opened:
    create: Create
    response: CreateResponse


@dataclass
class Answered:
    request: LeaseBreakAcknowledgement


@dataclass
class ModelServer:
    """One lease as [MS-SMB2] 3.3.1.12, 3.3.4.7, 3.3.5.9.8 and 3.3.5.22.2 keep it."""

    kind: LeaseKind
    key: bytes
    files: set[FileId] = field(default_factory=set)
    state: int = 0
    epoch: int = 0
    breaking_to: int | None = None
    lives: int = 0
    """Counts how often the right to cache reads ended."""
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def vouches_for(self) -> int:
        return self.state if self.breaking_to is None else self.breaking_to

    def set_state(self, state: int) -> None:
        self.lives += bool(self.state & ~state & 1)
        self.state = state

    def create(self, epoch: int, granted: int) -> CreateResponse:
        if not self.files:
            self.state, self.epoch, self.breaking_to = granted, (epoch + 1) & 0xFFFF, None
        elif self.breaking_to is None and self.state | granted != self.state:
            self.state, self.epoch = self.state | granted, (self.epoch + 1) & 0xFFFF
        file_id = FileId(next(self.numbers), 1)
        self.files.add(file_id)
        flags = LeaseFlags.BREAK_IN_PROGRESS if self.breaking_to is not None else 0
        return grant(self.kind, self.key, self.state, self.epoch, flags, file_id=file_id)

    def close(self, file_id: FileId) -> None:
        self.files.remove(file_id)
        if not self.files:
            self.set_state(0)
            self.breaking_to = None

    def break_to(self, wanted: int) -> LeaseBreakNotification | None:
        new = self.vouches_for & wanted
        if not self.files or new == self.vouches_for:
            return None
        self.epoch = (self.epoch + 1) & 0xFFFF
        waits = self.breaking_to is not None or bool(self.state & ~1)
        current = self.state
        if waits:
            self.breaking_to = new
        else:
            self.set_state(new)
        flags = LeaseBreakFlags.ACK_REQUIRED if waits else 0
        epoch = self.epoch if self.kind is LeaseKind.V2 else 0
        return LeaseBreakNotification(self.key, current, new, flags, epoch)

    def acknowledge(self, state: int) -> None:
        if self.breaking_to is not None and not state & ~self.breaking_to:
            self.breaking_to = None
            self.set_state(state)


def grant(
    kind: LeaseKind, key: bytes, state: int, epoch: int, flags: int = 0, *, file_id: FileId
) -> CreateResponse:
    """The answer to a CREATE that grants a lease."""
    context = (
        LeaseV2(key, state, flags, epoch=epoch)
        if kind is LeaseKind.V2
        else create_contexts.Lease(key, state, flags)
    )
    return CreateResponse(
        oplock_level=OplockLevel.LEASE,
        create_action=1,
        creation_time=0,
        last_access_time=0,
        last_write_time=0,
        change_time=0,
        allocation_size=0,
        end_of_file=0,
        file_attributes=0,
        file_id=file_id,
        contexts=(context,),
    )


class Record(LeaseRecord):
    """A lease whose owner counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def tell_owner(self) -> None:
        self.calls += 1


class World:
    """A client, a server and what is under way between them."""

    def __init__(self, kind: LeaseKind, first_epoch: int, choose: Callable[[int], int]) -> None:
        self.table = LeaseTable()
        self.table.kind = kind
        self.lease = Record()
        self.server = ModelServer(kind, self.lease.key)
        self.choose = choose
        self.first_epoch = first_epoch
        self.to_server: deque[Create | Close | LeaseBreakAcknowledgement] = deque()
        self.deferred: list[Create] = []
        self.to_client: deque[Opened | Answered | LeaseBreakNotification] = deque()
        self.waiting: list[Create] = []
        self.files: list[FileId] = []
        self.lives_by_term: dict[int, int] = {}

    def open(self) -> None:
        claim = self.table.claim(self.lease)
        (context,) = claim.contexts
        asked = context.epoch if isinstance(context, LeaseV2) else 0
        create = Create(claim, asked or self.first_epoch)
        self.waiting.append(create)
        self.to_server.append(create)

    def give_up(self) -> None:
        if self.waiting:
            create = self.waiting.pop(self.choose(len(self.waiting)))
            assert create.claim is not None
            self.table.withdraw(create.claim)
            create.claim = None

    def close(self) -> None:
        if self.files:
            file_id = self.files.pop(self.choose(len(self.files)))
            self.to_server.append(Close(file_id))
            self.table.closing(file_id)

    def acknowledge(self) -> None:
        request = self.lease.next_acknowledgement()
        if isinstance(request, LeaseBreakAcknowledgement):
            self.to_server.append(request)

    def serve(self) -> None:
        if not self.to_server:
            return
        match self.to_server.popleft():
            case Create() as create:
                if self.choose(3):
                    self.finish(create)
                else:
                    self.deferred.append(create)
            case Close(file_id):
                self.server.close(file_id)
            case LeaseBreakAcknowledgement() as request:
                self.server.acknowledge(request.lease_state)
                self.to_client.append(Answered(request))

    def serve_deferred(self) -> None:
        if self.deferred:
            self.finish(self.deferred.pop(self.choose(len(self.deferred))))

    def finish(self, create: Create) -> None:
        response = self.server.create(create.epoch, STATES[self.choose(len(STATES))])
        self.to_client.append(Opened(create, response))

    def break_lease(self) -> None:
        notification = self.server.break_to(STATES[self.choose(len(STATES))])
        if notification is not None:
            self.to_client.append(notification)

    def deliver(self) -> None:
        """The next message; what answers a CREATE may be late, as the rest of its compound takes time."""
        if not self.to_client:
            return
        first = next((at for at, found in enumerate(self.to_client) if not isinstance(found, Opened)), None)
        last = len(self.to_client) - 1 if first is None else first
        at = self.choose(last + 1)
        message = self.to_client[at]
        del self.to_client[at]
        match message:
            case Opened(create, response):
                if create.claim is None:
                    self.to_server.append(Close(response.file_id))
                    return
                assert create.claim.settle(response)
                self.table.withdraw(create.claim)
                self.waiting.remove(create)
                self.files.append(response.file_id)
            case Answered(request):
                self.lease.answered(request)
            case LeaseBreakNotification() as notification:
                self.table.take_break(notification)

    def check(self) -> None:
        lease, server = self.lease, self.server
        assert self.files or not lease.state
        assert len(self.table) == bool(self.files or self.waiting)
        if any(isinstance(message, LeaseBreakNotification) for message in self.to_client):
            return
        assert not lease.state & ~server.vouches_for, "more is believed than holds"
        if lease.state & 1:
            assert self.lives_by_term.setdefault(lease.term, server.lives) == server.lives

    def settle(self) -> None:
        """Let everything that is under way arrive, and the owner do its duty."""
        while self.to_server or self.to_client or self.deferred or self.lease.needs_acknowledgement:
            self.acknowledge()
            self.deliver()
            self.serve()
            self.serve_deferred()
            self.check()


STEPS: tuple[Callable[[World], None], ...] = (
    World.open,
    World.close,
    World.give_up,
    World.acknowledge,
    World.break_lease,
    World.serve,
    World.serve_deferred,
    World.deliver,
    World.serve,
    World.deliver,
)


WALKS = 1500
STEPS_OF_A_WALK = 60


@pytest.mark.parametrize("kind", [LeaseKind.V1, LeaseKind.V2])
@pytest.mark.parametrize("first_epoch", [0, 0x7FFF, 0xFFFE])
def test_never_more_is_believed_than_the_server_vouches_for(kind: LeaseKind, first_epoch: int) -> None:
    for seed in range(WALKS):
        world = World(kind, first_epoch, random.Random(seed).randrange)
        for _ in range(STEPS_OF_A_WALK):
            STEPS[world.choose(len(STEPS))](world)
            world.check()
        world.settle()
        assert world.server.breaking_to is None, "a break was never acknowledged"
        while world.files:
            world.close()
        world.settle()
        assert not world.server.files
        assert len(world.table) == 0
        assert not world.lease.needs_acknowledgement
