"""Running ordinary programs on a mount, and comparing what they see with what the server has."""

from __future__ import annotations

import hashlib
import os
import select
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.mounting import Mount

COMMAND_DEADLINE: Final = 60.0
ENVIRONMENT: Final[Mapping[str, str]] = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
}

_POLL_SECONDS: Final = 0.01
_LINK_FILE_SIZE: Final = 1067
"""The size of every symbolic link that is kept in a small file."""
_ON_SERVER: Final = dict(zip(range(0xF020, 0xF02A), '"*:<>?\\|' + " .", strict=True))
"""The characters that stand on the server for those that SMB does not allow, as cifs and macOS map them."""

_FAILS: Final = 'fails() { if "$@" 2> /dev/null; then echo "succeeded: $*" >&2; exit 1; fi; }\n'


def run(
    *command: str | os.PathLike[str],
    cwd: Path | None = None,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    check: bool = True,
    seconds: float = COMMAND_DEADLINE,
) -> str:
    """Run a program and return what it wrote to standard output.

    With `check`, another exit code than 0 fails the test; `env` adds to the environment.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=seconds,
        env={**ENVIRONMENT, **(env or {})},
        check=False,
    )
    if check:
        told = f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode == 0, told
    return done.stdout


def bash(
    script: str, *arguments: str | os.PathLike[str], cwd: Path, seconds: float = COMMAND_DEADLINE
) -> str:
    """Run a script in the folder `cwd`; the first command that fails, in a pipe too, fails the test.

    `fails COMMAND…` is for a command that has to fail: the shell does not look at what `!` inverts.
    """
    return run(
        "bash", "-euo", "pipefail", "-c", _FAILS + script, "bash", *arguments, cwd=cwd, seconds=seconds
    )


def python(
    source: str, *arguments: str | os.PathLike[str], cwd: Path, seconds: float = COMMAND_DEADLINE
) -> str:
    """Run a Python script in a process of its own."""
    return run(sys.executable, "-I", "-c", source, *arguments, cwd=cwd, seconds=seconds)


class Conversation:
    """A program that answers line by line; a context manager that ends it."""

    def __init__(self, *command: str | os.PathLike[str], cwd: Path) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
        )
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._process.pid

    def say(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, seconds: float = COMMAND_DEADLINE) -> str:
        """Wait for the next line, and return it without its end."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{self._process.args!r} said nothing within {seconds} s, but {self._rest!r}"
            chunk = os.read(self._process.stdout.fileno(), 65536)
            assert chunk, f"{self._process.args!r} ended, its last words were {self._rest!r}"
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="surrogateescape")

    def finish(self, seconds: float = COMMAND_DEADLINE) -> str:
        """Close its input, wait for it to end well, and return what it still said."""
        output, _ = self._process.communicate(timeout=seconds)
        text = (self._rest + output).decode(errors="surrogateescape")
        assert self._process.returncode == 0, text
        return text

    def kill(self) -> None:
        """Kill it as nobody can refuse; harmless when it has ended."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                stream.close()


class Shell(Conversation):
    """A bash that keeps its open files between the commands it is given; the first that fails ends it."""

    _END: Final = "--end-of-answer--"

    def __init__(self, cwd: Path) -> None:
        super().__init__("bash", "--norc", "-eu", cwd=cwd)

    def __call__(self, command: str) -> str:
        """Run commands, which have to succeed, and return their output without the last line end."""
        self.say(f"{command}\necho; echo {self._END}")
        lines = []
        while (line := self.hear()) != self._END:
            lines.append(line)
        return "\n".join(lines).strip("\n")


def python_child(source: str, *arguments: str | os.PathLike[str], cwd: Path) -> Conversation:
    """A Python script as a conversation; its output is not buffered."""
    return Conversation(sys.executable, "-I", "-u", "-c", source, *arguments, cwd=cwd)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Look again and again until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(_POLL_SECONDS)


_ALL_CLOSED: Final = 20.0
"""Seconds: handles are kept for `closetimeo`, 10 s, behind the last close."""


def errno_of(attempt: Callable[[], object]) -> int:
    """The error that a call ends with; 0 for none."""
    try:
        attempt()
    except OSError as error:
        return error.errno or 0
    return 0


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of one test: `path` is in the mount, `server_path` the same folder on the server."""

    mount: Mount
    path: Path
    server_path: Path

    def check(self) -> None:
        """The mount lives, has complained about nothing, and shows exactly what the server has."""
        try:
            wait_until(lambda: not self.differences(), "the mount shows what the server has", 5.0)
        except AssertionError:
            # What was opened before its writer had closed it has an older time of writing on Samba as long as
            # anybody keeps it open, and looking at it keeps it open.
            wait_until(self._is_closed, "no file of the folder is open", _ALL_CLOSED)
            assert self.differences() == []
        self.mount.check_log()
        assert self.mount.pid

    def _is_closed(self) -> bool:
        return self.server_path.name not in self.mount.server.smbstatus("-L")

    def differences(self) -> list[str]:
        """What the mount and the server disagree about in this folder."""
        return differences(survey(self.path), survey(self.server_path, on_server=True))


