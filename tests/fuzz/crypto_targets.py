"""The targets of `engine/crypto`: frames that are no ciphertext of ours, and ones that nearly are."""

from __future__ import annotations

from typing import Final

from engine.crypto.sealing import TAG_SIZE, TRANSFORM_HEADER_SIZE, Cipher, Sealer
from engine.crypto.signing import SigningAlgorithm, make_signer
from tests.fuzz.target import Script, Target, covering

SESSION_ID: Final = 0x51
_KEY: Final = bytes(range(32))
_CIPHERS: Final = tuple(Cipher)


def sealer(cipher: Cipher) -> Sealer:
    """Both sides' at once: its two keys are one."""
    key = _KEY[: cipher.key_length]
    return Sealer(cipher, key, key, SESSION_ID)


_SEALERS: Final = [sealer(cipher) for cipher in _CIPHERS]
_SIGNERS: Final = [make_signer(algorithm, _KEY[:16]) for algorithm in SigningAlgorithm]


def _unseal(data: bytes) -> None:
    """A cipher, then the whole frame as it came."""
    cipher, frame = Script(data).below(len(_SEALERS)), data[1:]
    room = bytearray(frame[TRANSFORM_HEADER_SIZE:]) + bytes(TAG_SIZE)
    out = bytearray(len(frame))
    _SEALERS[cipher].unseal_into_untrusted(frame[:TRANSFORM_HEADER_SIZE], room, out)


def _unseal_altered(data: bytes) -> None:
    """A frame of ours with one byte changed, or none: taken exactly if it is as it was."""
    script = Script(data)
    ours = _SEALERS[script.below(len(_SEALERS))]
    at, change = script.number(2), script.number()
    message = script.piece(1 << 16)
    if not message:
        return
    head, sealed = ours.seal([message])
    frame = bytearray(head + sealed)
    frame[at % len(frame)] ^= change
    # The nonce is padded to 16 bytes, which the tag covers too; only Reserved is nobody's.
    room = frame[TRANSFORM_HEADER_SIZE:] + bytes(TAG_SIZE)
    out = bytearray(len(message))
    size = ours.unseal_into_untrusted(frame[:TRANSFORM_HEADER_SIZE], room, out)
    assert not change, "an altered frame was taken"
    assert out[:size] == message


def _verify(data: bytes) -> None:
    """An algorithm, and a message that nobody signed: false, whatever it is."""
    script = Script(data)
    signer = _SIGNERS[script.below(len(_SIGNERS))]
    message = bytearray(data[1:])
    assert not signer.verify(message)
    if len(message) >= 64:
        message[48:64] = signer.sign(message)
        assert signer.verify(message)


CRYPTO_TARGETS: Final = (
    Target("crypto.unseal", _unseal, covers=covering(_SEALERS[0].unseal_into_untrusted)),
    Target("crypto.unseal_altered", _unseal_altered, covers=covering(_SEALERS[0].unseal_into_untrusted)),
    Target("crypto.verify", _verify, allowed=()),
)
