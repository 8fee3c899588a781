"""A man in the middle: passes whole frames on, both ways, and changes what a test tells it to.

A change is a function from a frame to what is sent instead; None drops it. `offering`, `choosing` and
`answering` make well-formed ones: an attacker would take that trouble.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from engine.wire.constants import Command, Dialect, HeaderFlags
from engine.wire.header import Header
from engine.wire.negotiate import NegotiateRequest, NegotiateResponse

Change = Callable[[bytes], bytes | None]

_HEADER: Final = 64


def unchanged(frame: bytes) -> bytes:
    """What an honest line does."""
    return frame


def offering(change: Callable[[NegotiateRequest], None]) -> Change:
    """Change what the client offers in NEGOTIATE."""

    def tamper(frame: bytes) -> bytes:
        if not _is(frame, Command.NEGOTIATE, reply=False):
            return frame
        request = NegotiateRequest.decode_untrusted(memoryview(frame))
        change(request)
        if Dialect.SMB_3_1_1 not in request.dialects:
            request.contexts = ()
        return frame[:_HEADER] + request.encode()

    return tamper


def choosing(change: Callable[[NegotiateResponse], None]) -> Change:
    """Change what the server says that it chose."""

    def tamper(frame: bytes) -> bytes:
        if not _is(frame, Command.NEGOTIATE, reply=True):
            return frame
        response = NegotiateResponse.decode_untrusted(memoryview(frame))
        response.security_buffer = bytes(response.security_buffer)
        change(response)
        return frame[:_HEADER] + response.encode()

    return tamper


def answering(command: Command, change: Callable[[bytearray], None]) -> Change:
    """Change every lone reply to `command`, in place, whatever its signature says."""

    def tamper(frame: bytes) -> bytes:
        if not _is(frame, command, reply=True):
            return frame
        message = bytearray(frame)
        change(message)
        return bytes(message)

    return tamper


def _is(frame: bytes, command: Command, *, reply: bool) -> bool:
    if frame[:4] != b"\xfeSMB":
        return False
    header = Header.decode_untrusted(frame)
    return header.command == command and bool(header.flags & HeaderFlags.SERVER_TO_REDIR) is reply


@asynccontextmanager
async def in_the_middle(
    port: int, *, up: Change = unchanged, down: Change = unchanged
) -> AsyncGenerator[int, None]:
    """Stand before the server on `port` of 127.0.0.1; yields the port that clients are led to.

    `up` is done to the client's frames, `down` to the server's.
    """
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def handle(client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", port)
        async with client, server, trio.open_nursery() as nursery:
            for source, target, change in ((client, server, up), (server, client, down)):
                nursery.start_soon(_pass_on, source, target, change, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _pass_on(
    source: trio.SocketStream, target: trio.SocketStream, change: Change, both: trio.CancelScope
) -> None:
    buffer = bytearray()
    try:
        async for chunk in source:
            buffer += chunk
            while len(buffer) >= 4 and len(buffer) >= (end := 4 + int.from_bytes(buffer[:4], "big")):
                frame = change(bytes(buffer[4:end]))
                del buffer[:end]
                if frame is not None:
                    await target.send_all(len(frame).to_bytes(4, "big") + frame)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        both.cancel()
