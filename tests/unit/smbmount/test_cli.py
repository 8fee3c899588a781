"""The command line, as real processes: exit codes of mount(8), one line on stderr, and no server needed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import smbmount
from smbmount.cli import Arguments, parse_arguments
from smbmount.failures import ExitCode, MountFailure
from smbmount.options import OPTIONS

CHECKOUT = Path(__file__).resolve().parents[3]


def run(*arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PASSWD")}
    return subprocess.run(
        [sys.executable, "-m", "smbmount", *arguments],
        env={**clean, "PYTHONPATH": str(CHECKOUT), **(environ or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "m"
    path.mkdir()
    return path


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.write_text("username=me\npassword=canary\n")
    path.chmod(0o600)
    return path


def check(done: subprocess.CompletedProcess[str], code: ExitCode, *phrases: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("smbmount: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "canary" not in done.stderr
    for phrase in phrases:
        assert phrase in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "phrase"),
    [
        ([], ExitCode.USAGE, "a share and a mount point are needed"),
        (["//srv/share"], ExitCode.USAGE, "a share and a mount point are needed"),
        (["//srv/share", "/mnt", "more"], ExitCode.USAGE, "too many arguments"),
        (["-x", "//srv/share", "/mnt"], ExitCode.USAGE, "option -x not recognized"),
        (["//srv/share", "/mnt", "-o"], ExitCode.USAGE, "requires argument"),
        (["//srv/share", "/mnt", "-o", "foo"], ExitCode.USAGE, "unknown option 'foo'"),
        (["//srv/share", "/mnt", "-o", "keytab=/k"], ExitCode.USAGE, "add sec=krb5"),
        (["//srv/share", "/mnt", "-o", "password=canary,canary"], ExitCode.USAGE, "'\\,'"),
        (["//srv/share", "/mnt", "-o", "remount,ro"], ExitCode.MOUNT_FAILED, "unmount and mount again"),
        (["srv:/share", "/mnt", "-o", "guest"], ExitCode.USAGE, "write it as //server/share"),
        (["//srv/share", "/nonexistent/m", "-o", "guest"], ExitCode.USAGE, "does not exist"),
        (["//srv/share", "/etc", "-o", "guest"], ExitCode.USAGE, "is not empty"),
        (["//srv/share", "/etc/passwd", "-o", "guest"], ExitCode.USAGE, "is not a folder"),
    ],
)
def test_what_is_wrong_with_the_arguments_is_one_line(
    arguments: list[str], code: ExitCode, phrase: str
) -> None:
    check(run(*arguments), code, phrase)


def test_bad_credentials_files(folder: Path, credentials: Path) -> None:
    arguments = ("//srv/share", str(folder), "-o", f"credentials={credentials}")
    credentials.chmod(0o644)
    check(run(*arguments), ExitCode.USAGE, "chmod 600")
    credentials.chmod(0o600)
    credentials.write_text("username=me\ncanary\n")
    check(run(*arguments), ExitCode.USAGE, "line 2 of credentials file")
    credentials.unlink()
    check(run(*arguments), ExitCode.USAGE, "cannot read credentials file", "No such file")


def test_no_password_and_no_terminal(folder: Path) -> None:
    check(run("//srv/share", str(folder), "-o", "user=me"), ExitCode.USAGE, "no password for 'me'")


def test_the_end_of_input_at_the_prompt_is_one_line(folder: Path) -> None:
    """Ctrl-D on a terminal of the command's own."""
    ours, its = os.openpty()
    try:
        with subprocess.Popen(
            ["setsid", "--ctty", "--wait", sys.executable, "-m", "smbmount", "//srv/share", folder],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "USER": "me"},
            stdin=its,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            asked = b""
            while b"Password of me: " not in asked:
                asked += os.read(ours, 100)
            os.write(ours, b"\x04")
            output, errors = process.communicate(timeout=60)
    finally:
        os.close(its)
        os.close(ours)
    done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    check(done, ExitCode.USAGE, "no password was given for 'me'", "credentials=FILE")


