"""The process that outlives a daemon; what it does to a mount is in tests/mount/test_faults_daemon.py."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from smbmount.aftermath import is_ended
from tests.support.tools import Conversation, wait_until

NO_DEVICE = "0:1048575"


def daemon(then: str) -> Conversation:
    """A program that has one, tells its process id, and does something when it is spoken to."""
    source = f"""
import os, signal
from smbmount.aftermath import Aftermath
aftermath = Aftermath({NO_DEVICE!r})
print(open(f"/proc/self/task/{{os.getpid()}}/children").read(), flush=True)
input()
{then}
"""
    checkout = Path(__file__).resolve().parents[3]
    return Conversation("env", f"PYTHONPATH={checkout}", sys.executable, "-c", source, cwd=Path("/"))


def await_end(pid: int) -> None:
    wait_until(lambda: is_ended(pid), "the aftermath ends")


def blocks_signals(pid: int) -> bool:
    """Whether it has begun to wait."""
    blocked = next(line for line in Path(f"/proc/{pid}/status").read_text().split("\n") if "SigBlk" in line)
    return int(blocked.split()[1], 16) != 0


@pytest.mark.parametrize("then", ["", "os.kill(os.getpid(), signal.SIGKILL)", "aftermath.dismiss(); input()"])
def test_it_ends_with_its_daemon_however_that_ends(then: str) -> None:
    with daemon(then) as program:
        aftermath = int(program.hear())
        assert not is_ended(aftermath)
        program.say("go on")
        await_end(aftermath)


def test_no_signal_of_others_ends_it() -> None:
    with daemon("") as program:
        aftermath = int(program.hear())
        wait_until(lambda: blocks_signals(aftermath), "the aftermath waits")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(aftermath, number)
        assert not is_ended(aftermath)
        program.say("go on")
        await_end(aftermath)


def test_this_process_has_not_ended() -> None:
    assert not is_ended(os.getpid())
    assert is_ended(1 << 30)
