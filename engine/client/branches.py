"""The shares that a tree with links is made of: which one has a path, and how long a link leads to it.

A link is connected to when a server says of a path that it is behind one (STATUS_PATH_NOT_COVERED). The
referral says for how long; whoever comes to the link after that has it asked for anew first. If it leads
elsewhere by then, or is gone, the share is retired: no path leads to it any more, what is open there stays
until it is closed.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from engine import ntstatus
from engine.client.branch import Branch
from engine.client.share import Share
from engine.errors import AuthError, NtStatusError, PathNotCovered, SmbError, TransportError, raised_again
from engine.proto.referrals import Entry, Name, fold, split_name

log = logging.getLogger(__name__)

_AGAIN: Final = 5.0
_REFUSED_AGAIN: Final = 30.0
"""Seconds after which a link that could not be followed is tried again: no account is to be locked."""

_IDLE: Final = 300.0
_IDLE_OF_MANY: Final = 15.0
_MANY: Final = 32
"""Seconds after which a share that nobody uses is left, and where there are more shares than so many."""

_RETIRED: Final = 1.0
"""Seconds between two looks whether a share that was retired has nothing open any more."""

_ASKING: Final = 5.0
"""Seconds in which it has to be known whether a link still leads where it did; else it is taken to."""

_MOST_SAID: Final = 100

_MOST_SALTS: Final = 1024
"""Links for which it is remembered how their files were numbered."""

_NO_LINK: Final = frozenset(
    {
        ntstatus.STATUS_NOT_FOUND,
        ntstatus.STATUS_OBJECT_NAME_NOT_FOUND,
        ntstatus.STATUS_OBJECT_PATH_NOT_FOUND,
    }
)
"""What a server says that is asked for the referral of what is no link of its."""

Connect = Callable[[str, Callable[[], Sequence[Share]]], AbstractAsyncContextManager[Share]]
"""Connects to what a path of the whole leads to, `beside` the shares that are told: see `engine.connect`."""


@dataclass(eq=False)
class _Joining:
    """A link that is being connected to, or was: `branch` or `error` says how that ended."""

    known: trio.Event = field(default_factory=trio.Event)
    branch: Branch | None = None
    error: SmbError | None = None
    until: float = 0.0


class Branches:
    """All shares of a tree, `trunk` the first of them. `connect` makes further ones, which live in tasks of
    `tasks`."""

    def __init__(self, trunk: Share, connect: Connect, tasks: trio.Nursery) -> None:
        self.trunk = Branch((), trunk)
        self._connect = connect
        self._tasks = tasks
        self._branches: list[Branch] = []
        self._retired: list[Branch] = []
        self._joining: dict[Name, _Joining] = {}
        self._said: set[str] = set()
        self._salts: dict[Name, dict[str, int]] = {}
        self._reaching: dict[str, trio.Event] = {}
        """Servers that are being connected to, by the names that links have for them."""

    def all(self) -> list[Branch]:
        """The first one first; those that were retired are among them, before those in their place."""
        return [self.trunk, *self._retired, *self._branches]

    @property
    def shares(self) -> list[Share]:
        """Those of all."""
        return [branch.share for branch in self.all()]

    def find(self, path: str) -> tuple[Branch, str]:
        """The share that holds a path as far as is known, and the path there."""
        parts = split_name(path)
        folded = fold(parts)
        found = self.trunk
        for branch in self._branches:
            if len(branch.at) > len(found.at) and branch.is_above(folded):
                found = branch
        return found, "\\".join(parts[len(found.at) :])

    async def current(self, path: str) -> tuple[Branch, str]:
        """The same, once it is known that the links on the way still lead there."""
        if self._branches:
            folded = fold(split_name(path))
            while (branch := self._overdue(folded)) is not None:
                await self._renew(branch)
        return self.find(path)

    def _overdue(self, folded: Name) -> Branch | None:
        """The first link on the way to a path whose referral has expired."""
        now = trio.current_time()
        due = [branch for branch in self._branches if branch.expires <= now and branch.is_above(folded)]
        return min(due, key=lambda branch: len(branch.at), default=None)

    # Connecting

    async def join(self, path: str, branch: Branch, rest: str, uncovered: PathNotCovered) -> None:
        """Connect to the link that is on the way to `path`, of which `branch` says that it does not cover the
        path `rest` there; raises why that cannot be."""
        length, entry = await branch.share.find_link(rest)
        at = split_name(path)[: len(branch.at) + length]
        key = fold(at)
        joining = self._joining.get(key)
        if joining is not None and joining.error is not None and trio.current_time() >= joining.until:
            joining = None
        if joining is None:
            self._forget_failures()
            joining = self._joining[key] = _Joining()
            self._tasks.start_soon(self._serve, at, joining, entry)
        elif joining.branch is not None and self.find(path)[0] is branch:
            # What it leads to is the link itself again.
            raise uncovered
        await joining.known.wait()
        if joining.error is not None:
            raise raised_again(joining.error)

    def _forget_failures(self) -> None:
        """Have no memory that grows: what failed may be tried again by now anyway."""
        now = trio.current_time()
        for key, joining in tuple(self._joining.items()):
            if joining.error is not None and now >= joining.until:
                del self._joining[key]

    async def _serve(self, at: Name, joining: _Joining, entry: Entry) -> None:
        """Be connected to what a link leads to, until cancelled."""
        try:
            async with self._connected("\\".join(at), entry) as share:
                branch = joining.branch = self._new_branch(at, share)
                branch.refer(entry, share)
                self._branches.append(branch)
                joining.known.set()
                try:
                    await self._wait_idle(branch)
                finally:
                    self._leave(branch)
        except SmbError as error:
            joining.error = error
            pause = _REFUSED_AGAIN if isinstance(error, AuthError) else _AGAIN
            joining.until = trio.current_time() + pause
            self._say(f"the link {'/'.join(at)} cannot be followed: {error}")
        except Exception:
            # Whoever comes to the link is told; the rest of the tree is not to suffer.
            log.exception("following the link %s ended in a mistake of this program", "/".join(at))
            joining.error = SmbError(f"the link {'/'.join(at)} cannot be followed", errno=errno.EIO)
            joining.until = trio.current_time() + _AGAIN
        finally:
            joining.known.set()

    @asynccontextmanager
    async def _connected(self, path: str, entry: Entry) -> AsyncIterator[Share]:
        """The share that a link leads to, on the connection of another one of its server if there is such;
        that one is in use until the block ends."""
        server = fold(entry.targets[0].place)[0]
        if server in self._reaching:
            # Then there is a connection to it, or else all try for themselves.
            await self._reaching[server].wait()
        reached = trio.Event()
        self._reaching.setdefault(server, reached)
        with ExitStack() as candidates, ExitStack() as host:
            for branch in self.all():
                candidates.enter_context(branch.in_use())
            try:
                async with self._connect(path, lambda: self.shares) as share:
                    self._reached(server, reached)
                    for branch in self.all():
                        if branch.share.line is share.line:
                            host.enter_context(branch.in_use())
                            break
                    candidates.close()
                    yield share
            finally:
                self._reached(server, reached)

    def _reached(self, server: str, reached: trio.Event) -> None:
        """Whether a server can be connected to is known."""
        if self._reaching.get(server) is reached:
            del self._reaching[server]
            reached.set()

    def _new_branch(self, at: Name, share: Share) -> Branch:
        """Files keep their numbers while a link is left alone for a time."""
        key = fold(at)
        salts = self._salts[key] = self._salts.pop(key, {})
        while len(self._salts) > _MOST_SALTS:
            del self._salts[next(iter(self._salts))]
        return Branch(key, share, "\\".join(at), salts)

    def _leave(self, branch: Branch) -> None:
        """From now on the link has to be followed anew."""
        if branch in self._branches:
            self._branches.remove(branch)
            del self._joining[branch.at]
        if branch in self._retired:
            self._retired.remove(branch)

    async def _wait_idle(self, branch: Branch) -> None:
        """Wait until nobody has used a share for a while: fewer seconds where there are many, none if it is
        retired."""
        while True:
            limit = _IDLE if len(self._branches) <= _MANY else _IDLE_OF_MANY
            if not branch.is_used and (branch.idle_for >= limit or branch.retired.is_set()):
                return
            if branch.retired.is_set():
                await trio.sleep(_RETIRED)
            else:
                with trio.move_on_after(_IDLE_OF_MANY / 2):
                    await branch.retired.wait()

    # Following anew

    async def _renew(self, branch: Branch) -> None:
        """Ask once more where a link leads to, once for all who come to it; where that cannot be known, it
        leads there for a while longer."""
        if branch.renewal is not None:
            await branch.renewal.wait()
            return
        branch.renewal = trio.Event()
        leads_there: bool | None = None
        try:
            with trio.move_on_after(_ASKING):
                leads_there = await self._leads_there(branch)
        except SmbError as error:
            log.debug("whether %s leads to %s still is not known: %s", branch.name, branch.share.place, error)
        finally:
            branch.renewal.set()
            branch.renewal = None
        if leads_there is None:
            branch.expires = max(branch.expires, trio.current_time() + _REFUSED_AGAIN)
        elif not leads_there and branch in self._branches:
            self._retire(branch)

    async def _leads_there(self, branch: Branch) -> bool:
        """Whether a link still leads to the same place; raises `SmbError` if that cannot be told."""
        above, rest = self._above(branch)
        if above.share.is_lost:
            raise TransportError(f"the server of the link {branch.name} is away")
        try:
            length, entry = await above.share.find_link(rest)
        except NtStatusError as error:
            if error.status not in _NO_LINK:
                raise
            return False
        if len(above.at) + length != len(branch.at):
            return False
        was_direct = branch.is_direct
        branch.refer(entry)
        if was_direct or branch.is_direct:
            return branch.is_direct
        # It leads to another namespace, and only the whole way tells where that leads to.
        async with self._connect(branch.name, tuple) as share:
            branch.refer(entry, share)
            return fold(split_name(share.place)) == fold(split_name(branch.share.place))

    def _above(self, branch: Branch) -> tuple[Branch, str]:
        """The share that a link is in, and its path there."""
        parts, found = split_name(branch.name), self.trunk
        for other in self._branches:
            if len(found.at) < len(other.at) < len(branch.at) and other.is_above(branch.at):
                found = other
        return found, "\\".join(parts[len(found.at) :])

    def _retire(self, branch: Branch) -> None:
        """Let no path lead to a share any more, nor to those behind links in it."""
        for one in [one for one in self._branches if branch.is_above(one.at)]:
            log.info("the link %s does not lead to %s any more", one.name, one.share.place)
            self._leave(one)
            self._retired.append(one)
            one.retired.set()

    def move(self, source: Name, target: Name) -> None:
        """A folder of one share was renamed; what is known of links below goes with it."""
        old, new = fold(source), fold(target)
        for branch in (*self._branches, *self._retired):
            if branch.at[: len(old)] == old:
                joining = None if branch.retired.is_set() else self._joining.pop(branch.at)
                branch.at = new + branch.at[len(old) :]
                branch.name = "\\".join(target + split_name(branch.name)[len(source) :])
                if joining is not None:
                    self._joining[branch.at] = joining
        self._salts = {
            new + at[len(old) :] if at[: len(old)] == old else at: salts
            for at, salts in self._salts.items()
            if at[: len(old)] == old or at[: len(new)] != new
        }

    def _say(self, words: str) -> None:
        """Say it in the log, once."""
        if words not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(words)
            log.warning("%s", words)
