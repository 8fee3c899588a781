"""fio writes patterns in every order and verifies what it reads back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from tests.support.tools import Place, run

MIB: Final = 1 << 20


def _fio(folder: Path, *options: str, size: int, jobs: int = 2) -> None:
    """Write with checksums, then read and verify, each of `jobs` in a file of its own."""
    report = run(
        "fio",
        "--name=verify",
        f"--directory={folder}",
        f"--size={size}",
        f"--numjobs={jobs}",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--do_verify=1",
        "--randseed=20",
        "--fallocate=none",
        "--output-format=json",
        *options,
        seconds=100,
    )
    # fio prints notes before its report.
    jobs_done = json.loads(report[report.index("{") :])["jobs"]
    assert [job["error"] for job in jobs_done] == [0] * jobs
    assert all(job["read"]["io_bytes"] >= size // 2 for job in jobs_done), jobs_done


@pytest.mark.parametrize("engine", ["psync", "mmap"])
@pytest.mark.parametrize(("order", "size"), [("write", 32 * MIB), ("randwrite", 3 * MIB)])
def test_buffered_writes_verify(place: Place, engine: str, order: str, size: int) -> None:
    _fio(place.path, f"--ioengine={engine}", f"--rw={order}", "--bs=4k", "--direct=0", size=size)


@pytest.mark.parametrize("order", ["write", "randwrite", "randrw"])
def test_direct_writes_verify(place: Place, order: str) -> None:
    _fio(place.path, "--ioengine=psync", f"--rw={order}", "--bs=64k", "--direct=1", size=32 * MIB)


def test_many_threads_in_one_file_verify(place: Place) -> None:
    """Blocks of many sizes, each thread in its own part of one file."""
    options = (
        "--ioengine=psync",
        "--rw=randwrite",
        "--bsrange=512-256k",
        "--bs_unaligned",
        "--filename=one",
        "--offset_increment=8m",
        "--thread",
        "--end_fsync=1",
    )
    _fio(place.path, *options, size=8 * MIB, jobs=4)
    assert (place.server_path / "one").stat().st_size <= 32 * MIB


def test_asynchronous_writes_verify(place: Place) -> None:
    options = ("--ioengine=libaio", "--iodepth=8", "--rw=randwrite", "--bs=16k", "--direct=1")
    _fio(place.path, *options, size=8 * MIB)


def test_writes_with_fsync_after_each_few_verify(place: Place) -> None:
    _fio(place.path, "--ioengine=psync", "--rw=randwrite", "--bs=4k", "--fsync=64", size=2 * MIB)
