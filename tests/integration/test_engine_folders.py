"""Folders, listings, renames, links, names of every kind."""

from __future__ import annotations

import errno
from contextlib import aclosing
from pathlib import Path

import pytest

from engine import (
    AccessDenied,
    AlreadyExists,
    DirectoryNotEmpty,
    FileAttributes,
    IsADirectory,
    NameInvalid,
    NotADirectory,
    NotFound,
    NtStatusError,
)
from tests.integration.support_engine import (
    READ_WRITE,
    connected,
    in_trio,
    inside,
    listing,
    make_files,
    trips,
)
from tests.support.samba import SambaServer

_MANY = 10_000


@pytest.fixture(scope="module")
def crowd(samba: SambaServer) -> Path:
    """A folder of 10,000 files that no test changes."""
    folder = samba.share_path() / "crowd"
    folder.mkdir()
    make_files(folder, [f"file-{number:05}" for number in range(_MANY)])
    return folder


@in_trio
async def test_making_and_removing_folders(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        stat = await share.mkdir(at("folder"))
        assert stat.is_directory
        assert stat.file_id == (await share.stat(at("folder"))).file_id
        for taken in ("folder", "FOLDER"):
            with pytest.raises(AlreadyExists):
                await share.mkdir(at(taken))
        with pytest.raises(NotFound):
            await share.mkdir(at("absent\\below"))
        await share.write_file(at("folder\\file"), b"")
        with pytest.raises(AlreadyExists):
            await share.mkdir(at("folder\\file"))
        with pytest.raises(DirectoryNotEmpty):
            await share.rmdir(at("folder"))
        await share.unlink(at("folder\\file"))
        await share.rmdir(at("folder"))
        with pytest.raises(NotFound):
            await share.rmdir(at("folder"))


@in_trio
async def test_folder_of_somebody_else(samba: SambaServer, share_path: Path) -> None:
    (share_path / "closed").mkdir(mode=0o755)
    (share_path / "closed" / "file").touch()
    at = inside(share_path)
    async with connected(samba) as share:
        for refused in (
            share.mkdir(at("closed\\new")),
            share.write_file(at("closed\\new"), b""),
            share.unlink(at("closed\\file")),
            share.rename(at("closed\\file"), at("stolen"), replace=False),
        ):
            with pytest.raises(AccessDenied):
                await refused
        assert [entry.name for entry in await listing(share, at("closed"))] == ["file"]


@in_trio
async def test_rename(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("a"), b"a")
        await share.write_file(at("b"), b"b")
        await share.mkdir(at("folder"))
        with pytest.raises(AlreadyExists):
            await share.rename(at("a"), at("b"), replace=False)
        assert await share.read_file(at("b"), 10) == b"b"
        await share.rename(at("a"), at("b"), replace=True)
        assert await share.read_file(at("b"), 10) == b"a"
        with pytest.raises(NotFound):
            await share.stat(at("a"))
        for replace in (True, False):
            with pytest.raises(NtStatusError) as caught:
                await share.rename(at("b"), at("folder"), replace=replace)
            assert caught.value.errno in (errno.EEXIST, errno.EACCES, errno.EISDIR)
            with pytest.raises(NotFound):
                await share.rename(at("absent"), at("c"), replace=replace)
            with pytest.raises(NotFound):
                await share.rename(at("b"), at("absent\\c"), replace=replace)
        with pytest.raises(IsADirectory):
            await share.rename(at("folder"), at("moved"), replace=False, only_file=True)
        await share.rename(at("b"), at("folder\\b"), replace=False, only_file=True)
        await share.rename(at("folder"), at("moved"), replace=False)
        assert await share.read_file(at("moved\\b"), 10) == b"a"


@in_trio
async def test_rename_that_only_changes_case(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("name"), b"content")
        await share.rename(at("name"), at("NAME"), replace=False)
        assert [entry.name for entry in await listing(share, share_path.name)] == ["NAME"]
        assert await share.read_file(at("name"), 10) == b"content"


@in_trio
async def test_rename_onto_a_file_that_is_open(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share, connected(samba) as other:
        await share.write_file(at("new"), b"new")
        await share.write_file(at("target"), b"old")
        async with await other.open(at("target"), access=READ_WRITE) as file:
            await share.rename(at("new"), at("target"), replace=True)
            assert bytes(await file.read_at(0, 10)) == b"old"
        assert await share.read_file(at("target"), 10) == b"new"


@in_trio
async def test_hard_links(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("one"), b"content")
        await share.link(at("one"), at("two"))
        one, two = await share.stat(at("one")), await share.stat(at("two"))
        assert one.file_id == two.file_id
        assert one.number_of_links == 2
        with pytest.raises(AlreadyExists):
            await share.link(at("one"), at("two"))
        await share.write_file(at("third"), b"3")
        await share.link(at("one"), at("third"), replace=True)
        assert await share.read_file(at("third"), 10) == b"content"
        with pytest.raises(NotFound):
            await share.link(at("absent"), at("four"))
        await share.mkdir(at("folder"))
        with pytest.raises(IsADirectory):
            await share.link(at("folder"), at("five"))
        await share.unlink(at("one"))
        assert (await share.stat(at("two"))).number_of_links == 2


@in_trio
async def test_listing_tells_what_stat_tells(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("file"), bytes(70_000))
        await share.mkdir(at("folder"))
        await share.set_basic(at("file"), write_ns=10**18 + 700, attributes=FileAttributes.HIDDEN)
        entries = {entry.name: entry.stat for entry in await listing(share, share_path.name)}
        assert set(entries) == {"file", "folder"}
        for name, listed in entries.items():
            stat = await share.stat(at(name))
            stat.number_of_links = 0
            listed.ea_size = stat.ea_size
            assert listed == stat


@in_trio
async def test_listings_of_nothing(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.mkdir(at("empty"))
        assert await listing(share, at("empty")) == []
        assert await listing(share, at("empty"), "*.txt") == []
        await share.write_file(at("empty\\file.txt"), b"")
        assert [entry.name for entry in await listing(share, at("empty"), "*.txt")] == ["file.txt"]
        assert await listing(share, at("empty"), "*.doc") == []
        with pytest.raises(NotFound):
            await listing(share, at("absent"))
        with pytest.raises(NotADirectory):
            await listing(share, at("empty\\file.txt"))


@in_trio
async def test_ten_thousand_entries(samba: SambaServer, crowd: Path) -> None:
    async with connected(samba) as share:
        names = [entry.name for entry in await listing(share, crowd.name)]
    assert len(names) == _MANY
    assert set(names) == {f"file-{number:05}" for number in range(_MANY)}


@in_trio
async def test_listing_that_nobody_reads_to_the_end(samba: SambaServer, crowd: Path) -> None:
    async with connected(samba) as share:
        async with aclosing(share.scandir(crowd.name)) as batches:
            async for batch in batches:
                assert batch
                break
        assert len(await listing(share, crowd.name, "file-0000*")) == 10


@in_trio
async def test_listing_of_ten_thousand_entries_takes_two_round_trips(samba: SambaServer, crowd: Path) -> None:
    async with connected(samba) as share:
        async with trips(share) as made:
            await listing(share, crowd.name)
        # The CLOSE is one that nobody waits for.
        assert made == {
            "CREATE+QUERY_DIRECTORY+QUERY_DIRECTORY": 1,
            "QUERY_DIRECTORY+QUERY_DIRECTORY": 1,
            "CLOSE": 1,
        }


@in_trio
async def test_folder_that_changes_while_it_is_listed(samba: SambaServer, share_path: Path) -> None:
    """Names so long that the listing takes several replies."""
    stable, passing, new = (
        [f"{kind}-{number:05}-{'x' * 200}" for number in range(1_500)]
        for kind in ("stable", "passing", "new")
    )
    make_files(share_path, [name for pair in zip(stable, passing, strict=True) for name in pair])
    seen: list[str] = []
    batches_seen = 0
    async with connected(samba) as share, aclosing(share.scandir(share_path.name)) as batches:
        async for batch in batches:
            seen += [entry.name for entry in batch]
            batches_seen += 1
            if batches_seen == 1:
                for name in passing:
                    (share_path / name).unlink()
                make_files(share_path, new)
    assert batches_seen > 1
    listed = [name for name in seen if name.startswith("stable")]
    assert sorted(listed) == stable


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "with blank",
        " leading blank",
        "ümläut",
        "e\u0301 decomposed",
        "\U0001f600 beyond the basic plane",
        "日本語",
        "%41 & $HOME #!;'",
        "a" * 255,
        "é" * 127,
        ".hidden",
        "name.with.dots",
        "~tilde~1",
        "COM",
        "\uf03a private use",
        "\u200f right to left",
    ],
)
@in_trio
async def test_names_that_come_back_as_they_went(samba: SambaServer, share_path: Path, name: str) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at(name), b"content")
        assert [entry.name for entry in await listing(share, share_path.name)] == [name]
        assert (share_path / name).read_bytes() == b"content"
        assert (await share.stat(at(name))).size == 7
        await share.rename(at(name), at("other"), replace=False)
        await share.mkdir(at(name))
        await share.rename(at("other"), at(f"{name}\\{name}"), replace=False)
        assert await share.read_file(at(f"{name}\\{name}"), 10) == b"content"


