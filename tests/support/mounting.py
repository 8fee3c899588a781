"""A mount made by the real command line, for the tests: `python -m smbmount … -f` as a child process.

A test gets the mount when it answers, and fails when the daemon dies, does not end, ends with another
exit code than 0, or logs a traceback or a warning that the test did not announce.
"""

from __future__ import annotations

import errno
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from smbmount.mounttable import detach, topmost_mount

CHECKOUT: Final = Path(__file__).resolve().parents[2]

_START_DEADLINE: Final = 30.0
_STOP_DEADLINE: Final = 30.0
_STATISTICS: Final = "smbmount.statistics: statistics: "
_STATISTICS_DEADLINE: Final = 10.0
_COMPLAINT: Final = re.compile(r"Traceback \(most recent call last\)|\b(?:WARNING|ERROR|CRITICAL)\b")

_live: Final[set[Mount]] = set()


class MountError(AssertionError):
    """The mount did not do what a mount has to; the message holds the daemon's log."""


class Served(Protocol):
    """What a mount has to know of a server."""

    port: int

    @property
    def credentials_file(self) -> Path: ...

    def unc(self, share: str = "data") -> str: ...

    def smbstatus(self, *arguments: str) -> str: ...


class Mount:
    """One mount of `//server/share[/folder]` and the daemon behind it; a context manager.

    `options` are added to `-o port=…,credentials=…`, those of the server unless others are given, none with
    `ticket`. `environ` is added to this process's environment, and
    `command_prefix` goes before the command, as in `["prlimit", "--as=150000000"]`.
    """

    def __init__(
        self,
        server: Served,
        mountpoint: Path,
        *,
        share: str = "data",
        folder: str = "",
        options: Sequence[str] = (),
        credentials: Path | None = None,
        guest: bool = False,
        ticket: bool = False,
        environ: Mapping[str, str] | None = None,
        command_prefix: Sequence[str] = (),
    ) -> None:
        self.path = mountpoint
        self.server = server
        self.source = server.unc(share) + (f"/{folder}" if folder else "")
        who = "guest" if guest else f"credentials={credentials or server.credentials_file}"
        self.options = [f"port={server.port}", *([] if ticket else [who]), *options]
        self._environ = dict(environ or {})
        self._command_prefix = list(command_prefix)
        self._expected: list[re.Pattern[str]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._exit_code: int | None = None
        self.log_path = Path(tempfile.gettempdir(), f"smbmount-log-{uuid.uuid4().hex}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.close()
        finally:
            self.destroy()

    @property
    def command(self) -> list[str]:
        """The command line of the daemon."""
        arguments = [self.source, str(self.path), "-o", ",".join(self.options), "-f"]
        # The daemon gets SIGTERM when this process dies, however it dies.
        return [
            *self._command_prefix,
            *("setpriv", "--pdeathsig", "TERM"),
            *(sys.executable, "-m", "smbmount"),
            *arguments,
        ]

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return self._running().pid

    def start(self) -> None:
        """Start the daemon and return when the mount answers; `MountError` when it dies or takes too long."""
        # What a killed daemon left answers from the kernel's cache too, but not this.
        look = os.statvfs if self._is_mounted() else os.stat
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT), **self._environ},
            )
        self._exit_code = None
        _live.add(self)
        try:
            if not self._wait_for(lambda: self._is_served(look) or self._has_exited(), _START_DEADLINE):
                raise self._error(f"no mount after {_START_DEADLINE} s")
            if self._has_exited():
                raise self._error(f"the daemon ended with exit code {self._running().returncode}")
        except BaseException:
            self.destroy()
            raise

    def close(self) -> None:
        """Unmount unless the test ended the daemon itself, then check what the daemon logged."""
        if self._process is not None:
            if self._has_exited():
                raise self._error(f"the daemon ended by itself with exit code {self._process.returncode}")
            self.unmount()
        self.check_log()

    def unmount(self) -> None:
        """`fusermount3 -u`, then wait for the daemon, which has to end with exit code 0."""
        done = subprocess.run(
            ["fusermount3", "-u", "--", self.path],
            capture_output=True,
            text=True,
            timeout=_STOP_DEADLINE,
            check=False,
        )
        if done.returncode != 0:
            raise self._error(f"fusermount3 -u failed: {done.stderr.strip()}")
        code = self.wait_exit()
        if code != 0:
            raise self._error(f"after fusermount3 -u the daemon ended with exit code {code}")

    def signal(self, number: signal.Signals) -> None:
        """Send the daemon a signal; `wait_exit` afterwards if it is one that ends it."""
        os.kill(self.pid, number)

    def wait_exit(self, seconds: float = _STOP_DEADLINE) -> int:
        """Wait for the daemon's end and return its exit code (negative: the signal that killed it)."""
        try:
            self._exit_code = self._running().wait(seconds)
        except subprocess.TimeoutExpired:
            raise self._error(f"the daemon did not end within {seconds} s") from None
        self._process = None
        return self._exit_code

    def destroy(self) -> None:
        """Leave no process, no mount and no file behind, whatever state they are in.

        What the daemon logged goes to standard output, where pytest shows it for a test that failed.
        """
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        while self._is_mounted():
            detach(str(self.path))
        if text := self.log_text():
            sys.stdout.write(f"--- log of the daemon for {self.source} ---\n{text}")
        self.log_path.unlink(missing_ok=True)
        _live.discard(self)

    def statistics(self) -> dict[str, Any]:
        """The counters of the daemon's connection, as it writes them to its log at SIGUSR1."""
        known = self.log_text().count(_STATISTICS)
        self.signal(signal.SIGUSR1)
        deadline = time.monotonic() + _STATISTICS_DEADLINE
        while self.log_text().count(_STATISTICS) == known or not self.log_text().endswith("\n"):
            if self._has_exited() or time.monotonic() > deadline:
                raise self._error("no statistics")
            time.sleep(0.002)
        counters: dict[str, Any] = json.loads(self.log_text().rpartition(_STATISTICS)[2])
        return counters

    def abort(self) -> None:
        """Kill the daemon: every call that waits in this mount fails at once."""
        if self._process is not None:
            self._process.kill()

    def expect_log(self, pattern: str) -> None:
        """Announce that log lines which `pattern` (a regular expression) finds are no failure."""
        self._expected.append(re.compile(pattern))

    def log_text(self) -> str:
        """All that the daemon has written to its standard output and error so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def check_log(self) -> None:
        """Raise `MountError` for a traceback or an unannounced warning in the daemon's log."""
        for line in self.log_text().splitlines():
            if _COMPLAINT.search(line) and not any(expected.search(line) for expected in self._expected):
                raise self._error(f"undeclared in the daemon's log: {line}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise self._error("the daemon is not running")
        return self._process

    def _has_exited(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _is_mounted(self) -> bool:
        return topmost_mount(str(self.path)) is not None

    def _is_served(self, look: Callable[[Path], object]) -> bool:
        """Whether a mount is there, and not only the one that a killed daemon left."""
        try:
            return self._is_mounted() and bool(look(self.path))
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            return False

    def _error(self, what: str) -> MountError:
        return MountError(f"{self.source} at {self.path}: {what}\n--- daemon's log ---\n{self.log_text()}")

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until `condition` holds, looking at each change of the mount table and at the daemon's end."""
        deadline = time.monotonic() + seconds
        daemon = os.pidfd_open(self._running().pid)
        try:
            with open("/proc/self/mountinfo", "rb") as table:
                poller = select.poll()
                poller.register(table, select.POLLPRI)
                poller.register(daemon, select.POLLIN)
                while not condition():
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        return False
                    poller.poll(remaining * 1000)
            return True
        finally:
            os.close(daemon)


def abort_all() -> None:
    """Kill the daemon of every mount there is, so that nothing can stay blocked in one."""
    for mount in list(_live):
        mount.abort()
