"""Open files: dispositions, data, times, holes, locks, deletion, and which error each refusal is."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from engine import (
    Access,
    AccessDenied,
    AlreadyExists,
    CannotDelete,
    CreateOptions,
    DeletePending,
    Disposition,
    File,
    FileAttributes,
    FileClosed,
    IsADirectory,
    NotADirectory,
    NotFound,
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
from tests.support.samba import SambaServer

_NS = 10**9
_EPOCH_1601 = -11_644_473_600 * _NS


async def got(file: File, offset: int, length: int) -> bytes:
    return bytes(await file.read_at(offset, length))


@pytest.mark.parametrize(
    ("disposition", "exists", "absent"),
    [
        (Disposition.SUPERSEDE, b"", b""),
        (Disposition.OPEN, b"old", NotFound),
        (Disposition.CREATE, AlreadyExists, b""),
        (Disposition.OPEN_IF, b"old", b""),
        (Disposition.OVERWRITE, b"", NotFound),
        (Disposition.OVERWRITE_IF, b"", b""),
    ],
    ids=lambda value: value.name if isinstance(value, Disposition) else None,
)
@in_trio
async def test_dispositions(
    samba: SambaServer,
    share_path: Path,
    disposition: Disposition,
    exists: bytes | type[NtStatusError],
    absent: bytes | type[NtStatusError],
) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("there"), b"old")
        for name, existed, outcome in (("there", True, exists), ("absent", False, absent)):
            if not isinstance(outcome, bytes):
                with pytest.raises(outcome):
                    await share.open(at(name), access=READ_WRITE, disposition=disposition)
                continue
            async with await share.open(at(name), access=READ_WRITE, disposition=disposition) as file:
                assert file.existed is existed
                assert file.stat.size == len(outcome)
                assert await got(file, 0, 100) == outcome


@in_trio
async def test_stat_agrees_with_the_server_s_disk(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("file"), bytes(100_000))
        local = await trio.Path(share_path / "file").stat()
        stat = await share.stat(at("file"))
        assert (stat.file_id, stat.size, stat.number_of_links) == (local.st_ino, 100_000, 1)
        assert stat.allocation_size == local.st_blocks * 512
        assert stat.write_ns == local.st_mtime_ns // 100 * 100
        assert not stat.is_directory
        folder = await share.stat(share_path.name)
        assert folder.is_directory
        assert folder.file_id == (await trio.Path(share_path).stat()).st_ino


@in_trio
async def test_missing_names_and_missing_folders(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("file"), b"")
        for path in ("nothing", "nothing\\below", "file\\below"):
            with pytest.raises(NotFound):
                await share.stat(at(path))
            with pytest.raises(NotFound):
                await share.open(at(path))
            with pytest.raises(NotFound):
                await share.unlink(at(path))
            with pytest.raises(NotFound):
                await share.set_basic(at(path), write_ns=0)
            with pytest.raises(NotFound):
                await share.truncate(at(path), 0)


@in_trio
async def test_folder_where_a_file_is_wanted_and_the_other_way_round(
    samba: SambaServer, share_path: Path
) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.mkdir(at("folder"))
        await share.write_file(at("file"), b"")
        with pytest.raises(IsADirectory):
            await share.open(at("folder"), options=CreateOptions.NON_DIRECTORY_FILE)
        with pytest.raises(NotADirectory):
            await share.open(at("file"), options=CreateOptions.DIRECTORY_FILE)
        for refused in (share.truncate(at("folder"), 0), share.read_file(at("folder"), 10)):
            with pytest.raises(IsADirectory):
                await refused
        with pytest.raises(IsADirectory):
            await share.unlink(at("folder"))
        with pytest.raises(NotADirectory):
            await share.rmdir(at("file"))


@in_trio
async def test_rights_are_asked_for(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        await share.write_file(path, b"content")
        async with await share.open(path, access=Access.READ) as file:
            with pytest.raises(AccessDenied):
                await file.write_at(0, b"x")
            with pytest.raises(AccessDenied):
                await file.delete()
        async with await share.open(path, access=Access.WRITE) as file:
            with pytest.raises(AccessDenied):
                await file.read_at(0, 1)
        assert await share.read_file(path, 10) == b"content"


@in_trio
async def test_file_of_somebody_else(samba: SambaServer, share_path: Path) -> None:
    (share_path / "private").write_bytes(b"secret")
    (share_path / "private").chmod(0o600)
    path = inside(share_path)("private")
    async with connected(samba) as share:
        for refused in (
            share.open(path),
            share.open(path, access=READ_WRITE),
            share.truncate(path, 0),
            share.read_file(path, 10),
        ):
            with pytest.raises(AccessDenied):
                await refused
        assert (await share.stat(path)).size == 6
        await share.rename(path, inside(share_path)("mine"), replace=False)
        await share.unlink(inside(share_path)("mine"))


@in_trio
async def test_closed_file(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        file = await share.open(path, access=READ_WRITE, disposition=Disposition.CREATE)
        await file.close()
        for late in (file.read_at(0, 1), file.write_at(0, b"x"), file.flush(), file.query()):
            with pytest.raises(FileClosed):
                await late
        await file.close()


@in_trio
async def test_writes_change_what_others_read(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with (
        connected(samba) as share,
        connected(samba) as other,
        await share.open(path, access=READ_WRITE, disposition=Disposition.CREATE) as file,
    ):
        await file.write_at(10, b"after a hole")
        async with await other.open(path) as reader:
            assert await got(reader, 0, 100) == bytes(10) + b"after a hole"
            await file.write_at(0, b"0123456789")
            assert await got(reader, 5, 7) == b"56789af"
            await file.truncate(3)
            assert await got(reader, 0, 100) == b"012"
            assert await got(reader, 3, 100) == b""
            await file.truncate(5)
            assert await got(reader, 0, 100) == b"012\0\0"


@in_trio
async def test_whole_files_in_one_call(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        stat = await share.write_file(at("file"), b"first")
        assert stat == await share.stat(at("file"))
        with pytest.raises(AlreadyExists):
            await share.write_file(at("file"), b"second")
        assert await share.read_file(at("file"), 100) == b"first"
        assert await share.read_file(at("file"), 3) == b"fir"
        await share.write_file(at("file"), b"2nd", disposition=Disposition.OVERWRITE)
        assert await share.read_file(at("file"), 100) == b"2nd"
        with pytest.raises(NotFound):
            await share.write_file(at("absent"), b"", disposition=Disposition.OVERWRITE)
        await share.write_file(at("empty"), b"")
        assert await share.read_file(at("empty"), 100) == b""


@in_trio
async def test_whole_files_larger_than_one_request(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        data = bytes(range(256)) * (share.max_write // 256 + 1)
        assert (await share.write_file(path, data)).size == len(data)
        assert await share.read_file(path, len(data) + 1) == data


@pytest.mark.parametrize(
    "ns", [0, 100, -100, 1_234_567_890_123_456_700, 4_354_819_200 * _NS, -(_NS * 10**9), _EPOCH_1601 + 100]
)
@in_trio
async def test_times_that_a_server_can_keep(samba: SambaServer, share_path: Path, ns: int) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        await share.write_file(path, b"")
        await share.set_basic(path, creation_ns=ns)
        assert (await share.stat(path)).creation_ns == ns
        if ns <= _EPOCH_1601 + 100:
            return
        await share.set_basic(path, write_ns=ns, access_ns=ns + 700)
        stat = await share.stat(path)
        assert (stat.write_ns, stat.access_ns, stat.creation_ns) == (ns, ns + 700, ns)


@pytest.mark.parametrize("ns", [_EPOCH_1601, _EPOCH_1601 - 1, -(10**25), 2**63 * 100, 10**25])
@in_trio
async def test_times_beyond_all_clocks(samba: SambaServer, share_path: Path, ns: int) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        before = await share.write_file(path, b"x")
        await share.set_basic(path, write_ns=ns, access_ns=ns, creation_ns=ns, change_ns=ns)
        stat = await share.stat(path)
        assert stat.write_ns != before.write_ns
        assert (stat.write_ns < 0) == (ns < 0)


@in_trio
async def test_setting_one_thing_leaves_the_others(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        await share.write_file(path, b"x")
        await share.set_basic(path, write_ns=10**18, access_ns=11 * 10**17, creation_ns=9 * 10**17)
        await share.set_basic(path, attributes=FileAttributes.HIDDEN | FileAttributes.ARCHIVE)
        await share.set_basic(path, access_ns=12 * 10**17)
        stat = await share.stat(path)
        assert (stat.write_ns, stat.access_ns, stat.creation_ns) == (10**18, 12 * 10**17, 9 * 10**17)
        assert stat.attributes == FileAttributes.HIDDEN | FileAttributes.ARCHIVE
        async with await share.open(path, access=READ_WRITE) as file:
            await file.set_basic(write_ns=13 * 10**17, attributes=FileAttributes.NORMAL)
            stat = await file.query()
        assert (stat.write_ns, stat.access_ns) == (13 * 10**17, 12 * 10**17)
        assert not stat.attributes & FileAttributes.HIDDEN


@in_trio
async def test_times_of_a_folder(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("folder")
    async with connected(samba) as share:
        await share.mkdir(path)
        await share.set_basic(path, write_ns=10**18)
        assert (await share.stat(path)).write_ns == 10**18


@in_trio
async def test_holes(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("sparse")
    async with (
        connected(samba) as share,
        await share.open(path, access=READ_WRITE, disposition=Disposition.CREATE) as file,
    ):
        await file.set_sparse()
        assert (await file.query()).attributes & FileAttributes.SPARSE_FILE
        assert await file.allocated_ranges(0, MIB) == []
        await file.write_at(MIB, b"x" * 65536)
        await file.write_at(4 * MIB, b"x" * 65536)
        both = [(MIB, 65536), (4 * MIB, 65536)]
        assert await file.allocated_ranges(0, 10 * MIB) == both
        assert await file.allocated_ranges(2 * MIB, 10 * MIB) == both[1:]
        assert await file.allocated_ranges(0, 0) == []
        await file.zero(MIB, 65536)
        assert await file.allocated_ranges(0, 10 * MIB) == both[1:]
        await file.zero(4 * MIB + 100, 50)
        assert await got(file, 4 * MIB, 200) == b"x" * 100 + bytes(50) + b"x" * 50
        assert (await file.query()).size == 4 * MIB + 65536


@in_trio
async def test_so_many_ranges_that_they_come_in_parts(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("combed")
    count = 5_000
    with (share_path / "combed").open("wb") as local:
        for index in range(count):
            local.seek(index * 8192)
            local.write(b"x")
    samba.adopt(share_path)
    async with connected(samba) as share, await share.open(path, access=READ_WRITE) as file:
        await file.set_sparse()
        ranges = await file.allocated_ranges(0, count * 8192)
    assert [start for start, _ in ranges] == [index * 8192 for index in range(count)]


@in_trio
async def test_share_modes(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share, connected(samba) as other:
        await share.write_file(at("file"), b"content")
        async with await share.open(at("file"), share_access=ShareAccess(0)):
            for refused in (
                other.open(at("file")),
                other.unlink(at("file")),
                other.truncate(at("file"), 0),
                other.rename(at("file"), at("renamed"), replace=False),
                share.open(at("file")),
            ):
                with pytest.raises(SharingViolation):
                    await refused
            assert (await other.stat(at("file"))).size == 7
        await other.unlink(at("file"))


@in_trio
async def test_file_deleted_while_open_lives_until_it_is_closed(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share, connected(samba) as other:
        await share.write_file(at("file"), b"content")
        async with await share.open(at("file")) as file:
            await other.unlink(at("file"))
            assert await got(file, 0, 100) == b"content"
            with pytest.raises(DeletePending):
                await other.stat(at("file"))
            with pytest.raises(DeletePending):
                await other.open(at("file"))
            with pytest.raises((DeletePending, AlreadyExists)):
                await other.write_file(at("file"), b"new")
        await other.write_file(at("file"), b"new")


@in_trio
async def test_file_put_aside_frees_its_name_at_once(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share, connected(samba) as other:
        await share.write_file(at("file"), b"content")
        async with await share.open(at("file")) as file:
            await other.unlink(at("file"), aside=at(".aside"))
            with pytest.raises(NotFound):
                await other.stat(at("file"))
            await other.write_file(at("file"), b"new")
            assert await got(file, 0, 100) == b"content"
        await settle(share)
        assert [entry.name for entry in await listing(other, share_path.name)] == ["file"]
        assert await other.read_file(at("file"), 100) == b"new"


@in_trio
async def test_aside_name_that_is_taken_deletes_nothing(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("file"), b"content")
        await share.write_file(at("taken"), b"other")
        with pytest.raises(AlreadyExists):
            await share.unlink(at("file"), aside=at("taken"))
        assert await share.read_file(at("taken"), 100) == b"other"


@in_trio
async def test_read_only_files(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("file"), b"content")
        await share.set_basic(at("file"), attributes=FileAttributes.READONLY)
        with pytest.raises(AccessDenied):
            await share.open(at("file"), access=READ_WRITE)
        with pytest.raises(CannotDelete):
            await share.unlink(at("file"))
        assert await share.read_file(at("file"), 10) == b"content"
        await share.unlink(at("file"), clear_readonly=True)
        with pytest.raises(NotFound):
            await share.stat(at("file"))


@in_trio
async def test_deleting_through_an_open_file(samba: SambaServer, share_path: Path) -> None:
    path = inside(share_path)("file")
    async with connected(samba) as share:
        access = READ_WRITE | Access.DELETE
        async with await share.open(path, access=access, disposition=Disposition.CREATE) as file:
            await file.delete()
            with pytest.raises(DeletePending):
                await share.stat(path)
        with pytest.raises(NotFound):
            await share.stat(path)
        async with await share.open(
            path, access=access, disposition=Disposition.CREATE, options=CreateOptions.DELETE_ON_CLOSE
        ):
            await share.stat(path)
        with pytest.raises(NotFound):
            await share.stat(path)


@in_trio
async def test_renaming_an_open_file(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        access = READ_WRITE | Access.DELETE
        async with await share.open(at("old"), access=access, disposition=Disposition.CREATE) as file:
            await file.write_at(0, b"content")
            await file.rename(at("new"), replace=False)
            assert file.path == at("new")
            assert await got(file, 0, 10) == b"content"
            await share.write_file(at("taken"), b"")
            with pytest.raises(AlreadyExists):
                await file.rename(at("taken"), replace=False)
            assert file.path == at("new")
        assert await share.read_file(at("new"), 10) == b"content"
