"""A lease as its owner sees it: what the server vouches for, and the answer to a break."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from engine.proto.inflight import Request
from engine.proto.leases import LeaseRecord

Send = Callable[[Request], Awaitable[None]]
"""Sends an acknowledgement; returns when the server has answered, or the connection is lost."""


async def _nowhere(request: Request) -> None:
    raise AssertionError("a lease that was never in use owes nothing")


class Lease(LeaseRecord):
    """The caching rights of one file, shared by every handle that is opened with it.

    Made by `Share.lease` or `Crossing.lease`, and used at one server at a time. The owner reads `key`,
    `state`, `term` and `needs_acknowledgement`, and calls `acknowledge`; all else is for the connection,
    which keeps the record up to date.
    """

    def __init__(self, on_break: Callable[[Lease], None]) -> None:
        super().__init__()
        self.durability: object | None = None
        """That of the one open file which the server is asked to keep over a lost connection."""
        self.durable_from = float("-inf")
        """When one may be asked for, in trio's clock."""
        self.path: str | None = None
        """The name by which a file was opened again with it last: on Samba it belongs to that one."""
        self._on_break = on_break
        self.send: Send = _nowhere
        """Sends acknowledgements to the server at which it is in use."""

    def tell_owner(self) -> None:
        """Call the owner's `on_break`."""
        self._on_break(self)

    async def acknowledge(self) -> None:
        """Tell the server that what it took back is not used any more; does nothing if none is due.

        Returns when the server has answered, or the connection is lost. Where this is cancelled, the
        acknowledgement is sent all the same.
        """
        while (request := self.next_acknowledgement()) is not None:
            await self.send(request)
            self.answered(request)
