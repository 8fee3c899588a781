"""Few credits, small and odd sizes, large data: everything arrives whole and nothing waits for ever."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator

import pytest
import trio

from engine import (
    ConnectConfig,
    Dialect,
    Disposition,
    InvalidParameter,
    LocalProtocolError,
    NoSpace,
    NtStatusError,
    Share,
)
from tests.integration.support_engine import (
    MIB,
    READ_WRITE,
    connected,
    fill_credits,
    in_trio,
    listing,
    make_files,
    settle,
)
from tests.support.samba import SambaServer, ShareConfig

_TASKS = 12
_ODD_READ, _ODD_WRITE, _ODD_TRANSACT = 100_003, 70_001, 131_073


async def use_everything(share: Share, task: int) -> None:
    """Every kind of request, with data larger than most limits."""
    folder = f"task{task}"
    small, big = os.urandom(100_000), os.urandom(1_500_001)
    await share.mkdir(folder)
    path = f"{folder}\\file"
    assert (await share.write_file(path, small)).size == len(small)
    assert await share.read_file(path, len(big)) == small
    async with await share.open(path, access=READ_WRITE) as file:
        assert await file.write_at(7, big) == len(big)
        assert await file.read_at(7, len(big) + 100) == big
        await file.flush()
    assert [entry.name for entry in await listing(share, folder)] == ["file"]
    await share.set_ea(path, "key", b"value" * 100)
    assert await share.list_eas(path) == {"key": b"value" * 100}
    await share.copy(path, f"{folder}\\copy")
    assert (await share.stat(f"{folder}\\copy")).size == len(big) + 7
    await share.unlink(f"{folder}\\copy")
    await share.rename(path, f"{folder}\\renamed", replace=False)
    await share.unlink(f"{folder}\\renamed")
    await share.rmdir(folder)


@pytest.mark.parametrize(
    ("dialect", "seal"),
    [
        (Dialect.SMB_2_0_2, False),
        (Dialect.SMB_2_1, False),
        (Dialect.SMB_3_1_1, False),
        (Dialect.SMB_3_1_1, True),
    ],
    ids=["2.0.2", "2.1", "3.1.1", "3.1.1-sealed"],
)
@pytest.mark.parametrize("most", [1, 2, 3, 5, 8, 20])
@in_trio
async def test_many_tasks_share_few_credits(most: int, dialect: Dialect, seal: bool) -> None:
    config = ConnectConfig(min_dialect=dialect, max_dialect=dialect, seal=seal)
    with SambaServer(global_options={"smb2 max credits": str(most)}) as server:
        async with connected(server, config=config) as share:
            async with trio.open_nursery() as nursery:
                for task in range(_TASKS if most > 2 else 3):
                    nursery.start_soon(use_everything, share, task)
            await settle(share)
            assert share.statistics().credits == most
            assert await listing(share, "") == []


@in_trio
async def test_client_may_ask_for_fewer_credits_than_the_server_has(samba: SambaServer) -> None:
    async with connected(samba, config=ConnectConfig(max_credits=20)) as share:
        assert await fill_credits(share) == 20
        await use_everything(share, 0)


@in_trio
async def test_credits_grow_to_the_server_s_limit(samba: SambaServer) -> None:
    async with connected(samba) as share:
        assert await fill_credits(share) == 8192


@pytest.fixture(scope="module")
def narrow() -> Iterator[SambaServer]:
    sizes = {f"smb2 max {what}": "65536" for what in ("read", "write", "trans")}
    with SambaServer(global_options=sizes) as server:
        yield server


@pytest.fixture(scope="module")
def odd() -> Iterator[SambaServer]:
    sizes = {
        "smb2 max read": str(_ODD_READ),
        "smb2 max write": str(_ODD_WRITE),
        "smb2 max trans": str(_ODD_TRANSACT),
    }
    with SambaServer(global_options=sizes) as server:
        yield server


@in_trio
async def test_sizes_of_64_kib(narrow: SambaServer) -> None:
    async with connected(narrow) as share:
        assert (share.max_read, share.max_write, share.description.max_transact) == (65536, 65536, 65536)
        await use_everything(share, 0)


@pytest.mark.parametrize("seal", [False, True], ids=["signed", "sealed"])
@in_trio
async def test_odd_sizes(odd: SambaServer, seal: bool) -> None:
    async with connected(odd, config=ConnectConfig(seal=seal)) as share:
        assert (share.max_read, share.max_write) == (_ODD_READ, _ODD_WRITE)
        assert share.description.max_transact == _ODD_TRANSACT
        await use_everything(share, 1)


@in_trio
async def test_client_may_ask_for_smaller_pieces(samba: SambaServer) -> None:
    config = ConnectConfig(max_read=65_537, max_write=4_097)
    async with connected(samba, config=config) as share:
        assert (share.max_read, share.max_write) == (65_537, 4_097)
        async with await share.open("pieces", access=READ_WRITE, disposition=Disposition.CREATE) as file:
            data = os.urandom(200_000)
            await file.write_at(0, data)
            assert await file.read_at(0, 300_000) == data
        requests = share.statistics().requests
        assert requests["WRITE"] == -(-200_000 // 4_097)
        assert requests["READ"] >= -(-200_000 // 65_537)
        await share.unlink("pieces")


@in_trio
async def test_listing_of_thousands_in_64_kib_replies(narrow: SambaServer) -> None:
    folder = narrow.share_path() / "many"
    folder.mkdir()
    make_files(folder, [f"entry-{number:05}" for number in range(2_000)])
    async with connected(narrow) as share:
        names = [entry.name for entry in await listing(share, "many")]
    assert sorted(names) == [f"entry-{number:05}" for number in range(2_000)]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, MIB - 1, 8 * MIB, 8 * MIB + 1, 20 * MIB])
@pytest.mark.parametrize("seal", [False, True], ids=["signed", "sealed"])
@in_trio
async def test_one_read_and_one_write_of_any_size(samba: SambaServer, size: int, seal: bool) -> None:
    data = random.Random(size).randbytes(size)
    async with connected(samba, config=ConnectConfig(seal=seal)) as share:
        path = f"size-{size}-{seal}"
        async with await share.open(path, access=READ_WRITE, disposition=Disposition.CREATE) as file:
            assert await file.write_at(0, data) == size
            assert await file.read_at(0, size + 1000) == data
            assert not await file.read_at(size, 10)
        assert (samba.share_path() / path).read_bytes() == data
        await share.unlink(path)


@in_trio
async def test_buffers_handed_out_stay_as_they_are(samba: SambaServer) -> None:
    """A view is kept while many more replies come in: its memory must not be used again."""
    data = os.urandom(4 * MIB)
    async with connected(samba) as share:
        await share.write_file("kept", data)
        async with await share.open("kept") as file:
            first = await file.read_at(0, MIB)
            views = [await file.read_at(start, MIB) for start in range(0, 4 * MIB, MIB) for _ in range(5)]
            assert first == data[:MIB]
            assert all(view == data[i // 5 * MIB :][:MIB] for i, view in enumerate(views))
        await share.unlink("kept")


@in_trio
async def test_256_mib_there_and_back(samba: SambaServer) -> None:
    piece, count = 8 * MIB, 32
    sent = [hashlib.blake2b() for _ in range(count)]
    received = [b""] * count

    async with connected(samba) as share:

        async def write(indices: Iterator[int]) -> None:
            for index in indices:
                data = os.urandom(piece)
                sent[index].update(data)
                await file.write_at(index * piece, data)

        async def read(indices: Iterator[int]) -> None:
            for index in indices:
                received[index] = hashlib.blake2b(await file.read_at(index * piece, piece)).digest()

        async with await share.open("large", access=READ_WRITE, disposition=Disposition.CREATE) as file:
            for work in (write, read):
                indices = iter(range(count))
                async with trio.open_nursery() as nursery:
                    for _ in range(4):
                        nursery.start_soon(work, indices)
            assert (await file.query()).size == piece * count
        assert received == [one.digest() for one in sent]
        local = samba.share_path() / "large"
        with local.open("rb") as opened:
            assert [hashlib.blake2b(opened.read(piece)).digest() for _ in range(count)] == received
        await share.unlink("large")


@in_trio
async def test_beyond_4_gib_in_a_sparse_file(samba: SambaServer) -> None:
    offsets = (5, (1 << 31) - 3, (1 << 32) - 3, (1 << 32) + 1000, (1 << 40) + 5)
    async with connected(samba) as share:
        async with await share.open("sparse", access=READ_WRITE, disposition=Disposition.CREATE) as file:
            for offset in offsets:
                await file.write_at(offset, offset.to_bytes(8, "big"))
            for offset in offsets:
                assert await file.read_at(offset, 8) == offset.to_bytes(8, "big")
            assert await file.read_at(1 << 33, 1000) == bytes(1000)
            assert (await file.query()).size == offsets[-1] + 8
            await file.truncate(1 << 34)
            assert (await file.query()).size == 1 << 34
        assert (await share.stat("sparse")).size == 1 << 34
        await share.unlink("sparse")


@in_trio
async def test_offsets_at_the_end_of_the_number_range(samba: SambaServer) -> None:
    top = (1 << 63) - 1
    async with connected(samba) as share:
        credits = await fill_credits(share)
        async with await share.open("edge", access=READ_WRITE, disposition=Disposition.CREATE) as file:
            assert not await file.read_at(top - 100, 100)
            for offset in (top, top + 1, (1 << 64) - 1):
                with pytest.raises(InvalidParameter):
                    await file.read_at(offset, 10)
                with pytest.raises(InvalidParameter):
                    await file.write_at(offset, b"0123456789")
            for offset in (-1, 1 << 64):
                with pytest.raises(LocalProtocolError, match="out of range"):
                    await file.read_at(offset, 10)
                with pytest.raises(LocalProtocolError, match="out of range"):
                    await file.write_at(offset, b"0123456789")
            with pytest.raises(NoSpace):
                await file.truncate(top)
            with pytest.raises(NtStatusError):
                await file.truncate(-1)
            assert (await file.query()).size == 0
        await share.unlink("edge")
        await settle(share)
        assert share.statistics().credits == credits


@in_trio
async def test_request_that_cannot_be_encoded_costs_nothing(samba: SambaServer) -> None:
    async with connected(samba) as share:
        credits = await fill_credits(share)
        for _ in range(20):
            with pytest.raises(LocalProtocolError, match="too long"):
                await share.stat("x" * 40_000)
        statistics = share.statistics()
        assert (statistics.credits, statistics.in_flight) == (credits, 0)
        await share.stat("")


@in_trio
async def test_a_thousand_tasks_at_once() -> None:
    with SambaServer({"data": ShareConfig()}) as server:
        async with connected(server) as share:

            async def one(number: int) -> None:
                data = number.to_bytes(4, "big")
                await share.write_file(f"n{number}", data)
                assert await share.read_file(f"n{number}", 10) == data
                await share.unlink(f"n{number}")

            async with trio.open_nursery() as nursery:
                for number in range(1_000):
                    nursery.start_soon(one, number)
            assert await listing(share, "") == []
