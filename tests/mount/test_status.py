"""`smbmountctl status` of real mounts: the connection, losses, leases and handles."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.mount.test_control import ctl
from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import CHECKOUT, Mount
from tests.support.samba import (
    DURABLE_SHARE_OPTIONS,
    GUEST_GLOBAL_OPTIONS,
    GUEST_SHARE_OPTIONS,
    SambaServer,
    ShareConfig,
)
from tests.support.tools import wait_until

pytestmark = pytest.mark.deadline(90)

MAN_PAGE: Final = CHECKOUT / "docs/man/smbmountctl.1"
COUNTED_BY_NAME: Final = ("requests", "seconds", "trips", "files", "folders")
"""Objects whose keys are commands, or what the server vouches for."""


def status(mount: Mount) -> dict[str, Any]:
    """What it says, for programs."""
    code, output, complaint = ctl("status", "--json", mount.path)
    assert (code, complaint) == (0, "")
    told: dict[str, Any] = json.loads(output)
    return told


def words(mount: Mount) -> str:
    """What it says, for a person."""
    code, output, complaint = ctl("status", mount.path)
    assert (code, complaint) == (0, "")
    return output


def state(mount: Mount) -> str:
    """The state of the connection."""
    return str(status(mount)["connection"]["state"])


def lives(mount: Mount) -> bool:
    """Whether a call that has to go to the server succeeds."""
    (mount.path / str(time.monotonic_ns())).touch()
    return True


def keys(told: Mapping[str, Any]) -> Iterator[str]:
    """All keys, those inside included."""
    for key, value in told.items():
        yield key
        inner = value if isinstance(value, list) else [value]
        for one in inner:
            if isinstance(one, dict) and key not in COUNTED_BY_NAME:
                yield from keys(one)


def test_a_restart_of_the_server_is_counted_with_its_reason(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    server = samba_factory({"data": ShareConfig(options=DURABLE_SHARE_OPTIONS)})
    mount = mount_factory(server)
    mount.expect_log("the connection to .* is (lost|back)")
    first = status(mount)
    assert first["reconnects"] == {"count": 0, "last_lost": None, "last_returned": None, "reason": None}
    assert first["connection"]["since"] == pytest.approx(time.time(), abs=30)
    with (mount.path / "open").open("wb", buffering=0) as file:
        file.write(b"content")
        os.fsync(file)
        held = status(mount)
        assert held["handles"]["open"] == held["handles"]["durable"] == 1
        for count in (1, 2):
            before = time.time()
            server.restart()
            assert lives(mount)
            wait_until(lambda: state(mount) == "connected", "files are open again")
            told = status(mount)
            assert told["reconnects"]["count"] == count
            assert told["reconnects"]["reason"] == "the server closed the connection"
            lost, returned = told["reconnects"]["last_lost"], told["reconnects"]["last_returned"]
            assert before - 1 <= lost <= returned == told["connection"]["since"] <= time.time()
    assert "reconnects    2, last lost 20" in words(mount)


def test_a_server_that_is_away_is_said_at_once(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    server = samba_factory()
    mount = mount_factory(server)
    mount.expect_log("the connection to .* is (lost|back)")
    before = time.time()
    server.stop_service()
    wait_until(lambda: status(mount)["connection"]["failures"] > 1, "the server is missed", 10)
    began = time.monotonic()
    told = status(mount)
    assert time.monotonic() - began < 5
    connection = told["connection"]
    assert (connection["state"], connection["lost"]) == ("reconnecting", True)
    assert before - 1 <= connection["since"] == told["reconnects"]["last_lost"] <= time.time()
    assert "nothing listens on TCP port" in connection["obstacle"]
    assert told["leases"] == {"files": {}, "folders": {}}
    assert told["reconnects"]["count"] == 0
    text = words(mount)
    assert "connection    LOST since 20" in text
    assert "attempts failed: nothing listens on TCP port" in text
    server.resume_service()
    assert lives(mount)
    wait_until(lambda: state(mount) == "connected", "the server is back")


def test_a_server_that_refuses_us_now_is_said(
    samba_factory: SambaFactory, mount_factory: MountFactory, tmp_path: Path
) -> None:
    server = samba_factory()
    old = tmp_path / "credentials"
    old.write_text(server.credentials_file.read_text())
    old.chmod(0o600)
    mount = mount_factory(server, credentials=old)
    mount.expect_log("the connection to .* is (lost|back)|refuses us since")
    server.set_password("another one")
    server.restart()
    wait_until(lambda: state(mount) == "refused", "the refusal is known", 10)
    assert "and the server refuses us: log-on as" in words(mount)
    assert "STATUS_LOGON_FAILURE" in status(mount)["connection"]["obstacle"]


def test_a_server_that_falls_silent_is_said_before_the_connection_is_given_up(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    server = samba_factory()
    mount = mount_factory(server)
    pids = server.connection_pids()
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        with subprocess.Popen(["stat", mount.path / "file"], stderr=subprocess.DEVNULL) as waiting:
            wait_until(lambda: status(mount)["connection"]["silent_seconds"] > 2, "it is silent", 15)
            assert "but silent for" in words(mount)
            assert status(mount)["requests_in_flight"] > 0
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            waiting.wait(30)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: status(mount)["connection"]["silent_seconds"] == 0, "it answers again")


def test_leases_and_kept_handles_are_counted(
    samba: SambaServer, mount_factory: MountFactory, share_path: Path
) -> None:
    mount = mount_factory(samba, folder=share_path.name, options=["closetimeo=2"])
    for name in ("one", "two", "closed"):
        (mount.path / name).write_bytes(b"content")
    with (mount.path / "one").open("rb") as one, (mount.path / "two").open("rb") as two:
        one.read()
        two.read()
        held = status(mount)["leases"]["files"]
        assert held["RWH"] >= 2
        samba.smbclient("data", f"get {share_path.name}/one -")
        # Another client's open takes the right to write back unasked.
        wait_until(lambda: status(mount)["leases"]["files"].get("RH", 0) == 1, "the lease is broken")
        assert "1 RH" in words(mount)
    (mount.path / "closed").read_bytes()
    wait_until(lambda: status(mount)["handles"]["kept_files"] >= 1, "the file is kept for its next use")
    wait_until(lambda: status(mount)["leases"]["files"] == {}, "nothing is held any more", 20)
    assert status(mount)["handles"]["kept_files"] == 0


def test_leases_of_folders_are_counted_apart(backports_mount: Mount) -> None:
    (backports_mount.path / "folder").mkdir()
    os.listdir(backports_mount.path / "folder")
    told = status(backports_mount)
    assert told["leases"]["folders"]["RH"] >= 1
    assert told["handles"]["kept_folders"] == told["leases"]["folders"]["RH"]


def test_credits_and_protection(samba: SambaServer, mount_factory: MountFactory) -> None:
    mount = mount_factory(samba, options=["seal"])
    told = status(mount)
    assert told["credits"]["held"] > 8
    assert told["credits"]["in_use"] == told["requests_in_flight"] == 0
    connection = told["connection"]
    assert connection["dialect"] == "3.1.1"
    assert connection["cipher"] == "AES-128-GCM"
    assert connection["signing"] == "AES-GMAC"
    assert (connection["authentication"], connection["ticket"]) == ("NTLM", None)
    assert connection["share"] == f"\\\\{samba.address}\\data"


def test_a_guest_is_said_to_be_one(samba_factory: SambaFactory, mount_factory: MountFactory) -> None:
    server = samba_factory(
        {"data": ShareConfig(options=GUEST_SHARE_OPTIONS)}, global_options=GUEST_GLOBAL_OPTIONS
    )
    mount = mount_factory(server, guest=True)
    connection = status(mount)["connection"]
    assert (connection["authentication"], connection["guest"]) == ("guest", True)
    assert "log-on        guest\n" in words(mount)


def test_every_key_is_in_the_manual(mount: Mount) -> None:
    page = MAN_PAGE.read_text()
    missing = {key for key in keys(status(mount)) if f"\\(dq{key}\\(dq" not in page}
    assert missing == set()
