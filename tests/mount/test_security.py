"""Secrets stay secret, and the mount stays where it was asked for."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from smbmount.mounttable import detach, topmost_mount
from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import CHECKOUT
from tests.support.samba import SambaServer, ShareConfig
from tests.support.tools import wait_until

pytestmark = pytest.mark.deadline(60)

CANARY: Final = "Canary,7%5E words=yes"


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[SambaServer]:
    """A server whose user has the canary for a password."""
    with SambaServer(password=CANARY) as server:
        yield server


def processes_of(folder: Path) -> list[Path]:
    """What /proc says of the processes that have this mount point on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if os.fsencode(folder) in arguments:
                found.append(entry)
    return found


@pytest.mark.parametrize(
    "way", ["credentials", "option", "option with a name", "PASSWD", "PASSWD_FILE", "PASSWD_FD", "USER"]
)
def test_password_shows_nowhere(guarded_server: SambaServer, tmp_path: Path, way: str) -> None:
    """In no argument, environment, mount table or log line, however it was given, at the chattiest level."""
    server = guarded_server
    folder = tmp_path / "mountpoint"
    folder.mkdir()
    secret_file = tmp_path / "secret"
    secret_file.touch(0o600)
    secret_file.write_text(CANARY)
    user, variables = f"username={server.user}", {}
    escaped = CANARY.replace(",", "\\,")
    descriptor = os.open(secret_file, os.O_RDONLY)
    match way:
        case "credentials":
            user = f"credentials={server.credentials_file}"
        case "option":
            user += f",password={escaped}"
        case "option with a name":
            user += f"%{escaped}"
        case "PASSWD":
            variables["PASSWD"] = CANARY
        case "PASSWD_FILE":
            variables["PASSWD_FILE"] = str(secret_file)
        case "PASSWD_FD":
            variables["PASSWD_FD"] = str(descriptor)
        case _:
            user, variables["USER"] = "sign", f"{server.user}%{CANARY}"
    options = f"port={server.port},{user}"
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "smbmount", server.unc(), folder, "-d", "-o", options],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[descriptor],
        ) as process,
    ):
        code = process.wait(30)
    os.close(descriptor)
    said = (tmp_path / "log").read_text()
    assert code == 0, said
    try:
        (folder / f"file-{len(way)}-{way[:3]}").write_text("content")
        [daemon] = processes_of(folder)
        for source in (daemon / "cmdline", daemon / "environ", Path("/proc/self/mountinfo")):
            assert not {part for part in spellings(CANARY) if part in source.read_bytes()}, source
        held = [os.readlink(entry) for entry in (daemon / "fd").iterdir()]
        assert str(secret_file) not in held
    finally:
        subprocess.run(["fusermount3", "-u", folder], check=True, timeout=20)
    text = (tmp_path / "log").read_bytes()
    assert b"DEBUG" in text
    assert not {part for part in spellings(CANARY) if part in text}


def spellings(secret: str) -> set[bytes]:
    """How a password could stand in a text."""
    return {
        secret.encode(),
        secret.replace(",", "\\,").encode(),
        secret.encode("utf-16-le"),
        secret.encode().hex().encode(),
        secret.encode("utf-16-le").hex().encode(),
    }


