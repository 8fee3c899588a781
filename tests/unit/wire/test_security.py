"""SIDs, lists and security descriptors against bytes written down by hand from [MS-DTYP] 2.4."""

from __future__ import annotations

import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.security import Ace, AceFlags, AceType, Acl, SecurityDescriptor, Sid

ADMINISTRATORS = bytes.fromhex("01020000000000052000000020020000")
EVERYONE = bytes.fromhex("010100000000000100000000")


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("S-1-5-32-544", ADMINISTRATORS),
        ("S-1-1-0", EVERYONE),
        ("S-1-5", bytes.fromhex("0100000000000005")),
        ("S-1-22-1-1000", bytes.fromhex("010200000000001601000000e8030000")),
        ("S-1-0x112233445566-4294967295", bytes.fromhex("0101112233445566ffffffff")),
    ],
)
def test_sids(text: str, encoded: bytes) -> None:
    sid = Sid.from_string(text)
    assert sid.encode() == encoded
    assert str(Sid.decode_untrusted(memoryview(encoded + b"after"))) == text
    assert sid.size == len(encoded)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "S-1",
        "S-2-5",
        "X-1-5",
        "S-1-",
        "S-1-5-",
        "S-1-5-x",
        "S-1-5-4294967296",
        "S-1-281474976710656",
        "S-1--5",
        "S-1-5" + "-1" * 16,
    ],
)
def test_what_is_not_a_sid(text: str) -> None:
    with pytest.raises(ValueError, match="is not a SID"):
        Sid.from_string(text)


@given(st.integers(0, (1 << 48) - 1), st.lists(st.integers(0, (1 << 32) - 1), max_size=15))
def test_a_sids_text_says_it_all(authority: int, sub_authorities: list[int]) -> None:
    sid = Sid(authority, tuple(sub_authorities))
    assert Sid.from_string(str(sid)) == sid


@pytest.mark.parametrize("head", [b"\2\0", b"\0\0", b"\1\x10", b"\1\xff"])
def test_sids_of_another_revision_or_too_many_parts(head: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Sid.decode_untrusted(memoryview(head + bytes(6 + 4 * 255)))


def test_a_sid_with_too_many_parts_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        Sid(5, (1,) * 16).encode()


def test_an_access_allowed_ace() -> None:
    ace = Ace(AceType.ACCESS_ALLOWED, AceFlags.OBJECT_INHERIT, 0x1F01FF, Sid.from_string("S-1-1-0"))
    encoded = struct.pack("<BBHI", 0, 1, 20, 0x1F01FF) + EVERYONE
    assert ace.encode() == encoded
    assert Ace.decode_untrusted(memoryview(encoded)) == ace


@pytest.mark.parametrize(
    ("flags", "own", "inherited"), [(0, None, None), (1, 7, None), (2, None, 8), (3, 7, 8)]
)
def test_an_object_ace(flags: int, own: int | None, inherited: int | None) -> None:
    own_id = UUID(int=own) if own is not None else None
    inherited_id = UUID(int=inherited) if inherited is not None else None
    guids = b"".join(guid.bytes_le for guid in (own_id, inherited_id) if guid is not None)
    encoded = struct.pack("<BBHII", 5, 0, 24 + len(guids), 0x10, flags) + guids + EVERYONE
    ace = Ace(5, 0, 0x10, Sid.from_string("S-1-1-0"), own_id, inherited_id)
    assert ace.encode() == encoded
    assert Ace.decode_untrusted(memoryview(encoded)) == ace


def test_what_is_not_understood_in_an_ace_is_kept() -> None:
    callback = struct.pack("<BBHI", 9, 0, 28, 1) + EVERYONE + b"artx\0\0\0\0"
    assert Ace.decode_untrusted(memoryview(callback)).extra == b"artx\0\0\0\0"
    unknown = struct.pack("<BBH", 0x77, 3, 8) + b"what"
    for encoded in (callback, unknown):
        assert Ace.decode_untrusted(memoryview(encoded)).encode() == encoded


def test_an_ace_has_to_name_somebody() -> None:
    with pytest.raises(LocalProtocolError):
        Ace(AceType.ACCESS_DENIED).encode()


ONE_ACE = struct.pack("<BBHI", 0, 0, 20, 1) + EVERYONE


def test_an_acl() -> None:
    encoded = struct.pack("<BBHHH", 2, 0, 28, 1, 0) + ONE_ACE
    acl = Acl((Ace(0, 0, 1, Sid.from_string("S-1-1-0")),))
    assert acl.encode() == encoded
    assert Acl.decode_untrusted(memoryview(encoded + b"more")) == acl


@pytest.mark.parametrize(("size", "count"), [(7, 0), (27, 1), (28, 2), (8, 1), (29, 1), (28, 0xFFFF)])
def test_acls_whose_size_or_count_is_wrong(size: int, count: int) -> None:
    encoded = struct.pack("<BBHHH", 2, 0, size, count, 0) + ONE_ACE
    with pytest.raises(RemoteProtocolError):
        Acl.decode_untrusted(memoryview(encoded))


@pytest.mark.parametrize("ace_size", [0, 3, 4, 8, 19, 21])
def test_aces_whose_size_is_wrong(ace_size: int) -> None:
    ace = struct.pack("<BBHI", 0, 0, ace_size, 1) + EVERYONE
    with pytest.raises(RemoteProtocolError):
        Acl.decode_untrusted(memoryview(struct.pack("<BBHHH", 2, 0, 28, 1, 0) + ace))


def test_an_acl_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        Acl((Ace(0x77, extra=bytes(40_000)),) * 2).encode()


def test_a_security_descriptor() -> None:
    acl = struct.pack("<BBHHH", 2, 0, 28, 1, 0) + ONE_ACE
    encoded = struct.pack("<BBHIIII", 1, 0, 0x8004, 20, 36, 0, 48) + ADMINISTRATORS + EVERYONE + acl
    descriptor = SecurityDescriptor(
        owner=Sid.from_string("S-1-5-32-544"),
        group=Sid.from_string("S-1-1-0"),
        dacl=Acl((Ace(0, 0, 1, Sid.from_string("S-1-1-0")),)),
        control=0x8004,
    )
    assert descriptor.encode() == encoded
    assert SecurityDescriptor.decode_untrusted(memoryview(encoded)) == descriptor


def test_no_list_an_empty_list_and_the_null_list_differ() -> None:
    absent = SecurityDescriptor()
    null = SecurityDescriptor(control=0x8004)
    empty = SecurityDescriptor(dacl=Acl(), control=0x8004)
    encoded = {descriptor.encode() for descriptor in (absent, null, empty)}
    assert len(encoded) == 3
    for descriptor in (absent, null, empty):
        assert SecurityDescriptor.decode_untrusted(memoryview(descriptor.encode())) == descriptor


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(struct.pack("<BBHIIII", 2, 0, 0x8000, 0, 0, 0, 0), id="revision"),
        pytest.param(struct.pack("<BBHIIII", 1, 0, 0x0000, 0, 0, 0, 0), id="absolute"),
        pytest.param(struct.pack("<BBHIIII", 1, 0, 0x8000, 19, 0, 0, 0), id="owner inside the header"),
        pytest.param(struct.pack("<BBHIIII", 1, 0, 0x8000, 0, 0xFFFFFFFF, 0, 0), id="group far away"),
        pytest.param(struct.pack("<BBHIIII", 1, 0, 0x8004, 0, 0, 0, 30), id="list cut off"),
    ],
)
def test_security_descriptors_that_are_refused(head: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        SecurityDescriptor.decode_untrusted(memoryview(head + b"\1\0" + bytes(14)))
