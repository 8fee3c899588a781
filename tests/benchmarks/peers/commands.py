"""The peers without a mount: Samba's smbclient and the Python library smbprotocol."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.benchmarks.peers.driver import content_of, name_of
from tests.benchmarks.peers.peer import (
    Conversation,
    Driver,
    Kind,
    Outcome,
    PeerError,
    Protection,
    Site,
    UnsupportedError,
)
from tests.benchmarks.peers.works import Step

_START_SECONDS: Final = 30.0
_ENTRY: Final = re.compile(r"^  (.+?) +[A-Z]* +(\d+)  \w{3} \w{3} [ \d]\d [\d:]{8} \d{4}$", re.MULTILINE)
"""A line of smbclient's `ls`: name, attributes, size, date."""
_DONE: Final = b"----- done -----\n"


class SambaClient:
    """smbclient: one session that is given its commands by a pipe, so that the log-on is not counted."""

    name = "smbclient"
    kind: Kind = "program"
    settings = "one session, --client-protection; `put` does not sync, copies are made by the server (scopy)"

    _PROTECTION: Final[Mapping[Protection, str]] = {"plain": "off", "signed": "sign", "sealed": "encrypt"}

    def __init__(self) -> None:
        self._session: Conversation | None = None
        self._scratch = Path()
        self._seconds = 0.0
        self._actions: Mapping[str, Callable[[Step, str], Outcome]] = {
            "read": self._read,
            "write": self._write,
            "list_long": self._list_long,
            "stat": self._stat,
            "small_read": self._small_read,
            "create": self._create,
            "rename": self._rename,
            "unlink": self._unlink,
            "copytree": self._copytree,
            "rmtree": self._rmtree,
            "untar": self._untar,
        }

    def start(self, site: Site) -> None:
        self._scratch = site.scratch
        server = site.server
        self._session = Conversation(
            # What it says has to come before the mark that ends the command, and it must not read ahead:
            # it waits for input with select(), which knows nothing of lines that stdio holds already.
            [
                *(
                    "stdbuf",
                    "--input=0",
                    "--output=L",
                    "smbclient",
                    f"--configfile={server.conf}",
                    f"--port={site.port}",
                ),
                f"--authentication-file={server.credentials_file}",
                f"--client-protection={self._PROTECTION[site.protection]}",
                f"//{site.address}/{site.share}",
            ],
            {},
        )
        self._seconds = _START_SECONDS
        self._command("prompt")

    def stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.stop()

    def run(self, step: Step, folder: str, seconds: float) -> Outcome:
        if step.action not in self._actions:
            raise UnsupportedError("no such command")
        self._seconds = seconds
        return self._actions[step.action](step, folder)

    def round_trips(self) -> int | None:
        return None

    def _command(self, *commands: str) -> tuple[float, str]:
        """Seconds until all commands are done, and what they said; `PeerError` if that is an error."""
        assert self._session is not None
        start = time.perf_counter()
        self._session.say(
            "".join(f"{command}\n" for command in commands) + f"!echo '{_DONE.decode().strip()}'\n"
        )
        said = self._session.hear(_DONE, self._seconds)
        seconds = time.perf_counter() - start
        if problem := re.search(r".*\bNT_STATUS_\w+.*", said):
            raise PeerError(problem.group())
        return seconds, said

    def _read(self, step: Step, folder: str) -> Outcome:
        """To nowhere for the time, and to a file for the proof."""
        seconds, _ = self._command(f"get {folder}/{step.path} /dev/null")
        with tempfile.NamedTemporaryFile(dir=self._scratch) as file:
            self._command(f"get {folder}/{step.path} {file.name}")
            return Outcome(seconds, hashlib.file_digest(file, "sha256").hexdigest())

    def _write(self, step: Step, folder: str) -> Outcome:
        return Outcome(self._command(f"put {step.arguments['source']} {folder}/{step.path}")[0], None)

    def _list_long(self, step: Step, folder: str) -> Outcome:
        seconds, said = self._command(f"ls {folder}/*")
        return Outcome(seconds, sum(name not in (".", "..") for name, _ in _ENTRY.findall(said)))

    def _stat(self, step: Step, folder: str) -> Outcome:
        seconds, said = self._command(*(f"ls {folder}/{name}" for name in _names(step)))
        return Outcome(seconds, sum(int(size) for _, size in _ENTRY.findall(said)))

    def _small_read(self, step: Step, folder: str) -> Outcome:
        with tempfile.TemporaryDirectory(dir=self._scratch) as local:
            self._command(f"lcd {local}", f"cd /{folder}")
            seconds, _ = self._command("mget *")
            self._command("cd /")
            found = sorted(Path(local).iterdir())
            return Outcome(seconds, hashlib.sha256(b"".join(path.read_bytes() for path in found)).hexdigest())

    def _create(self, step: Step, folder: str) -> Outcome:
        with tempfile.TemporaryDirectory(dir=self._scratch) as local:
            for number in range(int(step.arguments["count"])):
                (Path(local) / name_of(number)).write_bytes(content_of(number))
            self._command(f"lcd {local}", f"cd /{folder}")
            seconds, _ = self._command("mput *")
            self._command("cd /")
        return Outcome(seconds, None)

    def _rename(self, step: Step, folder: str) -> Outcome:
        commands = (f"rename {folder}/{name} {folder}/{name}.renamed" for name in _names(step))
        return Outcome(self._command(*commands)[0], None)

    def _unlink(self, step: Step, folder: str) -> Outcome:
        return Outcome(self._command(f"del {folder}/*")[0], None)

    def _copytree(self, step: Step, folder: str) -> Outcome:
        """It has no such command: it is told what is there, and copies file by file on the server."""
        source, target = f"{folder}/{step.arguments['source']}", f"{folder}/{step.path}"
        self._command("recurse")
        listing, said = self._command(f"ls {source}/*")
        self._command("recurse")
        seconds, _ = self._command(*copy_commands(said, source, target))
        return Outcome(listing + seconds, None)

    def _rmtree(self, step: Step, folder: str) -> Outcome:
        return Outcome(self._command(f"deltree {folder}/{step.path}")[0], None)

    def _untar(self, step: Step, folder: str) -> Outcome:
        self._command(f"cd /{folder}")
        seconds, _ = self._command(f"tar x {step.arguments['source']}")
        self._command("cd /")
        return Outcome(seconds, None)


