"""Write-behind: gathering, order, limits and errors."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Access, SmbError, ntstatus
from smbmount.vfs.signals import postpone_deadline
from smbmount.vfs.writebehind import (
    DWELL,
    FILE_LIMIT,
    LEAST_COST,
    USUAL_FILE_LIMIT,
    Target,
    WriteBehind,
    WriteBudget,
)
from smbmount.vfs.writewindow import FIRST_WINDOW, MAX_WINDOW
from tests.fakes.link import LinkedFile
from tests.fakes.share import FakeShare
from tests.fakes.share_files import FakeFile
from tests.support.substitute import substitute
from tests.unit.vfs.support import virtual_time

KIB = 1024
MIB = 1 << 20


class FakeWriter:
    """An open file that only keeps its errors."""

    def __init__(self, file: Target) -> None:
        self.file = file
        self.errors: list[SmbError | OSError] = []

    def fail(self, error: SmbError | OSError) -> None:
        self.errors.append(error)


class Bench:
    """One file, its write-behind and the share behind."""

    def __init__(self, nursery: trio.Nursery, *, mount_limit: int = 64 * MIB, chunk: int = MIB) -> None:
        self.share = FakeShare()
        self.node = self.share.put("f")
        self.budget = WriteBudget(mount_limit)
        self.failures = 0
        self.writer = self.new_writer()
        self.writes = self.new_writes(nursery, chunk)

    def new_writer(self) -> FakeWriter:
        return FakeWriter(FakeFile(self.share, "f", self.node, Access.WRITE, existed=True))

    def new_writes(self, nursery: trio.Nursery, chunk: int = MIB) -> WriteBehind:
        return WriteBehind(
            self.budget,
            nursery.start_soon,
            chunk=chunk,
            on_settled=self.count_failure,
            upload=self.share.upload,
        )

    def count_failure(self, failed: bool) -> None:
        self.failures += failed

    async def write(self, offset: int, data: bytes) -> None:
        await self.writes.wait_for_room(len(data))
        self.writes.add(self.writer, offset, data)

    def sent(self) -> list[tuple[object, ...]]:
        """Offset and length of each request, in the order in which they left."""
        return [call.arguments[1:] for call in self.share.calls if call.operation == "write_at"]


@asynccontextmanager
async def bench(*, mount_limit: int = 64 * MIB, chunk: int = MIB) -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        yield Bench(nursery, mount_limit=mount_limit, chunk=chunk)


@virtual_time
async def test_small_writes_are_gathered() -> None:
    async with bench() as b:
        for index in range(512):
            await b.write(index * 4 * KIB, bytes([index % 256]) * 4 * KIB)
        await b.writes.drain()
        assert b.sent() == [(0, MIB), (MIB, MIB)]
        assert bytes(b.node.data) == b"".join(bytes([index % 256]) * 4 * KIB for index in range(512))


@virtual_time
async def test_requests_are_no_larger_than_the_server_allows() -> None:
    async with bench(chunk=64 * KIB) as b:
        for index in range(8):
            await b.write(index * 16 * KIB, b"x" * 16 * KIB)
        await b.writes.drain()
        assert b.sent() == [(0, 64 * KIB), (64 * KIB, 64 * KIB)]


@virtual_time
async def test_an_unfinished_extent_goes_out_by_itself() -> None:
    async with bench() as b:
        await b.write(0, b"line")
        assert b.sent() == []
        await trio.sleep(DWELL * 1.1)
        assert bytes(b.node.data) == b"line"
        assert b.writes.dirty == 0


@virtual_time
async def test_large_writes_go_out_at_once_and_many_together() -> None:
    async with bench() as b:
        with b.share.hold("write_at"):
            for index in range(8):
                await b.write(index * MIB, bytes(MIB))
            await trio.testing.wait_all_tasks_blocked()
            assert b.share.in_flight == FIRST_WINDOW // MIB
        await b.writes.drain()
        assert b.sent() == [(index * MIB, MIB) for index in range(8)]


@virtual_time
async def test_requests_leave_in_the_order_of_the_writes() -> None:
    async with bench() as b:
        for index in range(40):
            await b.write(index * MIB, bytes(MIB))
            await b.write(index * MIB, bytes(4 * KIB))
        await b.writes.drain()
        assert b.sent() == [(index * MIB, length) for index in range(40) for length in (MIB, 4 * KIB)]


@virtual_time
async def test_small_writes_here_and_there_are_many_in_flight() -> None:
    async with bench() as b:
        with b.share.hold("write_at"):
            for index in range(100):
                await b.write(index * 8 * KIB, bytes(4 * KIB))
            b.writes.push()
            await trio.testing.wait_all_tasks_blocked()
            assert b.share.in_flight == FIRST_WINDOW // LEAST_COST
        await b.writes.drain()


@virtual_time
async def test_overlapping_writes_are_never_in_flight_together() -> None:
    async with bench() as b:
        with b.share.hold("write_at"):
            await b.write(0, b"a" * MIB)
            await b.write(MIB // 2, b"b" * MIB)
            await b.write(0, b"c" * KIB)
            b.writes.push()
            await trio.testing.wait_all_tasks_blocked()
            assert b.share.in_flight == 1
        await b.writes.drain()
        assert bytes(b.node.data) == b"c" * KIB + b"a" * (MIB // 2 - KIB) + b"b" * MIB


@virtual_time
async def test_drain_waits_for_what_was_written_before_it_only() -> None:
    async with bench() as b:
        await b.write(0, b"first")
        async with trio.open_nursery() as nursery:
            with b.share.hold("write_at"):
                drained = trio.Event()

                async def drain() -> None:
                    await b.writes.drain()
                    drained.set()

                nursery.start_soon(drain)
                await trio.testing.wait_all_tasks_blocked()
                await b.write(100, b"later")
                assert not drained.is_set()
        assert drained.is_set()
        assert b.writes.dirty == 5


@virtual_time
async def test_a_writer_waits_when_its_file_is_full() -> None:
    async with bench() as b:
        with b.share.hold("write_at"):
            for index in range(16):
                await b.write(index * MIB, bytes(MIB))
            with trio.move_on_after(1) as scope:
                await b.write(16 * MIB, bytes(MIB))
            assert scope.cancelled_caught
            assert b.writes.dirty == USUAL_FILE_LIMIT == 16 * MIB
        await b.write(16 * MIB, bytes(MIB))


async def write_through(file: LinkedFile, total: int) -> tuple[float, list[float]]:
    """Write 1 MiB at a time; bytes per second, and the window after each in MiB."""
    start = trio.current_time()
    windows = []
    async with trio.open_nursery() as nursery:
        budget = WriteBudget()
        writes = WriteBehind(
            budget, nursery.start_soon, chunk=MIB, on_settled=lambda failed: None, upload=lambda: (0, 0)
        )
        writer = FakeWriter(file)
        data = bytes(MIB)
        for offset in range(0, total, MIB):
            await writes.wait_for_room(MIB)
            writes.add(writer, offset, data)
            assert writes.dirty <= FILE_LIMIT
            windows.append(budget.window.size / MIB)
        await writes.drain()
        speed = total / (trio.current_time() - start)
    return speed, windows


@pytest.mark.parametrize(
    ("delay", "rate", "fighting", "total", "reaches", "least", "most"),
    [
        pytest.param(0.0003, 1e9, 0.0, 256 * MIB, 0.95, 2, 4, id="beside-us"),
        pytest.param(0.0003, 1e9, 1.0, 256 * MIB, 0.45, 2, 4, id="threads-that-fight"),
        pytest.param(0.01, 1e9, 0.0, 512 * MIB, 0.9, 10, 24, id="quick-and-far"),
        pytest.param(0.05, 1e9, 0.0, 1024 * MIB, 0.5, 32, 32, id="quick-and-very-far"),
        pytest.param(0.01, 125e6, 0.0, 256 * MIB, 0.95, 2, 8, id="gigabit"),
        pytest.param(0.02, 12.5e6, 0.0, 64 * MIB, 0.95, 2, 4, id="ordinary"),
    ],
)
def test_the_window_follows_the_time_of_an_answer(
    delay: float, rate: float, fighting: float, total: int, reaches: float, least: float, most: float
) -> None:
    @virtual_time
    async def run() -> None:
        file = LinkedFile(0, delay=delay, rate=rate, fighting=fighting)
        speed, windows = await write_through(file, total)
        assert speed > reaches * rate
        settled = windows[len(windows) // 2 :]
        assert least <= min(settled) <= max(settled) <= most

    run()


@virtual_time
async def test_a_window_that_nobody_fills_does_not_grow() -> None:
    file = LinkedFile(0, delay=0.01, rate=1e9)
    async with trio.open_nursery() as nursery:
        budget = WriteBudget()
        writes = WriteBehind(
            budget, nursery.start_soon, chunk=MIB, on_settled=lambda failed: None, upload=lambda: (0, 0)
        )
        for offset in range(0, 64 * MIB, MIB):
            writes.add(FakeWriter(file), offset, bytes(MIB))
            await trio.sleep(0.02)
    assert budget.window.size == FIRST_WINDOW


@virtual_time
async def test_a_window_of_a_link_that_became_slower_is_not_stuck_at_the_least() -> None:
    file = LinkedFile(0, delay=0.001, rate=1e9)
    async with trio.open_nursery() as nursery:
        budget = WriteBudget()
        writes = WriteBehind(
            budget, nursery.start_soon, chunk=MIB, on_settled=lambda failed: None, upload=lambda: (0, 0)
        )
        writer = FakeWriter(file)
        for index in range(512):
            file.delay = 0.001 if index < 128 else 0.02
            await writes.wait_for_room(MIB)
            writes.add(writer, index * MIB, bytes(MIB))
    assert 10 * MIB <= budget.window.size <= MAX_WINDOW


@virtual_time
async def test_writers_wait_when_the_mount_is_full_and_what_lies_around_is_sent() -> None:
    async with trio.open_nursery() as nursery:
        b = Bench(nursery, mount_limit=3 * KIB)
        other = b.new_writes(nursery)
        await other.wait_for_room(2 * KIB)
        other.add(b.writer, 100 * KIB, bytes(2 * KIB))
        start = trio.current_time()
        await b.write(0, bytes(2 * KIB))
        assert trio.current_time() - start < DWELL
        assert b.budget.used == 2 * KIB


@virtual_time
async def test_waiting_for_a_slow_server_postpones_the_deadline() -> None:
    async with bench() as b:
        with trio.fail_after(10) as scope:

            def postpone() -> None:
                scope.deadline = trio.current_time() + 10

            token = postpone_deadline.set(postpone)
            with b.share.hold("write_at"):
                await b.write(0, bytes(MIB))

            async def slow_write(offset: int, data: object) -> int:
                await trio.sleep(8)
                return 0

            substitute(b.writer.file.write_at)(slow_write)
            for index in range(1, 17):
                await b.write(index % 2, bytes(MIB))
            await b.writes.drain()
            postpone_deadline.reset(token)
        assert trio.current_time() > 100


@virtual_time
async def test_the_arrival_of_a_large_write_is_progress_but_not_what_others_send() -> None:
    async with trio.open_nursery() as nursery:
        b = Bench(nursery)
        handed = arrived = 0
        looks: list[float] = []
        writes = WriteBehind(
            b.budget,
            nursery.start_soon,
            chunk=MIB,
            on_settled=b.count_failure,
            upload=lambda: (handed, arrived),
        )
        token = postpone_deadline.set(lambda: looks.append(trio.current_time()))
        with b.share.hold("write_at"):
            writes.add(b.writer, 0, bytes(MIB))
            nursery.start_soon(writes.drain)
            await trio.testing.wait_all_tasks_blocked()
            handed = MIB
            for _ in range(8):
                await trio.sleep(5)
                arrived += MIB // 8
            assert len(looks) >= 7
            await trio.sleep(5)
            assert arrived == handed
            looks.clear()
            for _ in range(8):
                handed += MIB
                arrived += MIB
                await trio.sleep(5)
            assert looks == []
        postpone_deadline.reset(token)


@virtual_time
async def test_an_error_stays_with_its_writer_and_the_data_is_not_sent_again() -> None:
    async with bench() as b:
        b.share.fail_next("write_at", ntstatus.STATUS_DISK_FULL)
        other = b.new_writer()
        await b.write(0, b"lost")
        await b.writes.drain()
        b.writes.add(other, 100, b"kept")
        await b.writes.drain()
        assert [error.errno for error in b.writer.errors] == [errno.ENOSPC]
        assert other.errors == []
        assert b.failures == 1
        assert len(b.sent()) == 2
        assert (b.writes.dirty, b.budget.used) == (0, 0)


@pytest.mark.expected_warnings("a write ended in a mistake of this program")
@virtual_time
async def test_a_mistake_of_ours_is_an_error_of_the_writer() -> None:
    async with bench() as b:
        b.share.fail_next("write_at", ZeroDivisionError())
        await b.write(0, b"lost")
        await b.writes.drain()
        assert [error.errno for error in b.writer.errors] == [errno.EIO]


@virtual_time
async def test_data_that_the_end_of_the_mount_cut_off_is_an_error() -> None:
    async with trio.open_nursery() as nursery:
        b = Bench(nursery)
        with b.share.hold("write_at"):
            await b.write(0, bytes(MIB))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert [error.errno for error in b.writer.errors] == [errno.EIO]
    assert b.budget.used == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30), st.booleans()), min_size=1, max_size=40),
    st.integers(4, 40),
)
def test_any_sequence_of_writes_ends_as_if_done_in_order(
    writes: list[tuple[int, int, bool]], chunk: int
) -> None:
    @virtual_time
    async def run() -> None:
        async with bench(mount_limit=100, chunk=chunk) as b:
            expected = bytearray()
            for number, (offset, length, drain) in enumerate(writes):
                data = bytes([number + 1]) * length
                await b.write(offset, data)
                expected.extend(bytes(max(0, offset + length - len(expected))))
                expected[offset : offset + length] = data
                if drain:
                    await b.writes.drain()
                assert b.budget.used <= 100
            await b.writes.drain()
            assert b.node.data == expected

    run()
