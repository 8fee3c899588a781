"""Keeping shares connected: a lost connection is made anew, and what was open is brought back.

    connected → lost → (connecting → refused or unreachable)* → connected, files being opened again

Requests wait in `wait_up` meanwhile, each as long as its caller likes; a server that refuses us (a changed
password, a share that is gone) is an error at once, and asked again only after `_REFUSED` seconds, so that no
account is locked out.
"""

from __future__ import annotations

import errno
import logging
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import trio

from engine import ntstatus
from engine.client.condition import History
from engine.client.config import Credentials
from engine.client.connection import Connection
from engine.client.dfs import Resolver, is_gone
from engine.client.establish import Way
from engine.client.handles import Handle
from engine.client.restoring import restore_all, restore_forgotten
from engine.client.session import Session, log_on_again
from engine.client.tree import Tree
from engine.client.watch import LineWatch
from engine.errors import (
    AuthError,
    NtStatusError,
    RemoteProtocolError,
    SmbError,
    TicketError,
    TransportError,
    raised_again,
)
from engine.proto.leases import LeaseTable

log = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.8
_LEAST_PAUSE: Final = 0.1
"""Seconds from one attempt's beginning to the next one's, and at least from its end: whoever waits is to go
on within two seconds of the line's return, and an attempt that began before that may have to run out."""

_JITTER: Final = 0.3
"""The part of a pause that is left to chance: clients of one server are not to come back all at once."""

_REFUSED: Final = 30.0
_NO_TICKET: Final = 2.0
"""Seconds until a Kerberos ticket is looked for again: no password is tried by that, no account locked."""

_CONNECTING: Final = 1.0
"""Seconds for TCP to connect, more if the last time took more than a third of it: packets that got lost are
sent again later and later, those of a new attempt at once."""
_SLOW_EVERY: Final = 16
_SLOW: Final = 4.0
"""One attempt in so many has so many times as long, in case the line has become slower than it was."""

_LOYALTY: Final = 3.0
"""Seconds for which a server is waited for before another target of a distributed tree takes its place, and
between two looks for one."""

_SET_UP: Final = 5.0
"""Seconds for the way to the share at first; twice as many after each time that this was too short."""

_PROBING: Final = 1.0
"""Seconds in which a server has to answer that is asked whether it can be reached."""
_BY_NAME_EVERY: Final = 4
"""One time in so many its name is resolved anew for that; each of these keeps a thread while the name service
is away, longer than the probe lasts."""

_SETTLING: Final = 1.0
"""Seconds in which files are opened again before anything else is asked: a server that keeps them knows them
by the names that they had."""

_RETRIED: Final = frozenset(
    {
        ntstatus.STATUS_NO_LOGON_SERVERS,
        ntstatus.STATUS_INSUFFICIENT_RESOURCES,
        ntstatus.STATUS_IO_TIMEOUT,
        ntstatus.STATUS_NETWORK_NAME_DELETED,
        ntstatus.STATUS_USER_SESSION_DELETED,
    }
)
"""What a server says that is not ready yet, rather than one that refuses us."""

_BY_ADDRESS: Final = (errno.EHOSTUNREACH, errno.EIO)
"""After such an error the address of before is tried: the name service may be away with the server."""


@dataclass(eq=False, slots=True)
class _Member:
    """What a link knows of one of its trees: the way to it, and who finds other targets for it, if any."""

    way: Way
    resolver: Resolver | None
    refusal: SmbError | None = None
    """What the server says of the tree, which it does not let us have where it does others."""
    departure: Link | None = None
    """The link that it will have if another target is found, which is being looked for."""
    look_at: float = 0.0
    """Not before is another target looked for."""