def _names(step: Step) -> list[str]:
    return [name_of(number) for number in range(int(step.arguments["count"]))]


def copy_commands(listing: str, source: str, target: str) -> list[str]:
    """What copies a tree, from the listing of it that smbclient made with `recurse`."""
    commands = [f"mkdir {target}"]
    folder = ""
    for line in listing.splitlines():
        if line.startswith("\\"):
            folder = line.replace("\\", "/").strip("/").removeprefix(source)
            commands.append(f"mkdir {target}{folder}")
        elif (entry := _ENTRY.match(line)) and entry[1].startswith("file-"):
            commands.append(f"scopy {source}{folder}/{entry[1]} {target}{folder}/{entry[1]}")
    return commands


class Smbprotocol:
    """The library's high-level module, driven by `driver.py` in an environment that has only this library."""

    name = "smbprotocol"
    kind: Kind = "library"
    settings = "high-level module; signs also when plain: without, smbd refuses its tree connect"

    def __init__(self, python: Path) -> None:
        self._python = python
        self._root = ""
        self._driver: Driver | None = None

    def start(self, site: Site) -> None:
        self._root = f"//{site.address}/{site.share}"
        env = {
            "SMB_SERVER": site.address,
            "SMB_PORT": str(site.port),
            "SMB_USER": site.server.user,
            "SMB_PASSWORD": site.server.password,
            "SMB_PROTECTION": site.protection,
        }
        self._driver = Driver("smbprotocol", env, _START_SECONDS, str(self._python))

    def stop(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.stop()

    def run(self, step: Step, folder: str, seconds: float) -> Outcome:
        if step.action in ("clone", "untar"):
            raise UnsupportedError("no files of the kernel")
        assert self._driver is not None
        return self._driver.run(step, f"{self._root}/{folder}", seconds)

    def round_trips(self) -> int | None:
        return None


def environment_with_smbprotocol(folder: Path) -> Path:
    """The interpreter of a virtual environment in `folder` that has smbprotocol; made if it is not there."""
    python = folder / "bin" / "python"
    probe = [str(python), "-c", "import smbclient"]
    if python.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return python
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "smbprotocol"]
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(python), *install], check=True)
    return python
