"""Rows 17, 20 and 21 of the table of faults: what others change under our hands, and very large files."""

from __future__ import annotations

import errno
import os
import signal
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory, SambaFactory
from tests.support.samba import SambaServer
from tests.support.tools import noise, python_child, wait_until

pytestmark = pytest.mark.deadline(90)

ENTRIES: Final = 3000
SMALL_REPLIES: Final = {"smb2 max trans": "65536"}
"""Some hundred entries in each, so that a listing takes many."""
TOP: Final = 2**63 - 1
TOO_FAR: Final = {errno.EFBIG, errno.EINVAL, errno.ENOSPC, errno.EOVERFLOW}


def test_fault_17_every_stable_name_once_while_the_server_is_asked(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    """Between two replies of the server names come and go, through the mount and behind its back."""
    server = samba_factory(global_options=SMALL_REPLIES)
    folder = server.share_path()
    names = [f"file {number:05} with a name of some length" for number in range(ENTRIES)]
    for name in names:
        (folder / name).touch()
    server.adopt(folder)
    doomed, stable = names[::4], {name for index, name in enumerate(names) if index % 4}
    mount = mount_factory(server)
    seen: list[str] = []
    with os.scandir(mount.path) as entries:
        for index, entry in enumerate(entries):
            seen.append(entry.name)
            if index % 100 == 0 and doomed:
                (mount.path / doomed.pop()).unlink(missing_ok=True)
                (mount.path / f"ours {index}").touch()
                (folder / doomed.pop(0)).unlink()
                (folder / f"theirs {index}").touch()
                (folder / f"theirs {index}").rename(folder / f"renamed {index}")
    assert mount.statistics()["requests"]["QUERY_DIRECTORY"] > 8
    assert len(seen) == len(set(seen))
    assert stable <= set(seen)


@pytest.mark.parametrize("change", ["truncated", "replaced", "deleted"])
def test_fault_20_file_that_is_mapped_is_changed_elsewhere(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory, change: str
) -> None:
    """Who looks at what is gone gets SIGBUS or zeros, as everywhere; nobody hangs, and the rest is right."""
    here, elsewhere = (mount_factory(samba, folder=share_path.name).path for _ in range(2))
    (here / "file").write_bytes(b"a" * 1_000_000)
    source = """
import mmap, os, signal, sys
fd = os.open("file", os.O_RDONLY)
memory = mmap.mmap(fd, 1_000_000, prot=mmap.PROT_READ)
print(memory[0], memory[999_999])
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os._exit(memory[int(line)])
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.fstat(fd).st_size)
"""
    with python_child(source, cwd=here) as reader:
        assert reader.hear() == f"{ord('a')} {ord('a')}"
        if change == "truncated":
            os.truncate(elsewhere / "file", 10)
        elif change == "replaced":
            (elsewhere / "new").write_bytes(b"b" * 10)
            (elsewhere / "new").rename(elsewhere / "file")
        else:
            (elsewhere / "file").unlink()

        def ask(place: int) -> list[int]:
            reader.say(f"{place}")
            return [int(word) for word in reader.hear().split()]

        if change == "truncated":
            wait_until(lambda: ask(5) == [ord("a"), 10], "the new size")
            assert ask(900_000)[0] in {-signal.SIGBUS, 0}
        else:
            assert ask(5)[0] in {ord("a"), -signal.SIGBUS}
        reader.finish()
    expected = {"truncated": b"a" * 10, "replaced": b"b" * 10}.get(change)
    wait_until(lambda: content(here / "file") == expected, "what the other client made of it")


def content(path: Path) -> bytes | None:
    """What a file holds; None if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def test_fault_21_sparse_and_beyond_four_gib(here: Path, there: Path) -> None:
    """Writes on both sides of every border of 32 bits and of the largest file of the server's disk."""
    piece = noise(100_000, "sparse")
    starts = [edge - 50_000 for edge in (2**31, 2**32, 2**33, 2**40)]
    with (here / "sparse").open("w+b", buffering=0) as file:
        for start in starts:
            assert os.pwrite(file.fileno(), piece, start) == len(piece)
        os.fsync(file.fileno())
        for start in starts:
            assert os.pread(file.fileno(), 100_000, start) == piece
            assert os.pread(file.fileno(), 1000, start - 1000) == bytes(1000)
        assert os.fstat(file.fileno()).st_size == starts[-1] + len(piece)
        assert not os.pread(file.fileno(), 10, starts[-1] + len(piece))
    on_server = (there / "sparse").stat()
    assert on_server.st_size == starts[-1] + len(piece)
    assert on_server.st_blocks * 512 < 2**22
    os.truncate(here / "sparse", 2**32 + 1)
    assert (here / "sparse").stat().st_size == (there / "sparse").stat().st_size == 2**32 + 1


@pytest.mark.parametrize("start", [2**62, TOP - 10])
def test_fault_21_offsets_at_the_end_of_the_range(here: Path, there: Path, start: int) -> None:
    """Beyond what the server's disk can hold: told as that, once, and nothing has changed."""
    (here / "file").write_bytes(b"content")
    with (here / "file").open("r+b", buffering=0) as file:
        descriptor = file.fileno()
        assert os.pread(descriptor, 10, start) == b""
        for call in (
            partial(os.pwrite, descriptor, b"0123456789", start),
            partial(os.ftruncate, descriptor, start + 10),
        ):
            errors = [error for error in (error_of(call), error_of(partial(os.fsync, descriptor))) if error]
            assert len(errors) == 1
            assert errors[0] in TOO_FAR
            assert os.fstat(descriptor).st_size == (there / "file").stat().st_size == 7
    assert (here / "file").read_bytes() == b"content"
