"""The two NTLMSSP messages of an anonymous log-on, which the authentication library cannot make.

No secret and no key is involved: the session they open is neither signed nor encrypted.
"""

from __future__ import annotations

import struct
from typing import Final

_SIGNATURE: Final = b"NTLMSSP\0"
_HEAD: Final = struct.Struct("<8sII")
_FIELD: Final = struct.Struct("<HHI")

_UNICODE: Final = 0x00000001
_REQUEST_TARGET: Final = 0x00000004
_NTLM: Final = 0x00000200
_ANONYMOUS: Final = 0x00000800
_EXTENDED_SESSION_SECURITY: Final = 0x00080000
_FLAGS: Final = _UNICODE | _REQUEST_TARGET | _NTLM | _EXTENDED_SESSION_SECURITY


def negotiate_message() -> bytes:
    """NEGOTIATE_MESSAGE ([MS-NLMP] 2.2.1.1) without domain and workstation."""
    return _HEAD.pack(_SIGNATURE, 1, _FLAGS) + _FIELD.pack(0, 0, 0) * 2


def authenticate_message() -> bytes:
    """AUTHENTICATE_MESSAGE of nobody: an LM response of one zero byte ([MS-NLMP] 3.2.5.1.2)."""
    size = 64
    lm_response = b"\0"
    end = size + len(lm_response)
    fields = [_FIELD.pack(len(lm_response), len(lm_response), size), *[_FIELD.pack(0, 0, end)] * 5]
    head = struct.pack("<8sI", _SIGNATURE, 3)
    return head + b"".join(fields) + struct.pack("<I", _FLAGS | _ANONYMOUS) + lm_response
