"""The units that we ship are what systemd understands, and the mount can be seen outside the service."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from smbmount.failures import ExitCode

UNITS: Final = Path(__file__).resolve().parents[2] / "systemd"

_NAMESPACE_OPTIONS: Final = (
    *("BindPaths", "BindReadOnlyPaths", "ExecPaths", "InaccessiblePaths", "MountImages", "NoExecPaths"),
    *("PrivateDevices", "PrivateMounts", "PrivateTmp", "PrivateUsers", "ProtectControlGroups"),
    *("ProtectHome", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc"),
    *("ProtectSystem", "ReadOnlyPaths", "ReadWritePaths", "RootDirectory", "TemporaryFileSystem"),
)
"""What gives a service a mount namespace of its own (systemd.exec(5)), so that its mounts stay inside."""


def _verify(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(folder / name for name in names)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """The units with `true` for the programs: verification asks that the programs exist."""
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("=smbmount ", "=true ").replace("-fusermount3 ", "-true ")
        (tmp_path / unit.name.replace("@.", "@photos.")).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", ["smbmount@photos.service", "mnt-share.mount", "mnt-share.automount"])
def test_systemd_has_nothing_to_say(rendered: Path, name: str) -> None:
    done = _verify(rendered, name)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_verification_finds_a_wrong_unit(rendered: Path) -> None:
    unit = rendered / "smbmount@photos.service"
    unit.write_text(unit.read_text().replace("RestartSec=30s", "RestartSec=soon"))
    assert "soon" in _verify(rendered, unit.name).stderr


def test_service_shares_its_mount_with_the_system() -> None:
    unit = _read_unit("smbmount@.service")
    assert not set(unit["Service"]) & {option.lower() for option in _NAMESPACE_OPTIONS}


def _seconds(span: str) -> int:
    found = re.fullmatch(r"(\d+)(s|min)", span)
    assert found is not None, span
    return int(found[1]) * (60 if found[2] == "min" else 1)


def test_a_refused_log_on_is_tried_too_seldom_to_lock_an_account() -> None:
    """The limit on starts has to span all of them, however long each takes."""
    unit = _read_unit("smbmount@.service")
    starts, interval = int(unit["Unit"]["StartLimitBurst"]), _seconds(unit["Unit"]["StartLimitIntervalSec"])
    pause, longest = (_seconds(unit["Service"][name]) for name in ("RestartSec", "TimeoutStartSec"))
    stopping = _seconds(unit["Service"]["TimeoutStopSec"])
    assert unit["Service"]["RestartPreventExitStatus"] == str(int(ExitCode.USAGE))
    assert starts <= 3
    assert pause >= 30
    assert interval > starts * (pause + longest + stopping)
    on_demand = _read_unit("mnt-share.mount")["Unit"]
    assert int(on_demand["StartLimitBurst"]) <= 3


def test_example_sets_every_variable_of_the_service() -> None:
    command = _read_unit("smbmount@.service")["Service"]["ExecStart"]
    example = (UNITS / "example.conf").read_text()
    variables = [line.partition("=")[0] for line in example.splitlines() if line[:1].isalpha()]
    assert sorted(variables) == ["SMBMOUNT_MOUNTPOINT", "SMBMOUNT_OPTIONS", "SMBMOUNT_SOURCE"]
    assert all(f"${{{variable}}}" in command for variable in variables)


def _read_unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(UNITS / name)
    return parser
