"""The C library is told to keep freed memory: measured by the page faults of using it again."""

from __future__ import annotations

import subprocess
import sys

_CHURN = """
import resource, sys
from smbmount.allocator import keep_freed_memory

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
