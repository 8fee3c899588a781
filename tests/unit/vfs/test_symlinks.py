"""The content of symbolic links, and where they may lead."""

from __future__ import annotations

import errno
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbmount.vfs import symlinks
from tests.unit.vfs.support import refused


def test_the_file_looks_as_cifs_writes_it() -> None:
    content = symlinks.encode(b"a/target")
    md5 = hashlib.md5(b"a/target", usedforsecurity=False).hexdigest()
    assert content.startswith(f"XSym\n0008\n{md5}\na/target\n ".encode())
    assert len(content) == 1067
    assert content.endswith(b" ")


@pytest.mark.parametrize("length", [1, 1023, 1024])
def test_targets_come_back(length: int) -> None:
    assert symlinks.decode_untrusted(symlinks.encode(b"t" * length)) == b"t" * length


def test_impossible_targets_are_refused() -> None:
    with refused(errno.ENAMETOOLONG):
        symlinks.encode(b"t" * 1025)
    with refused(errno.ENOENT):
        symlinks.encode(b"")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 1067,
        symlinks.encode(b"t")[:-1],
        symlinks.encode(b"t").replace(b"XSym", b"xSym"),
        symlinks.encode(b"t").replace(b"0001", b"0002"),
        symlinks.encode(b"t").replace(b"0001", b"9999"),
        symlinks.encode(b"t").replace(b"0001", b" +1 "),
        symlinks.encode(b"a\0b"),
    ],
)
def test_files_that_only_have_the_size_are_no_links(content: bytes) -> None:
    assert symlinks.decode_untrusted(content) is None


@given(st.binary(max_size=1100))
def test_any_content_is_survived(content: bytes) -> None:
    symlinks.decode_untrusted(content)
    symlinks.decode_untrusted((b"XSym\n" + content).ljust(1067)[:1067])


@pytest.mark.parametrize(
    ("target", "depth", "inside"),
    [
        (b"file", 0, True),
        (b"a/b/c", 0, True),
        (b"./a//b", 0, True),
        (b"..", 0, False),
        (b"..", 1, True),
        (b"../../x", 1, False),
        (b"../../x", 2, True),
        (b"/etc/passwd", 5, False),
        (b"a/../../x", 5, False),
        (b"a/..", 5, False),
        (b"./../x", 1, True),
    ],
)
def test_containment_counts_the_way_up(target: bytes, depth: int, inside: bool) -> None:
    assert symlinks.is_contained(target, depth) is inside
