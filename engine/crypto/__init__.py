"""Floor 1: keys, signatures and ciphers; no connections, no messages, no trio."""

from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Anything whose bytes can be signed, hashed or encrypted."""
