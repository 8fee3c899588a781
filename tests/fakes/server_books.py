"""The fake server's account of one connection's credits ([MS-SMB2] 3.3.1.1, 3.3.5.2.3, 3.3.5.2.5)."""

from __future__ import annotations

from engine.proto.credits import credit_charge
from engine.wire.constants import Command
from engine.wire.header import Header


class CreditBooks:
    """Every MessageId is used once, in order, within what was granted, and pays for its payload.

    What breaks that is remembered in `complaints`; a test that finds one there has failed.
    """

    def __init__(self) -> None:
        self.next_id = 0
        self.granted_up_to = 1
        self.outstanding = 0
        self.complaints: list[str] = []

    @property
    def in_hand(self) -> int:
        """Credits that the client has left."""
        return self.granted_up_to - self.next_id

    def take(self, header: Header, payload: int, *, multi_credit: bool) -> int:
        """Book a request; returns its charge."""
        what = f"{Command(header.command).name} with MessageId {header.message_id}"
        charge = max(1, header.credit_charge)
        if header.message_id != self.next_id:
            self.complaints.append(f"{what}, where {self.next_id} is next")
        if header.message_id + charge > self.granted_up_to:
            self.complaints.append(f"{what} costs {charge}, but grants end at {self.granted_up_to}")
        due = credit_charge(payload) if multi_credit else 0
        if header.credit_charge != due:
            self.complaints.append(f"{what} pays {header.credit_charge} for {payload} bytes, {due} are due")
        self.next_id = header.message_id + charge
        self.outstanding += charge
        return charge

    def settle(self, charge: int, granted: int) -> None:
        """Book a reply."""
        self.outstanding -= charge
        self.granted_up_to += granted
