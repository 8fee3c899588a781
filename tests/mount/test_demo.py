"""`scripts/demo` shows a mount and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from smbmount.mounttable import topmost_mount
from tests.support.mounting import CHECKOUT


def _demo(temporary: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, CHECKOUT / "scripts/lib/demo.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demo puts its folders, to see that it takes them away again; its server can get there."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def test_once(temporary: Path) -> None:
    output, errors = _demo(temporary, "--once").communicate(timeout=60)
    assert errors == ""
    assert "$ ls -l" in output
    assert "This file came over SMB." in output
    assert output.endswith("Unmounted, server stopped, nothing left behind.\n")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stays_until_it_is_stopped(temporary: Path, tmp_path: Path, number: signal.Signals) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    with _demo(temporary, mountpoint) as process:
        _read_until(process, "To stop:")
        assert (mountpoint / "pictures" / "red.png").read_bytes().startswith(b"\x89PNG")
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert errors == ""
    assert "nothing left behind" in output
    assert topmost_mount(str(mountpoint)) is None
    assert list(temporary.iterdir()) == []


def test_ends_when_somebody_unmounts(temporary: Path, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    with _demo(temporary, mountpoint) as process:
        _read_until(process, "To stop:")
        subprocess.run(["fusermount3", "-u", mountpoint], check=True)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert list(temporary.iterdir()) == []


def test_missing_mountpoint_is_one_sentence(temporary: Path, tmp_path: Path) -> None:
    with _demo(temporary, tmp_path / "missing") as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert errors.startswith(f"demo: {tmp_path}/missing is not a folder; make it first with mkdir")
    assert errors.count("\n") == 1


def _read_until(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stdout is not None
    assert any(line.startswith(beginning) for line in process.stdout)
