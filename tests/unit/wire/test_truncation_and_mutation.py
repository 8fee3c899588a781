"""What holds for every decoder: it undoes its encoder, and bad bytes make it raise one exception only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RemoteProtocolError
from engine.wire.header import split_compound_untrusted
from engine.wire.transform import CompressionTransformHeader
from tests.unit.wire.messages import CASES, Case

over_all_messages = pytest.mark.parametrize("case", CASES, ids=str)


def _decodes_or_refuses(decode: Callable[[memoryview], object], data: bytes) -> bool:
    """Whether the decoder took the data; anything else than `RemoteProtocolError` goes through."""
    try:
        decode(memoryview(data))
    except RemoteProtocolError:
        return False
    return True


@over_all_messages
@settings(max_examples=50, deadline=None, database=None)
@given(data=st.data())
def test_decoding_undoes_encoding(case: Case, data: st.DataObject) -> None:
    value, encoded = data.draw(case.examples)
    assert case.decode(memoryview(encoded)) == value


@over_all_messages
@settings(max_examples=5, deadline=None, database=None)
@given(data=st.data())
def test_every_prefix_decodes_or_is_refused(case: Case, data: st.DataObject) -> None:
    _, encoded = data.draw(case.examples)
    taken = [_decodes_or_refuses(case.decode, encoded[:end]) for end in range(len(encoded) + 1)]
    assert taken[-1]
    assert not any(taken[:2])


@over_all_messages
@settings(max_examples=50, deadline=None, database=None)
@given(
    data=st.data(),
    changes=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.sampled_from([0, 1, 4, 7, 8, 16, 64, 0x7F, 0x80, 0xFF]) | st.integers(0, 255),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_mutated_messages_decode_or_are_refused(
    case: Case, data: st.DataObject, changes: list[tuple[float, int]]
) -> None:
    _, encoded = data.draw(case.examples)
    mutated = bytearray(encoded)
    # The header is not read by the body's decoder: change what is.
    start = 64 if len(mutated) > 64 else 0
    for position, byte in changes:
        mutated[start + int(position * (len(mutated) - start))] = byte
    _decodes_or_refuses(case.decode, bytes(mutated))


@pytest.mark.parametrize("decode", [split_compound_untrusted, CompressionTransformHeader.decode_untrusted])
@settings(max_examples=100, deadline=None, database=None)
@given(data=st.binary(max_size=300))
def test_random_bytes_decode_or_are_refused(decode: Callable[[memoryview], object], data: bytes) -> None:
    _decodes_or_refuses(decode, data)
