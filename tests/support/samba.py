"""A throw-away Samba server on a loopback port, for the tests and for `scripts/demo`.

Standard library only, and nothing of pytest, so that both can use it. Every server has its own port,
its own folders and its own user database; nothing of the machine's own Samba is read or changed.

As root the server's user is a system user `smbtest`, made once; otherwise it is whoever runs this,
because an smbd without privileges can serve nobody else.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.janitor import Janitor
from tests.support.samba_defaults import DEFAULT_GLOBAL_OPTIONS, DEFAULT_SHARE_OPTIONS

LOOPBACK: Final = "127.0.0.1"
TEST_USER: Final = "smbtest"
TEST_PASSWORD: Final = "correct, horse=battery"
"""With a comma, a blank and an equals sign: characters that careless parsers of options trip over."""

GUEST_GLOBAL_OPTIONS: Final[Mapping[str, str]] = {"map to guest": "bad user"}
GUEST_SHARE_OPTIONS: Final[Mapping[str, str]] = {"guest ok": "yes"}
DURABLE_SHARE_OPTIONS: Final[Mapping[str, str]] = {
    "kernel oplocks": "no",
    "kernel share modes": "no",
    "posix locking": "no",
}
"""What Samba demands of a share before it grants durable handles."""

_START_DEADLINE: Final = 15.0
_STOP_DEADLINE: Final = 10.0
_COMMAND_DEADLINE: Final = 30.0
_PORTS: Final = range(20_000, 32_000)
"""Below the range from which Linux takes ports for outgoing connections, so a restart gets its port back."""

_BINARY_PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


class HarnessError(Exception):
    """The server could not be started, stopped or asked; the message is one that a person can act on."""


@dataclass(frozen=True, slots=True)
class ShareConfig:
    """One share: the folder it shows, which its user must be able to reach, and its options.

    None as `path` = a new folder, owned by the server's user.
    """

    path: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)


class SambaServer:
    """One smbd with its own configuration; a context manager, or `start()` and `stop()` by hand.

    `global_options` and the options of `shares` go into `smb.conf` as they are, after the defaults and
    stronger than them. `port` 0 takes a free one; `address` is one of the loopback network. `stop()` ends
    every process it started and removes every folder it made; a folder given in a `ShareConfig` stays.
    """

    def __init__(
        self,
        shares: Mapping[str, ShareConfig] | None = None,
        *,
        global_options: Mapping[str, str] | None = None,
        port: int = 0,
        address: str = LOOPBACK,
        password: str = TEST_PASSWORD,
    ) -> None:
        self.address = address
        self.port = port or free_port()
        self.user = TEST_USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.password = password
        self._global_options = dict(global_options or {})
        self._shares = dict(shares) if shares is not None else {"data": ShareConfig()}
        self._share_paths: dict[str, Path] = {}
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

    # Life and death

    def start(self) -> None:
        """Make the folders, the configuration and the user, start smbd, wait until it accepts connections."""
        try:
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
        """End smbd with all its connections and start it again: same port, folders, users."""
        self.stop_service()
        self.resume_service()

    def resume_service(self) -> None:
        """Start smbd on the folders that are there and wait until its port accepts."""
        # smbd in the foreground ends when a pipe at its standard input does, so it cannot outlive us.
        with (self.base / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [*self._program("smbd"), "--foreground", "--no-process-group", "-s", str(self.conf)],
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        process = self._process
        assert self._janitor is not None
        self._janitor.watch(process.pid)
        deadline = time.monotonic() + _START_DEADLINE
        while not self._accepts():
            if process.poll() is not None or time.monotonic() > deadline:
                raise HarnessError(f"smbd did not start on port {self.port}:\n{self.log_text()[-4000:]}")

    def stop_service(self) -> None:
        """End smbd and every process it started, connections included; the folders stay."""
        process, self._process = self._process, None
        if process is None:
            return
        # Until the leader is reaped, its id and that of its group cannot be anyone else's; Popen's own
        # methods would reap it on the way.
        if process.returncode is None:
            os.kill(process.pid, signal.SIGTERM)
            if not _wait_until(lambda: _has_exited(process.pid), _STOP_DEADLINE):
                os.kill(process.pid, signal.SIGKILL)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert self._janitor is not None
        self._janitor.watch(None)
        if process.stdin is not None:
            process.stdin.close()
        self._end_rpc_helper()

    def _end_rpc_helper(self) -> None:
        """End samba-dcerpcd, which smbd starts on demand and which leaves its process group."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pid = int((self.base / "pid" / "samba-dcerpcd.pid").read_text())
            if os.fsencode(self.conf) in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.killpg(pid, signal.SIGKILL)

    # What it is

    @property
    def is_running(self) -> bool:
        """Whether smbd was started, and not stopped since."""
        return self._process is not None

    @property
    def base(self) -> Path:
        """The folder that holds everything of this server."""
        if self._base is None:
            raise HarnessError("this SambaServer was not started")
        return self._base

    @property
    def conf(self) -> Path:
        """Its `smb.conf`."""
        return self.base / "smb.conf"

    @property
    def credentials_file(self) -> Path:
        """A file with `username=` and `password=` lines that nobody else can read."""
        return self.base / "private" / "credentials"

    def share_path(self, share: str = "data") -> Path:
        """The local folder that `share` shows."""
        return self._share_paths[share]

    def unc(self, share: str = "data") -> str:
        """`//address/share`, without the port."""
        return f"//{self.address}/{share}"

    def log_text(self) -> str:
        """Everything that smbd and its helpers have logged so far."""
        if self._base is None:
            return ""
        files = [self._base / "console", *sorted((self._base / "log").glob("*"))]
        return "\n".join(file.read_text(errors="replace") for file in files if file.is_file())

    def connection_pids(self) -> list[int]:
        """The process ids of smbd's children, one of which serves each connection."""
        if self._process is None:
            return []
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except FileNotFoundError:
            return []
        names = {int(child): _command_name(int(child)) for child in children.split()}
        # Newer versions add the client's address.
        return [child for child, name in names.items() if name == "smbd" or name.startswith("smbd[")]

    # What can be done with it

    def smbclient(
        self, share: str, command: str, *arguments: str, guest: bool = False, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run Samba's own client, as the server's user or as a guest: `server.smbclient("data", "ls")`."""
        who = "--user=no-such-user%" if guest else f"--authentication-file={self.credentials_file}"
        return self._run(
            [*self._smbclient, who, *arguments, self.unc(share), f"--command={command}"], check=check
        )

    def list_shares(self) -> str:
        """The shares that the server names when asked, a table made by smbclient."""
        who = f"--authentication-file={self.credentials_file}"
        return self._run([*self._smbclient, who, f"--list={self.address}"], check=True).stdout

    def smbcontrol(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Send smbd a message: `server.smbcontrol("smbd", "close-share", "data")`."""
        return self._run([*self._program("smbcontrol"), "-s", str(self.conf), *arguments], check=check)

    def smbstatus(self, *arguments: str) -> str:
        """What `smbstatus` says: connections, shares in use, open files."""
        return self._run([*self._program("smbstatus"), "-s", str(self.conf), *arguments], check=True).stdout

    def set_password(self, password: str) -> None:
        """Give the server's user another password, on the server and in `credentials_file`."""
        self.password = password
        command = [*self._program("pdbedit"), "-s", str(self.conf), "-t", "-a", "-u", self.user]
        self._run(command, check=True, stdin=f"{password}\n{password}\n")
        self.credentials_file.touch(mode=0o600)
        self.credentials_file.write_text(f"username={self.user}\npassword={password}\n")

    def adopt(self, path: Path) -> None:
        """Make the server's user the owner of `path` and of everything below: what root put there itself."""
        if os.geteuid() == 0:
            account = pwd.getpwnam(self.user)
            for entry in (path, *path.rglob("*")):
                os.chown(entry, account.pw_uid, account.pw_gid, follow_symlinks=False)

    def _program(self, name: str) -> list[str]:
        """The command line, but for its arguments, of a program that is of the server's own version."""
        return [_binary(name)]

    @property
    def _smbclient(self) -> list[str]:
        return [_binary("smbclient"), f"--configfile={self.conf}", f"--port={self.port}"]

    def _prepare(self) -> None:
        if os.geteuid() == 0:
            _ensure_system_user(self.user)
        self._base = _make_base()
        self._janitor = Janitor(self._base)
        for name in ("lock", "state", "cache", "pid", "private", "ncalrpc", "log"):
            (self._base / name).mkdir(mode=0o700 if name == "private" else 0o755)
        for name, config in self._shares.items():
            self._share_paths[name] = config.path or self._make_share_folder(name)
        self.conf.write_text(self._render_conf())
        self.set_password(self.password)

    def _make_share_folder(self, name: str) -> Path:
        path = self.base / "shares" / name
        path.mkdir(parents=True)
        self.adopt(path)
        return path

    def _render_conf(self) -> str:
        sections = [("global", {**self._default_global_options(), **self._global_options})]
        for name, config in self._shares.items():
            options = {"path": str(self._share_paths[name]), **DEFAULT_SHARE_OPTIONS, **config.options}
            sections.append((name, options))
        return "\n".join(
            f"[{name}]\n" + "".join(f"\t{key} = {value}\n" for key, value in options.items())
            for name, options in sections
        )

    def _default_global_options(self) -> dict[str, str]:
        folders = {
            f"{name} {'dir' if name == 'ncalrpc' else 'directory'}": str(self.base / name)
            for name in ("lock", "state", "cache", "pid", "private", "ncalrpc")
        }
        return {
            **DEFAULT_GLOBAL_OPTIONS,
            **folders,
            "smb ports": str(self.port),
            "log file": str(self.base / "log" / "log.%m"),
            "guest account": "nobody" if os.geteuid() == 0 else self.user,
        }

    def _accepts(self) -> bool:
        try:
            socket.create_connection((self.address, self.port), timeout=1.0).close()
        except OSError:
            time.sleep(0.01)
            return False
        return True

    def _run(
        self, command: Sequence[str], *, check: bool, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_DEADLINE,
            check=False,
        )
        if check and done.returncode != 0:
            raise HarnessError(f"{Path(command[0]).name} failed: {done.stdout}{done.stderr}")
        return done


def _binary(name: str) -> str:
    path = shutil.which(name, path=_BINARY_PATH)
    if path is None:
        raise HarnessError(f"{name} is not installed: run scripts/test, or apt-get install samba smbclient")
    return path


def _ensure_system_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        command = [_binary("useradd"), "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # 9: it exists by now, made by a run beside this one.
        if done.returncode not in (0, 9):
            raise HarnessError(f"could not make the system user {name}: {done.stderr.strip()}") from None


def _make_base() -> Path:
    """Return a new folder that the server's user can reach, on a file system that stores user xattrs."""
    candidates = [tempfile.gettempdir(), "/var/tmp", os.getcwd()]
    for parent in filter(_is_reachable, candidates):
        base = Path(tempfile.mkdtemp(prefix="smbmount-samba-", dir=parent))
        try:
            os.setxattr(base, "user.smbmount-test", b"1")
        except OSError:
            base.rmdir()
            continue
        base.chmod(0o755)
        return base
    raise HarnessError(
        f"the test server needs a folder that user {TEST_USER} can reach and that stores user xattrs: "
        f"none of {', '.join(candidates)} does"
    )


def _is_reachable(folder: str) -> bool:
    path = Path(folder).resolve()
    return os.geteuid() != 0 or all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))


def free_port() -> int:
    """A port on which nobody listens."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise HarnessError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def _command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _has_exited(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
