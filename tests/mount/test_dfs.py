"""Mounts of what a distributed tree leads to, and what a mount of the tree itself shows of its links."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mount.test_control import ctl
from tests.support.dfs import Estate, estate
from tests.support.factories import MountFactory
from tests.support.mounting import CHECKOUT, Mount
from tests.support.tools import errno_of, wait_until

pytestmark = pytest.mark.deadline(120)


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


def hosts(tree: Estate) -> str:
    return f"dfs_hosts={':'.join(tree.hosts)}"


def mounted(factory: MountFactory, tree: Estate, folder: str, *options: str) -> Mount:
    return factory(tree.namespace, share="dfs", folder=folder, options=(hosts(tree), *options))


def tools(*command: str | Path) -> str:
    """Run a program that has to succeed; its output."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def refused(tree: Estate, mountpoint: Path, folder: str, *options: str) -> str:
    """What smbmount says when it does not mount."""
    server = tree.namespace
    given = ",".join((f"port={tree.port}", f"credentials={server.credentials_file}", *options))
    done = subprocess.run(
        [sys.executable, "-m", "smbmount", f"{server.unc('dfs')}/{folder}", str(mountpoint), "-o", given],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert done.returncode == 32
    assert not os.path.ismount(mountpoint)
    return done.stderr


def test_a_folder_behind_a_link_is_mounted(tree: Estate, mount_factory: MountFactory) -> None:
    tree.put(tree.first, "sub/folder/here", "first")
    tree.link("team/link", tree.target(tree.first, "data\\sub"), tree.target(tree.second, "data"))
    mount = mounted(mount_factory, tree, "team/link/folder")
    there = tree.first.share_path() / "sub/folder"
    assert (mount.path / "here").read_text() == "first"
    (mount.path / "made").mkdir()
    (mount.path / "made/file").write_text("content")
    os.rename(mount.path / "here", mount.path / "made/there")
    os.link(mount.path / "made/file", mount.path / "linked")
    assert (there / "made/there").read_text() == "first"
    assert (there / "linked").read_text() == "content"
    assert os.statvfs(mount.path).f_blocks == os.statvfs(there).f_blocks * os.statvfs(there).f_frsize // (
        os.statvfs(mount.path).f_frsize
    )
    code, output, _ = ctl("dfs", mount.path)
    assert code == 0
    lines = output.splitlines()
    assert lines[0].startswith(f"\\\\{tree.namespace.address}\\dfs\\team\\link  link, for ")
    assert lines[1:] == [
        f"  * \\\\{tree.first.address}\\data\\sub  site 0",
        f"    \\\\{tree.second.address}\\data  site 0",
    ]
    code, output, _ = ctl("dfs", "--json", mount.path)
    (step,) = json.loads(output)
    assert (step["kind"], [target["active"] for target in step["targets"]]) == ("link", [True, False])


def test_the_way_to_a_share_is_shown_without_a_mount(tree: Estate) -> None:
    tree.link("link", tree.target(tree.first, "data"))
    given = f"port={tree.port},credentials={tree.namespace.credentials_file}"
    source = f"{tree.namespace.unc('dfs')}/link"
    code, output, _ = ctl("dfs", "--json", "-o", f"{given},{hosts(tree)}", source)
    assert code == 0
    assert [step["name"] for step in json.loads(output)] == [f"\\\\{tree.namespace.address}\\dfs\\link"]
    code, output, _ = ctl("dfs", "-o", given, tree.first.unc())
    assert (code, output) == (0, "no DFS referral led to this share: it is where its name says\n")
    code, _, said = ctl("dfs", "-o", given, source)
    assert code == 32
    assert f"dfs_hosts={tree.first.address}" in said


