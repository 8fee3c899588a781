"""What is done to the processes of a throw-away server that serve its connections."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.samba import SambaServer


@contextmanager
def frozen(server: SambaServer) -> Iterator[None]:
    """Stop the processes that serve the connections, without closing anything."""
    pids = server.connection_pids()
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            # One that was dying already is gone as soon as its parent goes on.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def kill_connections(server: SambaServer) -> None:
    """Kill the processes that serve the connections."""
    pids = server.connection_pids()
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
