"""Two mounts of one share, and the server's own folder as a third party: who sees what, and when.

Attributes, names and the absence of names are believed for `actimeo`, one second by default; a file's
content is asked for anew at each open.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.tools import Conversation, Place, Shell, background, bash, noise, python_child, wait_until

ACTIMEO: Final = 1.0
IN_TIME: Final = ACTIMEO + 1.5
"""Believed for `ACTIMEO` here and in the kernel, and a moment for a machine with other things to do."""


@pytest.fixture(params=["mount", "server"])
def other(request: pytest.FixtureRequest, place: Place, elsewhere: Place) -> Iterator[Path]:
    """The folder as another party changes it: through the second mount, or on the server itself."""
    # What root makes on the server shall be the mount's user's to write.
    before = os.umask(0)
    yield elsewhere.path if request.param == "mount" else place.server_path
    os.umask(before)


def _soon(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, what, IN_TIME)


def test_content_is_seen_at_the_next_open(place: Place, other: Path) -> None:
    for number in range(20):
        text = f"version {number} " * (number * 500 + 1)
        (other / "f").write_text(text)
        _soon((place.path / "f").exists, "the new file")
        assert (place.path / "f").read_text() == text, f"version {number}"
        assert (place.path / "f").stat().st_size == len(text)


def test_content_of_the_same_size_is_seen_at_the_next_open(place: Place, elsewhere: Place) -> None:
    for number in range(20):
        (elsewhere.path / "f").write_text(f"{number:09}" * 1000)
        _soon((place.path / "f").exists, "the new file")
        assert (place.path / "f").read_text() == f"{number:09}" * 1000


def test_what_we_close_is_on_the_server(place: Place, other: Path) -> None:
    for number in range(20):
        content = noise(number * 100_000, str(number))
        (place.path / "f").write_bytes(content)
        _soon((other / "f").exists, "the new file")
        assert (other / "f").read_bytes() == content


def test_taking_turns_in_one_file(place: Place, elsewhere: Place) -> None:
    for turn in range(10):
        for seen in (place, elsewhere):
            with (seen.path / "log").open("a") as file:
                file.write(f"turn {turn} of {seen.mount.path.name}\n")
            _soon((elsewhere.path / "log").exists, "the new file")
    lines = (place.path / "log").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 20
    assert lines == (elsewhere.path / "log").read_text().splitlines()


def test_changes_are_seen_in_time(place: Place, other: Path) -> None:
    here = place.path
    assert os.listdir(here) == []
    assert not (here / "new").exists()
    (other / "new").write_text("new")
    _soon(lambda: (here / "new").exists(), "a new file")
    _soon(lambda: os.listdir(here) == ["new"], "a new file in the listing")
    (other / "new").rename(other / "renamed")
    _soon(lambda: os.listdir(here) == ["renamed"], "a new name in the listing")
    _soon(lambda: not (here / "new").exists() and (here / "renamed").exists(), "a new name")
    (other / "renamed").write_text("longer than before")
    _soon(lambda: (here / "renamed").stat().st_size == 18, "a new size")
    os.utime(other / "renamed", ns=(0, 1_234_567_890_123_456_700))
    _soon(lambda: (here / "renamed").stat().st_mtime_ns == 1_234_567_890_123_456_700, "a new time")
    (other / "renamed").unlink()
    _soon(lambda: not (here / "renamed").exists() and os.listdir(here) == [], "a deleted file")


def test_folders_come_and_go(place: Place, other: Path) -> None:
    here = place.path
    (other / "a" / "b").mkdir(parents=True)
    (other / "a" / "b" / "f").write_text("deep")
    _soon(lambda: (here / "a" / "b" / "f").exists(), "a new folder")
    (other / "a").rename(other / "z")
    _soon(lambda: (here / "z" / "b" / "f").exists() and not (here / "a").exists(), "a renamed folder")
    assert (here / "z" / "b" / "f").read_text() == "deep"
    shutil.rmtree(other / "z")
    _soon(lambda: os.listdir(here) == [], "a removed folder")
    (other / "z").write_text("a file where a folder was")
    _soon(lambda: (here / "z").is_file(), "another kind of thing under the same name")
    assert (here / "z").read_text() == "a file where a folder was"


def test_a_replaced_file_is_read_as_the_new_one(place: Place, other: Path) -> None:
    here = place.path
    (other / "f").write_text("old")
    _soon((here / "f").exists, "the new file")
    assert (here / "f").read_text() == "old"
    with (here / "f").open() as held:
        (other / "f.new").write_text("brand new")
        (other / "f.new").rename(other / "f")
        assert held.read() == "old"
        assert (here / "f").read_text() == "brand new"
        _soon(lambda: (here / "f").stat().st_size == 9, "the new file's size")


def test_a_name_that_vanished_gives_enoent_and_nothing_worse(place: Place, other: Path) -> None:
    here = place.path
    for name in ("open", "unlink", "rename", "stat"):
        (other / name).write_text(name)
        _soon((here / name).exists, "the new file")
        assert (here / name).read_text() == name
        (other / name).unlink()
    with pytest.raises(FileNotFoundError):
        (here / "open").read_text()
    with pytest.raises(FileNotFoundError):
        (here / "unlink").unlink()
    with pytest.raises(FileNotFoundError):
        (here / "rename").rename(here / "renamed")
    (here / "open").write_text("made anew")
    assert (other / "open").read_text() == "made anew"
    _soon(lambda: not (here / "stat").exists(), "a name that vanished")


def test_a_name_that_appeared_behind_our_back(place: Place, other: Path) -> None:
    here = place.path
    for name in ("exclusive", "write", "folder", "target"):
        assert not (here / name).exists()
        if name == "folder":
            (other / name).mkdir()
        else:
            (other / name).write_text("theirs, and longer")
    with pytest.raises(FileExistsError), (here / "exclusive").open("x"):
        pass
    with pytest.raises(FileExistsError):
        (here / "folder").mkdir()
    (here / "write").write_text("ours")
    assert (other / "write").read_text() == "ours"
    (here / "source").write_text("renamed over")
    (here / "source").rename(here / "target")
    assert (other / "target").read_text() == "renamed over"


_APPENDER: Final = """
import os, sys
name, tag, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(count):
    fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{tag} {number:04}\\n".encode())
    os.close(fd)