@pytest.mark.parametrize(
    "name", ["a:b", "a*b", "a?b", 'a"b', "a<b", "a>b", "a|b", "a\x01b", "a" * 256, "é" * 128]
)
@in_trio
async def test_names_that_the_server_refuses(samba: SambaServer, share_path: Path, name: str) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at("file"), b"")
        for refused in (
            share.write_file(at(name), b""),
            share.mkdir(at(name)),
            share.rename(at("file"), at(name), replace=False),
            share.link(at("file"), at(name)),
        ):
            with pytest.raises(NtStatusError) as caught:
                await refused
            assert isinstance(caught.value, NameInvalid), caught.value
            assert caught.value.errno in (errno.EINVAL, errno.ENAMETOOLONG)
        assert [entry.name for entry in await listing(share, share_path.name)] == ["file"]


@pytest.mark.parametrize("name", ["trailing dot.", "trailing blank ", "CON", "aux.txt", "...", "a" * 255])
@in_trio
async def test_names_that_windows_would_not_like(samba: SambaServer, share_path: Path, name: str) -> None:
    """Samba keeps them; the listing may show another, mangled name for them, which works as well."""
    at = inside(share_path)
    async with connected(samba) as share:
        await share.write_file(at(name), b"content")
        assert (share_path / name).read_bytes() == b"content"
        (listed,) = await listing(share, share_path.name)
        assert await share.read_file(at(listed.name), 10) == b"content"
        await share.unlink(at(name))


@in_trio
async def test_lone_surrogates_do_no_harm(samba: SambaServer, share_path: Path) -> None:
    at = inside(share_path)
    async with connected(samba) as share:
        with pytest.raises(NameInvalid) as caught:
            await share.write_file(at("\ud800 alone"), b"")
        assert caught.value.errno == errno.EILSEQ
        assert await listing(share, share_path.name) == []


@in_trio
async def test_names_on_disk_that_no_client_could_have_made(samba: SambaServer, share_path: Path) -> None:
    make_files(share_path, ["a:b", "a*b", "a\\b", "\udcff\udcfe not utf-8", "line\nfeed"])
    async with connected(samba) as share:
        entries = await listing(share, share_path.name)
        for entry in entries:
            assert "/" not in entry.name
            assert "\0" not in entry.name
        assert len(entries) >= 4
