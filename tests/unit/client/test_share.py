"""Shares and files: what is left behind, what a lying or limited server leads to, how many round trips."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import engine
from engine import ntstatus
from engine.client import folder
from engine.wire.constants import Command, FileAttributes
from engine.wire.create import CloseResponse
from engine.wire.io import ReadResponse, WriteResponse
from tests.fakes.server import FakeServer
from tests.fakes.server_behaviours import AnswersWith, GrantsFewCredits, KeepsWaiting
from tests.fakes.server_controls import CopyLimits
from tests.unit.client.support import connected, settled

READ_WRITE = engine.Access.READ | engine.Access.WRITE
CREATE = engine.Disposition.CREATE


def run(server: FakeServer, test: Callable[[engine.Share], Awaitable[None]]) -> None:
    """Run `test` with a share of `server`; afterwards the books have to balance."""

    async def main() -> None:
        async with connected(server) as share:
            await test(share)
            await settled(server, share)

    trio.run(main)


@pytest.mark.parametrize("credits", [1, 64])
def test_a_handle_is_closed_if_a_later_part_of_its_compound_fails(credits: int) -> None:
    server = FakeServer(total_credits=credits)
    server.tree.add_file("a")
    server.refusals[Command.QUERY_INFO] = ntstatus.STATUS_ACCESS_DENIED

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.AccessDenied, match="open a") as caught:
            await share.open("a")
        assert caught.value.index == 1
        assert len(caught.value.replies) == 2

    run(server, test)
    assert server.received.count(Command.CLOSE) == 1


@pytest.mark.parametrize("credits", [1, 64])
@pytest.mark.parametrize("spreads", [False, True])
def test_a_handle_is_closed_if_the_close_in_its_compound_fails(credits: int, spreads: bool) -> None:
    server = FakeServer(total_credits=credits)
    server.failure_spreads = spreads
    server.tree.add_file("a")
    server.refusals[Command.SET_INFO] = ntstatus.STATUS_SHARING_VIOLATION

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.SharingViolation, match="set the size of a"):
            await share.truncate("a", 1)

    run(server, test)


@pytest.mark.parametrize("credits", [1, 64])
def test_a_failed_open_leaves_nothing(credits: int) -> None:
    server = FakeServer(total_credits=credits)

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.NotFound) as caught:
            await share.open("missing")
        assert caught.value.index == 0

    run(server, test)
    assert Command.CLOSE not in server.received


def test_a_handle_is_closed_if_its_attributes_make_no_sense() -> None:
    server = AnswersWith(Command.QUERY_INFO, bytes(9))
    server.tree.add_file("a")

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.RemoteProtocolError):
            await share.open("a")

    run(server, test)


def test_short_writes_are_continued() -> None:
    server = FakeServer()
    server.takes_at_most = 700
    content = bytes(range(250)) * 20

    async def test(share: engine.Share) -> None:
        async with await share.open("a", access=READ_WRITE, disposition=CREATE) as file:
            assert await file.write_at(0, content) == 5000
        assert (await share.write_file("b", content)).size == 5000
        assert (await share.write_file("c", b"")).size == 0

    run(server, test)
    for name in "ab":
        assert server.tree.node(name).data == content


def test_short_reads_are_continued() -> None:
    server = FakeServer()
    server.gives_at_most = 700
    content = bytes(range(250)) * 20
    server.tree.add_file("a", content)

    async def test(share: engine.Share) -> None:
        async with await share.open("a") as file:
            assert bytes(await file.read_at(10, 4000)) == content[10:4010]
            assert bytes(await file.read_at(1000, 9000)) == content[1000:]
        assert await share.read_file("a", 10_000) == content
        assert await share.read_file("a", 2000) == content[:2000]
        assert await share.read_file("a", 10) == content[:10]

    run(server, test)


def test_a_large_read_ends_where_the_file_does() -> None:
    server = FakeServer(max_size=65536)
    content = bytes(range(256)) * 800
    server.tree.add_file("a", content)

    async def test(share: engine.Share) -> None:
        async with await share.open("a") as file:
            assert await file.read_at(0, 1 << 20) == content
            assert await file.read_at(200_000, 1 << 20) == content[200_000:]
            assert not len(await file.read_at(1 << 20, 1 << 20))
            assert not len(await file.read_at(100, 0))
            assert await file.read_at(65530, 100_000) == content[65530:165530]

    run(server, test)


@pytest.mark.parametrize("credits", [1, 64])
@pytest.mark.parametrize("spreads", [False, True])
@pytest.mark.parametrize("length", [1000, 100_000], ids=["at once", "in parts"])
def test_a_file_that_cannot_be_written_is_not_left_behind(credits: int, spreads: bool, length: int) -> None:
    server = FakeServer(total_credits=credits, max_size=65536)
    server.failure_spreads = spreads
    server.tree.add_file("old", b"old")
    server.refusals[Command.WRITE] = ntstatus.STATUS_DISK_FULL

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.NoSpace):
            await share.write_file("new", bytes(length))
        with pytest.raises(engine.NoSpace):
            await share.write_file("old", bytes(length), disposition=engine.Disposition.OPEN_IF)

    run(server, test)
    assert list(server.tree.root.children) == ["old"]


@pytest.mark.parametrize("count", [0, 101])
def test_a_server_that_says_it_wrote_nothing_or_too_much(count: int) -> None:
    server = AnswersWith(Command.WRITE, WriteResponse(count).encode())

    async def test(share: engine.Share) -> None:
        async with await share.open("a", access=READ_WRITE, disposition=CREATE) as file:
            with pytest.raises(engine.RemoteProtocolError, match=f"it wrote {count} of 100"):
                await file.write_at(0, bytes(100))
        with pytest.raises(engine.RemoteProtocolError, match=f"{count} of (the )?100 bytes"):
            await share.write_file("b", bytes(100))

    run(server, test)


def test_a_server_that_sends_more_than_was_asked_for() -> None:
    server = AnswersWith(Command.READ, ReadResponse(bytes(11)).encode())
    server.tree.add_file("a", bytes(100))

    async def test(share: engine.Share) -> None:
        async with await share.open("a") as file:
            with pytest.raises(engine.RemoteProtocolError, match="11 bytes where 10"):
                await file.read_at(0, 10)

    run(server, test)


def test_the_error_of_a_pipelined_write_is_raised_as_it_is() -> None:
    server = FakeServer(max_size=65536)
    server.refusals[Command.WRITE] = ntstatus.STATUS_DISK_FULL

    async def test(share: engine.Share) -> None:
        async with await share.open("a", access=READ_WRITE, disposition=CREATE) as file:
            with pytest.raises(engine.NoSpace, match="write a"):
                await file.write_at(0, bytes(1 << 20))

    run(server, test)


def test_a_write_ends_with_an_error_only_when_no_piece_of_it_is_under_way() -> None:
    server = KeepsWaiting(Command.WRITE, max_size=65536)

    async def test(share: engine.Share) -> None:
        async with await share.open("a", access=READ_WRITE, disposition=CREATE) as file:
            ended = trio.Event()

            async def write() -> None:
                with pytest.raises(engine.NoSpace):
                    await file.write_at(0, bytes(1 << 20 | 1))
                ended.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await server.until(lambda: len(server.held) == 16)
                peer, replies = server.held.pop(3)
                replies[0].fail(ntstatus.STATUS_DISK_FULL)
                await server.send(peer, replies)
                await wait_all_tasks_blocked()
                assert not ended.is_set()
                assert server.cancels == []
                await server.release()
            assert server.received.count(Command.WRITE) == 16
            assert server.cancels == []

    run(server, test)


def test_the_error_of_a_read_is_raised_as_it_is() -> None:
    server = FakeServer(max_size=65536)
    server.tree.add_file("a", bytes(200_000))
    server.refusals[Command.READ] = ntstatus.STATUS_FILE_LOCK_CONFLICT

    async def test(share: engine.Share) -> None:
        async with await share.open("a") as file:
            for length in (10, 200_000):
                with pytest.raises(engine.NtStatusError, match="STATUS_FILE_LOCK_CONFLICT"):
                    await file.read_at(0, length)

    run(server, test)


@pytest.mark.parametrize(
    "limits",
    [
        CopyLimits(),
        CopyLimits(chunks=3),
        CopyLimits(chunk=70_000),
        CopyLimits(total=1 << 20),
        CopyLimits(2, 50_000, 50_000),
    ],
)
def test_a_servers_limits_for_copies_are_obeyed(limits: CopyLimits) -> None:
    server = FakeServer()
    server.tree.controls.copy_limits = limits
    content = bytes(range(256)) * 20_000
    server.tree.add_file("a", content)

    async def test(share: engine.Share) -> None:
        assert await share.copy("a", "b") == len(content)

    run(server, test)
    assert server.tree.node("b").data == content


@pytest.mark.parametrize("limits", [CopyLimits(chunks=0), CopyLimits(chunk=0), CopyLimits(total=0)])
def test_a_server_that_allows_no_copy_at_all(limits: CopyLimits) -> None:
    server = FakeServer()
    server.tree.controls.copy_limits = limits
    server.tree.add_file("a", bytes(100))

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.InvalidParameter, match="copy a to b"):
            await share.copy("a", "b")
        with pytest.raises(engine.NotFound):
            await share.stat("b")

    run(server, test)


def test_a_refusal_that_tells_no_limits_is_an_error() -> None:
    server = FakeServer()
    server.tree.controls.copy_limits = CopyLimits(chunks=1)
    server.tree.controls.tells_copy_limits = False
    server.tree.add_file("a", bytes(3 << 20))

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.InvalidParameter, match="copy a to b"):
            await share.copy("a", "b")

    run(server, test)
    assert list(server.tree.root.children) == ["a"]


@pytest.mark.parametrize("size", [0, 1, (16 << 20) - 1, 16 << 20, (40 << 20) + 3])
def test_copies_of_several_requests_tell_their_progress(size: int) -> None:
    server = FakeServer()
    server.tree.controls.copy_limits = CopyLimits(chunks=3, total=5 << 19)
    content = random.Random(size).randbytes(size)
    server.tree.add_file("a", content)
    told: list[tuple[int, int]] = []

    async def test(share: engine.Share) -> None:
        assert await share.copy("a", "b", progress=lambda done, total: told.append((done, total))) == size

    run(server, test)
    assert server.tree.node("b").data == content
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1:] == ([(size, size)] if size else [])


def test_a_server_that_copies_less_than_it_was_asked_for() -> None:
    server = FakeServer()
    server.tree.controls.copy_at_most = 700_001
    content = random.Random(1).randbytes((33 << 20) + 5)
    server.tree.add_file("a", content)

    async def test(share: engine.Share) -> None:
        assert await share.copy("a", "b") == len(content)

    run(server, test)
    assert server.tree.node("b").data == content


def test_a_copy_in_the_making_goes_with_its_handle() -> None:
    """What is seen of the target while it is copied is a file that its last close deletes."""
    server = FakeServer()
    server.tree.add_file("a", bytes(20 << 20))
    marked: list[bool] = []

    def look(done: int, total: int) -> None:
        opens = server.tree.opens.values()
        marked.extend(handle.delete_on_close for handle in opens if handle.node.name == "b")

    async def test(share: engine.Share) -> None:
        await share.copy("a", "b", progress=look)

    run(server, test)
    assert marked == [True, True]
    assert len(server.tree.node("b").data) == 20 << 20


def test_a_copy_that_the_server_cannot_do_leaves_no_target() -> None:
    server = FakeServer()
    server.refusals[Command.IOCTL] = ntstatus.STATUS_NOT_SUPPORTED
    server.tree.add_file("a", b"new")
    server.tree.add_file("there", b"old")

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.NotSupported):
            await share.copy("a", "b")
        with pytest.raises(engine.AlreadyExists):
            await share.copy("a", "there")
        with pytest.raises(engine.NotSupported):
            await share.copy("a", "there", replace=True)

    run(server, test)
    assert sorted(server.tree.root.children) == ["a", "there"]


def test_a_copy_replaces_a_longer_target() -> None:
    server = FakeServer()
    server.tree.add_file("a", b"new")
    server.tree.add_file("there", b"a longer one")

    async def test(share: engine.Share) -> None:
        assert await share.copy("a", "there", replace=True) == 3
        with pytest.raises(engine.InvalidParameter, match="which is itself"):
            await share.copy("a", "a", replace=True)

    run(server, test)
    assert server.tree.node("there").data == b"new"
    assert server.tree.node("a").data == b"new"


@pytest.mark.parametrize("credits", [1, 2, 64])
def test_a_copy_with_few_credits(credits: int) -> None:
    server = FakeServer(total_credits=credits)
    server.tree.add_file("a", b"content")

    async def test(share: engine.Share) -> None:
        assert await share.copy("a", "b") == 7
        assert await share.copy("b", "a", replace=True) == 7

    run(server, test)
    assert sorted(server.tree.root.children) == ["a", "b"]


@pytest.mark.parametrize("claims", [0, 101])
def test_a_server_that_lies_about_what_it_copied(claims: int) -> None:
    server = FakeServer()
    server.tree.controls.copy_claims = claims
    server.tree.add_file("a", bytes(100))

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.RemoteProtocolError, match=f"copied {claims} bytes"):
            await share.copy("a", "b")

    run(server, test)


def test_without_file_ids_a_file_is_known_by_its_name() -> None:
    server = FakeServer()
    server.tree.has_file_ids = False
    server.tree.add_file("a", b"content")

    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.InvalidParameter, match="which is itself"):
            await share.copy("a", "A", replace=True)
        assert await share.copy("a", "b") == 7

    run(server, test)


def test_a_close_that_tells_nothing_leaves_what_was_asked_before_it() -> None:
    server = AnswersWith(Command.CLOSE, CloseResponse().encode())

    async def test(share: engine.Share) -> None:
        assert (await share.write_file("a", b"abc")).size == 3

    run(server, test)


def test_extended_attributes() -> None:
    server = FakeServer()
    server.tree.add_file("a")

    async def test(share: engine.Share) -> None:
        assert await share.list_eas("a") == {}
        with pytest.raises(KeyError):
            await share.get_ea("a", "user.one")
        await share.set_ea("a", "user.one", b"1")
        await share.set_ea("a", "user.two", bytes(1000))
        assert await share.list_eas("a") == {"user.one": b"1", "user.two": bytes(1000)}
        assert await share.get_ea("a", "user.one") == b"1"
        with pytest.raises(KeyError):
            await share.get_ea("a", "user.three")
        await share.set_ea("a", "user.two", b"")
        assert await share.list_eas("a") == {"user.one": b"1"}
        before = share.statistics().round_trips
        await share.get_ea("a", "user.one")
        assert share.statistics().round_trips == before + 1

    run(server, test)


@pytest.mark.parametrize("at_once", [1000, 2, 1])
@pytest.mark.parametrize("partial", [True, False])
def test_holes_are_found_however_many_there_are(at_once: int, partial: bool) -> None:
    server = FakeServer()
    server.tree.controls.ranges_at_once = at_once
    server.tree.controls.tells_partial_ranges = partial
    server.tree.add_file("a", b"\1" * 4096 * 20)

    async def test(share: engine.Share) -> None:
        async with await share.open("a", access=READ_WRITE) as file:
            await file.set_sparse()
            for block in (1, 5, 6, 10, 19):
                await file.zero(block * 4096, 4096)
            ranges = await file.allocated_ranges(0, 20 * 4096)
            told = bytearray(20 * 4096)
            for offset, size in ranges:
                told[offset : offset + size] = b"\1" * size
            assert told == server.tree.node("a").data
            assert await file.allocated_ranges(5 * 4096, 2 * 4096) == []

    run(server, test)


def test_a_server_that_lists_a_files_ranges_in_no_order() -> None:
    server = FakeServer()
    server.tree.controls.ranges_at_once = 0
    server.tree.add_file("a", b"content")

    async def test(share: engine.Share) -> None:
        async with await share.open("a") as file:
            with pytest.raises(engine.RemoteProtocolError, match="in no order"):
                await file.allocated_ranges(0, 10)
            server.tree.controls.tells_partial_ranges = False
            with pytest.raises(engine.NtStatusError, match="STATUS_BUFFER_TOO_SMALL"):
                await file.allocated_ranges(0, 10)

    run(server, test)


def test_snapshots() -> None:
    server = FakeServer()
    server.tree.controls.snapshots = ["@GMT-2026.01.02-03.04.05", "@GMT-2025.01.02-03.04.05"]

    async def test(share: engine.Share) -> None:
        assert await share.snapshots() == ["@GMT-2026.01.02-03.04.05", "@GMT-2025.01.02-03.04.05"]

    run(server, test)


def test_a_deleted_file_can_be_put_aside_first() -> None:
    server = FakeServer()
    server.tree.add_file("a", b"content")
    server.tree.node("a").attributes |= FileAttributes.READONLY

    async def test(share: engine.Share) -> None:
        async with await share.open("a") as reader:
            before = share.statistics().round_trips
            await share.unlink("a", aside=".hidden", clear_readonly=True)
            assert share.statistics().round_trips == before + 1
            assert bytes(await reader.read_at(0, 10)) == b"content"
        assert not server.tree.root.children

    run(server, test)
    assert server.received.count(Command.SET_INFO) == 3


def test_listings() -> None:
    server = FakeServer()
    for name in ("a.txt", "b.txt", "c.c"):
        server.tree.add_file(name, name.encode())

    async def test(share: engine.Share) -> None:
        await share.mkdir("empty")

        async def names(path: str, pattern: str = "*") -> list[tuple[str, int]]:
            async with contextlib.aclosing(share.scandir(path, pattern)) as batches:
                return [(entry.name, entry.stat.size) async for batch in batches for entry in batch]

        assert await names("") == [("a.txt", 5), ("b.txt", 5), ("c.c", 3), ("empty", 0)]
        assert await names("", "*.txt") == [("a.txt", 5), ("b.txt", 5)]
        assert await names("", "nothing*") == []
        assert await names("empty") == []
        with pytest.raises(engine.NotADirectory, match=r"list a\.txt"):
            await names("a.txt")
        async with contextlib.aclosing(share.scandir("")) as batches:
            assert len(await anext(batches)) == 4

    run(server, test)


@pytest.mark.parametrize(
    ("room", "lay", "next_room"),
    [
        (1 << 20, 0.0, 1 << 20),
        (1 << 20, 0.2, 1 << 19),
        (1 << 20, 100.0, 1 << 16),
        (1 << 18, 0.1, 1 << 18),
        (1 << 18, 0.05, 1 << 19),
        (1 << 20, 0.08, 1 << 20),
    ],
)
def test_who_takes_batches_slowly_gets_small_ones(room: int, lay: float, next_room: int) -> None:
    assert folder._next_room(room, lay, 1 << 20) == next_room


@pytest.mark.parametrize(
    ("action", "trips"),
    [
        (lambda share: share.stat("file"), {"CREATE+QUERY_INFO+CLOSE": 1}),
        (lambda share: share.mkdir("new"), {"CREATE+CLOSE": 1}),
        (lambda share: share.rmdir("folder"), {"CREATE+SET_INFO+CLOSE": 1}),
        (lambda share: share.unlink("file"), {"CREATE+SET_INFO+CLOSE": 1}),
        (lambda share: share.rename("file", "other", replace=False), {"CREATE+SET_INFO+CLOSE": 1}),
        (lambda share: share.link("file", "other"), {"CREATE+SET_INFO+CLOSE": 1}),
        (lambda share: share.truncate("file", 0), {"CREATE+SET_INFO+CLOSE": 1}),
        (lambda share: share.set_basic("file", write_ns=1), {"CREATE+SET_INFO+CLOSE": 1}),
        (lambda share: share.read_file("file", 65536), {"CREATE+READ+CLOSE": 1}),
        (lambda share: share.read_file("empty", 65536), {"CREATE+READ+CLOSE": 1}),
        (lambda share: share.write_file("new", b"x"), {"CREATE+QUERY_INFO+WRITE+CLOSE": 1}),
        (
            lambda share: share.write_file("file", b"x", disposition=engine.Disposition.OVERWRITE_IF),
            {"CREATE+QUERY_INFO+WRITE+CLOSE": 1},
        ),
        (lambda share: share.volume_size(), {"CREATE+QUERY_INFO+CLOSE": 1}),
        (lambda share: share.echo(), {"ECHO": 1}),
    ],
)
def test_the_budget_of_round_trips(
    action: Callable[[engine.Share], Awaitable[object]], trips: dict[str, int]
) -> None:
    server = FakeServer()
    server.tree.add_file("file", b"content")
    server.tree.add_file("empty")

    async def test(share: engine.Share) -> None:
        await share.mkdir("folder")
        before = share.statistics().trips
        await action(share)
        assert share.statistics().trips - before == trips

    run(server, test)


def test_with_few_credits_compounds_become_single_requests_with_the_same_outcome() -> None:
    server = GrantsFewCredits(2)
    server.tree.add_file("file", b"content")

    async def test(share: engine.Share) -> None:
        before = share.statistics().trips
        assert (await share.stat("file")).size == 7
        assert share.statistics().trips - before == {"CREATE": 1, "QUERY_INFO": 1, "CLOSE": 1}
        with pytest.raises(engine.NotFound) as caught:
            await share.stat("missing")
        assert caught.value.index == 0
        async with await share.open("file") as file:
            assert (await file.close_and_stat()).size == 7

    run(server, test)


@pytest.mark.parametrize("verb", ["rename", "link"])
def test_a_target_with_a_nul_is_refused_before_a_server_can_cut_it(verb: str) -> None:
    async def test(share: engine.Share) -> None:
        with pytest.raises(engine.NameInvalid):
            await getattr(share, verb)("a", "b\0c", replace=False)
        assert share.statistics().requests["SET_INFO"] == 0

    run(FakeServer(), test)


def test_a_handle_is_closed_if_asking_for_its_attributes_at_the_close_fails() -> None:
    server = FakeServer()
    server.tree.add_file("a")

    async def test(share: engine.Share) -> None:
        file = await share.open("a")
        server.failure_spreads = True
        server.refusals[Command.QUERY_INFO] = ntstatus.STATUS_ACCESS_DENIED
        with pytest.raises(engine.AccessDenied, match="close a"):
            await file.close_and_stat()

    run(server, test)


def test_an_open_file_is_not_renamed_to_a_name_that_would_be_cut() -> None:
    server = FakeServer()
    server.tree.add_file("a")

    async def test(share: engine.Share) -> None:
        async with await share.open("a") as file:
            with pytest.raises(engine.NameInvalid):
                await file.rename("b\0c", replace=False)

    run(server, test)
    assert Command.SET_INFO not in server.received
