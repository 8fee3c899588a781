"""The budget of round trips, one test per method: each counts frames, also those of the background."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import Disposition, FileAttributes, FileStat, NotFound, SmbError
from tests.integration.support_engine import (
    MIB,
    READ_WRITE,
    connected,
    in_trio,
    inside,
    listing,
    settle,
    told_at_close,
    trips,
)
from tests.support.samba import SambaServer


@in_trio
async def test_stat(samba: SambaServer, share_path: Path) -> None:
    async with connected(samba) as share:
        for path in ("", share_path.name):
            async with trips(share) as made:
                await share.stat(path)
            assert made == {"CREATE+QUERY_INFO+CLOSE": 1}


@in_trio
async def test_stat_of_what_is_not_there(samba: SambaServer, share_path: Path) -> None:
    async with connected(samba) as share:
        async with trips(share) as made:
            with pytest.raises(NotFound):
                await share.stat(inside(share_path)("nothing"))
        assert made == {"CREATE+QUERY_INFO+CLOSE": 1}


@in_trio
async def test_open_tells_the_attributes(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        async with trips(share) as made:
            file = await share.open(path, access=READ_WRITE, disposition=Disposition.CREATE)
            assert file.stat.size == 0
        assert made == {"CREATE+QUERY_INFO": 1}
        async with trips(share) as made:
            await file.close()
            await file.close()
        assert made == {"CLOSE": 1}


@in_trio
async def test_folders(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.stat(share_path.name)
        async with trips(share) as made:
            stat = await share.mkdir(at("folder"))
        assert made == {"CREATE+CLOSE": 1}
        assert stat.file_id == (share_path / "folder").stat().st_ino
        async with trips(share) as made:
            await share.rename(at("folder"), at("other"), replace=False)
        assert made == {"CREATE+SET_INFO+CLOSE": 1}
        async with trips(share) as made:
            await share.rmdir(at("other"))
        assert made == {"CREATE+SET_INFO+CLOSE": 1}


@in_trio
async def test_changes_by_path(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    (share_path / "file").write_bytes(b"content")
    samba.adopt(share_path)
    async with connected(samba) as share:
        async with trips(share) as made:
            await share.truncate(at("file"), 3)
            await share.set_basic(at("file"), write_ns=10**18, attributes=FileAttributes.HIDDEN)
            await share.link(at("file"), at("second"))
            await share.set_ea(at("file"), "key", b"value")
            await share.unlink(at("second"))
        assert made == {"CREATE+SET_INFO+CLOSE": 5}
        async with trips(share) as made:
            await share.unlink(at("file"), aside=at("aside"), clear_readonly=True)
        assert made == {"CREATE+SET_INFO+SET_INFO+SET_INFO+CLOSE": 1}
        assert await listing(share, share_path.name) == []


@in_trio
async def test_extended_attributes_and_room(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        await share.write_file(path, b"")
        async with trips(share) as made:
            await share.list_eas(path)
            with pytest.raises(KeyError):
                await share.get_ea(path, "key")
            await share.volume_size()
        assert made == {"CREATE+QUERY_INFO+CLOSE": 3}


@in_trio
async def test_whole_small_files(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        async with trips(share) as made:
            await share.write_file(path, bytes(MIB))
        assert made == {"CREATE+QUERY_INFO+WRITE+CLOSE": 1}
        async with trips(share) as made:
            assert len(await share.read_file(path, 2 * MIB)) == MIB
        assert made == {"CREATE+READ+CLOSE": 1}


@in_trio
async def test_open_file(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        file = await share.open(path, access=READ_WRITE, disposition=Disposition.CREATE)
        async with trips(share) as made:
            await file.write_at(0, bytes(share.max_write))
        assert made == {"WRITE": 1}
        async with trips(share) as made:
            await file.read_at(0, share.max_read)
        assert made == {"READ": 1}
        async with trips(share) as made:
            await file.read_at(share.max_read, 100)
        assert made == {"READ": 1}
        async with trips(share) as made:
            await file.query()
            await file.flush()
            await file.truncate(5)
            await file.set_basic(write_ns=10**18)
            await file.lock(0, 1, exclusive=True, wait=False)
            await file.unlock(0, 1)
            await file.allocated_ranges(0, 100)
        assert made == {"QUERY_INFO": 1, "FLUSH": 1, "SET_INFO": 2, "LOCK": 2, "IOCTL": 1}
        async with trips(share) as made:
            assert (await file.close_and_stat()).size == 5
        assert made == {"QUERY_INFO+CLOSE": 1}


@in_trio
async def test_who_needs_no_details_spares_the_server_the_question(
    samba: SambaServer, share_path: Path
) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        await share.stat(share_path.name)
        async with trips(share) as made:
            file = await share.open(path, access=READ_WRITE, disposition=Disposition.CREATE, details=False)
        assert made == {"CREATE": 1}
        await file.write_at(0, b"content")
        async with trips(share) as made:
            told = await told_at_close(file)
        assert made == {"CLOSE": 1}
        assert told is not None
        assert (told.size, told.file_id) == (7, (share_path / "file").stat().st_ino)
        async with trips(share) as made:
            await (await share.open(path, read=4096, details=False)).close()
            await share.stat(path, details=False)
        assert made == {"CREATE+READ": 1, "CLOSE": 1, "CREATE+CLOSE": 1}
        file = await share.open(path, access=READ_WRITE, details=False)
        await file.write_at(0, b"longer content")
        async with trips(share) as made:
            told = await file.set_basic_and_close(access_ns=10**18, write_ns=10**18, details=False)
        assert made == {"SET_INFO+CLOSE": 1}
        assert told is not None
        assert (told.size, told.write_ns) == (14, 10**18)
        assert (await share.stat(path)).write_ns == 10**18


@in_trio
async def test_times_that_nobody_waits_for_share_the_round_trip_of_the_close(
    samba: SambaServer, share_path: Path
) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        file = await share.open(path, access=READ_WRITE, disposition=Disposition.CREATE)
        await file.write_at(0, b"content")
        told: list[tuple[FileStat | None, SmbError | None]] = []
        async with trips(share) as made:
            file.set_times_and_close(lambda *what: told.append(what), write_ns=10**18, details=False)
            assert told == []
            await settle(share)
        assert made["SET_INFO+CLOSE"] == 1
        ((stat, error),) = told
        assert error is None
        assert stat is not None
        assert (stat.size, stat.write_ns) == (7, 10**18)
        assert (await share.stat(path)).write_ns == 10**18


@in_trio
async def test_several_pieces_are_no_more_requests_than_needed(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        size = 3 * share.max_write + 1
        async with await share.open(path, access=READ_WRITE, disposition=Disposition.CREATE) as file:
            async with trips(share) as made:
                await file.write_at(0, bytes(size))
            assert made == {"WRITE": 4}
            async with trips(share) as made:
                assert len(await file.read_at(0, size)) == size
            assert made == {"READ": 4}


@in_trio
async def test_small_listing(samba: SambaServer, share_path: Path) -> None:
    (share_path / "one").touch()
    async with connected(samba) as share:
        async with trips(share) as made:
            assert len(await listing(share, share_path.name)) == 1
        # Nobody waits for the CLOSE.
        assert made == {"CREATE+QUERY_DIRECTORY+QUERY_DIRECTORY": 1, "CLOSE": 1}


@in_trio
async def test_copy_on_the_server(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("source"), bytes(5 * MIB))
        async with trips(share) as made:
            await share.copy(at("source"), at("target"))
        assert made == {
            "CREATE+QUERY_INFO": 1,
            "CREATE+SET_INFO": 1,
            "IOCTL": 2,
            "SET_INFO+CLOSE": 1,
            "CLOSE": 1,
        }


@in_trio
async def test_a_large_copy_keeps_several_requests_under_way(samba: SambaServer, share_path: Path) -> None:
    """1,024 chunks of 1 MiB, 16 in a request, four requests at a time: 16 times there and back, not 1,024."""
    at = inside(share_path)
    (share_path / "source").touch()
    os.truncate(share_path / "source", 1024 * MIB)
    samba.adopt(share_path)
    async with connected(samba) as share:
        in_flight: set[int] = set()
        async with trips(share) as made:
            copied = await share.copy(
                at("source"), at("target"), progress=lambda *_: in_flight.add(share.statistics().in_flight)
            )
        assert copied == 1024 * MIB
        assert made["IOCTL"] == 1 + 1024 // 16
        # Looked at when one has just been answered.
        assert max(in_flight) == 3
    assert (share_path / "target").stat().st_size == 1024 * MIB
    (share_path / "target").unlink()


@in_trio
async def test_connecting(samba: SambaServer) -> None:
    async with connected(samba) as share:
        await share.echo()
        made = share.statistics().trips
    assert made == {"NEGOTIATE": 1, "SESSION_SETUP": 2, "TREE_CONNECT": 1, "ECHO": 1}
