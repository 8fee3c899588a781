"""Nothing times out while bytes flow, however slowly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.mounting import Mount
from tests.support.proxy import Link, ProxyProcess
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(120)

RATE: Final = 50_000
TIMEOUT: Final = 2
"""Seconds, in which much less arrives than the tests ask for at once."""


@pytest.fixture
def slow(samba: SambaServer, share_path: Path, tmp_path: Path) -> Iterator[Path]:
    """`share_path` behind a line that carries `RATE` bytes per second, through a mount without patience."""
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    with ProxyProcess((samba.address, samba.port), Link(rate=RATE, queue=1 << 16)) as proxy:
        options = [f"port={proxy.port}", f"timeout={TIMEOUT}", "prefetch=off"]
        with Mount(samba, mountpoint, folder=share_path.name, options=options) as mount:
            yield mount.path


def test_file_is_read_over_a_slow_line(samba: SambaServer, share_path: Path, slow: Path) -> None:
    for name, size in (("comes with its open", 64 * 1024), ("comes in parts", 300_000)):
        content = os.urandom(size)
        (share_path / name).write_bytes(content)
        samba.adopt(share_path)
        assert (slow / name).read_bytes() == content


def test_folder_is_listed_over_a_slow_line(samba: SambaServer, share_path: Path, slow: Path) -> None:
    names = {f"a file with a rather long name, number {number:08}" for number in range(1500)}
    for name in names:
        (share_path / name).touch()
    samba.adopt(share_path)
    assert set(os.listdir(slow)) == names
