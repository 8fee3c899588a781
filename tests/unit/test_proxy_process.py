"""The proxy as a process of its own: what is told holds at once, and it never outlives its owner."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.proxy import Door, Drop, Heal, NewConnections, ProxyProcess, Reset, Stall, Target

_LOOPBACK: Final = "127.0.0.1"
_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_FRAME: Final = b"\0\0\0\x40" + bytes(64)

_OWNER: Final = """
import sys
from tests.support.proxy import ProxyProcess
with ProxyProcess(("127.0.0.1", 9)) as proxy:
    print(proxy.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A listening socket."""
    with socket.create_server((_LOOPBACK, 0)) as listener:
        listener.settimeout(10)
        yield listener


@pytest.fixture
def proxy(server: socket.socket) -> Iterator[ProxyProcess]:
    """A proxy in front of it."""
    with ProxyProcess(server.getsockname()) as proxy:
        yield proxy


def _connect(proxy: ProxyProcess) -> socket.socket:
    return socket.create_connection((proxy.address, proxy.port), timeout=10)


def test_faults_hold_when_they_are_told(server: socket.socket, proxy: ProxyProcess) -> None:
    with _connect(proxy) as client, server.accept()[0] as behind:
        client.sendall(_FRAME)
        assert behind.recv(68, socket.MSG_WAITALL) == _FRAME
        assert proxy.tell(Stall()).connections == 1
        behind.sendall(_FRAME)
        counts = proxy.wait_for(lambda counts: counts.to_client.arrived == 1, "the answer")
        assert (counts.to_client.delivered, counts.open) == (0, 1)
        proxy.tell(Reset())
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    proxy.wait_for(lambda counts: counts.open == 0, "the end")
    proxy.tell(NewConnections(Door.REFUSED))
    with pytest.raises(ConnectionRefusedError):
        _connect(proxy)
    with socket.create_server((_LOOPBACK, 0)) as other:
        proxy.tell(Target(other.getsockname()))
        proxy.tell(Heal())
        with _connect(proxy) as client, other.accept()[0] as behind:
            client.sendall(b"question")
            assert behind.recv(8, socket.MSG_WAITALL) == b"question"


def test_what_does_not_happen_is_said(proxy: ProxyProcess) -> None:
    proxy.tell(Drop())
    with pytest.raises(AssertionError, match=r"not within 0.02 s: a client; Counts\(connections=0,"):
        proxy.wait_for(lambda counts: counts.connections > 0, "a client", seconds=0.02)


def test_proxy_that_was_killed_is_noticed(proxy: ProxyProcess) -> None:
    os.kill(proxy.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="the proxy has ended by itself"):
        proxy.wait_for(lambda counts: counts.connections > 0, "a client")


def test_port_that_is_taken(server: socket.socket, capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(RuntimeError, match="ended by itself"),
        ProxyProcess(server.getsockname(), listen=server.getsockname()),
    ):
        pass
    assert "Address already in use" in capfd.readouterr().err


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_proxy_ends_with_its_owner(end: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(_CHECKOUT)}
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    with owner:
        assert owner.stdout is not None
        proxy = os.pidfd_open(int(owner.stdout.readline()))
        try:
            owner.send_signal(end)
            assert select.select([proxy], [], [], 20)[0], "the proxy is still there"
        finally:
            os.close(proxy)
