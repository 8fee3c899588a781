"""Symbolic links: small files in the mfsymlinks format, kept inside the mount unless told otherwise."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory
from tests.support.mounting import Mount
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(60)


@pytest.fixture(scope="module")
def mounted(samba: SambaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for the tests that need none of their own; shows the server's changes at once."""
    with Mount(samba, tmp_path_factory.mktemp("symlinks"), options=["actimeo=0"]) as mount:
        yield mount


@pytest.fixture
def here(mounted: Mount) -> Path:
    """A new folder one level below the root of the mount."""
    folder = mounted.path / uuid.uuid4().hex
    folder.mkdir()
    return folder


def content_of_link(target: str) -> bytes:
    """The file that Linux' cifs and macOS make for a link."""
    encoded = target.encode()
    digest = hashlib.md5(encoded, usedforsecurity=False).hexdigest().encode()
    return (b"XSym\n%04d\n%s\n%s\n" % (len(encoded), digest, encoded)).ljust(1067)[:1067]


CONTAINED = ["file", "folder/file", "./file", "../back/in", "folder/", "missing", "ünï 🎉", "a" * 200, "x:y"]
ESCAPING = ["/etc/passwd", "/", "../../x", "folder/../../../x", "../..", "..//../x", "a/../b"]


@pytest.mark.parametrize("target", [*CONTAINED, "d/" * 511 + "ab"])
def test_contained_link_made_here(here: Path, there: Path, target: str) -> None:
    (here / "link").symlink_to(target)
    assert os.readlink(here / "link") == target
    assert (here / "link").is_symlink()
    assert (here / "link").lstat().st_size == len(target.encode())
    assert (there / "link").read_bytes() == content_of_link(target)


@pytest.mark.parametrize("target", CONTAINED)
def test_contained_link_made_on_the_server(samba: SambaServer, here: Path, there: Path, target: str) -> None:
    (there / "link").write_bytes(content_of_link(target))
    samba.adopt(there)
    assert os.readlink(here / "link") == target
    with os.scandir(here) as entries:
        assert [(entry.name, entry.is_symlink()) for entry in entries] == [("link", True)]


@pytest.mark.parametrize("target", ESCAPING)
def test_escaping_link_is_not_made(here: Path, there: Path, target: str) -> None:
    assert error_of(lambda: (here / "link").symlink_to(target)) == errno.EPERM
    assert os.listdir(there) == []


@pytest.mark.parametrize("target", ESCAPING)
def test_escaping_link_is_not_followed(samba: SambaServer, here: Path, there: Path, target: str) -> None:
    (there / "link").write_bytes(content_of_link(target))
    samba.adopt(there)
    assert (here / "link").is_symlink()
    assert error_of(lambda: os.readlink(here / "link")) == errno.EPERM
    assert error_of((here / "link").read_bytes) == errno.EPERM
    (here / "link").unlink()
    assert os.listdir(there) == []


def test_link_may_climb_as_high_as_the_mounts_root(mounted: Mount, here: Path) -> None:
    (here / "a" / "b").mkdir(parents=True)
    (here / "a" / "b" / "link").symlink_to(f"../../../{here.name}/a")
    assert os.listdir(here / "a" / "b" / "link") == ["b"]
    assert error_of(lambda: (here / "a" / "b" / "out").symlink_to("../../../../x")) == errno.EPERM


def test_link_moved_out_of_its_depth_is_not_followed(mounted: Mount, here: Path) -> None:
    (here / "a").mkdir()
    (here / "a" / "link").symlink_to("../../x")
    name = f"moved-{here.name}"
    (here / "a" / "link").rename(mounted.path / name)
    try:
        assert error_of(lambda: os.readlink(mounted.path / name)) == errno.EPERM
    finally:
        (mounted.path / name).unlink()


def test_links_are_followed(here: Path, there: Path) -> None:
    (here / "folder").mkdir()
    (here / "folder" / "file").write_text("content")
    (here / "to folder").symlink_to("folder")
    (here / "to link").symlink_to("to folder/file")
    assert (here / "to link").read_text() == "content"
    (here / "to link").write_text("changed")
    assert (there / "folder" / "file").read_text() == "changed"
    (here / "to folder" / "new").touch()
    assert (there / "folder" / "new").exists()


def test_dangling_and_circular_links(here: Path, there: Path) -> None:
    (here / "dangling").symlink_to("made later")
    assert not (here / "dangling").exists()
    assert error_of((here / "dangling").read_text) == errno.ENOENT
    (here / "dangling").write_text("through the link")
    assert (there / "made later").read_text() == "through the link"
    (here / "a").symlink_to("b")
    (here / "b").symlink_to("a")
    assert error_of((here / "a").read_text) == errno.ELOOP


def test_link_that_cannot_be_made(here: Path) -> None:
    (here / "file").touch()
    assert error_of(lambda: (here / "file").symlink_to("target")) == errno.EEXIST
    assert error_of(lambda: os.symlink("", here / "link")) == errno.ENOENT
    assert error_of(lambda: (here / "link").symlink_to("x" * 1025)) == errno.ENAMETOOLONG
    assert error_of(lambda: os.readlink(here / "file")) == errno.EINVAL
    assert os.listdir(here) == ["file"]


