"""Tidies up after a server of the tests whose owner was killed and could not do it."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Final

# smbd ends when the pipe to its standard input closes, but not those of its processes that a test has frozen;
# and its RPC helper stays for half a minute.
_SCRIPT: Final = """
while read -r line; do
    [ "$line" != dismissed ] || exit
    group=$line
done
[ -z "$group" ] || kill -s KILL -- "-$group"
pid=$(cat "$1/pid/samba-dcerpcd.pid") && grep -qF "$1/" "/proc/$pid/cmdline" && kill -s KILL -- "-$pid"
for attempt in $(seq 100); do
    rm -rf "$1" && exit
    sleep 0.1
done
"""


class Janitor:
    """A process that outlives this one, to end the server in the folder `base` and remove that folder.

    It does so when this process ends without having called `dismiss`.
    """

    def __init__(self, base: Path) -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", _SCRIPT, "sh", base],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # What is sent to the process group of a test run does not reach it.
            start_new_session=True,
        )

    def watch(self, group: int | None) -> None:
        """Name the server's process group; None: it is gone, and its number may become somebody else's."""
        self._tell("" if group is None else str(group))

    def dismiss(self) -> None:
        """Nothing is left to tidy up."""
        self._tell("dismissed")
        self._process.communicate()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
