r"""Where the folders of a distributed tree are: what servers said of it, for how long, and what to try next.

[MS-DFSC] 3.1. A name is a tuple of its parts: `\server\share\folder` is `("server", "share", "folder")`.
Referrals of versions 1 to 4 become an `Entry` each, which `ReferralCache` keeps until it expires. A `Walk`
goes from the name that somebody wants to the share that holds it, one `Place` after the other.
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from engine.errors import RemoteProtocolError, printable
from engine.wire.dfs import DfsEntryFlags, DfsHeaderFlags, DfsReferral, DfsReferralResponse

Name = tuple[str, ...]

MAX_TARGETS: Final = 256
"""Targets of one referral: Windows' tools allow 50 for a link."""
MAX_HOPS: Final = 16
"""Referrals on the way from a name to its share: few namespaces lead to another that leads to a third."""
MAX_VISITS: Final = 64
"""Places that are tried on one way, those that are down among them."""
MAX_ENTRIES: Final = 1024
MAX_NAMES: Final = 4096
"""Domains and controllers in one answer."""

SHORTEST_LIFE: Final = 5.0
LONGEST_LIFE: Final = 86_400.0
"""Seconds between which a time to live is kept: 0 would have each step ask, 2**32 - 1 would be for ever."""
_UNTOLD_LIFE: Final = 300.0
"""Of version 1, which tells none."""

_LONGEST_PART: Final = 255
_LONGEST_NAME: Final = 16_384
_ROOT_SERVER: Final = 1
_SERVER_AND_SHARE: Final = 2
_FORBIDDEN: Final = frozenset('/*?"<>|')


def split_name(text: str) -> Name:
    r"""The parts of `\server\share\folder`, however many backslashes are between them."""
    return tuple(part for part in text.split("\\") if part)


def join_name(name: Name) -> str:
    r"""`\server\share\folder`: with one backslash at the front, as referrals have it ([MS-DFSC] 2.2.2)."""
    return "\\" + "\\".join(name)


def fold(name: Name) -> Name:
    """The name as it is compared: case is of no account."""
    return tuple(part.casefold() for part in name)


@dataclass(frozen=True, slots=True)
class Target:
    """A folder that a name stands for. `group` counts the sets of the same site cost, the cheapest first."""

    place: Name
    group: int = 0

    @property
    def key(self) -> Name:
        """The place as it is compared."""
        return fold(self.place)


@dataclass(slots=True, eq=False)
class Entry:
    """What one referral said of `name`: its targets in the server's order, until `expires`.

    `hint` is the target that is tried first: the one that worked last ([MS-DFSC] 3.1.1). `fails_back` says
    that the first one is to be preferred again when the referral is renewed. Of an interlink the targets
    are other namespaces.
    """

    name: Name
    is_root: bool
    targets: tuple[Target, ...]
    expires: float
    fails_back: bool = False
    is_interlink: bool = False
    hint: Target | None = None

    @property
    def order(self) -> list[Target]:
        """The targets as they are to be tried: the hint, then the others as the server ranks them."""
        first = self.hint if self.hint is not None else self.targets[0]
        return [first, *(target for target in self.targets if target != first)]

    def find(self, place: Name) -> Target | None:
        """The target that is the same server and share as `place`, or has it below itself."""
        wanted = fold(place)
        return next((one for one in self.targets if wanted[: len(one.place)] == one.key), None)


def read_untrusted(asked: Name, response: DfsReferralResponse, now: float) -> Entry:
    """What a server answered when it was asked for `asked`, at `now` seconds by any steady clock.

    Targets that name no share are left out. Raises `RemoteProtocolError` if none is left, if there are too
    many, or if the answer is about something else than what was asked for ([MS-DFSC] 3.1.5.4).
    """
    name = _consumed_untrusted(asked, response.path_consumed)
    referrals = response.referrals
    if len(referrals) > MAX_TARGETS:
        raise RemoteProtocolError(
            f"a referral of {_shown(name)} has {len(referrals)} targets where {MAX_TARGETS} are taken"
        )
    targets = _targets_untrusted(referrals)
    if not targets:
        raise RemoteProtocolError(f"the referral of {_shown(name)} names no target that could be used")
    flags = response.referral_header_flags
    is_root = referrals[0].server_type == _ROOT_SERVER
    kinds = flags & (DfsHeaderFlags.REFERRAL_SERVERS | DfsHeaderFlags.STORAGE_SERVERS)
    return Entry(
        name,
        is_root,
        targets,
        now + _life_untrusted(referrals[0]),
        fails_back=bool(flags & DfsHeaderFlags.TARGET_FAILBACK),
        is_interlink=not is_root and kinds == DfsHeaderFlags.REFERRAL_SERVERS,
    )