def survey(root: Path, *, on_server: bool = False) -> dict[str, str]:
    """Describe everything below a folder: the path, and its type, size, time and content in one line.

    `on_server`: it is the server's folder, where links are small files and reserved characters mapped.
    """
    return dict(_entries(root, on_server))


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """One line for every path that two surveys describe differently."""
    paths = sorted({*first, *second})
    return [
        f"{path}: {first.get(path, 'absent')} / {second.get(path, 'absent')}"
        for path in paths
        if first.get(path) != second.get(path)
    ]


def _entries(root: Path, on_server: bool) -> Iterator[tuple[str, str]]:
    for folder, folders, files in os.walk(root, onerror=_raise):
        for name in (*folders, *files):
            path = Path(folder, name)
            shown = str(path.relative_to(root))
            yield shown.translate(_ON_SERVER) if on_server else shown, _describe(path, on_server)


def _raise(error: OSError) -> None:
    raise error


def _describe(path: Path, on_server: bool) -> str:
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        return "folder"
    if stat.S_ISLNK(status.st_mode):
        return f"link to {os.readlink(path)}"
    if on_server and status.st_size == _LINK_FILE_SIZE:
        lines = path.read_bytes().split(b"\n")
        if lines[0] == b"XSym":
            return f"link to {os.fsdecode(lines[3])}"
    return f"file of {status.st_size} bytes, {status.st_mtime_ns // 100}, {_digest(path, status)}"


def _digest(path: Path, status: os.stat_result) -> str:
    if status.st_blocks * 512 < status.st_size // 2:
        return "with holes"
    return digest(path)


def digest(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def make_tree(root: Path) -> None:
    """Fill a new folder with what trees hold: sizes around every limit, old times, links, odd names.

    Times are multiples of 100 ns, as SMB keeps them.
    """
    sizes = [0, 1, 511, 4096, 4097, 65535, 65536, 65537, 200_000, 1_048_576, 1_048_577]
    for folder in ("", "src", "src/deep/er/still", "docs with blanks", "übergröße 🗂", "src/[glob]*?"):
        here = root / folder
        here.mkdir(parents=True, exist_ok=True)
        for index, size in enumerate(sizes[: 5 if folder else None]):
            (here / f"file {index}.bin").write_bytes(noise(size, f"{folder}{index}"))
    (root / "empty folder").mkdir()
    (root / 'a:b*c?d<e>f|g"h').write_text("reserved on the wire\n")
    (root / "ends with a dot.").write_text("dot\n")
    (root / "read-only").write_text("hands off\n")
    for index, file in enumerate(path for path in sorted(root.rglob("*")) if path.is_file()):
        os.utime(file, ns=(1_000_000_000_123_456_700, 1_100_000_000_987_654_300 + index * 10**9))
    (root / "read-only").chmod(0o444)
    (root / "übergröße 🗂" / "link").symlink_to("../src/file 1.bin")
    (root / "dangling").symlink_to("src/nothing here")
    (root / "to a folder").symlink_to("src")


def noise(size: int, seed: str) -> bytes:
    """The same unguessable bytes for the same seed."""
    return hashlib.shake_128(seed.encode()).digest(size)


@contextmanager
def background(processes: Sequence[Conversation]) -> Iterator[None]:
    """Kill the processes when the block ends, whatever happened in it."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
