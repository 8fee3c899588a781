from __future__ import annotations

import pytest

from engine.errors import RemoteProtocolError
from engine.wire.constants import SecurityMode, SessionFlags, SessionSetupFlags
from engine.wire.session import LogoffRequest, LogoffResponse, SessionSetupRequest, SessionSetupResponse
from tests.unit.wire.messages import message_from_hex

REQUEST = "1900 01 02 01000000 00000000 5800 0400 8877665544332211 60486082"
RESPONSE = "0900 0400 4800 0300 a18181"


def test_request() -> None:
    request = SessionSetupRequest(
        flags=SessionSetupFlags.BINDING,
        security_mode=SecurityMode.SIGNING_REQUIRED,
        capabilities=1,
        previous_session_id=0x1122334455667788,
        security_buffer=bytes.fromhex("60486082"),
    )
    assert request.encode() == bytes.fromhex(REQUEST)
    assert SessionSetupRequest.decode_untrusted(message_from_hex(REQUEST)) == request


def test_response() -> None:
    response = SessionSetupResponse(SessionFlags.ENCRYPT_DATA, bytes.fromhex("a18181"))
    assert response.encode() == bytes.fromhex(RESPONSE)
    assert SessionSetupResponse.decode_untrusted(message_from_hex(RESPONSE)) == response


def test_the_last_response_may_have_no_token() -> None:
    decoded = SessionSetupResponse.decode_untrusted(message_from_hex("0900 0000 0000 0000"))
    assert decoded == SessionSetupResponse(0, b"")


@pytest.mark.parametrize(
    "bad", ["0800 0400 4800 0300 a18181", "0900 0400 4700 0300 a18181", "0900 0400 4800 0400 a18181"]
)
def test_bad_responses_are_refused(bad: str) -> None:
    with pytest.raises(RemoteProtocolError):
        SessionSetupResponse.decode_untrusted(message_from_hex(bad))


@pytest.mark.parametrize("message", [LogoffRequest, LogoffResponse])
def test_logoff(message: type[LogoffRequest] | type[LogoffResponse]) -> None:
    assert message().encode() == bytes.fromhex("0400 0000")
    assert message.decode_untrusted(message_from_hex("0400 0000")) == message()
    with pytest.raises(RemoteProtocolError):
        message.decode_untrusted(message_from_hex("0900 0000"))
