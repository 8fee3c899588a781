from __future__ import annotations

import datetime
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.primitives import (
    align8,
    decode_utf16_untrusted,
    encode_name,
    encode_utf16,
    filetime_to_ns,
    ns_to_filetime,
    pad8,
    read_guid,
    slice_checked,
    slice_payload,
    unpack_checked,
)

VIEW = memoryview(b"0123456789")


@pytest.mark.parametrize(
    ("offset", "length", "expected"), [(0, 10, b"0123456789"), (3, 2, b"34"), (10, 0, b"")]
)
def test_slice_checked_returns_a_view(offset: int, length: int, expected: bytes) -> None:
    piece = slice_checked(VIEW, offset, length, "piece")
    assert isinstance(piece, memoryview)
    assert piece == expected


@pytest.mark.parametrize(("offset", "length"), [(0, 11), (10, 1), (11, 0), (-1, 1), (1, -1), (1 << 64, 1)])
def test_slice_checked_refuses_what_lies_outside(offset: int, length: int) -> None:
    with pytest.raises(RemoteProtocolError, match="piece"):
        slice_checked(VIEW, offset, length, "piece")


def test_an_empty_payload_may_have_any_offset() -> None:
    assert bytes(slice_payload(VIEW, 0xFFFF, 0, 4, "payload")) == b""


def test_a_payload_may_not_overlap_the_fixed_fields() -> None:
    assert bytes(slice_payload(VIEW, 4, 2, 4, "payload")) == b"45"
    with pytest.raises(RemoteProtocolError):
        slice_payload(VIEW, 3, 2, 4, "payload")


@pytest.mark.parametrize("offset", [-1, 7, 1 << 40])
def test_unpack_checked_refuses_what_does_not_fit(offset: int) -> None:
    layout = struct.Struct("<I")
    assert unpack_checked(layout, VIEW, 6, "number") == (0x39383736,)
    with pytest.raises(RemoteProtocolError):
        unpack_checked(layout, VIEW, offset, "number")


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("", ""),
        ("aß", "6100 df00"),
        ("😀", "3dd8 00de"),
        ("\ud83d", "3dd8"),
        ("x\ude00y", "7800 00de 7900"),
    ],
)
def test_utf16_keeps_lone_surrogates(text: str, encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert encode_utf16(text) == data
    assert decode_utf16_untrusted(memoryview(data)) == text


def test_utf16_of_odd_length_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_utf16_untrusted(memoryview(b"abc"))


@given(data=st.binary(max_size=30).filter(lambda data: len(data) % 2 == 0))
def test_any_even_bytes_are_text_and_back(data: bytes) -> None:
    assert encode_utf16(decode_utf16_untrusted(memoryview(data))) == data


def test_a_name_too_long_for_its_length_field_is_our_mistake() -> None:
    assert len(encode_name("x" * 0x7FFF, "name")) == 0xFFFE
    with pytest.raises(LocalProtocolError):
        encode_name("x" * 0x8000, "name")


@pytest.mark.parametrize(("number", "aligned"), [(0, 0), (1, 8), (7, 8), (8, 8), (9, 16)])
def test_alignment(number: int, aligned: int) -> None:
    assert align8(number) == aligned
    assert pad8(b"x" * number) == b"x" * number + bytes(aligned - number)


def test_guids_are_little_endian_on_the_wire() -> None:
    data = bytes.fromhex("ff 33221100 5544 7766 8899aabbccddeeff")
    assert str(read_guid(memoryview(data), 1)) == "00112233-4455-6677-8899-aabbccddeeff"


@pytest.mark.parametrize(
    ("filetime", "moment"),
    [
        (0, datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC)),
        (116444736000000000, datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)),
        (125911584000000000, datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)),
    ],
)
def test_filetimes_against_the_calendar(filetime: int, moment: datetime.datetime) -> None:
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert filetime_to_ns(filetime) == (moment - epoch) // datetime.timedelta(microseconds=1) * 1000


@given(filetime=st.integers(1, 2**63 - 1))
def test_filetimes_survive_the_way_there_and_back(filetime: int) -> None:
    assert ns_to_filetime(filetime_to_ns(filetime)) == filetime


@pytest.mark.parametrize("ns", [-(10**40), -11644473600 * 10**9, 10**40])
def test_times_that_no_filetime_holds_are_clamped(ns: int) -> None:
    assert ns_to_filetime(ns) == (1 if ns < 0 else 2**63 - 1)
