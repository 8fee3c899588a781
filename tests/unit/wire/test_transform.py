from __future__ import annotations

import pytest

from engine.errors import RemoteProtocolError
from engine.wire.constants import CompressionAlgorithm
from engine.wire.transform import (
    TRANSFORM_HEADER_SIZE,
    CompressionTransformHeader,
    FrameKind,
    TransformHeader,
    frame_kind_untrusted,
)

TRANSFORM = bytes.fromhex(
    "fd534d42 000102030405060708090a0b0c0d0e0f 101112131415161718191a1b00000000"
    "44000000 0000 0100 8877665544332211"
)
COMPRESSED = bytes.fromhex("fc534d42 00100000 0100 0000 40000000")


def test_transform_header() -> None:
    header = TransformHeader(
        signature=bytes(range(16)),
        nonce=bytes(range(16, 28)) + bytes(4),
        original_message_size=68,
        session_id=0x1122334455667788,
    )
    assert len(TRANSFORM) == TRANSFORM_HEADER_SIZE
    assert header.encode() == TRANSFORM
    assert TransformHeader.decode_untrusted(TRANSFORM + b"ciphertext") == header


@pytest.mark.parametrize("bad", [TRANSFORM[:51], b"\xfe" + TRANSFORM[1:], COMPRESSED + bytes(40)])
def test_bad_transform_headers_are_refused(bad: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        TransformHeader.decode_untrusted(bad)


def test_compression_header() -> None:
    header = CompressionTransformHeader.decode_untrusted(COMPRESSED)
    assert header == CompressionTransformHeader(0x1000, CompressionAlgorithm.LZNT1, 0, 0x40)


@pytest.mark.parametrize("bad", [COMPRESSED[:15], TRANSFORM])
def test_bad_compression_headers_are_refused(bad: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        CompressionTransformHeader.decode_untrusted(bad)


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b"\xfeSMB...", FrameKind.PLAIN),
        (memoryview(TRANSFORM), FrameKind.ENCRYPTED),
        (bytearray(COMPRESSED), FrameKind.COMPRESSED),
    ],
)
def test_frame_kinds(frame: bytes, kind: FrameKind) -> None:
    assert frame_kind_untrusted(frame) is kind


@pytest.mark.parametrize("frame", [b"", b"\xfeSM", b"\xffSMBr", b"HTTP/1.1"])
def test_frames_of_other_protocols_are_refused(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        frame_kind_untrusted(frame)
