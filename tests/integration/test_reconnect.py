"""A share that is connected with `reconnect` outlives its connections, and so do the files that are open."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

import engine
from engine import ConnectConfig, Dialect, Disposition, File, HandleLost, Lease, Share
from tests.integration.support_engine import MIB, READ_WRITE, account, connected, in_trio, listing
from tests.support.connections import frozen, kill_connections
from tests.support.logcheck import ExpectedWarnings
from tests.support.proxy import Cut, Door, Loss, NewConnections, Place, Proxy, Reset, Way
from tests.support.samba import SambaServer
from tests.support.tools import wait_until

CONFIG = ConnectConfig(reconnect=True)


@pytest.fixture
def server() -> Iterator[SambaServer]:
    """A server that the test may treat as it likes."""
    with SambaServer() as own:
        yield own


def on_break(lease: Lease) -> None:
    """Nothing is cached."""


async def lose(server: SambaServer, share: Share) -> None:
    """Have the server's end of the connection die, and wait until this is known."""
    kill_connections(server)
    await share.wait_lost()


@asynccontextmanager
async def line(server: SambaServer, config: ConnectConfig) -> AsyncIterator[tuple[Share, Proxy]]:
    """A share behind a line that can fail."""
    proxy = Proxy((server.address, server.port))
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        unc = f"//{server.address}:{proxy.port}/data"
        async with engine.connect(unc, account(server), config) as share:
            yield share, proxy
        nursery.cancel_scope.cancel()


async def cut_often(share: Share, proxy: Proxy, chance: random.Random, longest: float, times: int) -> None:
    """Reset the connection that many times, each soon after it was made again."""
    for _ in range(times):
        await share.wait_returned()
        await trio.sleep(chance.uniform(0, longest))
        proxy.tell(Reset())


@in_trio
async def test_calls_go_on_after_the_connection_was_lost(server: SambaServer) -> None:
    async with connected(server, config=CONFIG) as share:
        for number in range(5):
            await lose(server, share)
            await share.mkdir(f"folder{number}")
        assert len(await listing(share, "")) == 5
        await share.wait_returned()
        assert not share.is_lost


@in_trio
async def test_calls_wait_for_a_server_that_restarts(server: SambaServer) -> None:
    async with connected(server, config=CONFIG) as share:
        await trio.to_thread.run_sync(server.stop_service)
        await share.wait_lost()
        done = trio.Event()

        async def make() -> None:
            await share.mkdir("folder")
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(make)
            await trio.sleep(0.5)
            assert not done.is_set()
            await trio.to_thread.run_sync(server.restart)
        assert [entry.name for entry in await listing(share, "")] == ["folder"]


@pytest.mark.parametrize("leased", [True, False], ids=["durable", "by path"])
@in_trio
async def test_an_open_file_is_there_again(server: SambaServer, leased: bool) -> None:
    async with connected(server, config=CONFIG) as share:
        lease = share.lease(on_break) if leased else None
        file = await share.open("file", access=READ_WRITE, disposition=Disposition.CREATE, lease=lease)
        await file.write_at(0, b"before")
        before = file.file_id
        await lose(server, share)
        await file.write_at(6, b" after")
        assert bytes(await file.read_at(0, 100)) == b"before after"
        assert file.file_id != before
        await file.flush()
        await file.close()
        assert await share.read_file("file", 100) == b"before after"


@in_trio
async def test_a_file_that_was_replaced_meanwhile_is_lost_alone(
    server: SambaServer, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings.require("replaced", "changed", "removed")
    async with connected(server, config=CONFIG) as share, connected(server) as other:
        for name in ("replaced", "changed", "removed", "kept"):
            await other.write_file(name, name.encode())
        files = {
            name: await share.open(name, access=READ_WRITE)
            for name in ("replaced", "changed", "removed", "kept")
        }
        await trio.to_thread.run_sync(server.stop_service)
        await share.wait_lost()
        root = server.share_path("data")
        (root / "new").write_bytes(b"other")
        os.replace(root / "new", root / "replaced")
        (root / "changed").write_bytes(b"CHANGED")
        (root / "removed").unlink()
        await trio.to_thread.run_sync(server.restart)
        for name in ("replaced", "changed", "removed"):
            for _ in range(2):
                with pytest.raises(HandleLost) as caught:
                    await files[name].read_at(0, 10)
                assert caught.value.errno == errno.ESTALE
        assert bytes(await files["kept"].read_at(0, 10)) == b"kept"


@pytest.mark.parametrize("seal", [False, True], ids=["signed", "sealed"])
@in_trio
async def test_data_in_flight_arrives_bit_for_bit(server: SambaServer, seal: bool) -> None:
    chance = random.Random(seal)
    content = chance.randbytes(64 * MIB)
    async with line(server, ConnectConfig(reconnect=True, seal=seal)) as (share, proxy):
        file = await share.open("file", access=READ_WRITE, disposition=Disposition.CREATE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut_often, share, proxy, chance, 0.2, 10)
            await file.write_at(0, content)
        assert (server.share_path("data") / "file").read_bytes() == content
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut_often, share, proxy, chance, 0.2, 10)
            assert await file.read_at(0, len(content)) == content


