"""What every throw-away server of the tests has: one folder, one leading process, and a clean end.

Standard library only, and nothing of pytest, so that `scripts/demo` can use it too.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.janitor import Janitor

LOOPBACK: Final = "127.0.0.1"

_START_DEADLINE: Final = 60.0
_STOP_DEADLINE: Final = 10.0
_COMMAND_DEADLINE: Final = 60.0
_PORTS: Final = range(20_000, 32_000)
"""Below the range from which Linux takes ports for outgoing connections, so a restart gets its port back."""

_BINARY_PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


class HarnessError(Exception):
    """The server could not be started, stopped or asked; the message is one that a person can act on."""


class ThrowAwayServer(ABC):
    """A server of Samba's that listens at `address` and `port`; a context manager, or `start()` and `stop()`.

    `stop()` ends every process it started and removes its folder, and so does a janitor if the process that
    started it is killed. A kind of server says how its folder is made and filled, and what is run on it.
    """

    def __init__(self, address: str, port: int, global_options: Mapping[str, str] | None = None) -> None:
        self.address = address
        self.port = port
        self._global_options = dict(global_options or {})
        self._base: Path | None = None
        self._janitor: Janitor | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # What a kind of server says

    @abstractmethod
    def _make_base(self) -> Path:
        """Make the new folder that holds everything."""

    @abstractmethod
    def _prepare(self) -> None:
        """Fill the folder before the first start."""

    @property
    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """What is run in the foreground. It has to end when a pipe at its standard input does, so as not to
        outlive us."""

    @abstractmethod
    def _render_conf(self) -> str:
        """The text of its `smb.conf`, with `_global_options` in it."""

    @property
    def _ports(self) -> Sequence[int]:
        """Where it accepts connections once it is up."""
        return [self.port]

    @property
    def environ(self) -> dict[str, str]:
        """The environment of its programs."""
        return dict(os.environ)

    # Life and death

    def start(self) -> None:
        """Make the folder and what is in it, start the server, wait until it accepts connections."""
        try:
            self._base = self._make_base()
            self._janitor = Janitor(self._base)
            self._prepare()
            self.resume_service()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and remove what it left; harmless when it never started."""
        self.stop_service()
        if self._base is not None:
            shutil.rmtree(self._base, ignore_errors=True)
            self._base = None
        if self._janitor is not None:
            self._janitor.dismiss()
            self._janitor = None

    def restart(self) -> None:
        """End the server with all its connections and start it again: same port, folders, users."""
        self.stop_service()
        self.resume_service()

    def resume_service(self) -> None:
        """Start the server on the folders that are there and wait until it accepts connections."""
        with (self.base / "console").open("ab") as console:
            process = self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=console,
                env=self.environ,
                start_new_session=True,
            )
        assert self._janitor is not None
        self._janitor.watch(process.pid)
        deadline = time.monotonic() + _START_DEADLINE
        while not all(self._accepts(port) for port in self._ports):
            if process.poll() is not None or time.monotonic() > deadline:
                raise HarnessError(
                    f"{type(self).__name__} did not start on {self.address} port {self.port}:\n"
                    f"{self.log_text()[-4000:]}"
                )

    def stop_service(self) -> None:
        """End the server and every process it started, connections included; the folders stay."""
        process, self._process = self._process, None
        if process is None:
            return
        # Until the leader is reaped, its id and that of its group cannot be anyone else's; Popen's own
        # methods would reap it on the way.
        if process.returncode is None:
            os.kill(process.pid, signal.SIGTERM)
            _wait_until(lambda: _has_exited(process.pid), _STOP_DEADLINE)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert self._janitor is not None
        self._janitor.watch(None)
        if process.stdin is not None:
            process.stdin.close()
        self._end_rpc_helper()

    def _end_rpc_helper(self) -> None:
        """End samba-dcerpcd, which is started on demand and which leaves its process group."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pid = int((self.base / "pid" / "samba-dcerpcd.pid").read_text())
            if os.fsencode(self.conf) in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.killpg(pid, signal.SIGKILL)

    def _accepts(self, port: int) -> bool:
        try:
            socket.create_connection((self.address, port), timeout=1.0).close()
        except OSError:
            time.sleep(0.01)
            return False
        return True

    # What it is

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._process is not None

    @property
    def base(self) -> Path:
        """The folder that holds everything of this server."""
        if self._base is None:
            raise HarnessError(f"this {type(self).__name__} was not started")
        return self._base

    @property
    def conf(self) -> Path:
        """Its `smb.conf`."""
        return self.base / "smb.conf"

    def log_text(self) -> str:
        """Everything that the server and its helpers have logged so far."""
        if self._base is None:
            return ""
        files = [self._base / "console", *sorted((self._base / "log").glob("*"))]
        return "\n".join(file.read_text(errors="replace") for file in files if file.is_file())

    # What can be done with it

    def smbstatus(self, *arguments: str) -> str:
        """What `smbstatus` says: connections, shares in use, open files."""
        return self._run([*self._program("smbstatus"), "-s", str(self.conf), *arguments]).stdout

    def smbcontrol(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Send smbd a message: `server.smbcontrol("smbd", "close-share", "data")`."""
        return self._run([*self._program("smbcontrol"), "-s", str(self.conf), *arguments], check=check)

    @contextlib.contextmanager
    def configured(self, **options: str) -> Iterator[None]:
        """Have the file server follow other options, `_` being a blank, until the block ends."""
        before = self._global_options
        try:
            self._configure({**before, **{name.replace("_", " "): value for name, value in options.items()}})
            yield
        finally:
            self._configure(before)

    def _configure(self, options: dict[str, str]) -> None:
        self._global_options = options
        self.conf.write_text(self._render_conf())
        self.smbcontrol("smbd", "reload-config")
        # Messages are answered in their order, so after this it has been read.
        self.smbcontrol("smbd", "ping")

    def _program(self, name: str) -> list[str]:
        """The command line, but for its arguments, of a program that belongs to the server."""
        return [binary(name)]

    def _run(
        self,
        command: Sequence[str],
        *,
        check: bool = True,
        stdin: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_DEADLINE,
            env={**self.environ, **(environ or {})},
            check=False,
        )
        if check and done.returncode != 0:
            raise HarnessError(f"{Path(command[0]).name} failed: {done.stdout}{done.stderr}")
        return done


def sections(parts: Mapping[str, Mapping[str, str]]) -> str:
    """The text of an `smb.conf`."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"\t{key} = {value}\n" for key, value in options.items())
        for name, options in parts.items()
    )


def binary(name: str) -> str:
    """The path of a program that has to be installed."""
    path = shutil.which(name, path=_BINARY_PATH)
    if path is None:
        raise HarnessError(f"{name} is not installed: run scripts/test, or apt-get install samba smbclient")
    return path


def free_port() -> int:
    """A port on which nobody listens."""
    for port in random.sample(_PORTS, 100):
        if is_free(LOOPBACK, port):
            return port
    raise HarnessError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def is_free(address: str, port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def free_address(*ports: int) -> str:
    """An address of the loopback network on which nobody, of this test run or another, has the ports."""
    for _ in range(100):
        address = ".".join(("127", *(str(random.randint(1, 254)) for _ in range(3))))
        if all(is_free(address, port) for port in ports):
            return address
    raise HarnessError(f"no loopback address has the ports {ports} free: does a server have them on all?")


def _has_exited(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
