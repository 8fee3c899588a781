"""What a connection has done, counted where it is done."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass(slots=True)
class Statistics:
    """Counters of one connection since it was made; `snapshot` gives a copy that stands still."""

    requests: Counter[str] = field(default_factory=Counter)
    """Requests sent, by command."""
    trips: Counter[str] = field(default_factory=Counter)
    """Round trips, by the commands that shared one: `CREATE+QUERY_INFO+CLOSE`."""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Time from sending to the final reply, by command, added up over requests that may overlap."""
    bytes_sent: int = 0
    bytes_received: int = 0
    interim_replies: int = 0
    unknown_replies: int = 0
    late_replies: int = 0
    cancels: int = 0
    credits: int = 0
    """Credits in hand."""
    credits_in_use: int = 0
    """Credits that requests in flight have cost."""
    in_flight: int = 0
    most_in_flight: int = 0
    """The most requests that ever were in flight at once."""

    @property
    def round_trips(self) -> int:
        """All round trips: frames sent that a reply was due to."""
        return sum(self.trips.values())

    def as_dict(self) -> dict[str, int | dict[str, int] | dict[str, float]]:
        """The counters as plain values, for a log line or JSON."""
        return {
            "round_trips": self.round_trips,
            "trips": dict(self.trips),
            "requests": dict(self.requests),
            "seconds": {command: round(seconds, 6) for command, seconds in self.seconds.items()},
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "interim_replies": self.interim_replies,
            "unknown_replies": self.unknown_replies,
            "late_replies": self.late_replies,
            "cancels": self.cancels,
            "credits": self.credits,
            "credits_in_use": self.credits_in_use,
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
        }

    def snapshot(self) -> Statistics:
        """An independent copy."""
        return Statistics(
            requests=self.requests.copy(),
            trips=self.trips.copy(),
            seconds=self.seconds.copy(),
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            interim_replies=self.interim_replies,
            unknown_replies=self.unknown_replies,
            late_replies=self.late_replies,
            cancels=self.cancels,
            credits=self.credits,
            credits_in_use=self.credits_in_use,
            in_flight=self.in_flight,
            most_in_flight=self.most_in_flight,
        )
