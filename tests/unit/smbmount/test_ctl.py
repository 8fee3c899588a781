"""smbmountctl: finding the mount without touching it, and what it tells people."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from smbmount import controlpath
from smbmount.ctl import (
    CtlError,
    Location,
    locate,
    main,
    progress_line,
    progress_text_untrusted,
    read_reply_untrusted,
    status_text_untrusted,
)
from smbmount.dfs import dfs_lines_untrusted
from smbmount.mounttable import MountEntry
from smbmount.statustext import size_text

SMB = "fuse.smbmount"
DEVICE = "0:77"
NESTED = b"[" * 100_000


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


@pytest.mark.parametrize(
    "line", [b"", b"5", b"[]", b"nonsense", b"\xff", b'"ok"', NESTED, b'{"ok":' + NESTED]
)
def test_a_reply_that_is_none(line: bytes) -> None:
    with pytest.raises(CtlError, match="makes no sense"):
        read_reply_untrusted(line)


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"done": 1},
        {"total": 2},
        {"done": 3, "total": 2},
        {"done": 0, "total": 0},
        {"done": -1, "total": 2},
        {"done": "1", "total": "2"},
        {"done": 1, "total": 10**400},
        {"done": None, "total": [1]},
    ],
)
def test_progress_that_is_none(reply: dict[str, object]) -> None:
    assert progress_text_untrusted(reply) == ""
    assert progress_text_untrusted({"done": 1, "total": 2}) == " 50 %  1 bytes of 2 bytes"


class Daemon:
    """Somebody's, who may say to root what he likes: it listens for one client and answers with `lines`."""

    def __init__(self, folder: Path, lines: bytes) -> None:
        self._lines = lines
        self._listener = socket.socket(socket.AF_UNIX)
        (folder / "smbmount").mkdir(mode=0o700)
        self._listener.bind(str(folder / "smbmount" / controlpath.socket_name(DEVICE)))
        self._listener.listen()
        self._thread = threading.Thread(target=self._answer, daemon=True)

    def _answer(self) -> None:
        connection, _ = self._listener.accept()
        with connection, suppress(BrokenPipeError, ConnectionResetError):
            connection.recv(65536)
            connection.sendall(self._lines)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._thread.join(10)
        self._listener.close()


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a daemon's socket is looked for; its mount is at `tmp_path`."""
    monkeypatch.setattr(controlpath, "folders", lambda owner, environ, *, own: [f"{tmp_path}/smbmount"])
    monkeypatch.setattr("smbmount.ctl.read_mounts", lambda: [mount_at(tmp_path, DEVICE)])
    return tmp_path