@in_trio
async def test_names_change_once_however_often_the_connection_is_lost(server: SambaServer) -> None:
    """Whatever was on its way when the line was cut: each change is made, once, and none fails."""
    chance = random.Random(3)

    async def change(share: Share, worker: int) -> None:
        for number in range(40):
            lease, name = share.lease(on_break), f"{worker}-{number}"
            await share.mkdir(name)
            path, renamed = f"{name}\\file", f"{name}\\renamed"
            file = await share.open(path, access=READ_WRITE, disposition=Disposition.CREATE, lease=lease)
            assert not file.existed
            await file.write_at(0, name.encode())
            await file.close()
            await share.rename(path, renamed, replace=False)
            await share.unlink(renamed)
            await share.rmdir(name)

    async with line(server, CONFIG) as (share, proxy), trio.open_nursery() as nursery:
        nursery.start_soon(cut_often, share, proxy, chance, 0.05, 60)
        async with trio.open_nursery() as workers:
            for worker in range(4):
                workers.start_soon(change, share, worker)
        assert await listing(share, "") == []
        nursery.cancel_scope.cancel()


async def make_folder(share: Share, name: str) -> None:
    await share.mkdir(name)


async def make_file(share: Share, name: str) -> None:
    async with await share.open(name, access=READ_WRITE, disposition=Disposition.CREATE) as file:
        assert not file.existed


async def write_file(share: Share, name: str) -> None:
    await share.write_file(name, b"content", disposition=Disposition.CREATE)


@pytest.mark.parametrize("make", [make_folder, make_file, write_file])
@in_trio
async def test_fault_09_what_was_made_is_ours_however_late_the_loss_is_noticed(
    server: SambaServer, make: Callable[[Share, str], Awaitable[None]]
) -> None:
    async with line(server, CONFIG) as (share, proxy):
        await share.stat("")
        proxy.tell(Cut(Way.TO_CLIENT, 1, Place.BEFORE, Loss.HOLE))
        began = trio.current_time()
        await make(share, "name")
        assert trio.current_time() > began + 2
        assert [entry.name for entry in await listing(share, "")] == ["name"]


@in_trio
async def test_fault_09_what_somebody_else_made_meanwhile_is_not_ours(server: SambaServer) -> None:
    async with line(server, CONFIG) as (share, proxy), connected(server) as other:
        await share.stat("")
        proxy.tell(Cut(Way.TO_SERVER, 1, Place.BEFORE, Loss.HOLE))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, share)
            # The others make it after the time in which nobody else is believed to do so.
            await trio.sleep(2.5)
            await other.mkdir("name")


async def refused(share: Share) -> None:
    with pytest.raises(engine.AlreadyExists):
        await share.mkdir("name")


@in_trio
async def test_a_listing_goes_on_with_every_name_once(server: SambaServer) -> None:
    root = server.share_path("data")
    names = {f"name {number:05}" for number in range(12_000)}
    for name in names:
        os.mknod(root / name)
    async with connected(server, config=CONFIG) as share:
        seen: list[str] = []
        cuts = 3
        folder = await share.open_folder("")
        async for batch in folder.batches():
            seen += [entry.name for entry in batch]
            if batch and cuts:
                cuts -= 1
                await lose(server, share)
        folder.close_later()
    assert len(seen) == len(names)
    assert set(seen) == names


