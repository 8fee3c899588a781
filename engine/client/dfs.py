r"""Finding a share that a distributed tree holds: referrals are asked for and followed ([MS-DFSC] 3.1.4).

A server is asked only where its share says that folders of it may be elsewhere, or where it has no such
share, as a domain's controllers may not have the share that the domain's name stands for. So a share of the
ordinary kind costs nothing more. Every hop is negotiated, protected and checked as the mount itself.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import trio

from engine import ntstatus
from engine.client.config import Unc
from engine.client.connection import Connection
from engine.client.controls import TreeControls, connect_for_referrals
from engine.client.domains import ShortNames
from engine.client.establish import Way
from engine.client.session import Session
from engine.client.tree import Tree
from engine.client.trust import may_log_on, may_send_ntlm
from engine.errors import (
    AuthError,
    BufferOverflow,
    ForeignHost,
    HostUnknown,
    NtStatusError,
    RemoteProtocolError,
    SmbError,
    TransportError,
    UnfitServer,
)
from engine.proto.referrals import (
    Entry,
    Match,
    Name,
    NameList,
    Place,
    ReferralCache,
    Walk,
    fold,
    join_name,
    read_names_untrusted,
    read_untrusted,
    split_name,
)
from engine.wire.constants import Dialect
from engine.wire.dfs import DfsReferralResponse
from engine.wire.session import LogoffRequest

if TYPE_CHECKING:
    from engine.client.link import Link

log = logging.getLogger(__name__)

_ONE_OF_SEVERAL: Final = 5.0
"""Seconds for TCP and for the way to the share where there is another target to be tried."""

_NO_SUCH_SHARE: Final = frozenset(
    {
        ntstatus.STATUS_BAD_NETWORK_NAME,
        ntstatus.STATUS_BAD_NETWORK_PATH,
        ntstatus.STATUS_NETWORK_NAME_DELETED,
        ntstatus.STATUS_NOT_FOUND,
        ntstatus.STATUS_OBJECT_NAME_NOT_FOUND,
        ntstatus.STATUS_OBJECT_PATH_NOT_FOUND,
    }
)
"""What a server says that does not have a share (any more)."""


@dataclass(frozen=True, slots=True)
class DfsTarget:
    """A target of a referral. `site` counts the sets of the same cost, the cheapest first."""

    name: str
    site: int
    is_active: bool


@dataclass(frozen=True, slots=True)
class DfsStep:
    """One referral on the way: what it was for, its targets as they would be tried, and the seconds for which
    it holds, below 0 if it has expired."""

    name: str
    is_root: bool
    is_interlink: bool
    seconds_left: float
    targets: tuple[DfsTarget, ...]


@dataclass(frozen=True, slots=True)
class Arrival:
    """The share that was reached, and the way on which it is reached directly from now on. The connection is
    that of a `lender`, if there is one."""

    way: Way
    connection: Connection
    tree: Tree
    lender: Link | None = None


def is_gone(error: SmbError) -> bool:
    """Whether a server was reached that does not have the share any more."""
    return isinstance(error, NtStatusError) and error.status in _NO_SUCH_SHARE


class Resolver:
    """Finds what `origin` is the way to, over as many servers as it takes; what they said is kept."""

    def __init__(self, origin: Way) -> None:
        self._origin = origin
        self._cache = ReferralCache()
        self._short_names = ShortNames(origin.unc.server)
        self._place: Place | None = None

    @property
    def has_choice(self) -> bool:
        """Whether what was reached last could be somewhere else as well."""
        return self._place is not None and self._root_of(self._place) is not None

    @property
    def has_alternatives(self) -> bool:
        """Whether there is another target now for what was reached last, or for a link on the way to it."""
        place = self._place
        return place is not None and not _leads_to_one(place, self._root_of(place))

    def steps(self) -> list[DfsStep]:
        """The referrals that led to what was reached last; none if the share is where its name says."""
        if self._place is None:
            return []
        found = [self._step(place.entry, place) for place in self._place.way if place.entry is not None]
        root = self._root_of(self._place)
        if root is not None and all(root.name != split_name(step.name) for step in found):
            found.append(self._step(root, self._place))
        return found

    @staticmethod
    def _step(entry: Entry, place: Place) -> DfsStep:
        active = place.target if place.entry is entry else entry.find(place.place)
        targets = tuple(
            DfsTarget("\\" + join_name(target.place), target.group, target is active)
            for target in entry.order
        )
        left = entry.expires - trio.current_time()
        return DfsStep("\\" + join_name(entry.name), entry.is_root, entry.is_interlink, left, targets)

    def _root_of(self, place: Place) -> Entry | None:
        """The entry by which `place`, or the namespace that it is in, could be replaced."""
        if place.entry is not None:
            return place.entry
        found = self._cache.known(place.name[:2])
        return found if found is not None and found.is_root else None

    @asynccontextmanager
    async def arrive(
        self,
        way: Way,
        seconds: float,
        patience: float,
        *,
        leave: bool = False,
        lenders: Sequence[Link] = (),
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> AsyncGenerator[Arrival, None]:
        """Go to the share, with the account of `way`; it is connected to until the block ends.

        Each server has `seconds` for TCP and `patience` for the rest. With `leave` the place that was reached
        last is out of the question. A server that one of `lenders` has a connection to is gone to over that.
        `is_wanted` is asked in the step in which the share is taken. Raises what `connect` does;
        `TransportError` if it is not wanted any more, and with all reasons where several targets were of no
        use, `ForeignHost` for one that the account may not be used at.
        """
        skipped = {fold(self._place.place)} if leave and self._place is not None else set[Name]()
        walk = Walk(self._start(), skipped)
        errors: list[SmbError] = []
        place = self._advance(walk, errors)
        while place is not None:
            async with AsyncExitStack() as stack:
                stay = _Stay(stack, walk, seconds, patience, lenders)
                stack.callback(stay.leave_trees)
                server = place.server.casefold()
                while place is not None and place.server.casefold() == server:
                    arrival = await self._try(stay, place, way, errors)
                    if arrival is not None and not is_wanted():
                        errors.append(TransportError(f"{hop_name(place)} is not wanted any more"))
                        place = None
                        break
                    if arrival is not None:
                        place.settle()
                        self._place = place
                        stay.leave_trees(arrival.tree)
                        yield arrival
                        return
                    place = None if _is_final(errors) else self._advance(walk, errors)
                stay.take_leave()
        raise _failure(walk, errors)

    def _start(self) -> Place:
        unc = self._origin.unc
        name = (unc.server, unc.share, *split_name(unc.prefix))
        return Place(name, name)

    def _advance(self, walk: Walk, errors: list[SmbError]) -> Place | None:
        """The next place of which it is not known yet that it is elsewhere."""
        while True:
            try:
                place = walk.next()
            except RemoteProtocolError as error:
                errors.append(error)
                return None
            if place is None:
                return None
            match = self._cache.lookup(place.name, trio.current_time())
            if match is None or (
                place.entry is not None and fold(match.entry.name) == fold(place.entry.name)
            ):
                return place
            try:
                walk.refer(place, match)
            except RemoteProtocolError as error:
                errors.append(error)
                walk.fail(place, error)

    async def _try(self, stay: _Stay, place: Place, way: Way, errors: list[SmbError]) -> Arrival | None:
        """The share, if it is at `place`; if not, `errors` says why, or the walk goes on from there."""
        try:
            hop = self._way_to(place, way)
            session = await stay.session(hop)
            with _bounded(stay.limit(stay.patience), hop):
                tree = await self._look(stay, hop, session, place)
            if tree is not None and fold(place.place) in stay.walk.skipped:
                raise TransportError("it was left for another target just now", errno=errno.EHOSTDOWN)
        except SmbError as error:
            if stay.lost_what_was_lent():
                return await self._try(stay, place, way, errors)
            if isinstance(error, HostUnknown | ForeignHost) and await self._rename(stay, place, way):
                return None
            log.debug("%s is of no use: %s", hop_name(place), error)
            if place.entry is not None:
                error.stage, error.target = "DFS", hop_name(place)
            errors.append(error)
            stay.walk.fail(place, error)
            return None
        return None if tree is None else Arrival(hop, session.connection, tree, stay.lender)

    async def _rename(self, stay: _Stay, place: Place, way: Way) -> bool:
        """Whether there are other names for the host of `place`, which come next."""

        async def ask(controller: str, domain: str) -> list[NameList]:
            return await self._ask_about_domains(stay, Place((controller, "IPC$"), ()), domain, way)

        hosts: list[str] = []
        with trio.move_on_after(stay.limit(stay.seconds)):
            hosts = await self._short_names.hosts(place.server, way.port, way.credentials, ask)
        if hosts:
            stay.walk.rename(place, hosts)
        return bool(hosts)

    async def _ask_about_domains(self, stay: _Stay, place: Place, domain: str, way: Way) -> list[NameList]:
        hop = self._way_to(place, way)
        async with AsyncExitStack() as stack:
            patience = min(stay.patience, _ONE_OF_SEVERAL)
            visit = _Stay(stack, stay.walk, min(stay.seconds, _ONE_OF_SEVERAL), patience, ())
            session = await visit.session(hop)
            with _bounded(visit.patience, hop):
                response = await visit.referrals(hop, session, join_name((domain,)) if domain else "")
            visit.take_leave()
        return read_names_untrusted(response, trio.current_time())

    def _way_to(self, place: Place, way: Way) -> Way:
        """The way to a place, which is `way` in all but the place.

        Raises `ForeignHost` if the account may not be used there.
        """
        origin, config = self._origin.unc, self._origin.config
        if may_send_ntlm(way.credentials) and not may_log_on(origin.server, place.server, config.dfs_hosts):
            raise ForeignHost(
                f"{origin} leads to the host {place.server}, to which the account was not sent: "
                f"if it may be used there, allow that with dfs_hosts={place.server}"
            )
        is_origin = place.server.casefold() == origin.server.casefold()
        unc = Unc(place.server, origin.port, place.share, place.prefix)
        return replace(way, unc=unc, config=config if is_origin else replace(config, address=None))

    async def _look(self, stay: _Stay, hop: Way, session: Session, place: Place) -> Tree | None:
        """Connect to a place's share and see whether its folder is there; None if it is elsewhere."""
        try:
            tree = await stay.connect_share(hop, session, hop.unc.tree_path, place.prefix)
        except NtStatusError as refusal:
            if (place.entry is not None and place.entry.is_root) or not is_gone(refusal):
                raise
            entry = await self._ask(stay, hop, session, place.name[:2])
            if entry is None:
                raise
            stay.walk.refer(place, Match(entry, place.name[2:]))
            return None
        if not tree.is_distributed:
            return tree
        entry = await self._ask(stay, hop, session, place.name) if place.prefix else None
        if entry is None or entry.is_root:
            entry = await self._ask(stay, hop, session, place.name[:2])
        if entry is None or entry.is_root:
            return tree
        stay.walk.refer(place, Match(entry, place.name[len(entry.name) :]))
        return None

    async def _ask(self, stay: _Stay, hop: Way, session: Session, name: Name) -> Entry | None:
        """What a server says of `name`; None if it knows of no other place for it.

        Raises `TransportError`, and `RemoteProtocolError` for an answer that makes no sense.
        """
        known = self._cache.lookup(name, trio.current_time())
        if known is not None and not known.rest:
            return known.entry
        try:
            response = await stay.referrals(hop, session, join_name(name))
        except BufferOverflow as error:
            raise RemoteProtocolError(
                f"the referral of {join_name(name)} does not fit into any room"
            ) from error
        except NtStatusError as error:
            log.debug("%s", error)
            return None
        entry = read_untrusted(name, response, trio.current_time())
        self._cache.add(entry)
        return entry