def test_links_inside_a_mount_are_crossed(tree: Estate, mount_factory: MountFactory) -> None:
    for server, name in ((tree.first, "first"), (tree.second, "second")):
        tree.put(server, "cross/here", name)
        tree.put(server, "cross/deep/file", name)
    tree.link("cross/one", tree.target(tree.first, "data\\cross"))
    tree.link("cross/two", tree.target(tree.second, "data\\cross"))
    mount = mounted(mount_factory, tree, "cross")
    one, two = mount.path / "one", mount.path / "two"
    (mount.path / "own").write_text("own")
    assert sorted(os.listdir(mount.path)) == ["one", "own", "two"]
    assert ((one / "here").read_text(), (two / "deep/file").read_text()) == ("first", "second")
    found = tools("find", mount.path, "-printf", "%i\n").split()
    assert len(found) == 10
    assert len(set(found)) == 10

    (one / "made").mkdir()
    (one / "made/file").write_text("content")
    os.rename(one / "made/file", one / "deep/moved")
    os.link(one / "deep/moved", one / "linked")
    os.symlink("deep/moved", one / "symbolic")
    os.setxattr(one / "linked", "user.name", b"value")
    os.utime(one / "linked", ns=(10**18, 10**18))
    with (one / "deep/moved").open("r+") as file:
        file.truncate(4)
    there = tree.first.share_path() / "cross"
    assert (there / "linked").read_text() == (one / "symbolic").read_text() == "cont"
    assert os.getxattr(one / "linked", "user.name") == b"value"

    for attempt in (
        lambda: os.rename(one / "here", two / "there"),
        lambda: os.rename(mount.path / "own", one / "own"),
        lambda: os.link(one / "here", two / "there"),
        lambda: os.rename(one, mount.path / "other"),
    ):
        assert errno_of(attempt) == errno.EXDEV
    assert errno_of(lambda: os.rmdir(one)) in (errno.EBUSY, errno.ENOTEMPTY)
    tools("mv", one / "deep", two / "brought")
    assert (tree.second.share_path() / "cross/brought/file").read_text() == "first"
    assert not (there / "deep").exists()
    tools("cp", "-r", two, one / "copy")
    assert (there / "copy/brought/file").read_text() == "first"
    tools("rm", "-r", one / "copy")
    os.rename(mount.path / "own", mount.path / "renamed")
    output = ctl("dfs", "--json", mount.path)[1]
    assert [step["name"].rpartition("\\")[2] for step in json.loads(output)] == ["dfs", "one", "two"]


def test_links_lead_on_inside_a_mount(tree: Estate, mount_factory: MountFactory) -> None:
    """To another namespace, and from there to a link of that; a folder above is renamed meanwhile."""
    tree.put(tree.second, "on/here", "second")
    tree.link("on/folder/inter", tree.target(tree.first, "dfs\\lead"))
    tree.link("lead/further", tree.target(tree.second, "data\\on"), server=tree.first)
    mount = mounted(mount_factory, tree, "on")
    assert os.listdir(mount.path / "folder/inter") == ["further"]
    assert (mount.path / "folder/inter/further/here").read_text() == "second"
    os.rename(mount.path / "folder", mount.path / "renamed")
    (mount.path / "renamed/inter/further/new").write_text("content")
    assert (tree.second.share_path() / "on/new").read_text() == "content"


def test_a_link_that_cannot_be_followed_concerns_nothing_else(
    tree: Estate, mount_factory: MountFactory
) -> None:
    tree.put(tree.second, "well/here", "second")
    tree.link("some/foreign", "foreign.example.net\\data")
    tree.link("some/down", tree.target(tree.first, "data"))
    tree.link("some/circle", tree.target(tree.namespace, "dfs\\some\\circle"))
    tree.link("some/well", tree.target(tree.second, "data\\well"))
    tree.first.stop_service()
    mount = mounted(mount_factory, tree, "some")
    mount.expect_log("the link (foreign|down|circle) cannot be followed: ")
    assert sorted(os.listdir(mount.path)) == ["circle", "down", "foreign", "well"]
    assert errno_of(lambda: os.listdir(mount.path / "foreign")) == errno.EACCES
    assert errno_of(lambda: os.listdir(mount.path / "down")) == errno.ECONNREFUSED
    assert errno_of(lambda: os.listdir(mount.path / "circle")) == errno.ELOOP
    assert (mount.path / "well/here").read_text() == "second"
    assert "dfs_hosts=foreign.example.net" in mount.log_text()
    tree.first.resume_service()
    wait_until(lambda: errno_of(lambda: os.listdir(mount.path / "down")) == 0, "the server is back", 20)


def test_files_behind_a_link_outlive_their_connection_and_their_name(
    tree: Estate, mount_factory: MountFactory
) -> None:
    tree.put(tree.first, "life/here", "first")
    tree.link("life/link", tree.target(tree.first, "data\\life"))
    mount = mounted(mount_factory, tree, "life")
    with (
        (mount.path / "link/here").open("r+b", buffering=0) as file,
        (mount.path / "link/gone").open("w+b", buffering=0) as gone,
    ):
        gone.write(b"content")
        os.unlink(mount.path / "link/gone")
        assert os.pread(gone.fileno(), 10, 0) == b"content"
        assert os.listdir(mount.path / "link") == ["here"]
        gone.close()
        # Its CLOSE is on the way; a server that is killed before it gets there keeps the file.
        there = tree.first.share_path() / "life"
        wait_until(lambda: os.listdir(there) == ["here"], "the removed file is closed", 10)
        tree.first.restart()
        file.write(b"again")
        os.fsync(file.fileno())
        assert (tree.first.share_path() / "life/here").read_text() == "again"
    assert os.listdir(tree.first.share_path() / "life") == ["here"]


