"""Read-ahead: what is fetched when, and what is forgotten."""

from __future__ import annotations

import errno
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Access, NtStatusError, ntstatus
from smbmount.vfs.readahead import STREAMS, ReadAhead
from smbmount.vfs.streams import CHUNK, EASY_WINDOW, IDLE_AFTER, KEEP_BEHIND, MAX_WINDOW, ReadBudget
from tests.fakes.link import LinkedFile
from tests.fakes.share import FakeShare
from tests.fakes.share_files import FakeFile
from tests.unit.vfs.support import refused, virtual_time

KIB = 1024
MIB = 1 << 20


class Bench:
    """One open file with a read-ahead window."""

    def __init__(self, nursery: trio.Nursery, size: int, limit: int = 64 * MIB) -> None:
        self.nursery = nursery
        self.share = FakeShare()
        self.content = random.Random(size).randbytes(size)
        self.node = self.share.put("f", self.content)
        self.budget = ReadBudget(limit)
        self.file, self.window = self.another()

    def another(self) -> tuple[FakeFile, ReadAhead]:
        file = FakeFile(self.share, "f", self.node, Access.READ, existed=True)
        return file, ReadAhead(file, self.budget, self.nursery.start_soon, chunk=MIB)

    async def read(self, offset: int, length: int) -> bytes:
        return bytes(await self.window.read(offset, length, len(self.node.data)))

    def fetched(self) -> list[tuple[object, ...]]:
        return [call.arguments[1:] for call in self.share.calls if call.operation == "read_at"]


@asynccontextmanager
async def bench(size: int, limit: int = 64 * MIB) -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        b = Bench(nursery, size, limit)
        yield b
        await b.window.close()
        assert b.budget.used == 0


@virtual_time
async def test_a_small_file_is_one_request() -> None:
    async with bench(100 * KIB) as b:
        assert await b.read(0, 128 * KIB) == b.content
        assert b.fetched() == [(0, 100 * KIB)]


@virtual_time
async def test_a_file_read_from_front_to_back_is_fetched_ahead_and_only_once() -> None:
    async with bench(40 * MIB + 17) as b:
        position = 0
        while position < len(b.content):
            piece = await b.read(position, 128 * KIB)
            assert piece == b.content[position : position + 128 * KIB]
            position += len(piece)
        assert sum(int(str(length)) for _, length in b.fetched()) == len(b.content)
        assert b.share.most_in_flight >= 8
        assert len(b.fetched()) < 70


@virtual_time
async def test_the_window_grows_under_reads_as_large_as_a_chunk() -> None:
    async with bench(40 * MIB) as b:
        for position in range(0, 40 * MIB, MIB):
            assert await b.read(position, MIB) == b.content[position : position + MIB]
        assert sum(int(str(length)) for _, length in b.fetched()) == len(b.content)
        assert b.share.most_in_flight >= 8


@virtual_time
async def test_full_speed_has_the_whole_window_in_flight() -> None:
    async with bench(80 * MIB) as b:
        for position in range(0, 24 * MIB, 128 * KIB):
            await b.read(position, 128 * KIB)
        assert MAX_WINDOW <= b.budget.used <= MAX_WINDOW + KEEP_BEHIND + 2 * CHUNK


@virtual_time
async def test_an_aligned_read_is_a_slice_of_what_was_fetched() -> None:
    async with bench(4 * MIB) as b:
        for position in range(0, 4 * MIB, 128 * KIB):
            assert isinstance(await b.window.read(position, 128 * KIB, 4 * MIB), memoryview)


@virtual_time
async def test_the_first_read_fetches_little_ahead() -> None:
    async with bench(100 * MIB) as b:
        await b.read(0, 4 * KIB)
        assert b.fetched() == [(0, 256 * KIB)]


@virtual_time
async def test_a_large_first_read_fetches_as_much_again() -> None:
    async with bench(100 * MIB) as b:
        await b.read(0, MIB)
        assert b.fetched() == [(0, MIB), *((MIB + 256 * KIB * index, 256 * KIB) for index in range(4))]


