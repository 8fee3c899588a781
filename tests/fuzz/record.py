"""Makes the corpus anew: `python -m tests.fuzz.record`.

Real operations go to throw-away Samba servers with every dialect, signed and sealed, and what passes is kept,
a few messages of each kind. What they cannot bring is made up by `made`. Not one byte is of this machine.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final
from unittest import mock

import trio

import engine
from engine import Access, AuthKind, ConnectConfig, Credentials, Dialect, Disposition, Share, SmbError
from engine.client import establish
from engine.wire import fscc, fscc_volume
from engine.wire.constants import CompletionFilter, EaQueryFlags, InfoType
from engine.wire.create import CloseRequest, CreateRequest
from engine.wire.fscc import FileInformationClass
from engine.wire.notify import ChangeNotifyRequest
from engine.wire.primitives import FILE_ID_RELATED
from engine.wire.query import QueryDirectoryRequest, QueryInfoRequest
from tests.fuzz import corpus, made
from tests.fuzz.recorder import ListeningMachine, Recording
from tests.fuzz.table import BY_NAME
from tests.fuzz.wire_targets import DIRECTORY_CLASSES
from tests.support.samba import (
    DURABLE_SHARE_OPTIONS,
    GUEST_GLOBAL_OPTIONS,
    GUEST_SHARE_OPTIONS,
    SambaServer,
    ShareConfig,
)
from tests.support.samba_backports import BackportsSambaServer

_SECONDS: Final = 60.0
_NAMES: Final = ("a", "notes.txt", "Größe", "ein längerer Name.tar.gz", "日本", "x" * 40)
_SHARES: Final = {
    "data": ShareConfig(options={**GUEST_SHARE_OPTIONS, **DURABLE_SHARE_OPTIONS}),
    "dfs": ShareConfig(options={"msdfs root": "yes"}),
}
_GLOBAL: Final = {**GUEST_GLOBAL_OPTIONS, "netbios name": "FUZZED", "host msdfs": "yes"}
_FILE_CLASSES: Final = tuple(
    number for number in FileInformationClass if hasattr(fscc, number.name) or "Stream" in number.name
)
_ROOM: Final = 8192
_READ_WRITE: Final = Access.READ | Access.WRITE

Work = Callable[[Share], Awaitable[None]]


def main() -> int:
    """Record, make up what is missing, and write it all; returns the exit code."""
    recording = Recording()
    ListeningMachine.recording = recording
    with mock.patch.object(establish, "Machine", ListeningMachine):
        for kind in (SambaServer, BackportsSambaServer):
            with kind(_SHARES, global_options=_GLOBAL) as server:
                targets = r"other.example\share,third.example\share\folder"
                (server.share_path("dfs") / "link").symlink_to(f"msdfs:{targets}")
                server.adopt(server.share_path("dfs"))
                trio.run(_talk_to, server)
    inputs = recording.inputs()
    for path in corpus.FOLDER.glob("*.hex"):
        path.unlink()
    for target in BY_NAME:
        kept = inputs.get(target) or made.inputs(target)
        assert kept, f"nothing to start from for {target}"
        corpus.write(target, kept)
    unknown = sorted(set(inputs) - set(BY_NAME))
    assert not unknown, f"recorded for no target: {unknown}"
    return 0


async def _talk_to(server: SambaServer) -> None:
    account = Credentials(server.user, server.password)
    for dialect in Dialect:
        config = ConnectConfig(port=server.port, min_dialect=dialect, max_dialect=dialect)
        await _connected(server, account, config, 0, _work)
    await _connected(server, account, ConnectConfig(port=server.port, seal=True), 0, _work)
    for dialect in Dialect:
        config = ConnectConfig(port=server.port, signing=False, min_dialect=dialect, max_dialect=dialect)
        await _connected(server, Credentials("nobody", kind=AuthKind.GUEST), config, 1, _look)
    await _connected(server, Credentials(kind=AuthKind.ANONYMOUS), ConnectConfig(port=server.port), 2, _look)
    await _connected(server, account, ConnectConfig(port=server.port), 0, _follow, share="dfs")
    await _connected(server, Credentials("nobody", "wrong"), ConnectConfig(port=server.port), 0, _look)


async def _connected(
    server: SambaServer,
    account: Credentials,
    config: ConnectConfig,
    number: int,
    work: Work,
    share: str = "data",
) -> None:
    ListeningMachine.account = number
    with trio.fail_after(_SECONDS), suppress(SmbError):
        async with engine.connect(server.unc(share), account, config) as connected:
            await work(connected)


@contextmanager
def _or_refused() -> Iterator[None]:
    """A refusal is an answer too."""
    with suppress(SmbError, KeyError):
        yield


async def _look(share: Share) -> None:
    with _or_refused():
        await share.stat("")


async def _follow(share: Share) -> None:
    for site in (None, "site"):
        for path in ("link", "absent", ""):
            with _or_refused():
                await share.referrals(path, site)
    with _or_refused():
        await share.stat("link\\below")


async def _work(share: Share) -> None:
    for step in (_files, _folders, _questions, _streams_and_more, _links, _leases, _controls):
        with _or_refused():
            await step(share)
    for name in (*_NAMES, "copy", "link", "big"):
        with _or_refused():
            await share.unlink(name)
    with _or_refused():
        await share.rmdir("folder")


async def _files(share: Share) -> None:
    for name in _NAMES:
        await share.write_file(name, name.encode() * 3)
    await share.read_file("a", 100)
    await share.set_basic("a", write_ns=10**18)
    async with await share.open("a", access=_READ_WRITE) as file:
        await file.write_at(5, b"some bytes")
        await file.read_at(0, 40)
        with _or_refused():
            await file.read_at(1 << 20, 40)
        await file.lock(0, 10, exclusive=True, wait=False)
        await file.unlock(0, 10)
        with _or_refused():
            await file.unlock(0, 10)
        await file.truncate(8)
        await file.flush()
        await file.query()
        await file.close_and_stat()
    with _or_refused():
        await share.open("a", disposition=Disposition.CREATE)
    with _or_refused():
        await share.stat("absent")
    await share.rename("notes.txt", "renamed", replace=False)
    await share.rename("renamed", "notes.txt", replace=True)
    await share.link("a", "link")
    await share.volume_size()
    await share.echo()


async def _folders(share: Share) -> None:
    await share.mkdir("folder")
    for number in DIRECTORY_CLASSES:
        create = CreateRequest(desired_access=Access.LIST_DIRECTORY, name="")
        ask = QueryDirectoryRequest(
            file_information_class=number, file_id=FILE_ID_RELATED, output_buffer_length=_ROOM
        )
        with _or_refused():
            await share._tree.exchange(
                create, ask, ask, CloseRequest(FILE_ID_RELATED), what="list", required=2
            )
    async for _ in share.scandir("", "a*"):
        pass
    watch = CreateRequest(desired_access=Access.LIST_DIRECTORY, name="folder")
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            notify = ChangeNotifyRequest(
                file_id=FILE_ID_RELATED,
                completion_filter=CompletionFilter.FILE_NAME,
                output_buffer_length=_ROOM,
            )
            with _or_refused():
                await share._tree.exchange(watch, notify, what="watch")

        nursery.start_soon(wait)
        await share.echo()
        await share.write_file("folder\\new", b"")
        await share.unlink("folder\\new")


async def _questions(share: Share) -> None:
    for kind, classes in (
        (InfoType.FILE, _FILE_CLASSES),
        (InfoType.FILESYSTEM, tuple(fscc_volume.FsInformationClass)),
        (InfoType.SECURITY, (0,)),
    ):
        for name in ("a", "folder"):
            for number in classes:
                create = CreateRequest(desired_access=0x00020089, name=name)
                query = QueryInfoRequest(
                    info_type=kind,
                    file_info_class=number,
                    output_buffer_length=_ROOM,
                    additional_information=7 if kind is InfoType.SECURITY else 0,
                    flags=EaQueryFlags(0),
                    file_id=FILE_ID_RELATED,
                )
                with _or_refused():
                    await share._tree.exchange(create, query, CloseRequest(FILE_ID_RELATED), what="ask")


async def _streams_and_more(share: Share) -> None:
    with _or_refused():
        await share.write_file("a:stream", b"in a stream")
    await share.set_ea("a", "first", b"1")
    await share.set_ea("a", "second", bytes(range(20)))
    await share.list_eas("a")
    await share.get_ea("a", "second")
    with _or_refused():
        await share.get_ea("a", "absent")
    await _questions(share)


async def _links(share: Share) -> None:
    for point in (
        engine.SymbolicLink("notes.txt", "notes.txt"),
        engine.NfsSpecialFile(0x4F464946),
        engine.LxSymlink("target"),
    ):
        with _or_refused():
            await share.write_file("copy", b"")
            await share.set_reparse_point("copy", point)
            await share.reparse_point("copy")
        with _or_refused():
            await share.stat("copy")
        with _or_refused():
            await share.unlink("copy")


async def _leases(share: Share) -> None:
    """A second open of another lease breaks the first."""

    async with trio.open_nursery() as nursery:
        first, second = (share.lease(lambda lease: nursery.start_soon(lease.acknowledge)) for _ in range(2))
        with _or_refused():
            async with (
                await share.open("a", access=_READ_WRITE, lease=first),
                await share.open("a", access=Access.READ, lease=second),
            ):
                pass
        with _or_refused():
            folder = await share.open_folder("folder", lease=share.lease(lambda lease: None))
            folder.close_later()


async def _controls(share: Share) -> None:
    async with await share.open("big", access=_READ_WRITE, disposition=Disposition.CREATE) as file:
        with _or_refused():
            await file.set_sparse()
        await file.write_at(1 << 20, b"end")
        with _or_refused():
            await file.zero(0, 4096)
        with _or_refused():
            await file.allocated_ranges(0, 2 << 20)
    with _or_refused():
        await share.copy("big", "copy", replace=True)
    for ask in (share.network_interfaces, share.snapshots, share.referrals):
        with _or_refused():
            await ask()


if __name__ == "__main__":
    sys.exit(main())
