"""Makers of servers and mounts for tests that need more than one, or one of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.support.mounting import Mount
from tests.support.samba import SambaServer, ShareConfig


class SambaFactory:
    """`samba_factory({"data": ShareConfig()}, global_options={…})` returns a running server."""

    def __init__(self, stack: ExitStack, kind: type[SambaServer] = SambaServer) -> None:
        self._stack = stack
        self._kind = kind

    def __call__(
        self,
        shares: Mapping[str, ShareConfig] | None = None,
        *,
        global_options: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> SambaServer:
        return self._stack.enter_context(self._kind(shares, global_options=global_options, port=port))


class MountFactory:
    """`mount_factory(server, folder="a", options=["ro"])` returns a mount at a new folder."""

    def __init__(self, stack: ExitStack, parent: Path) -> None:
        self._stack = stack
        self._parent = parent
        self._count = 0

    def __call__(
        self,
        server: SambaServer,
        *,
        share: str = "data",
        folder: str = "",
        options: Sequence[str] = (),
        credentials: Path | None = None,
        guest: bool = False,
        command_prefix: Sequence[str] = (),
    ) -> Mount:
        mountpoint = self._parent / f"mnt{self._count}"
        mountpoint.mkdir()
        self._count += 1
        return self._stack.enter_context(
            Mount(
                server,
                mountpoint,
                share=share,
                folder=folder,
                options=options,
                credentials=credentials,
                guest=guest,
                command_prefix=command_prefix,
            )
        )