@virtual_time
async def test_requests_leave_in_the_order_of_the_file() -> None:
    async with bench(40 * MIB) as b:
        for position in range(0, 40 * MIB, MIB):
            await b.read(position, MIB)
        assert b.fetched() == sorted(b.fetched())


@virtual_time
async def test_reads_here_and_there_fetch_just_what_is_asked() -> None:
    async with bench(64 * MIB) as b:
        for offset in (5 * MIB, 3 * MIB, 60 * MIB, 9 * MIB):
            assert await b.read(offset, 4 * KIB) == b.content[offset : offset + 4 * KIB]
        assert b.fetched() == [(offset, 4 * KIB) for offset in (5 * MIB, 3 * MIB, 60 * MIB, 9 * MIB)]


@virtual_time
async def test_a_reader_may_start_in_the_middle() -> None:
    async with bench(8 * MIB) as b:
        position = MIB + 5
        while position < 8 * MIB:
            piece = await b.read(position, 100 * KIB)
            assert piece == b.content[position : position + 100 * KIB]
            position += len(piece)
        assert b.share.count("read_at") < 40


@virtual_time
async def test_behind_the_end_there_is_nothing() -> None:
    async with bench(10) as b:
        assert await b.read(10, 100) == b""
        assert await b.read(5, 100) == b.content[5:]


@virtual_time
async def test_a_failed_prefetch_tells_only_those_who_read_that_range() -> None:
    async with bench(2 * MIB) as b:
        await b.read(0, 128 * KIB)
        b.share.fail_next("read_at", ntstatus.STATUS_ACCESS_DENIED, times=4)
        assert await b.read(128 * KIB, 128 * KIB) == b.content[128 * KIB : 256 * KIB]
        await trio.testing.wait_all_tasks_blocked()
        assert [length for _, length in b.fetched()[1:]] == 4 * [128 * KIB]
        with refused(errno.EACCES):
            await b.read(256 * KIB, 128 * KIB)
        assert await b.read(256 * KIB, 128 * KIB) == b.content[256 * KIB : 384 * KIB]


@pytest.mark.expected_warnings("a read ended in a mistake of this program")
@virtual_time
async def test_a_mistake_of_ours_is_an_error_of_that_read() -> None:
    async with bench(10) as b:
        b.share.fail_next("read_at", ZeroDivisionError())
        with refused(errno.EIO):
            await b.read(0, 10)


@virtual_time
async def test_dropped_data_is_fetched_again() -> None:
    async with bench(MIB) as b:
        await b.read(0, 128 * KIB)
        b.node.data[:] = bytes(MIB)
        b.window.drop()
        assert await b.read(0, 128 * KIB) == bytes(128 * KIB)


@virtual_time
async def test_a_read_that_waits_for_dropped_data_asks_for_itself() -> None:
    async with bench(MIB) as b:
        results: list[bytes] = []

        async def read() -> None:
            results.append(await b.read(0, 128 * KIB))

        async with trio.open_nursery() as nursery:
            with b.share.hold("read_at"):
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                b.window.drop()
        assert results == [b.content[: 128 * KIB]]


@virtual_time
async def test_a_file_that_shrank_ends_early() -> None:
    async with bench(MIB) as b:
        await b.read(0, 128 * KIB)
        del b.node.data[200 * KIB :]
        b.window.drop()
        assert await b.window.read(0, 256 * KIB, MIB) == b.content[: 200 * KIB]


@virtual_time
async def test_close_leaves_no_task() -> None:
    async with trio.open_nursery() as nursery:
        b = Bench(nursery, 8 * MIB)
        await b.read(0, 128 * KIB)
        with b.share.hold("read_at"):
            await b.read(128 * KIB, 128 * KIB)
            await trio.testing.wait_all_tasks_blocked()
            await b.window.close()
            assert len(nursery.child_tasks) == 0


@virtual_time
async def test_all_windows_together_are_bounded_and_the_oldest_gives_way() -> None:
    async with trio.open_nursery() as nursery:
        b = Bench(nursery, 8 * MIB, limit=2 * MIB)
        windows = [b.another() for _ in range(20)]
        for position in range(0, MIB, 128 * KIB):
            for _, window in windows:
                data = await window.read(position, 128 * KIB, 8 * MIB)
                assert data == b.content[position : position + 128 * KIB]
                assert b.budget.used <= 2 * MIB
        for _, window in windows:
            await window.close()
        assert b.budget.used == 0


