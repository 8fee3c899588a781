"""One share of a distributed tree: where it is in the whole, how its files are numbered, and its users."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from engine.client.behind import MAX_SALT, Numbers
from engine.client.leases import Lease
from engine.client.share import Share
from engine.proto.referrals import Entry, Name, fold, split_name


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
    expires: float = math.inf
    """When it has to be asked for anew where its link leads to, in trio's clock."""
    renewal: trio.Event | None = None
    """Set once that is known which is being asked for."""
    retired: trio.Event = field(default_factory=trio.Event)
    """Set once no path leads to it any more."""
    targets: frozenset[Name] = frozenset()
    """Where its link leads to, by the referral."""

    @property
    def is_trunk(self) -> bool:
        return not self.at

    @property
    def idle_for(self) -> float:
        """Seconds since it was used last; 0 while it is in use."""
        return 0.0 if self.is_used else trio.current_time() - self.used_at

    @property
    def is_used(self) -> bool:
        """Whether calls are under way, or something is open."""
        return bool(self.busy) or self.share.has_open_files

    @property
    def is_direct(self) -> bool:
        """Whether the share is one of those that the referral names: else that leads to a link again."""
        return fold(split_name(self.share.place)) in self.targets

    def is_above(self, folded: Name) -> bool:
        """Whether a path of the whole begins with its link."""
        return folded[: len(self.at)] == self.at

    def below(self, path: str) -> str | None:
        """The path in the share of a path of the whole, if it begins with its link."""
        parts = split_name(path)
        return "\\".join(parts[len(self.at) :]) if self.is_above(fold(parts)) else None

    def refer(self, entry: Entry, found: Share | None = None) -> None:
        """Take a referral of its link. Where that leads to other links it holds no longer than those on the
        way, as `found` was just found by them."""
        self.targets = frozenset(target.key for target in entry.targets)
        self.expires = entry.expires
        if found is not None and not self.is_direct:
            lives = [step.seconds_left for step in found.dfs_steps() if not step.is_root]
            self.expires = min(self.expires, trio.current_time() + min(lives, default=math.inf))

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
