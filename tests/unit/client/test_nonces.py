"""No nonce is ever used twice under one key: a second message under it would give the key away."""

from __future__ import annotations

import pytest
import trio

import engine
from engine.crypto.sealing import Cipher
from engine.wire.constants import Command
from engine.wire.header import Header
from engine.wire.transform import TRANSFORM_PROTOCOL_ID, TransformHeader
from tests.fakes.server_lies import Lie, LyingServer
from tests.fakes.server_peer import Peer
from tests.unit.client.support import connected
from tests.unit.client.test_dialects import use


class Listens(Lie):
    """Keeps the frames that a client sent, by connection."""

    def __init__(self) -> None:
        self.frames_of: dict[Peer, list[bytes]] = {}

    def hear(self, peer: Peer, frame: bytes) -> None:
        self.frames_of.setdefault(peer, []).append(frame)


async def work(share: engine.Share) -> None:
    """Everything once, many at once, and some that are given up."""
    await use(share)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(share.stat, "")
    for _ in range(20):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(share.echo)
                await trio.lowlevel.checkpoint()
                scope.cancel()


@pytest.mark.parametrize("cipher", list(Cipher), ids=str)
def test_nonces_of_a_session_never_repeat_whatever_is_sent(cipher: Cipher) -> None:
    listens = Listens()

    async def main() -> None:
        server = LyingServer(listens, cipher=cipher)
        async with connected(server, engine.ConnectConfig(seal=True)) as share:
            await work(share)
            await server.until(lambda: bool(server.cancels))

    trio.run(main)
    (frames,) = listens.frames_of.values()
    nonces = [TransformHeader.decode_untrusted(frame).nonce for frame in frames if _is_sealed(frame)]
    assert len(nonces) > 100
    assert len(nonces) == len(set(nonces))
    assert all(not any(nonce[cipher.nonce_length :]) for nonce in nonces)


def _is_sealed(frame: bytes) -> bool:
    return frame[:4] == TRANSFORM_PROTOCOL_ID


def test_nonces_of_signatures_never_repeat_whatever_is_sent() -> None:
    """AES-GMAC's is the MessageId and whether it is a CANCEL: one CANCEL for each request at most."""
    listens = Listens()

    async def main() -> None:
        server = LyingServer(listens)
        async with connected(server) as share:
            await work(share)
            await server.until(lambda: bool(server.cancels))

    trio.run(main)
    (frames,) = listens.frames_of.values()
    seen: list[tuple[int, bool]] = []
    for frame in frames:
        offset = next_command = 0
        while not offset or next_command:
            header = Header.decode_untrusted(frame[offset:])
            seen.append((header.message_id, header.command == Command.CANCEL))
            next_command = header.next_command
            offset += next_command or len(frame)
    assert len(seen) > 100
    assert len(seen) == len(set(seen))


def test_every_session_has_keys_of_its_own() -> None:
    """The same account and the same server: nothing that was signed in one session is right in another."""

    async def signature() -> bytes:
        server = LyingServer()
        async with connected(server):
            session = server.peers[-1].session
            assert session is not None
            assert session.signer is not None
            return session.signer.sign(bytes(64))

    assert trio.run(signature) != trio.run(signature)
