from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RemoteProtocolError
from engine.wire import create_contexts as cc
from engine.wire.constants import LeaseState
from engine.wire.primitives import FileId

FILE_ID = FileId(0x0102030405060708, 0x1112131415161718)
FILE_ID_HEX = "0807060504030201 1817161514131211"
GUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
GUID_HEX = "33221100 5544 7766 8899aabbccddeeff"
KEY = bytes(range(16))
PARENT = bytes(range(16, 32))
RWH = LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING | LeaseState.WRITE_CACHING
SID = bytes.fromhex("01 02 000000000005 20000000 20020000")
SHORT_SID = bytes.fromhex("01 00 000000000001")

REQUEST_VECTORS: list[tuple[cc.CreateContext, str, str]] = [
    (cc.EaBuffer(b"\x01\x02"), "45787441", "0102"),
    (cc.SecurityDescriptorBuffer(b"\x01"), "53656344", "01"),
    (cc.DurableHandleRequest(), "44486e51", "00" * 16),
    (cc.DurableHandleReconnect(FILE_ID), "44486e43", FILE_ID_HEX),
    (cc.AllocationSize(0x1122), "416c5369", "2211000000000000"),
    (cc.QueryMaximalAccessRequest(), "4d784163", ""),
    (cc.QueryMaximalAccessRequest(7), "4d784163", "0700000000000000"),
    (cc.TimewarpToken(0x01D00000), "54577270", "0000d00100000000"),
    (cc.QueryOnDiskIdRequest(), "51466964", ""),
    (cc.Lease(KEY, RWH, 2), "52714c73", f"{KEY.hex()} 07000000 02000000 0000000000000000"),
    (
        cc.LeaseV2(KEY, RWH, 4, PARENT, 9),
        "52714c73",
        f"{KEY.hex()} 07000000 04000000 0000000000000000 {PARENT.hex()} 0900 0000",
    ),
    (cc.DurableHandleRequestV2(GUID, 1000, 2), "44483251", f"e8030000 02000000 {'00' * 8} {GUID_HEX}"),
    (cc.DurableHandleReconnectV2(FILE_ID, GUID, 2), "44483243", f"{FILE_ID_HEX} {GUID_HEX} 02000000"),
    (cc.AppInstanceId(GUID), "45bca66aefa7f74a9008fa462e144d74", f"1400 0000 {GUID_HEX}"),
    (
        cc.AppInstanceVersion(1, 2),
        "b982d0b73b56074fa07b524a8116a010",
        "1800 0000 00000000 0100000000000000 0200000000000000",
    ),
    (cc.PosixRequest(0o100644), "93ad25509cb411e7b42383de968bcd7c", "a4810000"),
    (cc.RawCreateContext(b"ABCD", b"xyz"), "41424344", "78797a"),
]

RESPONSE_VECTORS: list[tuple[cc.CreateContext, str, str]] = [
    (cc.DurableHandleResponse(), "44486e51", "00" * 8),
    (cc.QueryMaximalAccessResponse(0xC0000022, 0x1F01FF), "4d784163", "220000c0 ff011f00"),
    (cc.QueryOnDiskIdResponse(10, 11), "51466964", f"0a00000000000000 0b00000000000000 {'00' * 16}"),
    (cc.Lease(KEY, RWH), "52714c73", f"{KEY.hex()} 07000000 00000000 0000000000000000"),
    (
        cc.LeaseV2(KEY, RWH, 4, PARENT, 9),
        "52714c73",
        f"{KEY.hex()} 07000000 04000000 0000000000000000 {PARENT.hex()} 0900 0000",
    ),
    (cc.DurableHandleResponseV2(60000, 2), "44483251", "60ea0000 02000000"),
    (
        cc.PosixResponse(2, 0xA000000C, 0o777, SID, SHORT_SID),
        "93ad25509cb411e7b42383de968bcd7c",
        f"02000000 0c0000a0 ff010000 {SID.hex()} {SHORT_SID.hex()}",
    ),
]


def entry(name: str, data: str, following: int = 0) -> bytes:
    raw_name, raw_data = bytes.fromhex(name), bytes.fromhex(data)
    padded = raw_name + bytes(-len(raw_name) % 8)
    head = following.to_bytes(4, "little") + (16).to_bytes(2, "little") + len(raw_name).to_bytes(2, "little")
    head += bytes(2) + (16 + len(padded)).to_bytes(2, "little") + len(raw_data).to_bytes(4, "little")
    return head + padded + raw_data


