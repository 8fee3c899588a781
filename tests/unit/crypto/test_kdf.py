"""Keys against the published examples of 3.0 and 3.1.1 and against recorded AES-256 sessions."""

from typing import Any

import pytest

from engine.crypto.kdf import derive_keys, kdf_counter_hmac_sha256
from engine.errors import LocalProtocolError
from tests.vectors.smb3 import PUBLISHED, RECORDED, unhex

FULL_KEY = bytes(range(32))
HASH = bytes(range(64))


@pytest.mark.parametrize("vector", [*PUBLISHED["key_derivation"], *RECORDED])
def test_known_session_keys(vector: dict[str, Any]) -> None:
    keys = derive_keys(
        vector["dialect"],
        unhex(vector["session_key"]),
        unhex(vector["preauth_hash"]) or None,
        vector.get("cipher_key_length", 16),
    )
    derived = {
        "signing": keys.signing_key,
        "application": keys.application_key,
        "encryption": keys.encryption_key,
        "decryption": keys.decryption_key,
    }
    published = {name: unhex(vector[name]) for name in derived if name in vector}
    assert published
    assert published == {name: derived[name] for name in published}


@pytest.mark.parametrize("dialect", [0x0202, 0x0210])
def test_smb_2_signs_with_the_session_key_itself(dialect: int) -> None:
    keys = derive_keys(dialect, FULL_KEY, None, 0)
    assert keys.signing_key == keys.application_key == FULL_KEY[:16]
    assert keys.encryption_key == keys.decryption_key == b""


@pytest.mark.parametrize("dialect", [0x0210, 0x0302, 0x0311])
def test_a_short_session_key_is_padded_with_zeros(dialect: int) -> None:
    assert derive_keys(dialect, b"short", HASH, 16) == derive_keys(dialect, b"short" + bytes(11), HASH, 16)


def test_signing_and_aes_128_use_the_first_16_bytes_only() -> None:
    assert derive_keys(0x0311, FULL_KEY, HASH, 16) == derive_keys(0x0311, FULL_KEY[:16], HASH, 16)


def test_aes_256_uses_the_full_session_key() -> None:
    full = derive_keys(0x0311, FULL_KEY[:16], HASH, 32, FULL_KEY)
    cut = derive_keys(0x0311, FULL_KEY[:16], HASH, 32)
    assert full == derive_keys(0x0311, FULL_KEY, HASH, 32)
    assert len(full.encryption_key) == len(full.decryption_key) == 32
    assert full.encryption_key != cut.encryption_key
    assert full.signing_key == cut.signing_key


def test_no_cipher_means_no_cipher_keys() -> None:
    with_cipher, without = derive_keys(0x0311, FULL_KEY, HASH, 16), derive_keys(0x0311, FULL_KEY, HASH, 0)
    assert without.encryption_key == without.decryption_key == b""
    assert without.signing_key == with_cipher.signing_key


def test_smb_3_0_2_derives_as_3_0_and_ignores_the_hash() -> None:
    assert derive_keys(0x0302, FULL_KEY, HASH, 16) == derive_keys(0x0300, FULL_KEY, None, 16)


def test_values_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="pre-authentication"):
        derive_keys(0x0311, FULL_KEY, None, 16)
    with pytest.raises(LocalProtocolError, match="24 bytes"):
        derive_keys(0x0311, FULL_KEY, HASH, 24)
    with pytest.raises(LocalProtocolError, match="no session key"):
        derive_keys(0x0210, b"", None, 0)


@pytest.mark.parametrize("length", [0, 33])
def test_the_kdf_makes_one_block_at_most(length: int) -> None:
    with pytest.raises(LocalProtocolError):
        kdf_counter_hmac_sha256(FULL_KEY, b"label", b"context", length)


def test_keys_are_not_printed() -> None:
    text = repr(derive_keys(0x0311, FULL_KEY, HASH, 32))
    assert text == "SessionKeys()"
