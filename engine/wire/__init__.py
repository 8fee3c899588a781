"""Bytes to dataclasses and back: the messages of [MS-SMB2], without any state."""
