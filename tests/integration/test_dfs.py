"""Distributed trees over real Samba servers: a namespace, and the servers that its links lead to."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

import engine
from engine import ConnectConfig, Crossing, Dialect, Disposition, HandleLost, PathNotCovered, Share
from tests.integration.support_engine import READ_WRITE, account, in_trio, listing
from tests.support.dfs import Estate, estate
from tests.support.logcheck import ExpectedWarnings
from tests.support.names import Names
from tests.support.samba import SambaServer

NEW = Disposition.CREATE


@pytest.fixture(scope="module")
def servers() -> Iterator[Estate]:
    """The servers of this module."""
    with estate() as made:
        yield made


@pytest.fixture
def tree(servers: Estate) -> Iterator[Estate]:
    """The same, all running again afterwards."""
    yield servers
    servers.resume()


def config_of(tree: Estate, **options: Any) -> ConnectConfig:
    return ConnectConfig(port=tree.port, dfs_hosts=tree.hosts, **options)


def unc(tree: Estate, path: str, server: SambaServer | None = None) -> str:
    return f"//{(server or tree.namespace).address}/{path}"


async def where(tree: Estate, path: str, config: ConnectConfig | None = None) -> str:
    """The content of the file `here` in what a path leads to."""
    async with engine.connect(unc(tree, path), account(tree.namespace), config or config_of(tree)) as share:
        return (await share.read_file("here", 100)).decode()


@in_trio
async def test_a_folder_behind_a_link_is_the_root_of_the_share(tree: Estate) -> None:
    tree.put(tree.first, "sub/folder/here", "first")
    tree.link("team/link", tree.target(tree.first, "data\\sub"))
    async with engine.connect(
        unc(tree, "dfs/team/link/folder"), account(tree.namespace), config_of(tree)
    ) as share:
        assert [entry.name for entry in await listing(share, "")] == ["here"]
        await share.rename("here", "there", replace=False)
        await share.mkdir("made")
        (step,) = share.dfs_steps()
        assert step.name == f"\\\\{tree.namespace.address}\\dfs\\team\\link"
        assert [target.is_active for target in step.targets] == [True]
        assert 500 < step.seconds_left <= 600
    assert sorted(path.name for path in (tree.first.share_path() / "sub/folder").iterdir()) == [
        "made",
        "there",
    ]


@pytest.mark.parametrize("dialect", list(Dialect))
@in_trio
async def test_every_dialect_finds_the_way(tree: Estate, dialect: Dialect) -> None:
    tree.put(tree.first, "here", "first")
    tree.link("link", tree.target(tree.first, "data"))
    config = config_of(tree, min_dialect=dialect, max_dialect=dialect)
    assert await where(tree, "dfs/link", config) == "first"
    assert await where(tree, "DFS/LINK", config) == "first"


@in_trio
async def test_a_direct_mount_costs_nothing_more_and_a_link_one_round_trip(
    tree: Estate,
) -> None:
    tree.link("link", tree.target(tree.first, "data"))
    async with engine.connect(unc(tree, "data", tree.first), account(tree.first), config_of(tree)) as share:
        assert share.statistics().trips["TREE_CONNECT"] == 1
        assert "IOCTL" not in share.statistics().trips
    async with engine.connect(unc(tree, "dfs/link"), account(tree.namespace), config_of(tree)) as share:
        trips = share.statistics().trips
        assert trips["TREE_CONNECT"] == 2
        assert trips["TREE_CONNECT+IOCTL"] == 1
        assert not {"IOCTL", "TREE_DISCONNECT"} & trips.keys()


@in_trio
async def test_a_folder_above_links_is_the_namespaces_own(tree: Estate) -> None:
    tree.link("above/link", tree.target(tree.first, "data"))
    async with engine.connect(unc(tree, "dfs/above"), account(tree.namespace), config_of(tree)) as share:
        assert [entry.name for entry in await listing(share, "")] == ["link"]
        with pytest.raises(PathNotCovered) as caught:
            await share.stat("link\\deep")
        assert caught.value.place == f"//{tree.namespace.address}/dfs/above/link/deep"
        assert caught.value.errno == errno.EREMOTE
        (step,) = share.dfs_steps()
        assert step.is_root


@in_trio
async def test_nodfs_stays_where_it_is(tree: Estate) -> None:
    tree.link("link", tree.target(tree.first, "data"))
    async with engine.connect(
        unc(tree, "dfs/link"), account(tree.namespace), config_of(tree, dfs=False)
    ) as share:
        with pytest.raises(PathNotCovered):
            await share.stat("")


@in_trio
async def test_links_lead_to_other_namespaces_and_on(tree: Estate) -> None:
    tree.put(tree.second, "deep/here", "second")
    tree.link("inter", tree.target(tree.first, "dfs"))
    tree.link("below/next", tree.target(tree.second, "data\\deep"), server=tree.first)
    assert await where(tree, "dfs/inter/below/next") == "second"


@in_trio
async def test_links_in_a_circle_are_told(tree: Estate) -> None:
    tree.link("round", tree.target(tree.first, "dfs\\back"))
    tree.link("back", tree.target(tree.namespace, "dfs\\round"), server=tree.first)
    with pytest.raises(engine.RemoteProtocolError, match="go in a circle"):
        await where(tree, "dfs/round")


@in_trio
async def test_a_target_that_is_down_or_lacks_the_share_is_passed_over(tree: Estate) -> None:
    tree.put(tree.second, "here", "second")
    tree.link(
        "link",
        tree.target(tree.first, "data"),
        tree.target(tree.second, "no-such-share"),
        tree.target(tree.second, "data"),
    )
    tree.first.stop_service()
    with trio.fail_after(5):
        assert await where(tree, "dfs/link") == "second"


@in_trio
async def test_where_all_targets_are_down_that_is_said(tree: Estate) -> None:
    tree.link("link", tree.target(tree.first, "data"), tree.target(tree.first, "other"))
    tree.first.stop_service()
    with pytest.raises(engine.TransportError, match=r"no target of .*link.* can be used: .*nothing listens"):
        await where(tree, "dfs/link")


@in_trio
async def test_the_account_is_not_sent_to_a_host_that_nobody_allowed(tree: Estate) -> None:
    tree.put(tree.second, "here", "second")
    tree.link("link", tree.target(tree.first, "data"))
    config = ConnectConfig(port=tree.port)
    with pytest.raises(engine.ForeignHost, match=f"dfs_hosts={tree.first.address}"):
        await where(tree, "dfs/link", config)
    tree.link("link", tree.target(tree.first, "data"), tree.target(tree.second, "data"))
    config = ConnectConfig(port=tree.port, dfs_hosts=(tree.second.address,))
    assert await where(tree, "dfs/link", config) == "second"


@in_trio
async def test_encryption_is_demanded_of_every_server_on_the_way(tree: Estate) -> None:
    tree.link("link", tree.target(tree.first, "data"))
    async with engine.connect(
        unc(tree, "dfs/link"), account(tree.namespace), config_of(tree, seal=True)
    ) as share:
        assert share.description.encrypted


@in_trio
async def test_another_target_takes_the_place_of_one_that_dies(
    tree: Estate, expected_warnings: ExpectedWarnings
) -> None:
    """Open files are lost with their server, new ones are opened at the next; and so back again."""
    expected_warnings.allow("is replaced by")
    for server, name in ((tree.first, "first"), (tree.second, "second")):
        tree.put(server, "sub/here" if server is tree.first else "here", name)
    tree.link("link", tree.target(tree.first, "data\\sub"), tree.target(tree.second, "data"))
    async with engine.connect(
        unc(tree, "dfs/link"), account(tree.namespace), config_of(tree, reconnect=True)
    ) as share:
        assert await share.read_file("here", 100) == b"first"
        lease = share.lease(lambda lease: None)
        file = await share.open("new", access=READ_WRITE, disposition=Disposition.CREATE, lease=lease)
        await file.write_at(0, b"content")
        await trio.to_thread.run_sync(tree.first.stop_service)
        with trio.fail_after(15):
            assert await share.read_file("here", 100) == b"second"
        with pytest.raises(HandleLost) as caught:
            await file.read_at(0, 1)
        assert caught.value.errno == errno.ESTALE
        await file.close()
        await share.write_file("made", b"on the second", lease=share.lease(lambda lease: None))
        await share.rename("made", "renamed", replace=False)
        assert (tree.second.share_path() / "renamed").read_text() == "on the second"
        active = [target.name for step in share.dfs_steps() for target in step.targets if target.is_active]
        assert active == [f"\\\\{tree.second.address}\\data"]
        await trio.to_thread.run_sync(tree.first.resume_service)
        await trio.to_thread.run_sync(tree.second.stop_service)
        with trio.fail_after(15):
            assert await share.read_file("here", 100) == b"first"


@in_trio
async def test_a_server_that_restarts_keeps_its_place(tree: Estate) -> None:
    tree.put(tree.first, "here", "first")
    tree.put(tree.second, "here", "second")
    tree.link("link", tree.target(tree.first, "data"), tree.target(tree.second, "data"))
    async with engine.connect(
        unc(tree, "dfs/link"), account(tree.namespace), config_of(tree, reconnect=True)
    ) as share:
        file = await share.open("here")
        await trio.to_thread.run_sync(tree.first.restart)
        await share.wait_returned()
        assert bytes(await file.read_at(0, 100)) == b"first"


@in_trio
async def test_a_share_that_is_taken_away_is_looked_for_elsewhere_at_once(
    tree: Estate, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings.allow("is replaced by")
    tree.put(tree.second, "here", "second")
    tree.link("link", tree.target(tree.first, "data"), tree.target(tree.second, "data"))
    conf = tree.first.conf.read_text()
    async with engine.connect(
        unc(tree, "dfs/link"), account(tree.namespace), config_of(tree, reconnect=True)
    ) as share:
        tree.first.conf.write_text(conf.replace("[data]", "[other]"))
        try:
            await trio.to_thread.run_sync(tree.first.restart)
            with trio.fail_after(10):
                assert await share.read_file("here", 100) == b"second"
        finally:
            tree.first.conf.write_text(conf)
            await trio.to_thread.run_sync(tree.first.restart)


@in_trio
async def test_names_of_one_domain_need_no_permission(tree: Estate) -> None:
    """The name that was asked for is the one by which the namespace is asked, whatever it calls itself."""
    tree.put(tree.first, "here", "first")
    tree.link("link", "elsewhere.example.net\\data", "FS1.example.test\\data")
    names = {"ns.example.test": tree.namespace.address, "fs1.example.test": tree.first.address}
    trio.socket.set_custom_hostname_resolver(Names(names))
    async with engine.connect(
        "//ns.example.test/dfs/link", account(tree.namespace), ConnectConfig(port=tree.port)
    ) as share:
        assert await share.read_file("here", 100) == b"first"


@asynccontextmanager
async def crossed(tree: Estate) -> AsyncIterator[Crossing]:
    """The namespace, and what its links lead to."""

    def connect(path: str, beside: Callable[[], Sequence[Share]]) -> AbstractAsyncContextManager[Share]:
        config = config_of(tree, reconnect=True)
        return engine.connect(unc(tree, f"dfs/{path}"), account(tree.namespace), config, None, beside)

    async with connect("", tuple) as share, trio.open_nursery() as tasks:
        yield Crossing(share, connect, tasks)
        tasks.cancel_scope.cancel()


def expire(whole: Crossing) -> None:
    """Let the time to live of all referrals have passed: of these servers' it is ten minutes."""
    for branch in whole._branches.all():
        branch.expires = 0.0


