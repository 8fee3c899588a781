"""Where clients knock: a socket that can refuse them, or be silent, and keeps its port meanwhile."""

from __future__ import annotations

import errno
import socket
from typing import Final

import trio

from tests.support.proxy.faults import Door

_BACKLOG: Final = 128
_ATTEMPTS: Final = 20


class Doorway:
    """A socket that listens at `(host, port)`; port 0 = a free one."""

    def __init__(self, listen: tuple[str, int]) -> None:
        self._socket = trio.socket.from_stdlib_socket(_bound(listen))
        self._socket.listen(_BACKLOG)
        self._door = Door.OPEN
        self._changed = trio.lowlevel.ParkingLot()
        self._accepting = trio.CancelScope()
        self._filler: socket.socket | None = None
        self._fillers: set[object] = set()
        """Addresses of our own connections, which are accepted when the door opens again."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, the same whatever it does."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    async def accept(self) -> trio.socket.SocketType:
        """The next client's connection."""
        while True:
            while not self._is_open():
                await self._changed.park()
            with trio.CancelScope() as self._accepting:
                try:
                    client, peer = await self._socket.accept()
                except OSError:
                    if self._is_open():
                        raise
                    continue
                if peer not in self._fillers:
                    return client
                self._fillers.remove(peer)
                client.close()

    def use(self, door: Door) -> None:
        """Answer clients like this from now on."""
        self._door = door
        self._accepting.cancel()
        self._changed.unpark_all()
        if self._filler is not None:
            self._filler.close()
            self._filler = None
        match door:
            case Door.OPEN:
                self._socket.listen(_BACKLOG)
            case Door.REFUSED:
                # Bound but no longer listening: the kernel refuses, and nobody else gets the port.
                self._socket.shutdown(socket.SHUT_RDWR)
            case Door.SILENT:
                self._socket.listen(0)
                self._fill()

    def close(self) -> None:
        """Give the port back."""
        if self._filler is not None:
            self._filler.close()
        self._socket.close()

    def _is_open(self) -> bool:
        return self._door is Door.OPEN

    def _fill(self) -> None:
        """Take the only place in the queue, so that the kernel ignores who comes after."""
        self._filler = socket.socket()
        self._filler.setblocking(False)
        if self._filler.connect_ex(self.address) in (0, errno.EINPROGRESS):
            self._fillers.add(self._filler.getsockname())


def _bound(listen: tuple[str, int]) -> socket.socket:
    """A socket bound to a port by its number: only then it keeps it while it does not listen."""
    for attempt in range(_ATTEMPTS):
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((listen[0], listen[1] or _free_port(listen[0])))
        except OSError:
            bound.close()
            if listen[1] or attempt == _ATTEMPTS - 1:
                raise
        else:
            return bound
    raise AssertionError("unreachable")


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
