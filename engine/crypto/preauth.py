"""The running hash that ties the keys of SMB 3.1.1 to what was said before them ([MS-SMB2] 3.1.4.4.1)."""

import hashlib

from engine.crypto import Buffer


class PreauthIntegrity:
    """SHA-512 over the hash so far and the next whole message; SHA-512 is the only algorithm there is.

    A connection's hash takes in NEGOTIATE's request and response. Each session goes on from a `copy` with
    its SESSION_SETUP messages, except the final successful response.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes = bytes(64)) -> None:
        self._value = value

    @property
    def value(self) -> bytes:
        """The 64 bytes of the hash."""
        return self._value

    def update(self, *message_parts: Buffer) -> None:
        """Take in one message, from its SMB2 header on, in as many parts as it happens to be in."""
        digest = hashlib.sha512(self._value)
        for part in message_parts:
            digest.update(part)
        self._value = digest.digest()

    def copy(self) -> "PreauthIntegrity":
        """Return one that goes on from here on its own."""
        return PreauthIntegrity(self._value)
