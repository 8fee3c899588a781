"""One script of operations, played once for each of its stream calls, which fails, and once for each of its
checkpoints, at which it is cancelled: nothing hangs, nothing is left behind, all credits come back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio
import trio.testing

import engine
from engine.client import establish
from engine.client import transport as transporting
from engine.client.buffers import BufferPool
from engine.client.transport import Transport
from engine.proto.machine import Machine
from tests.fakes.server import FakeServer, running
from tests.unit.client.support import ACCOUNT, settled

pytestmark = pytest.mark.slow

DEADLINE: Final = 600.0
"""Seconds of virtual time: more than anything in the engine waits for."""


async def script(share: engine.Share, *, exclusive: bool = True) -> None:
    """A bit of everything; raises what the engine raises.

    `exclusive` = also what a reconnection may refuse: locks, and making what must not be there, as the fake
    server's times, which are always the same, do not tell who made it.
    """
    if exclusive:
        await share.mkdir("d")
        await share.rmdir("d")
    lease = share.lease(lambda broken: None) if share.supports_leases else None
    async with await share.open(
        "a",
        access=engine.Access.READ | engine.Access.WRITE | engine.Access.DELETE,
        disposition=engine.Disposition.CREATE if exclusive else engine.Disposition.OPEN_IF,
        lease=lease,
    ) as file:
        await file.write_at(0, b"content" * 30_000)
        await file.flush()
        assert len(await file.read_at(7, 200_000)) == 200_000
        if exclusive:
            await file.lock(0, 10, exclusive=True, wait=False)
            await file.unlock(0, 10)
        await file.set_basic(write_ns=1_000_000_000_000)
        await file.truncate(70_000)
        assert (await file.query()).size == 70_000
    assert bytes(await share.read_file("a", 7)) == b"content"
    await share.rename("a", "b", replace=False)
    found = [entry.name async for batch in share.scandir("") for entry in batch]
    assert "b" in found
    assert (await share.stat("b")).size == 70_000
    await share.echo()
    await share.unlink("b")


class Calls:
    """Counts the stream calls of a client: connects, sends and receives that got through. The one with the
    number `failing` fails in the way that `how` says, and with it the connection."""

    def __init__(self, failing: int, how: str) -> None:
        self.failing = failing
        self.how = how
        self.count = 0
        self.connecting = 0
        """How many calls the way to the share took."""
        self.sockets: list[FaultySocket] = []
        self.machines: list[Machine] = []

    def fails(self) -> bool:
        """Count one call; whether it is the one."""
        self.count += 1
        return self.count - 1 == self.failing

    def count_back(self) -> None:
        """The last call did nothing: the socket was not ready."""
        self.count -= 1


class FaultySocket:
    """A socket whose connection breaks at one of its calls; all others after that find it broken."""

    def __init__(self, sock: socket.socket, calls: Calls) -> None:
        self._sock = sock
        self._calls = calls
        self.closed = False

    def fileno(self) -> int:
        """For the event loop."""
        return self._sock.fileno()

    def sendmsg(self, buffers: Sequence[Any]) -> int:
        """Send, or find that the connection was reset: with `partly`, after some of it has left."""
        if self._calls.fails():
            if self._calls.how == "partly":
                with contextlib.suppress(BlockingIOError):
                    self._sock.send(bytes(buffers[0])[:2])
            self._break()
            raise ConnectionResetError(errno.ECONNRESET, "reset by the test")
        return self._or_not_ready(lambda: self._sock.sendmsg(buffers))

    def recv_into(self, view: memoryview) -> int:
        """Receive, or find that the connection was reset, or ended in good order."""
        if self._calls.fails():
            self._break()
            if self._calls.how == "ended":
                return 0
            raise ConnectionResetError(errno.ECONNRESET, "reset by the test")
        return self._or_not_ready(lambda: self._sock.recv_into(view))

    def _or_not_ready(self, call: Callable[[], int]) -> int:
        try:
            return call()
        except BlockingIOError:
            self._calls.count_back()
            raise

    def _break(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it."""
        self.closed = True
        self._sock.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@pytest.fixture
def tap(monkeypatch: pytest.MonkeyPatch) -> Callable[[Calls], None]:
    """Makes every connection of the engine go through `Calls`."""

    def put(calls: Calls) -> None:
        async def open_tapped(host: str, port: int, pool: BufferPool) -> Transport:
            if calls.fails():
                raise engine.TransportError("refused by the test", errno=errno.ECONNREFUSED)
            transport = await transporting.open_transport(host, port, pool)
            sock = FaultySocket(transport._sock, calls)
            calls.sockets.append(sock)
            monkeypatch.setattr(transport, "_sock", sock)
            return transport

        class TappedMachine(Machine):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                calls.machines.append(self)

        monkeypatch.setattr(establish, "open_transport", open_tapped)
        monkeypatch.setattr(establish, "Machine", TappedMachine)

    return put