def test_wrong_password_is_not_repeated_in_the_error(guarded_server: SambaServer, tmp_path: Path) -> None:
    folder = tmp_path / "mountpoint"
    folder.mkdir()
    wrong = "Wrong-Canary"
    options = f"port={guarded_server.port},username={guarded_server.user},password={wrong}"
    done = subprocess.run(
        [sys.executable, "-m", "smbmount", guarded_server.unc(), folder, "-o", options, "-d", "-f"],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 32
    assert not {part for part in spellings(wrong) if part in done.stdout + done.stderr}


WITHOUT_PTRACE: Final = ["setpriv", "--inh-caps=-sys_ptrace", "--bounding-set=-sys_ptrace"]
"""Whoever lacks this capability looks into a process of the same user only if that lets it."""


def looked_into(pid: int) -> bool:
    """Whether another process of the same user can open the memory of a process."""
    command = [*WITHOUT_PTRACE, "sh", "-c", f": < /proc/{pid}/mem"]
    return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0


def test_nobody_but_a_privileged_user_looks_into_the_daemons_memory(
    guarded_server: SambaServer, mount_factory: MountFactory
) -> None:
    """Other processes of its own user do not, though they look into any process that does not forbid it."""
    daemon = mount_factory(guarded_server, command_prefix=WITHOUT_PTRACE).pid
    with subprocess.Popen([*WITHOUT_PTRACE, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(b"started\n")
        other.stdin.flush()
        assert other.stdout.readline()
        assert looked_into(other.pid), "this would show nothing"
        assert not looked_into(daemon)


def test_daemon_leaves_no_core(guarded_server: SambaServer, tmp_path: Path) -> None:
    """A crash writes nothing of its memory to a disk, however large a core the user asks for."""
    folder = tmp_path / "mountpoint"
    folder.mkdir()
    options = f"port={guarded_server.port},credentials={guarded_server.credentials_file}"
    command = [sys.executable, "-m", "smbmount", guarded_server.unc(), str(folder), "-f", "-o", options]
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "prlimit", "--core=unlimited", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: topmost_mount(str(folder)) is not None, "a mount")
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            [line] = [line for line in limits.splitlines() if line.startswith("Max core file size")]
            assert line.split()[4:6] == ["0", "0"]
            process.send_signal(signal.SIGABRT)
            _, status = os.waitpid(process.pid, 0)
            assert os.WTERMSIG(status) == signal.SIGABRT
            assert not os.WCOREDUMP(status)
        finally:
            process.kill()
            if topmost_mount(str(folder)) is not None:
                detach(str(folder))
    assert [entry.name for entry in tmp_path.iterdir()] == ["mountpoint"]


def test_device_and_set_user_id_files_of_the_server_are_harmless(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    (share_path / "program").write_text("#!/bin/sh\n")
    samba.adopt(share_path)
    (share_path / "program").chmod(0o6777)
    status = (mount_factory(samba, folder=share_path.name).path / "program").stat()
    assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID)


def test_nothing_above_the_mounted_folder_can_be_reached(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    (share_path / "inner").mkdir()
    (share_path / "secret").write_text("secret")
    samba.adopt(share_path)
    here = mount_factory(samba, folder=f"{share_path.name}/inner").path
    for name in ("..\\secret", "\\..\\secret", "..\\..\\etc"):
        assert not (here / name).exists()
        (here / name).touch()
    assert (share_path / "secret").read_text() == "secret"
    assert sorted(os.listdir(here)) == sorted(["..\\secret", "\\..\\secret", "..\\..\\etc"])


def test_symbolic_links_on_the_servers_disk_do_not_lead_out(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory, tmp_path: Path
) -> None:
    """Samba hides them by default; whatever it tells, nothing of this machine is opened."""
    (tmp_path / "outside").write_text("outside")
    (share_path / "link").symlink_to(tmp_path / "outside")
    (share_path / "file").write_text("content")
    samba.adopt(share_path)
    here = mount_factory(samba, folder=share_path.name).path
    assert "file" in os.listdir(here)
    assert not (here / "link").exists()


def test_odd_share_options_stay_one_field_of_the_mount_table(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    """A name with commas and blanks must not smuggle options into the mount."""
    name = "a,suid,dev,allow_other"
    server = samba_factory({name: ShareConfig()})
    mount = mount_factory(server, share=name)
    shown = subprocess.run(
        ["findmnt", "--noheadings", "--raw", "--output", "SOURCE,OPTIONS", mount.path],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    ).stdout.split()
    assert shown[0] == f"//127.0.0.1/{name}"
    assert {"nosuid", "nodev"} <= set(shown[1].split(","))
    assert not {"suid", "dev", "allow_other"} & set(shown[1].split(","))
    mount.unmount()
    mount.start()
