"""Names both ways."""

from __future__ import annotations

import errno

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smbmount.vfs.errors import PosixError
from smbmount.vfs.names import NameMap
from tests.unit.vfs.support import refused

MAPPED = NameMap(map_reserved=True)
PLAIN = NameMap(map_reserved=False)


@pytest.mark.parametrize(
    ("posix", "smb"),
    [
        (b"plain", "plain"),
        ("äöü 日本 \U0001f600".encode(), "äöü 日本 \U0001f600"),
        (b'a"*:<>?|\\b', "a\uf020\uf021\uf022\uf023\uf024\uf025\uf027\uf026b"),
        (b"dot.", "dot\uf029"),
        (b"blank ", "blank\uf028"),
        (b"...", "..\uf029"),
        (b" in. front", " in. front"),
        (b"tab\tand\x01", "tab\uf009and\uf001"),
        (b"\xed\xa0\x80", "\ud800"),
    ],
)
def test_reserved_characters_are_mapped_as_cifs_does(posix: bytes, smb: str) -> None:
    assert MAPPED.encode(posix) == smb
    assert MAPPED.decode_untrusted(smb) == posix


@pytest.mark.parametrize("name", [b"a:b", b"a?", b"a.", b"a ", b"a\\b", b"\x07"])
def test_without_the_map_reserved_characters_are_refused(name: bytes) -> None:
    with refused(errno.EINVAL):
        PLAIN.encode(name)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        (b"x" * 256, errno.ENAMETOOLONG),
        (b"\xff\xfe", errno.EILSEQ),
        (b"\xed\xa0\xbd\xed\xb8\x80", errno.EILSEQ),
        (b".", errno.EINVAL),
        (b"..", errno.EINVAL),
        (b"", errno.EINVAL),
        ("a\uf022".encode(), errno.EINVAL),
        ("a\uf029".encode(), errno.EINVAL),
    ],
)
def test_names_that_smb_cannot_hold_are_refused(name: bytes, number: int) -> None:
    with refused(number):
        MAPPED.encode(name)


def test_the_longest_name_is_taken() -> None:
    assert MAPPED.encode(b"x" * 255) == "x" * 255


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\0", "a\\b", "x" * 256, "日" * 86, "a:b", "end.", "end ", "\uf029\uf029x/"],
)
def test_hostile_names_of_the_server_are_dropped(name: str) -> None:
    assert MAPPED.decode_untrusted(name) is None


def test_mapped_dots_never_become_the_folder_itself() -> None:
    assert MAPPED.decode_untrusted("\uf029") is None
    assert MAPPED.decode_untrusted(".\uf029") is None


@given(st.binary(max_size=40))
def test_what_is_encoded_comes_back(name: bytes) -> None:
    for names in (MAPPED, PLAIN):
        try:
            smb = names.encode(name)
        except PosixError:
            continue
        assert names.decode_untrusted(smb) == name


@given(st.text(st.characters(codec=None), max_size=20))
def test_what_is_shown_can_be_asked_for(smb: str) -> None:
    shown = MAPPED.decode_untrusted(smb)
    if shown is not None:
        assert b"/" not in shown
        assert b"\0" not in shown
        assert shown not in (b"", b".", b"..")
        assert MAPPED.encode(shown).encode("utf-16-le", "surrogatepass") == smb.encode(
            "utf-16-le", "surrogatepass"
        )


@given(st.text(max_size=40))
@example("a:b")
@example("dot.")
def test_without_the_map_too_what_is_shown_can_be_asked_for(smb: str) -> None:
    shown = PLAIN.decode_untrusted(smb)
    if shown is not None:
        assert PLAIN.encode(shown) == smb
