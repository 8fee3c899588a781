from __future__ import annotations

import pytest

from engine.errors import RemoteProtocolError
from engine.wire.constants import Command, HeaderFlags
from engine.wire.header import SIGNATURE_OFFSET, Header, split_compound_untrusted

SYNC = bytes.fromhex(
    "fe534d42 4000 0100 "  # ProtocolId, StructureSize, CreditCharge
    "160000c0 0500 0201 "  # Status, Command, Credits
    "0c000000 88000000 "  # Flags, NextCommand
    "0807060504030201 "  # MessageId
    "00000000 44332211 "  # Reserved, TreeId
    "8877665544332211 "  # SessionId
    "000102030405060708090a0b0c0d0e0f"  # Signature
)
ASYNC = SYNC[:16] + bytes.fromhex("0f000000") + SYNC[20:32] + bytes.fromhex("efcdab8967452301") + SYNC[40:]


def test_sync_header() -> None:
    header = Header(
        Command.CREATE,
        status=0xC0000016,
        credit_charge=1,
        credits=0x102,
        flags=HeaderFlags.SIGNED | HeaderFlags.RELATED_OPERATIONS,
        next_command=0x88,
        message_id=0x0102030405060708,
        tree_id=0x11223344,
        session_id=0x1122334455667788,
        signature=bytes(range(16)),
    )
    assert header.encode() == SYNC
    assert Header.decode_untrusted(SYNC) == header
    assert SYNC[SIGNATURE_OFFSET:] == bytes(range(16))


def test_async_header_has_an_async_id_and_no_tree_id() -> None:
    header = Header.decode_untrusted(ASYNC)
    assert (header.async_id, header.tree_id) == (0x0123456789ABCDEF, 0)
    assert header.encode() == ASYNC


def test_process_id_of_a_sync_header_is_no_async_id() -> None:
    header = Header.decode_untrusted(SYNC[:32] + b"\xff\xfe\0\0" + SYNC[36:])
    assert (header.async_id, header.tree_id) == (0, 0x11223344)


def test_encode_into() -> None:
    buffer = bytearray(b"x" * 80)
    Header.decode_untrusted(SYNC).encode_into(buffer, 8)
    assert buffer == b"x" * 8 + SYNC + b"x" * 8


@pytest.mark.parametrize(
    "bad",
    [SYNC[:63], b"\xffSMB" + SYNC[4:], b"\xfdSMB" + SYNC[4:], SYNC[:4] + b"\x41" + SYNC[5:], b""],
    ids=["short", "SMB1", "encrypted", "StructureSize", "empty"],
)
def test_bad_headers_are_refused(bad: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Header.decode_untrusted(bad)


def message(next_command: int, body: bytes) -> bytes:
    return Header(Command.ECHO, next_command=next_command).encode() + body


def test_a_lone_message_is_a_list_of_one() -> None:
    frame = memoryview(message(0, b"body"))
    assert split_compound_untrusted(frame) == [frame]


def test_a_compound_is_cut_where_it_says() -> None:
    first, second, third = message(72, b"12345678"), message(64, b""), message(0, b"abc")
    pieces = split_compound_untrusted(memoryview(first + second + third))
    assert pieces == [first, second, third]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        message(0, b"")[:63],
        message(8, bytes(64)),
        message(56, bytes(64)),
        message(70, bytes(80)),
        message(136, bytes(64)),
        message(0xFFFFFFF8, bytes(64)),
        message(64, b""),
        message(64, bytes(63)),
    ],
    ids=["empty", "short", "into itself", "cut header", "unaligned", "beyond", "far", "no second", "half"],
)
def test_bad_compounds_are_refused(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        split_compound_untrusted(memoryview(frame))


def test_a_compound_that_is_all_headers_ends() -> None:
    frame = message(64, b"") * 10_000 + message(0, b"")
    assert len(split_compound_untrusted(memoryview(frame))) == 10_001
