"""Requests as values, several in one round trip: related to each other, and not."""

from __future__ import annotations

from pathlib import Path

import pytest

import engine
from engine import (
    RELATED,
    Access,
    Close,
    ConnectConfig,
    Create,
    CreateOptions,
    CreateResponse,
    Dialect,
    Disposition,
    EndOfFile,
    FileAllInformation,
    FileBasicInformation,
    FileEndOfFileInformation,
    FileFsFullSizeInformation,
    FileStandardInformation,
    Flush,
    FsctlCode,
    Ioctl,
    LocalProtocolError,
    NotFound,
    NotSupported,
    QueryInfo,
    Read,
    SetInfo,
    Write,
)
from tests.integration.support_engine import (
    READ_WRITE,
    assert_nothing_left,
    connected,
    fill_credits,
    in_trio,
    inside,
    listing,
    settle,
    trips,
)
from tests.support.samba import SambaServer

DIALECTS = [Dialect.SMB_2_0_2, Dialect.SMB_2_1, Dialect.SMB_3_0, Dialect.SMB_3_1_1]


def only(dialect: Dialect, *, seal: bool = False) -> ConnectConfig:
    return ConnectConfig(min_dialect=dialect, max_dialect=dialect, seal=seal)


@pytest.mark.parametrize("dialect", DIALECTS)
@in_trio
async def test_a_chain(samba: SambaServer, share_path: Path, dialect: Dialect) -> None:
    path = inside(share_path)("file")
    async with connected(samba, config=only(dialect)) as share:
        async with trips(share) as made:
            opened, count, _, info, closed = await share.compound(
                Create(path, READ_WRITE, Disposition.CREATE),
                Write(RELATED, 2, b"content"),
                Flush(RELATED),
                QueryInfo(RELATED, FileStandardInformation),
                Close(RELATED, telling=True),
            )
        assert made == {"CREATE+WRITE+FLUSH+QUERY_INFO+CLOSE": 1}
        assert (opened.end_of_file, count, info.end_of_file, closed.end_of_file) == (0, 7, 9, 9)
        opened, data, _ = await share.compound(Create(path), Read(RELATED, 0, 100), Close(RELATED))
        assert (opened.end_of_file, bytes(data)) == (9, b"\0\0content")


@in_trio
async def test_what_chains_are_made_of(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        await share.write_file(path, b"content")
        _, size, everything, _ = await share.compound(
            Create(path, Access.READ_ATTRIBUTES),
            QueryInfo(RELATED, FileFsFullSizeInformation),
            QueryInfo(RELATED, FileAllInformation),
            Close(RELATED),
        )
        assert size.bytes_per_sector
        assert everything.end_of_file == 7
        async with await share.open(path, access=READ_WRITE) as file:
            _, info, ranges = await share.compound(
                SetInfo(file.file_id, FileEndOfFileInformation(3)),
                QueryInfo(file.file_id, FileBasicInformation),
                Ioctl(file.file_id, FsctlCode.QUERY_ALLOCATED_RANGES, bytes(8) + (100).to_bytes(8, "little")),
            )
            assert info.last_write_time
            assert len(ranges) == 16
        assert (share_path / "file").read_bytes() == b"con"


@in_trio
async def test_a_chain_that_breaks_says_where_and_what_came_before(
    samba: SambaServer, share_path: Path
) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("file"), b"content")
        credits = await fill_credits(share)
        with pytest.raises(EndOfFile, match="peek") as caught:
            await share.compound(Create(at("file")), Read(RELATED, 100, 10), Close(RELATED), what="peek")
        assert caught.value.index == 1
        (opened,) = caught.value.replies
        assert isinstance(opened, CreateResponse)
        assert opened.end_of_file == 7
        with pytest.raises(EndOfFile):
            await share.compound(Create(at("file")), Read(RELATED, 100, 10))
        with pytest.raises(NotFound) as absent:
            await share.compound(Create(at("absent")), Read(RELATED, 0, 10), Close(RELATED))
        assert (absent.value.index, absent.value.replies) == (0, ())
        await assert_nothing_left(share, samba, credits)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("seal", [False, True])
@in_trio
async def test_requests_that_have_nothing_to_do_with_each_other(
    samba: SambaServer, share_path: Path, dialect: Dialect, seal: bool
) -> None:
    if seal and dialect < Dialect.SMB_3_0:
        return
    at = inside(share_path)
    async with connected(samba, config=only(dialect, seal=seal)) as share:
        await share.write_file(at("first"), b"1")
        await share.write_file(at("third"), b"333")
        await settle(share)
        async with trips(share) as made:
            first, second, third = await share.compound(
                *(Create(at(name), Access.READ) for name in ("first", "second", "third")), related=False
            )
        assert made == {"CREATE+CREATE+CREATE": 1}
        assert isinstance(second, NotFound)
        assert second.index == 1
        assert isinstance(first, CreateResponse)
        assert isinstance(third, CreateResponse)
        reads = [Read(opened.file_id, 0, 10) for opened in (first, third)]
        end = Read(first.file_id, 5, 10)
        one, three, nothing = await share.compound(*reads, end, related=False)
        assert isinstance(one, memoryview)
        assert isinstance(three, memoryview)
        assert (bytes(one), bytes(three)) == (b"1", b"333")
        assert isinstance(nothing, EndOfFile)
        assert nothing.index == 2
        closes = await share.compound(Close(first.file_id), Close(third.file_id), related=False)
        assert not any(isinstance(closed, engine.NtStatusError) for closed in closes)
        await assert_nothing_left(share, samba, await fill_credits(share))


@in_trio
async def test_more_of_them_than_the_server_takes_at_once(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    config = ConnectConfig(max_credits=8)
    folder = CreateOptions.DIRECTORY_FILE
    async with connected(samba, config=config) as share:
        wanted = [
            Create(at(f"{number:02}"), Access.READ_ATTRIBUTES, Disposition.CREATE, folder)
            for number in range(30)
        ]
        opened = await share.compound(*wanted, related=False)
        handles = [answer.file_id for answer in opened if isinstance(answer, CreateResponse)]
        assert len(handles) == 30
        await share.compound(*map(Close, handles), related=False)
        assert sorted(entry.name for entry in await listing(share, share_path.name)) == [
            f"{n:02}" for n in range(30)
        ]
        await settle(share)


@in_trio
async def test_controls_without_a_file_in_a_compound(samba: SambaServer) -> None:
    async with connected(samba) as share:
        interfaces, unknown = await share.compound(
            Ioctl(RELATED, FsctlCode.QUERY_NETWORK_INTERFACE_INFO),
            Ioctl(RELATED, FsctlCode.PIPE_WAIT),
            related=False,
        )
        assert isinstance(interfaces, memoryview)
        assert isinstance(unknown, NotSupported)


@in_trio
async def test_what_makes_no_sense_is_not_sent(samba: SambaServer) -> None:
    async with connected(samba) as share:
        async with trips(share) as made:
            with pytest.raises(LocalProtocolError, match="RELATED"):
                await share.compound(Close(RELATED), Create(""))
            with pytest.raises(LocalProtocolError, match="RELATED"):
                await share.compound(Create(""), Close(RELATED), related=False)
            assert await share.compound() == ()
            assert await share.compound(related=False) == []
        assert not made
