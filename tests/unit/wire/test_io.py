from __future__ import annotations

import pytest

from engine.errors import RemoteProtocolError
from engine.wire.constants import LockFlags, ReadFlags, WriteFlags
from engine.wire.io import (
    READ_DATA_OFFSET,
    WRITE_DATA_OFFSET,
    CancelRequest,
    EchoRequest,
    EchoResponse,
    FlushRequest,
    FlushResponse,
    IoctlRequest,
    IoctlResponse,
    LockElement,
    LockRequest,
    LockResponse,
    ReadRequest,
    ReadResponse,
    WriteRequest,
    WriteResponse,
)
from engine.wire.primitives import FILE_ID_RELATED, FileId
from tests.unit.wire.messages import HEADER, message_from_hex

FILE_ID = FileId(0x0102030405060708, 0x1112131415161718)
FILE_ID_HEX = "0807060504030201 1817161514131211"

READ = f"3100 50 01 00001000 0000004001000000 {FILE_ID_HEX} 01000000 00000000 05000000 0000 0000 00"
READ_RESPONSE = "1100 50 00 03000000 07000000 00000000 616263"
WRITE = f"3100 7000 03000000 0000004001000000 {FILE_ID_HEX} 00000000 05000000 0000 0000 01000000"
LOCK = (
    f"3000 0200 53000000 {FILE_ID_HEX}"
    "0001000000000000 1000000000000000 12000000 00000000"
    "ffffffffffffffff 0100000000000000 04000000 00000000"
)
IOCTL = (
    f"3900 0000 94010600 {FILE_ID_HEX} 78000000 03000000 00000000 00000000 00000000 00100000 01000000"
    "00000000 616263"
)
IOCTL_RESPONSE = (
    f"3100 0000 94010600 {FILE_ID_HEX} 70000000 03000000 78000000 02000000 00000000 00000000"
    "616263 0000000000 7879"
)


def test_flush() -> None:
    encoded = f"1800 0000 00000000 {FILE_ID_HEX}"
    assert FlushRequest(FILE_ID).encode() == bytes.fromhex(encoded)
    assert FlushRequest.decode_untrusted(message_from_hex(encoded)) == FlushRequest(FILE_ID)


def test_read_request() -> None:
    request = ReadRequest(
        file_id=FILE_ID,
        offset=0x140000000,
        length=0x100000,
        minimum_count=1,
        remaining_bytes=5,
        flags=ReadFlags.READ_UNBUFFERED,
    )
    assert request.encode() == bytes.fromhex(READ)
    assert ReadRequest.decode_untrusted(message_from_hex(READ)) == request


def test_read_response() -> None:
    response = ReadResponse(b"abc", data_remaining=7)
    assert response.encode() == bytes.fromhex(READ_RESPONSE)
    assert ReadResponse.decode_untrusted(message_from_hex(READ_RESPONSE)) == response


def test_the_data_of_a_read_is_not_copied() -> None:
    message = bytearray(HEADER + bytes.fromhex(READ_RESPONSE))
    data = ReadResponse.decode_untrusted(memoryview(message)).data
    message[READ_DATA_OFFSET] = ord("z")
    assert data == b"zbc"


def test_the_data_of_a_read_may_lie_further_behind() -> None:
    far = READ_RESPONSE.replace("50 00", "58 00").replace("616263", "ffffffffffffffff 616263")
    assert ReadResponse.decode_untrusted(message_from_hex(far)).data == b"abc"


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("1100", "0900"),
        ("50 00", "4f 00"),
        ("50 00", "ff 00"),
        ("03000000", "04000000"),
        ("03000000", "ffffffff"),
    ],
)
def test_bad_read_responses_are_refused(good: str, bad: str) -> None:
    assert good in READ_RESPONSE
    with pytest.raises(RemoteProtocolError):
        ReadResponse.decode_untrusted(message_from_hex(READ_RESPONSE.replace(good, bad, 1)))


def test_write_request_leaves_its_data_to_the_sender() -> None:
    request = WriteRequest(
        file_id=FILE_ID, offset=0x140000000, data=b"abc", remaining_bytes=5, flags=WriteFlags.WRITE_THROUGH
    )
    assert request.encode() == bytes.fromhex(WRITE)
    assert len(HEADER + request.encode()) == WRITE_DATA_OFFSET
    assert WriteRequest.decode_untrusted(message_from_hex(WRITE + "616263")) == request


