"""Random operations from a seed: what programs do to files, single calls and the usual sequences of them."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.model.operations import Operation

FOLDERS: Final = ("d0", "d1", "d0/d2", "d1/d3", "d0/d2/d4")
_PLAIN: Final = ("a", "b", "c", "e", "f")
_ODD: Final = ("x:y*?", "end.", "blank ", "ü 😀", "back\\slash", "n" * 255, "." + "ä" * 127)
_BAD: Final = ("n" * 256, "absent/a", "a/b", "d0/a/b", "not utf-8 \udcff")
_SLOTS: Final = range(12)
_LENGTHS: Final = (0, 1, 10, 100, 511, 1067, 4095, 4096, 4097, 10_000, 65_536, 70_000)
_LONG_LENGTHS: Final = (131_072, 300_000, 1_048_576, 1_500_000)
_OFFSETS: Final = (0, 0, 1, 100, 4095, 4096, 5000, 8192, 65_535, 65_536, 131_072, 300_000, 2_000_000)
_XATTRS: Final = ("one", "two", "three.four", "five")
_FAR_TIMES: Final = (0, 1, 1_000_000_000, 1_500_000_000, 946_684_799, 4_000_000_000)
_MODES: Final = (0o644, 0o644, 0o600, 0o666, 0o444, 0o400)

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2

Drawn = Iterator[tuple[str, tuple[Any, ...]]]


class Generator:
    """Draws operations; the same seed and number of clients give the same ones on every machine."""

    def __init__(self, seed: int, clients: int = 1) -> None:
        self._random = random.Random(seed)
        self._clients = clients
        self._slots: range = _SLOTS

    def operations(self, count: int) -> list[Operation]:
        """`count` operations, the first of which make a few folders and files."""
        drawn = [Operation("mkdir", (folder,)) for folder in FOLDERS]
        drawn += [
            Operation("write_file", (path, index, 100 + index)) for index, path in enumerate(("a", "d0/b"))
        ]
        makers, weights = zip(*_WEIGHTS, strict=True)
        while len(drawn) < count:
            client = self._random.choices(range(self._clients), [3, 1][: self._clients])[0]
            self._slots = range(client * len(_SLOTS), (client + 1) * len(_SLOTS))
            maker: Callable[[Generator], Drawn] = self._random.choices(makers, weights)[0]
            drawn += [Operation(name, arguments, client) for name, arguments in maker(self)]
        return drawn[:count]

    # What operations are made of

    def path(self) -> str:
        """A path of a file, most often one that others use too."""
        kind = self._random.random()
        if kind < 0.02:
            return self._random.choice(_BAD)
        folder = self._random.choice(("", "", *FOLDERS))
        name = self._random.choice(_PLAIN if kind < 0.85 else _ODD)
        return f"{folder}/{name}" if folder else name

    def folder(self) -> str:
        """A path of a folder, that may not be there."""
        return self._random.choice((".", *FOLDERS, *FOLDERS)) if self._random.random() < 0.95 else self.path()

    def any_path(self) -> str:
        """A path of a file or a folder."""
        return self.path() if self._random.random() < 0.85 else self.folder()

    def slot(self) -> int:
        """A slot, that may be empty."""
        return self._random.choice(self._slots)

    def length(self) -> int:
        """How much is read or written."""
        return self._random.choice(_LENGTHS if self._random.random() < 0.9 else _LONG_LENGTHS)

    def offset(self) -> int:
        """Where."""
        return self._random.choice(_OFFSETS)

    def seed(self) -> int:
        """Which data."""
        return self._random.randrange(1 << 30)

    def mode(self) -> int:
        """Permissions that their owner can read by."""
        return self._random.choice(_MODES)

    def flags(self) -> int:
        """Flags of open(2), every combination."""
        draw = self._random.random
        flags = self._random.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR))
        if draw() < 0.5:
            flags |= os.O_CREAT | (os.O_EXCL if draw() < 0.3 else 0)
        for flag, chance in _EXTRA_FLAGS:
            flags |= flag if draw() < chance else 0
        return flags

    def time_ns(self) -> int:
        """A time far from now, or near it, with all its digits."""
        seconds = self._random.choice(_FAR_TIMES)
        return seconds * 1_000_000_000 + self._random.randrange(1_000_000_000)

    def target(self) -> str:
        """Where a symbolic link leads: a name beside it, or below; now and then out of the mount."""
        kind = self._random.random()
        if kind < 0.05:
            return self._random.choice(("/etc/passwd", "../../../../../../../a", "a/../b"))
        return self._random.choice((*_PLAIN, *_ODD[:4], "d0", "d2/a", "../a", "./b"))

    def data(self) -> tuple[int, int]:
        """A seed and a length."""
        return self.seed(), self.length()


_EXTRA_FLAGS: Final = (
    (os.O_TRUNC, 0.15),
    (os.O_APPEND, 0.15),
    (os.O_SYNC, 0.04),
    (os.O_DSYNC, 0.04),
    (os.O_NOFOLLOW, 0.04),
    (os.O_DIRECTORY, 0.03),
)


def _one(name: str, draw: Callable[[Generator], tuple[Any, ...]]) -> Callable[[Generator], Drawn]:
    def maker(generator: Generator) -> Drawn:
        yield name, draw(generator)

    return maker


def _open(g: Generator) -> Drawn:
    yield "open", (g.slot(), g.any_path(), g.flags(), g.mode())


def _open_to_use(g: Generator) -> Drawn:
    """Open, and do something with it at once."""
    slot, path = g.slot(), g.path()
    yield "open", (slot, path, os.O_RDWR | os.O_CREAT, g.mode())
    yield "pwrite", (slot, *g.data(), g.offset())
    yield "pread", (slot, g.length(), g.offset())


def _save(g: Generator) -> Drawn:
    """As editors save: a new file takes the place of the old one."""
    slot, path = g.slot(), g.path()
    yield "open", (slot, f"{path}~", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    yield "write", (slot, *g.data())
    yield "fsync", (slot,)
    yield "close", (slot,)
    yield "rename", (f"{path}~", path)


def _copy(g: Generator) -> Drawn:
    """As `cp -p` copies."""
    source, target, path = g.slot(), g.slot(), g.path()
    yield "open", (source, g.path(), os.O_RDONLY, 0)
    yield "open", (target, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    yield "sendfile", (target, source, -1, g.length())
    yield "futimens", (target, g.time_ns())
    yield "fchmod", (target, g.mode())
    yield "close", (target,)
    yield "stat", (path,)


def _unlink_open(g: Generator) -> Drawn:
    """A temporary file that has no name."""
    slot, path = g.slot(), g.path()
    yield "open", (slot, path, os.O_RDWR | os.O_CREAT, 0o600)
    yield "unlink", (path,)
    yield "pwrite", (slot, *g.data(), g.offset())
    yield "fstat", (slot,)
    yield "pread", (slot, g.length(), 0)


def _append_in_turn(g: Generator) -> Drawn:
    """Two programs that write one log."""
    path, slots = g.path(), (g.slot(), g.slot())
    for slot in slots:
        yield "open", (slot, path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for slot in (*slots, *slots):
        yield "write", (slot, *g.data())
    yield "read_file", (path,)


def _write_and_date(g: Generator) -> Drawn:
    """As `tar -x` does."""
    path = g.path()
    yield "write_file", (path, *g.data())
    yield "utimens", (path, g.time_ns())
    yield "chmod", (path, g.mode())
    yield "stat", (path,)


_WEIGHTS: Final[tuple[tuple[Callable[[Generator], Drawn], float], ...]] = (
    (_open, 8),
    (_open_to_use, 4),
    (_save, 1),
    (_copy, 1),
    (_unlink_open, 0.7),
    (_append_in_turn, 0.5),
    (_write_and_date, 1),
    (_one("close", lambda g: (g.slot(),)), 5),
    (_one("dup", lambda g: (g.slot(), g.slot())), 0.6),
    (_one("read", lambda g: (g.slot(), g.length())), 3),
    (_one("pread", lambda g: (g.slot(), g.length(), g.offset())), 5),
    (_one("write", lambda g: (g.slot(), *g.data())), 4),
    (_one("pwrite", lambda g: (g.slot(), *g.data(), g.offset())), 5),
    (_one("lseek", lambda g: (g.slot(), g.offset(), g.seed() % 3)), 1),
    (_one("ftruncate", lambda g: (g.slot(), g.offset())), 2),
    (_one("truncate", lambda g: (g.any_path(), g.offset())), 2),
    (_one("fsync", lambda g: (g.slot(),)), 1),
    (_one("fdatasync", lambda g: (g.slot(),)), 0.5),
    (_one("fstat", lambda g: (g.slot(),)), 3),
    (_one("fchmod", lambda g: (g.slot(), g.mode())), 0.7),
    (_one("futimens", lambda g: (g.slot(), g.time_ns())), 0.7),
    (_one("mmap_read", lambda g: (g.slot(), g.seed() % 3, g.length())), 2),
    (_one("mmap_write", lambda g: (g.slot(), g.seed(), g.seed() % 3, g.length())), 1),
    (_one("sendfile", lambda g: (g.slot(), g.slot(), g.seed() % 2 * (g.offset() + 1) - 1, g.length())), 1),
    (_one("copy_file_range", lambda g: (g.slot(), g.slot(), g.length())), 0.5),
    (_one("stat", lambda g: (g.any_path(),)), 5),
    (_one("lstat", lambda g: (g.any_path(),)), 4),
    (_one("access", lambda g: (g.any_path(), g.seed() % 4)), 1),
    (_one("rename", lambda g: (g.any_path(), g.any_path())), 5),
    (_one("rename", lambda g: (g.folder(), g.folder())), 1),
    (_one("rename_with", lambda g: (g.any_path(), g.any_path(), RENAME_NOREPLACE)), 0.7),
    (_one("rename_with", lambda g: (g.any_path(), g.any_path(), RENAME_EXCHANGE)), 0.1),
    (_one("link", lambda g: (g.any_path(), g.path())), 2),
    (_one("symlink", lambda g: (g.target(), g.path())), 1.5),
    (_one("readlink", lambda g: (g.path(),)), 1),
    (_one("unlink", lambda g: (g.any_path(),)), 4),
    (_one("mkdir", lambda g: (g.folder(),)), 2),
    (_one("mkdir", lambda g: (g.path(),)), 0.3),
    (_one("rmdir", lambda g: (g.folder(),)), 1),
    (_one("mkfifo", lambda g: (g.path(),)), 0.1),
    (_one("listdir", lambda g: (g.folder(),)), 4),
    (_one("chmod", lambda g: (g.path(), g.mode())), 1.5),
    (_one("utimens", lambda g: (g.any_path(), g.time_ns())), 1.5),
    (_one("touch", lambda g: (g.any_path(),)), 0.5),
    (_one("setxattr", lambda g: (g.any_path(), g._random.choice(_XATTRS), g.seed(), g.seed() % 300)), 1.5),
    (_one("getxattr", lambda g: (g.any_path(), g._random.choice(_XATTRS))), 1.5),
    (_one("listxattr", lambda g: (g.any_path(),)), 1),
    (_one("removexattr", lambda g: (g.any_path(), g._random.choice(_XATTRS))), 0.7),
    (_one("read_file", lambda g: (g.path(),)), 4),
    (_one("write_file", lambda g: (g.path(), *g.data())), 4),
    (_one("pause", lambda g: (g._random.choice((10, 60, 300)),)), 0.5),
)
"""What is drawn, and how often beside the others."""