@virtual_time
async def test_several_places_of_one_file_are_each_fetched_ahead() -> None:
    async with bench(32 * MIB) as b:
        for step in range(0, 8 * MIB, 128 * KIB):
            for start in (0, 8 * MIB, 16 * MIB, 24 * MIB):
                at = start + step
                assert await b.read(at, 128 * KIB) == b.content[at : at + 128 * KIB]
        ahead = [length for _, length in b.fetched() if int(str(length)) > 128 * KIB]
        assert len(ahead) > 20
        assert len(b.fetched()) < 100
        assert b.share.most_in_flight >= 8


@virtual_time
async def test_a_reader_who_stops_gives_its_stream_to_one_who_begins() -> None:
    async with bench(64 * MIB) as b:
        for start in range(STREAMS + 1):
            for position in (start * 4 * MIB, start * 4 * MIB + 4 * KIB):
                await b.read(position, 4 * KIB)
        before = len(b.fetched())
        await b.read(8 * KIB, 4 * KIB)
        assert b.fetched()[before] == (8 * KIB, 248 * KIB)


@virtual_time
async def test_reads_here_and_there_beside_a_stream_leave_it_alone() -> None:
    async with bench(64 * MIB) as b:
        rng = random.Random(1)
        elsewhere: list[tuple[object, ...]] = []
        for position in range(0, 4 * MIB, 128 * KIB):
            await b.read(position, 128 * KIB)
            offset = rng.randrange(40 * MIB, 60 * MIB) // 4096 * 4096
            elsewhere.append((offset, 4 * KIB))
            await b.read(offset, 4 * KIB)
        assert [call for call in b.fetched() if int(str(call[0])) >= 40 * MIB] == elsewhere
        assert len(b.fetched()) - len(elsewhere) < 20


@virtual_time
async def test_reads_here_and_there_are_all_in_flight_together() -> None:
    async with bench(64 * MIB) as b:
        async with trio.open_nursery() as nursery:
            with b.share.hold("read_at"):
                for index in range(50):
                    nursery.start_soon(b.read, MIB + index * 1001 * KIB, 4 * KIB)
                await trio.testing.wait_all_tasks_blocked()
                assert b.share.in_flight == 50
        assert {length for _, length in b.fetched()} == {4 * KIB}


@virtual_time
async def test_what_is_there_is_read_without_a_checkpoint() -> None:
    async with bench(MIB) as b:
        await b.read(0, 128 * KIB)
        await b.read(128 * KIB, 128 * KIB)
        await trio.testing.wait_all_tasks_blocked()
        with trio.testing.assert_no_checkpoints():
            await b.read(256 * KIB, 128 * KIB)


async def read_through(file: LinkedFile, budget: ReadBudget, piece: int = 128 * KIB) -> float:
    """Read all of a file as the kernel does; bytes per second."""
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        window = ReadAhead(file, budget, nursery.start_soon, chunk=MIB)
        for position in range(0, file.size, piece):
            await window.read(position, piece, file.size)
        await window.close()
    return file.size / (trio.current_time() - start)


@pytest.mark.parametrize(
    ("delay", "rate", "size", "reaches", "least", "most"),
    [
        pytest.param(0.0003, 1e9, 256 * MIB, 0.9, 2, 12, id="beside-us"),
        pytest.param(0.01, 1e9, 512 * MIB, 0.8, 16, 33, id="quick-and-far"),
        pytest.param(0.05, 1e9, 1024 * MIB, 0.5, 32, 33, id="quick-and-very-far"),
        pytest.param(0.02, 12.5e6, 64 * MIB, 0.9, 0.25, 3, id="ordinary"),
        pytest.param(0.04, 1e6, 8 * MIB, 0.9, 0.1, 1.5, id="slow"),
    ],
)
def test_the_window_follows_bandwidth_and_delay(
    delay: float, rate: float, size: int, reaches: float, least: float, most: float
) -> None:
    @virtual_time
    async def run() -> None:
        file = LinkedFile(size, delay=delay, rate=rate)
        assert await read_through(file, ReadBudget()) > reaches * rate
        assert least * MIB <= file.most_in_flight <= most * MIB

    run()


