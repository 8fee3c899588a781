"""The engine against a real Samba server. Without smbd these tests fail; they are never skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import ConnectConfig, Credentials
from tests.support.samba import SambaServer


@pytest.fixture
def unc(samba: SambaServer, share_path: Path) -> str:
    """`//server/share/folder` of a folder that only this test uses."""
    return f"{samba.unc()}/{share_path.name}"


@pytest.fixture
def credentials(samba: SambaServer) -> Credentials:
    """The default server's user."""
    return Credentials(username=samba.user, password=samba.password)


@pytest.fixture
def config(samba: SambaServer) -> ConnectConfig:
    """How to reach the default server."""
    return ConnectConfig(port=samba.port)
