"""Days of shares on one connection that could be elsewhere too, in virtual time and without a network."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import pytest
import trio
import trio.testing

from engine.client.config import ConnectConfig, Credentials, parse_unc
from engine.client.connection import Connection
from engine.client.dfs import Arrival, Resolver
from engine.client.establish import Way
from engine.client.handles import Handle
from engine.client.link import Link
from engine.client.session import Session
from engine.client.tree import Tree
from engine.errors import NtStatusError, SmbError, TransportError, error_from_status
from engine.ntstatus import STATUS_BAD_NETWORK_NAME
from engine.wire.primitives import FileId
from tests.support.logcheck import ExpectedWarnings
from tests.unit.client.support_link import FakeConnection, new_tree

pytestmark = pytest.mark.slow

DAY: Final = 24 * 3600.0
CALM: Final = 40.0
"""Seconds after which all shares are connected if nothing is wrong with one of their servers: who was refused
is asked for twice a minute."""


@dataclass(eq=False)
class Server:
    """One that is there, refuses connections or is silent, and may lack some of the shares."""

    state: str = "there"
    lacks: set[str] = field(default_factory=set)
    connections: list[FakeConnection] = field(default_factory=list)

    @asynccontextmanager
    async def connection(self, seconds: float) -> AsyncGenerator[FakeConnection, None]:
        if self.state == "silent":
            await trio.sleep(seconds)
        if self.state != "there":
            raise TransportError("nobody there")
        connection = FakeConnection()
        self.connections.append(connection)
        try:
            yield connection
        finally:
            self.connections.remove(connection)
            connection.abort(TransportError("ended"))

    async def tree(self, connection: FakeConnection, share: str) -> Tree:
        await trio.sleep(0.01)
        if connection.lost.is_set():
            raise TransportError("lost on the way")
        if share in self.lacks:
            raise error_from_status(STATUS_BAD_NETWORK_NAME, f"connect to {share}")
        tree = new_tree(connection)
        tree.path = share
        return tree

    def fail(self, state: str) -> None:
        self.state = state
        for connection in self.connections:
            connection.abort(TransportError("cut"))


@dataclass(slots=True)
class ServedWay(Way):
    """The way to such a server."""

    server: Server = field(default_factory=Server)

    @asynccontextmanager
    async def connection(
        self, seconds: float, address: str | None = None, leases: object = None
    ) -> AsyncGenerator[Connection, None]:
        async with self.server.connection(seconds) as connection:
            yield cast(Connection, connection)

    async def set_up_all(
        self, connection: Connection, seconds: float, previous_session_id: int, trees: Sequence[Tree]
    ) -> list[Tree | SmbError]:
        found: list[Tree | SmbError] = []
        for tree in trees:
            try:
                found.append(await self.server.tree(cast(FakeConnection, connection), tree.path))
            except NtStatusError as error:
                found.append(error)
        if all(isinstance(one, SmbError) for one in found):
            raise cast(SmbError, found[0])
        return found

    async def connect_share(self, session: Session, path: str, prefix: str = "") -> Tree:
        return await self.server.tree(cast(FakeConnection, session.connection), path)


def way_to(server: Server) -> ServedWay:
    return ServedWay(
        parse_unc("//server/share"), Credentials("me", "secret"), ConnectConfig(reconnect=True), server=server
    )


class TwoServers(Resolver):
    """What is known of a share that two servers have."""

    def __init__(self, tree: Tree, servers: Sequence[Server]) -> None:
        super().__init__(way_to(servers[0]))
        self._tree = tree
        self._share = tree.path
        self._servers = servers
        self._at = 0

    @property
    def has_choice(self) -> bool:
        return True

    @property
    def has_alternatives(self) -> bool:
        return True

    @asynccontextmanager
    async def arrive(
        self, way: Way, seconds: float, patience: float, **asked: Any
    ) -> AsyncGenerator[Arrival, None]:
        server = self._servers[1 - self._at]
        async with server.connection(seconds) as connection:
            try:
                tree = await server.tree(connection, self._share)
            except SmbError as error:
                failure: SmbError = error
            else:
                if asked["is_wanted"]():
                    assert self._tree.connection.lost.is_set()
                    self._at = 1 - self._at
                    yield Arrival(way_to(server), cast(Connection, connection), tree)
                    return
                failure = TransportError("not wanted")
        raise failure


def open_in(tree: Tree) -> Handle:
    async def restore() -> None:
        epoch = tree.epoch
        await trio.sleep(0.02)
        if not tree.connection.lost.is_set():
            handle.move(FileId(epoch, epoch), epoch)

    handle = Handle(FileId(0, 0), tree.epoch, "file", restore)
    tree.handles.add(handle)
    return handle


def check(trees: Sequence[Tree], servers: Sequence[Server], files: dict[Tree, Handle]) -> None:
    """What holds when nothing was wrong for a while."""
    assert not any(tree.connection.lost.is_set() or tree.is_settling for tree in trees)
    links = {cast(Link, tree.link) for tree in trees}
    living = [one for server in servers for one in server.connections if not one.lost.is_set()]
    assert len(living) == len(links)
    for link in links:
        assert {tree for tree in trees if tree.link is link} == set(link._members)
        assert not any(member.departure for member in link._members.values())
    for tree, file in files.items():
        if file.is_lost:
            assert tree.moves
            assert file not in tree.handles
            files[tree] = open_in(tree)
        else:
            assert file.epoch == tree.epoch


async def trouble(chance: random.Random, servers: Sequence[Server], trees: Sequence[Tree]) -> None:
    """Something happens to both servers, one after the other, and then is over."""
    for server in servers:
        server.lacks = {tree.path for tree in trees if chance.random() < 0.1}
        if chance.random() < 0.7:
            server.fail(chance.choice(("there", "there", "refusing", "silent")))
        await trio.sleep(chance.choice((0.0, 0.01, 0.5, 3.0, 60.0)))
    for server in servers:
        server.state, server.lacks = "there", set()


@pytest.mark.parametrize("seed", range(4))
def test_days_of_servers_that_come_and_go(seed: int, expected_warnings: ExpectedWarnings) -> None:
    expected_warnings.allow(
        "is replaced by", "refuses us", "is refused", "a server that another has replaced"
    )
    chance, servers = random.Random(seed), (Server(), Server())

    async def main() -> None:
        async with servers[0].connection(1) as first, trio.open_nursery() as tasks:
            trees = [await servers[0].tree(first, f"share {number}") for number in range(4)]
            stays = trees[1] if seed % 2 else None
            resolvers = [None if tree is stays else TwoServers(tree, servers) for tree in trees]
            link = Link(way_to(servers[0]), trees[0], resolvers[0])
            for tree, resolver in zip(trees[1:], resolvers[1:], strict=True):
                link.take_in(tree, way_to(servers[0]), resolver)
            files = {tree: open_in(tree) for tree in trees}
            tasks.start_soon(link.run)
            try:
                while trio.current_time() < DAY:
                    await trouble(chance, servers, trees)
                    await trio.sleep(CALM)
                    check(trees, servers, files)
            finally:
                # It is shielded.
                link.end()
                link.scope.cancel()
        assert not any(server.connections for server in servers)
        assert any(tree.moves for tree in trees)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_who_is_back_in_the_step_in_which_another_target_is_reached_stays() -> None:
    server, reached, answers = Server(), trio.Event(), list[bool]()

    class Racing(ServedWay):
        async def set_up_all(
            self, connection: Connection, seconds: float, previous_session_id: int, trees: Sequence[Tree]
        ) -> list[Tree | SmbError]:
            found = await super().set_up_all(connection, seconds, previous_session_id, trees)
            reached.set()
            return found

    class Slow(TwoServers):
        @asynccontextmanager
        async def arrive(
            self, way: Way, seconds: float, patience: float, **asked: Any
        ) -> AsyncGenerator[Arrival, None]:
            await reached.wait()
            answers.append(asked["is_wanted"]())
            async with super().arrive(way, seconds, patience, is_wanted=lambda: False) as found:
                yield found

    async def main() -> None:
        async with server.connection(1) as first, trio.open_nursery() as tasks:
            way = Racing(
                parse_unc("//server/share"), Credentials("me", "secret"), ConnectConfig(), server=server
            )
            trees = [await server.tree(first, name) for name in ("one", "two")]
            link = Link(way, trees[0])
            link.take_in(trees[1], way, Slow(trees[1], (server, server)))
            file = open_in(trees[1])
            tasks.start_soon(link.run)
            try:
                server.fail("refusing")
                await trio.sleep(10)
                assert len(link._departed) == 1
                server.state = "there"
                await link.wait_returned(trees[1])
                assert not link._departed
                assert file.epoch == trees[1].epoch == 1
                assert trees[1].link is link
            finally:
                link.end()
                link.scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert answers == [False]
