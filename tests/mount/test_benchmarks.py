"""The benchmark against peers, as small as it gets, so that it does not rot."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.benchmarks.peers.__main__ import main
from tests.benchmarks.peers.results import Results


def test_small_run_is_right_for_ourselves_and_for_smbclient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every work, through the proxy; whether the targets are reached is not judged here."""
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)
    files = {name: tmp_path / name for name in ("json", "markdown", "picture")}
    code = main(
        [
            *("--delay", "1", "--protection", "plain", "--peers", "smbmount", "smbclient", "local"),
            *("--rounds", "1", "--size", "2", "--entries", "60", "--files", "30", "--limit", "60"),
            *(word for name, path in files.items() for word in (f"--{name}", str(path))),
        ]
    )
    assert code in (0, 1)
    results = Results.load(files["json"])
    assert len(results.cells) == 1
    for steps in results.cells.values():
        assert len(steps) == 16
        for step, peers in steps.items():
            assert {peer for peer, cell in peers.items() if cell.failure and not cell.unsupported} == set(), (
                step
            )
            assert peers["smbmount"].seconds is not None
            assert peers["smbmount"].round_trips[0] >= 1 or step.endswith("again")
    assert files["markdown"].read_text().count("| copytree |") == 1
    assert files["picture"].read_text().startswith("<svg")