@in_trio
async def test_a_link_that_leads_elsewhere_is_followed_there_by_the_next_open(tree: Estate) -> None:
    tree.put(tree.first, "changing/here", "first")
    tree.put(tree.second, "changing/here", "second")
    tree.link("changing", tree.target(tree.first, "data\\changing"))
    async with crossed(tree) as whole:
        lease = whole.lease(lambda lease: None)
        old = await whole.open("changing\\here", access=READ_WRITE, lease=lease)
        expire(whole)
        assert (await whole.stat("changing\\here")).file_id == old.stat.file_id
        tree.link("changing", tree.target(tree.second, "data\\changing"))
        assert (await whole.stat("changing\\here")).file_id == old.stat.file_id
        expire(whole)
        assert await whole.read_file("changing\\here", 10) == b"second"
        await old.write_at(0, b"FIRST")
        await old.close()
        assert not lease.state
        assert (tree.first.share_path() / "changing/here").read_text() == "FIRST"


@in_trio
async def test_of_those_on_one_connection_one_goes_to_another_server_and_the_other_waits(
    tree: Estate, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings.require("is replaced by")
    tree.put(tree.first, "shared/here", "first")
    tree.put(tree.second, "shared/here", "second")
    first, second = (tree.target(server, "data\\shared") for server in (tree.first, tree.second))
    tree.link("stays", first)
    tree.link("moves", first, second)
    async with crossed(tree) as whole:
        files = {}
        for link in ("moves", "stays"):
            lease = whole.lease(lambda lease: None)
            path = f"{link}\\{link}"
            files[link] = await whole.open(path, access=READ_WRITE, disposition=NEW, lease=lease)
            files[link].keep(partial(str, path), lambda stat, lost_ns: True)
            await files[link].write_at(0, b"1")
        assert len({share.line for share in whole.shares[1:]}) == 1
        await trio.to_thread.run_sync(tree.first.stop_service)
        with trio.fail_after(15):
            assert await whole.read_file("moves\\here", 10) == b"second"
        assert [share.is_lost for share in whole.shares] == [False, False, True]
        with pytest.raises(HandleLost):
            await files["moves"].write_at(1, b"2")
        await trio.to_thread.run_sync(tree.first.resume_service)
        await files["stays"].write_at(1, b"2")
        await files["stays"].close()
        await files["moves"].close()
        assert await whole.read_file("moves\\here", 10) == b"second"
    assert (tree.first.share_path() / "shared/stays").read_text() == "12"


@in_trio
async def test_a_link_that_was_removed_is_gone(tree: Estate) -> None:
    tree.put(tree.first, "removed/here", "first")
    tree.link("removed", tree.target(tree.first, "data\\removed"))
    async with crossed(tree) as whole:
        assert await whole.read_file("removed\\here", 10) == b"first"
        (tree.namespace.share_path("dfs") / "removed").unlink()
        expire(whole)
        for path in ("removed\\here", "removed"):
            with pytest.raises(engine.NotFound):
                await whole.stat(path)
        (tree.namespace.share_path("dfs") / "removed").mkdir()
        assert (await whole.stat("removed")).is_directory
        (tree.namespace.share_path("dfs") / "removed").rmdir()
