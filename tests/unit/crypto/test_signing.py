"""Signatures: published and recorded ones, what they cover, and how they may be cut into parts."""

import struct
from itertools import pairwise
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from engine.crypto.signing import (
    SIGNING_PREFERENCE,
    AesCmacSigner,
    AesGmacSigner,
    HmacSha256Signer,
    Signer,
    SigningAlgorithm,
    make_signer,
)
from engine.errors import LocalProtocolError
from tests.vectors.smb3 import PUBLISHED, RECORDED, unhex

KEY = bytes(range(16))
WRITE, CANCEL = 9, 12
FROM_SERVER = 1

every_algorithm = pytest.mark.parametrize("algorithm", list(SigningAlgorithm))


def message_with(
    command: int = WRITE, flags: int = 0, message_id: int = 7, payload: bytes = b""
) -> bytearray:
    header = bytearray(b"\xfeSMB".ljust(64, b"\x55"))
    struct.pack_into("<H", header, 12, command)
    struct.pack_into("<I", header, 16, flags)
    struct.pack_into("<Q", header, 24, message_id)
    return header + payload


def signed(signer: Signer, message: bytearray) -> bytearray:
    message[48:64] = signer.sign(message)
    return message


def gmac_reference(key: bytes, nonce: bytes, data: bytes) -> bytes:
    """GMAC bit by bit, as NIST SP 800-38D writes it down."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    hash_key = int.from_bytes(encryptor.update(bytes(16)), "big")
    mask = encryptor.update(nonce + b"\x00\x00\x00\x01")
    lengths = struct.pack(">QQ", len(data) * 8, 0)
    blocks = data + bytes(-len(data) % 16) + lengths
    state = 0
    for start in range(0, len(blocks), 16):
        state ^= int.from_bytes(blocks[start : start + 16], "big")
        product, factor = 0, hash_key
        for bit in range(127, -1, -1):
            product ^= factor if state >> bit & 1 else 0
            factor = factor >> 1 ^ (0xE1 << 120 if factor & 1 else 0)
        state = product
    return bytes(a ^ b for a, b in zip(state.to_bytes(16, "big"), mask, strict=True))


@pytest.mark.parametrize("vector", PUBLISHED["mac"])
def test_published_codes(vector: dict[str, Any]) -> None:
    signers = {"AES_CMAC": AesCmacSigner, "HMAC_SHA256": HmacSha256Signer}
    signer = signers[vector["algorithm"]](unhex(vector["key"]))
    data = unhex(vector["data"])
    assert signer._mac(memoryview(b""), (data[:3], b"", data[3:])) == unhex(vector["code"])


def test_the_gmac_reference_is_right() -> None:
    vector = PUBLISHED["gcm"][0]
    assert gmac_reference(unhex(vector["key"]), unhex(vector["nonce"]), b"") == unhex(vector["tag"])


def test_the_library_gives_the_published_gcm_result() -> None:
    vector = PUBLISHED["gcm"][1]
    sealed = unhex(vector["ciphertext"]) + unhex(vector["tag"])
    plain = AESGCM(unhex(vector["key"])).decrypt(unhex(vector["nonce"]), sealed, unhex(vector["associated"]))
    assert plain.hex().startswith("d9313225f88406e5a55909c5aff5269a")


def test_published_signed_message() -> None:
    vector = PUBLISHED["signed_messages"][0]
    message = unhex(vector["message"])
    signer = make_signer(SigningAlgorithm[vector["algorithm"]], unhex(vector["key"]))
    assert signer.verify(message)
    assert signer.sign(message) == message[48:64]


@pytest.mark.parametrize("session", [session for session in RECORDED if "signed" in session])
def test_recorded_messages_of_both_sides(session: dict[str, Any]) -> None:
    signer = make_signer(SigningAlgorithm[session["signing_algorithm"]], unhex(session["signing"]))
    messages = [unhex(message) for message in session["signed"]]
    assert {message[16] & FROM_SERVER for message in messages} == {0, 1}
    for message in messages:
        assert signer.verify(message[:64], message[64:])


@every_algorithm
def test_the_factory_makes_what_was_asked_for(algorithm: SigningAlgorithm) -> None:
    assert make_signer(algorithm, KEY).algorithm is algorithm
    assert algorithm in SIGNING_PREFERENCE


@every_algorithm
def test_a_key_of_another_length_is_refused(algorithm: SigningAlgorithm) -> None:
    with pytest.raises(LocalProtocolError):
        make_signer(algorithm, bytes(32))


@every_algorithm
@pytest.mark.parametrize("size", [0, 1, 70, 64 * 1024, 128 * 1024 - 64, 128 * 1024 - 63, 300_000])
def test_parts_do_not_matter(algorithm: SigningAlgorithm, size: int) -> None:
    signer = make_signer(algorithm, KEY)
    message = bytes(message_with(payload=b"\xab" * size))
    whole = signer.sign(message)
    assert len(whole) == 16
    assert signer.sign(bytearray(message[:64]), memoryview(message)[64:]) == whole
    assert signer.sign(message[:64], message[64:66], b"", message[66:]) == whole


@given(
    algorithm=st.sampled_from(SigningAlgorithm),
    payload=st.binary(max_size=400),
    cuts=st.lists(st.integers(64, 464), max_size=4),
)
def test_any_split_gives_the_same_signature(
    algorithm: SigningAlgorithm, payload: bytes, cuts: list[int]
) -> None:
    signer = make_signer(algorithm, KEY)
    message = message_with(payload=payload)
    edges = [0, *sorted(cuts), len(message)] if cuts else [0, 64, len(message)]
    view = memoryview(message)
    header, *parts = (view[start:end] for start, end in pairwise(edges))
    # Cuts behind the end of the message leave the header part whole and the later parts empty.
    assert signer.sign(header, *parts) == signer.sign(message)


@every_algorithm
def test_the_signature_field_counts_as_zero_and_is_left_alone(algorithm: SigningAlgorithm) -> None:
    signer = make_signer(algorithm, KEY)
    message, cleared = message_with(payload=b"data"), message_with(payload=b"data")
    cleared[48:64] = bytes(16)
    assert signer.sign(message) == signer.sign(cleared)
    assert message[48:64] == b"\x55" * 16


@every_algorithm
@pytest.mark.parametrize("position", [0, 12, 16, 24, 47, 48, 63, 64, 100, -1])
def test_a_flipped_bit_is_found(algorithm: SigningAlgorithm, position: int) -> None:
    signer = make_signer(algorithm, KEY)
    message = signed(signer, message_with(payload=b"payload" * 20))
    assert signer.verify(message)
    message[position] ^= 0x10
    assert not signer.verify(message)
    assert not signer.verify(message[:64], message[64:])


@every_algorithm
def test_another_key_or_length_does_not_verify(algorithm: SigningAlgorithm) -> None:
    message = signed(make_signer(algorithm, KEY), message_with(payload=b"payload"))
    assert not make_signer(algorithm, KEY[::-1]).verify(message)
    assert not make_signer(algorithm, KEY).verify(message + b"\x00")
    assert not make_signer(algorithm, KEY).verify(message[:-1])


@every_algorithm
def test_less_than_a_header(algorithm: SigningAlgorithm) -> None:
    signer = make_signer(algorithm, KEY)
    assert not signer.verify(bytes(63))
    assert not signer.verify(b"", bytes(100))
    with pytest.raises(LocalProtocolError):
        signer.sign(bytes(63))


@every_algorithm
def test_messages_do_not_depend_on_those_before(algorithm: SigningAlgorithm) -> None:
    signer = make_signer(algorithm, KEY)
    message = message_with(payload=b"first")
    before = signer.sign(message)
    signer.sign(message_with(payload=b"second"))
    assert signer.sign(message) == before


@pytest.mark.parametrize(
    ("command", "flags", "last_word"),
    [
        (WRITE, 0, 0),
        (WRITE, FROM_SERVER, 1),
        (CANCEL, 0, 2),
        (CANCEL, FROM_SERVER, 3),
        (WRITE, 0xFFFFFFFE, 0),
    ],
)
@pytest.mark.parametrize("size", [5, 200_000])
def test_the_gmac_nonce_is_message_id_role_and_cancel(
    command: int, flags: int, last_word: int, size: int
) -> None:
    message_id = 0x8123456789ABCDEF
    message = message_with(command, flags, message_id, bytes(size))
    message[48:64] = bytes(16)
    nonce = struct.pack("<QI", message_id, last_word)
    assert AesGmacSigner(KEY).sign(message) == AESGCM(KEY).encrypt(nonce, b"", bytes(message))
    if size < 1000:
        assert AesGmacSigner(KEY).sign(message) == gmac_reference(KEY, nonce, bytes(message))


def test_names_for_people() -> None:
    assert [str(algorithm) for algorithm in SIGNING_PREFERENCE] == ["AES-GMAC", "AES-CMAC", "HMAC-SHA256"]