def test_nodfs_shows_a_link_as_a_folder_that_says_where_to_go(
    tree: Estate, mount_factory: MountFactory
) -> None:
    tree.link("above/link", tree.target(tree.first, "data"))
    mount = mounted(mount_factory, tree, "above", "nodfs")
    mount.expect_log(rf"//{tree.namespace.address}/dfs/above/link(/\S+)? is on another server \(DFS\)")
    (mount.path / "own").write_text("content")
    with os.scandir(mount.path) as entries:
        assert {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries} == {
            "link": True,
            "own": False,
        }
    link = mount.path / "link"
    for attempt in (
        lambda: os.listdir(link),
        lambda: os.stat(link / "file"),
        lambda: (link / "file").write_text("x"),
        lambda: os.mkdir(link / "folder"),
        lambda: os.rename(mount.path / "own", link / "own"),
    ):
        assert errno_of(attempt) == errno.EREMOTE
    assert mount.log_text().count("is on another server (DFS)") == 1
    assert (mount.path / "own").read_text() == "content"


def test_what_cannot_be_mounted_says_why(tree: Estate, tmp_path: Path) -> None:
    tree.link("link", tree.target(tree.first, "data"))
    said = refused(tree, tmp_path, "link")
    assert f"leads to the host {tree.first.address}, to which the account was not sent" in said
    assert f"dfs_hosts={tree.first.address}" in said
    said = refused(tree, tmp_path, "link", "nodfs")
    assert "STATUS_PATH_NOT_COVERED" in said
    assert "leave out nodfs" in said
    tree.link("circle", tree.target(tree.namespace, "dfs\\circle"))
    assert "go in a circle" in refused(tree, tmp_path, "circle")
    tree.first.stop_service()
    assert "nothing listens on" in refused(tree, tmp_path, "link", hosts(tree))


def test_the_next_target_takes_over(tree: Estate, mount_factory: MountFactory) -> None:
    """Programs wait; what is open is stale, and what is opened anew is the next target's."""
    tree.put(tree.first, "here", "first")
    tree.put(tree.second, "here", "second")
    tree.link("link", tree.target(tree.first, "data"), tree.target(tree.second, "data"))
    mount = mounted(mount_factory, tree, "link")
    mount.expect_log("is lost: |is replaced by|is back after|was open on a server that another has replaced")
    mount.expect_log("could not be written|cannot be told")
    assert (mount.path / "here").read_text() == "first"
    with (mount.path / "open").open("wb", buffering=0) as file:
        file.write(b"content")
        os.fsync(file.fileno())
        tree.first.stop_service()
        wait_until(lambda: (mount.path / "here").read_text() == "second", "the second's file", 30)

        def write() -> None:
            file.write(b"more")
            os.fsync(file.fileno())

        assert errno_of(write) == errno.ESTALE
    (mount.path / "new").write_text("on the second")
    assert (tree.second.share_path() / "new").read_text() == "on the second"
    assert sorted(os.listdir(mount.path)) == sorted(os.listdir(tree.second.share_path()))


def test_status_shows_what_is_behind_links(tree: Estate, mount_factory: MountFactory) -> None:
    tree.put(tree.first, "shown/here", "first")
    tree.link("shown/one", tree.target(tree.first, "data\\shown"))
    mount = mounted(mount_factory, tree, "shown")

    def behind() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(ctl("status", "--json", mount.path)[1])["behind_links"]
        return found

    assert behind() == []
    assert (mount.path / "one/here").read_text() == "first"
    (one,) = behind()
    assert one["connection"]["share"] == f"\\\\{tree.first.address}\\data\\shown"
    assert (one["connection"]["state"], one["reconnects"]["count"]) == ("connected", 0)
    tree.first.restart()
    wait_until(lambda: behind()[0]["reconnects"]["count"] == 1, "the connection is back", 20)
    assert f"\nbehind a link: \\\\{tree.first.address}\\data\\shown\n" in ctl("status", mount.path)[1]
