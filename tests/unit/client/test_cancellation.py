"""Cancelling is safe everywhere: whatever was under way, the books balance afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import engine
from engine import ntstatus
from engine.wire.constants import Command, HeaderFlags, LockFlags
from tests.fakes.server import FakeServer, running
from tests.fakes.server_behaviours import AnswersPendingFirst, GrantsFewCredits, KeepsWaiting
from tests.fakes.server_peer import Peer, Reply
from tests.unit.client.support import ACCOUNT, DEADLINE, connected, settled

READ_WRITE = engine.Access.READ | engine.Access.WRITE


class CancelsAtStep(trio.abc.Instrument):
    """Cancels a scope when the task that entered it, or a child of that task, waits for the n-th time."""

    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self._left = step
        self._scope = scope
        self._task = trio.lowlevel.current_task()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        nursery = task.parent_nursery
        if task is self._task or (nursery is not None and nursery.parent_task is self._task):
            self._left -= 1
            if not self._left:
                self._scope.cancel()


async def finishes(step: int, work: Callable[[], Awaitable[None]]) -> bool:
    """Run `work`, cancelled at its n-th wait; whether it ended before that."""
    with trio.CancelScope() as scope:
        instrument = CancelsAtStep(step, scope)
        trio.lowlevel.add_instrument(instrument)
        try:
            await work()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return not scope.cancelled_caught


async def transfer(share: engine.Share) -> None:
    """Data in pieces that are under way together."""
    async with await share.open("a", access=READ_WRITE, disposition=engine.Disposition.CREATE) as file:
        await file.write_at(0, bytes(150_000))
        await file.read_at(0, 150_000)
    await share.write_file("d", bytes(70_000))
    await share.read_file("d", 70_000)
    await share.copy("d", "e")


async def handle(share: engine.Share) -> None:
    """What an open file can do."""
    async with await share.open("a", access=READ_WRITE, disposition=engine.Disposition.CREATE) as file:
        await file.read_at(0, 10)
        await file.lock(0, 1, exclusive=True, wait=True)
        await file.unlock(0, 1)
        await file.flush()
        await file.truncate(10)
        await file.set_basic(write_ns=0)
        await file.rename("b", replace=False)
        await file.query()
    await (await share.open("b")).close_and_stat()


async def paths(share: engine.Share) -> None:
    """What can be done by path."""
    await share.mkdir("dir")
    async with contextlib.aclosing(share.scandir("")) as batches:
        async for _ in batches:
            pass
    await share.write_file("e", b"e")
    await share.read_file("e", 10)
    await share.rename("e", "f", replace=False)
    await share.stat("f")
    await share.volume_size()
    await share.unlink("f")
    await share.rmdir("dir")


@pytest.mark.parametrize(
    "make",
    [
        lambda: FakeServer(max_size=65536),
        lambda: GrantsFewCredits(1, max_size=65536),
        lambda: GrantsFewCredits(3, max_size=65536),
        lambda: GrantsFewCredits(9, max_size=65536),
        lambda: AnswersPendingFirst(max_size=65536),
        lambda: FakeServer(max_size=65536, encrypts=True),
    ],
    ids=["plenty of credits", "one credit", "three credits", "nine credits", "pending first", "encrypted"],
)
@pytest.mark.parametrize("script", [transfer, handle, paths])
def test_cancelled_at_every_wait(
    make: Callable[[], FakeServer], script: Callable[[engine.Share], Awaitable[None]]
) -> None:
    async def main() -> None:
        server = make()
        async with connected(server) as share:
            step = 1
            while not await finishes(step, lambda: script(share)):
                step += 1
                await settled(server, share)
                server.tree.root.children.clear()
            assert step > 8
            await settled(server, share)
            assert not share.is_lost

    trio.run(main)


def test_cancelled_before_it_began_nothing_is_sent() -> None:
    async def main() -> None:
        server = FakeServer()
        async with connected(server) as share:
            before = len(server.received)
            with trio.CancelScope() as scope:
                scope.cancel()
                await share.stat("")
            assert scope.cancelled_caught
            await settled(server, share)
            assert server.received[before:] == [Command.ECHO, Command.ECHO]

    trio.run(main)


def test_a_close_in_a_cancelled_scope_is_sent_all_the_same() -> None:
    async def main() -> None:
        server = FakeServer()
        server.tree.add_file("a")
        async with connected(server) as share:
            with trio.CancelScope() as scope:
                file = await share.open("a")
                scope.cancel()
                await file.close()
            assert scope.cancelled_caught
            await settled(server, share)

    trio.run(main)


def test_leaving_the_block_of_a_file_closes_it_whatever_happened_there() -> None:
    async def main() -> None:
        server = FakeServer()
        server.tree.add_file("a")
        async with connected(server) as share:
            with pytest.raises(ZeroDivisionError):
                async with await share.open("a"):
                    raise ZeroDivisionError
            with trio.CancelScope() as scope:
                async with await share.open("a"):
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
            await settled(server, share)
            assert server.received.count(Command.CLOSE) == 2

    trio.run(main)


@pytest.mark.parametrize("interim", [False, True], ids=["sent", "pending"])
def test_a_create_whose_success_crosses_its_cancel_is_closed(interim: bool) -> None:
    async def main() -> None:
        server = KeepsWaiting(Command.CREATE, interim=interim)
        server.tree.add_file("a")
        async with connected(server) as share:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(share.open, "a")
                    await server.until(lambda: len(server.held) == 1)
                    await wait_all_tasks_blocked()
                    scope.cancel()
            assert scope.cancelled_caught
            await server.until(lambda: len(server.cancels) == 2)
            first, second = server.cancels
            assert bool(first.flags & HeaderFlags.ASYNC_COMMAND) is interim
            assert second.message_id == first.message_id + 1
            assert len(server.tree.opens) == 1
            await server.release()
            await settled(server, share)
            assert share.statistics().late_replies == 2

    trio.run(main)


def test_an_open_whose_create_is_answered_already_is_closed() -> None:
    async def main() -> None:
        server = KeepsWaiting(Command.QUERY_INFO, interim=True)
        server.tree.add_file("a")
        async with connected(server) as share:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(share.open, "a")
                    await server.until(lambda: len(server.held) == 1)
                    await wait_all_tasks_blocked()
                    scope.cancel()
            assert scope.cancelled_caught
            await server.release()
            await settled(server, share)
            assert len(server.cancels) == 1

    trio.run(main)


def test_a_lock_whose_success_crosses_its_cancel_is_released() -> None:
    async def main() -> None:
        server = KeepsWaiting(Command.LOCK, interim=True)
        server.tree.add_file("a")
        async with connected(server) as share:
            file = await share.open("a")
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lambda: file.lock(5, 6, exclusive=True, wait=True))
                    await server.until(lambda: len(server.held) == 1)
                    await wait_all_tasks_blocked()
                    scope.cancel()
            await server.until(lambda: len(server.cancels) == 1)
            await server.release()
            await server.until(lambda: len(server.tree.lock_calls) == 2)
            assert server.tree.lock_calls[1] == (5, 6, LockFlags.UNLOCK)
            assert not next(iter(server.tree.opens.values())).locks
            await file.close()
            await settled(server, share)

    trio.run(main)


def test_a_cancel_that_is_honoured() -> None:
    async def main() -> None:
        server = KeepsWaiting(Command.READ, interim=True, honours_cancel=True)
        server.tree.add_file("a", b"content")
        async with connected(server) as share:
            async with await share.open("a") as file:
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(file.read_at, 0, 10)
                        await server.until(lambda: len(server.held) == 1)
                        await wait_all_tasks_blocked()
                        scope.cancel()
                await server.until(lambda: not server.held)
                server.armed = False
                assert bytes(await file.read_at(0, 10)) == b"content"
            await settled(server, share)
            assert share.statistics().late_replies == 1

    trio.run(main)


def test_a_handle_is_closed_where_the_failure_of_a_part_spread_to_the_close() -> None:
    async def main() -> None:
        server = KeepsWaiting(Command.CREATE)
        server.failure_spreads = True
        server.refusals[Command.READ] = ntstatus.STATUS_DATA_ERROR
        server.tree.add_file("a", b"content")
        async with connected(server) as share:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(share.read_file, "a", 10)
                    await server.until(lambda: len(server.held) == 1)
                    scope.cancel()
            assert scope.cancelled_caught
            assert len(server.tree.opens) == 1
            await server.release()
            await settled(server, share)

    trio.run(main)


def test_a_task_that_gives_up_its_place_in_the_queue_lets_the_next_one_in() -> None:
    async def main() -> None:
        server = KeepsWaiting(Command.ECHO, total_credits=1)
        async with connected(server) as share, trio.open_nursery() as nursery:
            nursery.start_soon(share.echo)
            await server.until(lambda: len(server.held) == 1)
            impatient = trio.CancelScope()

            async def give_up() -> None:
                with impatient:
                    await share.stat("")

            nursery.start_soon(give_up)
            await wait_all_tasks_blocked()
            nursery.start_soon(share.stat, "")
            await wait_all_tasks_blocked()
            impatient.cancel()
            await wait_all_tasks_blocked()
            await server.release()
        assert server.received.count(Command.CREATE) == 1

    trio.run(main)


def test_disconnecting_with_files_open_logs_off() -> None:
    async def main() -> None:
        server = FakeServer()
        server.tree.add_file("a")
        async with connected(server) as share:
            await share.open("a")
        assert server.received[-2:] == [Command.TREE_DISCONNECT, Command.LOGOFF]

    trio.run(main)


def test_a_cancelled_mount_logs_off_too() -> None:
    async def main() -> None:
        server = FakeServer()
        with trio.fail_after(DEADLINE):
            async with running(server):
                with trio.CancelScope() as scope:
                    async with engine.connect(server.unc, ACCOUNT):
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert server.received[-2:] == [Command.TREE_DISCONNECT, Command.LOGOFF]

    trio.run(main)


class GarblesCreates(KeepsWaiting):
    """Answers a CREATE with bytes that make no sense, and QUERY_INFO never."""

    def __init__(self) -> None:
        super().__init__(Command.QUERY_INFO, interim=True)

    async def respond(self, peer: Peer, replies: list[Reply]) -> None:
        for reply in replies:
            if reply.command is Command.CREATE:
                reply.body = bytes(9)
        await super().respond(peer, replies)


def test_an_answer_that_makes_no_sense_does_not_replace_a_cancellation() -> None:
    async def main() -> None:
        server = GarblesCreates()
        server.tree.add_file("a")
        async with connected(server) as share:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(share.open, "a")
                    while not share.statistics().interim_replies:
                        await wait_all_tasks_blocked(0.001)
                    scope.cancel()
            assert scope.cancelled_caught
            assert share.is_lost

    trio.run(main)
