"""Extended attributes, copies on the server, free space, snapshots."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from engine import (
    AccessDenied,
    AlreadyExists,
    DeletePending,
    InvalidParameter,
    IsADirectory,
    LocalProtocolError,
    NoSpace,
    NotFound,
    NotSupported,
    NtStatusError,
    ShareAccess,
    SharingViolation,
)
from tests.integration.support_engine import (
    MIB,
    READ_WRITE,
    connected,
    in_trio,
    inside,
    listing,
    settle,
)
from tests.support.samba import SambaServer, ShareConfig


@in_trio
async def test_extended_attributes(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        await share.write_file(path, b"")
        assert await share.list_eas(path) == {}
        await share.set_ea(path, "first", b"1")
        await share.set_ea(path, "second", bytes(range(256)))
        assert await share.list_eas(path) == {"first": b"1", "second": bytes(range(256))}
        assert await share.get_ea(path, "second") == bytes(range(256))
        assert await share.get_ea(path, "FIRST") == b"1"
        await share.set_ea(path, "first", b"changed")
        assert await share.get_ea(path, "first") == b"changed"
        await share.set_ea(path, "first", b"")
        assert list(await share.list_eas(path)) == ["second"]
        with pytest.raises(KeyError):
            await share.get_ea(path, "first")
        assert os.getxattr(share_path / "file", "user.second") == bytes(range(256))


@in_trio
async def test_extended_attributes_of_folders_and_in_numbers(samba: SambaServer, share_path: Path) -> None:
    async with connected(samba) as share:
        wanted = {f"attribute-{number}": bytes([number]) * number for number in range(1, 60)}
        for name, value in wanted.items():
            await share.set_ea(share_path.name, name, value)
        assert await share.list_eas(share_path.name) == wanted


@in_trio
async def test_extended_attributes_that_do_not_fit(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("file"), b"")
        with pytest.raises(NoSpace):
            await share.set_ea(at("file"), "large", bytes(60_000))
        with pytest.raises(LocalProtocolError):
            await share.set_ea(at("file"), "larger", bytes(70_000))
        with pytest.raises(NotFound):
            await share.set_ea(at("absent"), "name", b"value")
        with pytest.raises(NotFound):
            await share.list_eas(at("absent"))
        assert await share.list_eas(at("file")) == {}


@in_trio
async def test_share_without_extended_attributes() -> None:
    with SambaServer({"data": ShareConfig(options={"ea support": "no"})}) as server:
        async with connected(server) as share:
            await share.write_file("file", b"")
            with pytest.raises(NotSupported):
                await share.set_ea("file", "name", b"value")


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 16 * MIB + 1, 40 * MIB])
@in_trio
async def test_copy(samba: SambaServer, share_path: Path, size: int) -> None:
    at = inside(share_path)
    data = os.urandom(size)
    (share_path / "source").write_bytes(data)
    samba.adopt(share_path)
    async with connected(samba) as share:
        assert await share.copy(at("source"), at("target")) == size
        assert (share_path / "target").read_bytes() == data
        assert share.statistics().requests["READ"] == 0
        with pytest.raises(AlreadyExists):
            await share.copy(at("source"), at("target"))


@in_trio
async def test_copy_over_a_file(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("short"), b"short")
        await share.write_file(at("long"), b"much longer than that")
        await share.write_file(at("target"), b"of middle size")
        for source, content in (("short", b"short"), ("long", b"much longer than that")):
            assert await share.copy(at(source), at("target"), replace=True) == len(content)
            assert await share.read_file(at("target"), 100) == content
        assert await share.copy(at("short"), at("new"), replace=True) == 5


@in_trio
async def test_copy_of_a_file_onto_itself_leaves_it_alone(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("file"), b"content")
        await share.link(at("file"), at("second"))
        for target in ("file", "FILE", "second"):
            with pytest.raises(InvalidParameter, match="which is itself"):
                await share.copy(at("file"), at(target), replace=True)
        assert await share.read_file(at("file"), 100) == b"content"


@in_trio
async def test_copies_that_cannot_be(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.mkdir(at("folder"))
        await share.write_file(at("file"), b"content")
        with pytest.raises(IsADirectory):
            await share.copy(at("folder"), at("target"))
        with pytest.raises(NotFound):
            await share.copy(at("absent"), at("target"))
        with pytest.raises(NotFound):
            await share.copy(at("file"), at("absent\\target"))
        with pytest.raises(IsADirectory):
            await share.copy(at("file"), at("folder"), replace=True)
        async with await share.open(at("file"), share_access=ShareAccess(0)):
            with pytest.raises(SharingViolation):
                await share.copy(at("file"), at("target"))
        assert {entry.name for entry in await listing(share, share_path.name)} == {"file", "folder"}


@in_trio
async def test_copy_that_fails_on_the_way_leaves_no_torso(samba: SambaServer, share_path: Path) -> None:
    """A lock in the middle of the source stops the copy there."""
    at = inside(share_path)
    async with connected(samba) as share, connected(samba) as other:
        await share.write_file(at("source"), bytes(3 * MIB))
        async with await other.open(at("source"), access=READ_WRITE) as locker:
            await locker.lock(2 * MIB, 10, exclusive=True, wait=False)
            with pytest.raises(NtStatusError, match="copy"):
                await share.copy(at("source"), at("target"))
        assert [entry.name for entry in await listing(share, share_path.name)] == ["source"]


@in_trio
async def test_copy_that_cannot_take_its_place_leaves_the_old_file(
    samba: SambaServer, share_path: Path
) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("source"), b"new")
        await share.write_file(at("target"), b"old")
        async with await share.open(at("target")):
            with pytest.raises(AccessDenied, match="rename"):
                await share.copy(at("source"), at("target"), replace=True)
        assert await share.read_file(at("target"), 10) == b"old"
        assert {entry.name for entry in await listing(share, share_path.name)} == {"source", "target"}


@pytest.mark.parametrize("replace", [False, True])
@in_trio
async def test_copy_cancelled_on_the_way_leaves_no_torso(
    samba: SambaServer, share_path: Path, replace: bool
) -> None:
    """Nobody can open what is being made; cancelled, that is gone, and a file that was there is not."""
    at = inside(share_path)
    (share_path / "source").touch()
    os.truncate(share_path / "source", 1024 * MIB)
    if replace:
        (share_path / "target").write_bytes(b"old")
    samba.adopt(share_path)
    async with connected(samba) as share:
        before = {entry.name for entry in await listing(share, share_path.name)}
        begun = trio.Event()

        async def copy() -> None:
            await share.copy(at("source"), at("target"), replace=replace, progress=lambda *_: begun.set())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(copy)
            await begun.wait()
            (half,) = {entry.name for entry in await listing(share, share_path.name)} - before
            with pytest.raises(DeletePending):
                await share.open(at(half))
            nursery.cancel_scope.cancel()
        await settle(share)
        assert {entry.name for entry in await listing(share, share_path.name)} == before
    if replace:
        assert (share_path / "target").read_bytes() == b"old"


@in_trio
async def test_free_space(samba: SambaServer) -> None:
    local = os.statvfs(samba.share_path())
    async with connected(samba) as share:
        size = await share.volume_size()
    assert size.total_units * size.bytes_per_unit == pytest.approx(local.f_blocks * local.f_frsize, rel=1e-3)
    assert 0 < size.caller_free_units <= size.free_units <= size.total_units


@in_trio
async def test_snapshots_of_a_share_that_keeps_none(samba: SambaServer) -> None:
    async with connected(samba) as share:
        with pytest.raises(NotSupported, match="list the snapshots"):
            await share.snapshots()
