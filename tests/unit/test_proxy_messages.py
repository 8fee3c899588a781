"""The proxy's view of SMB2 messages: found in any stream of bytes, however it comes in pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.proxy.messages import MessageReader, Span

_SIZES = st.lists(st.one_of(st.integers(1, 8), st.integers(64, 70_000)), min_size=1, max_size=6)


def _frame(size: int) -> bytes:
    return size.to_bytes(4, "big") + bytes(size)


def _pieces(data: bytes, cuts: list[int]) -> list[memoryview]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [memoryview(data)[start:stop] for start, stop in pairwise(edges)]


@given(_SIZES, st.lists(st.integers(0, 500_000), max_size=12))
def test_messages_are_counted_however_they_are_cut(sizes: list[int], cuts: list[int]) -> None:
    data = b"".join(map(_frame, sizes))
    counting, spanning = MessageReader(), MessageReader()
    whole = [counting.count(piece) for piece in _pieces(data, cuts)]
    assert sum(whole) == len(sizes)
    spans = [[span.is_last for span in spanning.spans(piece)] for piece in _pieces(data, cuts)]
    assert [sum(ends) for ends in spans] == whole


@given(_SIZES, st.lists(st.integers(0, 500_000), max_size=12))
def test_spans_cover_every_byte_of_every_message_once(sizes: list[int], cuts: list[int]) -> None:
    reader = MessageReader()
    covered: list[int] = []
    for piece in _pieces(b"".join(map(_frame, sizes)), cuts):
        position = 0
        for span in reader.spans(piece):
            assert span.start == position < span.stop
            position = span.stop
            if span.is_first:
                covered.append(0)
            assert span.offset == covered[-1]
            covered[-1] += span.stop - span.start
        assert position == len(piece)
    assert covered == [4 + size for size in sizes]


def test_length_is_known_with_the_fourth_byte() -> None:
    reader = MessageReader()
    spans = [next(iter(reader.spans(memoryview(_frame(64))[index : index + 1]))) for index in range(6)]
    assert [span.total for span in spans] == [None, None, None, 68, 68, 68]


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\n\r\n", bytes(100)])
def test_other_streams_have_no_messages(data: bytes) -> None:
    reader = MessageReader()
    assert reader.count(memoryview(data)) == reader.count(memoryview(data)) == 0
    assert not any(span.is_first or span.is_last for span in reader.spans(memoryview(data)))


def test_a_message_that_is_cut_is_neither_first_nor_last_in_the_middle() -> None:
    middle = Span(0, 10, 20, 100)
    assert not middle.is_first
    assert not middle.is_last
