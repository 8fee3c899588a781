"""Leases of folders of a real Samba server: what breaks them, and what does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from engine import Access, Disposition, Lease, LeaseState, Share
from tests.integration.support_engine import connected, in_trio, settle
from tests.support.samba import SambaServer

RH = LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING
SECONDS = 10


class Held:
    """A folder held under a lease by one client, and its owner, who waits for breaks."""

    def __init__(self, share: Share, path: str) -> None:
        self.share = share
        self.path = path
        self.broken = trio.Event()
        self.lease = share.lease(lambda lease: self.broken.set())

    def change(self) -> Lease:
        """A lease for changes in the folder that are not to break its own."""
        lease = self.share.lease(lambda lease: None)
        lease.folder = self.lease
        return lease


@asynccontextmanager
async def held(server: SambaServer, path: str) -> AsyncIterator[Held]:
    async with connected(server) as share:
        holder = Held(share, path)
        folder = await share.open_folder(path, lease=holder.lease)
        assert holder.lease.state == RH
        yield holder
        folder.close_later()
        assert holder.lease.state == 0
        await settle(share)


async def write(share: Share, path: str, lease: Lease | None) -> None:
    async with await share.open(path, access=Access.WRITE, lease=lease) as file:
        await file.write_at(0, b"more")


async def create(share: Share, path: str, lease: Lease | None) -> None:
    disposition = Disposition.CREATE
    async with await share.open(path, access=Access.WRITE, disposition=disposition, lease=lease):
        pass


Change = Callable[[Share, str, Lease | None], Awaitable[object]]
CHANGES: dict[str, Change] = {
    "create": lambda share, path, lease: create(share, f"{path}\\new", lease),
    "mkdir": lambda share, path, lease: share.mkdir(f"{path}\\new", lease=lease),
    "write_file": lambda share, path, lease: share.write_file(f"{path}\\new", b"x", lease=lease),
    "unlink": lambda share, path, lease: share.unlink(f"{path}\\file", lease=lease),
    "rmdir": lambda share, path, lease: share.rmdir(f"{path}\\folder", lease=lease),
    "rename": lambda share, path, lease: share.rename(
        f"{path}\\file", f"{path}\\new", replace=False, lease=lease
    ),
    "link": lambda share, path, lease: share.link(f"{path}\\file", f"{path}\\new", lease=lease),
    "write": lambda share, path, lease: write(share, f"{path}\\file", lease),
    "truncate": lambda share, path, lease: share.truncate(f"{path}\\file", 1, lease=lease),
    "set_basic": lambda share, path, lease: share.set_basic(f"{path}\\file", write_ns=10**18, lease=lease),
}


@pytest.fixture
def folder(samba_backports: SambaServer, backports_share_path: Path) -> str:
    """The path of a folder with a file and an empty folder in it."""
    (backports_share_path / "file").write_bytes(b"content")
    (backports_share_path / "folder").mkdir()
    samba_backports.adopt(backports_share_path)
    return backports_share_path.name


@pytest.mark.parametrize("change", list(CHANGES))
@in_trio
async def test_another_client_s_change_breaks_it(
    samba_backports: SambaServer, folder: str, change: str
) -> None:
    async with held(samba_backports, folder) as holder, connected(samba_backports) as other:
        await CHANGES[change](other, folder, None)
        with trio.fail_after(SECONDS):
            await holder.broken.wait()
        assert holder.lease.state == 0
        assert holder.lease.needs_acknowledgement


@pytest.mark.parametrize("change", list(CHANGES))
@in_trio
async def test_a_change_of_the_holder_s_own_does_not(
    samba_backports: SambaServer, folder: str, change: str
) -> None:
    async with held(samba_backports, folder) as holder:
        await CHANGES[change](holder.share, folder, holder.change())
        # Whoever changes it without saying so breaks it: by then the first change's break would be here.
        await settle(holder.share)
        assert not holder.broken.is_set()
        await holder.share.mkdir(f"{folder}\\unsaid")
        with trio.fail_after(SECONDS):
            await holder.broken.wait()


@in_trio
async def test_looking_does_not(samba_backports: SambaServer, folder: str) -> None:
    async with held(samba_backports, folder) as holder, connected(samba_backports) as other:
        await other.stat(f"{folder}\\file")
        await other.read_file(f"{folder}\\file", 100)
        async for _ in other.scandir(folder):
            pass
        await settle(holder.share)
        assert not holder.broken.is_set()


@in_trio
async def test_another_client_renames_a_folder_that_is_held(
    samba_backports: SambaServer, backports_share_path: Path, folder: str
) -> None:
    """The break asks for the handle; the other client waits until it is closed."""
    async with (
        connected(samba_backports) as share,
        connected(samba_backports) as other,
        trio.open_nursery() as nursery,
    ):
        holder = Held(share, f"{folder}\\folder")
        remote = await share.open_folder(holder.path, lease=holder.lease)
        nursery.start_soon(lambda: other.rename(holder.path, f"{folder}\\renamed", replace=False))
        with trio.fail_after(SECONDS):
            await holder.broken.wait()
        remote.close_later()
        with trio.fail_after(SECONDS):
            while not (backports_share_path / "renamed").exists():
                await share.echo()
