from __future__ import annotations

import pytest

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.constants import ErrorId, SymlinkFlags
from engine.wire.error import (
    ErrorContext,
    ErrorResponse,
    SymbolicLinkErrorResponse,
    decode_required_length_untrusted,
    encode_required_length,
)
from tests.unit.wire.messages import message_from_hex

SYMLINK = (
    "24000000 53594d4c 0c0000a0 1800 0400"  # SymLinkLength, tag "SYML", ReparseTag, lengths
    "0000 0800 0800 0400 01000000"  # names' offsets and lengths, Flags
    "2e00 2e00 5c00 7400 7400 7500"  # "..\t", "tu"
)
CONTEXTS = (
    "0900 02 00 1c000000"
    "04000000 00000000 00100000 00000000"  # the needed length; padding
    "04000000 53526472 61626364"
)


def test_no_data_is_one_byte_all_the_same() -> None:
    encoded = "0900 00 00 00000000 00"
    assert ErrorResponse().encode() == bytes.fromhex(encoded)
    assert ErrorResponse.decode_untrusted(message_from_hex(encoded)) == ErrorResponse()
    assert ErrorResponse().details == b""


def test_bare_data_of_the_older_dialects() -> None:
    response = ErrorResponse(encode_required_length(0x1000))
    encoded = "0900 00 00 04000000 00100000"
    assert response.encode() == bytes.fromhex(encoded)
    decoded = ErrorResponse.decode_untrusted(message_from_hex(encoded))
    assert decoded == response
    assert decode_required_length_untrusted(decoded.details) == 0x1000


def test_contexts() -> None:
    response = ErrorResponse(
        contexts=(
            ErrorContext(bytes.fromhex("00100000")),
            ErrorContext(b"abcd", ErrorId.SHARE_REDIRECT),
        )
    )
    assert response.encode() == bytes.fromhex(CONTEXTS)
    decoded = ErrorResponse.decode_untrusted(message_from_hex(CONTEXTS))
    assert decoded == response
    assert decode_required_length_untrusted(decoded.details) == 0x1000


def test_a_redirection_alone_is_no_detail_of_the_failure() -> None:
    assert ErrorResponse(contexts=(ErrorContext(b"abcd", ErrorId.SHARE_REDIRECT),)).details == b""


def test_contexts_and_bare_data_exclude_each_other() -> None:
    with pytest.raises(LocalProtocolError):
        ErrorResponse(b"x", (ErrorContext(b"y"),)).encode()


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("0900", "0a00"),
        ("02 00", "03 00"),
        ("02 00", "ff 00"),
        ("1c000000", "1d000000"),
        ("1c000000", "1b000000"),
        ("04000000 53", "05000000 53"),
        ("04000000 00", "ffffffff 00"),
    ],
)
def test_bad_responses_are_refused(good: str, bad: str) -> None:
    assert good in CONTEXTS
    with pytest.raises(RemoteProtocolError):
        ErrorResponse.decode_untrusted(message_from_hex(CONTEXTS.replace(good, bad, 1)))


def test_symbolic_link() -> None:
    link = SymbolicLinkErrorResponse("..\\t", "tu", unparsed_path_length=4, flags=SymlinkFlags.RELATIVE)
    assert link.encode() == bytes.fromhex(SYMLINK)
    decoded = SymbolicLinkErrorResponse.decode_untrusted(bytes.fromhex(SYMLINK))
    assert decoded == link
    assert decoded.is_relative
    assert not SymbolicLinkErrorResponse("\\??\\C:\\x").is_relative


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("53594d4c", "53594d4d"),
        ("0c0000a0", "030000a0"),
        ("0000 0800", "0000 0700"),
        ("0000 0800", "0000 0e00"),
        ("0000 0800", "ffff 0800"),
        ("0800 0400", "0a00 0400"),
    ],
)
def test_bad_symbolic_links_are_refused(good: str, bad: str) -> None:
    assert good in SYMLINK
    with pytest.raises(RemoteProtocolError):
        SymbolicLinkErrorResponse.decode_untrusted(bytes.fromhex(SYMLINK.replace(good, bad, 1)))


def test_a_required_length_that_is_not_there() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_required_length_untrusted(b"\0\0\0")
