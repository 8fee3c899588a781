"""What the command says, and the code it ends with, when there is nothing to mount."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from smbmount.mounttable import detach, topmost_mount
from smbmount.options import OPTIONS
from tests.support.factories import MountFactory, SambaFactory
from tests.support.mounting import CHECKOUT
from tests.support.samba import GUEST_GLOBAL_OPTIONS, SambaServer

pytestmark = pytest.mark.deadline(60)

USAGE: Final = 1
INTERRUPTED: Final = 8
MOUNT_FAILED: Final = 32
UNUSED_ADDRESS: Final = "127.1.2.3"

Refused = Callable[..., str]
"""`refused(code, source, *options)` runs the command, which has to fail with that code and one line."""


def command(*arguments: str | Path) -> list[str]:
    """The command line of smbmount."""
    return [sys.executable, "-m", "smbmount", *map(str, arguments)]


def environment(**variables: str) -> dict[str, str]:
    """The environment without a word about accounts, and with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("USER", "PASSWD"))}
    return {**kept, "PYTHONPATH": str(CHECKOUT), **variables}


def run(
    *arguments: str | Path, prefix: Sequence[str] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run smbmount to its end."""
    return subprocess.run(
        [*prefix, *command(*arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment(**variables),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder to mount on, on which no mount may stay."""
    path = tmp_path / "mountpoint"
    path.mkdir()
    yield path
    if topmost_mount(str(path)) is not None:
        detach(str(path))
        pytest.fail("it is mounted", pytrace=False)


@pytest.fixture
def refused(folder: Path) -> Refused:
    """See `Refused`."""

    def run_refused(code: int, source: str, *options: str, mountpoint: Path | str = folder) -> str:
        done = run(source, mountpoint, "-o", ",".join(["guest", *options]))
        assert (done.returncode, done.stdout) == (code, "")
        [line] = done.stderr.splitlines()
        assert line.startswith("smbmount: ")
        return line

    return run_refused


def check(line: str, *patterns: str) -> None:
    """The line says all this."""
    for pattern in patterns:
        assert re.search(pattern, line), f"{pattern!r} is not in {line!r}"


def credentials(folder: Path, content: str, mode: int = 0o600) -> str:
    """An option that names a new credentials file."""
    path = folder / "credentials"
    path.write_text(content)
    path.chmod(mode)
    return f"credentials={path}"


# The server and the account


def log_on(samba: SambaServer, folder: Path, *options: str, **variables: str) -> str:
    """Try to mount the default share as somebody who may not; returns the one line."""
    done = run(samba.unc(), folder, "-o", ",".join([f"port={samba.port}", *options]), **variables)
    assert done.returncode == MOUNT_FAILED, done.stderr
    [line] = done.stderr.splitlines()
    return line


def test_wrong_password(samba: SambaServer, folder: Path, tmp_path: Path) -> None:
    wrong = credentials(tmp_path, f"username={samba.user}\npassword=wrong-canary\n")
    line = log_on(samba, folder, wrong)
    check(line, r"cannot mount //127\.0\.0\.1/data", "user name or .*password", "STATUS_LOGON_FAILURE")
    assert "wrong-canary" not in line


def test_unknown_user(samba: SambaServer, folder: Path) -> None:
    line = log_on(samba, folder, "username=no-such-user", PASSWD="anything")
    check(line, "STATUS_LOGON_FAILURE")


def test_guest_where_none_is_let_in(samba: SambaServer, folder: Path) -> None:
    check(log_on(samba, folder, "guest"), "STATUS_(LOGON_FAILURE|ACCESS_DENIED|ACCOUNT)")


def test_guest_of_a_share_for_accounts(samba_factory: SambaFactory, folder: Path) -> None:
    server = samba_factory(global_options=GUEST_GLOBAL_OPTIONS)
    check(log_on(server, folder, "guest"), "STATUS_ACCESS_DENIED", "right to use the share")


def test_unknown_share(samba: SambaServer, folder: Path) -> None:
    login = f"credentials={samba.credentials_file}"
    done = run("//127.0.0.1/nonsense", folder, "-o", f"port={samba.port},{login}")
    assert done.returncode == MOUNT_FAILED
    check(done.stderr, "//127.0.0.1/nonsense", "STATUS_BAD_NETWORK_NAME", "share")


@pytest.mark.parametrize("folder_of_it", ["", "/folder"])
def test_share_that_holds_no_files(samba: SambaServer, folder: Path, folder_of_it: str) -> None:
    login = f"credentials={samba.credentials_file}"
    done = run(f"//127.0.0.1/IPC${folder_of_it}", folder, "-o", f"port={samba.port},{login}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (MOUNT_FAILED, "", 1)
    check(done.stderr, r"cannot mount //127\.0\.0\.1/IPC\$", "a share of named pipes, not a share of files")


def test_missing_folder_of_the_share(samba: SambaServer, share_path: Path, folder: Path) -> None:
    (share_path / "file").touch()
    samba.adopt(share_path)
    login = f"credentials={samba.credentials_file},port={samba.port}"
    done = run(f"//127.0.0.1/data/{share_path.name}/missing", folder, "-o", login)
    assert done.returncode == MOUNT_FAILED
    check(done.stderr, "no folder '.*missing'")
    done = run(f"//127.0.0.1/data/{share_path.name}/file", folder, "-o", login)
    assert done.returncode == MOUNT_FAILED
    check(done.stderr, "is a file|is not a folder")


def test_unknown_host(refused: Refused) -> None:
    check(refused(MOUNT_FAILED, "//no-such-host.invalid/data"), r"no-such-host\.invalid", "name|address")


def test_nobody_listens(refused: Refused) -> None:
    line = refused(MOUNT_FAILED, f"//{UNUSED_ADDRESS}:1/data")
    check(line, f"//{UNUSED_ADDRESS}", "nothing listens on TCP port 1", "check")


def test_protocols_that_do_not_meet(samba_factory: SambaFactory, folder: Path) -> None:
    server = samba_factory(global_options={"server min protocol": "SMB3_11"})
    login = f"credentials={server.credentials_file}"
    check(log_on(server, folder, login, "vers=2.1"), "version|dialect|protocol")


def test_seal_that_the_server_does_not_offer(samba_factory: SambaFactory, folder: Path) -> None:
    server = samba_factory(global_options={"server max protocol": "SMB2_10"})
    login = f"credentials={server.credentials_file}"
    check(log_on(server, folder, login, "seal"), "version|dialect|protocol|encrypt")
    server = samba_factory(global_options={"server smb encrypt": "off"})
    login = f"credentials={server.credentials_file}"
    check(log_on(server, folder, login, "seal"), "encrypt")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_server_that_never_answers(refused: Refused, listener: socket.socket) -> None:
    line = refused(MOUNT_FAILED, f"//127.0.0.1:{listener.getsockname()[1]}/data", "timeout=1")
    check(line, "did not answer within 1 s", "check")


def test_server_that_speaks_something_else(refused: Refused, listener: socket.socket) -> None:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
            connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    line = refused(MOUNT_FAILED, f"//127.0.0.1:{listener.getsockname()[1]}/data", "timeout=10")
    thread.join(10)
    check(line, "cannot mount")


def test_server_that_hangs_up(refused: Refused, listener: socket.socket) -> None:
    thread = threading.Thread(target=lambda: listener.accept()[0].close())
    thread.start()
    line = refused(MOUNT_FAILED, f"//127.0.0.1:{listener.getsockname()[1]}/data", "timeout=10")
    thread.join(10)
    check(line, "cannot mount")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("foreground", [True, False])
def test_interrupted_on_the_way(
    folder: Path, listener: socket.socket, number: signal.Signals, foreground: bool
) -> None:
    source = f"//127.0.0.1:{listener.getsockname()[1]}/data"
    flags = ["-f"] if foreground else []
    with subprocess.Popen(
        command(source, folder, "-o", "guest", *flags),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1)
            process.send_signal(number)
            _, said = process.communicate(timeout=20)
    assert process.returncode == INTERRUPTED
    check(said, "interrupted")
    assert len(said.splitlines()) == 1


# Options


def test_unknown_option(refused: Refused) -> None:
    check(refused(USAGE, "//h/s", "no_such_thing=1"), "unknown option 'no_such_thing'", "sloppy")


@pytest.mark.parametrize(
    "option",
    ["multichannel", "snapshot=x", "mapchars"],
)
def test_option_whose_feature_is_not_there(refused: Refused, option: str) -> None:
    check(refused(USAGE, "//h/s", option), re.escape(option.partition("=")[0]), "use|leave|look|belongs")


@pytest.mark.parametrize(
    "option",
    ["vers=1.0", "uid=no-such-user", "file_mode=999", "port=0", "rsize=12", "timeout=abc", "symlinks=some"],
)
def test_option_with_a_wrong_value(refused: Refused, option: str) -> None:
    check(refused(USAGE, "//h/s", option), f"'{option.partition('=')[0]}'")


def test_options_that_exclude_each_other(refused: Refused) -> None:
    check(refused(USAGE, "//h/s", "seal", "vers=2.1", "noguest", "sloppy"), "seal")
    check(refused(USAGE, "//h/s", "allow_other", "allow_root"), "allow_other", "allow_root")
    check(refused(USAGE, "//h:1/s", "port=2"), "port")


def test_remount(refused: Refused) -> None:
    check(refused(MOUNT_FAILED, "//h/s", "remount"), "remount", "unmount")


def test_share_that_is_none(refused: Refused) -> None:
    for source in ("server/share", "//server", "//", "smb://server/share", "//s/x/../y", "//[::1/x"):
        check(refused(USAGE, source), re.escape(repr(source)))


def test_wrong_arguments() -> None:
    for arguments in ((), ("//h/s",), ("//h/s", "/mnt", "more"), ("--no-such-flag",)):
        done = run(*arguments)
        assert done.returncode == USAGE
        assert len(done.stderr.splitlines()) == 1


def test_version_and_help() -> None:
    done = run("-V")
    assert (done.returncode, done.stderr) == (0, "")
    check(done.stdout, r"^smbmount \d+\.\d+", "Python 3", "pyfuse3 3")
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for row in OPTIONS:
        for name in row.names:
            check(done.stdout, rf"\b{name}\b")


# The credentials file


def test_credentials_file_that_is_missing(refused: Refused, tmp_path: Path) -> None:
    line = refused(USAGE, "//h/s", f"credentials={tmp_path}/missing")
    check(line, "missing", "No such file")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_credentials_file_that_others_can_read(refused: Refused, tmp_path: Path, mode: int) -> None:
    line = refused(USAGE, "//h/s", credentials(tmp_path, "username=a\npassword=canary\n", mode))
    check(line, "chmod 600")
    assert "canary" not in line


@pytest.mark.parametrize("content", ["password canary\n", "canary=1\n", "username=a\nnonsense\n"])
def test_credentials_file_with_a_wrong_line(refused: Refused, tmp_path: Path, content: str) -> None:
    line = refused(USAGE, "//h/s", credentials(tmp_path, content))
    check(line, f"line {len(content.splitlines())} of credentials file")
    assert "canary" not in line


def test_no_password_and_nobody_to_ask(folder: Path) -> None:
    done = run("//h/s", folder, "-o", "username=someone")
    assert done.returncode == USAGE
    check(done.stderr, "no password for 'someone'", "credentials=")


# The mount point


def test_mount_point_that_is_missing(refused: Refused, tmp_path: Path) -> None:
    check(refused(USAGE, "//h/s", mountpoint=tmp_path / "missing"), "missing does not exist", "mkdir")


def test_mount_point_that_is_not_empty(refused: Refused, folder: Path) -> None:
    (folder / "file").touch()
    check(refused(USAGE, "//h/s"), "not empty", "nonempty")


def test_mount_point_that_is_a_file(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check(refused(USAGE, "//h/s", mountpoint=tmp_path / "file"), "not a folder")
    check(refused(USAGE, "//h/s", mountpoint=tmp_path / "file" / "below"), "not a folder")


def test_mount_point_that_is_a_symbolic_link(refused: Refused, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    for spelling in (f"{tmp_path}/link", f"{tmp_path}/link/"):
        check(refused(USAGE, "//h/s", mountpoint=spelling), "symbolic link", re.escape(str(folder)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_mount_point_of_somebody_else(refused: Refused, folder: Path) -> None:
    os.chown(folder, 65534, 65534)
    check(refused(USAGE, "//h/s"), "belongs to user 65534", "force")


def test_mount_point_that_is_in_use(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory
) -> None:
    mount = mount_factory(samba, folder=share_path.name)
    login = f"credentials={samba.credentials_file},port={samba.port}"
    done = run(samba.unc(), mount.path, "-o", login)
    assert done.returncode == MOUNT_FAILED
    check(done.stderr, "already mounted", "umount")
    (mount.path / "alive").touch()
