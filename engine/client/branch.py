"""One share of a distributed tree: where it is in the whole, how its files are numbered, and its users."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from engine.client.behind import MAX_SALT, Numbers
from engine.client.leases import Lease
from engine.client.share import Share
from engine.proto.referrals import Name


@dataclass(eq=False)
class Branch:
    """A share, and where it is in the whole, also as it is written. `salts` are those of its files' numbers,
    one for each place that the link has led to."""

    at: Name
    share: Share
    name: str = ""
    salts: dict[str, int] = field(default_factory=dict)
    busy: int = 0
    """Calls under way, and folders that are being listed."""
    used_at: float = field(default_factory=trio.current_time)

    @property
    def is_trunk(self) -> bool:
        return not self.at

    @property
    def idle_for(self) -> float:
        """Seconds since it was used last; 0 while it is in use."""
        return 0.0 if self.busy or self.share.has_open_files else trio.current_time() - self.used_at

    def lease(self, lease: Lease | None) -> Lease | None:
        """What a file can be opened with here."""
        return lease if self.share.supports_leases else None

    def folder_lease(self, lease: Lease | None) -> Lease | None:
        """What a folder can be opened with here."""
        return lease if self.share.supports_directory_leases else None

    def numbers(self) -> Numbers:
        """How its files are numbered in the whole, until another server takes over."""
        share, moves, place = self.share, self.share.moves, self.share.place
        if not self.is_trunk and place not in self.salts:
            self.salts[place] = 1 + secrets.randbelow(MAX_SALT)
        return Numbers(self.salts.get(place, 0), lambda: share.moves == moves)

    def begin(self) -> None:
        """It is in use until `end`."""
        self.busy += 1

    def end(self) -> None:
        """The use that began is over."""
        self.busy -= 1
        self.used_at = trio.current_time()

    @contextmanager
    def in_use(self) -> Iterator[Share]:
        """Its share, for one call."""
        self.begin()
        try:
            yield self.share
        finally:
            self.end()
