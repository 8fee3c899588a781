"""Files that are deleted or replaced while programs have them open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.tools import Place, Shell, bash, noise, python, wait_until


@pytest.fixture
def shell(place: Place) -> Iterator[Shell]:
    """A shell in the test's folder."""
    with Shell(place.path) as shell:
        yield shell


def _only(place: Place, *names: str) -> None:
    """The server has these names alone, once it has heard of the last close, which no program waits for."""
    wait_until(lambda: sorted(os.listdir(place.server_path)) == sorted(names), f"only {names} on the server")


def test_an_unlinked_file_lives_until_it_is_closed(place: Place, shell: Shell) -> None:
    (place.path / "d").mkdir()
    shell("echo before > d/f; exec 3<> d/f; rm d/f")
    assert shell("ls -A d") == ""
    assert os.listdir(place.path / "d") == []
    assert shell("cat <&3; echo after >&3; stat -L -c '%h %s' /proc/$$/fd/3").split() == ["before", "0", "13"]
    assert shell("test -e d/f || echo gone") == "gone"
    shell("exec 3>&-; rmdir d")
    assert os.listdir(place.server_path) == []


def test_the_folder_of_an_unlinked_open_file_can_be_removed_at_last(place: Place, shell: Shell) -> None:
    """rm -r of a folder with open files in it: the names are gone at once, and the folder too once they
    are closed."""
    shell("mkdir d; for i in 1 2 3; do echo $i > d/f$i; done; exec 3< d/f1 4>> d/f2; rm d/f*")
    assert shell("ls -A d") == ""
    shell("exec 3<&- 4>&-; rmdir d; test ! -e d")
    assert os.listdir(place.server_path) == []


def test_the_name_of_an_unlinked_open_file_is_free(place: Place, shell: Shell) -> None:
    shell("echo old > f; exec 3<> f; rm f; echo new > f")
    assert shell("cat f; cat <&3").split() == ["new", "old"]
    shell("rm f; mkdir f; touch f/x; echo more >&3; exec 3>&-")
    _only(place, "f")
    assert os.listdir(place.server_path / "f") == ["x"]


def test_rename_over_an_open_file(place: Place, shell: Shell) -> None:
    shell("echo old > f; echo new > g; exec 3<> f; mv g f")
    assert shell("cat f; cat <&3; ls -A").split() == ["new", "old", "f"]
    shell("echo of the dead >&3; exec 3>&-")
    _only(place, "f")
    assert (place.server_path / "f").read_text() == "new\n"


def test_rename_of_an_open_file(place: Place, shell: Shell) -> None:
    shell("mkdir d; echo one > f; exec 3>> f; mv f d/g; echo two >&3; mv d/g d/h; echo three >&3; exec 3>&-")
    assert shell("cat d/h").split() == ["one", "two", "three"]
    assert (place.server_path / "d" / "h").read_text() == "one\ntwo\nthree\n"


def test_rename_of_a_folder_whose_files_were_just_closed(place: Place) -> None:
    """The server renames no folder with open files in it, so what is closed has to be closed there too."""
    script = """
        mkdir a; head -c 300000 /dev/urandom > f
        for i in $(seq 50); do
            cat f > a/f; mv a b; cat b/f | cmp - f; mv b a
            head -c 1000 a/f > a/g; mv a b; cat b/* > /dev/null; mv b a
        done
    """
    bash(script, cwd=place.path)


def test_rename_of_an_open_file_over_an_open_file(place: Place, shell: Shell) -> None:
    shell("echo one > f; echo two > g; exec 3<> f 4<> g; mv f g")
    assert shell("cat <&3; cat <&4; cat g; ls -A").split() == ["one", "two", "one", "g"]
    shell("echo more >&3; echo lost >&4; exec 3>&- 4>&-")
    _only(place, "g")
    assert (place.server_path / "g").read_text() == "one\nmore\n"


def test_an_open_file_with_hard_links_loses_one_name(place: Place, shell: Shell) -> None:
    shell("echo x > f; ln f g; exec 3<> f; rm f")
    assert shell("stat -L -c %h /proc/$$/fd/3; stat -c %h g").split() == ["1", "1"]
    shell("echo more >> g; exec 3>&-")
    _only(place, "g")
    assert (place.server_path / "g").read_text() == "x\nmore\n"


@pytest.mark.parametrize("fate", ["unlinked", "replaced"])
def test_a_large_file_loses_its_name_while_it_is_written(place: Place, fate: str) -> None:
    source = """
import os, sys
data = os.urandom(3_000_000)
fd = os.open("f", os.O_RDWR | os.O_CREAT)
os.write(fd, data)
if sys.argv[1] == "unlinked":
    os.unlink("f")
else:
    open("g", "x").close()
    os.rename("g", "f")
os.write(fd, data)
os.fsync(fd)
assert os.pread(fd, 7_000_000, 0) == data + data
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
assert os.pread(fd, 7_000_000, 0) == data + data
"""
    python(source, fate, cwd=place.path)
    _only(place, *(["f"] if fate == "replaced" else []))


def test_an_unlinked_file_can_be_truncated_and_stamped(place: Place) -> None:
    source = """
import os
fd = os.open("f", os.O_RDWR | os.O_CREAT)
os.write(fd, b"x" * 100_000)
os.unlink("f")
os.ftruncate(fd, 10)
assert os.fstat(fd).st_size == 10
os.ftruncate(fd, 1_000_000)
assert os.fstat(fd).st_size == 1_000_000
os.utime(fd, ns=(10**18, 11 * 10**17))
assert os.fstat(fd).st_mtime_ns == 11 * 10**17
os.fchmod(fd, 0o444)
assert os.pread(fd, 20, 0) == b"x" * 10 + bytes(10)
os.fsync(fd)
assert os.fstat(fd).st_nlink == 0
assert os.listdir() == []
"""
    python(source, cwd=place.path)
    _only(place)


KILLED: Final = 40


def test_a_killed_process_leaves_nothing_behind(place: Place) -> None:
    with Shell(place.path) as shell:
        shell(f"mkdir d; for i in $(seq {KILLED}); do exec {{fd}}> d/f$i; echo $i >&$fd; done; rm d/*")
        assert os.listdir(place.path / "d") == []
        shell.kill()
    bash("for try in $(seq 200); do rmdir d 2> /dev/null && exit; done; rmdir d", cwd=place.path)
    assert os.listdir(place.server_path) == []


def test_reading_on_in_a_folder_that_is_emptied(place: Place) -> None:
    for number in range(500):
        (place.path / f"f{number}").write_bytes(noise(number, "x"))
    with os.scandir(place.path) as entries:
        for entry in entries:
            os.unlink(entry)
    os.rmdir(place.path)
    assert not place.server_path.exists()
    place.path.mkdir()
