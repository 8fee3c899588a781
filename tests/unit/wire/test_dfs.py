"""DFS referrals against bytes written down by hand from [MS-DFSC] 2.2, and strings that lie."""

from __future__ import annotations

import struct
from uuid import UUID

import pytest

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.dfs import (
    DfsEntryFlags,
    DfsReferral,
    DfsReferralRequest,
    DfsReferralRequestEx,
    DfsReferralResponse,
)


def _text(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le")


def _decode(data: bytes) -> DfsReferralResponse:
    return DfsReferralResponse.decode_untrusted(memoryview(data))


def test_request() -> None:
    encoded = struct.pack("<H", 4) + _text("\\srv\\dfs")
    assert DfsReferralRequest("\\srv\\dfs").encode() == encoded
    assert DfsReferralRequest.decode_untrusted(memoryview(encoded)) == DfsReferralRequest("\\srv\\dfs", 4)


def test_request_ex() -> None:
    plain = struct.pack("<HHIH", 4, 0, 4, 2) + b"x\0"
    assert DfsReferralRequestEx("x").encode() == plain
    with_site = struct.pack("<HHIH", 4, 1, 8, 2) + b"x\0" + struct.pack("<H", 2) + b"s\0"
    assert DfsReferralRequestEx("x", "s").encode() == with_site
    assert DfsReferralRequestEx.decode_untrusted(memoryview(with_site)) == DfsReferralRequestEx("x", "s")


def test_version_1() -> None:
    share = _text("\\a\\b")
    encoded = struct.pack("<HHI", 10, 1, 3) + struct.pack("<HHHH", 1, 8 + len(share), 1, 0) + share
    response = DfsReferralResponse(10, 3, (DfsReferral(1, "\\a\\b", server_type=1),))
    assert _decode(encoded) == response
    assert response.encode() == encoded


def test_version_2() -> None:
    path, alternate, address = _text("\\d\\r"), _text("\\D\\R"), _text("\\a\\b")
    entry = struct.pack("<HHHHIIHHH", 2, 22, 0, 0, 5, 300, 22, 22 + len(path), 22 + len(path + alternate))
    encoded = struct.pack("<HHI", 10, 1, 2) + entry + path + alternate + address
    referral = DfsReferral(2, "\\a\\b", "\\d\\r", "\\D\\R", time_to_live=300, proximity=5)
    assert _decode(encoded) == DfsReferralResponse(10, 2, (referral,))
    assert DfsReferralResponse(10, 2, (referral,)).encode() == encoded


def test_version_4_with_shared_strings() -> None:
    """As servers send it: the entries first, their paths once, an address each."""
    path, first, second = _text("\\d\\r"), _text("\\a\\b"), _text("\\c\\d")
    guid = UUID(int=7)
    at = 2 * 34
    one = struct.pack("<HHHHIHHH", 4, 34, 0, 4, 300, at, at, at + len(path)) + guid.bytes_le
    at -= 34
    two = struct.pack("<HHHHIHHH", 4, 34, 0, 0, 300, at, at, at + len(path + first)) + guid.bytes_le
    encoded = struct.pack("<HHI", 10, 2, 2) + one + two + path + first + second
    referrals = _decode(encoded).referrals
    assert [referral.network_address for referral in referrals] == ["\\a\\b", "\\c\\d"]
    assert {referral.dfs_path for referral in referrals} == {"\\d\\r"}
    assert {referral.dfs_alternate_path for referral in referrals} == {"\\d\\r"}
    assert referrals[0].referral_entry_flags == DfsEntryFlags.TARGET_SET_BOUNDARY
    assert referrals[1].service_site_guid == guid


def test_version_3_name_list() -> None:
    special, names = _text("dom"), _text("\\dc1") + _text("\\dc2")
    entry = struct.pack("<HHHHIHHH", 3, 34, 0, 2, 600, 34, 2, 34 + len(special)) + bytes(16)
    encoded = struct.pack("<HHI", 0, 1, 0) + entry + special + names
    referral = DfsReferral(
        3,
        referral_entry_flags=2,
        time_to_live=600,
        special_name="dom",
        expanded_names=("\\dc1", "\\dc2"),
    )
    assert referral.is_name_list
    assert _decode(encoded) == DfsReferralResponse(0, 0, (referral,))
    assert DfsReferralResponse(0, 0, (referral,)).encode() == encoded


def test_a_name_list_without_names_ignores_their_offset() -> None:
    entry = struct.pack("<HHHHIHHH", 3, 18, 0, 2, 600, 18, 0, 0xFFFF)
    encoded = struct.pack("<HHI", 0, 1, 0) + entry + _text("d")
    assert _decode(encoded).referrals[0].expanded_names == ()


@pytest.mark.parametrize("version", [0, 5, 0xFFFF])
def test_an_unknown_version(version: int) -> None:
    with pytest.raises(RemoteProtocolError):
        _decode(struct.pack("<HHI", 0, 1, 0) + struct.pack("<HHHH", version, 34, 0, 0) + bytes(60))
    with pytest.raises(LocalProtocolError):
        DfsReferralResponse(0, 0, (DfsReferral(version),)).encode()


@pytest.mark.parametrize("size", [0, 7, 8, 21, 0xFFFF])
def test_an_entry_size_that_is_too_small_or_too_large(size: int) -> None:
    entry = struct.pack("<HHHHIIHHH", 2, size, 0, 0, 5, 300, 22, 22, 22)
    with pytest.raises(RemoteProtocolError):
        _decode(struct.pack("<HHI", 0, 1, 0) + entry + _text("\\a"))


def test_a_version_1_name_that_leaves_its_entry() -> None:
    entry = struct.pack("<HHHH", 1, 10, 0, 0) + _text("\\a\\b")
    with pytest.raises(RemoteProtocolError):
        _decode(struct.pack("<HHI", 0, 1, 0) + entry)


@pytest.mark.parametrize("offset", [30, 31, 0xFFFF])
def test_string_offsets_outside(offset: int) -> None:
    entry = struct.pack("<HHHHIIHHH", 2, 22, 0, 0, 5, 300, offset, 22, 22)
    with pytest.raises(RemoteProtocolError):
        _decode(struct.pack("<HHI", 0, 1, 0) + entry + _text("\\ab"))


def test_a_string_that_does_not_end() -> None:
    entry = struct.pack("<HHHHIIHHH", 2, 22, 0, 0, 5, 300, 22, 22, 22)
    with pytest.raises(RemoteProtocolError):
        _decode(struct.pack("<HHI", 0, 1, 0) + entry + "\\ab".encode("utf-16-le"))


def test_the_nul_has_to_be_a_whole_character() -> None:
    """U+0100 U+0001 holds two zero bytes side by side that end nothing."""
    entry = struct.pack("<HHHHIIHHH", 2, 22, 0, 0, 5, 300, 22, 22, 22)
    encoded = struct.pack("<HHI", 0, 1, 0) + entry + _text("\u6100\u0061b")
    assert _decode(encoded).referrals[0].dfs_path == "\u6100\u0061b"


def test_overlapping_strings_cannot_multiply() -> None:
    """Each of 1,000 entries names another suffix of one long string: 30 MB of text in 52 KB."""
    count, long = 1_000, 15_000
    entries = b"".join(
        struct.pack("<HHHHIIHHH", 2, 22, 0, 0, 0, 0, *[(count - index) * 22 + 2 * index] * 3)
        for index in range(count)
    )
    with pytest.raises(RemoteProtocolError, match="overlap"):
        _decode(struct.pack("<HHI", 0, count, 0) + entries + _text("x" * long))


def test_shared_name_lists_cannot_multiply() -> None:
    """Each of 500 entries names the same 10,000 empty names."""
    count, names = 500, 10_000
    entries = b"".join(
        struct.pack("<HHHHIHHH", 3, 18, 0, 2, 0, (count - index) * 18, names, (count - index) * 18)
        for index in range(count)
    )
    with pytest.raises(RemoteProtocolError, match="overlap"):
        _decode(struct.pack("<HHI", 0, count, 0) + entries + bytes(2 * names))


def test_text_with_nul_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        DfsReferralRequest("a\0b").encode()
