"""Whole trees: cp -a, tar, rsync, find, grep."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tools import Place, bash, differences, make_tree, run, survey

_UNSTORED: re.Pattern[str] = re.compile(r".*: (Mode|Uid|Gid) differs$|^$")


@pytest.fixture
def tree(local: Path) -> Iterator[Path]:
    """A tree on the local disk, which must be unchanged at the end."""
    tree = local / "tree"
    make_tree(tree)
    before = survey(tree)
    yield tree
    assert differences(before, survey(tree)) == []


def test_cp_a_both_ways(place: Place, local: Path, tree: Path) -> None:
    run("cp", "-a", tree, place.path / "copy")
    assert differences(survey(tree), survey(place.path / "copy")) == []
    run("diff", "-r", "--no-dereference", tree, place.path / "copy")
    run("cp", "-a", place.path / "copy", local / "back")
    assert differences(survey(tree), survey(local / "back")) == []
    run("cp", "-a", place.path / "copy", place.path / "second")
    assert differences(survey(tree), survey(place.path / "second")) == []
    assert (place.path / "second" / "read-only").stat().st_mode & 0o222 == 0


def test_cp_u_copies_only_what_is_newer(place: Place, tree: Path) -> None:
    run("cp", "-a", tree, place.path / "copy")
    assert run("cp", "-auv", f"{tree}/.", place.path / "copy/") == ""


def test_cp_a_keeps_hard_links(place: Place) -> None:
    script = """
        mkdir a; echo x > a/1; ln a/1 a/2; ln a/1 a/3
        cp -a a b; test "$(stat -c %h b/2)" = 3; test "$(stat -c %i b/1)" = "$(stat -c %i b/3)"
        rm b/1; test "$(stat -c %h b/2)" = 2; echo y > b/2; test "$(cat b/3)" = y
        cp -al a c; test "$(stat -c %h a/1)" = 6; rm -r a b; test "$(stat -c %h c/1)" = 3
    """
    bash(script, cwd=place.path)


def test_tar_out_of_the_mount_and_back(place: Place, local: Path, tree: Path) -> None:
    run("cp", "-a", tree, place.path / "copy")
    run("tar", "-C", place.path, "--format=posix", "-cf", local / "t.tar", "copy")
    run("tar", "-C", place.path, "--compare", "-f", local / "t.tar")
    (local / "out").mkdir()
    run("tar", "-C", local / "out", "-xf", local / "t.tar")
    assert differences(survey(tree), survey(local / "out" / "copy")) == []
    bash("mkdir again; tar -C again -xpf $1; tar -C again --compare -f $1", local / "t.tar", cwd=place.path)
    assert differences(survey(tree), survey(place.path / "again" / "copy")) == []


def test_tar_of_a_local_tree_into_the_mount(place: Place, local: Path, tree: Path) -> None:
    bash('tar -C "$1" --format=posix -czf t.tgz tree; tar -xzf t.tgz', local, cwd=place.path)
    assert differences(survey(tree), survey(place.path / "tree")) == []
    told = run("tar", "-C", place.path, "--compare", "-f", place.path / "t.tgz", check=False)
    assert [line for line in told.splitlines() if not _UNSTORED.match(line)] == []
    bash("chmod -R u+w tree; tar -xzf t.tgz --overwrite", cwd=place.path)
    bash("tar -xzf t.tgz --unlink-first --recursive-unlink", cwd=place.path)
    bash("tar --format=posix -cf all.tar tree; tar -df all.tar", cwd=place.path)
    assert differences(survey(tree), survey(place.path / "tree")) == []


def _transferred(statistics: str) -> int:
    found = re.search(r"Number of regular files transferred: ([\d,]+)", statistics)
    assert found, statistics
    return int(found[1].replace(",", ""))


def test_rsync_twice_transfers_nothing_the_second_time(place: Place, local: Path, tree: Path) -> None:
    target = place.path / "copy"
    plain = ("--no-perms", "--no-owner", "--no-group")
    files = sum(kind.startswith("file") for kind in survey(tree).values())
    assert _transferred(run("rsync", "-a", "--checksum", "--stats", f"{tree}/", target)) == files
    assert differences(survey(tree), survey(target)) == []
    assert _transferred(run("rsync", "-a", "--checksum", "--stats", f"{tree}/", target)) == 0
    assert run("rsync", "-a", "--checksum", "--itemize-changes", *plain, f"{tree}/", target) == ""
    assert run("rsync", "-a", "--itemize-changes", *plain, f"{tree}/", target) == ""
    run("rsync", "-aX", f"{target}/", local / "back")
    assert differences(survey(tree), survey(local / "back")) == []


def test_rsync_delete(place: Place, tree: Path) -> None:
    target = place.path / "copy"
    run("rsync", "-a", f"{tree}/", target)
    bash("rm -r src; echo more > more; mkdir extra; touch extra/{1..20}; chmod a-w extra/3", cwd=target)
    run("rsync", "-a", "--delete", f"{tree}/", target)
    assert differences(survey(tree), survey(target)) == []
    (place.path / "nothing").mkdir()
    run("rsync", "-a", "--delete", f"{place.path}/nothing/", target)
    assert os.listdir(place.server_path / "copy") == []


@pytest.mark.parametrize("mode", ["--inplace", "--append-verify", "--delay-updates", "--whole-file"])
def test_rsync_updates_a_changed_file(place: Place, local: Path, mode: str) -> None:
    script = """
        head -c 4000000 /dev/urandom > "$1/f"; head -c 2000000 "$1/f" > f
        test "$2" = --append-verify || printf zeros | dd status=none of=f bs=1 seek=700000 conv=notrunc
        rsync -a --no-whole-file "$2" --fsync "$1/f" f; cmp "$1/f" f
        test "$(stat -c %Y f)" = "$(stat -c %Y "$1/f")"
    """
    bash(script, local, mode, cwd=place.path)
    assert os.listdir(place.server_path) == ["f"]


def test_find_by_every_property(place: Place) -> None:
    script = """
        mkdir -p a/b/c; touch -d '2000-01-01' a/old; touch a/b/new
        head -c 5000 /dev/zero > a/b/c/big; ln -s old a/link; touch a/b/c/empty
        test "$(find a -type f | wc -l)" = 4; test "$(find a -type d | wc -l)" = 3
        test "$(find a -type l)" = a/link; test "$(find a -xtype f | wc -l)" = 5
        test "$(find a -newer a/old -type f | sort | tr '\\n' ' ')" = 'a/b/c/big a/b/c/empty a/b/new '
        test "$(find a -size +4k)" = a/b/c/big; test "$(find a -empty | sort | head -n 1)" = a/b/c/empty
        test "$(find a -maxdepth 1 -name 'b*')" = a/b; test "$(find -L a -samefile a/old | wc -l)" = 2
        find a -type f -exec sh -c 'echo found >> "$1"' sh {} \\;; test "$(grep -rl found a | wc -l)" = 4
        find a -type f -print0 | xargs -0 grep -c found | grep -c :1 | grep -qx 4
        grep -r --include='*ew' found . | grep -qx './a/b/new:found'; fails grep -rq 'not there' .
        find a -depth -delete; test ! -e a
    """
    bash(script, cwd=place.path)


def test_a_tree_is_renamed_with_all_below(place: Place, tree: Path) -> None:
    run("cp", "-a", tree, place.path / "a")
    script = """
        find a > /dev/null; mv a b; mkdir -p c/d; mv b c/d/e; test ! -e a -a ! -e b
        test "$(wc -c < 'c/d/e/src/deep/er/still/file 1.bin')" = 1; mv c/d/e/src c/src; mv c/src c/d/e/src
    """
    bash(script, cwd=place.path)
    assert differences(survey(tree), survey(place.path / "c/d/e")) == []
