"""What a killed daemon leaves: the kernel's connection is ended for it by a small process of its own.

The daemon's death ends the connection, once the last of its threads is gone. But a thread that has the kernel
forget pages waits for those that a READ or WRITE in the daemon's hands keeps locked. Killed at that moment,
the daemon never answers, the thread never ends, /dev/fuse stays open, and whoever is in the mount waits for
ever, beyond SIGKILL. So a process outside waits for the end of the daemon's main thread.

    python -I -S smbmount/aftermath.py PID DEVICE
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

if not __package__:
    # Without `site` the program is small, and finds only what is beside it.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from smbmount.mounttable import FUSE_TYPE, abort, read_mounts, topmost_mount

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG: Final = 1
_DEATH: Final = signal.SIGUSR1
_LOOKS: Final = 100
_LOOK_SECONDS: Final = 0.01
"""The signal comes a moment before the thread is seen to have ended; anybody else may send one too."""


class Aftermath:
    """The process that waits for this one's end, which it takes for that of the calling thread.

    `device` is that of the mount, `major:minor`.
    """

    def __init__(self, device: str) -> None:
        command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), device]
        self._process: subprocess.Popen[bytes] | None = None
        try:
            # A session of its own: no signal to the daemon's group ends it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,
            )
        except OSError as error:
            logger.info("nothing ends the kernel's connection if this process is killed: %s", error.strerror)

    def dismiss(self) -> None:
        """End it: the mount is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def is_ended(pid: int) -> bool:
    """Whether a process has ended, or at least its main thread, as after SIGKILL."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in b"ZX"
    except OSError:
        # /proc can be mounted so that it hides processes that live, the more as a daemon forbids core dumps.
        return not _exists(pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main(arguments: Sequence[str]) -> None:
    """Wait for the end of the parent process; if its mount is still on the table then, end its connection."""
    pid, device = int(arguments[0]), arguments[1]
    # systemd sends SIGTERM to the daemon's whole group: it may take its time to end in order.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _DEATH, 0, 0, 0)
    _wait_until(lambda: os.getppid() != pid or is_ended(pid))
    for entry in read_mounts():
        if (entry.device, entry.type) == (device, FUSE_TYPE) and topmost_mount(entry.mountpoint) == entry:
            with suppress(OSError):
                abort(entry)


def _wait_until(ended: Callable[[], bool]) -> None:
    while not ended():
        signal.sigwait({_DEATH})
        for _ in range(_LOOKS):
            if ended():
                return
            time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
