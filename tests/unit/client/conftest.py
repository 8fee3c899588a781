"""The account of the fake server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.server import USER_FILE


@pytest.fixture(autouse=True)
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fake server's acceptor know its user."""
    path = tmp_path / "ntlm-users"
    path.write_text(USER_FILE)
    monkeypatch.setenv("NTLM_USER_FILE", str(path))
