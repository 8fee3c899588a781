"""What the tests of the throw-away servers share: looking for what one left, and killing its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.mounting import CHECKOUT
from tests.support.samba import SambaServer

# The server it starts has RPC helpers, and a connection that is frozen and so cannot end by itself.
_OWNER: Final = """
import os, signal, socket
from {module} import {kind}
server = {kind}()
server.start()
server.list_shares()
connection = socket.create_connection((server.address, server.port))
while not (pids := server.connection_pids()):
    pass
for pid in pids:
    os.kill(pid, signal.SIGSTOP)
print(server.base, flush=True)
input()
"""


def processes_of(base: Path) -> list[int]:
    """The processes that have `base` in their command line or mounted."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                texts = [(entry / name).read_bytes() for name in ("cmdline", "mountinfo")]
            except OSError:  # it has ended meanwhile
                continue
            if any(os.fsencode(base) in text for text in texts):
                found.append(int(entry.name))
    return found


def server_of_a_killed_process(kind: type[SambaServer]) -> Path:
    """Have another process start a server and use it, and kill that process; returns the server's folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER.format(module=kind.__module__, kind=kind.__name__)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        base = Path(process.stdout.readline().strip())
        assert base.is_absolute()
        assert processes_of(base)
        process.send_signal(signal.SIGKILL)
    return base