@pytest.mark.parametrize(
    ("option", "environ", "what"),
    [
        (b"user=canary\xff,password=p", {}, "option 'user' is not UTF-8"),
        (b"user=me,password=canary\xff", {}, "option 'password' is not UTF-8"),
        (b"user=me,password=p,domain=\xff", {}, "option 'domain' is not UTF-8"),
        (b"user=me", {b"PASSWD": b"canary\xff"}, "the password is not UTF-8"),
        (b"ro", {b"USER": b"\xff%canary"}, "the user name is not UTF-8"),
    ],
)
def test_an_account_that_is_not_utf8_is_our_users_mistake(
    folder: Path, option: bytes, environ: Mapping[bytes, bytes], what: str
) -> None:
    done = run(
        *("//127.0.0.1:1/share", str(folder), "-o", os.fsdecode(option)),
        environ={os.fsdecode(name): os.fsdecode(value) for name, value in environ.items()},
    )
    assert done.stderr.count("UTF-8") == 2
    check(done, ExitCode.USAGE)
    assert what in done.stderr.replace("': ", "' ")


@pytest.mark.parametrize("flags", [[], ["-f"]])
def test_an_unknown_host(folder: Path, credentials: Path, flags: list[str]) -> None:
    done = run("//no-such-host.invalid/share", str(folder), "-o", f"credentials={credentials}", *flags)
    check(done, ExitCode.MOUNT_FAILED, "cannot mount //no-such-host.invalid/share", "cannot be resolved")


@pytest.mark.parametrize("flags", [[], ["-f"]])
def test_a_port_where_nothing_listens(folder: Path, credentials: Path, flags: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        source = f"//127.0.0.1:{taken.getsockname()[1]}/share"
        done = run(source, str(folder), "-o", f"credentials={credentials}", *flags)
    check(done, ExitCode.MOUNT_FAILED, "nothing listens")


def test_passwords_in_argv_and_environment_are_taken_all_the_same(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        source = f"//127.0.0.1:{taken.getsockname()[1]}/share"
        for text, environ in (
            ("user=me,password=canary\\,x", {}),
            ("user=me%canary,ro", {}),
            ("user=me", {"PASSWD": "canary"}),
            ("ro", {"USER": "me%canary"}),
        ):
            done = run(source, str(folder), "-v", "-o", text, environ=environ)
            check(done, ExitCode.MOUNT_FAILED, "nothing listens")


def test_a_server_that_hangs_up(folder: Path, credentials: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:
        server.settimeout(30)
        source = f"//127.0.0.1:{server.getsockname()[1]}/share"
        running = pool.submit(run, source, str(folder), "-o", f"credentials={credentials}")
        server.accept()[0].close()
        done = running.result()
    check(done, ExitCode.MOUNT_FAILED, "cannot mount //127.0.0.1:")


def test_help_shows_every_option() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(row.names[0] in done.stdout for row in OPTIONS)
    assert done.stdout.startswith("usage: smbmount //server")
    assert run("-h").stdout == done.stdout


def test_the_version_names_all_that_a_bug_report_needs() -> None:
    done = run("-V")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"smbmount {smbmount.__version__} (Python 3.")
    assert "pyfuse3 3." in done.stdout
    assert "libfuse " in done.stdout
    assert f"Linux {os.uname().release}" in done.stdout
    assert run("--version").stdout == done.stdout


def test_the_version_is_the_projects() -> None:
    assert f'version = "{smbmount.__version__}"' in (CHECKOUT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["//s/x", "/m"], Arguments("//s/x", "/m", (), ())),
        (["//s/x", "/m", "-o", "rw,dev", "-o", "ro"], Arguments("//s/x", "/m", ("rw,dev", "ro"), ())),
        (["-fd", "//s/x", "-oro", "/m", "-v"], Arguments("//s/x", "/m", ("ro",), ("-f", "-d", "-v"))),
        (["//s/x", "/m", "-n", "-s", "-t", "fuse.smbmount"], Arguments("//s/x", "/m", ("sloppy",), ())),
        (["--", "//s/x", "-m"], Arguments("//s/x", "-m", (), ())),
    ],
)
def test_arguments_are_taken_as_mount_gives_them(argv: list[str], expected: Arguments) -> None:
    assert parse_arguments(argv) == expected


def test_arguments_that_make_no_sense_are_usage_errors() -> None:
    with pytest.raises(MountFailure) as caught:
        parse_arguments(["--nonsense"])
    assert caught.value.code is ExitCode.USAGE
