"""The C library is told to keep freed memory: measured by the page faults of using it again."""

from __future__ import annotations

import gc
import subprocess
import sys

import trio
from trio.testing import MockClock

from smbmount.allocator import REST_SECONDS, collect_garbage_less_often, rest

_CHURN = """
import resource, sys
import trio
from trio.testing import MockClock

from smbmount.allocator import REST_SECONDS, keep_freed_memory, rest

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        held = [bytes(1 << 20) for _ in range(4)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults(2)
print(faults(50))
"""


def _faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _CHURN, how], capture_output=True, text=True, timeout=60, check=True
    )
    return int(done.stdout)


def test_memory_that_is_used_again_causes_no_page_faults() -> None:
    assert _faults("keep") < 500 < _faults("default")


def test_memory_is_given_back_once_after_data_moved_and_rested() -> None:
    released: list[float] = []
    moved = 0

    async def main() -> None:
        nonlocal moved
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rest, lambda: moved, lambda: released.append(trio.current_time() - began))
            await trio.sleep(10 * REST_SECONDS)
            assert released == [], "nothing has moved"
            for _ in range(30):
                await trio.sleep(REST_SECONDS / 10)
                moved += 1 << 20
            assert released == [], "data moves all the time"
            await trio.sleep(2 * REST_SECONDS)
            assert len(released) == 1
            await trio.sleep(10 * REST_SECONDS)
            assert len(released) == 1
            nursery.cancel_scope.cancel()

    clock = MockClock(autojump_threshold=0)
    began = clock.current_time()
    trio.run(main, clock=clock)


def test_garbage_is_looked_for_less_often() -> None:
    before = gc.get_threshold()
    try:
        collect_garbage_less_often()
        assert gc.isenabled()
        assert gc.get_threshold()[0] > 5 * before[0]
        assert gc.get_threshold()[1:] == before[1:]
    finally:
        gc.set_threshold(*before)