async def play(calls: Calls, config: engine.ConnectConfig | None = None) -> str:
    """Connect, play the script, log off; which documented error ended it, or ""."""
    async with running(FakeServer()) as server:
        try:
            async with engine.connect(server.unc, ACCOUNT, config) as share:
                calls.connecting = calls.count
                await script(share, exclusive=config is None)
        except engine.TransportError as error:
            return str(error)
    return ""


def run(main: Callable[..., Awaitable[Any]], *arguments: Any, instruments: Sequence[Any] = ()) -> Any:
    """Run in virtual time; a hang ends at once."""

    async def bounded() -> Any:
        with trio.fail_after(DEADLINE):
            return await main(*arguments)

    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(bounded, clock=clock, instruments=instruments)


def open_descriptors() -> int:
    """How many there are."""
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("how", ["reset", "partly", "ended"])
def test_the_nth_stream_call_fails(tap: Callable[[Calls], None], how: str) -> None:
    whole = Calls(-1, how)
    tap(whole)
    before = open_descriptors()
    assert run(play, whole) == ""
    assert whole.count > 40
    for failing in range(whole.count):
        calls = Calls(failing, how)
        tap(calls)
        told = run(play, calls)
        where = f"call {failing} of {whole.count}: {told}"
        # What fails after the last operation is nobody's trouble.
        assert told or failing > whole.count * 3 // 4, where
        assert all(sock.closed for sock in calls.sockets), where
        assert [machine.snapshot().in_flight for machine in calls.machines] == [0] * len(calls.machines), (
            where
        )
        assert open_descriptors() == before, where


def test_a_share_that_reconnects_comes_through(tap: Callable[[Calls], None]) -> None:
    config, whole = engine.ConnectConfig(reconnect=True), Calls(-1, "reset")
    tap(whole)
    before = open_descriptors()
    assert run(play, whole, config) == ""
    for failing in range(whole.connecting, whole.count):
        calls = Calls(failing, "reset")
        tap(calls)
        where = f"call {failing} of {whole.count}"
        try:
            assert run(play, calls, config) == "", where
        except Exception as error:
            error.add_note(where)
            raise
        assert all(sock.closed for sock in calls.sockets), where
        assert [machine.snapshot().in_flight for machine in calls.machines] == [0] * len(calls.machines), (
            where
        )
        assert open_descriptors() == before, where


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when its task has come to a checkpoint for the n-th time."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.steps = 0
        self.task: trio.lowlevel.Task | None = None
        self.scope = trio.CancelScope()

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None, None]:
        """What this task does in the block is watched."""
        self.task = trio.lowlevel.current_task()
        try:
            with self.scope:
                yield
        finally:
            self.task = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count."""
        if task is self.task:
            self.steps += 1
            if self.steps == self.left:
                self.scope.cancel()


async def _play_cancelled(canceller: CancelAt) -> None:
    async with running(FakeServer()) as server, engine.connect(server.unc, ACCOUNT) as share:
        async with canceller.watching():
            await script(share)
        await settled(server, share)


async def _connect_cancelled(canceller: CancelAt) -> None:
    async with (
        running(FakeServer()) as server,
        canceller.watching(),
        engine.connect(server.unc, ACCOUNT) as share,
    ):
        await share.echo()


@pytest.mark.parametrize(("main", "least"), [(_play_cancelled, 15), (_connect_cancelled, 5)])
def test_cancelled_at_every_checkpoint(
    tap: Callable[[Calls], None], main: Callable[[CancelAt], Awaitable[None]], least: int
) -> None:
    """With the connection alive, what was begun is undone: no handle stays, and every credit comes back."""
    before, number = open_descriptors(), 1
    while True:
        calls, canceller = Calls(-1, "reset"), CancelAt(number)
        tap(calls)
        run(main, canceller, instruments=[canceller])
        where = f"checkpoint {number}"
        assert all(sock.closed for sock in calls.sockets), where
        assert [machine.snapshot().in_flight for machine in calls.machines] == [0] * len(calls.machines), (
            where
        )
        assert open_descriptors() == before, where
        if not canceller.scope.cancelled_caught:
            break
        number += 1
    assert number > least