@virtual_time
async def test_the_window_grows_with_what_was_read() -> None:
    # By doubling alone from its first size it would be 220 MB/s.
    file = LinkedFile(16 * MIB, delay=0.01, rate=1e9)
    assert await read_through(file, ReadBudget(), piece=MIB) > 280e6


@virtual_time
async def test_large_reads_leave_a_slow_line_to_others() -> None:
    file = LinkedFile(8 * MIB, delay=0.04, rate=1e6)
    await read_through(file, ReadBudget(), piece=MIB)
    assert file.most_in_flight <= 2 * MIB


@virtual_time
async def test_a_reader_slower_than_the_link_has_little_fetched_ahead() -> None:
    file = LinkedFile(64 * MIB, delay=0.02, rate=1e9)
    async with trio.open_nursery() as nursery:
        budget = ReadBudget()
        window = ReadAhead(file, budget, nursery.start_soon, chunk=MIB)
        for position in range(0, file.size, 128 * KIB):
            await window.read(position, 128 * KIB, file.size)
            await trio.sleep(0.01)
            assert budget.used <= EASY_WINDOW + KEEP_BEHIND + CHUNK
        await window.close()


@virtual_time
async def test_a_stream_that_nobody_reads_gives_way_but_not_one_in_use() -> None:
    async with trio.open_nursery() as nursery:
        b = Bench(nursery, 8 * MIB, limit=700 * KIB)
        others = [b.another()[1] for _ in range(2)]
        for window in others:
            await window.read(0, 128 * KIB, 8 * MIB)
        assert b.budget.used == 512 * KIB
        assert await b.read(0, 64 * KIB) == b.content[: 64 * KIB]
        assert b.fetched()[-1] == (0, 64 * KIB)
        await trio.sleep(IDLE_AFTER * 1.1)
        await others[1].read(0, 64 * KIB, 8 * MIB)
        assert await b.read(64 * KIB, 64 * KIB) == b.content[64 * KIB : 128 * KIB]
        assert b.fetched()[-1] == (64 * KIB, 192 * KIB)
        for window in (*others, b.window):
            await window.close()
        assert b.budget.used == 0


@virtual_time
async def test_what_nobody_reads_can_be_given_up() -> None:
    async with bench(8 * MIB) as b:
        await b.read(0, 128 * KIB)
        b.budget.drop_idle()
        assert b.budget.used == 256 * KIB
        await trio.sleep(IDLE_AFTER * 1.1)
        b.budget.drop_idle()
        assert b.budget.used == 0
        assert await b.read(128 * KIB, 128 * KIB) == b.content[128 * KIB : 256 * KIB]
        assert b.budget.used > 0


@virtual_time
async def test_readers_of_several_files_share_the_room() -> None:
    files = [LinkedFile(64 * MIB, delay=0.02, rate=1e9) for _ in range(4)]
    async with trio.open_nursery() as nursery:
        budget = ReadBudget(16 * MIB)
        async with trio.open_nursery() as readers:
            for file in files:
                readers.start_soon(read_through, file, budget)
        assert budget.used == 0
        nursery.cancel_scope.cancel()
    assert all(sum(length for _, length in file.requests) < 1.1 * file.size for file in files)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3 * MIB), st.integers(1, MIB), st.booleans()), max_size=25),
    st.integers(0, 3 * MIB),
)
def test_any_sequence_of_reads_gets_the_files_bytes(reads: list[tuple[int, int, bool]], size: int) -> None:
    @virtual_time
    async def run() -> None:
        async with bench(size, limit=MIB) as b:
            position = 0
            for offset, length, continues in reads:
                start = position if continues else offset
                try:
                    data = await b.read(start, length)
                except NtStatusError:
                    pytest.fail("nothing was made to fail")
                assert data == b.content[start : start + length]
                position = start + len(data)

    run()