print("done")
"""


def test_two_processes_of_one_mount_append(place: Place) -> None:
    children = [python_child(_APPENDER, "log", tag, "100", cwd=place.path) for tag in "ab"]
    with background(children):
        for child in children:
            assert child.finish() == "done\n"
    expected = sorted(f"{tag} {number:04}" for tag in "ab" for number in range(100))
    assert sorted((place.path / "log").read_text().splitlines()) == expected
    assert sorted((place.server_path / "log").read_text().splitlines()) == expected


def test_each_mount_reads_on_while_the_other_writes(place: Place, elsewhere: Place) -> None:
    """A reader with the file open sees what is appended elsewhere once its attributes expire."""
    log = elsewhere.path / "log"
    log.write_text("0\n")
    _soon((place.path / "log").exists, "the new file")
    with Conversation("tail", "-n", "+1", "-s", "0.05", "-f", "log", cwd=place.path) as tail:
        assert tail.hear() == "0"
        for number in range(1, 4):
            with log.open("a") as file:
                file.write(f"{number}\n")
            assert tail.hear(10) == str(number)


def test_a_file_that_is_open_here_may_be_renamed_and_deleted_there(place: Place, elsewhere: Place) -> None:
    (place.path / "f").write_text("content\n")
    with Shell(place.path) as shell:
        shell("exec 3<> f")
        _soon((elsewhere.path / "f").exists, "the new file")
        bash("mv f g", cwd=elsewhere.path)
        assert shell("cat <&3") == "content"
        shell("echo more >&3")
        bash("rm g", cwd=elsewhere.path)
        shell("echo even more >&3; exec 3>&-")
    _soon(lambda: os.listdir(place.path) == [], "a deleted file")


def test_git_sees_what_the_other_mount_commits(place: Place, elsewhere: Place, local: Path) -> None:
    script = """
        export HOME="$1" GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b
        export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        test -d .git || git init --quiet -b main .
        date +%N > "$2"; git add -A; git commit --quiet -m "$2"; git fsck --strict; git status --porcelain
    """
    for number in range(3):
        for seen in (place, elsewhere):
            name = f"{seen.mount.path.name} {number}"
            assert bash(script, local, name, cwd=seen.path) == ""
            log = bash('git -c safe.directory="*" log --format=%s', cwd=seen.path).splitlines()
            assert log[0] == name
            assert len(log) == number * 2 + (1 if seen is place else 2)
            for there in (place, elsewhere):
                # git must not look at its folder before the new file is seen there.
                _soon((there.path / name).exists, "the new file")
