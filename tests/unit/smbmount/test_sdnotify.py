"""What systemd is told, over a real datagram socket."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import pytest

from smbmount.sdnotify import notify
from tests.support.logcheck import ExpectedWarnings


def receiver(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.settimeout(10)
    return sock


def test_without_a_socket_nothing_is_sent() -> None:
    assert notify("READY=1", environ={}) is False
    assert notify("READY=1", environ={"NOTIFY_SOCKET": ""}) is False


def test_assignments_are_lines_of_one_datagram(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with receiver(path) as sock:
        assert notify("READY=1", "STATUS=mounted on\n/ü", environ={"NOTIFY_SOCKET": path}) is True
        assert sock.recv(4096) == "READY=1\nSTATUS=mounted on /ü".encode()


def test_an_abstract_socket() -> None:
    name = f"smbmount-test-{uuid.uuid4()}"
    with receiver(f"\0{name}") as sock:
        assert notify("STOPPING=1", environ={"NOTIFY_SOCKET": f"@{name}"}) is True
        assert sock.recv(4096) == b"STOPPING=1"


@pytest.mark.parametrize("name", ["/nonexistent/socket", "relative-and-missing"])
def test_a_socket_that_fails_is_logged_and_no_error(name: str, expected_warnings: ExpectedWarnings) -> None:
    expected_warnings.require("cannot tell systemd")
    assert notify("READY=1", environ={"NOTIFY_SOCKET": name}) is False
