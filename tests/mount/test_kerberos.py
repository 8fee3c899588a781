"""Mounts with Kerberos in a real domain: every way to a ticket, its end while mounted, and refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.mount.test_errors_and_exit_codes import MOUNT_FAILED, USAGE, check, run
from tests.support.domain import HOST, PASSWORD, USER, Domain
from tests.support.mounting import CHECKOUT, Mount
from tests.support.tools import wait_until

pytestmark = pytest.mark.deadline(90)

_SHORT_TICKETS: Final = CHECKOUT / "tests/support/short_tickets"
_LIFETIME: Final = 10
"""Seconds of a ticket that a test outlives."""

Mounter = Callable[..., Mount]
"""`mounter(*options, environ={…})` mounts the domain's share, without a word about an account."""


@pytest.fixture
def mounter(domain: Domain, tmp_path: Path) -> Iterator[Mounter]:
    with ExitStack() as stack:

        def make(*options: str, **environ: str) -> Mount:
            mountpoint = tmp_path / "mnt"
            mountpoint.mkdir()
            return stack.enter_context(
                Mount(
                    domain,
                    mountpoint,
                    options=[f"ip={domain.address}", *options],
                    ticket=True,
                    environ={"KRB5_CONFIG": str(domain.krb5_conf), **environ},
                )
            )

        yield make