class Link:
    """The life of one tree over its connections, and of guests: further trees of its server. `run` is its
    task; `end` ends it.

    A sole tree goes to another target with its link. One of several, the first one too, gets a link of its
    own for that, a `departure`, which runs in this one's task.
    """

    def __init__(
        self, way: Way, tree: Tree, resolver: Resolver | None = None, host: Link | None = None
    ) -> None:
        self.scope = trio.CancelScope(shield=host is None)
        """Around `run`, and its departures. Shielded, as a cancelled mount still writes what it has."""
        self.history: History = History() if host is None else replace(host.history)
        self._way = way
        self._credentials = way.credentials
        self._members = {tree: _Member(way, resolver)}
        self._connection = tree.connection
        self._session = tree.session
        self._host = host
        """Whose tree it still is."""
        self._refusal: SmbError | None = None
        self._said = ""
        self._refused: set[Credentials] = set()
        self._changed = trio.Event()
        self._ended = False
        self._nursery: trio.Nursery | None = None
        self._departed: set[Link] = set()
        self._departures: trio.Nursery | None = None
        self._renewal: trio.Event | None = None
        self._address = tree.connection.remote_address
        self._patience = min(_SET_UP, way.config.timeout)
        self._probes = 0
        if host is None:
            tree.link = self

    async def run(self) -> None:
        """Attend to the connections, one after the other, until cancelled."""
        with self.scope:
            async with trio.open_nursery() as self._departures:
                await self._attend(self._connection, self._session)
                while True:
                    await self._come_back()

    def end(self) -> None:
        """From now on a loss is final: who waits for the connection gets an error."""
        self._ended = True
        self._tell()
        for departed in self._departed:
            departed.end()

    def retire(self) -> None:
        """End its task, unless departures run in it: once nobody is left."""
        if not (self._members or self._departed):
            self.scope.cancel()

    async def wait_up(self, tree: Tree) -> None:
        """Wait until a tree is connected again, or another link's; raises `SmbError` if it will not be for
        now."""
        while tree.link is self and (tree.is_settling or tree.connection.lost.is_set()):
            member = self._members.get(tree)
            if self._ended or member is None:
                raise TransportError("the connection was closed", errno=errno.EHOSTDOWN)
            refusal = member.refusal or self._refusal
            if refusal is not None and member.departure is None:
                raise raised_again(refusal)
            await self._changed.wait()

    async def wait_returned(self, tree: Tree) -> None:
        """Wait until a tree is connected, however long that takes and whoever is refused meanwhile, or
        another link's."""
        while tree.link is self and (tree.is_settling or tree.connection.lost.is_set()):
            await self._changed.wait()

    @property
    def is_refused(self) -> bool:
        """Whether the server, though it was reached again, does not want us."""
        return self._refusal is not None

    def is_of(self, tree: Tree) -> bool:
        """Whether it is the tree's own, and not one that it is a guest of."""
        return next(iter(self._members), None) is tree

    def lend(self, way: Way) -> Session | None:
        """The session, for a share that `way` leads to: if it is there now, on that server, for that account
        and as protected."""
        if self._ended or self._connection.lost.is_set():
            return None
        own = self._way
        is_same = (
            way.unc.server.casefold() == own.unc.server.casefold()
            and (way.host, way.port, way.config) == (own.host, own.port, own.config)
            and way.credentials == self._credentials
        )
        return self._session if is_same else None

    def take_in(self, tree: Tree, way: Way, resolver: Resolver | None) -> None:
        """Have a guest, which was connected to on the session that was lent; raises `TransportError` if that
        is lost: what takes its place may be another server's."""
        if self._ended or tree.connection is not self._connection or self._connection.lost.is_set():
            raise TransportError(f"the connection to {self._way.unc.server} was just lost")
        tree.link = self
        self._members[tree] = _Member(way, resolver)

    def let_go(self, tree: Tree) -> bool:
        """Have a tree no longer: who waits for it gets an error. Returns whether it was the last one."""
        self._stop_looking(self._members.pop(tree))
        self._tell()
        return not self._members

    async def authenticate_again(self, connection: Connection) -> None:
        """Renew a session that has expired, once for all requests that it refuses at the same time."""
        if self._renewal is not None:
            await self._renewal.wait()
            return
        self._renewal = trio.Event()
        try:
            with trio.move_on_after(self._way.config.timeout) as scope:
                await log_on_again(self._session, self._way.credentials)
            if scope.cancelled_caught:
                connection.abort(TransportError("the server does not answer the renewed log-on"))
        except SmbError as error:
            connection.abort(TransportError(f"the session has expired, and the log-on is refused: {error}"))
        finally:
            self._renewal.set()
            self._renewal = None

    def restore_soon(self, tree: Tree, handle: Handle) -> None:
        """Have a file opened again that the server has forgotten."""
        if self._nursery is not None:
            handle.epoch = -1
            handle.await_restoration()
            self._nursery.start_soon(restore_forgotten, tree, handle)

    async def _reach(self) -> bool:
        self._probes += 1
        by_name = self._probes % _BY_NAME_EVERY == 0
        return await self._way.answers(_PROBING, None if by_name else self._address)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _attend(self, connection: Connection, session: Session) -> None:
        """Look after a connection until it is lost."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(connection.run_echo, self._way.config.echo_interval, session.batch())
            nursery.start_soon(LineWatch(connection, session.batch(), self._reach).run)
            for tree in self._members:
                nursery.start_soon(self._settle if tree.connection is connection else self._rejoin, tree)
            error = await connection.wait_lost()
            self.history.note_loss(error)
            self._nursery = None
            for tree, member in self._members.items():
                member.refusal = None
                tree.is_settling = False
            nursery.cancel_scope.cancel()
        log.debug("the connection to %s is lost: %s", self._way.unc, error)

    async def _come_back(self) -> None:
        """Try until there is a connection, and look after it until it is lost."""
        error: SmbError | None = None
        begun, pause, attempt = trio.current_time(), _FIRST_PAUSE, 0
        while self._members and not self._ended:
            address = self._address if error is not None and error.errno in _BY_ADDRESS else None
            attempt += 1
            seconds = max(_CONNECTING, 3 * self._way.connecting_took)
            if attempt % _SLOW_EVERY == 0:
                seconds *= _SLOW
            next_at = trio.current_time() + _jittered(pause)
            error = await self._try(seconds, address, begun)
            if error is None:
                return
            self.history.note_failure(error)
            log.debug("%s cannot be reached again: %s", self._way.unc, error)
            if await self._leave(error, seconds, begun):
                return
            if isinstance(error, AuthError) and await self._change_account():
                continue
            if self._note_refusal(error):
                await trio.sleep(_NO_TICKET if isinstance(error, TicketError) else _REFUSED)
                self._refused.clear()
            else:
                await trio.sleep_until(max(next_at, trio.current_time() + _jittered(_LEAST_PAUSE)))
                pause = min(2 * pause, _LONGEST_PAUSE)
        await trio.sleep_forever()

    async def _leave(self, error: SmbError, seconds: float, begun: float) -> bool:
        """Go on with other targets, if it is time to try them; whether the link itself did, and lost what it
        found again."""
        if len(self._members) > 1:
            for tree, member in self._members.items():
                if self._may_depart(member) and self._may_leave(member, error, begun):
                    self._depart_soon(tree, member, seconds, begun)
            return False
        sole = next(iter(self._members.values()), None)
        if sole is None or sole.departure is not None or sole.resolver is None:
            return False
        may_leave = sole.resolver.has_choice and self._may_leave(sole, error, begun)
        return may_leave and await self._try_elsewhere(seconds, begun)

    @staticmethod
    def _may_depart(member: _Member) -> bool:
        """Whether there are other targets for one of several trees, which are not being tried yet."""
        return member.resolver is not None and member.resolver.has_alternatives and member.departure is None

    @staticmethod
    def _may_leave(member: _Member, error: SmbError, begun: float) -> bool:
        """Whether it is time to try another target: what is open does not come along."""
        now = trio.current_time()
        if now < member.look_at or (now < begun + _LOYALTY and not is_gone(error)):
            return False
        member.look_at = now + _LOYALTY
        return True

    async def _try_elsewhere(self, seconds: float, begun: float) -> bool:
        """Go on with another target of the sole tree; whether one was found, and is lost again."""
        ((tree, member),) = self._members.items()
        assert member.resolver is not None
        try:
            async with member.resolver.arrive(
                self._way, seconds, self._patience, leave=True, is_wanted=lambda: self._misses(tree)
            ) as found:
                log.warning("%s is replaced by %s", self._way.unc, found.way.unc)
                self._take_over(tree)
                self._way = found.way
                await self._go_on({tree: found.tree}, begun, elsewhere=True)
        except SmbError as error:
            log.debug("%s is nowhere else: %s", self._way.unc, error)
            return False
        return True

    def _misses(self, tree: Tree) -> bool:
        """Whether a tree is still without a connection, and would be taken to another one."""
        holder = self if self._host is None else self._host
        is_away = tree in holder._members and tree.connection.lost.is_set()
        return is_away and not self._ended and not self.scope.cancel_called

    def _take_over(self, tree: Tree) -> None:
        """Have the tree, if it was the host's until now."""
        host, self._host = self._host, None
        if host is not None:
            del host._members[tree]
            tree.link = self
            host._tell()

    def _depart_soon(
        self, tree: Tree, member: _Member, seconds: float, begun: float, refusal: SmbError | None = None
    ) -> None:
        """Have one of several trees look for another target, while the others wait for this one; where there
        is none the `refusal` is told."""
        if self._departures is not None:
            # Two connections with one GUID are one client to a server, whose breaks come on either of them.
            way = replace(
                member.way,
                credentials=self._way.credentials,
                client_guid=uuid.uuid4(),
                leases=LeaseTable(),
            )
            member.departure = Link(way, tree, member.resolver, host=self)
            self._departures.start_soon(self._depart, tree, member, seconds, begun, refusal)

    async def _depart(
        self, tree: Tree, member: _Member, seconds: float, begun: float, refusal: SmbError | None
    ) -> None:
        departure = member.departure
        assert departure is not None
        self._departed.add(departure)
        try:
            await departure._run_elsewhere(seconds, begun)
        finally:
            self._departed.discard(departure)
            member.departure = None
            self._tell()
            self.retire()
        if refusal is not None and self._misses(tree):
            self._note_refused_member(tree, member, refusal)

    async def _run_elsewhere(self, seconds: float, begun: float) -> None:
        """As `run`, once another target was found; nothing where there is none."""
        with self.scope:
            async with trio.open_nursery() as self._departures:
                if await self._try_elsewhere(seconds, begun):
                    while True:
                        await self._come_back()

    @staticmethod
    def _stop_looking(member: _Member) -> None:
        """No other target is needed any more."""
        if member.departure is not None:
            member.departure.scope.cancel()

    async def _change_account(self) -> bool:
        """Whether there is another account, or password, than those refused lately; it is used then."""
        way = self._way
        self._refused.add(way.credentials)
        if way.renew is None:
            return False
        accounts = await trio.to_thread.run_sync(way.renew)
        fresh = next((account for account in accounts if account not in self._refused), None)
        if fresh is None:
            return False
        way.credentials = fresh
        return True

    def _note_refusal(self, error: SmbError) -> bool:
        """Whether the server was reached and does not want us; it is said in the log once for each reason."""
        status = error.status if isinstance(error, AuthError | NtStatusError) else None
        refused = isinstance(error, AuthError | NtStatusError) and status not in _RETRIED
        if refused:
            self._say(f"{self._way.unc} refuses us since the connection was lost: {error}")
        elif isinstance(error, RemoteProtocolError):
            self._say(f"{self._way.unc} cannot be trusted since the connection was lost: {error}")
        if not refused:
            self._refusal = None
            return False
        self._refusal = error
        self._tell()
        return True

    def _say(self, words: str) -> None:
        """Say it in the log, once in a row."""
        if words != self._said:
            log.warning("%s", words)
        self._said = words

    async def _try(self, seconds: float, address: str | None, begun: float) -> SmbError | None:
        """One attempt: returns why it failed, or None when the connection was made and is lost again."""
        error: SmbError | None = None
        try:
            async with self._way.connection(min(seconds, self._way.config.timeout), address) as connection:
                trees = tuple(self._members)
                if not trees:
                    return None
                previous = self._session.state.session_id
                try:
                    found = await self._way.set_up_all(connection, self._patience, previous, trees)
                except SmbError as refusal:
                    error = refusal
                    if isinstance(refusal, TransportError) and not connection.lost.is_set():
                        self._patience = min(2 * self._patience, self._way.config.timeout)
                else:
                    await self._go_on(dict(zip(trees, found, strict=True)), begun)
        except SmbError as unreachable:
            error = unreachable
        return error

    async def _go_on(
        self, found: Mapping[Tree, Tree | SmbError], begun: float, *, elsewhere: bool = False
    ) -> None:
        for tree, now in found.items():
            if isinstance(now, Tree):
                self._connection, self._session = now.connection, now.session
                self._adopt(tree, now, elsewhere=elsewhere)
            elif tree in self._members:
                self._refuse(tree, now)
        if not self._members:
            return
        self._refusal = None
        self._address = self._connection.remote_address
        self._patience = min(_SET_UP, self._way.config.timeout)
        self._refused.clear()
        self._said = ""
        log.debug("connected to %s again after %.1f s", self._way.unc, trio.current_time() - begun)
        await self._attend(self._connection, self._session)

    def _adopt(self, tree: Tree, now: Tree, *, elsewhere: bool = False) -> bool:
        """Have a tree go on as it is now; it does not if it was let go meanwhile."""
        member = self._members.get(tree)
        if member is None:
            now.disconnect_later()
            return False
        member.refusal = None
        self._stop_looking(member)
        tree.adopt(now, elsewhere=elsewhere)
        tree.is_settling = True
        return True

    def _refuse(self, tree: Tree, error: SmbError) -> None:
        """The server does not let us have a tree, but others."""
        member = self._members[tree]
        if is_gone(error) and self._may_depart(member):
            self._depart_soon(tree, member, _CONNECTING, trio.current_time(), error)
        elif member.departure is None:
            self._note_refused_member(tree, member, error)

    def _note_refused_member(self, tree: Tree, member: _Member, error: SmbError) -> None:
        member.refusal = error
        self._say(f"{tree.path} is refused since the connection was lost: {error}")
        self._tell()

    async def _rejoin(self, tree: Tree) -> None:
        """Bring a tree that was refused to the present connection, however long that takes."""
        connection, session = self._connection, self._session
        while True:
            await trio.sleep(_REFUSED)
            if tree not in self._members:
                return
            try:
                found = await self._way.connect_share(session, tree.path, tree.prefix)
            except SmbError as error:
                if connection.lost.is_set():
                    return
                if tree in self._members:
                    self._refuse(tree, error)
            else:
                if self._adopt(tree, found):
                    await self._settle(tree)
                return

    async def _settle(self, tree: Tree) -> None:
        """Have all files opened again; who waits for the tree goes on behind that, or after a while."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._restore_all, tree, nursery.cancel_scope)
            await trio.sleep(_SETTLING)
            self._go(tree)

    def _go(self, tree: Tree) -> None:
        tree.is_settling = False
        if self.is_of(tree):
            self.history.note_return()
        self._tell()

    async def _restore_all(self, tree: Tree, sleeping: trio.CancelScope) -> None:
        if await restore_all(tree):
            self._go(tree)
            sleeping.cancel()


def _jittered(pause: float) -> float:
    return pause * random.uniform(1 - _JITTER, 1 + _JITTER)
