"""The process that does the work of a benchmark on files, and says how long it took.

    python driver.py os
    python driver.py smbprotocol

Reads one JSON object a line from standard input, `{"action": …, "arguments": {…}}`, and answers each with a
line `{"seconds": …, "proof": …}` or `{"error": …}`. The proof tells what was found, so that the other side
can see whether the work was really done; making it is not part of the time.

It runs for the mounts in the project's environment and for the library smbprotocol in one that has nothing
but that library, so it imports the standard library only.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

MIB = 1 << 20
SMALL = 4096


class Files(Protocol):
    """What the work needs, said as Python's `os`, `open` and `shutil` say it; paths have slashes."""

    def open(self, path: str, mode: str) -> Any:
        """An unbuffered binary file."""

    def sync(self, file: Any) -> None:
        """What was written is on the server's disk."""

    def size(self, path: str) -> int:
        """What stat says."""

    def list_long(self, path: str) -> int:
        """The number of entries in a folder, all attributes of each asked for, as `ls -l` does."""

    def rename(self, old: str, new: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def copytree(self, source: str, target: str) -> None: ...

    def rmtree(self, path: str) -> None: ...


class SystemFiles:
    """Files of the kernel."""

    def open(self, path: str, mode: str) -> Any:
        return open(path, mode, buffering=0)

    def sync(self, file: Any) -> None:
        os.fsync(file.fileno())

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def list_long(self, path: str) -> int:
        done = subprocess.run(["ls", "-l", path], check=True, capture_output=True)
        return done.stdout.count(b"\n") - 1

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def copytree(self, source: str, target: str) -> None:
        shutil.copytree(source, target)

    def rmtree(self, path: str) -> None:
        shutil.rmtree(path)


class LibraryFiles:
    """Files of a server, by the library smbprotocol, whose high-level module is called smbclient.

    The connection is made here; it is described by the variables SMB_SERVER, SMB_PORT, SMB_USER,
    SMB_PASSWORD and SMB_PROTECTION. Paths begin with `//server/share`.
    """

    def __init__(self) -> None:
        self._api = importlib.import_module("smbclient")
        self._shutil = importlib.import_module("smbclient.shutil")
        protection = os.environ["SMB_PROTECTION"]
        self._port = int(os.environ["SMB_PORT"])
        self._api.ClientConfig(skip_dfs=True)
        self._api.register_session(
            os.environ["SMB_SERVER"],
            username=os.environ["SMB_USER"],
            password=os.environ["SMB_PASSWORD"],
            port=self._port,
            encrypt=protection == "sealed",
            # A tree connect of SMB 3.1.1 has to be protected, and this library signs all or nothing.
            require_signing=protection != "sealed",
        )

    def open(self, path: str, mode: str) -> Any:
        return self._api.open_file(path, mode, buffering=0, port=self._port)

    def sync(self, file: Any) -> None:
        file.fd.flush()

    def size(self, path: str) -> int:
        return int(self._api.stat(path, port=self._port).st_size)

    def list_long(self, path: str) -> int:
        return len([entry.stat() for entry in self._api.scandir(path, port=self._port)])

    def rename(self, old: str, new: str) -> None:
        self._api.rename(old, new, port=self._port)

    def unlink(self, path: str) -> None:
        self._api.unlink(path, port=self._port)

    def copytree(self, source: str, target: str) -> None:
        self._shutil.copytree(source, target, port=self._port)

    def rmtree(self, path: str) -> None:
        self._shutil.rmtree(path, port=self._port)


# What all sides agree on


def name_of(number: int) -> str:
    """The name of a file in the folders with many."""
    return f"file-{number:05}.txt"


def content_of(number: int) -> bytes:
    """The 4 KiB of a small file, different for each."""
    return hashlib.sha256(number.to_bytes(4, "big")).digest() * (SMALL // 32)


def offsets(size: int, count: int) -> list[int]:
    """Where the random reads of a file of `size` bytes go: whole blocks, the same ones each time."""
    return [SMALL * number for number in random.Random(count).choices(range(size // SMALL), k=count)]


# The actions: each returns the seconds it took and its proof


def read(files: Files, path: str, size: int) -> tuple[float, object]:
    """The whole of a large file by 1 MiB; proof: its digest."""
    buffer = memoryview(bytearray(b"\1") * (size + MIB))
    position = 0
    start = time.perf_counter()
    with files.open(path, "rb") as file:
        while count := file.readinto(buffer[position : position + MIB]):
            position += count
    return time.perf_counter() - start, hashlib.sha256(buffer[:position]).hexdigest()


def write(files: Files, path: str, source: str) -> tuple[float, object]:
    """A copy of the local file `source` by 1 MiB, synced."""
    with open(source, "rb") as local:
        data = memoryview(local.read())
    start = time.perf_counter()
    with files.open(path, "wb") as file:
        while data:
            data = data[file.write(data[:MIB]) :]
        files.sync(file)
    return time.perf_counter() - start, None


def random_read(files: Files, path: str, size: int, count: int) -> tuple[float, object]:
    """Blocks of 4 KiB one after the other; proof: the digest of them all."""
    places = offsets(size, count)
    blocks = []
    start = time.perf_counter()
    with files.open(path, "rb") as file:
        for place in places:
            file.seek(place)
            blocks.append(file.read(SMALL))
    return time.perf_counter() - start, hashlib.sha256(b"".join(blocks)).hexdigest()


def list_long(files: Files, path: str) -> tuple[float, object]:
    """`ls -l`; proof: the number of entries."""
    start = time.perf_counter()
    count = files.list_long(path)
    return time.perf_counter() - start, count


def stat(files: Files, path: str, count: int) -> tuple[float, object]:
    """stat of each name; proof: the sum of the sizes."""
    names = [f"{path}/{name_of(number)}" for number in range(count)]
    start = time.perf_counter()
    total = sum(files.size(name) for name in names)
    return time.perf_counter() - start, total


def small_read(files: Files, path: str, count: int) -> tuple[float, object]:
    """Open, read, close of each file; proof: the digest of all contents."""
    names = [f"{path}/{name_of(number)}" for number in range(count)]
    contents = []
    start = time.perf_counter()
    for name in names:
        with files.open(name, "rb") as file:
            contents.append(file.read())
    return time.perf_counter() - start, hashlib.sha256(b"".join(contents)).hexdigest()


def create(files: Files, path: str, count: int) -> tuple[float, object]:
    """Open, write, close of each file."""
    work = [(f"{path}/{name_of(number)}", content_of(number)) for number in range(count)]
    start = time.perf_counter()
    for name, content in work:
        with files.open(name, "wb") as file:
            file.write(content)
    return time.perf_counter() - start, None


def rename(files: Files, path: str, count: int) -> tuple[float, object]:
    """Each file gets another name."""
    names = [f"{path}/{name_of(number)}" for number in range(count)]
    start = time.perf_counter()
    for name in names:
        files.rename(name, f"{name}.renamed")
    return time.perf_counter() - start, None


def unlink(files: Files, path: str, count: int) -> tuple[float, object]:
    """Each file goes."""
    names = [f"{path}/{name_of(number)}" for number in range(count)]
    start = time.perf_counter()
    for name in names:
        files.unlink(name)
    return time.perf_counter() - start, None


def copytree(files: Files, path: str, source: str) -> tuple[float, object]:
    """The tree `source` of the same share, copied to `path`."""
    start = time.perf_counter()
    files.copytree(source, path)
    return time.perf_counter() - start, None


def rmtree(files: Files, path: str) -> tuple[float, object]:
    """The tree goes."""
    start = time.perf_counter()
    files.rmtree(path)
    return time.perf_counter() - start, None


def clone(files: Files, path: str, source: str) -> tuple[float, object]:
    """`git clone` of a local repository."""
    return _command("git", "clone", "--quiet", "--no-hardlinks", f"file://{source}", path), None


def untar(files: Files, path: str, source: str) -> tuple[float, object]:
    """A local archive, unpacked by tar."""
    return _command("tar", "--extract", "--file", source, "--directory", path), None


def _command(*command: str) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise OSError(f"{command[0]}: {done.stderr.strip().splitlines()[-1:]}")
    return seconds


ACTIONS: dict[str, Callable[..., tuple[float, object]]] = {
    action.__name__: action
    for action in (
        *(read, write, random_read, list_long, stat, small_read, create, rename, unlink),
        *(copytree, rmtree, clone, untar),
    )
}


def main() -> None:
    """Answer each line until standard input ends."""
    files: Files = SystemFiles() if sys.argv[1] == "os" else LibraryFiles()
    answer: dict[str, object] = {"seconds": 0.0, "proof": "ready"}
    while True:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            return
        question = json.loads(line)
        try:
            seconds, proof = ACTIONS[question["action"]](files, **question["arguments"])
            answer = {"seconds": seconds, "proof": proof}
        except shutil.Error as error:
            _, target, why = error.args[0][0]
            answer = {
                "error": f"{len(error.args[0])} copies failed, the first: {why} ({os.path.basename(target)})"
            }
        except Exception as error:  # noqa: BLE001 - whatever a peer's library raises is its result
            answer = {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