@pytest.fixture(scope="module")
def cache(domain: Domain, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache with a ticket of the user."""
    return domain.kinit(tmp_path_factory.mktemp("tickets") / "cache")


@pytest.fixture(scope="module")
def keytab(domain: Domain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's keys."""
    return domain.make_keytab(tmp_path_factory.mktemp("keys") / "keytab")


def assert_works(domain: Domain, mount: Mount) -> None:
    name = f"file{time.monotonic_ns()}"
    data = os.urandom(300_000)
    (mount.path / name).write_bytes(data)
    assert (domain.share_path() / name).read_bytes() == data
    assert (mount.path / name).read_bytes() == data
    (mount.path / name).unlink()


def status_of(mount: Mount) -> dict[str, Any]:
    """What smbmountctl says."""
    done = subprocess.run(
        [sys.executable, "-m", "smbmount.ctl", "status", "--json", mount.path],
        capture_output=True,
        check=True,
    )
    status: dict[str, Any] = json.loads(done.stdout)
    return status


def connection(mount: Mount) -> dict[str, Any]:
    """What smbmountctl says about the connection."""
    found: dict[str, Any] = status_of(mount)["connection"]
    return found


@pytest.mark.parametrize("kind", ["krb5", "krb5i", "krb5p", "negotiate"])
def test_ticket_of_the_cache(domain: Domain, mounter: Mounter, cache: str, kind: str) -> None:
    mount = mounter(f"sec={kind}", KRB5CCNAME=cache)
    assert_works(domain, mount)
    status = connection(mount)
    assert status["authentication"] == "Kerberos"
    assert status["ticket"]["principal"] == f"{USER}@EXAMPLE.TEST"
    assert status["ticket"]["spn"] == f"cifs/{HOST}"
    assert status["ticket"]["end"] > time.time()
    assert status["encrypted"] is (kind == "krb5p")


def test_keytab(domain: Domain, mounter: Mounter, keytab: Path) -> None:
    assert_works(domain, mounter("sec=krb5", f"keytab={keytab}"))


def test_password_gets_a_ticket(domain: Domain, mounter: Mounter) -> None:
    mount = mounter("sec=krb5", f"credentials={domain.credentials_file}")
    assert_works(domain, mount)
    assert connection(mount)["authentication"] == "Kerberos"
    for place in ("cmdline", "environ"):
        assert PASSWORD.encode() not in Path(f"/proc/{mount.pid}/{place}").read_bytes()


def test_tickets_of_another_user(domain: Domain, mounter: Mounter, cache: str) -> None:
    owner = 64_000 + os.getpid() % 1_000
    path = Path(f"/tmp/krb5cc_{owner}")
    try:
        path.write_bytes(Path(cache.removeprefix("FILE:")).read_bytes())
        os.chown(path, owner, owner)
        assert_works(domain, mounter("sec=krb5", f"cruid={owner}"))
    finally:
        path.unlink(missing_ok=True)


def test_in_the_background_from_a_relative_keytab(domain: Domain, keytab: Path, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    (tmp_path / "keytab").write_bytes(keytab.read_bytes())
    (tmp_path / "keytab").chmod(0o600)
    options = f"sec=krb5,keytab=keytab,ip={domain.address},port={domain.port}"
    prefix = ("env", "-C", str(tmp_path))
    done = run(domain.unc(), mountpoint, "-o", options, prefix=prefix, KRB5_CONFIG=str(domain.krb5_conf))
    assert done.returncode == 0, done.stderr
    try:
        assert os.path.ismount(mountpoint)
    finally:
        subprocess.run(["fusermount3", "-u", mountpoint], check=True)


# The ticket's end


def test_session_that_ends_is_renewed_from_the_cache(
    domain: Domain, mounter: Mounter, tmp_path: Path
) -> None:
    """On the same connection, under an open file, and without a word in the log."""
    cache = domain.kinit(tmp_path / "cache")
    end = domain.get_service_ticket(cache, _LIFETIME)
    mount = mounter("sec=krb5", KRB5CCNAME=cache)
    # The session ends with the ticket for the server, not with the user's own.
    assert connection(mount)["ticket"]["end"] == pytest.approx(end, abs=2)
    with (mount.path / "open").open("wb", buffering=0) as file:
        file.write(b"before")
        os.fsync(file)
        wait_until(lambda: time.time() > end, "the session's end", 2 * _LIFETIME)
        file.write(b" and after")
        os.fsync(file)
        assert_works(domain, mount)
    assert (domain.share_path() / "open").read_bytes() == b"before and after"
    (mount.path / "open").unlink()
    trips = mount.statistics()["trips"]
    assert trips["NEGOTIATE"] == 1
    assert trips["SESSION_SETUP"] == 2


def test_session_that_ends_is_renewed_from_the_keytab(domain: Domain, mounter: Mounter, keytab: Path) -> None:
    """Nobody runs kinit: the mount gets itself a ticket, and shows the end of the new one."""
    variables = {"PYTHONPATH": f"{_SHORT_TICKETS}:{CHECKOUT}", "SMBMOUNT_TEST_LIFETIME": str(_LIFETIME)}
    mount = mounter("sec=krb5", f"keytab={keytab}", **variables)
    first = connection(mount)["ticket"]["end"]
    assert time.time() < first <= time.time() + _LIFETIME
    with (mount.path / "open").open("wb", buffering=0) as file:
        file.write(b"before")
        os.fsync(file)
        wait_until(lambda: time.time() > first + 1, "the session's end", 2 * _LIFETIME)
        file.write(b" and after")
        os.fsync(file)
        assert_works(domain, mount)
    assert (domain.share_path() / "open").read_bytes() == b"before and after"
    (mount.path / "open").unlink()
    status = status_of(mount)
    assert time.time() < status["connection"]["ticket"]["end"] <= time.time() + _LIFETIME
    assert status["reconnects"]["count"] == 0
    assert status["statistics"]["trips"]["NEGOTIATE"] == 1
    assert status["statistics"]["trips"]["SESSION_SETUP"] == 2


def test_mount_whose_ticket_is_gone_comes_back_after_kinit(
    domain: Domain, mounter: Mounter, tmp_path: Path
) -> None:
    cache = domain.kinit(tmp_path / "cache")
    end = domain.get_service_ticket(cache, _LIFETIME)
    mount = mounter("sec=krb5", KRB5CCNAME=cache)
    mount.expect_log("there is no ticket: run kinit")
    mount.expect_log("the connection to .* is (lost|back)")
    assert_works(domain, mount)
    (tmp_path / "cache").unlink()
    wait_until(lambda: time.time() > end, "the session's end", 2 * _LIFETIME)
    wait_until(lambda: fails(mount.path), "a call that fails")
    began = time.monotonic()
    domain.kinit(tmp_path / "cache")
    wait_until(lambda: not fails(mount.path), "the mount's return")
    assert time.monotonic() - began < 10
    assert_works(domain, mount)


def fails(folder: Path) -> bool:
    """Whether the folder cannot be read; a name that nobody has asked for yet makes it ask the server."""
    try:
        (folder / str(time.monotonic_ns())).touch()
    except OSError:
        return True
    return False


# Refusals


@pytest.fixture
def refused(domain: Domain, tmp_path: Path) -> Callable[..., str]:
    """`refused(code, *options, KRB5CCNAME=…)` tries to mount, and fails with that code and one line."""
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()

    def attempt(code: int, *options: str, source: str = "", prefix: tuple[str, ...] = (), **more: str) -> str:
        everywhere = ",".join([f"ip={domain.address}", f"port={domain.port}", *options])
        variables = {"KRB5_CONFIG": str(domain.krb5_conf), **more}
        done = run(source or domain.unc(), mountpoint, "-o", everywhere, prefix=prefix, **variables)
        assert done.returncode == code, done.stderr
        [line] = done.stderr.splitlines()
        assert PASSWORD not in line
        return line

    return attempt


Attempt = Callable[..., str]


def test_no_ticket(refused: Attempt, tmp_path: Path) -> None:
    line = refused(MOUNT_FAILED, "sec=krb5", KRB5CCNAME=f"FILE:{tmp_path}/none")
    check(line, f"cannot mount //{HOST}/data: Kerberos: there is no ticket: run kinit")


def test_address_instead_of_a_name(refused: Attempt, cache: str) -> None:
    line = refused(MOUNT_FAILED, "sec=krb5", source="//127.0.0.1/data", KRB5CCNAME=cache)
    check(line, "Kerberos knows servers by name, and 127.0.0.1 is an address", "ip=")


def test_unknown_service(refused: Attempt, cache: str) -> None:
    line = refused(MOUNT_FAILED, "sec=krb5", source="//unknown.example.test/data", KRB5CCNAME=cache)
    check(line, "no service cifs/unknown.example.test", "setspn")


def test_wrong_password(refused: Attempt) -> None:
    line = refused(MOUNT_FAILED, "sec=krb5", f"username={USER}", PASSWD="wrong-canary")
    check(line, "does not accept the password")
    assert "wrong-canary" not in line


def test_clock_that_is_wrong(domain: Domain, refused: Attempt, cache: str, tmp_path: Path) -> None:
    config = domain.write_krb5_conf(tmp_path / "krb5.conf", extra="kdc_timesync = 0")
    clock = ("env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "faketime", "-f", "+20m")
    line = refused(MOUNT_FAILED, "sec=krb5", prefix=clock, KRB5CCNAME=cache, KRB5_CONFIG=str(config))
    check(line, "the clocks of this machine and of the domain are too far apart", "NTP")


def test_no_kdc(domain: Domain, refused: Attempt, tmp_path: Path) -> None:
    config = domain.write_krb5_conf(tmp_path / "krb5.conf", kdc="127.0.0.1:1")
    line = refused(MOUNT_FAILED, "sec=krb5", f"username={USER}", PASSWD=PASSWORD, KRB5_CONFIG=str(config))
    check(line, "no KDC of the domain answers: check the network, and the realm in krb5.conf$")


def test_keytab_that_others_can_read(refused: Attempt, tmp_path: Path) -> None:
    (tmp_path / "keytab").touch(mode=0o644)
    check(refused(USAGE, "sec=krb5", f"keytab={tmp_path}/keytab"), "chmod 600")


def test_without_the_packages(refused: Attempt, tmp_path: Path, cache: str) -> None:
    (tmp_path / "gssapi.py").write_text("raise ImportError('not here')")
    prefix = ("sh", "-c", f'PYTHONPATH={tmp_path}:$PYTHONPATH exec "$@"', "sh")
    line = refused(USAGE, "sec=krb5", prefix=prefix, KRB5CCNAME=cache)
    check(line, r"pip install 'smbmount\[kerberos\]'")