def vector_id(value: object) -> str:
    return "" if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(("context", "name", "data"), REQUEST_VECTORS, ids=vector_id)
def test_request_contexts(context: cc.CreateContext, name: str, data: str) -> None:
    encoded = entry(name, data)
    assert cc.encode_contexts([context]) == encoded
    assert cc.decode_request_contexts_untrusted(memoryview(encoded)) == (context,)


@pytest.mark.parametrize(("context", "name", "data"), RESPONSE_VECTORS, ids=vector_id)
def test_response_contexts(context: cc.CreateContext, name: str, data: str) -> None:
    encoded = entry(name, data)
    assert cc.encode_contexts([context]) == encoded
    assert cc.decode_response_contexts_untrusted(memoryview(encoded)) == (context,)


def test_a_chain() -> None:
    encoded = entry("45787441", "0102 000000000000", following=32)
    encoded = encoded[:12] + b"\x02" + encoded[13:] + entry("4d784163", "")
    contexts = (cc.EaBuffer(b"\x01\x02"), cc.QueryMaximalAccessRequest())
    assert cc.encode_contexts(contexts) == encoded
    assert cc.decode_request_contexts_untrusted(memoryview(encoded)) == contexts


def test_no_contexts_are_no_bytes() -> None:
    assert cc.encode_contexts(()) == b""
    assert cc.decode_response_contexts_untrusted(memoryview(b"")) == ()


MXAC = "4d784163"


@pytest.mark.parametrize(
    "chain",
    [
        entry(MXAC, "00" * 8)[:15],
        entry(MXAC, "00" * 8, following=4),
        entry(MXAC, "00" * 8, following=12) + bytes(64),
        entry(MXAC, "00" * 8, following=8) + bytes(64),
        entry(MXAC, "00" * 8, following=40),
        entry(MXAC, "00" * 8, following=0xFFFFFFF8),
        entry(MXAC, "00" * 8)[:-1],
        entry(MXAC, "00" * 8)[:4] + b"\xff\xff" + entry(MXAC, "00" * 8)[6:],
        entry(MXAC, "00" * 8)[:10] + b"\xff\xff" + entry(MXAC, "00" * 8)[12:],
        entry(MXAC, "00" * 8)[:10] + b"\x00\x00" + entry(MXAC, "00" * 8)[12:],
        # The data lies in the next entry, not in this one.
        entry(MXAC, "00" * 8)[:10].replace(bytes(4), b"\x18\0\0\0", 1)
        + entry(MXAC, "00" * 8)[10:24]
        + entry(MXAC, "00" * 8),
        entry("52714c73", "00" * 31),
        entry("52714c73", "00" * 33),
        entry("93ad25509cb411e7b42383de968bcd7c", "00" * 12 + "01ff" + "00" * 40),
    ],
    ids=[
        "short header",
        "Next into itself",
        "Next unaligned",
        "Next too small",
        "Next beyond",
        "Next far beyond",
        "data cut",
        "name outside",
        "data outside",
        "data in the header",
        "data in the next entry",
        "lease too short",
        "lease v2 too short",
        "SID outside",
    ],
)
def test_bad_chains_are_refused(chain: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        cc.decode_response_contexts_untrusted(memoryview(chain))


def test_structure_sizes_are_checked() -> None:
    for name, data in [
        (cc.AppInstanceId.name, "1500 0000" + "00" * 16),
        (cc.AppInstanceVersion.name, "1900 0000" + "00" * 20),
    ]:
        with pytest.raises(RemoteProtocolError):
            cc.decode_request_contexts_untrusted(memoryview(entry(name.hex(), data)))


@settings(max_examples=50, deadline=None, database=None)
@given(data=st.binary(max_size=120), name=st.sampled_from([v[1] for v in REQUEST_VECTORS + RESPONSE_VECTORS]))
def test_any_data_behind_a_known_name_decodes_or_is_refused(data: bytes, name: str) -> None:
    chain = memoryview(entry(name, data.hex()))
    for decode in (cc.decode_request_contexts_untrusted, cc.decode_response_contexts_untrusted):
        try:
            contexts = decode(chain)
        except RemoteProtocolError:
            continue
        assert [context.name.hex() for context in contexts] == [name]
