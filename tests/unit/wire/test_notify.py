from __future__ import annotations

import pytest

from engine.errors import RemoteProtocolError
from engine.wire.constants import (
    ChangeNotifyFlags,
    CompletionFilter,
    LeaseBreakFlags,
    LeaseState,
    NotifyAction,
    OplockLevel,
)
from engine.wire.notify import (
    ChangeNotifyRequest,
    ChangeNotifyResponse,
    FileNotifyInformation,
    LeaseBreakAcknowledgement,
    LeaseBreakNotification,
    OplockBreak,
    decode_break_acknowledgement_untrusted,
    decode_break_notification_untrusted,
)
from engine.wire.primitives import FileId
from tests.unit.wire.messages import message_from_hex

FILE_ID = FileId(0x0102030405060708, 0x1112131415161718)
FILE_ID_HEX = "0807060504030201 1817161514131211"
KEY = bytes(range(16))

NOTIFY = f"2000 0100 00000100 {FILE_ID_HEX} 11000000 00000000"
CHANGES = (
    "0900 4800 22000000"
    "10000000 04000000 02000000 6100 0000"  # renamed from "a"; padding
    "00000000 05000000 06000000 6200 2f00 6300"  # renamed to "b/c"
)
OPLOCK_BREAK = f"1800 01 00 00000000 {FILE_ID_HEX}"
LEASE_BREAK = f"2c00 0500 01000000 {KEY.hex()} 07000000 01000000 00000000 00000000 00000000"
LEASE_ACKNOWLEDGEMENT = f"2400 0000 00000000 {KEY.hex()} 01000000 0000000000000000"


def test_change_notify_request() -> None:
    request = ChangeNotifyRequest(
        file_id=FILE_ID,
        completion_filter=CompletionFilter.FILE_NAME | CompletionFilter.LAST_WRITE,
        output_buffer_length=0x10000,
        flags=ChangeNotifyFlags.WATCH_TREE,
    )
    assert request.encode() == bytes.fromhex(NOTIFY)
    assert ChangeNotifyRequest.decode_untrusted(message_from_hex(NOTIFY)) == request


def test_change_notify_response() -> None:
    response = ChangeNotifyResponse(
        (
            FileNotifyInformation(NotifyAction.RENAMED_OLD_NAME, "a"),
            FileNotifyInformation(NotifyAction.RENAMED_NEW_NAME, "b/c"),
        )
    )
    assert response.encode() == bytes.fromhex(CHANGES)
    assert ChangeNotifyResponse.decode_untrusted(message_from_hex(CHANGES)) == response


def test_too_many_changes_to_tell() -> None:
    assert ChangeNotifyResponse.decode_untrusted(message_from_hex("0900 0000 00000000")).changes == ()


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("10000000 04", "04000000 04"),  # points into the entry's own fields
        ("10000000 04", "ffffffff 04"),
        ("10000000 04", "24000000 04"),  # points behind the end
        ("02000000 6100", "03000000 6100"),  # half a character
        ("02000000 6100", "06000000 6100"),  # the name reaches into the next entry
        ("06000000 6200", "08000000 6200"),  # the name reaches behind the end
        ("22000000", "21000000"),
    ],
)
def test_bad_changes_are_refused(good: str, bad: str) -> None:
    assert good in CHANGES
    with pytest.raises(RemoteProtocolError):
        ChangeNotifyResponse.decode_untrusted(message_from_hex(CHANGES.replace(good, bad, 1)))


def test_oplock_break() -> None:
    message = OplockBreak(FILE_ID, OplockLevel.II)
    assert message.encode() == bytes.fromhex(OPLOCK_BREAK)
    assert decode_break_notification_untrusted(message_from_hex(OPLOCK_BREAK)) == message
    assert decode_break_acknowledgement_untrusted(message_from_hex(OPLOCK_BREAK)) == message


def test_lease_break_notification() -> None:
    message = LeaseBreakNotification(
        KEY,
        current_lease_state=LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING | LeaseState.WRITE_CACHING,
        new_lease_state=LeaseState.READ_CACHING,
        flags=LeaseBreakFlags.ACK_REQUIRED,
        new_epoch=5,
    )
    assert message.encode() == bytes.fromhex(LEASE_BREAK)
    assert decode_break_notification_untrusted(message_from_hex(LEASE_BREAK)) == message


def test_lease_break_acknowledgement() -> None:
    message = LeaseBreakAcknowledgement(KEY, LeaseState.READ_CACHING)
    assert message.encode() == bytes.fromhex(LEASE_ACKNOWLEDGEMENT)
    assert decode_break_acknowledgement_untrusted(message_from_hex(LEASE_ACKNOWLEDGEMENT)) == message


def test_the_two_directions_are_not_mixed_up() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_break_notification_untrusted(message_from_hex(LEASE_ACKNOWLEDGEMENT))
    with pytest.raises(RemoteProtocolError):
        decode_break_acknowledgement_untrusted(message_from_hex(LEASE_BREAK))
    with pytest.raises(RemoteProtocolError):
        decode_break_notification_untrusted(message_from_hex("18"))
