"""The runner without coverage, and the command line around it: what they find, and what they keep."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz import corpus, mutations
from tests.fuzz.__main__ import main
from tests.fuzz.runner import has_atheris, run_atheris, run_blindly
from tests.fuzz.table import BY_NAME
from tests.fuzz.target import Script, Target

NAME = "wire.create.CreateResponse"


def _breaks_at_three(data: bytes) -> None:
    if data[64:65] == b"\x03":
        raise ZeroDivisionError("found")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in a decoder that has a corpus."""
    monkeypatch.setitem(BY_NAME, NAME, Target(NAME, _breaks_at_three))


@pytest.mark.usefixtures("planted")
def test_a_mistake_is_found_kept_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [NAME, "--runs", "100000", "--seconds", "60", "--corpus", str(tmp_path), "--blind"]
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert "ZeroDivisionError('found')" in said
    assert "1 findings" in said
    (kept,) = (tmp_path / "findings").iterdir()
    with pytest.raises(ZeroDivisionError):
        main([NAME, "--replay", str(kept)])


def test_a_blind_run_does_as_many_as_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["wire.tree.*", "vfs.names", "--runs", "50", "--blind", "--json", str(figures)]
    assert main(arguments) == 0
    assert "250 executions of 5 targets" in capsys.readouterr().out
    assert figures.read_text().count('"executions": 50') == 5


def test_the_same_seed_makes_the_same_inputs() -> None:
    seeds = corpus.read(NAME)
    first, second, other = (
        [mutations.at_random(random.Random(seed), seeds) for _ in range(20)] for seed in (1, 1, 2)
    )
    assert first == second != other


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == list(BY_NAME)
    assert main(["no.such.target"]) == 2
    capsys.readouterr()
    taken, refused = tmp_path / "taken", tmp_path / "refused"
    taken.write_bytes(corpus.read(NAME)[0])
    refused.write_bytes(b"")
    assert main([NAME, "--replay", str(taken), str(refused)]) == 0
    assert capsys.readouterr().out == f"{taken}: taken\n{refused}: refused\n"


@pytest.mark.skipif(not has_atheris(), reason="atheris is not installed, which is nobody's duty")
def test_under_atheris(tmp_path: Path) -> None:
    outcome = run_atheris(NAME, tmp_path, seconds=30, runs=2000, seed=1)
    assert (outcome.finding, outcome.executions) == ("", 2000)
    assert outcome.kept >= len(corpus.read(NAME))


def test_a_run_bounded_by_time_ends() -> None:
    outcome = run_blindly("vfs.contained", Path("/nonexistent"), seconds=1, runs=0, seed=1)
    assert outcome.executions > 100
    assert outcome.seconds < 30


def test_a_script_is_read_to_its_end_and_on() -> None:
    script = Script(b"\x02\x01\x03\x00abcd")
    assert script
    assert (script.number(), script.below(2), script.blob()) == (2, 1, b"abc")
    assert script.piece(9) == b"d"
    assert not script
    assert (script.number(4), script.blob()) == (0, b"")
