"""The ways in which editors and daemons save a file, and the lock files they use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.support.tools import Place, Shell, background, bash, python_child, wait_until

SAVES: Final = 60

_WATCHER: Final = """
import sys
name, saves = sys.argv[1], int(sys.argv[2])
last = -1
while last < saves:
    with open(name, "rb") as file:
        content = file.read()
    assert len(content) == 7 * 3000, f"{len(content)} bytes after version {last}"
    number = int(content[:6])
    assert content == b"%06d " % number * 3000, "a mixture of versions"
    assert number >= last, f"version {number} after {last}"
    if number > last:
        print(number)
    last = number
"""


def _version(number: int) -> bytes:
    return b"%06d " % number * 3000


def _save_while_watching(saver_at: Path, watchers_at: list[Path]) -> None:
    """Save again as soon as all watchers, which read without a pause, have seen the last version."""
    document, new = saver_at / "document", saver_at / "document.new"
    document.write_bytes(_version(0))
    for path in watchers_at:
        wait_until((path / "document").exists, "the new file")
    watchers = [python_child(_WATCHER, "document", str(SAVES), cwd=at) for at in watchers_at]
    with background(watchers):
        for number in range(1, SAVES + 1):
            for watcher in watchers:
                assert int(watcher.hear()) == number - 1
            with new.open("xb") as file:
                file.write(_version(number))
                file.flush()
                os.fsync(file.fileno())
            new.rename(document)
        for watcher in watchers:
            assert int(watcher.finish()) == SAVES
    assert os.listdir(saver_at) == ["document"]


def test_save_by_rename_is_atomic_for_readers_of_the_mount(place: Place) -> None:
    _save_while_watching(place.path, [place.path, place.path])


def test_save_by_rename_is_atomic_for_readers_of_another_mount(place: Place, elsewhere: Place) -> None:
    _save_while_watching(place.path, [elsewhere.path])


def test_save_by_rename_over_a_file_that_a_reader_keeps_open(place: Place) -> None:
    (place.path / "f").write_text("old\n")
    with Shell(place.path) as reader:
        reader("exec 3< f")
        bash("echo new > f.tmp; sync f.tmp; mv f.tmp f", cwd=place.path)
        assert reader("cat <&3") == "old"
        assert reader("cat f") == "new"
        assert reader("ls -A") == "f"
        reader("exec 3<&-")
    assert os.listdir(place.path) == ["f"]


def test_save_with_a_backup_as_vi_does(place: Place) -> None:
    script = """
        echo 1 > f
        for i in $(seq 2 20); do
            mv f f~; test ! -e f; echo $i > f; sync f
            test "$(cat f)" = $i; test "$(cat f~)" = $((i - 1))
            test "$(stat -c %i f)" != "$(stat -c %i f~)"; rm f~
        done
        test "$(cat f)" = 20; test "$(ls -A)" = f
    """
    bash(script, cwd=place.path)


def test_save_with_a_hard_linked_backup_as_emacs_can(place: Place) -> None:
    script = """
        echo 1 > f
        for i in $(seq 2 20); do
            ln f f~; echo $i > f.new; mv f.new f; test "$(cat f) $(cat f~)" = "$i $((i - 1))"
            test "$(stat -c %h f)" = 1; rm f~
        done
        test "$(ls -A)" = f
    """
    bash(script, cwd=place.path)


def test_save_in_place_as_nano_does(place: Place) -> None:
    script = """
        inode=
        for i in $(seq 20); do
            head -c $((i * 7919 % 30000)) /dev/urandom > expected
            cat expected > f; cmp expected f; test "$(stat -c %s f)" = $((i * 7919 % 30000))
            test -z "$inode" || test "$(stat -c %i f)" = $inode; inode=$(stat -c %i f)
        done
    """
    bash(script, cwd=place.path)


_RACER: Final = """
import os, sys
how, lock, log, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
mine = f"{lock}.{os.getpid()}"
open(mine, "x").close()

def take():
    try:
        if how == "exclusive":
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        elif how == "link":
            os.link(mine, lock)
        else:
            os.mkdir(lock)
    except FileExistsError:
        return False
    return True

print("ready")
sys.stdin.readline()
taken = 0
while taken < rounds:
    if take():
        with open(log, "r+") as file:
            count = int(file.read())
            file.seek(0)
            file.write(f"{count + 1:08}")
        taken += 1
        (os.rmdir if how == "folder" else os.unlink)(lock)
os.unlink(mine)
"""


@pytest.mark.parametrize("how", ["exclusive", "link", "folder"])
def test_lock_files_let_one_in_at_a_time(place: Place, how: str) -> None:
    (place.path / "count").write_text("00000000")
    _race(how, [place.path] * 3)
    assert (place.path / "count").read_text() == f"{3 * 20:08}"


@pytest.mark.parametrize("how", ["exclusive", "folder"])
def test_lock_files_hold_between_mounts(place: Place, elsewhere: Place, how: str) -> None:
    (place.path / "count").write_text("00000000")
    _race(how, [place.path, elsewhere.path])
    assert (place.server_path / "count").read_text() == f"{2 * 20:08}"


def _race(how: str, places: list[Path]) -> None:
    racers = [python_child(_RACER, how, "lock", "count", "20", cwd=path) for path in places]
    with background(racers):
        for racer in racers:
            assert racer.hear() == "ready"
        for racer in racers:
            racer.say("go")
        for racer in racers:
            racer.finish()


def test_flock_and_posix_locks_hold_between_processes(place: Place) -> None:
    script = """
        echo 0 > n
        for i in $(seq 4); do (for j in $(seq 10); do
            flock lock bash -c 'read v < n; echo $((v + 1)) > n'
        done) & done; wait
        test "$(cat n)" = 40; exec 9> lock; flock -n 9; fails flock -n lock true
    """
    bash(script, cwd=place.path)