class _Stay:
    """One server on the way: its connection lasts for as many places in a row as it has. `lender` is whose
    that is, if it is borrowed."""

    def __init__(
        self,
        stack: AsyncExitStack,
        walk: Walk,
        seconds: float,
        patience: float,
        lenders: Sequence[Link],
    ) -> None:
        self.walk = walk
        self.patience = patience
        self.seconds = seconds
        self.lender: Link | None = None
        self._lenders = lenders
        self._stack = stack
        self._session: Session | None = None
        self._controls: TreeControls | None = None
        self._trees: list[Tree] = []
        """Those that were connected to here, and are not left yet."""

    def limit(self, seconds: float) -> float:
        """The seconds, or fewer where something else can be tried."""
        return min(seconds, _ONE_OF_SEVERAL) if self.walk.has_more else seconds

    async def session(self, hop: Way) -> Session:
        """The session on the server, which `hop` leads to."""
        if self._session is not None and not self._session.connection.lost.is_set():
            return self._session
        self.take_leave()
        self._session = self._borrow(hop)
        if self._session is not None:
            return self._session
        connection = await self._stack.enter_async_context(hop.connection(self.limit(self.seconds)))
        with _bounded(self.limit(self.patience), hop):
            self._session = await hop.log_on(connection)
        self._controls = None
        return self._session

    async def referrals(self, hop: Way, session: Session, name: str) -> DfsReferralResponse:
        """Ask the server's share of pipes, which answers for it as a whole ([MS-DFSC] 3.1.4.2); with no name
        for the domains that it knows."""
        if self._controls is None:
            response = await self._connect(hop, session, name)
            if response is not None:
                return response
            assert self._controls is not None
        return await (self._controls.referrals(name) if name else self._controls.domains())

    async def _connect(self, hop: Way, session: Session, name: str) -> DfsReferralResponse | None:
        """Connect to the share of pipes; the answer to a question asked with it, if that was answered."""
        assert session.connection.negotiated is not None
        if session.connection.negotiated.dialect is Dialect.SMB_3_1_1:
            with hop.at("share"):
                self._controls, response = await connect_for_referrals(session, hop.unc.server, name)
            self._trees.append(self._controls.tree)
            return response
        # Older dialects are confirmed before anything is believed.
        tree = await self.connect_share(hop, session, f"\\\\{hop.unc.server}\\IPC$")
        self._controls = TreeControls(tree)
        return None

    def _borrow(self, hop: Way) -> Session | None:
        for lender in self._lenders:
            session = lender.lend(hop)
            if session is not None:
                self.lender = lender
                return session
        return None

    def lost_what_was_lent(self) -> bool:
        """Whether a borrowed connection was just lost; none is borrowed here any more then."""
        is_lost = self._session is not None and self._session.connection.lost.is_set()
        if self.lender is None or not is_lost:
            return False
        self._lenders = ()
        return True

    async def connect_share(self, hop: Way, session: Session, path: str, prefix: str = "") -> Tree:
        """A share of the server. Raises what `Way.connect_share` does."""
        tree = await hop.connect_share(session, path, prefix)
        self._trees.append(tree)
        return tree

    def leave_trees(self, but: Tree | None = None) -> None:
        """Leave all shares, or all but one, on a borrowed connection, without waiting for the server."""
        trees, self._trees, self._controls = self._trees, [], None
        for tree in trees:
            if tree is not but and self.lender is not None:
                tree.disconnect_later()

    def take_leave(self) -> None:
        """Log off; the connection ends with the stack. One that is borrowed is given back."""
        session, self._session = self._session, None
        if self.lender is not None:
            self.leave_trees()
            self.lender = None
        elif session is not None:
            # Servers hang up after LOGOFF, which is no loss then. Nobody waits for its answer.
            session.connection.end()
            session.connection.send_later([LogoffRequest()], session.batch())


