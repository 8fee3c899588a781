"""What a proxy can be told, as values, and what it counts.

A fault holds for the connections there are and for all that come, until another or `Heal` ends it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, TypeAlias

DEFAULT_QUEUE: Final = 64 << 20
"""Bytes on their way in one direction: 25 ms one way at 2.5 GB/s."""


class Way(enum.Enum):
    """A direction of the line."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


BOTH: Final = (Way.TO_SERVER, Way.TO_CLIENT)


@dataclass(frozen=True, slots=True)
class Link:
    """What the line is like: seconds there and back, bytes per second of each direction (None: no limit),
    and the bytes that may be under way in each direction before the sender has to wait."""

    round_trip: float = 0.0
    rate: float | None = None
    queue: int = DEFAULT_QUEUE


@dataclass(frozen=True, slots=True)
class Relink:
    """Another line from now on: what is under way already keeps the time it is due."""

    link: Link
    ways: tuple[Way, ...] = BOTH


@dataclass(frozen=True, slots=True)
class Split:
    """Send pieces of these sizes, in turn and again from the start, each in a segment of its own."""

    sizes: tuple[int, ...] = (1,)
    ways: tuple[Way, ...] = BOTH

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError("a piece has at least one byte")


@dataclass(frozen=True, slots=True)
class Merge:
    """Wait for `seconds` with what is due, and send all that has come by then in one segment."""

    seconds: float = 0.005
    ways: tuple[Way, ...] = BOTH


@dataclass(frozen=True, slots=True)
class Whole:
    """Send what came at once at once: the end of `Split` and `Merge`."""

    ways: tuple[Way, ...] = BOTH


@dataclass(frozen=True, slots=True)
class Stall:
    """A silent line that loses nothing: bytes, ends and resets wait for `Resume`, and are taken in until
    the link's queue is full."""

    ways: tuple[Way, ...] = BOTH


@dataclass(frozen=True, slots=True)
class Drop:
    """A black hole: bytes, ends and resets vanish, and nobody hears of it.

    New connections are accepted, but the server never sees them if the way to it is dropped. A connection
    that has lost something stays a hole after `Resume`, as its ends can no longer agree; new ones work.
    """

    ways: tuple[Way, ...] = BOTH


@dataclass(frozen=True, slots=True)
class Resume:
    """The end of `Stall` and `Drop`."""

    ways: tuple[Way, ...] = BOTH


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Tell the receiver in these directions that nothing more will come (FIN), and let the rest vanish.

    Both ways: an orderly end of the connections there are.
    """

    ways: tuple[Way, ...] = BOTH


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset (RST) both sides of every connection there is; what was under way is lost."""


class Door(enum.Enum):
    """What happens to a client that asks for a connection."""

    OPEN = "it gets one"
    REFUSED = "it is refused"
    SILENT = "it gets no answer at all, as from a host that is not there"


@dataclass(frozen=True, slots=True)
class NewConnections:
    """How connections are answered from now on; those there are stay as they are."""

    door: Door


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server is from now on, for new connections."""

    address: tuple[str, int]


class Place(enum.Enum):
    """Where a line is cut, seen from a message."""

    BEFORE = "the message has arrived at the proxy, and no byte of it goes on"
    MIDDLE = "half of it has gone on"
    AFTER = "all of it has gone on"


class Loss(enum.Enum):
    """How a line is cut."""

    RESET = "both sides of this connection are reset"
    END = "both sides of this connection are told its end"
    HOLE = "this connection becomes a black hole"
    DROP = "everything is dropped, as by `Drop`"


@dataclass(frozen=True, slots=True)
class Cut:
    """Cut the line once, at the n-th SMB2 message that goes one way, counted from now.

    A compound is one message. Those of all connections count, in the order in which they go on.
    """

    way: Way
    message: int = 1
    place: Place = Place.AFTER
    loss: Loss = Loss.RESET

    def __post_init__(self) -> None:
        if self.message < 1:
            raise ValueError("messages are counted from 1")


@dataclass(frozen=True, slots=True)
class Heal:
    """A good line again, open to new connections: the end of all faults but `Relink` and `Target`."""


Fault: TypeAlias = (
    Relink
    | Split
    | Merge
    | Whole
    | Stall
    | Drop
    | Resume
    | HalfClose
    | Reset
    | NewConnections
    | Target
    | Cut
    | Heal
)


@dataclass(frozen=True, slots=True)
class WayCounts:
    """What went one way: whole SMB2 messages that came to the proxy and that left it, and bytes that left."""

    arrived: int
    delivered: int
    octets: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened since the proxy's start.

    `connections` were accepted, `open` of them are still there; `cuts` of the ordered ones have been made.
    """

    connections: int
    open: int
    cuts: int
    to_server: WayCounts
    to_client: WayCounts
