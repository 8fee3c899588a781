"""The books of one connection's credits ([MS-SMB2] 3.2.4.1.2, 3.2.4.1.5, 3.2.5.1.4).

**Invariant:** `available` is what the server granted and we have not spent; nothing is sent that is
not taken from it. `outstanding` is the charge of requests that have had no reply yet, and never more
than `target`.
"""

from __future__ import annotations

from typing import Final

from engine.errors import LocalProtocolError, RemoteProtocolError

CREDIT_UNIT: Final = 65536
"""Payload bytes that one credit pays for ([MS-SMB2] 3.2.4.1.5)."""

_KEPT_BACK: Final = 2
"""Kept from ordinary requests, so that a CLOSE, an ECHO or a break's acknowledgement never starves."""

_KEEP_BACK_FROM: Final = 8
"""Below this total every credit is needed for work: kept-back ones would only stall it."""

_ASK_AT_ONCE: Final = 512
"""How many credits more than its charge one request asks for; servers cap it as they like."""


def credit_charge(payload: int) -> int:
    """Credits that a request costs whose larger side, request or reply, carries `payload` bytes."""
    return max(1, -(-payload // CREDIT_UNIT))


class CreditShortage(LocalProtocolError):
    """The server grants too few credits for this frame, yet enough for a smaller one."""


class CreditLedger:
    """Plain arithmetic; who waits for credits, and in which order, is the caller's business."""

    def __init__(self, target: int) -> None:
        self.target = target
        """The most that requests under way may cost together, whatever the server grants."""
        self.available = 1
        self.outstanding = 0
        self.reach = 1
        """The most credits that were in hand at once; `total` is more than that where a server with a
        small limit gives new credits for requests under way and none with their replies."""

    @property
    def total(self) -> int:
        """Credits we could hold once every outstanding reply has given its charge back."""
        return self.available + self.outstanding

    @property
    def usable(self) -> int:
        """Credits that may be spent now, those that are kept back included."""
        return min(self.available, max(self.target - self.outstanding, 0))

    @property
    def attainable(self) -> int:
        """The largest charge that an ordinary request can ever hope for, as things stand."""
        return min(self.reach, self.target) - self._kept_back(urgent=False)

    def offer(self, wanted: int, *, minimum: int = 1, urgent: bool = False) -> int:
        """Return how many credits may be spent now: `wanted`, fewer where no more can come, or 0: wait.

        A result other than 0 is at least `minimum`. Where waiting for that many is pointless, because
        the server owes us no reply: raises `CreditShortage` if there are fewer, `RemoteProtocolError` if
        there are none.
        """
        kept_back = self._kept_back(urgent)
        room = self.usable - kept_back
        if room >= wanted:
            return wanted
        attainable = min(self.reach, self.target) - kept_back
        if attainable >= wanted:
            return 0
        if attainable < minimum and not self.outstanding:
            who = "the server granted" if self.usable == self.available else "our own limit leaves"
            words = f"{who} {self.usable} credits, {minimum} are needed"
            raise CreditShortage(words) if room > 0 else RemoteProtocolError(words)
        return room if room >= max(minimum, attainable) else 0

    def _kept_back(self, urgent: bool) -> int:
        return 0 if urgent or min(self.reach, self.target) < _KEEP_BACK_FROM else _KEPT_BACK

    def spend(self, charge: int) -> None:
        """Take `charge` credits that `offer` allowed."""
        assert charge <= self.available
        self.available -= charge
        self.outstanding += charge

    def bank(self, granted: int, settled: int) -> None:
        """Book a reply that grants `granted` credits and settles `settled` outstanding ones."""
        self.available += granted
        self.outstanding -= settled
        # With nothing under way, what is in hand is all there is, also if it used to be more.
        self.reach = max(self.reach, self.available) if self.outstanding else self.available

    def to_request(self, charge: int) -> int:
        """The CreditRequest field of a request that costs `charge`.

        What is missing to the target is asked for on top, and what is too much is given back: Samba grants
        the charge and all that is asked for beyond one.
        """
        return max(1, min(charge + min(self.target - self.total, _ASK_AT_ONCE), 0xFFFF))
