"""What the tests of the engine share: connections, deadlines, counted round trips, clean books."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Final, ParamSpec

import trio
import trio.testing

import engine
from engine import Access, ConnectConfig, Credentials, DirectoryEntry, File, FileStat, Share
from tests.support.samba import SambaServer

READ_WRITE: Final = Access.READ | Access.WRITE
MIB: Final = 1 << 20

_DEADLINE: Final = 60.0
_ROUNDS: Final = 50

_P = ParamSpec("_P")


def in_trio(test: Callable[_P, Awaitable[None]]) -> Callable[_P, None]:
    """Run an async test in trio; one that takes longer than a minute fails."""

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        async def bounded() -> None:
            with trio.fail_after(_DEADLINE):
                await test(*args, **kwargs)

        trio.run(bounded)

    return run


def account(server: SambaServer) -> Credentials:
    """The server's user."""
    return Credentials(server.user, server.password)


def connected(
    server: SambaServer,
    share: str = "data",
    config: ConnectConfig | None = None,
    credentials: Credentials | None = None,
) -> AbstractAsyncContextManager[Share]:
    """Connect to a share of `server`, as its user unless told otherwise."""
    unc = f"//{server.address}:{server.port}/{share}"
    return engine.connect(unc, credentials or account(server), config or ConnectConfig())


def inside(folder: Path) -> Callable[[str], str]:
    """A function that turns a name in `folder`, a folder of the share's, into a path for the engine."""
    return lambda name: f"{folder.name}\\{name}" if name else folder.name


def make_files(folder: Path, names: Iterable[str]) -> None:
    """Make empty files on the server's disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        for name in names:
            os.mknod(name, dir_fd=descriptor)
    finally:
        os.close(descriptor)


async def listing(share: Share, path: str, pattern: str = "*") -> list[DirectoryEntry]:
    """All entries of a folder."""
    async with aclosing(share.scandir(path, pattern)) as batches:
        return [entry async for batch in batches for entry in batch]


async def told_at_close(file: File, *, details: bool = False) -> FileStat | None:
    """Close a file, and wait for what that tells."""
    sender, receiver = trio.open_memory_channel[FileStat | None](1)
    file.close_and_tell(sender.send_nowait, details=details)
    return await receiver.receive()


async def settle(share: Share) -> None:
    """Wait until every request is answered, clean-ups in the background included."""
    for _ in range(_ROUNDS):
        await trio.testing.wait_all_tasks_blocked()
        if not share.statistics().in_flight:
            return
        await share.echo()
    raise AssertionError(f"requests stay unanswered: {share.statistics()}")


async def fill_credits(share: Share) -> int:
    """Let the credits grow until the server grants no more; returns how many there then are."""
    before = -1
    while (now := share.statistics().credits) != before:
        before = now
        await share.echo()
    return now


@asynccontextmanager
async def trips(share: Share) -> AsyncIterator[Counter[str]]:
    """Count the round trips of the block by the commands that shared one, the background's included.

    The counter is filled at the end of the block.
    """
    await settle(share)
    before = share.statistics().trips
    made: Counter[str] = Counter()
    yield made
    await trio.testing.wait_all_tasks_blocked()
    made.update(share.statistics().trips - before)


async def assert_nothing_left(share: Share, server: SambaServer, credits: int) -> None:
    """The books after cancelled work: all credits back, no request in flight, no file open or locked."""
    await settle(share)
    statistics = share.statistics()
    assert statistics.credits == credits
    assert statistics.in_flight == 0
    opened = await trio.to_thread.run_sync(server.smbstatus, "-L")
    assert "Locked files" not in opened, opened
