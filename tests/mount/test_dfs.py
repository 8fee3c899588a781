"""Mounts of what a distributed tree leads to, and what a mount of the tree itself shows of its links."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount.test_control import ctl
from tests.support.dfs import Estate, estate
from tests.support.factories import MountFactory
from tests.support.mounting import CHECKOUT, Mount
from tests.support.tools import wait_until

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


def errno_of(attempt: Callable[[], object]) -> int:
    """The error that a call ends with; 0 for none."""
    try:
        attempt()
    except OSError as error:
        return error.errno or 0
    return 0


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


def test_a_link_inside_a_mount_is_a_folder_that_says_where_to_go(
    tree: Estate, mount_factory: MountFactory
) -> None:
    tree.link("above/link", tree.target(tree.first, "data"))
    mount = mounted(mount_factory, tree, "above")
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
