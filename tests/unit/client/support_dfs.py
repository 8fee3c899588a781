"""Distributed trees of fake servers: a namespace with links, the servers that they lead to, and the whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Final

import trio

import engine
from engine import Crossing, ntstatus
from engine.wire.constants import ShareCapabilities, ShareFlags
from engine.wire.create import CreateRequest, CreateResponse
from engine.wire.dfs import DfsHeaderFlags, DfsReferral, DfsReferralResponse
from tests.fakes.server import FakeServer, running
from tests.fakes.server_controls import Refused
from tests.fakes.server_leases import GrantsLeases
from tests.unit.client.support import ACCOUNT, DEADLINE

NAMESPACE: Final = "127.0.0.1"
FIRST: Final = "127.0.0.2"
SECOND: Final = "127.0.0.3"
FRIENDS: Final = (FIRST, SECOND)


def namespace(**referrals: Sequence[str] | DfsReferralResponse) -> FakeServer:
    """A server whose share `data` has these links; each has its targets."""
    server = FakeServer()
    server.share_flags = ShareFlags.DFS | ShareFlags.DFS_ROOT
    server.share_capabilities = ShareCapabilities.DFS
    for link, targets in referrals.items():
        name = f"\\{NAMESPACE}\\data\\{link}"
        answer = targets if isinstance(targets, DfsReferralResponse) else referral(name, *targets)
        server.tree.controls.referrals[name] = answer
    return server


def referral(
    name: str, *targets: str, consumed: int | None = None, is_root: bool = False, life: int = 600
) -> DfsReferralResponse:
    return DfsReferralResponse(
        len(name.encode("utf-16-le")) if consumed is None else consumed,
        DfsHeaderFlags.STORAGE_SERVERS,
        [
            DfsReferral(4, network_address=target, dfs_path=name, server_type=int(is_root), time_to_live=life)
            for target in targets
        ],
    )


def at(host: str, server: FakeServer | None = None) -> FakeServer:
    """A server at an address of its own."""
    server = server or FakeServer()
    server.host = host
    return server


@asynccontextmanager
async def served(path: str, first: FakeServer, *others: FakeServer) -> AsyncGenerator[str, None]:
    """Run servers, all on one port; the name of a path of the first one's share."""
    with trio.fail_after(DEADLINE):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(running(first))
            for other in others:
                other.port = first.port
                await stack.enter_async_context(running(other))
            yield f"{first.unc}/{path}" if path else first.unc


CONFIG = engine.ConnectConfig(dfs_hosts=(FIRST, SECOND), reconnect=True)


class Namespace(GrantsLeases):
    """A share with links, at which it says that what is there is elsewhere."""

    def __init__(self, **links: str) -> None:
        super().__init__()
        self.share_flags = ShareFlags.DFS | ShareFlags.DFS_ROOT
        self.share_capabilities = ShareCapabilities.DFS
        self.links = list(links)
        for link, target in links.items():
            name = f"\\{NAMESPACE}\\data\\{link}"
            self.tree.add_folder(link)
            for asked in (name, f"{name}\\file", f"{name}\\new"):
                self.tree.controls.referrals[asked] = referral(name, target)

    def create(self, request: CreateRequest) -> CreateResponse:
        if request.name.split("\\")[0] in self.links:
            raise Refused(ntstatus.STATUS_PATH_NOT_COVERED)
        return super().create(request)


@asynccontextmanager
async def crossed(server: Namespace, *others: FakeServer) -> AsyncGenerator[Crossing, None]:
    """The servers as one."""
    with trio.fail_after(DEADLINE):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(running(server))
            for other in others:
                other.port = server.port
                await stack.enter_async_context(running(other))
            share = await stack.enter_async_context(engine.connect(server.unc, ACCOUNT, CONFIG))
            async with trio.open_nursery() as tasks:
                yield Crossing(
                    share,
                    lambda path, beside: engine.connect(
                        f"{server.unc}/{path}", ACCOUNT, CONFIG, None, beside
                    ),
                    tasks,
                )
                tasks.cancel_scope.cancel()


def lead(server: Namespace, link: str, *targets: str, life: int = 5) -> None:
    """From now on a link leads there."""
    name = f"\\{NAMESPACE}\\data\\{link}"
    for asked in (name, f"{name}\\file", f"{name}\\new"):
        server.tree.controls.referrals[asked] = referral(name, *targets, life=life)


async def numbers_in(whole: Crossing, path: str) -> dict[str, int]:
    """The numbers of a folder's entries, by their names."""
    folder = await whole.open_folder(path)
    async with aclosing(folder.batches()) as batches:
        found = {entry.name: entry.stat.file_id async for batch in batches for entry in batch}
    folder.close_later()
    return found
