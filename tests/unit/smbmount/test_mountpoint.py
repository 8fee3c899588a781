"""Mount points: each that is refused has its sentence and exit code; and the parsing of the mount table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbmount.failures import ExitCode, MountFailure
from smbmount.mountpoint import absolute_mountpoint, prepare_mountpoint
from smbmount.mounttable import MountEntry, parse_mountinfo, topmost_mount


def refusal(path: str, *, nonempty: bool = False, force: bool = False) -> MountFailure:
    with pytest.raises(MountFailure) as caught:
        prepare_mountpoint(path, nonempty=nonempty, force=force)
    assert "\n" not in str(caught.value)
    return caught.value


def test_an_empty_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    assert prepare_mountpoint(str(folder)) == str(folder)
    assert prepare_mountpoint(f"{folder}///") == str(folder)
    monkeypatch.chdir(folder)
    assert prepare_mountpoint(".") == str(folder)
    monkeypatch.chdir(tmp_path)
    assert prepare_mountpoint("m") == str(folder)


def test_what_is_no_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    for name, phrase in {
        "missing": "does not exist: make it with mkdir",
        "file": "is not a folder",
        "file/below": "is not a folder",
        "full": "is not empty",
        "nul\0": "NUL character",
    }.items():
        failure = refusal(f"{tmp_path}/{name}")
        assert phrase in str(failure)
        assert failure.code is ExitCode.USAGE
    assert refusal("").code is ExitCode.USAGE
    assert prepare_mountpoint(str(tmp_path / "full"), nonempty=True) == str(tmp_path / "full")


def test_the_last_component_is_never_followed_and_the_others_are(tmp_path: Path) -> None:
    (tmp_path / "real" / "m").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "ln").symlink_to("m")
    assert prepare_mountpoint(f"{tmp_path}/link/m") == f"{tmp_path}/real/m"
    for path in (f"{tmp_path}/real/ln", f"{tmp_path}/real/ln/"):
        failure = refusal(path, nonempty=True, force=True)
        assert "is a symbolic link" in str(failure)
        assert f"{tmp_path}/real/m" in str(failure)
    assert absolute_mountpoint(f"{tmp_path}/link/m/..") == f"{tmp_path}/real"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_root_does_not_mount_on_another_users_folder_without_force(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    failure = refusal(str(folder))
    assert "belongs to user 12345" in str(failure)
    assert failure.code is ExitCode.USAGE
    assert prepare_mountpoint(str(folder), force=True) == str(folder)


MOUNTINFO = rb"""22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw
30 27 0:50 / /mnt/a\040b\011\134 rw - fuse.smbmount //srv/my\040share,x rw,user_id=0
33 27 0:50 /sub\040folder /home/b rw - fuse.smbmount //srv/share rw,user_id=1000,group_id=0
31 27 0:51 / /mnt/a\040b\011\134 rw master:1 propagate_from:2 - autofs systemd-1 rw
broken line
32 27 0:52 / /mnt/x
"""


def test_the_mount_table_is_read_with_its_escapes() -> None:
    assert list(parse_mountinfo(MOUNTINFO)) == [
        MountEntry("0:21", "/proc", "proc", "proc"),
        MountEntry("0:50", "/mnt/a b\t\\", "fuse.smbmount", "//srv/my share,x", "/", 0),
        MountEntry("0:50", "/home/b", "fuse.smbmount", "//srv/share", "/sub folder", 1000),
        MountEntry("0:51", "/mnt/a b\t\\", "autofs", "systemd-1"),
    ]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_mount_table(content: bytes) -> None:
    assert all(isinstance(entry, MountEntry) for entry in parse_mountinfo(content))


def test_the_real_mount_table_knows_proc_and_not_this_folder(tmp_path: Path) -> None:
    entry = topmost_mount("/proc")
    assert entry is not None
    assert entry.type == "proc"
    assert topmost_mount(str(tmp_path)) is None
