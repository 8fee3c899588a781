"""The daemon is killed while a program writes; `python -m tests.crash` does it more often."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.__main__ import round_of
from tests.crash.rounds import Manifest
from tests.support.samba import SambaServer

ROUNDS = 10


@pytest.mark.deadline(180)
def test_what_fsync_confirmed_is_there_after_every_crash(samba: SambaServer, tmp_path: Path) -> None:
    for seed in range(ROUNDS):
        assert round_of(samba, tmp_path, seed) == [], f"seed {seed}"


def test_what_is_lost_is_told(tmp_path: Path) -> None:
    (tmp_path / "manifest").write_text("kept a 1 5\nkept b 1 5\nreplaced c 1 3\nreplacing c 2 3\nreplac")
    manifest = Manifest.read(tmp_path / "manifest")
    (tmp_path / "b").write_bytes(b"xxxxx")
    (tmp_path / "c").write_bytes(b"yyy")
    told = manifest.missing(tmp_path)
    assert [line.split()[0].rstrip(":") for line in told] == ["a", "b", "c"]
