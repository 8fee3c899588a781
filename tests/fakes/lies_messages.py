"""Lies inside messages, signed and encrypted as if they were true: what only the real server could tell."""

from __future__ import annotations

from collections.abc import Collection

from engine.wire.constants import Command
from tests.fakes.server_lies import Lie
from tests.fakes.server_peer import Peer, Reply

SESSION_ID = 40
MESSAGE_ID = 24
NEXT_COMMAND = 20
"""Where these fields of the header lie."""


class Says(Lie):
    """`value` at `offset` of every reply to `commands`, counted from the header on.

    Lengths and offsets are overstated with it. `final_only` leaves replies alone that are not the last.
    """

    def __init__(self, offset: int, value: bytes, *commands: Command, failures: bool = False) -> None:
        self._span = slice(offset, offset + len(value))
        self._value = value
        self._commands: Collection[Command] = commands or tuple(Command)
        self._failures = failures

    def message(self, peer: Peer, message: bytearray, reply: Reply) -> None:
        if reply.command in self._commands and (self._failures or not reply.status):
            message[self._span] = self._value


class Cuts(Lie):
    """Only the first `length` bytes of every reply to `commands`."""

    def __init__(self, length: int, *commands: Command) -> None:
        self._length = length
        self._commands = commands

    def message(self, peer: Peer, message: bytearray, reply: Reply) -> None:
        if reply.command in self._commands:
            del message[self._length :]


class Answers(Lie):
    """The body of every successful reply to `command` is this one."""

    def __init__(self, command: Command, body: bytes) -> None:
        self._command = command
        self._body = body

    def message(self, peer: Peer, message: bytearray, reply: Reply) -> None:
        if reply.command is self._command and not reply.status:
            message[64:] = self._body
