"""Programs at work in a folder do not notice that a folder above it is renamed meanwhile."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.calls import error_of

pytestmark = pytest.mark.deadline(120)


@pytest.fixture
def work(here: Path) -> Iterator[int]:
    """A folder in a folder, `top/work`, that is open."""
    (here / "top" / "work").mkdir(parents=True)
    descriptor = os.open(here / "top" / "work", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def busy(rounds: Callable[[int, int], None], workers: int) -> Iterator[None]:
    """`rounds(worker, number)` is called over and over by each worker while the block runs; none may fail."""
    done = threading.Event()

    def run(worker: int) -> int:
        number = 0
        while not done.is_set():
            rounds(worker, number)
            number += 1
        return number

    with ThreadPoolExecutor(workers) as pool:
        results = [pool.submit(run, worker) for worker in range(workers)]
        try:
            yield
        finally:
            done.set()
        assert all(result.result() for result in results)


class Mover:
    """Renames `top` to and fro. Samba refuses while a file in it is open, so others have to give it turns."""

    def __init__(self, here: Path) -> None:
        self._now, self._then = here / "top", here / "other"
        self._begun = 0
        self._ended = False
        self._changed = threading.Condition()

    def move(self, times: int) -> Path:
        """Rename that often, refusals not counted; where it is in the end."""
        try:
            while times:
                self._tell(ended=False)
                error = error_of(partial(self._now.rename, self._then))
                assert error in (0, errno.EACCES), errno.errorcode[error]
                if not error:
                    self._now, self._then = self._then, self._now
                    times -= 1
        finally:
            self._tell(ended=True)
        return self._now

    def give_turn(self) -> None:
        """Wait until one more rename begins."""
        with self._changed:
            begun = self._begun
            assert self._changed.wait_for(lambda: self._ended or self._begun > begun, timeout=30)

    def _tell(self, *, ended: bool) -> None:
        with self._changed:
            self._begun += 1
            self._ended = ended
            self._changed.notify_all()


def test_files_are_made_and_removed_in_a_folder_whose_parent_is_renamed(
    here: Path, there: Path, work: int
) -> None:
    def use(worker: int, number: int) -> None:
        name = f"{worker}-{number}"
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=work))
        os.utime(name, (1, 1), dir_fd=work)
        assert os.stat(name, dir_fd=work).st_mtime == 1
        os.mkdir(name + "d", dir_fd=work)
        os.rmdir(name + "d", dir_fd=work)
        os.unlink(name, dir_fd=work)

    with busy(use, 3):
        top = Mover(here).move(200)
    assert os.listdir(there / top.name / "work") == []


def test_open_files_are_replaced_in_a_folder_whose_parent_is_renamed(
    here: Path, there: Path, work: int
) -> None:
    mover = Mover(here)

    def save(worker: int, number: int) -> None:
        mover.give_turn()
        saved = os.open("new", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, dir_fd=work)
        os.write(saved, b"%d" % number)
        os.close(saved)
        mover.give_turn()
        reader = os.open("file", os.O_CREAT | os.O_RDONLY, dir_fd=work)
        os.rename("new", "file", src_dir_fd=work, dst_dir_fd=work)
        os.close(reader)

    with busy(save, 1):
        top = mover.move(40)
    # The last reader's close, with which its file goes, is not waited for by close(2).
    deadline = time.monotonic() + 10
    while os.listdir(there / top.name / "work") != ["file"]:
        assert time.monotonic() < deadline, os.listdir(there / top.name / "work")
