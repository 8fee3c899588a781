"""Making a server's replies for a `Machine` by hand."""

from __future__ import annotations

from engine.crypto.signing import Signer
from engine.proto.events import Event
from engine.proto.inflight import Slot
from engine.proto.machine import Machine, Outgoing
from engine.wire.constants import CreateAction, HeaderFlags
from engine.wire.create import CreateResponse
from engine.wire.header import Header
from engine.wire.primitives import Buffer, FileId, align8

EMPTY_BODY = b"\x04\0\0\0"
FILE_ID = FileId(0x11, 0x22)


def feed(machine: Machine, frame: Buffer) -> list[Event]:
    """Let `machine` receive a frame, with the room behind it that it is promised."""
    return machine.receive(memoryview(bytearray(frame) + bytearray(16)), len(frame))


def reply(
    slot: Slot,
    body: bytes = EMPTY_BODY,
    *,
    status: int = 0,
    granted: int = 1,
    flags: int = 0,
    async_id: int = 0,
    command: int | None = None,
    message_id: int | None = None,
    session_id: int | None = None,
    signer: Signer | None = None,
    next_command: int = 0,
) -> bytearray:
    """A reply to `slot`; with a `signer` it is signed."""
    header = Header(
        command=slot.request.COMMAND if command is None else command,
        status=status,
        credits=granted,
        flags=flags | HeaderFlags.SERVER_TO_REDIR,
        message_id=slot.message_id if message_id is None else message_id,
        async_id=async_id,
        session_id=slot.session.session_id if session_id is None else session_id,
        next_command=next_command,
    )
    message = bytearray(header.encode() + body)
    if signer is not None:
        message[16] |= HeaderFlags.SIGNED
        message[48:64] = signer.sign(message)
    return message


def compound(*messages: bytearray) -> bytes:
    """Unsigned replies in one frame."""
    frame = bytearray()
    for index, message in enumerate(messages):
        if index < len(messages) - 1:
            message += bytes(align8(len(message)) - len(message))
            message[20:24] = len(message).to_bytes(4, "little")
        frame += message
    return bytes(frame)


def created() -> bytes:
    """The body of a CREATE reply."""
    return CreateResponse(
        create_action=CreateAction.CREATED,
        creation_time=1,
        last_access_time=1,
        last_write_time=1,
        change_time=1,
        allocation_size=0,
        end_of_file=0,
        file_attributes=0,
        file_id=FILE_ID,
    ).encode()


def sent(outgoing: Outgoing) -> memoryview:
    """The frame as it goes out."""
    return memoryview(b"".join(outgoing.buffers))
