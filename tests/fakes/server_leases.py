"""A server that grants leases or oplocks as a test tells it to, and breaks them when it says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Unpack

from engine.wire import create_contexts
from engine.wire.constants import Capabilities, Command, Dialect, HeaderFlags, OplockLevel
from engine.wire.create import CreateRequest, CreateResponse
from engine.wire.create_contexts import CreateContext, LeaseV2
from engine.wire.header import UNSOLICITED_MESSAGE_ID, Header
from engine.wire.notify import LeaseBreakAcknowledgement, LeaseBreakNotification, OplockBreak
from tests.fakes.server import ServerOptions
from tests.fakes.server_behaviours import KeepsWaiting
from tests.fakes.server_peer import Peer


class GrantsLeases(KeepsWaiting):
    """Grants `state` to whoever asks for a lease and `level` to whoever asks for an oplock.

    Replies to `commands` wait until `release`, as in `KeepsWaiting`.
    """

    def __init__(self, *commands: Command, **options: Unpack[ServerOptions]) -> None:
        super().__init__(*commands, **options)
        self.armed = bool(commands)
        self.state = 7
        self.level: int = OplockLevel.BATCH
        self.epoch: int | None = None
        """The epoch of the next grants; None = one more than was asked with, as for a new lease."""
        self.flags = 0
        self.offers_leases = True
        self.offers_folder_leases = False
        self.change: Callable[[CreateResponse], None] | None = None
        """Changes an answer that grants something."""
        self.asked: list[CreateRequest] = []
        self.acknowledged: list[LeaseBreakAcknowledgement | OplockBreak] = []

    @property
    def capabilities(self) -> int:
        found = super().capabilities
        if self.dialect >= Dialect.SMB_2_1 and self.offers_leases:
            found |= int(Capabilities.LEASING)
            if self.offers_folder_leases:
                found |= int(Capabilities.DIRECTORY_LEASING)
        return found

    def created(self, request: CreateRequest, response: CreateResponse) -> None:
        self.asked.append(request)
        if request.requested_oplock_level == OplockLevel.LEASE:
            response.oplock_level = OplockLevel.LEASE
            response.contexts = [*self._grants(request.contexts), *response.contexts]
        elif request.requested_oplock_level != OplockLevel.NONE:
            response.oplock_level = min(self.level, request.requested_oplock_level)
        else:
            return
        if self.change is not None:
            self.change(response)

    def _grants(self, asked: Sequence[CreateContext]) -> Sequence[CreateContext]:
        granted: list[CreateContext] = []
        for context in asked:
            if isinstance(context, LeaseV2):
                epoch = context.epoch + 1 if self.epoch is None else self.epoch
                granted.append(LeaseV2(context.lease_key, self.state, self.flags, epoch=epoch & 0xFFFF))
            elif isinstance(context, create_contexts.Lease):
                granted.append(create_contexts.Lease(context.lease_key, self.state, self.flags))
        return granted

    def acknowledge(
        self, request: LeaseBreakAcknowledgement | OplockBreak
    ) -> LeaseBreakAcknowledgement | OplockBreak:
        self.acknowledged.append(request)
        return request

    async def send_break(self, notification: LeaseBreakNotification | OplockBreak) -> None:
        """Break a lease or an oplock on the newest connection."""
        peer: Peer = self.peers[-1]
        header = Header(
            command=Command.OPLOCK_BREAK,
            flags=HeaderFlags.SERVER_TO_REDIR,
            message_id=UNSOLICITED_MESSAGE_ID,
        )
        message = header.encode() + notification.encode()
        async with peer.sending:
            await self.write(peer, len(message).to_bytes(4, "big") + message)
