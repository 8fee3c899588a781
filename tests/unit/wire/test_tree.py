from __future__ import annotations

import pytest

from engine.errors import LocalProtocolError, RemoteProtocolError
from engine.wire.constants import ShareCapabilities, ShareFlags, ShareType, TreeConnectFlags
from engine.wire.tree import (
    TreeConnectRequest,
    TreeConnectResponse,
    TreeDisconnectRequest,
    TreeDisconnectResponse,
)
from tests.unit.wire.messages import message_from_hex

REQUEST = "0900 0100 4800 0a00 5c00 5c00 7300 5c00 7400"
RESPONSE = "1000 01 00 00080000 10000000 ff011f00"


def test_request() -> None:
    request = TreeConnectRequest(r"\\s\t", TreeConnectFlags.CLUSTER_RECONNECT)
    assert request.encode() == bytes.fromhex(REQUEST)
    assert TreeConnectRequest.decode_untrusted(message_from_hex(REQUEST)) == request


def test_an_extension_is_not_promised() -> None:
    with pytest.raises(LocalProtocolError):
        TreeConnectRequest(r"\\s\t", TreeConnectFlags.EXTENSION_PRESENT).encode()


def test_the_path_of_an_extended_request_is_found() -> None:
    extended = "0900 0400 5800 0a00 10000000 0000 00000000000000000000 5c00 5c00 7300 5c00 7400"
    assert TreeConnectRequest.decode_untrusted(message_from_hex(extended)).path == r"\\s\t"


def test_response() -> None:
    response = TreeConnectResponse(
        share_type=ShareType.DISK,
        share_flags=ShareFlags.ACCESS_BASED_DIRECTORY_ENUM,
        capabilities=ShareCapabilities.CONTINUOUS_AVAILABILITY,
        maximal_access=0x001F01FF,
    )
    assert response.encode() == bytes.fromhex(RESPONSE)
    assert TreeConnectResponse.decode_untrusted(message_from_hex(RESPONSE)) == response


@pytest.mark.parametrize(
    "bad", [REQUEST.replace("4800", "4700"), REQUEST.replace("0a00", "0900"), "0900 0000"]
)
def test_bad_requests_are_refused(bad: str) -> None:
    with pytest.raises(RemoteProtocolError):
        TreeConnectRequest.decode_untrusted(message_from_hex(bad))


@pytest.mark.parametrize("message", [TreeDisconnectRequest, TreeDisconnectResponse])
def test_disconnect(message: type[TreeDisconnectRequest] | type[TreeDisconnectResponse]) -> None:
    assert message().encode() == bytes.fromhex("0400 0000")
    assert message.decode_untrusted(message_from_hex("0400 0000")) == message()