@in_trio
async def test_a_server_that_refuses_us_now_is_an_error_and_not_asked_at_once_again(
    server: SambaServer, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings.require("refuses us since the connection was lost")
    async with connected(server, config=CONFIG) as share:
        await trio.to_thread.run_sync(server.stop_service)
        await share.wait_lost()
        server.set_password("another")
        await trio.to_thread.run_sync(server.restart)
        with pytest.raises(Exception, match="refused") as caught:
            await share.stat("")
        assert getattr(caught.value, "errno", 0) == errno.EACCES


@in_trio
async def test_a_server_that_is_silent_is_given_up_by_echo(server: SambaServer) -> None:
    config = ConnectConfig(reconnect=True, echo_interval=0.3)
    async with connected(server, config=config) as share:
        with frozen(server):
            await share.wait_lost()
        await share.mkdir("folder")


@in_trio
async def test_a_file_is_there_again_under_another_name_than_the_one_that_has_its_lease(
    server: SambaServer,
) -> None:
    """A lease belongs to one name of a file on Samba."""
    async with connected(server, config=CONFIG) as share, trio.open_nursery() as nursery:
        await share.write_file("a", b"content")
        await share.link("a", "b")
        lease = share.lease(lambda broken: nursery.start_soon(broken.acknowledge))
        first, second = [await share.open("a", access=READ_WRITE, lease=lease) for _ in range(2)]
        second.keep(lambda: "b", lambda found, lost_ns: True)
        for _ in range(2):
            await lose(server, share)
            for file in (first, second):
                assert bytes(await file.read_at(0, 10)) == b"content"


@in_trio
async def test_files_that_are_open_several_times_come_back(server: SambaServer) -> None:
    """Samba gives a file back only to the one open that it has of it."""
    async with line(server, CONFIG) as (share, proxy):
        files = []
        for name in ("a", "b", "c"):
            await share.write_file(name, name.encode())
            lease = share.lease(on_break)
            opens = [await share.open(name, access=READ_WRITE, lease=lease) for _ in range(3)]
            # Nowhere to be found: it comes back if the server has kept it.
            opens[0].keep(lambda: None, lambda found, lost_ns: False)
            files += opens
        for _ in range(5):
            proxy.tell(Reset())
            await share.wait_lost()
            with trio.fail_after(3):
                for file in files:
                    assert bytes(await file.read_at(0, 10)) == file.path.encode()


@in_trio
async def test_a_file_that_was_renamed_is_given_back(server: SambaServer) -> None:
    async with line(server, CONFIG) as (share, proxy):
        await share.write_file("a", b"content")
        lease = share.lease(on_break)
        file = await share.open("a", access=READ_WRITE, lease=lease)
        await share.rename("a", "b", replace=False, lease=lease)
        file.keep(lambda: "b", lambda found, lost_ns: False)
        for _ in range(2):
            proxy.tell(Reset())
            await share.wait_lost()
            assert bytes(await file.read_at(0, 10)) == b"content"
        assert file.path == "b"


@in_trio
async def test_a_file_is_given_back_by_its_name_also_if_another_is_told(server: SambaServer) -> None:
    """The file system may name another hard link."""
    async with line(server, CONFIG) as (share, proxy):
        await share.write_file("a", b"content")
        await share.link("a", "b")
        file = await share.open("a", access=READ_WRITE, lease=share.lease(on_break))
        file.keep(lambda: "b", lambda found, lost_ns: False)
        for _ in range(2):
            proxy.tell(Reset())
            await share.wait_lost()
            assert bytes(await file.read_at(0, 10)) == b"content"


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("dialect", [Dialect.SMB_2_1, Dialect.SMB_3_1_1], ids=lambda dialect: dialect.name)
@in_trio
async def test_who_opens_a_file_does_not_wait_for_a_break_from_before_the_loss(
    server: SambaServer, dialect: Dialect, known: bool
) -> None:
    """Samba waits for the acknowledgement of the break that it sent, or tried to send, over the connection of
    before, and does not say so."""
    config = ConnectConfig(reconnect=True, max_dialect=dialect)
    place = Place.AFTER if known else Place.BEFORE
    async with line(server, config) as (share, proxy), trio.open_nursery() as nursery:
        await share.write_file("file", b"content")

        def obey(broken: Lease) -> None:
            nursery.start_soon(broken.acknowledge)

        file = await share.open("file", access=READ_WRITE, lease=share.lease(obey))
        proxy.tell(Cut(Way.TO_CLIENT, message=1, place=place))
        with trio.fail_after(10):
            again = await share.open("file", access=READ_WRITE)
        assert bytes(await file.read_at(0, 10)) == bytes(await again.read_at(0, 10)) == b"content"


@pytest.mark.parametrize("way", ["close", "close_later", "close_and_tell", "set_times_and_close"])
@pytest.mark.parametrize("place", [Place.BEFORE, Place.AFTER])
@in_trio
async def test_a_close_that_was_on_its_way_is_made_up_for(
    server: SambaServer, place: Place, way: str
) -> None:
    """The server would keep the file open for a minute."""
    ways: dict[str, Callable[[File], object]] = {
        "close_later": File.close_later,
        "close_and_tell": lambda file: file.close_and_tell(lambda stat: None),
        "set_times_and_close": lambda file: file.set_times_and_close(lambda stat, error: None),
    }
    async with line(server, CONFIG) as (share, proxy):
        await share.write_file("file", b"content")
        file = await share.open("file", access=READ_WRITE, lease=share.lease(on_break))
        closes = share.statistics().requests["CLOSE"]
        proxy.tell(Cut(Way.TO_SERVER, place=place))
        if way == "close":
            await file.close()
        else:
            ways[way](file)
        await share.wait_lost()
        await share.stat("file")
        assert share.statistics().requests["CLOSE"] - closes == (3 if place is Place.BEFORE else 2)


@in_trio
async def test_an_open_whose_answer_got_lost_costs_no_more_than_its_repetition(server: SambaServer) -> None:
    """The server keeps what it has opened, and would give no other open of the file back."""
    async with line(server, CONFIG) as (share, proxy):
        await share.write_file("file", b"content")
        proxy.tell(Cut(Way.TO_CLIENT, place=Place.BEFORE))
        file = await share.open("file", access=READ_WRITE, lease=share.lease(on_break))
        connections = proxy.counts().connections
        proxy.tell(Reset())
        await share.wait_lost()
        assert bytes(await file.read_at(0, 10)) == b"content"
        assert proxy.counts().connections == connections + 1


@in_trio
async def test_opens_of_one_file_come_back_under_one_name(server: SambaServer) -> None:
    """Else the one would break the lease of the other, and unwritten data for it would hold that up."""
    broken: list[int] = []
    async with line(server, CONFIG) as (share, proxy):
        await share.write_file("a", b"content")
        lease = share.lease(lambda told: broken.append(told.state) if not share.is_lost else None)
        files = [await share.open("a", access=READ_WRITE, lease=lease) for _ in range(2)]
        await share.link("a", "b")
        for file in files:
            file.keep(lambda: "b", lambda found, lost_ns: True)
        for _ in range(2):
            proxy.tell(Reset())
            await share.wait_lost()
            with trio.fail_after(5):
                for file in files:
                    assert bytes(await file.read_at(0, 10)) == b"content"
        assert [file.path for file in files] == ["a", "a"]
        assert not broken


@in_trio
async def test_a_close_that_is_refused_leaves_nothing_to_be_opened_again(server: SambaServer) -> None:
    async with connected(server, config=CONFIG) as share:
        await share.write_file("file", b"")
        async with await share.open("file") as other:
            file = await share.open("file")
            with pytest.raises(engine.AccessDenied):
                await file.set_basic_and_close(write_ns=0)
            await lose(server, share)
            await other.query()
            opened = [there for there in server.smbstatus("--locks").splitlines() if " file " in there]
            assert len(opened) == 1


@in_trio
async def test_a_file_that_the_server_does_not_give_back_can_be_opened_by_others(
    server: SambaServer, expected_warnings: ExpectedWarnings
) -> None:
    """Samba refuses as the size differs from that when the line was cut, and notes us as having it open."""
    expected_warnings.require("grown")
    async with line(server, CONFIG) as (share, proxy), connected(server) as other:
        await other.write_file("grown", b"before")
        file = await share.open("grown", access=READ_WRITE, lease=share.lease(on_break))
        proxy.tell(NewConnections(Door.REFUSED))
        processes = server.connection_pids()
        proxy.tell(Reset())
        await share.wait_lost()
        # The size that counts is that of the moment in which the server notices.
        await trio.to_thread.run_sync(
            wait_until, lambda: server.connection_pids() != processes, "the server notices the loss"
        )
        with server.share_path().joinpath("grown").open("ab") as there:
            there.write(b" and after")
        proxy.tell(NewConnections(Door.OPEN))
        with pytest.raises(HandleLost):
            await file.read_at(0, 10)
        with trio.fail_after(5):
            assert await other.read_file("grown", 100) == b"before and after"
            again = await share.open("grown", access=READ_WRITE, lease=share.lease(on_break))
        assert bytes(await again.read_at(0, 100)) == b"before and after"