@pytest.mark.parametrize(
    "lines",
    [
        b"nonsense\n",
        b"7\n",
        b'{"ok": true}\n',
        b'{"ok": true, "connection": 5}\n',
        b'{"done": "x", "total": "y"}\n{"ok": true, "statistics": {"trips": []}}\n',
        NESTED + b"\n",
    ],
)
def test_a_daemon_that_makes_no_sense(
    lines: bytes, runtime: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Daemon(runtime, lines):
        assert main(["status", str(runtime)]) == 2
    assert capsys.readouterr().err == (
        "smbmountctl: the daemon's answer makes no sense: is it of another version?\n"
    )


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_terminal_gets_nothing_that_it_would_obey(
    flags: list[str], runtime: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Daemon(runtime, b'{"ok": false, "error": "no \\u001b]0;title\\u0007 \\udcff"}\n'):
        assert main(["status", *flags, str(runtime)]) == 2
    assert capsys.readouterr().err.endswith(": no \\x1b]0;title\\x07 \\udcff\n")


def status_reply(connection: Mapping[str, object], source: str = "//s/d") -> dict[str, object]:
    """What a daemon answers; `connection` are changes to what it says of that."""
    standing = {"state": "connected", "since": 1e9, "silent_seconds": 0, "failures": 0, "obstacle": None}
    what = {"summary": "SMB", "address": "x", "share": "y", "authentication": "NTLM", "ticket": None}
    one = {
        "connection": {"max_read": 1, "max_write": 1, **what, **standing, **connection},
        "reconnects": {"count": 2, "last_lost": 1e9, "last_returned": 1e9, "reason": "cut"},
        "leases": {"files": {"RH": 2, "RWH": 1}, "folders": {}},
    }
    numbers = dict.fromkeys(("bytes_sent", "bytes_received", "most_in_flight"), 1)
    return {
        "source": source,
        "mountpoint": "/mnt",
        "pid": 7,
        **one,
        "requests_in_flight": 4,
        "credits": {"held": 5, "in_use": 6},
        "handles": {"open": 7, "durable": 8, "kept_files": 9, "kept_folders": 10},
        "behind_links": [one],
        "file_system": {"dirty_bytes": 0, "open_files": 1, "inodes": 2},
        "statistics": {"trips": {"ECHO": 3}, "round_trips": 9, **numbers},
    }


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        ({}, "connection    connected since 2001-09-0"),
        ({"silent_seconds": 3.4}, "but silent for 3 s although an answer is due"),
        ({"state": "reopening"}, "files are being opened again"),
        ({"state": "reconnecting"}, "; trying to get it back\n"),
        ({"state": "reconnecting", "failures": 3, "obstacle": "no"}, "back, 3 attempts failed: no\n"),
        ({"state": "refused", "obstacle": "no"}, "and the server refuses us: no\n"),
        ({}, "reconnects    2, last lost 2001-09-0"),
        ({}, ": cut\n"),
        ({}, "leases        3 files (2 RH, 1 RWH), 0 folders\n"),
        ({}, "in flight     4 requests, at most 1 so far\n"),
        ({}, "credits       5 held, 6 in use\n"),
        ({}, "handles       7 open on the server, 8 of them durable\n"),
        ({}, "kept          9 files and 10 folders for their next use\n"),
        ({}, "behind a link: y\n"),
        ({"ticket": {"principal": "me", "spn": "cifs/x", "end": 1e9}}, "log-on        NTLM, me for cifs/x\n"),
        ({"ticket": {"principal": "me", "spn": "cifs/x", "end": 1e9}}, "ticket until  2001-09-0"),
    ],
)
def test_a_status_for_a_person(connection: dict[str, object], words: str) -> None:
    assert words in status_text_untrusted(status_reply(connection), as_json=False)


@pytest.mark.parametrize("connection", [{"state": "odd"}, {"since": 1e300}, {"since": 1e17}, {"since": None}])
def test_a_status_that_is_none(connection: dict[str, object]) -> None:
    with pytest.raises(CtlError, match="makes no sense"):
        status_text_untrusted(status_reply(connection), as_json=False)


def test_a_status_is_shown_without_control_characters() -> None:
    status = status_reply({"state": "refused", "obstacle": "a\nb"}, "//s/d\x1b[2J")
    text = status_text_untrusted(status, as_json=False)
    assert "//s/d\\x1b[2J on /mnt, process 7\n" in text
    assert "the server refuses us: a\\nb\n" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert json.loads(status_text_untrusted(status, as_json=True)) == status


STEPS = [
    {
        "name": "\\\\srv\\dfs\\link",
        "kind": "link",
        "seconds_left": 12,
        "targets": [
            {"name": "\\\\a\\x", "site": 0, "active": False},
            {"name": "\\\\b\\y", "site": 1, "active": True},
        ],
    },
    {"name": "\\\\b\\y", "kind": "root", "seconds_left": -3, "targets": []},
]


def test_referrals_for_a_person() -> None:
    assert dfs_lines_untrusted(STEPS) == [
        "\\\\srv\\dfs\\link  link, for 12 s",
        "    \\\\a\\x  site 0",
        "  * \\\\b\\y  site 1",
        "\\\\b\\y  root, expired",
    ]
    assert "no DFS referral" in dfs_lines_untrusted([])[0]


@pytest.mark.parametrize(
    "steps", [None, {}, 1, [1], [{}], [{**STEPS[0], "targets": 1}], [{**STEPS[0], "seconds_left": "x"}]]
)
def test_referrals_that_are_none(steps: object) -> None:
    with pytest.raises(ValueError, match="no list of referrals"):
        dfs_lines_untrusted(steps)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dfs"], "1 path must be given"),
        (["dfs", "--wrong", "//srv/share"], "--wrong"),
        (["dfs", "-o", "username=me,password=secret", "//srv/share"], "use credentials=FILE"),
        (["dfs", "-o", "username=me%secret", "//srv/share"], "use credentials=FILE"),
        (["dfs", "-o", "guest", "//srv"], "names no share"),
        (["dfs", "-o", "guest,wrong", "//srv/share"], "unknown option"),
    ],
)
def test_referrals_that_are_asked_for_wrongly(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    complaint = capsys.readouterr().err
    assert said in complaint
    assert "secret" not in complaint
