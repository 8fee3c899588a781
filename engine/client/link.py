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
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from engine import ntstatus
from engine.client.condition import History
from engine.client.config import Credentials
from engine.client.connection import Connection
from engine.client.dfs import Resolver, is_gone
from engine.client.establish import Way
from engine.client.handles import Handle, NotGivenBack
from engine.client.session import Session, log_on_again
from engine.client.tree import Tree
from engine.client.watch import LineWatch
from engine.errors import (
    AuthError,
    HandleLost,
    NtStatusError,
    RemoteProtocolError,
    SmbError,
    TicketError,
    TransportError,
    raised_again,
)

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

_AT_ONCE: Final = 16
"""Files that are opened again at the same time."""

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


class Link:
    """The life of one tree over its connections, and of guests: further trees of its server. `run` is its
    task; `end` ends it. With guests it goes to no other server in place of this one."""

    def __init__(self, way: Way, tree: Tree, resolver: Resolver | None = None) -> None:
        self.scope = trio.CancelScope(shield=True)
        """Around `run`. Shielded, as a cancelled mount still writes what it has."""
        self.history = History()
        self._way = way
        self._credentials = way.credentials
        self._trees = [tree]
        self._connection = tree.connection
        self._session = tree.session
        self._resolver = resolver
        self._refusals: dict[Tree, SmbError] = {}
        """What the server says of trees that it does not let us have, where it does others."""
        self._look_elsewhere_at = 0.0
        self._refusal: SmbError | None = None
        self._said = ""
        self._refused: set[Credentials] = set()
        self._changed = trio.Event()
        self._returned = trio.Event()
        self._ended = False
        self._nursery: trio.Nursery | None = None
        self._renewal: trio.Event | None = None
        self._address = tree.connection.remote_address
        self._patience = min(_SET_UP, way.config.timeout)
        self._probes = 0
        tree.link = self

    async def run(self) -> None:
        """Attend to the connections, one after the other, until cancelled."""
        with self.scope:
            await self._attend(self._connection, self._session)
            while True:
                await self._come_back()

    def end(self) -> None:
        """From now on a loss is final: who waits for the connection gets an error."""
        self._ended = True
        self._tell()

    async def wait_up(self, tree: Tree) -> None:
        """Wait until a tree is connected again; raises `SmbError` if it will not be for now."""
        while tree.is_settling or tree.connection.lost.is_set():
            if self._ended or tree not in self._trees:
                raise TransportError("the connection was closed", errno=errno.EHOSTDOWN)
            refusal = self._refusals.get(tree, self._refusal)
            if refusal is not None:
                raise raised_again(refusal)
            await self._changed.wait()

    async def wait_returned(self, tree: Tree) -> None:
        """Wait until a tree is connected, however long that takes and whoever is refused meanwhile."""
        while tree.is_settling or tree.connection.lost.is_set():
            await self._changed.wait()

    @property
    def is_refused(self) -> bool:
        """Whether the server, though it was reached again, does not want us."""
        return self._refusal is not None

    def is_of(self, tree: Tree) -> bool:
        """Whether it is the tree's own, and not one that it is a guest of."""
        return self._trees[0] is tree

    def lend(self, way: Way) -> Session | None:
        """The session, for a share that `way` leads to: if it is there now, on that server, for that account
        and as protected, and not to go to another server at the loss of this one."""
        if self._ended or self._connection.lost.is_set():
            return None
        if self._resolver is not None and self._resolver.has_alternatives:
            return None
        own = self._way
        is_same = (
            way.unc.server.casefold() == own.unc.server.casefold()
            and (way.host, way.port, way.config) == (own.host, own.port, own.config)
            and way.credentials == self._credentials
        )
        return self._session if is_same else None

    def take_in(self, tree: Tree) -> None:
        """Have a guest, which was connected to on the session that was lent; raises `TransportError` if that
        is lost: what takes its place may be another server's."""
        if self._ended or tree.connection is not self._connection or self._connection.lost.is_set():
            raise TransportError(f"the connection to {self._way.unc.server} was just lost")
        tree.link = self
        self._trees.append(tree)

    def let_go(self, tree: Tree) -> None:
        """Have a guest no longer: who waits for it gets an error."""
        self._trees.remove(tree)
        self._refusals.pop(tree, None)
        self._tell()

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
            self._nursery.start_soon(self._restore_forgotten, tree, handle)

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
            for tree in self._trees:
                nursery.start_soon(self._settle if tree.connection is connection else self._rejoin, tree)
            error = await connection.wait_lost()
            self.history.note_loss(error)
            self._nursery = None
            self._refusals.clear()
            for tree in self._trees:
                tree.is_settling = False
            nursery.cancel_scope.cancel()
        log.debug("the connection to %s is lost: %s", self._way.unc, error)

    async def _come_back(self) -> None:
        """Try until there is a connection, and look after it until it is lost."""
        error: SmbError | None = None
        begun, pause, attempt = trio.current_time(), _FIRST_PAUSE, 0
        while not self._ended:
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
            if self._may_leave(error, begun) and await self._try_elsewhere(seconds, begun):
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

    def _may_leave(self, error: SmbError, begun: float) -> bool:
        """Whether it is time to try another target: what is open does not come along."""
        if self._resolver is None or not self._resolver.has_choice or len(self._trees) > 1:
            return False
        now = trio.current_time()
        if now < self._look_elsewhere_at or (now < begun + _LOYALTY and not is_gone(error)):
            return False
        self._look_elsewhere_at = now + _LOYALTY
        return True

    async def _try_elsewhere(self, seconds: float, begun: float) -> bool:
        """Go on with another target; whether one was found, and is lost again."""
        assert self._resolver is not None
        try:
            async with self._resolver.arrive(self._way, seconds, self._patience, leave=True) as found:
                log.warning("%s is replaced by %s", self._way.unc, found.way.unc)
                self._way = found.way
                await self._go_on({self._trees[0]: found.tree}, begun, elsewhere=True)
        except SmbError as error:
            log.debug("%s is nowhere else: %s", self._way.unc, error)
            return False
        return True

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
                trees = tuple(self._trees)
                try:
                    found = await self._set_up(connection, trees)
                except SmbError as refusal:
                    error = refusal
                    if isinstance(refusal, TransportError) and not connection.lost.is_set():
                        self._patience = min(2 * self._patience, self._way.config.timeout)
                else:
                    await self._go_on(dict(zip(trees, found, strict=True)), begun)
        except SmbError as unreachable:
            error = unreachable
        return error

    async def _set_up(self, connection: Connection, trees: Sequence[Tree]) -> list[Tree | SmbError]:
        """All trees on a new connection, or what the server says of them."""
        previous = self._session.state.session_id
        if len(trees) == 1:
            return [await self._way.set_up(connection, self._patience, previous)]
        return await self._way.set_up_all(connection, self._patience, previous, trees)

    async def _go_on(
        self, found: Mapping[Tree, Tree | SmbError], begun: float, *, elsewhere: bool = False
    ) -> None:
        for tree, now in found.items():
            if isinstance(now, Tree):
                self._connection, self._session = now.connection, now.session
                self._adopt(tree, now, elsewhere=elsewhere)
            elif tree in self._trees:
                self._refuse(tree, now)
        self._refusal = None
        self._address = self._connection.remote_address
        self._patience = min(_SET_UP, self._way.config.timeout)
        self._refused.clear()
        self._said = ""
        log.debug("connected to %s again after %.1f s", self._way.unc, trio.current_time() - begun)
        await self._attend(self._connection, self._session)

    def _adopt(self, tree: Tree, now: Tree, *, elsewhere: bool = False) -> None:
        """Have a tree go on as it is now, unless it was let go meanwhile."""
        if tree in self._trees:
            tree.adopt(now, elsewhere=elsewhere)
            tree.is_settling = True
        else:
            now.disconnect_later()

    def _refuse(self, tree: Tree, error: SmbError) -> None:
        """The server does not let us have a tree, but others."""
        self._refusals[tree] = error
        self._say(f"{tree.path} is refused since the connection was lost: {error}")
        self._tell()

    async def _rejoin(self, tree: Tree) -> None:
        """Bring a tree to the present connection on which it is not yet, however long it is refused."""
        connection, session = self._connection, self._session
        while tree in self._trees:
            if tree in self._refusals:
                await trio.sleep(_REFUSED)
            try:
                found = await self._way.connect_share(session, tree.path, tree.prefix)
            except SmbError as error:
                if connection.lost.is_set():
                    return
                if tree in self._trees:
                    self._refuse(tree, error)
            else:
                self._refusals.pop(tree, None)
                self._adopt(tree, found)
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
        connection = tree.connection
        lost = [handle for handle in tree.handles if handle.epoch != tree.epoch]
        not_given_back: list[Handle] = []
        # Samba gives a file back only while it is not open otherwise. An open without a lease would break one
        # that was granted just before, and wait for unwritten data that waits for this very open.
        durable = [handle for handle in lost if handle.is_durable]
        leaseless = [handle for handle in lost if not handle.has_lease]
        for handles in (durable, leaseless, lost):
            if not not_given_back:
                await self._restore_each(tree, handles, not_given_back)
        if not_given_back:
            # Samba notes the process of this connection as the one that has the file open before it refuses,
            # and opens by others wait for that process in vain until it is gone.
            connection.abort(TransportError(f"the server does not give {len(not_given_back)} files back"))
            return
        self._go(tree)
        sleeping.cancel()

    async def _restore_each(
        self, tree: Tree, handles: Sequence[Handle], not_given_back: list[Handle]
    ) -> None:
        limit = trio.CapacityLimiter(_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for handle in handles:
                if handle.epoch != tree.epoch:
                    nursery.start_soon(self._restore, tree, handle, limit, not_given_back)

    async def _restore(
        self, tree: Tree, handle: Handle, limit: trio.CapacityLimiter, not_given_back: list[Handle]
    ) -> None:
        """Open one file again. If the connection is lost meanwhile, the next one's turn does it, and the same
        with those that are `not_given_back`."""
        async with limit:
            if handle in tree.handles:
                try:
                    await self._restore_once(tree, handle)
                except NotGivenBack as error:
                    log.debug("%s", error)
                    not_given_back.append(handle)

    async def _restore_forgotten(self, tree: Tree, handle: Handle) -> None:
        try:
            await self._restore_once(tree, handle)
        except NotGivenBack as error:
            # It was closed on the server, which therefore has nothing of it left.
            log.debug("%s", error)
            await self._restore_once(tree, handle)

    async def _restore_once(self, tree: Tree, handle: Handle) -> None:
        connection = tree.connection
        assert handle.restore is not None
        try:
            await handle.restore()
        except NotGivenBack:
            raise
        except HandleLost as error:
            if handle in tree.handles and not handle.is_forsaken:
                log.warning("%s", error)
            tree.handles.discard(handle)
            handle.give_up(error)
        except SmbError as error:
            connection.abort(TransportError(str(error), errno=error.errno))
        except Exception:
            # Its user is told; the other files, and the link itself, are not to suffer.
            log.exception("opening %s again ended in a mistake of this program", handle.path)
            tree.handles.discard(handle)
            handle.give_up(HandleLost(f"{handle.path} cannot be opened again"))
        else:
            if handle.is_forsaken or handle not in tree.handles:
                tree.handles.discard(handle)
                connection.close_later(handle.file_id, tree.batch)


def _jittered(pause: float) -> float:
    return pause * random.uniform(1 - _JITTER, 1 + _JITTER)
