"""The pre-authentication hash against the published 3.1.1 handshake."""

from engine.crypto.preauth import PreauthIntegrity
from tests.vectors.smb3 import PUBLISHED, unhex


def test_published_handshake() -> None:
    integrity = PreauthIntegrity()
    assert integrity.value == bytes(64)
    for step in PUBLISHED["preauth"]:
        integrity.update(unhex(step["message"]))
        assert integrity.value == unhex(step["hash"])


def test_parts_are_one_message_and_updates_are_two() -> None:
    whole, parts, twice = PreauthIntegrity(), PreauthIntegrity(), PreauthIntegrity()
    whole.update(b"header and body")
    parts.update(b"header", bytearray(b" and "), memoryview(b"body"))
    twice.update(b"header")
    twice.update(b" and body")
    assert whole.value == parts.value != twice.value


def test_a_copy_goes_on_alone() -> None:
    connection = PreauthIntegrity()
    connection.update(b"negotiate")
    session = connection.copy()
    assert session.value == connection.value
    session.update(b"session setup")
    assert session.value != connection.value
    connection.update(b"session setup")
    assert session.value == connection.value
