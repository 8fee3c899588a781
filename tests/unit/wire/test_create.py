from __future__ import annotations

import pytest

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.constants import (
    SHARE_ALL,
    Access,
    CloseFlags,
    CreateAction,
    CreateOptions,
    Disposition,
    FileAttributes,
    OplockLevel,
)
from engine.wire.create import CloseRequest, CloseResponse, CreateRequest, CreateResponse
from engine.wire.create_contexts import QueryMaximalAccessRequest, QueryOnDiskIdResponse
from engine.wire.primitives import FileId
from tests.unit.wire.messages import message_from_hex

FILE_ID = FileId(0x0102030405060708, 0x1112131415161718)
FILE_ID_HEX = "0807060504030201 1817161514131211"
TIMES_HEX = "0100000000000000 0200000000000000 0300000000000000 0400000000000000"

REQUEST = (
    "3900 00 ff 02000000 0000000000000000 0000000000000000"  # up to Reserved
    "81001000 80000000 07000000 03000000 40000000"  # access, attributes, share, disposition, options
    "7800 0600 80000000 18000000"  # name at 120, contexts at 128
    "6100 5c00 6200 0000"
    "00000000 1000 0400 0000 1800 00000000 4d784163 00000000"
)
ROOT_REQUEST = (
    "3900 00 00 02000000 0000000000000000 0000000000000000"
    "80000000 80000000 07000000 01000000 01000000"
    "7800 0000 00000000 00000000 0000000000000000"
)
RESPONSE = (
    f"5900 09 01 02000000 {TIMES_HEX} 0010000000000000 0500000000000000 20000000 00000000 {FILE_ID_HEX}"
    "98000000 38000000"  # contexts at 152
    "00000000 1000 0400 0000 1800 20000000 51466964 00000000"
    "0a00000000000000 0b00000000000000 00000000000000000000000000000000"
)
CLOSE_RESPONSE = f"3c00 0100 00000000 {TIMES_HEX} 0010000000000000 0500000000000000 10000000"


def test_create_request() -> None:
    request = CreateRequest(
        requested_oplock_level=OplockLevel.LEASE,
        desired_access=Access.READ_DATA | Access.READ_ATTRIBUTES | Access.SYNCHRONIZE,
        create_disposition=Disposition.OPEN_IF,
        create_options=CreateOptions.NON_DIRECTORY_FILE,
        name="a\\b",
        contexts=(QueryMaximalAccessRequest(),),
    )
    assert request.share_access == SHARE_ALL
    assert request.encode() == bytes.fromhex(REQUEST)
    assert CreateRequest.decode_untrusted(message_from_hex(REQUEST)) == request


def test_create_request_for_the_root_is_not_empty_behind_its_fields() -> None:
    request = CreateRequest(
        desired_access=Access.READ_ATTRIBUTES, create_options=CreateOptions.DIRECTORY_FILE, name=""
    )
    assert request.encode() == bytes.fromhex(ROOT_REQUEST)
    assert CreateRequest.decode_untrusted(message_from_hex(ROOT_REQUEST)) == request


def test_create_request_with_a_name_too_long_for_the_wire() -> None:
    with pytest.raises(LocalProtocolError):
        CreateRequest(desired_access=0, name="x" * 40_000).encode()


def test_create_response() -> None:
    response = CreateResponse(
        oplock_level=OplockLevel.BATCH,
        flags=1,
        create_action=CreateAction.CREATED,
        creation_time=1,
        last_access_time=2,
        last_write_time=3,
        change_time=4,
        allocation_size=4096,
        end_of_file=5,
        file_attributes=FileAttributes.ARCHIVE,
        file_id=FILE_ID,
        contexts=(QueryOnDiskIdResponse(10, 11),),
    )
    assert response.encode() == bytes.fromhex(RESPONSE)
    assert CreateResponse.decode_untrusted(message_from_hex(RESPONSE)) == response


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("5900", "5800"),
        ("98000000 38000000", "97000000 38000000"),
        ("98000000 38000000", "98000000 39000000"),
        ("98000000 38000000", "ffffffff 38000000"),
        ("98000000 38000000", "98000000 ffffffff"),
        ("00000000 1000 0400", "04000000 1000 0400"),
    ],
)
def test_bad_create_responses_are_refused(good: str, bad: str) -> None:
    assert good in RESPONSE
    with pytest.raises(RemoteProtocolError):
        CreateResponse.decode_untrusted(message_from_hex(RESPONSE.replace(good, bad, 1)))


def test_a_name_of_an_odd_number_of_bytes_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        CreateRequest.decode_untrusted(message_from_hex(REQUEST.replace("7800 0600", "7800 0500")))


def test_close_request() -> None:
    encoded = f"1800 0100 00000000 {FILE_ID_HEX}"
    request = CloseRequest(FILE_ID, CloseFlags.POSTQUERY_ATTRIB)
    assert request.encode() == bytes.fromhex(encoded)
    assert CloseRequest.decode_untrusted(message_from_hex(encoded)) == request


def test_close_response() -> None:
    response = CloseResponse(
        flags=CloseFlags.POSTQUERY_ATTRIB,
        creation_time=1,
        last_access_time=2,
        last_write_time=3,
        change_time=4,
        allocation_size=4096,
        end_of_file=5,
        file_attributes=FileAttributes.DIRECTORY,
    )
    assert response.encode() == bytes.fromhex(CLOSE_RESPONSE)
    assert CloseResponse.decode_untrusted(message_from_hex(CLOSE_RESPONSE)) == response
