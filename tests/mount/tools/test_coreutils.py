"""The everyday commands, as a person types them."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from tests.support.tools import Conversation, Place, bash, noise, run, wait_until


def test_ls_shows_sizes_types_and_times(place: Place) -> None:
    (place.path / "file").write_bytes(b"x" * 1234)
    (place.path / "folder").mkdir()
    (place.path / "link").symlink_to("file")
    run("touch", "-d", "2001-02-03 04:05:06.123456700", "file", "folder", cwd=place.path)
    lines = bash("ls -lA --full-time | tail -n +2", cwd=place.path).splitlines()
    listed = {line.split(maxsplit=8)[8]: line.split() for line in lines}
    assert set(listed) == {"file", "folder", "link -> file"}
    assert [fields[0][0] for _, fields in sorted(listed.items())] == ["-", "d", "l"]
    assert listed["file"][4:7] == ["1234", "2001-02-03", "04:05:06.123456700"]
    assert listed["folder"][5:7] == ["2001-02-03", "04:05:06.123456700"]
    assert bash("ls -a", cwd=place.path).split() == [".", "..", "file", "folder", "link"]


def test_cp_mv_and_ln(place: Place) -> None:
    script = """
        head -c 100000 /dev/urandom > a
        cp a b; cmp a b
        mkdir d; mv b d/; cmp a d/b; test ! -e b
        mv d/b c; mv c a2; mv -f a2 a
        mv -n a d; test -e d/a; cp d/a a
        ln a hard; test "$(stat -c %h a)" = 2; test "$(stat -c %i a)" = "$(stat -c %i hard)"
        ln -s a soft; cmp a soft; test "$(readlink soft)" = a; test "$(readlink -f soft)" = "$PWD/a"
        ln -sf d soft; test "$(readlink soft)" = d
        rm hard; test "$(stat -c %h a)" = 1
        mv d e; test -f e/a; cp -r e f; diff -r e f
    """
    bash(script, cwd=place.path)
    assert sorted(os.listdir(place.server_path)) == ["a", "e", "f", "soft"]


def test_cp_refuses_what_it_refuses_anywhere(place: Place) -> None:
    script = """
        mkdir d; touch f d/x
        fails cp f f; fails mv d d/inside; fails mv f d/x/y; fails rmdir d; fails mkdir d; fails ln f d/x
        fails cp nothing f; fails mv -T f d; fails mv -T d f; fails cat d; fails rm d; fails mkdir none/deep
    """
    bash(script, cwd=place.path)
    assert sorted(os.listdir(place.path)) == ["d", "f"]


def test_touch_sets_times_to_100_ns(place: Place) -> None:
    script = """
        touch -d '1999-12-31 23:59:59.9999999' old
        touch -r old same
        touch -a -d '2010-01-01 00:00:00' same
        touch now
        stat -c '%n %y' old same; stat -c '%x' same
        test -n "$(find now -mmin -1)"
        test old -ot now; test now -nt old
        touch -c absent; test ! -e absent
    """
    assert bash(script, cwd=place.path).splitlines() == [
        "old 1999-12-31 23:59:59.999999900 +0000",
        "same 1999-12-31 23:59:59.999999900 +0000",
        "2010-01-01 00:00:00.000000000 +0000",
    ]
    assert (place.server_path / "old").stat().st_mtime_ns == 946_684_799_999_999_900


def test_du_and_df(place: Place) -> None:
    (place.path / "deep" / "er").mkdir(parents=True)
    for index in range(5):
        (place.path / "deep" / "er" / f"f{index}").write_bytes(noise(100_000, str(index)))
    used = int(run("du", "-s", "--block-size=1", place.path).split()[0])
    assert 500_000 <= used <= 1_000_000
    listed = run("find", place.path, "-type", "f", "-printf", "%s\n").split()
    assert [int(size) for size in listed] == [100_000] * 5
    table = run("df", "--output=source,fstype,size,target", "--block-size=1", place.path)
    source, kind, size, target = table.splitlines()[1].split()
    volume = os.statvfs(place.server_path)
    assert (source, kind, target) == (place.mount.source, "fuse.smbmount", str(place.mount.path))
    assert int(size) == volume.f_blocks * volume.f_frsize


def test_truncate_up_down_and_relative(place: Place) -> None:
    script = """
        printf 0123456789 > f
        truncate -s 4 f; test "$(cat f)" = 0123
        truncate -s +4 f; test "$(od -An -c f | tr -d ' ')" = '0123\\0\\0\\0\\0'
        truncate -s 0 f; test ! -s f
        truncate -s 1M f; test "$(stat -c %s f)" = 1048576; cmp -n 1048576 f /dev/zero
        printf end >> f; test "$(tail -c 3 f)" = end
        truncate -r f new; test "$(stat -c %s new)" = 1048579
    """
    bash(script, cwd=place.path)
    assert (place.server_path / "f").stat().st_size == (1 << 20) + 3


def test_dd_with_all_its_flags(place: Place) -> None:
    script = """
        head -c 3000000 /dev/urandom > in
        dd status=none if=in of=out bs=64k conv=fsync; cmp in out
        dd status=none if=in of=out bs=1000 conv=notrunc,fdatasync count=100 seek=500 skip=500; cmp in out
        dd status=none if=in of=tail bs=1M count=1 oflag=append conv=notrunc
        dd status=none if=in of=tail bs=1M skip=1 oflag=append conv=notrunc; cmp in tail
        dd status=none if=in of=direct bs=4096 oflag=direct count=700
        dd status=none if=direct iflag=direct bs=4096 | cmp -n 2867200 - in
        dd status=none if=in of=sync bs=100k oflag=sync,dsync; cmp in sync
        dd status=none if=/dev/zero of=hole bs=1 count=1 seek=99999; test "$(stat -c %s hole)" = 100000
        dd status=none if=in of=in2 bs=64k oflag=nofollow conv=excl; fails dd if=in of=in2 conv=excl
    """
    bash(script, cwd=place.path)


def test_head_tail_and_pipes(place: Place) -> None:
    script = """
        seq 10000 > n
        test "$(head -n 1 n)" = 1; test "$(tail -n 1 n)" = 10000; test "$(head -c 3 n | wc -c)" = 3
        test "$(tail -c 6 n)" = 10000; test "$(tail -n +9999 n | wc -l)" = 2
        test "$(wc -l < n)" = 10000; tac n | tac | cmp - n
        shuf n > s; sort -n s | cmp - n; sort -rn s | uniq | wc -l | grep -qx 10000
        paste n s | awk '{a+=$1; b+=$2} END {exit a!=b}'
        cut -c1 n | sort -u | wc -l | grep -qx 9
    """
    bash(script, cwd=place.path)


def test_tail_follows_a_growing_file(place: Place) -> None:
    log = place.path / "log"
    log.write_text("first\n")
    with Conversation("tail", "-n", "+1", "-s", "0.05", "-f", log, cwd=place.path) as tail:
        assert tail.hear() == "first"
        for number in range(5):
            bash(f"echo line {number} >> log", cwd=place.path)
            assert tail.hear(10) == f"line {number}"
        log.rename(place.path / "log.1")
        bash("echo moved >> log.1", cwd=place.path)
        assert tail.hear(10) == "moved"


def test_tail_follows_a_name_through_rotation(place: Place) -> None:
    log = place.path / "log"
    log.write_text("old\n")
    with Conversation("tail", "-n", "+1", "-s", "0.05", "-F", log, cwd=place.path) as tail:
        assert tail.hear() == "old"
        bash("mv log log.1; echo new > log", cwd=place.path)
        while (line := tail.hear(10)) != "new":
            assert "replaced" in line or "become" in line or "appeared" in line, line


def test_mkdir_and_rmdir_of_a_deep_path(place: Place) -> None:
    deep = "/".join(f"level {level}" for level in range(40))
    bash('mkdir -p "$1"; echo here > "$1/f"; cat "$1/f"; mkdir -p "$1"', deep, cwd=place.path)
    assert (place.server_path / deep / "f").read_text() == "here\n"
    bash('rm "$1/f"; rmdir -p "$1"', deep, cwd=place.path)
    assert os.listdir(place.server_path) == []


def test_rm_removes_a_large_tree(place: Place) -> None:
    script = """
        mkdir -p tree/{1..50}; for d in tree/*; do touch $d/{1..10}; done
        test "$(find tree -type f | wc -l)" = 500
        rm -rf tree; test ! -e tree
    """
    bash(script, cwd=place.path)
    assert os.listdir(place.server_path) == []


def test_rm_removes_a_read_only_file(place: Place) -> None:
    bash("echo x > f; chmod a-w f; rm -f f; mkdir d; echo x > d/f; chmod a-w d/f; rm -rf d", cwd=place.path)
    assert os.listdir(place.server_path) == []


def test_chmod_maps_write_bits_to_read_only(place: Place) -> None:
    file = place.path / "f"
    file.write_text("x")
    for mode, shown in (("644", 0o755), ("600", 0o755), ("a-w", 0o555), ("+x", 0o555), ("u+w", 0o755)):
        run("chmod", mode, file)
        assert stat.S_IMODE(file.stat().st_mode) == shown, mode
    run("chmod", "-R", "u=rwX,go=rX", place.path)
    run("chmod", "700", place.path)


def test_chown_and_chgrp_succeed_silently(place: Place) -> None:
    (place.path / "f").write_text("x")
    assert bash("chown 12345 f; chgrp 54321 f; chown -R 1:2 .; chown -h 3 f", cwd=place.path) == ""
    owner = (place.path / "f").stat()
    assert (owner.st_uid, owner.st_gid) == (os.getuid(), os.getgid())


def test_install_and_mktemp(place: Place) -> None:
    script = """
        echo content > source
        install -D -m 755 source a/b/target; cmp source a/b/target
        install -d x/y; install -m 644 -t x/y source; cmp source x/y/source
        install -p source x/y/source; test "$(stat -c %y source)" = "$(stat -c %y x/y/source)"
        f=$(mktemp -p .); test -f "$f" -a ! -s "$f"; d=$(mktemp -d -p .); test -d "$d"; rm "$f"; rmdir "$d"
    """
    bash(script, cwd=place.path)


def test_editing_in_place(place: Place) -> None:
    script = """
        printf 'c\\nb\\na\\n' > f; sort -o f f; test "$(tr -d '\\n' < f)" = abc
        sed -i 's/b/B/' f; test "$(tr -d '\\n' < f)" = aBc
        sed -i.bak 's/a/A/' f; test "$(tr -d '\\n' < f)" = ABc; test "$(tr -d '\\n' < f.bak)" = aBc
        perl -pi -e 's/c/C/' f; test "$(tr -d '\\n' < f)" = ABC
        echo one | tee -a f > /dev/null; echo two >> f; test "$(wc -l < f)" = 5
        for i in $(seq 50); do sed -i "1s/.*/$i/" f; test "$(head -n 1 f)" = $i; done
    """
    bash(script, cwd=place.path)
    assert sorted(os.listdir(place.server_path)) == ["f", "f.bak"]


def test_split_and_join_by_checksum(place: Place) -> None:
    script = """
        head -c 5000000 /dev/urandom > whole; md5sum whole > sums; sha256sum whole >> sums.2
        split -b 300k -d whole part.; test "$(ls part.* | wc -l)" = 17
        cat part.* > again; cmp whole again; md5sum --quiet -c sums; sha256sum --quiet -c sums.2
        mv again whole; md5sum --quiet -c sums; rm part.*
        csplit -s -f piece sums 1; cat piece* | cmp - sums
    """
    bash(script, cwd=place.path)
    written = (place.server_path / "sums").read_text().split()[0]
    assert hashlib.md5((place.server_path / "whole").read_bytes()).hexdigest() == written


@pytest.mark.parametrize("sparse", ["always", "auto", "never"])
def test_cp_of_sparse_files(place: Place, local: Path, sparse: str) -> None:
    script = """
        truncate -s 20M "$1/holes"
        printf middle | dd status=none of="$1/holes" bs=1 seek=10000000 conv=notrunc
        cp --sparse=$2 "$1/holes" in; cmp "$1/holes" in
        cp --sparse=$2 in "$1/out"; cmp "$1/holes" "$1/out"
        cp --sparse=$2 in again; cmp in again
    """
    bash(script, local, sparse, cwd=place.path)


def test_redirection_noclobber_and_append_from_many_shells(place: Place) -> None:
    script = """
        set -C; echo a > f; fails eval 'echo b > f'; test "$(cat f)" = a; set +C
        echo c > f; test "$(cat f)" = c
        for i in $(seq 8); do (for j in $(seq 25); do echo "$i $j" >> log; done) & done; wait
        test "$(wc -l < log)" = 200; test "$(sort -u log | wc -l)" = 200
    """
    bash(script, cwd=place.path)


def test_a_program_runs_from_the_mount(place: Place) -> None:
    script = """
        cp /bin/true ./program; ./program
        printf '#!/bin/sh\\necho "$@"\\n' > script; chmod +x script; test "$(./script hello)" = hello
    """
    bash(script, cwd=place.path)
    wait_until(lambda: _can_be_written(place.path / "program"), "an ended program may be written")


def _can_be_written(path: Path) -> bool:
    try:
        path.open("r+b").close()
    except OSError:
        return False
    return True
