"""Lies in the answer to NEGOTIATE, and impostors in the log-on."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from engine.wire.negotiate import NegotiateContext, NegotiateResponse
from tests.fakes.server_lies import Lie
from tests.fakes.server_peer import Acceptor


class Negotiates(Lie):
    """Whatever `change` makes of the honest answer."""

    def __init__(self, change: Callable[[NegotiateResponse], None]) -> None:
        self._change = change

    def negotiate(self, response: NegotiateResponse) -> None:
        self._change(response)


class Without(Lie):
    """The answer lacks the contexts of these types."""

    def __init__(self, *types: type[NegotiateContext]) -> None:
        self._types = types

    def negotiate(self, response: NegotiateResponse) -> None:
        response.contexts = [one for one in response.contexts if not isinstance(one, self._types)]


class With(Lie):
    """The answer has these contexts too, in front of its own."""

    def __init__(self, *contexts: NegotiateContext) -> None:
        self._contexts = contexts

    def negotiate(self, response: NegotiateResponse) -> None:
        response.contexts = [*self._contexts, *response.contexts]


class RelaysLogOn:
    """An acceptor that has no password: it passes everything on to another server, and guesses the key."""

    def __init__(self, victim: Acceptor) -> None:
        self.victim = victim
        self.heard: list[bytes] = []
        self.session_key = secrets.token_bytes(16)

    def step(self, token: bytes) -> bytes | None:
        """The other server's answer."""
        self.heard.append(token)
        return self.victim.step(token)

    @property
    def complete(self) -> bool:
        """Whether the other server is satisfied."""
        return self.victim.complete


class EchoesLogOn:
    """An acceptor that answers every message with the same message."""

    def __init__(self, legs: int = 2) -> None:
        self._left = legs
        self.session_key = secrets.token_bytes(16)

    def step(self, token: bytes) -> bytes:
        """The client's own token."""
        self._left -= 1
        return token

    @property
    def complete(self) -> bool:
        """Whether that was the last one."""
        return self._left <= 0
