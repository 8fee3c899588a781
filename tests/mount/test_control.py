"""`smbmountctl` and the control socket of a real mount: copies on the server, its state, who may ask."""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from smbmount.mounttable import topmost_mount
from tests.mount.test_security import CANARY, spellings
from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import CHECKOUT, Mount
from tests.support.samba import SambaServer
from tests.support.tools import digest, noise, wait_until

pytestmark = pytest.mark.deadline(120)

MIB: Final = 1 << 20
SECONDS: Final = 60.0


def start(*arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start smbmountctl."""
    return subprocess.Popen(
        [sys.executable, "-m", "smbmount.ctl", *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )


def ctl(*arguments: str | Path, cwd: Path | None = None) -> tuple[int, str, str]:
    """Run smbmountctl; its exit code, output and complaints."""
    with start(*arguments, cwd=cwd) as process:
        output, complaints = process.communicate(timeout=SECONDS)
    return process.returncode, output, complaints


def copied(*arguments: str | Path, cwd: Path | None = None) -> None:
    """Run a copy that has to work, without a word."""
    assert ctl("cp", *arguments, cwd=cwd) == (0, "", "")


def socket_of(mount: Mount) -> Path:
    """The control socket of a mount of root's."""
    entry = topmost_mount(str(mount.path))
    assert entry is not None
    return Path("/run/smbmount", f"{entry.device}.sock")


def ask(mount: Mount, line: bytes) -> dict[str, Any]:
    """Send a line to the control socket, and return the last reply."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(str(socket_of(mount)))
        connection.sendall(line)
        with connection.makefile("rb") as lines:
            replies = (json.loads(line) for line in lines)
            return next(reply for reply in replies if "ok" in reply)


def test_a_large_copy_is_bit_for_bit_and_never_comes_here(mounted: Mount, here: Path, there: Path) -> None:
    block = noise(MIB, "block")
    with (here / "source").open("wb") as file:
        for number in range(256):
            file.write(number.to_bytes(8, "little") + block[8:])
    before = mounted.statistics()
    copied(here / "source", here / "target")
    after = mounted.statistics()
    assert after["requests"]["IOCTL"] - before["requests"].get("IOCTL", 0) == 1 + 256 // 16
    assert after["bytes_received"] - before["bytes_received"] < 100_000
    assert digest(here / "source") == digest(there / "source")
    assert digest(there / "target") == digest(there / "source")
    assert digest(here / "target") == digest(there / "source")
    (here / "target").unlink()
    (here / "source").unlink()


@pytest.mark.parametrize("size", [0, 1, 4097, MIB - 1, MIB + 1, 16 * MIB + 1])
def test_copies_of_every_size(here: Path, there: Path, size: int) -> None:
    (here / "source").write_bytes(noise(size, "size"))
    copied("source", "target", cwd=here)
    assert (there / "target").read_bytes() == noise(size, "size")
    assert (here / "target").stat().st_size == size


def test_a_copy_into_a_folder_and_through_links(here: Path, there: Path, tmp_path: Path) -> None:
    (here / "folder").mkdir()
    (here / "übergröße: a?").write_text("content")
    (here / "link").symlink_to("folder")
    (tmp_path / "outside").symlink_to(here)
    copied("übergröße: a?", "folder", cwd=here)
    copied(tmp_path / "outside" / "übergröße: a?", here / "link" / "second")
    copied("../übergröße: a?", "third", cwd=here / "folder")
    assert {entry.name: entry.read_text() for entry in (here / "folder").iterdir()} == {
        "übergröße: a?": "content",
        "second": "content",
        "third": "content",
    }
    assert len(list((there / "folder").iterdir())) == 3


def test_what_is_written_and_not_closed_is_copied_too(here: Path, there: Path) -> None:
    with (here / "source").open("wb", buffering=0) as file:
        file.write(noise(3 * MIB, "open"))
        copied(here / "source", here / "target")
        assert (there / "target").read_bytes() == noise(3 * MIB, "open")
    with (here / "source").open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as pages:
        pages[:6] = b"mapped"
        copied(here / "source", here / "mapped")
        assert (there / "mapped").read_bytes()[:8] == b"mapped" + noise(8, "open")[6:]


def test_the_mount_shows_a_copy_at_once(here: Path) -> None:
    """The kernel believes neither that the name is absent nor what the old file held."""
    (here / "source").write_text("new content")
    (here / "old").write_text("old")
    assert (here / "old").read_text() == "old"
    for name in ("fresh", "old"):
        assert (here / "fresh").exists() == (name == "old")
        copied(here / "source", here / name)
        assert (here / name).read_text() == "new content"
        assert (here / name).stat().st_size == 11
    assert sorted(os.listdir(here)) == ["fresh", "old", "source"]


def test_an_open_target_keeps_its_old_content(here: Path, there: Path) -> None:
    (here / "source").write_text("new content")
    (here / "old").write_text("old")
    (here / "second").hardlink_to(here / "old")
    with (here / "old").open() as file:
        copied(here / "source", here / "old")
        assert file.read() == "old"
    assert (here / "second").read_text() == "old"
    assert (there / "old").read_text() == "new content"
    wait_until(
        lambda: sorted(os.listdir(there)) == ["old", "second", "source"],
        "the old file goes with its last close",
    )


def test_flags(here: Path) -> None:
    (here / "source").write_text("new")
    os.utime(here / "source", ns=(10**18, 10**18))
    (here / "source").chmod(0o444)
    (here / "old").write_text("old")
    copied("-n", here / "source", here / "old")
    assert (here / "old").read_text() == "old"
    copied("-p", here / "source", here / "kept")
    assert (here / "kept").stat().st_mtime_ns == 10**18
    assert not (here / "kept").stat().st_mode & 0o222
    copied("-n", here / "source", here / "fresh")
    assert (here / "fresh").stat().st_mtime_ns > 10**18


def test_what_cannot_be_copied_is_refused_in_one_sentence(
    mount_factory: MountFactory, samba: SambaServer, mounted: Mount, here: Path, tmp_path: Path
) -> None:
    other = mount_factory(samba)
    (here / "file").write_text("content")
    (here / "folder").mkdir()
    (here / "protected").write_text("content")
    (here / "protected").chmod(0o444)
    (tmp_path / "local").write_text("content")
    for source, target, why in (
        (here / "folder", here / "target", "only files are copied"),
        (here / "file", here / "file", "the same file"),
        (here / "file", here, "the same file"),
        (here / "absent", here / "target", "there is no file 'absent'"),
        (here / "file", here / "absent" / "target", "there is no folder 'absent'"),
        (here / "file", here / "protected", "read-only"),
        (here / "file", other.path / "target", "different mounts: use cp"),
        (here / "file", tmp_path / "target", "not on an smbmount: use cp"),
        (tmp_path / "local", here / "target", "not on an smbmount: use cp"),
    ):
        code, output, complaint = ctl("cp", source, target)
        assert (code, output) == (1, "")
        assert why in complaint
        assert complaint.startswith("smbmountctl: ")
        assert complaint.count("\n") == 1
    assert sorted(os.listdir(here)) == ["file", "folder", "protected"]


@pytest.mark.parametrize(
    "arguments", [(), ("cp",), ("cp", "a"), ("cp", "-x", "a", "b"), ("status",), ("mv",)]
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    code, output, complaint = ctl(*arguments)
    assert (code, output) == (1, "")
    assert "usage: smbmountctl" in complaint or "see smbmountctl --help" in complaint


@pytest.fixture
def sparse(here: Path, there: Path) -> Iterator[Path]:
    """A file whose copy takes a while: 4 GiB that occupy nothing."""
    (here / "source").touch()
    os.truncate(there / "source", 4096 * MIB)
    yield here / "source"
    for entry in there.iterdir():
        entry.unlink()


def half_copies(there: Path) -> list[Path]:
    """Copies in the making, by the hidden names that they have on the server."""
    return [entry for entry in there.iterdir() if entry.name.startswith(".smbmount-")]


def part_is_there(there: Path) -> bool:
    """Whether a copy in the making has grown beyond its first requests."""
    return any(half.stat().st_size > 16 * MIB for half in half_copies(there))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_ends_cancels_its_copy(
    mounted: Mount, sparse: Path, here: Path, there: Path, number: signal.Signals
) -> None:
    (here / "target").write_text("old")
    with start("cp", sparse, here / "target") as process:
        wait_until(
            lambda: any(half.stat().st_size > 16 * MIB for half in half_copies(there)), "a part is there"
        )
        assert sorted(os.listdir(here)) == ["source", "target"]
        process.send_signal(number)
        process.communicate(timeout=SECONDS)
    wait_until(lambda: not half_copies(there), "the part is removed")
    assert sorted(os.listdir(there)) == ["source", "target"]
    assert (here / "target").read_text() == "old"
    assert mounted.statistics()["in_flight"] <= 1


def test_a_daemon_that_is_killed_leaves_no_half_copy(
    mount_factory: MountFactory, samba: SambaServer, sparse: Path, there: Path
) -> None:
    mount = mount_factory(samba, folder=there.name)
    with start("cp", mount.path / "source", mount.path / "target") as process:
        wait_until(
            lambda: any(half.stat().st_size > 16 * MIB for half in half_copies(there)), "a part is there"
        )
        mount.signal(signal.SIGKILL)
        mount.wait_exit()
        _, complaint = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert "ended before it had answered" in complaint or "broke off" in complaint
    wait_until(lambda: os.listdir(there) == ["source"], "the server has removed the part", 30.0)


def test_status(mounted: Mount, here: Path) -> None:
    with (here / "file").open("wb", buffering=0) as file:
        file.write(b"content")
        code, output, complaint = ctl("status", "--json", mounted.path)
        assert (code, complaint) == (0, "")
        status = json.loads(output)
        assert status["mountpoint"] == str(mounted.path)
        assert status["source"] == mounted.source
        assert status["pid"] == mounted.pid
        assert status["connection"]["dialect"] == "3.1.1"
        assert "signed with" in status["connection"]["summary"]
        assert status["connection"]["lost"] is False
        assert status["file_system"]["open_files"] >= 1
        assert status["file_system"]["inodes"] >= 3
        assert status["file_system"]["dirty_bytes"] in (0, 7)
        assert status["statistics"]["requests"]["CREATE"] >= 1
    code, output, complaint = ctl("status", here)
    assert (code, complaint) == (0, "")
    assert output.startswith(f"{mounted.source} on {mounted.path}, process {mounted.pid}\n")
    assert "SMB 3.1.1, signed with" in output


def test_a_mount_that_hangs_still_tells_its_state(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    """The server is silent, a call waits in the mount: status neither waits nor touches it."""
    server = samba_factory()
    mount = mount_factory(server)
    pids = server.connection_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        with subprocess.Popen(["stat", mount.path / "anything"], stderr=subprocess.DEVNULL) as waiting:
            wait_until(lambda: mount.statistics()["in_flight"] > 0, "the call waits")
            code, output, complaint = ctl("status", "--json", mount.path)
            assert (code, complaint) == (0, "")
            assert json.loads(output)["statistics"]["in_flight"] > 0
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            waiting.wait(SECONDS)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_only_the_owner_may_ask(mount: Mount) -> None:
    """First the folder keeps others out, and were it open, the daemon would send them away."""
    path = socket_of(mount)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    probe = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\n"
        # It may have been sent away already, as smbmountctl may.
        'try: s.sendall(b\'{"command": "status"}\\n\')\n'
        "except BrokenPipeError: pass\n"
        "print(s.makefile().readline())"
    )

    def ask_as_nobody(address: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-c", probe, address],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    assert "PermissionError" in ask_as_nobody(path).stderr
    public = Path("/run", f"smbmount-test-{uuid.uuid4().hex}.sock")
    public.hardlink_to(path)
    try:
        public.chmod(0o666)
        done = ask_as_nobody(public)
    finally:
        public.unlink()
    assert json.loads(done.stdout) == {
        "ok": False,
        "kind": "refused",
        "error": "only the mount's owner and root may ask",
    }


def test_hostile_lines_are_answered_and_the_mount_lives_on(mount: Mount) -> None:
    for line in (
        b"\n",
        b"no json\n",
        b"[" * 60_000 + b"\n",
        b'{"command": "cp", "source": "a", "target": ["b"]}\n',
        b'{"command": "cp", "source": ["a/../../b"], "target": ["c"]}\n',
        b'{"command": "mv"}\n',
        b"\xff\xfe" + bytes(70_000),
    ):
        reply = ask(mount, line)
        assert reply["ok"] is False
        assert reply["kind"] == "refused"
    assert ask(mount, b'{"command": "cp", "source": [".."], "target": ["c"]}\n')["ok"] is False
    assert ctl("status", mount.path)[0] == 0


def test_the_socket_comes_and_goes_with_the_mount(mount_factory: MountFactory, samba: SambaServer) -> None:
    mount = mount_factory(samba)
    path = socket_of(mount)
    assert path.is_socket()
    mount.unmount()
    assert not path.exists()
    mount.start()
    assert socket_of(mount).is_socket()


def test_no_reply_holds_the_password(tmp_path: Path, mount_factory: MountFactory) -> None:
    with SambaServer(password=CANARY) as server:
        mount = mount_factory(server)
        (mount.path / "file").write_text("content")
        said = [ctl("status", "--json", mount.path), ctl("status", mount.path)]
        said.append(ctl("cp", mount.path / "file", mount.path / "absent" / "x"))
        text = repr(said).encode() + json.dumps(ask(mount, b"{}\n")).encode()
        assert b"SMB 3.1.1" in text
        assert not {part for part in spellings(CANARY) if part in text}
        mount.unmount()
