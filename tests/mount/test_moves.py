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


def move_about(here: Path, times: int) -> Path:
    """Rename `top` to and fro; where it is in the end. Samba refuses while a file in it is open."""
    now, then = here / "top", here / "other"
    while times:
        if error_of(partial(now.rename, then)) != errno.EACCES:
            now, then = then, now
            times -= 1
    return now


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
        top = move_about(here, 200)
    assert os.listdir(there / top.name / "work") == []


def test_open_files_are_replaced_in_a_folder_whose_parent_is_renamed(
    here: Path, there: Path, work: int
) -> None:
    def save(worker: int, number: int) -> None:
        saved = os.open("new", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, dir_fd=work)
        os.write(saved, b"%d" % number)
        os.close(saved)
        reader = os.open("file", os.O_CREAT | os.O_RDONLY, dir_fd=work)
        os.rename("new", "file", src_dir_fd=work, dst_dir_fd=work)
        os.close(reader)

    with busy(save, 1):
        top = move_about(here, 40)
    # The last reader's close, with which its file goes, is not waited for by close(2).
    deadline = time.monotonic() + 10
    while os.listdir(there / top.name / "work") != ["file"]:
        assert time.monotonic() < deadline, os.listdir(there / top.name / "work")