def test_links_are_renamed_linked_and_removed(here: Path, there: Path) -> None:
    (here / "link").symlink_to("target")
    number = (here / "link").lstat().st_ino
    (here / "link").rename(here / "renamed")
    assert (here / "renamed").lstat().st_ino == number
    assert os.readlink(here / "renamed") == "target"
    os.link(here / "renamed", here / "twin", follow_symlinks=False)
    assert os.readlink(here / "twin") == "target"
    (here / "renamed").unlink()
    (here / "twin").unlink()
    assert os.listdir(there) == []


def test_link_replaced_atomically(here: Path) -> None:
    (here / "current").symlink_to("v1")
    (here / "next").symlink_to("v2")
    (here / "next").rename(here / "current")
    assert os.readlink(here / "current") == "v2"
    assert os.listdir(here) == ["current"]


def test_files_of_a_links_size_that_are_none(samba: SambaServer, here: Path, there: Path) -> None:
    good = content_of_link("target")
    contents = {
        "other text": b"x" * 1067,
        "bad digest": good.replace(good[10:14], b"0000"),
        "bad length": good.replace(b"0006", b"9999"),
        "no digits": good.replace(b"0006", b"six "),
        "zero": content_of_link(""),
        "short": good[:-1],
        "nul inside": content_of_link("tar\0get"),
    }
    for name, content in contents.items():
        (there / name).write_bytes(content)
    samba.adopt(there)
    with os.scandir(here) as entries:
        assert {entry.name for entry in entries if entry.is_file(follow_symlinks=False)} == set(contents)
    for name, content in contents.items():
        assert (here / name).read_bytes() == content


def test_file_that_becomes_a_link_on_the_server(samba: SambaServer, here: Path, there: Path) -> None:
    (here / "name").write_text("a file first")
    assert not (here / "name").is_symlink()
    (there / "name").write_bytes(content_of_link("one"))
    assert os.readlink(here / "name") == "one"
    (there / "name").write_bytes(content_of_link("two"))
    assert os.readlink(here / "name") == "two"
    (there / "name").write_text("a file again")
    assert (here / "name").read_text() == "a file again"


def test_many_links_in_one_folder(samba: SambaServer, here: Path, there: Path) -> None:
    for number in range(300):
        (there / f"{number}").write_bytes(content_of_link(f"target {number}"))
    samba.adopt(there)
    with os.scandir(here) as entries:
        assert {entry.name: os.readlink(entry.path) for entry in entries if entry.is_symlink()} == {
            f"{number}": f"target {number}" for number in range(300)
        }


def test_symlinks_all_trusts_every_target(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory, tmp_path: Path
) -> None:
    (share_path / "theirs").write_bytes(content_of_link("/etc/hostname"))
    samba.adopt(share_path)
    here = mount_factory(samba, folder=share_path.name, options=["symlinks=all"]).path
    assert os.readlink(here / "theirs") == "/etc/hostname"
    (tmp_path / "outside").write_text("outside")
    (here / "ours").symlink_to(tmp_path / "outside")
    assert (here / "ours").read_text() == "outside"


@pytest.mark.parametrize("option", ["symlinks=none", "nomfsymlinks"])
def test_without_links_there_are_only_files(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory, option: str
) -> None:
    (share_path / "link").write_bytes(content_of_link("target"))
    samba.adopt(share_path)
    here = mount_factory(samba, folder=share_path.name, options=[option]).path
    assert (here / "link").read_bytes() == content_of_link("target")
    assert error_of(lambda: (here / "new").symlink_to("target")) == errno.EPERM
    assert os.listdir(share_path) == ["link"]


def test_depth_is_counted_from_the_mounts_own_root(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    """Deep in the share, but at the root of this mount: nothing to climb."""
    (share_path / "a" / "b").mkdir(parents=True)
    samba.adopt(share_path)
    here = mount_factory(samba, folder=f"{share_path.name}/a/b").path
    assert error_of(lambda: (here / "link").symlink_to("../x")) == errno.EPERM
    (here / "link").symlink_to("x")


@pytest.mark.parametrize("truncate", [0, os.O_TRUNC], ids=["kept", "truncated"])
def test_link_that_another_client_just_made_is_followed(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory, truncate: int
) -> None:
    """The kernel still holds that there is no such name."""
    here = mount_factory(samba, folder=share_path.name, options=["actimeo=60"]).path
    (here / "target").write_text("old")
    assert not (here / "link").exists()
    (share_path / "link").write_bytes(content_of_link("target"))
    samba.adopt(share_path / "link")
    refused = error_of(lambda: os.open(here / "link", os.O_CREAT | os.O_NOFOLLOW | os.O_WRONLY | truncate))
    assert refused == errno.ELOOP
    with open(os.open(here / "link", os.O_CREAT | os.O_WRONLY | truncate), "w") as file:
        file.write("n")
    assert (share_path / "link").read_bytes() == content_of_link("target")
    assert (share_path / "target").read_text() == ("n" if truncate else "nld")
