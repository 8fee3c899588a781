"""What a reply's signature and encryption have to be like ([MS-SMB2] 3.2.5.1.1, 3.2.5.1.3)."""

from __future__ import annotations

import pytest

from engine.crypto.sealing import Cipher, Sealer
from engine.crypto.signing import SigningAlgorithm, make_signer
from engine.errors import RemoteProtocolError, TransportError
from engine.ntstatus import STATUS_PENDING, STATUS_USER_SESSION_DELETED
from engine.proto.inflight import SessionState, Slot
from engine.proto.machine import Machine
from engine.wire.constants import Dialect, HeaderFlags
from engine.wire.error import ErrorResponse
from engine.wire.io import EchoRequest
from tests.unit.proto.support import feed, reply

KEY = bytes(range(16))
OTHER_KEY = bytes(range(16, 32))


class Sealed:
    """A connection with one encrypted session and an ECHO in flight; `server` is its other end."""

    def __init__(self, session_id: int = 9) -> None:
        self.machine = Machine(64)
        self.machine.negotiated(Dialect.SMB_3_1_1, large_mtu=True)
        self.server = Sealer(Cipher.AES_128_GCM, OTHER_KEY, KEY, session_id)
        self.session = SessionState(session_id, make_signer(SigningAlgorithm.AES_CMAC, KEY))
        self.session.sealer = Sealer(Cipher.AES_128_GCM, KEY, OTHER_KEY, session_id)
        self.session.signing_required = True
        self.machine.sessions[session_id] = self.session
        self.slot = self.machine.start([EchoRequest()], session=self.session, sealed=True).slots[0]

    def seal(self, message: bytearray) -> bytearray:
        return bytearray(b"".join(self.server.seal([message])))

    def refuses(self, frame: bytearray, match: str) -> None:
        """The frame ends the connection and settles nothing."""
        with pytest.raises(RemoteProtocolError, match=match):
            feed(self.machine, frame)
        assert self.slot.reply is None


def signed(required: bool = True) -> tuple[Machine, Slot]:
    """A connection with one signed session and an ECHO in flight."""
    machine = Machine(64)
    session = SessionState(5, make_signer(SigningAlgorithm.AES_CMAC, KEY), signing_required=required)
    return machine, machine.start([EchoRequest()], session=session).slots[0]


def test_3_2_5_1_1_an_encrypted_reply_is_taken_without_a_signature() -> None:
    peer = Sealed()
    feed(peer.machine, peer.seal(reply(peer.slot)))
    assert peer.slot.reply is not None


def test_3_2_5_1_1_an_encrypted_compound_is_taken_apart() -> None:
    peer = Sealed()
    peer.machine.credits.bank(3, 0)
    more = peer.machine.start([EchoRequest()], session=peer.session, sealed=True).slots[0]
    first = reply(peer.slot)
    first += bytes(4)
    first[20:24] = len(first).to_bytes(4, "little")
    feed(peer.machine, peer.seal(first + reply(more)))
    assert peer.slot.reply is not None
    assert more.reply is not None


def test_3_2_5_1_1_a_frame_that_does_not_decrypt_ends_the_connection() -> None:
    peer = Sealed()
    frame = peer.seal(reply(peer.slot))
    frame[-1] ^= 1
    peer.refuses(frame, "not encrypted with this session's key")


def test_3_2_5_1_1_a_frame_encrypted_for_an_unknown_session_ends_the_connection() -> None:
    peer = Sealed()
    frame = peer.seal(reply(peer.slot))
    frame[44:52] = (1234).to_bytes(8, "little")
    peer.refuses(frame, "a session that we do not have")


def test_3_2_5_1_1_a_frame_encrypted_for_a_session_without_keys_ends_the_connection() -> None:
    peer = Sealed()
    peer.machine.sessions[1234] = SessionState(1234)
    frame = peer.seal(reply(peer.slot))
    frame[44:52] = (1234).to_bytes(8, "little")
    peer.refuses(frame, "a session that we do not have")


def test_3_2_5_1_1_a_reply_encrypted_with_another_sessions_key_ends_the_connection() -> None:
    peer, other = Sealed(), Sealed(session_id=10)
    peer.machine.sessions[10] = other.session
    peer.refuses(other.seal(reply(peer.slot)), "belongs to another session")


