from __future__ import annotations

import uuid

import pytest

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.constants import Capabilities, Dialect, SecurityMode
from engine.wire.negotiate import (
    CompressionCapabilities,
    EncryptionCapabilities,
    NegotiateContext,
    NegotiateRequest,
    NegotiateResponse,
    NetnameNegotiateContextId,
    PreauthIntegrityCapabilities,
    RawNegotiateContext,
    RdmaTransformCapabilities,
    SigningCapabilities,
    TransportCapabilities,
)
from tests.unit.wire.messages import encode_message, message_from_hex

GUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
GUID_HEX = "33221100 5544 7766 8899aabbccddeeff"

OLD_REQUEST = f"2400 0200 0100 0000 40000000 {GUID_HEX} 0000000000000000 0202 1002"
NEW_REQUEST = (
    f"2400 0100 0300 0000 44000000 {GUID_HEX} 68000000 0300 0000 1103"  # 2.2.3; contexts at 104
    "0000"  # to the next multiple of eight: 102 -> 104
    "0100 0a00 00000000 0100 0400 0100 73616c74 000000000000"  # preauth: SHA-512, salt "salt"; padding
    "0200 0600 00000000 0200 0200 0100 0000"  # encryption: GCM, CCM; padding
    "0500 0400 00000000 7300 7600"  # netname "sv"
)
RESPONSE = (
    f"4100 0300 1103 0200 {GUID_HEX} 07000000 00008000 00001000 00002000"
    "0100000000000000 0200000000000000 8000 0300 88000000"  # times; buffer at 128, contexts at 136
    "aabbcc 0000000000"
    "0100 0800 00000000 0100 0200 0100 abcd"
    "0800 0400 00000000 0100 0200"
)


def test_request_without_contexts() -> None:
    request = NegotiateRequest(
        dialects=(Dialect.SMB_2_0_2, Dialect.SMB_2_1),
        security_mode=SecurityMode.SIGNING_ENABLED,
        capabilities=Capabilities.ENCRYPTION,
        client_guid=GUID,
    )
    assert request.encode() == bytes.fromhex(OLD_REQUEST)
    assert NegotiateRequest.decode_untrusted(message_from_hex(OLD_REQUEST)) == request


def test_request_with_contexts() -> None:
    request = NegotiateRequest(
        dialects=(Dialect.SMB_3_1_1,),
        security_mode=SecurityMode.SIGNING_ENABLED | SecurityMode.SIGNING_REQUIRED,
        capabilities=Capabilities.ENCRYPTION | Capabilities.LARGE_MTU,
        client_guid=GUID,
        contexts=(
            PreauthIntegrityCapabilities((1,), b"salt"),
            EncryptionCapabilities((2, 1)),
            NetnameNegotiateContextId("sv"),
        ),
    )
    assert request.encode() == bytes.fromhex(NEW_REQUEST)
    assert NegotiateRequest.decode_untrusted(message_from_hex(NEW_REQUEST)) == request


def test_response() -> None:
    response = NegotiateResponse(
        security_mode=3,
        dialect_revision=Dialect.SMB_3_1_1,
        server_guid=GUID,
        capabilities=7,
        max_transact_size=0x800000,
        max_read_size=0x100000,
        max_write_size=0x200000,
        system_time=1,
        server_start_time=2,
        security_buffer=b"\xaa\xbb\xcc",
        contexts=(PreauthIntegrityCapabilities((1,), b"\xab\xcd"), SigningCapabilities((2,))),
    )
    assert response.encode() == bytes.fromhex(RESPONSE)
    assert NegotiateResponse.decode_untrusted(message_from_hex(RESPONSE)) == response


@pytest.mark.parametrize(
    ("context", "data"),
    [
        (CompressionCapabilities((1, 4), flags=1), "0200 0000 01000000 0100 0400"),
        (TransportCapabilities(1), "01000000"),
        (RdmaTransformCapabilities((1, 2)), "0200 0000 00000000 0100 0200"),
        (RawNegotiateContext(0x0100, b"\x93\xad"), "93ad"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_rarer_contexts(context: NegotiateContext, data: str) -> None:
    assert context.encode() == bytes.fromhex(data)
    response = NegotiateResponse.decode_untrusted(message_from_hex(RESPONSE))
    response.contexts = (context,)
    assert NegotiateResponse.decode_untrusted(memoryview(encode_message(response))).contexts == (context,)


def test_contexts_of_an_older_dialect_are_not_looked_at() -> None:
    old = RESPONSE.replace("1103", "0203", 1)
    assert NegotiateResponse.decode_untrusted(message_from_hex(old)).contexts == ()


def test_a_repeated_context_is_kept_for_the_one_who_judges() -> None:
    response = NegotiateResponse.decode_untrusted(message_from_hex(RESPONSE))
    response.contexts = (*response.contexts, SigningCapabilities((1,)))
    decoded = NegotiateResponse.decode_untrusted(memoryview(encode_message(response)))
    assert decoded.contexts[1:] == (SigningCapabilities((2,)), SigningCapabilities((1,)))


def test_contexts_need_the_dialect_that_has_them() -> None:
    request = NegotiateRequest(
        dialects=(0x0302,),
        security_mode=1,
        capabilities=0,
        client_guid=GUID,
        contexts=(TransportCapabilities(1),),
    )
    with pytest.raises(LocalProtocolError):
        request.encode()
    response = NegotiateResponse.decode_untrusted(message_from_hex(RESPONSE))
    response.dialect_revision = 0x0302
    with pytest.raises(LocalProtocolError):
        response.encode()


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("4100", "4000"),  # StructureSize
        ("8000 0300", "7f00 0300"),  # the buffer overlaps the fixed fields
        ("8000 0300", "8000 ff00"),  # the buffer is longer than the message
        ("88000000", "00000000"),  # contexts in the header
        ("88000000", "f0ffffff"),  # contexts far away
        ("1103 0200", "1103 0300"),  # one context more than there are
        ("1103 0200", "1103 ffff"),
        ("0100 0800 00000000", "0100 ffff 00000000"),  # a context longer than the message
        ("0100 0200 0100 abcd", "0100 ff00 0100 abcd"),  # a salt longer than its context
        ("0100 0200 0100 abcd", "ffff 0200 0100 abcd"),  # more algorithms than the context has
    ],
)
def test_bad_responses_are_refused(good: str, bad: str) -> None:
    assert good in RESPONSE
    with pytest.raises(RemoteProtocolError):
        NegotiateResponse.decode_untrusted(message_from_hex(RESPONSE.replace(good, bad, 1)))