@dataclass(frozen=True, slots=True)
class NameList:
    """A domain, by one of its names, and its controllers as the server ranks them, until `expires`. In an
    answer about all domains there are no controllers ([MS-DFSC] 2.2.5.3.2)."""

    name: str
    controllers: tuple[str, ...]
    expires: float


def read_names_untrusted(response: DfsReferralResponse, now: float) -> list[NameList]:
    """What a domain controller answered about domains, at `now` seconds by any steady clock.

    What cannot be a name is left out. Raises `RemoteProtocolError` if there are too many.
    """
    lists = [referral for referral in response.referrals if referral.is_name_list]
    count = len(lists) + sum(len(referral.expanded_names) for referral in lists)
    if count > MAX_NAMES:
        raise RemoteProtocolError(f"a list of domains has {count} names where {MAX_NAMES} are taken")
    found: list[NameList] = []
    for referral in lists:
        name = _host_untrusted(referral.special_name)
        controllers = tuple(filter(None, map(_host_untrusted, referral.expanded_names)))
        if name:
            found.append(NameList(name, controllers, now + _life_untrusted(referral)))
    return found


def _host_untrusted(text: str) -> str:
    r"""The host's or domain's name in `\name`, "" if it cannot be one."""
    place = split_name(text)
    return place[0] if len(place) == 1 and _are_names(place) and ":" not in place[0] else ""


def _consumed_untrusted(asked: Name, consumed: int) -> Name:
    """What of the name the answer is about: whole parts, the server and the share among them."""
    encoded = join_name(asked).encode("utf-16-le", "surrogatepass")
    text = encoded[:consumed].decode("utf-16-le", "surrogatepass") if consumed % 2 == 0 else ""
    name = split_name(text)
    if consumed > len(encoded) or len(name) < _SERVER_AND_SHARE or name != asked[: len(name)]:
        raise RemoteProtocolError(
            f"the referral of {_shown(asked)} is about {consumed} bytes of that name, "
            f"which has {len(encoded)}, and which is no part of it"
        )
    return name


def _life_untrusted(referral: DfsReferral) -> float:
    life = _UNTOLD_LIFE if referral.version == 1 else float(referral.time_to_live)
    return min(max(life, SHORTEST_LIFE), LONGEST_LIFE)


def _targets_untrusted(referrals: Sequence[DfsReferral]) -> tuple[Target, ...]:
    found: dict[Name, Target] = {}
    group = 0
    for index, referral in enumerate(referrals):
        if index and _begins_set(referral):
            group += 1
        if referral.is_name_list:
            continue
        place = split_name(referral.network_address)
        if _is_place(place, referral.network_address):
            found.setdefault(fold(place), Target(place, group))
    return tuple(found.values())


def _begins_set(referral: DfsReferral) -> bool:
    return referral.version >= 4 and bool(referral.referral_entry_flags & DfsEntryFlags.TARGET_SET_BOUNDARY)


def _is_place(place: Name, text: str) -> bool:
    if len(place) < _SERVER_AND_SHARE or len(text) > _LONGEST_NAME or not text.startswith("\\"):
        return False
    return _are_names(place)


def _are_names(place: Name) -> bool:
    return all(
        len(part) <= _LONGEST_PART
        and part not in (".", "..")
        and part.isprintable()
        and not _FORBIDDEN.intersection(part)
        for part in place
    )


def _shown(name: Name) -> str:
    return printable(join_name(name))


class Match(NamedTuple):
    """An entry, and the rest of the name, which lies below it."""

    entry: Entry
    rest: Name


