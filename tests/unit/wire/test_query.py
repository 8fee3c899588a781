from __future__ import annotations

import pytest

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.constants import EaQueryFlags, InfoType, QueryDirectoryFlags, SecurityInformation
from engine.wire.primitives import FileId
from engine.wire.query import (
    QueryDirectoryRequest,
    QueryDirectoryResponse,
    QueryInfoRequest,
    QueryInfoResponse,
    SetInfoRequest,
    SetInfoResponse,
)
from tests.unit.wire.messages import message_from_hex

FILE_ID = FileId(0x0102030405060708, 0x1112131415161718)
FILE_ID_HEX = "0807060504030201 1817161514131211"

DIRECTORY = f"2100 25 11 07000000 {FILE_ID_HEX} 6000 0400 00001000 2a00 6100"
INFO = f"2900 01 0f 00100000 6800 0000 03000000 04000000 02000000 {FILE_ID_HEX} 616263"
SET = f"2100 01 14 08000000 6000 0000 04000000 {FILE_ID_HEX} 0010000000000000"
RESPONSE = "0900 4800 03000000 616263"


def test_query_directory_request() -> None:
    request = QueryDirectoryRequest(
        file_information_class=0x25,
        flags=QueryDirectoryFlags.RESTART_SCANS | QueryDirectoryFlags.REOPEN,
        file_index=7,
        file_id=FILE_ID,
        output_buffer_length=0x100000,
        pattern="*a",
    )
    assert request.encode() == bytes.fromhex(DIRECTORY)
    assert QueryDirectoryRequest.decode_untrusted(message_from_hex(DIRECTORY)) == request


def test_a_pattern_too_long_for_the_wire() -> None:
    request = QueryDirectoryRequest(
        file_information_class=1, file_id=FILE_ID, output_buffer_length=0, pattern="x" * 40_000
    )
    with pytest.raises(LocalProtocolError):
        request.encode()


def test_query_info_request() -> None:
    request = QueryInfoRequest(
        info_type=InfoType.FILE,
        file_info_class=15,
        output_buffer_length=0x1000,
        additional_information=SecurityInformation.DACL,
        flags=EaQueryFlags.RETURN_SINGLE_ENTRY,
        file_id=FILE_ID,
        input=b"abc",
    )
    assert request.encode() == bytes.fromhex(INFO)
    assert QueryInfoRequest.decode_untrusted(message_from_hex(INFO)) == request


def test_query_info_request_without_input() -> None:
    encoded = f"2900 02 07 18000000 0000 0000 00000000 00000000 00000000 {FILE_ID_HEX} 00"
    request = QueryInfoRequest(
        info_type=InfoType.FILESYSTEM, file_info_class=7, output_buffer_length=24, file_id=FILE_ID
    )
    assert request.encode() == bytes.fromhex(encoded)
    assert QueryInfoRequest.decode_untrusted(message_from_hex(encoded)) == request


def test_set_info_request() -> None:
    request = SetInfoRequest(
        info_type=InfoType.FILE,
        file_info_class=20,
        buffer=bytes.fromhex("0010000000000000"),
        additional_information=SecurityInformation.DACL,
        file_id=FILE_ID,
    )
    assert request.encode() == bytes.fromhex(SET)
    assert SetInfoRequest.decode_untrusted(message_from_hex(SET)) == request


def test_set_info_response() -> None:
    assert SetInfoResponse().encode() == bytes.fromhex("0200")
    assert SetInfoResponse.decode_untrusted(message_from_hex("0200")) == SetInfoResponse()
    with pytest.raises(RemoteProtocolError):
        SetInfoResponse.decode_untrusted(message_from_hex("0900"))


@pytest.mark.parametrize("message", [QueryDirectoryResponse, QueryInfoResponse])
def test_responses(message: type[QueryDirectoryResponse | QueryInfoResponse]) -> None:
    assert message(b"abc").encode() == bytes.fromhex(RESPONSE)
    assert message.decode_untrusted(message_from_hex(RESPONSE)) == message(b"abc")
    assert message.decode_untrusted(message_from_hex("0900 0000 00000000")).buffer == b""
    for bad in ("0800 4800 03000000 616263", "0900 4700 03000000 616263", "0900 4800 04000000 616263"):
        with pytest.raises(RemoteProtocolError):
            message.decode_untrusted(message_from_hex(bad))


@pytest.mark.parametrize(
    ("request_type", "bad"),
    [
        (QueryDirectoryRequest, DIRECTORY.replace("6000 0400", "5f00 0400")),
        (QueryDirectoryRequest, DIRECTORY.replace("6000 0400", "6000 0300")),
        (QueryInfoRequest, INFO.replace("03000000 0400", "04000000 0400")),
        (SetInfoRequest, SET.replace("08000000 6000", "09000000 6000")),
    ],
)
def test_bad_requests_are_refused(
    request_type: type[QueryDirectoryRequest | QueryInfoRequest | SetInfoRequest], bad: str
) -> None:
    with pytest.raises(RemoteProtocolError):
        request_type.decode_untrusted(message_from_hex(bad))
