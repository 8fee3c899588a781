"""From the log-on's session key to the keys that sign and encrypt ([MS-SMB2] 3.1.4.2, 3.2.5.3.3)."""

import hmac
from dataclasses import dataclass, field
from typing import Final

from engine.errors import LocalProtocolError

_KEY_LENGTH: Final = 16
"""Of the session key, the signing key and the application key, whatever the dialect and the cipher."""

_SMB_3_0: Final = 0x0300
_SMB_3_1_1: Final = 0x0311


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The keys of one session, as the client names them; b"" where the dialect or the cipher has none.

    `encryption_key` seals what the client sends and `decryption_key` opens what the server sends; a
    server's own documents and logs call them the other way round. None of them is ever printed.
    """

    signing_key: bytes = field(repr=False)
    application_key: bytes = field(repr=False)
    encryption_key: bytes = field(repr=False)
    decryption_key: bytes = field(repr=False)


def kdf_counter_hmac_sha256(key: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """Return `length` bytes derived from `key` (SP 800-108 in counter mode, HMAC-SHA256, r = 32).

    `label` and `context` include the NUL that ends the spec's strings. One block is all that SMB needs,
    so `length` is at most 32.
    """
    if not 0 < length <= 32:
        raise LocalProtocolError(f"a derived key of {length} bytes")
    message = b"\x00\x00\x00\x01" + label + b"\x00" + context + (length * 8).to_bytes(4, "big")
    return hmac.digest(key, message, "sha256")[:length]


def derive_keys(
    dialect: int,
    session_key: bytes,
    preauth_hash: bytes | None,
    cipher_key_length: int,
    full_session_key: bytes | None = None,
) -> SessionKeys:
    """Return the keys of a session, or the signing key of one more channel of it.

    `session_key` is what the log-on mechanism exported: the spec's Session.SessionKey is its first 16 bytes,
    padded with zeros. `preauth_hash` is the session's hash (3.1.1 only), `cipher_key_length` 16 or 32, or 0
    if there is no cipher. AES-256 keys come from the untruncated `full_session_key`, by default
    `session_key` as it was given. Raises `LocalProtocolError` on values that do not belong together.
    """
    if not session_key:
        raise LocalProtocolError("the log-on gave no session key, so nothing can be signed or encrypted")
    if cipher_key_length not in (0, 16, 32):
        raise LocalProtocolError(f"no cipher has keys of {cipher_key_length} bytes")
    base = session_key[:_KEY_LENGTH].ljust(_KEY_LENGTH, b"\x00")
    if dialect < _SMB_3_0:
        return SessionKeys(base, base, b"", b"")
    cipher_base = (full_session_key or session_key) if cipher_key_length == 32 else base

    if dialect == _SMB_3_1_1:
        if preauth_hash is None:
            raise LocalProtocolError("SMB 3.1.1 derives its keys from the pre-authentication hash")
        signing = b"SMBSigningKey\x00", preauth_hash
        application = b"SMBAppKey\x00", preauth_hash
        encryption = b"SMBC2SCipherKey\x00", preauth_hash
        decryption = b"SMBS2CCipherKey\x00", preauth_hash
    else:
        signing = b"SMB2AESCMAC\x00", b"SmbSign\x00"
        application = b"SMB2APP\x00", b"SmbRpc\x00"
        encryption = b"SMB2AESCCM\x00", b"ServerIn \x00"
        decryption = b"SMB2AESCCM\x00", b"ServerOut\x00"

    def cipher_key(purpose: tuple[bytes, bytes]) -> bytes:
        if not cipher_key_length:
            return b""
        return kdf_counter_hmac_sha256(cipher_base, *purpose, cipher_key_length)

    return SessionKeys(
        signing_key=kdf_counter_hmac_sha256(base, *signing, _KEY_LENGTH),
        application_key=kdf_counter_hmac_sha256(base, *application, _KEY_LENGTH),
        encryption_key=cipher_key(encryption),
        decryption_key=cipher_key(decryption),
    )
