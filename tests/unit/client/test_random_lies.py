"""Lies put together at random: whatever comes of it, calls end with our errors, and in time."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import pytest
import trio

import engine
from engine.wire.constants import Command, HeaderFlags
from engine.wire.header import UNSOLICITED_MESSAGE_ID, Header
from engine.wire.notify import LeaseBreakNotification
from tests.fakes import lies_protection
from tests.fakes.lies_frames import AnnouncesMore, Ends, SendsInstead
from tests.fakes.lies_messages import Answers, Cuts, Says
from tests.fakes.lies_protection import (
    AnswersInTheClear,
    ChangesTransform,
    FlipsCiphertext,
    LeavesUnsigned,
    Reflects,
    ReplaysSealed,
    SealsTwice,
    SignsEarlierReply,
    SignsWrongly,
)
from tests.fakes.lies_replies import Grants, PendingStorm, Reorders, Repeats, Strays, Unasked
from tests.fakes.server import running
from tests.fakes.server_lies import Lie, LyingServer
from tests.support.logcheck import ExpectedWarnings
from tests.unit.client.support import ACCOUNT, DEADLINE

pytestmark = pytest.mark.slow

_SILENCE: Final = 0.2
"""Seconds after which a server that keeps everything back is given up: some lies are only that."""

Step: TypeAlias = Callable[[engine.Share], Awaitable[object]]

_COMMANDS: Final = tuple(Command)


def _break(chance: random.Random) -> bytes:
    header = Header(
        command=chance.choice((Command.OPLOCK_BREAK, Command.READ)),
        flags=HeaderFlags.SERVER_TO_REDIR,
        message_id=UNSOLICITED_MESSAGE_ID,
    )
    return header.encode() + LeaseBreakNotification(chance.randbytes(16), 7, 0).encode()


LIES: Final[tuple[Callable[[random.Random], Lie], ...]] = (
    lambda chance: Says(chance.randrange(12, 140), chance.randbytes(4), chance.choice(_COMMANDS)),
    lambda chance: Says(chance.randrange(64, 100), b"\xff" * chance.randint(1, 8), chance.choice(_COMMANDS)),
    lambda chance: Says(chance.randrange(12, 300), bytes(chance.randint(1, 4))),
    lambda chance: Cuts(chance.randrange(64, 200), chance.choice(_COMMANDS)),
    lambda chance: Answers(chance.choice(_COMMANDS), chance.randbytes(chance.randrange(200))),
    lambda chance: Ends(chance.randrange(300)),
    lambda chance: AnnouncesMore(chance.randrange(1, 1 << chance.randrange(1, 31))),
    lambda chance: SendsInstead(chance.randbytes(chance.randrange(200))),
    lambda chance: Reorders(chance.randint(1, 3)),
    lambda chance: Repeats(chance.randint(2, 4)),
    lambda chance: PendingStorm(chance.randint(1, 20), moves=chance.random() < 0.5),
    lambda chance: Grants(chance.choice((0, 1, 2, 65535))),
    lambda chance: Strays(chance.randrange(1 << chance.randrange(1, 60)), chance.choice(_COMMANDS)),
    lambda chance: Unasked(_break(chance), _break(chance)),
    lambda chance: SignsWrongly(chance.choice(_COMMANDS)),
    lambda chance: LeavesUnsigned(),
    lambda chance: SignsEarlierReply(),
    lambda chance: AnswersInTheClear(),
    lambda chance: ChangesTransform(chance.randrange(4, 52), chance.randbytes(chance.randint(1, 8))),
    lambda chance: FlipsCiphertext(),
    lambda chance: SealsTwice(),
    lambda chance: ReplaysSealed(),
    lambda chance: Reflects(as_reply=chance.random() < 0.5),
    lambda chance: ChangesTransform(lies_protection.ORIGINAL_SIZE, chance.randbytes(4)),
)


async def use(share: engine.Share) -> None:
    """Most of what a share can do, whatever the answers say."""
    for step in STEPS:
        with contextlib.suppress(engine.SmbError):
            await step(share)


async def _use_file(share: engine.Share) -> None:
    access = engine.Access.READ | engine.Access.WRITE
    async with await share.open("file", access=access, disposition=engine.Disposition.OPEN_IF) as file:
        await file.write_at(0, b"hello" * 50_000)
        await file.read_at(5, 300_000)
        await file.flush()
        await file.truncate(100)
        await file.query()
        await file.lock(0, 10, exclusive=True, wait=False)
        await file.unlock(0, 10)


async def _list(share: engine.Share) -> None:
    async with contextlib.aclosing(share.scandir("")) as batches:
        async for _ in batches:
            pass


async def _all_at_once(share: engine.Share) -> None:
    async with trio.open_nursery() as nursery:
        for step in STEPS[1:-1]:
            nursery.start_soon(_tolerant, step, share)


async def _tolerant(step: Step, share: engine.Share) -> None:
    with contextlib.suppress(engine.SmbError):
        await step(share)


STEPS: Final[tuple[Step, ...]] = (
    _use_file,
    _list,
    lambda share: share.mkdir("folder"),
    lambda share: share.stat("file"),
    lambda share: share.read_file("file", 100_000),
    lambda share: share.write_file("other", b"abc"),
    lambda share: share.rename("other", "third", replace=True),
    lambda share: share.set_basic("third", write_ns=1_600_000_000_000_000_000),
    lambda share: share.link("third", "fourth"),
    lambda share: share.list_eas("third"),
    lambda share: share.set_ea("third", "name", b"value"),
    lambda share: share.copy("file", "copy", replace=True),
    lambda share: share.referrals("\\\\server\\data"),
    lambda share: share.snapshots(""),
    lambda share: share.network_interfaces(),
    lambda share: share.volume_size(),
    lambda share: share.unlink("third"),
    lambda share: share.rmdir("folder"),
    _all_at_once,
)


async def outcome(server: LyingServer, config: engine.ConnectConfig, armed_after: int) -> str:
    """What using the server ends with."""
    async with running(server):
        try:
            async with engine.connect(server.unc, ACCOUNT, config) as share:
                for _ in range(armed_after):
                    await share.echo()
                server.armed = True
                with trio.move_on_after(_SILENCE * 2) as scope:
                    await use(share)
                return "silence" if scope.cancelled_caught else "well"
        except engine.SmbError as error:
            return type(error).__name__


@pytest.mark.parametrize("seed", range(16))
def test_any_lies_together_end_in_our_errors(seed: int, expected_warnings: ExpectedWarnings) -> None:
    """A thousand seeds were tried."""
    expected_warnings.allow("(refuses us|cannot be trusted) since the connection was lost")
    chance = random.Random(seed)
    lies = [chance.choice(LIES)(chance) for _ in range(chance.randint(1, 3))]
    dialect = chance.choice(list(engine.Dialect))
    seal = dialect >= engine.Dialect.SMB_3_0 and chance.random() < 0.5
    reconnect = chance.random() < 0.5
    config = engine.ConnectConfig(timeout=_SILENCE, seal=seal, max_credits=64, reconnect=reconnect)
    server = LyingServer(*lies, dialect=dialect, armed=chance.random() < 0.3)

    async def main() -> str:
        with trio.fail_after(DEADLINE):
            return await outcome(server, config, chance.randrange(3))

    server.excuses = True
    trio.run(main)
