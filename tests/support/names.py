"""A name service of a test's own, for the engine in the test's process."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import trio


class Names(trio.abc.HostnameResolver):
    """Knows the addresses that it is given, and nothing else: `trio.socket.set_custom_hostname_resolver`."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = addresses

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        assert host is not None
        assert isinstance(port, int)
        try:
            address = self._addresses[host.decode().lower().rstrip(".")]
        except KeyError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        if ":" in address:
            return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0))]
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError
