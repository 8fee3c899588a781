"""Each decoder has a target, and each target withstands its corpus, changed in all ways, and noise."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import corpus, decoders, mutations
from tests.fuzz.table import BY_NAME, TARGETS
from tests.fuzz.target import Target

_EXAMPLES: Final = 20
_MOST_BYTES: Final = 300_000
_REFUSED_AS_THEY_ARE: Final = {
    # Whoever hears a log-on again has no part in its keys, and refusals were recorded too.
    *("client.connect", "client.log_on", "client.answers", "client.transport", "proto.frame", "proto.grant"),
    *("crypto.unseal_altered", "client.unc", "control", "options", "ctl"),
}
"""Targets of which some of the corpus must not be taken."""

_changes: Final = st.builds(
    mutations.Mutation,
    st.integers(0, mutations.KINDS - 1),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
)

each_target = pytest.mark.parametrize("target", TARGETS, ids=str)


def test_every_decoder_has_a_target_and_every_target_a_name_of_its_own() -> None:
    covered = {name for target in TARGETS for name in target.covers}
    assert sorted(decoders.find() - covered) == [], "add targets for these to tests/fuzz/*_targets.py"
    assert sorted(covered - decoders.find()) == []
    assert len(BY_NAME) == len(TARGETS)
    assert len(decoders.find()) > 160


def test_a_decoder_without_a_target_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode_news_untrusted(view: memoryview) -> None:
        """New, and nobody thought of it."""

    decode_news_untrusted.__module__ = "engine.wire.dfs"
    monkeypatch.setattr("engine.wire.dfs.decode_news_untrusted", decode_news_untrusted, raising=False)
    assert "engine.wire.dfs.decode_news_untrusted" in decoders.find()


def test_the_corpus_is_small_and_each_file_of_it_belongs_to_a_target() -> None:
    files = list(corpus.FOLDER.iterdir())
    assert {path.name.removesuffix(".hex") for path in files} == set(BY_NAME)
    assert sum(path.stat().st_size for path in files) < _MOST_BYTES


@each_target
def test_what_was_recorded_is_taken(target: Target) -> None:
    taken = [target(data) for data in corpus.read(target.name)]
    assert any(taken)
    assert all(taken) or target.name in _REFUSED_AS_THEY_ARE


@each_target
@settings(max_examples=_EXAMPLES, deadline=None, database=None)
@given(data=st.data())
def test_nothing_but_what_is_allowed_comes_out(target: Target, data: st.DataObject) -> None:
    seeds = corpus.read(target.name)
    changes = data.draw(st.lists(_changes, max_size=6))
    start = data.draw(st.one_of(st.sampled_from(seeds), st.sampled_from(seeds), st.binary(max_size=200)))
    target(mutations.apply(start, changes))