def test_write_response() -> None:
    encoded = "1100 0000 00001000 00000000 0000 0000"
    assert WriteResponse(0x100000).encode() == bytes.fromhex(encoded)
    assert WriteResponse.decode_untrusted(message_from_hex(encoded)) == WriteResponse(0x100000)


@pytest.mark.parametrize(
    "bad",
    [
        WRITE + "6162",
        WRITE.replace("7000", "6f00") + "616263",
        WRITE.replace("00000000 05000000", "01000000 05000000") + "616263",
    ],
    ids=["data cut", "data in the fields", "RDMA"],
)
def test_bad_write_requests_are_refused(bad: str) -> None:
    with pytest.raises(RemoteProtocolError):
        WriteRequest.decode_untrusted(message_from_hex(bad))


def test_read_requests_over_rdma_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="RDMA"):
        ReadRequest.decode_untrusted(message_from_hex(READ.replace("01000000 00000000", "01000000 02000000")))


def test_lock() -> None:
    request = LockRequest(
        FILE_ID,
        (
            LockElement(0x100, 0x10, LockFlags.EXCLUSIVE_LOCK | LockFlags.FAIL_IMMEDIATELY),
            LockElement(0xFFFFFFFFFFFFFFFF, 1, LockFlags.UNLOCK),
        ),
        lock_sequence_number=3,
        lock_sequence_index=5,
    )
    assert request.encode() == bytes.fromhex(LOCK)
    assert LockRequest.decode_untrusted(message_from_hex(LOCK)) == request


@pytest.mark.parametrize("count", ["0300", "ffff"])
def test_more_locks_than_there_are_is_refused(count: str) -> None:
    with pytest.raises(RemoteProtocolError):
        LockRequest.decode_untrusted(message_from_hex(LOCK.replace("3000 0200", f"3000 {count}")))


def test_ioctl_request() -> None:
    request = IoctlRequest(ctl_code=0x00060194, file_id=FILE_ID, input=b"abc", max_output_response=0x1000)
    assert request.encode() == bytes.fromhex(IOCTL)
    assert IoctlRequest.decode_untrusted(message_from_hex(IOCTL)) == request


def test_ioctl_request_without_input() -> None:
    encoded = f"3900 0000 fc011400 {'ff' * 16} {'00' * 20} 00000100 01000000 00000000 00"
    request = IoctlRequest(ctl_code=0x001401FC, file_id=FILE_ID_RELATED, max_output_response=0x10000)
    assert request.encode() == bytes.fromhex(encoded)
    assert IoctlRequest.decode_untrusted(message_from_hex(encoded)) == request


def test_ioctl_response() -> None:
    response = IoctlResponse(ctl_code=0x00060194, file_id=FILE_ID, input=b"abc", output=b"xy")
    assert response.encode() == bytes.fromhex(IOCTL_RESPONSE)
    assert IoctlResponse.decode_untrusted(message_from_hex(IOCTL_RESPONSE)) == response


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("78000000 02000000", "78000000 03000000"),
        ("78000000 02000000", "6f000000 02000000"),
        ("70000000 03000000", "70000000 ffffffff"),
    ],
)
def test_bad_ioctl_responses_are_refused(good: str, bad: str) -> None:
    assert good in IOCTL_RESPONSE
    with pytest.raises(RemoteProtocolError):
        IoctlResponse.decode_untrusted(message_from_hex(IOCTL_RESPONSE.replace(good, bad, 1)))


@pytest.mark.parametrize("message", [FlushResponse, LockResponse, EchoRequest, EchoResponse, CancelRequest])
def test_messages_that_say_nothing(
    message: type[FlushResponse | LockResponse | EchoRequest | EchoResponse | CancelRequest],
) -> None:
    assert message().encode() == bytes.fromhex("0400 0000")
    assert message.decode_untrusted(message_from_hex("0400 0000")) == message()
    for bad in ("0500 0000", "0400 00", ""):
        with pytest.raises(RemoteProtocolError):
            message.decode_untrusted(message_from_hex(bad))
