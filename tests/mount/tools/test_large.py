"""Many files, and large ones."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Final

import pytest

from tests.support.tools import Place, bash, digest, noise, python, run, wait_until

MANY: Final = 10_000
LISTING_SECONDS: Final = 5.0
"""With room for a machine that is busy with other things: a quiet one needs well under a second."""


@pytest.fixture
def crowd(place: Place) -> Place:
    """A folder with many files that were made on the server."""
    for number in range(MANY):
        (place.server_path / f"file {number:05}").touch()
    return place


def test_ls_of_ten_thousand_files(crowd: Place, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    listed = run("ls", "-l", crowd.path)
    seconds = time.monotonic() - started
    with capsys.disabled():
        print(f"\nls -l of {MANY} files: {seconds:.2f} s")  # noqa: T201
    assert len(listed.splitlines()) == MANY + 1
    assert seconds < LISTING_SECONDS
    assert run("ls", "-U", "-1", crowd.path).count("\n") == MANY
    assert run("find", crowd.path, "-name", "file 0999?").count("\n") == 10
    shutil.rmtree(crowd.server_path)
    crowd.server_path.mkdir()


def test_a_file_beyond_four_gib(place: Place) -> None:
    script = """
        truncate -s 5G big; test "$(stat -c %s big)" = 5368709120
        printf end | dd status=none of=big bs=1 seek=5368709117 conv=notrunc
        printf more >> big; test "$(tail -c 7 big)" = endmore
        printf across | dd status=none of=big bs=1 seek=4294967293 conv=notrunc
        test "$(dd status=none if=big bs=1 skip=4294967293 count=6)" = across
        test "$(head -c 5 big | od -An -tx1 | tr -d ' ')" = 0000000000
    """
    bash(script, cwd=place.path)
    there = (place.server_path / "big").stat()
    assert there.st_size == 5 * 2**30 + 4
    assert there.st_blocks * 512 < 2**30
    with (place.server_path / "big").open("rb") as file:
        assert os.pread(file.fileno(), 6, 2**32 - 3) == b"across"
        assert os.pread(file.fileno(), 100, 5 * 2**30 - 3) == b"endmore"
    assert (place.path / "big").stat().st_blocks * 512 < 2**30


def test_a_quarter_gibibyte_both_ways(place: Place, local: Path) -> None:
    run("dd", "if=/dev/urandom", f"of={local / 'big'}", "bs=1M", "count=256", "status=none")
    expected = digest(local / "big")
    run("cp", local / "big", place.path / "big")
    assert digest(place.server_path / "big") == expected
    run("cp", place.path / "big", place.path / "copy")
    assert digest(place.server_path / "copy") == expected
    (place.server_path / "copy").unlink()
    (place.server_path / "big").rename(place.server_path / "cold")
    wait_until((place.path / "cold").exists, "the new name")
    run("mv", place.path / "cold", local / "back")
    assert digest(local / "back") == expected
    assert os.listdir(place.server_path) == []


def test_what_the_kernel_has_not_cached_is_read_right(place: Place) -> None:
    """Reads in order, backwards and at random of a file that was written on the server."""
    content = noise(20_000_000, "server")
    (place.server_path / "f").write_bytes(content)
    wait_until((place.path / "f").exists, "the new file")
    source = """
import os, random, sys
fd = os.open("f", os.O_RDONLY)
expected = open(sys.argv[1], "rb").read()
size = len(expected)
generator = random.Random(1)
steps = [(at, 70_001) for at in range(0, size, 70_001)]
steps += [(at, 65_536) for at in range(size, -1, -300_007)]
steps += [(generator.randrange(size + 1000), generator.randrange(300_000)) for _ in range(300)]
for at, length in steps:
    assert os.pread(fd, length, at) == expected[at : at + length], (at, length)
    if generator.random() < 0.2:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
"""
    python(source, place.server_path / "f", cwd=place.path)


def test_many_files_open_at_a_time(place: Place) -> None:
    source = """
import os
files = [open(f"f{number}", "x+") for number in range(300)]
for number, file in enumerate(files):
    file.write(f"{number}\\n" * 10)
for number, file in enumerate(files):
    file.seek(0)
    assert file.read() == f"{number}\\n" * 10
    os.rename(file.name, f"g{number}")
for file in files:
    file.close()
assert sorted(os.listdir()) == sorted(f"g{number}" for number in range(300))
"""
    python(source, cwd=place.path)
