"""What a server says of itself when it is asked to log on by NTLM: CHALLENGE_MESSAGE ([MS-NLMP] 2.2.1.2).

Only the names are read here; the log-on itself is the authentication library's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from engine.errors import RemoteProtocolError
from engine.wire.primitives import (
    decode_utf16_untrusted,
    encode_name,
    slice_checked,
    unpack_checked,
)

_HEAD: Final = struct.Struct("<8sI")
_FIXED: Final = struct.Struct("<HHIIQQHHI")
_END: Final = _HEAD.size + _FIXED.size
_SIGNATURE: Final = b"NTLMSSP\0"
_CHALLENGE: Final = 2

_PAIR: Final = struct.Struct("<HH")
_EOL: Final = 0
_DNS_COMPUTER_NAME: Final = 3
_DNS_DOMAIN_NAME: Final = 4
"""AvId of [MS-NLMP] 2.2.2.1."""


@dataclass(slots=True)
class ChallengeMessage:
    """[MS-NLMP] 2.2.1.2, without what only the log-on needs. A name is "" if the server does not tell it."""

    dns_computer_name: str = ""
    dns_domain_name: str = ""

    def encode(self) -> bytes:
        """Return the message, with a challenge of zeros."""
        pairs = b""
        for number, name in (
            (_DNS_DOMAIN_NAME, self.dns_domain_name),
            (_DNS_COMPUTER_NAME, self.dns_computer_name),
        ):
            value = encode_name(name, "a name in an NTLM challenge")
            pairs += _PAIR.pack(number, len(value)) + value if value else b""
        pairs += _PAIR.pack(_EOL, 0)
        fixed = _FIXED.pack(0, 0, _END, 0, 0, 0, len(pairs), len(pairs), _END)
        return _HEAD.pack(_SIGNATURE, _CHALLENGE) + fixed + pairs

    @classmethod
    def decode_untrusted(cls, view: memoryview) -> Self:
        """Decode a message that is not wrapped in SPNEGO."""
        if bytes(view[: _HEAD.size]) != _HEAD.pack(_SIGNATURE, _CHALLENGE):
            raise RemoteProtocolError("the answer to the first message of NTLM is no challenge")
        *_, length, _, offset = unpack_checked(_FIXED, view, _HEAD.size, "NTLM challenge")
        pairs = _pairs_untrusted(slice_checked(view, offset, length, "NTLM challenge"))
        return cls(pairs.get(_DNS_COMPUTER_NAME, ""), pairs.get(_DNS_DOMAIN_NAME, ""))


def _pairs_untrusted(view: memoryview) -> dict[int, str]:
    """The names in a list of AV_PAIR ([MS-NLMP] 2.2.2.1)."""
    pairs: dict[int, str] = {}
    at = 0
    while at < len(view):
        number, length = unpack_checked(_PAIR, view, at, "pair of an NTLM challenge")
        at += _PAIR.size
        value = slice_checked(view, at, length, "pair of an NTLM challenge")
        at += length
        if number == _EOL:
            break
        if number in (_DNS_COMPUTER_NAME, _DNS_DOMAIN_NAME):
            pairs[number] = decode_utf16_untrusted(value)
    return pairs
