"""Sending requests that are values: several in one round trip ([MS-SMB2] 3.2.4.1.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from engine.client.requests import RELATED, CompoundRequest, Ioctl
from engine.client.tree import Tree
from engine.errors import LocalProtocolError, NtStatusError, RemoteProtocolError
from engine.proto.inflight import Reply

Answer = TypeVar("Answer")


async def send_related(tree: Tree, requests: Sequence[CompoundRequest[Any]], what: str) -> tuple[Any, ...]:
    """Send one chain, each request on the file of the one before; returns the answers.

    Raises the first error, with `index` and, as `replies`, the answers before it; a file that the chain
    opened and did not close is closed then.
    """
    _check(requests[:1])
    messages = [request.message() for request in requests]
    try:
        replies = await tree.exchange(*messages, what=what)
    except NtStatusError as error:
        before = [reply for reply in error.replies if isinstance(reply, Reply)][: error.index]
        error.replies = tuple(_read(requests, before))
        raise
    try:
        return tuple(_read(requests, replies))
    except RemoteProtocolError:
        tree.close_leftover(tree.connection, tree.batch, messages, replies)
        raise


async def send_unrelated(
    tree: Tree, requests: Sequence[CompoundRequest[Answer]], what: str
) -> list[Answer | NtStatusError]:
    """Send requests that have nothing to do with each other; returns each one's answer or error.

    An error has its request's `index`.
    """
    _check(requests)
    replies = await tree.exchange_each(*(request.message() for request in requests))
    outcomes: list[Answer | NtStatusError] = []
    try:
        for index, (request, reply) in enumerate(zip(requests, replies, strict=True)):
            error = tree.refusal(reply, what)
            if error is None:
                outcomes.append(request.read_untrusted(reply.message))
            else:
                error.index = index
                outcomes.append(error)
    except RemoteProtocolError:
        tree.close_opened(replies)
        raise
    return outcomes


def _read(requests: Sequence[CompoundRequest[Any]], replies: Sequence[Reply]) -> list[Any]:
    answered = zip(requests, replies, strict=False)
    return [request.read_untrusted(reply.message) for request, reply in answered]


def _check(requests: Sequence[CompoundRequest[Any]]) -> None:
    """Raise `LocalProtocolError` for a request on a file that none before it opens."""
    for request in requests:
        if not isinstance(request, Ioctl) and getattr(request, "file", None) == RELATED:
            raise LocalProtocolError(f"{type(request).__name__}(RELATED): no request before it opens a file")
