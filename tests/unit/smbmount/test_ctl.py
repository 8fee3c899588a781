"""smbmountctl: finding the mount without touching it, and what it tells people."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smbmount.ctl import CtlError, Location, locate, main, progress_line, size_text
from smbmount.mounttable import MountEntry

SMB = "fuse.smbmount"


def mount_at(path: str | Path, device: str = "0:50", kind: str = SMB, root: str = "/") -> MountEntry:
    return MountEntry(device, str(path), kind, "//server/share", root, os.geteuid())


def names(location: Location) -> list[str]:
    """The parts that lead somewhere."""
    return [part for part in location.parts if part not in ("", ".")]


def test_a_path_is_cut_at_its_mount(tmp_path: Path) -> None:
    """What lies on the mount need not exist, and is not looked at."""
    mount = mount_at(tmp_path)
    for path, expected in (
        (f"{tmp_path}", []),
        (f"{tmp_path}/a/b", ["a", "b"]),
        (f"{tmp_path}/./a//b/../c", ["a", "b", "..", "c"]),
        (f"{tmp_path}/../{tmp_path.name}/a", ["a"]),
    ):
        location = locate(path, [mount])
        assert location.mount is mount
        assert names(location) == expected
    assert locate(f"{tmp_path}/folder/", [mount]).parts[-1] == ""


def test_links_on_the_way_are_followed(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    (tmp_path / "link").symlink_to("mount")
    (tmp_path / "deep").symlink_to(tmp_path / "link" / "folder")
    mount = mount_at(tmp_path / "mount")
    assert names(locate(f"{tmp_path}/link/a", [mount])) == ["a"]
    assert names(locate(f"{tmp_path}/deep/a", [mount])) == ["folder", "a"]


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names(locate("a", [mount_at(tmp_path)])) == ["a"]


def test_a_bind_mount_shows_a_folder_of_the_share(tmp_path: Path) -> None:
    assert names(locate(f"{tmp_path}/a", [mount_at(tmp_path, root="/sub folder")])) == ["sub folder", "a"]


def test_the_topmost_mount_counts(tmp_path: Path) -> None:
    lower, upper = mount_at(tmp_path, "0:50"), mount_at(tmp_path, "0:51")
    inner = mount_at(tmp_path / "inner", "0:52")
    assert locate(str(tmp_path), [lower, upper]).mount is upper
    assert locate(f"{tmp_path}/inner/a", [lower, upper, inner]).mount is inner
    assert names(locate(f"{tmp_path}/inner/a", [lower, upper, inner])) == ["a"]


def test_what_is_not_on_a_mount(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    other = mount_at(tmp_path / "sub", kind="ext4")
    for path, mounts, why in (
        (f"{tmp_path}/file", [], "not on an smbmount"),
        (f"{tmp_path}/sub/file", [mount_at(tmp_path), other], "another file system is mounted on"),
        (f"{tmp_path}/loop", [], "too many symbolic links"),
    ):
        with pytest.raises(CtlError, match=why):
            locate(path, mounts)


def test_sizes_for_people() -> None:
    assert size_text(0) == "0 bytes"
    assert size_text(1023) == "1023 bytes"
    assert size_text(1536) == "1.5 KiB"
    assert size_text(5 << 40) == "5.0 TiB"
    assert size_text(5 << 50) == "5120.0 TiB"
    assert progress_line(1 << 20, 4 << 20) == " 25 %  1.0 MiB of 4.0 MiB"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "cp SOURCE TARGET" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("smbmountctl ")


def test_a_daemon_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("smbmount.ctl.read_mounts", lambda: [mount_at(tmp_path, "0:0")])
    assert main(["status", str(tmp_path)]) == 2
    assert "cannot be reached" in capsys.readouterr().err


def test_somebody_elses_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("smbmount.ctl.read_mounts", lambda: [mount_at(tmp_path)._replace(owner=12345)])
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert main(["status", str(tmp_path)]) == 1
    assert "was mounted by user 12345: ask as that user, or as root" in capsys.readouterr().err
