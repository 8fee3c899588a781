"""The books of credits ([MS-SMB2] 3.2.4.1.2, 3.2.4.1.5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RemoteProtocolError
from engine.proto.credits import CREDIT_UNIT, CreditLedger, CreditShortage, credit_charge


def ledger(credits: int, outstanding: int = 0, target: int = 512) -> CreditLedger:
    """Books with `credits` in hand after `outstanding` more have been spent."""
    books = CreditLedger(target)
    books.bank(credits + outstanding - 1, 0)
    books.spend(outstanding)
    return books


@pytest.mark.parametrize(
    ("payload", "charge"),
    [(0, 1), (1, 1), (CREDIT_UNIT, 1), (CREDIT_UNIT + 1, 2), (1 << 20, 16), ((1 << 20) + 1, 17)],
)
def test_a_charge_is_one_credit_for_every_64_kib_begun(payload: int, charge: int) -> None:
    assert credit_charge(payload) == charge


def test_a_connection_starts_with_one_credit() -> None:
    books = CreditLedger(100)
    assert (books.available, books.total, books.attainable) == (1, 1, 1)
    assert books.offer(1) == 1


def test_two_credits_are_kept_back_from_ordinary_requests() -> None:
    books = ledger(10)
    assert books.attainable == 8
    assert books.offer(8) == 8
    books.spend(8)
    assert books.offer(1) == 0
    assert books.offer(1, urgent=True) == 1


def test_of_few_credits_none_are_kept_back() -> None:
    books = ledger(7)
    assert books.attainable == 7
    assert books.offer(7) == 7


def test_a_large_request_waits_while_what_it_needs_can_come() -> None:
    books = ledger(10, outstanding=20)
    assert books.offer(16) == 0
    books.bank(20, 20)
    assert books.offer(16) == 16


def test_a_request_that_can_never_get_enough_takes_all_once_everything_is_back() -> None:
    books = ledger(3, outstanding=2)
    assert books.offer(16) == 0
    books.bank(2, 2)
    assert books.offer(16) == 5


def test_a_server_that_grants_none_breaks_the_protocol() -> None:
    books = ledger(0, outstanding=1)
    assert books.offer(1) == 0, "the reply may still bring some"
    books.bank(0, 1)
    with pytest.raises(RemoteProtocolError, match="granted 0 credits, 1 are needed"):
        books.offer(1)


def test_too_few_credits_for_a_compound_are_a_shortage_and_only_once_no_more_can_come() -> None:
    books = ledger(2, outstanding=1)
    assert books.offer(3, minimum=3) == 0
    books.bank(0, 1)
    with pytest.raises(CreditShortage, match="granted 2 credits, 3 are needed"):
        books.offer(3, minimum=3)


def test_a_server_that_takes_credits_away_is_believed() -> None:
    books = ledger(0, outstanding=50)
    books.bank(4, 50)
    assert books.attainable == 4
    assert books.offer(16) == 4


def test_what_is_asked_for_is_the_charge_and_what_is_missing() -> None:
    assert ledger(1, target=100).to_request(1) == 100
    assert ledger(100, target=100).to_request(16) == 16
    assert ledger(1, target=8192).to_request(1) == 513
    assert ledger(1, target=1 << 20).to_request(0xFFFF) == 0xFFFF


def test_what_was_granted_beyond_the_target_is_given_back_and_not_used() -> None:
    books = ledger(20, target=8)
    assert books.to_request(16) == 4
    assert books.to_request(1) == 1
    assert (books.attainable, books.usable) == (6, 8)
    assert books.offer(16) == 6
    books.spend(6)
    assert books.offer(1) == 0
    assert books.offer(2, urgent=True) == 2
    books.spend(2)
    assert books.usable == books.offer(1, urgent=True) == 0
    books.bank(1, 8)
    assert books.offer(6) == 6


@pytest.mark.parametrize("target", [1, 2, 7])
def test_of_a_low_target_none_are_kept_back(target: int) -> None:
    books = ledger(20, target=target)
    assert books.offer(20) == target
    with pytest.raises(CreditShortage, match=f"our own limit leaves {target} credits, 20 are needed"):
        books.offer(20, minimum=20)


class _Server:
    """Grants what it likes; knows what was granted and what is still unanswered."""

    def __init__(self, target: int) -> None:
        self.books = CreditLedger(target)
        self.granted = 1
        self.spent = 0
        self.unanswered: list[int] = []

    def request(self, wanted: int, minimum: int, urgent: bool) -> bool:
        """Try to send; False if nothing will ever come."""
        kept_back = 2 if not urgent and min(self.books.reach, self.books.target) >= 8 else 0
        before = self.books.usable
        try:
            offered = self.books.offer(wanted, minimum=minimum, urgent=urgent)
        except (CreditShortage, RemoteProtocolError):
            assert not self.unanswered
            assert before - kept_back < minimum
            return False
        assert offered == 0 or minimum <= offered <= wanted
        assert offered <= max(0, before - kept_back)
        if offered:
            self.books.spend(offered)
            self.spent += offered
            self.unanswered.append(offered)
        else:
            assert self.unanswered, "it waits for a reply that nobody owes"
        return True

    def answer(self, index: int, granted: int) -> None:
        """Answer one request."""
        charge = self.unanswered.pop(index % len(self.unanswered))
        self.books.bank(granted, charge)
        self.granted += granted

    def check(self) -> None:
        """The invariants."""
        assert self.books.available == self.granted - self.spent >= 0
        assert self.books.outstanding == sum(self.unanswered) <= self.books.target
        assert self.books.total == self.books.available + self.books.outstanding


_REQUESTS = st.tuples(st.integers(1, 40), st.integers(1, 40), st.booleans())
_ANSWERS = st.tuples(st.integers(0, 1000), st.integers(0, 60))


@given(st.integers(1, 64) | st.integers(1, 8192), st.lists(st.one_of(_REQUESTS, _ANSWERS), max_size=60))
def test_never_more_is_spent_than_granted_and_nobody_waits_in_vain(
    target: int, steps: list[tuple[int, int, bool] | tuple[int, int]]
) -> None:
    server = _Server(target)
    for step in steps:
        if len(step) == 3:
            one, other, urgent = step
            if not server.request(max(one, other), min(one, other), urgent):
                return
        elif server.unanswered:
            server.answer(*step)
        server.check()
        assert 1 <= server.books.to_request(1) <= 0xFFFF


@given(st.integers(1, 64), st.lists(st.integers(1, 32), min_size=1, max_size=20))
def test_all_requests_get_through_where_the_server_gives_back_what_was_spent(
    credits: int, charges: list[int]
) -> None:
    server = _Server(credits)
    server.books.bank(credits - 1, 0)
    server.granted += credits - 1
    for charge in charges:
        before = server.spent
        while server.spent == before:
            assert server.request(charge, 1, False)
            if server.spent == before:
                server.answer(0, server.unanswered[0])
            server.check()