def _leads_to_one(place: Place, root: Entry | None = None) -> bool:
    """Whether there is nothing else to be tried in place of `place`, which the root's entry may name."""
    entries = [one.entry for one in place.way if one.entry is not None]
    return all(len(entry.targets) == 1 for entry in (*entries, *([root] if root is not None else [])))


@contextmanager
def _bounded(seconds: float, hop: Way) -> Iterator[None]:
    """Raise `TransportError` after so many seconds."""
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise hop.silent(seconds)


def hop_name(place: Place) -> str:
    r"""`\\server\share\folder`."""
    return "\\" + join_name(place.place)


def _is_final(errors: Sequence[SmbError]) -> bool:
    """Whether the last error is an answer that other targets would give too, or that is not to be had again:
    an account that is refused once more at each target may be locked."""
    if not errors:
        return False
    last = errors[-1]
    if isinstance(last, ForeignHost | UnfitServer) or is_gone(last):
        return False
    return isinstance(last, AuthError | NtStatusError)


def _failure(walk: Walk, errors: Sequence[SmbError]) -> SmbError:
    if not errors:
        return TransportError(
            f"no other target of {join_name(walk.start.name)} is known", errno=errno.EHOSTDOWN
        )
    if len(errors) == 1 or _is_final(errors):
        if isinstance(errors[-1], RemoteProtocolError) and not errors[-1].stage:
            errors[-1].stage = "DFS"
        return errors[-1]
    reasons = "; ".join(dict.fromkeys(walk.problems))
    error = TransportError(
        f"no target of {hop_name(walk.start)} can be used: {reasons}", errno=errors[-1].errno
    )
    error.stage = "DFS"
    return error
