"""A throw-away Samba server on a loopback port, for the tests and for `scripts/demo`.

Standard library only, and nothing of pytest, so that both can use it. Every server has its own port,
its own folders and its own user database; nothing of the machine's own Samba is read or changed.

As root the server's user is a system user `smbtest`, made once; otherwise it is whoever runs this,
because an smbd without privileges can serve nobody else.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.samba_defaults import DEFAULT_GLOBAL_OPTIONS, DEFAULT_SHARE_OPTIONS
from tests.support.server import LOOPBACK, HarnessError, ThrowAwayServer, binary, free_port, sections

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


@dataclass(frozen=True, slots=True)
class ShareConfig:
    """One share: the folder it shows, which its user must be able to reach, and its options.

    None as `path` = a new folder, owned by the server's user.
    """

    path: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)


class SambaServer(ThrowAwayServer):
    """One smbd with its own configuration.

    `global_options` and the options of `shares` go into `smb.conf` as they are, after the defaults and
    stronger than them. `port` 0 takes a free one; `address` is one of the loopback network. A folder given
    in a `ShareConfig` stays.
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
        super().__init__(address, port or free_port(), global_options)
        self.user = TEST_USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.password = password
        self._shares = dict(shares) if shares is not None else {"data": ShareConfig()}
        self._share_paths: dict[str, Path] = {}

    # What it is

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
        return self._run([*self._smbclient, who, f"--list={self.address}"]).stdout

    def set_password(self, password: str) -> None:
        """Give the server's user another password, on the server and in `credentials_file`."""
        self.password = password
        command = [*self._program("pdbedit"), "-s", str(self.conf), "-t", "-a", "-u", self.user]
        self._run(command, stdin=f"{password}\n{password}\n")
        self.credentials_file.touch(mode=0o600)
        self.credentials_file.write_text(f"username={self.user}\npassword={password}\n")

    def adopt(self, path: Path) -> None:
        """Make the server's user the owner of `path` and of everything below: what root put there itself."""
        if os.geteuid() == 0:
            account = pwd.getpwnam(self.user)
            for entry in (path, *path.rglob("*")):
                os.chown(entry, account.pw_uid, account.pw_gid, follow_symlinks=False)

    @property
    def _command(self) -> Sequence[str | Path]:
        return [*self._program("smbd"), "--foreground", "--no-process-group", "-s", self.conf]

    @property
    def _smbclient(self) -> list[str]:
        return [binary("smbclient"), f"--configfile={self.conf}", f"--port={self.port}"]

    def _make_base(self) -> Path:
        if os.geteuid() == 0:
            _ensure_system_user(self.user)
        return _make_base()

    def _prepare(self) -> None:
        for name in ("lock", "state", "cache", "pid", "private", "ncalrpc", "log"):
            (self.base / name).mkdir(mode=0o700 if name == "private" else 0o755)
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
        parts = {"global": {**self._default_global_options(), **self._global_options}}
        for name, config in self._shares.items():
            path = str(self._share_paths[name])
            parts[name] = {"path": path, **DEFAULT_SHARE_OPTIONS, **config.options}
        return sections(parts)

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


def _ensure_system_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        command = [binary("useradd"), "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
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


def _command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