class ReferralCache:
    """What servers said, by name: the longest that is known counts ([MS-DFSC] 3.1.1).

    **Invariant:** an entry is kept under its folded name, at most `MAX_ENTRIES` of them.
    """

    def __init__(self) -> None:
        self._entries: dict[Name, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, name: Name, now: float) -> Match | None:
        """What is known and not expired of `name`, or of the longest part of it."""
        folded = fold(name)
        for length in range(len(folded), _SERVER_AND_SHARE - 1, -1):
            entry = self._entries.get(folded[:length])
            if entry is not None and now < entry.expires:
                return Match(entry, name[length:])
        return None

    def known(self, name: Name) -> Entry | None:
        """What was said last of exactly this name, expired or not."""
        return self._entries.get(fold(name))

    def add(self, entry: Entry) -> None:
        """Keep an entry, in place of the one of that name: unless the tree fails back, its hint stays."""
        key = fold(entry.name)
        old = self._entries.pop(key, None)
        if old is not None and old.hint is not None and not entry.fails_back:
            entry.hint = next((one for one in entry.targets if one.key == old.hint.key), None)
        if len(self._entries) >= MAX_ENTRIES:
            soonest = min(self._entries, key=lambda name: self._entries[name].expires)
            del self._entries[soonest]
        self._entries[key] = entry


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A folder of a share that may hold what is wanted.

    `name` is what referrals know it by; `place` where it really is: both are the same but for the targets of
    a root. `target` of `entry` is what led here, from `origin`.
    """

    place: Name
    name: Name
    origin: Place | None = None
    entry: Entry | None = None
    target: Target | None = None

    @property
    def server(self) -> str:
        """The host's name or address."""
        return self.place[0]

    @property
    def share(self) -> str:
        """The share's name."""
        return self.place[1]

    @property
    def prefix(self) -> str:
        """The folder of the share, with backslashes; "" is its root."""
        return "\\".join(self.place[2:])

    @property
    def way(self) -> list[Place]:
        """The places from the first one to this."""
        way: list[Place] = []
        place: Place | None = self
        while place is not None:
            way.append(place)
            place = place.origin
        return way[::-1]

    def settle(self) -> None:
        """It was reached: its target, and those on the way to it, are the ones to begin with next time."""
        for place in self.way:
            if place.entry is not None and place.target is not None:
                place.entry.hint = place.target


@dataclass(slots=True)
class Walk:
    """From the name that is wanted to the share that holds it: which place is the next to be tried.

    Depth first: the targets of what a target turned out to be come before its neighbours. `skipped` are the
    places that are known to be of no use. `problems` says of each place why it was left.
    """

    start: Place
    skipped: set[Name] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    _pending: list[list[Place]] = field(init=False)
    _visits: int = 0

    def __post_init__(self) -> None:
        self._pending = [[self.start]]

    @property
    def has_more(self) -> bool:
        """Whether something is left to be tried."""
        return any(self._pending)

    def next(self) -> Place | None:
        """The next place; None if there is none left.

        Raises `RemoteProtocolError` after too many.
        """
        while self._pending:
            if not self._pending[-1]:
                self._pending.pop()
                continue
            place = self._pending[-1].pop(0)
            if fold(place.place) in self.skipped and place is not self.start:
                continue
            self._visits += 1
            if self._visits > MAX_VISITS:
                raise RemoteProtocolError(
                    f"{_shown(self.start.name)} was looked for in {MAX_VISITS} places in vain",
                    errno=errno.ELOOP,
                )
            return place
        return None

    def rename(self, place: Place, hosts: Sequence[str]) -> None:
        """What is looked for at `place` is at one of these hosts, which come next; it is known by the name
        that it has."""
        self.skipped.add(fold(place.place))
        self._pending.append([dataclasses.replace(place, place=(host, *place.place[1:])) for host in hosts])

    def fail(self, place: Place, why: object) -> None:
        """A place is of no use, for this reason."""
        self.skipped.add(fold(place.place))
        self.problems.append(f"\\{join_name(place.place)}: {why}")

    def refer(self, place: Place, match: Match) -> None:
        """What is looked for at `place` is at the targets of an entry, which come next.

        Raises `RemoteProtocolError` if they lead back to where they were looked for, or on and on.
        """
        entry, rest = match
        way = place.way
        if len(way) > MAX_HOPS:
            raise RemoteProtocolError(
                f"{_shown(self.start.name)} leads from one namespace to the next more than {MAX_HOPS} times",
                errno=errno.ELOOP,
            )
        # A namespace may well be one of its own root targets; a link that leads to itself is a loop.
        passed = {fold(one.place) for one in (way[:-1] if entry.is_root else way)}
        places = [self._below(place, entry, target, rest) for target in entry.order]
        ahead = [one for one in places if fold(one.place) not in passed]
        if not ahead:
            raise RemoteProtocolError(
                f"{_shown(entry.name)} leads back to itself: links of the distributed tree go in a circle",
                errno=errno.ELOOP,
            )
        self._pending.append(ahead)

    @staticmethod
    def _below(origin: Place, entry: Entry, target: Target, rest: Name) -> Place:
        place = (*target.place, *rest)
        name = (*entry.name, *rest) if entry.is_root else place
        return Place(place, name, origin, entry, target)
