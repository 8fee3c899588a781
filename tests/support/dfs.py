"""A distributed tree of throw-away servers: a namespace and two servers with what its links lead to.

Referrals name no port, so all three listen on the same one, each at a loopback address of its own; a client
that is given the port uses it at every hop.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol

from tests.support.samba import SambaServer, ShareConfig
from tests.support.server import ThrowAwayServer

_NETWORK: Final = range(2, 250)
_NAMESPACE: Final[Mapping[str, str]] = {"msdfs root": "yes"}


class Namespace(Protocol):
    """A server that has a share of links."""

    def share_path(self, share: str = "data") -> Path: ...

    def adopt(self, path: Path) -> None: ...


class LinkedServers(ABC):
    """The servers of a tree: a namespace whose share `dfs` is filled with links, and where they lead."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    @abstractmethod
    def namespace(self) -> Namespace:
        """Whose share `dfs` links are made in."""

    @property
    @abstractmethod
    def servers(self) -> tuple[ThrowAwayServer, ...]:
        """Those that may be stopped."""

    def link(self, name: str, *targets: str, server: SambaServer | None = None) -> None:
        """Make a link in the share `dfs` of the namespace, or of another server."""
        there = server or self.namespace
        path = there.share_path("dfs") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(f"msdfs:{','.join(targets)}")
        there.adopt(there.share_path("dfs"))

    def put(self, server: SambaServer, path: str, content: str) -> None:
        """Make a file in the share `data` of a server."""
        file = server.share_path() / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        server.adopt(server.share_path())

    def resume(self) -> None:
        """Start again what a test has stopped."""
        for server in self.servers:
            if not server.is_running:
                server.resume_service()


class Estate(LinkedServers):
    """`namespace` has the share `dfs`, which `link` fills; `first` and `second` have `data` and `dfs`."""

    def __init__(self, namespace: SambaServer, first: SambaServer, second: SambaServer) -> None:
        super().__init__(namespace.port)
        self._namespace = namespace
        self.first = first
        self.second = second

    @property
    def namespace(self) -> SambaServer:
        """Whose share `dfs` links are made in."""
        return self._namespace

    @property
    def servers(self) -> tuple[SambaServer, SambaServer, SambaServer]:
        """All of them."""
        return self.namespace, self.first, self.second

    @property
    def hosts(self) -> tuple[str, str]:
        """Where links lead, for `dfs_hosts`."""
        return self.first.address, self.second.address

    @staticmethod
    def target(server: SambaServer, path: str) -> str:
        r"""How a link names a folder of a server: `host\share\folder`."""
        return f"{server.address}\\{path}"


@contextmanager
def estate(first: type[SambaServer] = SambaServer) -> Iterator[Estate]:
    """Three servers; `first` says of which kind the one is that most links lead to."""
    network = f"127.{random.choice(_NETWORK)}.{random.choice(_NETWORK)}"
    port, servers = 0, []
    with ExitStack() as stack:
        for host, kind in ((1, SambaServer), (2, first), (3, SambaServer)):
            address = f"{network}.{host}"
            server = kind(
                {"dfs": ShareConfig(options=_NAMESPACE), "data": ShareConfig()},
                global_options={"host msdfs": "yes", "interfaces": f"{address}/8"},
                address=address,
                port=port,
            )
            servers.append(stack.enter_context(server))
            port = server.port
        yield Estate(*servers)