def test_3_2_5_1_1_a_reply_that_names_another_session_than_its_key_ends_the_connection() -> None:
    peer = Sealed()
    peer.refuses(peer.seal(reply(peer.slot, session_id=10)), "belongs to another session")


def test_3_2_5_1_1_a_clear_reply_to_an_encrypted_request_ends_the_connection() -> None:
    peer = Sealed()
    peer.refuses(reply(peer.slot, signer=make_signer(SigningAlgorithm.AES_CMAC, KEY)), "in the clear")


def test_3_2_5_1_1_a_clear_interim_reply_to_an_encrypted_request_ends_the_connection() -> None:
    peer = Sealed()
    interim = reply(peer.slot, status=STATUS_PENDING, flags=HeaderFlags.ASYNC_COMMAND, async_id=1)
    peer.refuses(interim, "in the clear")


@pytest.mark.parametrize("length", [4, 52, 115])
def test_3_2_5_1_1_a_transform_frame_that_is_too_short_ends_the_connection(length: int) -> None:
    peer = Sealed()
    peer.refuses(peer.seal(reply(peer.slot))[:length], "too short")


def test_3_2_5_1_1_encryption_inside_encryption_ends_the_connection() -> None:
    peer = Sealed()
    peer.refuses(peer.seal(peer.seal(reply(peer.slot))), "encrypted twice")


def test_3_2_5_1_3_a_right_signature_is_taken() -> None:
    machine, slot = signed()
    feed(machine, reply(slot, signer=slot.session.signer))
    assert slot.reply is not None


def test_3_2_5_1_3_a_wrong_signature_ends_the_connection() -> None:
    machine, slot = signed()
    with pytest.raises(RemoteProtocolError, match="signature is wrong"):
        feed(machine, reply(slot, signer=make_signer(SigningAlgorithm.AES_CMAC, OTHER_KEY)))
    assert slot.reply is None
    assert machine.credits.available == 0, "nothing of an altered message counts"


def test_3_2_5_1_3_a_missing_signature_ends_the_connection_where_one_is_required() -> None:
    machine, slot = signed()
    with pytest.raises(RemoteProtocolError, match="not signed"):
        feed(machine, reply(slot))
    assert slot.reply is None


def test_3_2_5_1_3_a_missing_signature_is_fine_where_none_is_required() -> None:
    machine, slot = signed(required=False)
    feed(machine, reply(slot))
    assert slot.reply is not None


def test_3_2_5_1_3_a_signature_that_nobody_required_has_to_be_right_all_the_same() -> None:
    machine, slot = signed(required=False)
    with pytest.raises(RemoteProtocolError, match="signature is wrong"):
        feed(machine, reply(slot, signer=make_signer(SigningAlgorithm.AES_CMAC, OTHER_KEY)))


@pytest.mark.parametrize("key", [None, OTHER_KEY], ids=["no signature", "wrong signature"])
def test_a_server_that_has_forgotten_the_session_cannot_sign_and_ends_the_connection(
    key: bytes | None,
) -> None:
    """It is a loss like any other, not an attack: whoever reconnects may go on."""
    signer = None if key is None else make_signer(SigningAlgorithm.AES_CMAC, key)
    peer = Sealed()
    for machine, slot in signed(), (peer.machine, peer.slot):
        gone = reply(slot, ErrorResponse().encode(), status=STATUS_USER_SESSION_DELETED, signer=signer)
        with pytest.raises(TransportError, match="forgotten the session"):
            feed(machine, gone)
        assert slot.reply is None


def test_a_session_that_is_deleted_under_a_signature_is_a_reply_as_any() -> None:
    machine, slot = signed()
    body = ErrorResponse().encode()
    feed(machine, reply(slot, body, status=STATUS_USER_SESSION_DELETED, signer=slot.session.signer))
    assert slot.reply is not None


def test_3_2_5_1_3_an_interim_reply_needs_no_signature() -> None:
    machine, slot = signed()
    body = ErrorResponse().encode()
    flags = HeaderFlags.ASYNC_COMMAND
    feed(machine, reply(slot, body, status=STATUS_PENDING, flags=flags, async_id=3))
    assert slot.async_id == 3


def test_3_2_5_1_3_without_a_key_nothing_is_checked() -> None:
    machine = Machine(64)
    (slot,) = machine.start([EchoRequest()]).slots
    feed(machine, reply(slot, signer=make_signer(SigningAlgorithm.AES_CMAC, OTHER_KEY)))
    assert slot.reply is not None
