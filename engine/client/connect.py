"""From a share's name to a `Share`: connect, negotiate, log on, connect to the tree, check it all."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from engine.client.config import ConnectConfig, Credentials, Unc, parse_unc
from engine.client.connection import Connection
from engine.client.dfs import Arrival, Resolver
from engine.client.establish import Way
from engine.client.link import Link
from engine.client.share import Share
from engine.client.tree import Tree
from engine.errors import SmbError

log = logging.getLogger(__name__)

_GOODBYE: Final = 5.0
"""Seconds for LOGOFF; the server forgets us anyway when the connection ends."""


@asynccontextmanager
async def connect(
    unc: str | Unc,
    credentials: Credentials,
    config: ConnectConfig | None = None,
    renew: Callable[[], Sequence[Credentials]] | None = None,
    beside: Callable[[], Sequence[Share]] = tuple,
) -> AsyncGenerator[Share, None]:
    """Connect to `//server[:port]/share[/folder]`; the share is disconnected when the block ends.

    Its paths start at the folder, whose existence is not looked at. Where a distributed tree says that it is
    elsewhere (DFS, `config.dfs`), the share is the one that it leads to, and the first target that can be
    used; if that is lost later, and does not come back at once, another takes its place.

    With `config.reconnect` a connection that is lost later is made anew, for as long as it takes: calls wait
    for it, and the caller bounds them. If the server then refuses the account, `renew` is called, in a
    thread, and the first of what it returns that was not refused yet is tried.

    `beside` tells which shares are connected: what is on one's server, for the same account and as protected,
    shares its connection and session, until one of them goes to another target. Those shares have to stay
    connected for as long as this one.

    Raises `TransportError` (no server there, or it stays silent for `config.timeout` seconds),
    `AuthError` (the account is refused, or may not be used where the tree leads: `ForeignHost`),
    `NtStatusError` (no such share, or no right to it), `RemoteProtocolError` (the server breaks the protocol,
    or cannot protect as asked for), and `ValueError` for a malformed name.
    """
    config = config or ConnectConfig()
    way = Way(parse_unc(unc) if isinstance(unc, str) else unc, credentials, config, renew)
    try:
        if config.dfs:
            resolver = Resolver(way)
            lenders = [share.lender for share in beside() if share.lender is not None]
            async with (
                resolver.arrive(way, config.timeout, config.timeout, lenders=lenders) as found,
                _settled(found, resolver) as share,
            ):
                yield share
        else:
            async with way.connection(config.timeout) as connection:
                tree = await way.set_up(connection, config.timeout)
                async with _connected(connection, tree, way) as share:
                    yield share
    except BaseExceptionGroup as group:
        # The nursery wraps what is raised inside it; the tasks in it raise nothing themselves.
        error = _only_leaf(group)
        if error is None:
            raise
        raise error from error.__cause__


def _only_leaf(error: BaseException) -> BaseException | None:
    while isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) != 1:
            return None
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def _settled(found: Arrival, resolver: Resolver) -> AsyncGenerator[Share, None]:
    """What was found, on its own connection or as a guest on another share's."""
    if found.lender is None:
        async with _connected(found.connection, found.tree, found.way, resolver) as share:
            yield share
        return
    tree = found.tree
    found.lender.take_in(tree, found.way, resolver)
    share = Share(tree, found.way.unc, found.way.config, resolver)
    try:
        yield share
    finally:
        link = share.keeper
        assert link is not None
        if link.let_go(tree):
            tree.connection.end()
            await _say_goodbye(tree, logs_off=True)
            link.retire()
        else:
            await _say_goodbye(tree, logs_off=False)


@asynccontextmanager
async def _connected(
    connection: Connection, tree: Tree, way: Way, resolver: Resolver | None = None
) -> AsyncGenerator[Share, None]:
    config = way.config
    link = Link(way, tree, resolver) if config.reconnect else None
    share = Share(tree, way.unc, config, resolver)
    async with trio.open_nursery() as nursery:
        if link is not None:
            nursery.start_soon(link.run)
        else:
            nursery.start_soon(connection.run_echo, config.echo_interval, tree.session.batch())
        try:
            yield share
        finally:
            nursery.cancel_scope.cancel()
            if link is not None:
                link.end()
            # Servers hang up after LOGOFF, and may do so before the last CLOSE has left.
            tree.connection.end()
            await _say_goodbye(tree, logs_off=True)
            if link is not None:
                link.scope.cancel()


async def _say_goodbye(tree: Tree, *, logs_off: bool) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _GOODBYE):
        try:
            await tree.disconnect()
            if logs_off:
                await tree.session.log_off()
        except SmbError as error:
            log.debug("leaving %s failed: %s", tree.path, error)
