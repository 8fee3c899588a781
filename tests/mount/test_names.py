"""Names of every kind, made here and seen on the server, made on the server and seen here."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.calls import error_of
from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import Mount
from tests.support.samba import SambaServer, ShareConfig

pytestmark = pytest.mark.deadline(60)

NO_NAME_EVER: Final = {errno.EINVAL, errno.EILSEQ}
"""What a name that SMB cannot hold may be refused with."""

SAME_ON_BOTH_SIDES: Final = [
    "plain.txt",
    "n" * 255,
    "é" * 127,
    "日" * 85,
    "🎉" * 63,
    "party 🎉 👩‍👩‍👧",
    " leading blank",
    "two  blanks",
    ".hidden",
    "-dash",
    "#hash%20;&$'`!()[]{}=+,^~@",
    "name~1",
    "caf\u00e9 composed",
    "cafe\u0301 decomposed",
    "\u202eright to left",
    "delete \x7f",
]
DOS_DEVICES: Final = ["CON", "NUL.txt", "aux", "COM1", "LPT9.log"]
MAPPED: Final = {
    "a:b": "a\uf022b",
    "*": "\uf021",
    "what?": "what\uf025",
    '"quoted"': "\uf020quoted\uf020",
    "<less|more>": "\uf023less\uf027more\uf024",
    "back\\slash": "back\uf026slash",
    "new\nline": "new\uf00aline",
    "tab\tand\x01\x1f": "tab\uf009and\uf001\uf01f",
    "trailing blank ": "trailing blank\uf028",
    "trailing dot.": "trailing dot\uf029",
    "...": "..\uf029",
    ". .": ". \uf029",
    "C:": "C\uf022",
    "stream:$DATA": "stream\uf022$DATA",
}
BOTH_SPELLINGS: Final = [*((name, name) for name in SAME_ON_BOTH_SIDES), *MAPPED.items()]
NOT_UTF8: Final = [b"\xff", b"caf\xe9", b"cut \xf0\x9f\x8e", b"pair \xed\xa0\xbc\xed\xbe\x89", b"\xc0\xaf"]


@pytest.fixture(scope="module")
def mounted(samba: SambaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """What is changed on the server shows at once in it."""
    with Mount(samba, tmp_path_factory.mktemp("names"), options=["actimeo=0"]) as mount:
        yield mount


@pytest.mark.parametrize(("name", "on_server"), BOTH_SPELLINGS)
def test_name_made_here(here: Path, there: Path, name: str, on_server: str) -> None:
    (here / name).write_text(name)
    assert os.listdir(there) == [on_server]
    assert (there / on_server).read_text() == name
    assert os.listdir(here) == [name]
    assert (here / name).read_text() == name
    (here / name).rename(here / f"renamed {name}"[-60:])
    (here / f"renamed {name}"[-60:]).rename(here / name)
    assert os.listdir(there) == [on_server]
    (here / name).unlink()
    (here / name).mkdir()
    (here / name / "inside").touch()
    assert (there / on_server / "inside").is_file()


@pytest.mark.parametrize(("name", "on_server"), BOTH_SPELLINGS)
def test_name_made_on_the_server(
    samba: SambaServer, here: Path, there: Path, name: str, on_server: str
) -> None:
    (there / on_server).write_text(name)
    samba.adopt(there)
    assert os.listdir(here) == [name]
    assert (here / name).read_text() == name
    (here / name).unlink()
    assert os.listdir(there) == []


@pytest.mark.parametrize("name", DOS_DEVICES)
def test_name_of_a_dos_device_can_be_used(here: Path, there: Path, name: str) -> None:
    """Samba tells of such names under short ones of its own, unless it is told not to mangle names."""
    (here / name).write_text(name)
    assert (here / name).read_text() == (there / name).read_text() == name
    [listed] = os.listdir(here)
    assert (here / listed).read_text() == name
    (here / name).unlink()
    assert os.listdir(there) == os.listdir(here) == []


def test_name_of_a_dos_device_is_listed_as_the_server_tells_it(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    server = samba_factory({"data": ShareConfig(options={"mangled names": "no"})})
    here = mount_factory(server).path
    for name in DOS_DEVICES:
        (here / name).touch()
    assert sorted(os.listdir(here)) == sorted(os.listdir(server.share_path())) == sorted(DOS_DEVICES)


def test_names_of_255_bytes_are_the_longest(here: Path) -> None:
    longest = here / ("n" * 255)
    longest.touch()
    for name in ("n" * 256, "é" * 128, "🎉" * 64, "n" * 1000):
        long = here / name
        for call in (
            long.touch,
            long.stat,
            long.mkdir,
            long.unlink,
            lambda long=long: longest.rename(long),
            lambda long=long: os.link(longest, long),
            lambda long=long: long.symlink_to("target"),
        ):
            assert error_of(call) == errno.ENAMETOOLONG
    assert os.listdir(here) == [longest.name]


@pytest.mark.parametrize("character", [":", "\n", "\\"])
def test_long_name_of_mapped_characters_is_kept_or_refused(here: Path, there: Path, character: str) -> None:
    """Mapped, each takes three bytes on the server, which may hold no more than 255."""
    error = error_of((here / (character * 255)).touch)
    assert error in {0, errno.ENAMETOOLONG, errno.EINVAL}
    assert len(os.listdir(here)) == len(os.listdir(there)) == (error == 0)
    (here / (character * 85)).touch()
    assert character * 85 in os.listdir(here)


@pytest.mark.parametrize("name", NOT_UTF8)
def test_name_that_is_not_utf8_is_refused(here: Path, there: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(here), name)
    (here / "file").touch()
    assert error_of(lambda: os.open(path, os.O_CREAT | os.O_WRONLY)) in NO_NAME_EVER
    assert error_of(lambda: os.mkdir(path)) in NO_NAME_EVER
    assert error_of(lambda: os.rename(os.fsencode(here / "file"), path)) in NO_NAME_EVER
    assert error_of(lambda: os.stat(path)) in NO_NAME_EVER | {errno.ENOENT}
    assert os.listdir(there) == ["file"]


def test_lone_surrogate_is_kept_or_refused(here: Path) -> None:
    """Windows stores such names; Samba, whose own names are UTF-8, refuses them."""
    name = b"lone \xed\xa0\xbd"
    path = os.path.join(os.fsencode(here), name)
    error = error_of(lambda: os.mkdir(path))
    assert error in NO_NAME_EVER | {0}
    assert os.listdir(os.fsencode(here)) == ([] if error else [name])


@pytest.mark.parametrize("name", ["a\uf022b", "control \uf001", "last \uf028"])
def test_name_that_stands_for_another_is_refused(here: Path, there: Path, name: str) -> None:
    assert error_of((here / name).touch) == errno.EINVAL
    assert os.listdir(there) == []


def test_raw_reserved_names_on_the_server_do_not_break_the_listing(
    samba: SambaServer, here: Path, there: Path
) -> None:
    """A Unix program made them on the server; Samba tells of them under short names of its own."""
    for name in ("a:b", "c?", "d ", "e.", "good"):
        (there / name).write_text(name)
    (there / os.fsdecode(b"bad \xff utf-8")).write_text("bad")
    samba.adopt(there)
    seen = {name: (here / name).read_text() for name in os.listdir(here)}
    assert seen["good"] == "good"
    assert {"a:b", "c?", "d ", "e."} <= set(seen.values())


def test_case_is_kept_and_ignored(here: Path, there: Path) -> None:
    (here / "Mixed Case").write_text("content")
    assert (here / "mixed case").read_text() == "content"
    assert error_of(lambda: os.open(here / "MIXED CASE", os.O_CREAT | os.O_EXCL)) == errno.EEXIST
    assert error_of((here / "MIXED case").mkdir) == errno.EEXIST
    assert os.listdir(here) == os.listdir(there) == ["Mixed Case"]


def test_case_alone_can_be_changed(here: Path, there: Path) -> None:
    (here / "readme").write_text("content")
    (here / "folder").mkdir()
    (here / "readme").rename(here / "README")
    (here / "folder").rename(here / "Folder")
    assert set(os.listdir(here)) == set(os.listdir(there)) == {"README", "Folder"}
    assert (here / "README").read_text() == "content"


def test_names_that_differ_by_case_are_both_listed(samba: SambaServer, here: Path, there: Path) -> None:
    for name in ("file", "File", "FILE"):
        (there / name).write_text(name)
    samba.adopt(there)
    assert sorted(os.listdir(here)) == ["FILE", "File", "file"]


def test_nomapposix_refuses_what_smb_cannot_hold(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    here = mount_factory(samba, folder=share_path.name, options=["nomapposix"]).path
    for name in [*MAPPED]:
        assert error_of((here / name).touch) == errno.EINVAL, name
        assert error_of((here / name).stat) in {errno.EINVAL, errno.ENOENT}, name
    assert os.listdir(share_path) == []
    for name in MAPPED.values():
        (here / name).write_text(name)
    assert set(os.listdir(here)) == set(os.listdir(share_path)) == set(MAPPED.values())


def test_mapped_names_in_a_symlink_and_a_hard_link(here: Path, there: Path) -> None:
    (here / "what?").write_text("content")
    os.link(here / "what?", here / "why?")
    (here / "link: it").symlink_to("what?")
    assert (here / "link: it").read_text() == (here / "why?").read_text() == "content"
    assert os.readlink(here / "link: it") == "what?"
    assert set(os.listdir(there)) == {"what\uf025", "why\uf025", "link\uf022 it"}


def test_share_and_folder_names_beyond_ascii(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    server = samba_factory({"Größe, 写真 1": ShareConfig()})
    folder = server.share_path("Größe, 写真 1") / "b\uf022 ü, x"
    folder.mkdir()
    server.adopt(folder)
    (folder / "file").write_text("content")
    mount = mount_factory(server, share="Größe, 写真 1", folder="b: ü, x")
    assert (mount.path / "file").read_text() == "content"
