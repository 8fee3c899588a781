"""Encrypted messages: published and recorded ones, every way to break one, and nonces."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.crypto.sealing import (
    CIPHER_PREFERENCE,
    TAG_SIZE,
    TRANSFORM_HEADER_SIZE,
    Cipher,
    NonceSequence,
    Sealer,
)
from engine.errors import LocalProtocolError, RemoteProtocolError
from tests.vectors.smb3 import PUBLISHED, RECORDED, unhex

SESSION_ID = 0x1122334455667788
MESSAGE = b"\xfeSMB" + bytes(range(200))

every_cipher = pytest.mark.parametrize("cipher", list(Cipher))


def key_pair(cipher: Cipher) -> tuple[bytes, bytes]:
    return bytes(range(cipher.key_length)), bytes(range(100, 100 + cipher.key_length))


def client_and_server(cipher: Cipher) -> tuple[Sealer, Sealer]:
    ours, theirs = key_pair(cipher)
    return Sealer(cipher, ours, theirs, SESSION_ID), Sealer(cipher, theirs, ours, SESSION_ID)


def unseal(sealer: Sealer, frame: bytes | bytearray) -> bytes:
    """Receive a frame as the transport does: 16 spare bytes behind it, the message elsewhere."""
    buffer = memoryview(bytearray(frame) + bytes(TAG_SIZE))
    out = bytearray(len(frame) + 10)
    length = sealer.unseal_into_untrusted(buffer[:TRANSFORM_HEADER_SIZE], buffer[TRANSFORM_HEADER_SIZE:], out)
    assert not any(out[length:])
    return bytes(out[:length])


def sealed_frame(sealer: Sealer, message: bytes = MESSAGE) -> bytearray:
    header, ciphertext = sealer.seal([message])
    return bytearray(header + bytes(ciphertext))


@pytest.mark.parametrize("vector", PUBLISHED["sealed_messages"])
def test_published_messages(vector: dict[str, Any]) -> None:
    cipher, key = Cipher[vector["cipher"]], unhex(vector["key"])
    sealer = Sealer(cipher, bytes(cipher.key_length), key, int(vector["session_id"], 16))
    assert unseal(sealer, unhex(vector["sealed"])) == unhex(vector["message"])


@pytest.mark.parametrize("session", [session for session in RECORDED if "sealed" in session])
def test_recorded_messages_of_both_sides(session: dict[str, Any]) -> None:
    cipher = Cipher[session["cipher"]]
    ours, theirs = unhex(session["encryption"]), unhex(session["decryption"])
    receivers = {
        "server": Sealer(cipher, ours, theirs, session["session_id"]),
        "client": Sealer(cipher, theirs, ours, session["session_id"]),
    }
    assert {message["from"] for message in session["sealed"]} == set(receivers)
    for message in session["sealed"]:
        assert unseal(receivers[message["from"]], unhex(message["sealed"])) == unhex(message["message"])


@given(
    cipher=st.sampled_from(Cipher),
    parts=st.lists(st.binary(max_size=300), min_size=1, max_size=5).filter(any),
    from_client=st.booleans(),
)
def test_round_trip_of_any_parts(cipher: Cipher, parts: list[bytes], from_client: bool) -> None:
    client, server = client_and_server(cipher)
    sender, receiver = (client, server) if from_client else (server, client)
    header, ciphertext = sender.seal(parts)
    assert len(header) == TRANSFORM_HEADER_SIZE
    assert len(ciphertext) == sum(map(len, parts))
    assert unseal(receiver, header + bytes(ciphertext)) == b"".join(parts)


@every_cipher
def test_a_mebibyte_in_two_parts_and_a_short_one_after_it(cipher: Cipher) -> None:
    client, server = client_and_server(cipher)
    payload = bytes(range(256)) * 4096
    header, ciphertext = client.seal([bytearray(MESSAGE), memoryview(payload)])
    short = client.seal([b"short", b" one"])
    assert unseal(server, header + bytes(ciphertext)) == MESSAGE + payload
    assert unseal(server, short[0] + bytes(short[1])) == b"short one"


@every_cipher
def test_the_transform_header(cipher: Cipher) -> None:
    client, _ = client_and_server(cipher)
    header, ciphertext = client.seal([MESSAGE])
    protocol, tag, nonce, size, reserved, flags, session_id = struct.unpack("<4s16s16sIHHQ", header)
    assert (protocol, size, reserved, flags, session_id) == (b"\xfdSMB", len(MESSAGE), 0, 1, SESSION_ID)
    assert any(tag)
    assert not any(nonce[cipher.nonce_length :])
    assert bytes(ciphertext) != MESSAGE


@every_cipher
@pytest.mark.parametrize(
    ("position", "what"),
    [
        (0, "TRANSFORM_HEADER"),
        (4, "key"),
        (19, "key"),
        (20, "key"),
        (30, "key"),
        (35, "key"),  # a byte of the Nonce field that no cipher uses is authenticated all the same
        (36, "OriginalMessageSize"),
        (40, "key"),  # Reserved
        (42, "flags"),
        (44, "session"),
        (51, "session"),
        (52, "key"),
        (100, "key"),
        (-1, "key"),
    ],
)
def test_a_flipped_bit_is_found(cipher: Cipher, position: int, what: str) -> None:
    client, server = client_and_server(cipher)
    frame = sealed_frame(client)
    assert unseal(server, frame) == MESSAGE
    frame[position] ^= 0x04
    with pytest.raises(RemoteProtocolError, match=what):
        unseal(server, frame)


@every_cipher
def test_the_wrong_key(cipher: Cipher) -> None:
    client, _ = client_and_server(cipher)
    with pytest.raises(RemoteProtocolError, match="key"):
        unseal(client, sealed_frame(client))


def test_another_session() -> None:
    client, _ = client_and_server(Cipher.AES_128_GCM)
    ours, theirs = key_pair(Cipher.AES_128_GCM)
    other = Sealer(Cipher.AES_128_GCM, theirs, ours, SESSION_ID + 1)
    with pytest.raises(RemoteProtocolError, match="another session, 0x1122334455667788"):
        unseal(other, sealed_frame(client))


@pytest.mark.parametrize("change", [1, -1, 16, 2**31])
def test_a_wrong_original_message_size(change: int) -> None:
    client, server = client_and_server(Cipher.AES_256_GCM)
    frame = sealed_frame(client)
    struct.pack_into("<I", frame, 36, len(MESSAGE) + change)
    with pytest.raises(RemoteProtocolError, match="OriginalMessageSize"):
        unseal(server, frame)


@every_cipher
def test_a_message_cut_off_or_prolonged(cipher: Cipher) -> None:
    client, server = client_and_server(cipher)
    frame = sealed_frame(client)
    for changed in (frame[:-1], frame + b"\x00", frame[:TRANSFORM_HEADER_SIZE], frame[:51]):
        with pytest.raises(RemoteProtocolError):
            unseal(server, changed)


@every_cipher
def test_an_empty_message_is_not_one(cipher: Cipher) -> None:
    client, server = client_and_server(cipher)
    header, ciphertext = client.seal([b""])
    assert len(ciphertext) == 0
    with pytest.raises(RemoteProtocolError, match="OriginalMessageSize 0"):
        unseal(server, header)


def test_no_room_for_the_tag() -> None:
    client, server = client_and_server(Cipher.AES_128_CCM)
    with pytest.raises(RemoteProtocolError):
        server.unseal_into_untrusted(client.seal([MESSAGE])[0], bytearray(5), bytearray(500))


def test_no_room_for_the_message_is_our_own_mistake() -> None:
    client, server = client_and_server(Cipher.AES_128_GCM)
    header, ciphertext = client.seal([MESSAGE])
    with pytest.raises(LocalProtocolError):
        server.unseal_into_untrusted(header, bytearray(ciphertext) + bytes(16), bytearray(len(MESSAGE) - 1))


@given(cipher=st.sampled_from(Cipher), data=st.binary(max_size=120))
def test_whatever_comes_only_remote_protocol_errors(cipher: Cipher, data: bytes) -> None:
    _, server = client_and_server(cipher)
    with pytest.raises(RemoteProtocolError):
        unseal(server, data)


@given(cipher=st.sampled_from(Cipher), nonce=st.binary(min_size=16, max_size=16), body=st.binary(max_size=90))
def test_a_plausible_header_does_not_help(cipher: Cipher, nonce: bytes, body: bytes) -> None:
    _, server = client_and_server(cipher)
    header = struct.pack("<4s16s16sIHHQ", b"\xfdSMB", nonce, nonce, len(body), 0, 1, SESSION_ID)
    with pytest.raises(RemoteProtocolError):
        unseal(server, header + body)


@every_cipher
def test_the_same_message_never_looks_the_same(cipher: Cipher) -> None:
    client, _ = client_and_server(cipher)
    frames = {bytes(sealed_frame(client)) for _ in range(200)}
    assert len({frame[20 : 20 + cipher.nonce_length] for frame in frames}) == 200


@pytest.mark.parametrize("length", [11, 12])
def test_nonces_count_up_behind_a_prefix(length: int) -> None:
    nonces = NonceSequence(length)
    taken = [nonces.take() for _ in range(1000)]
    assert {len(nonce) for nonce in taken} == {length}
    assert len({nonce[: length - 8] for nonce in taken}) == 1
    assert [int.from_bytes(nonce[length - 8 :], "little") for nonce in taken] == list(range(1000))


def test_nonces_end_before_they_repeat() -> None:
    nonces = NonceSequence(12, first=2**64 - 1)
    assert nonces.take()[4:] == b"\xff" * 8
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="used up"):
            nonces.take()


def test_prefixes_differ() -> None:
    assert len({NonceSequence(12).take() for _ in range(20)}) > 1


@every_cipher
def test_keys_of_another_length_are_refused(cipher: Cipher) -> None:
    ours, theirs = key_pair(cipher)
    with pytest.raises(LocalProtocolError, match=str(cipher)):
        Sealer(cipher, ours[:-1], theirs, SESSION_ID)
    with pytest.raises(LocalProtocolError, match=str(cipher)):
        Sealer(cipher, ours, theirs + theirs, SESSION_ID)


def test_the_ciphers_and_their_order() -> None:
    assert [(str(cipher), cipher.key_length, cipher.nonce_length) for cipher in CIPHER_PREFERENCE] == [
        ("AES-256-GCM", 32, 12),
        ("AES-128-GCM", 16, 12),
        ("AES-256-CCM", 32, 11),
        ("AES-128-CCM", 16, 11),
    ]
