"""What holds for every structure in `structures.CODECS`, whatever the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RemoteProtocolError
from tests.unit.wire.structures import CODECS, Codec

every_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


def test_every_codec_has_its_own_name() -> None:
    assert len({codec.name for codec in CODECS}) == len(CODECS) > 60


@every_codec
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_encoded_is_decoded_again(codec: Codec, data: st.DataObject) -> None:
    value, encoded = data.draw(codec.cases)
    assert codec.decode(memoryview(encoded)) == value


@every_codec
@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_cut_off_anywhere_it_is_refused(codec: Codec, data: st.DataObject) -> None:
    _, encoded = data.draw(codec.cases)
    for length in range(len(encoded)):
        if codec.tight:
            with pytest.raises(RemoteProtocolError):
                codec.decode(memoryview(encoded)[:length])
        else:
            _decode_hostile(codec, encoded[:length])


@every_codec
@settings(max_examples=20, deadline=None)
@given(noise=st.binary(max_size=400))
def test_noise_raises_only_the_protocol_error(codec: Codec, noise: bytes) -> None:
    _decode_hostile(codec, noise)


@every_codec
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_changed_bytes_raise_only_the_protocol_error(codec: Codec, data: st.DataObject) -> None:
    _, encoded = data.draw(codec.cases)
    changed = bytearray(encoded)
    if changed:
        for position, value in data.draw(
            st.lists(st.tuples(st.integers(0, len(changed) - 1), st.integers(0, 255)), min_size=1, max_size=6)
        ):
            changed[position] = value
    _decode_hostile(codec, bytes(changed))


def _decode_hostile(codec: Codec, data: bytes) -> None:
    try:
        value = codec.decode(memoryview(data))
    except RemoteProtocolError:
        return
    # Text and payloads cannot be made of more than the input; a decoder that repeats itself would be.
    assert len(repr(value)) < 4_000 + 200 * len(data)
