"""`smbmountctl doctor` and the log-on: accounts that are refused, and what Kerberos says in a domain."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.doctor import Examined, account, credentials, examine, examine_at
from tests.support.domain import HOST, OTHER_USER, PASSWORD, USER, Domain
from tests.support.factories import SambaFactory
from tests.support.samba import GUEST_GLOBAL_OPTIONS, SambaServer
from tests.support.tools import wait_until

pytestmark = pytest.mark.deadline(90)

REFUSED = "log-on as … refused: … (…)"


def refused_with(seen: Examined, status: str, *words: str) -> None:
    """The account was refused with that code."""
    seen.fails_at("log-on", REFUSED, status, *words)
    assert seen.of("log-on")["status"] == status


# Accounts of the server


def test_wrong_password_and_guest(samba: SambaServer, tmp_path: Path) -> None:
    seen = examine_at(samba, credentials(tmp_path / "wrong", samba.user, "wrong-canary"))
    refused_with(seen, "STATUS_LOGON_FAILURE", "user name or password is wrong")
    assert "wrong-canary" not in repr(seen)
    refused_with(examine_at(samba, "guest"), "STATUS_LOGON_FAILURE", "'guest'")


@pytest.fixture(scope="module")
def office() -> Iterator[SambaServer]:
    """A server whose account can be locked."""
    with SambaServer() as server:
        yield server


@contextmanager
def changed(server: SambaServer, *change: str, back: tuple[str, ...]) -> Iterator[None]:
    """Have the server's account be otherwise."""

    def pdbedit(*arguments: str) -> None:
        command = ["pdbedit", "-s", str(server.conf), "-u", server.user, *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    pdbedit(*change)
    try:
        yield
    finally:
        pdbedit(*back)


@pytest.mark.parametrize(
    ("change", "back", "status"),
    [
        (("-c", "[D]"), ("-c", "[]"), "STATUS_ACCOUNT_DISABLED"),
        (("-c", "[L]"), ("-c", "[]"), "STATUS_ACCOUNT_LOCKED_OUT"),
        (("--kickoff-time", "1000000"), ("--kickoff-time", "never"), "STATUS_ACCOUNT_EXPIRED"),
    ],
)
def test_account_that_may_not_log_on(
    office: SambaServer, change: tuple[str, ...], back: tuple[str, ...], status: str
) -> None:
    with changed(office, *change, back=back):
        refused_with(examine_at(office, account(office)), status)


@pytest.mark.parametrize(
    ("change", "back", "status"),
    [
        (("pwdmustchangenow", "yes"), ("pwdmustchangenow", "no"), "STATUS_PASSWORD_MUST_CHANGE"),
        (("workstations", "elsewhere"), ("workstations", ""), "STATUS_INVALID_WORKSTATION"),
    ],
)
def test_account_that_may_log_on_otherwise(
    office: SambaServer, change: tuple[str, str], back: tuple[str, str], status: str
) -> None:
    def net(what: str, value: str) -> None:
        command = ["net", "-s", str(office.conf), "sam", "set", what, office.user, value]
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    net(*change)
    try:
        refused_with(examine_at(office, account(office)), status)
    finally:
        net(*back)


def test_server_without_ntlm(samba_factory: SambaFactory) -> None:
    server = samba_factory(global_options={"ntlm auth": "disabled"})
    refused_with(examine_at(server, account(server)), "STATUS_NTLM_BLOCKED", "sec=krb5")


def test_account_that_becomes_a_guest(samba_factory: SambaFactory, tmp_path: Path) -> None:
    server = samba_factory(global_options=GUEST_GLOBAL_OPTIONS)
    examine_at(server, credentials(tmp_path / "unknown", "no-such-user", "password")).fails_at(
        "log-on",
        "the server let the account in only as a guest, without any protection: check the user name and "
        "password, or ask for it with the option 'guest'",
    )


# Kerberos

Ask = Callable[..., Examined]
"""`ask(*options, source=…, KRB5CCNAME=…)` goes to the domain's share by Kerberos."""


@pytest.fixture
def ask(domain: Domain) -> Ask:
    """See `Ask`."""

    def ask_domain(
        *options: str, source: str = "", prefix: tuple[str, ...] = (), **variables: str
    ) -> Examined:
        given = ("sec=krb5", f"ip={domain.address}", f"port={domain.port}", *options)
        variables = {"KRB5_CONFIG": str(domain.krb5_conf), **variables}
        seen = examine(source or domain.unc(), *given, prefix=prefix, **variables)
        assert PASSWORD not in repr(seen)
        return seen

    return ask_domain


@pytest.fixture(scope="module")
def cache(domain: Domain, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache with a ticket of the user."""
    return domain.kinit(tmp_path_factory.mktemp("tickets") / "cache")


@pytest.fixture(scope="module")
def keytab(domain: Domain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's keys."""
    return domain.make_keytab(tmp_path_factory.mktemp("keys") / "keytab")


def test_log_on_by_a_ticket(ask: Ask, cache: str) -> None:
    seen = ask(KRB5CCNAME=cache)
    assert seen.code == 0
    assert seen.of("log-on")["said"] == f"by Kerberos, {USER}@EXAMPLE.TEST for cifs/{HOST}"


def test_no_ticket(ask: Ask, tmp_path: Path) -> None:
    seen = ask(KRB5CCNAME=f"FILE:{tmp_path}/none")
    seen.fails_at("log-on", "there is no ticket: run kinit, or check KRB5CCNAME")


def test_expired_ticket(domain: Domain, ask: Ask, tmp_path: Path) -> None:
    cache = domain.kinit(tmp_path / "cache", "-l", "1s")
    command = ["klist", "-s", "-c", cache]
    wait_until(
        lambda: subprocess.run(command, env=domain.environ, check=False).returncode != 0, "the ticket's end"
    )
    ask(KRB5CCNAME=cache).fails_at("log-on", "the ticket has expired: run kinit")


def test_clock_that_is_wrong(domain: Domain, ask: Ask, cache: str, tmp_path: Path) -> None:
    config = domain.write_krb5_conf(tmp_path / "krb5.conf", extra="kdc_timesync = 0")
    clock = ("env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "faketime", "-f", "+20m")
    ask(prefix=clock, KRB5CCNAME=cache, KRB5_CONFIG=str(config)).fails_at(
        "log-on", "the clocks of this machine and of the domain are too far apart", "NTP"
    )


def test_name_without_a_service(ask: Ask, cache: str) -> None:
    ask(source="//unknown.example.test/data", KRB5CCNAME=cache).fails_at(
        "log-on",
        "the domain knows no service …: use the server's name in the domain, or have this one added (setspn)",
        "cifs/unknown.example.test",
    )


def test_name_of_another_account(domain: Domain, ask: Ask, cache: str) -> None:
    """The domain gives a ticket, and the server has not the key to read it with: no password is wrong."""
    domain.samba_tool("user", "create", "other-machine", PASSWORD)
    domain.samba_tool("spn", "add", "cifs/machine.example.test", "other-machine")
    ask(source="//machine.example.test/data", KRB5CCNAME=cache).fails_at(
        "log-on",
        "the server takes no ticket for …: is that name another account's in the domain?",
        "cifs/machine.example.test",
        f"log-on as '{USER}@EXAMPLE.TEST' refused",
        "STATUS_LOGON_FAILURE",
    )


def test_address_instead_of_a_name(ask: Ask, cache: str) -> None:
    ask(source="//127.0.0.1/data", KRB5CCNAME=cache).fails_at(
        "log-on",
        "Kerberos knows servers by name, and … is an address: mount //NAME/share, with ip= if need be",
    )


def test_server_outside_of_the_domain(ask: Ask, samba: SambaServer, cache: str) -> None:
    seen = ask(f"ip={samba.address}", f"port={samba.port}", KRB5CCNAME=cache)
    seen.fails_at(
        "log-on", "the server does not take Kerberos, as servers outside of a domain: use sec=ntlmssp"
    )


def test_wrong_password_of_the_domain(ask: Ask) -> None:
    seen = ask(f"username={USER}", PASSWD="wrong-canary")
    seen.fails_at("log-on", "the domain does not accept the password or key of …", USER)
    assert "wrong-canary" not in repr(seen)


def test_user_that_the_domain_does_not_know(ask: Ask) -> None:
    seen = ask("username=nobody", PASSWD=PASSWORD)
    seen.fails_at("log-on", "the domain knows no user …: check the name and the realm")


def test_accounts_of_the_domain_that_may_not_log_on(domain: Domain, ask: Ask) -> None:
    for name, change in (
        ("dismissed", ("disable", "dismissed")),
        ("left", ("setexpiry", "left", "--days=0")),
    ):
        domain.samba_tool("user", "create", name, PASSWORD)
        domain.samba_tool("user", *change)
        seen = ask(f"username={name}", PASSWD=PASSWORD)
        seen.fails_at("log-on", "the account … is disabled, locked or expired", name)


def test_password_of_the_domain_that_has_to_be_changed(domain: Domain, ask: Ask) -> None:
    domain.samba_tool("user", "create", "new-here", PASSWORD, "--must-change-at-next-login")
    seen = ask("username=new-here", PASSWD=PASSWORD)
    seen.fails_at("log-on", "the password of … has expired: change it, with kpasswd for example")


def test_encryption_types_that_do_not_meet(domain: Domain, ask: Ask, cache: str, tmp_path: Path) -> None:
    odd = "camellia256-cts-cmac"
    config = domain.write_krb5_conf(tmp_path / "a", extra=f"permitted_enctypes = {odd}")
    ask(f"username={USER}", PASSWD=PASSWORD, KRB5_CONFIG=str(config)).fails_at(
        "log-on", "this machine and the domain have no encryption type in common: see krb5.conf"
    )
    config = domain.write_krb5_conf(tmp_path / "b", extra=f"default_tgs_enctypes = {odd}")
    ask(KRB5CCNAME=cache, KRB5_CONFIG=str(config)).fails_at(
        "log-on", "krb5.conf allows no encryption type that the ticket has: run kinit, or mend krb5.conf"
    )


def test_no_kdc(domain: Domain, ask: Ask, tmp_path: Path) -> None:
    config = domain.write_krb5_conf(tmp_path / "krb5.conf", kdc="127.0.0.1:1")
    ask(f"username={USER}", PASSWD=PASSWORD, KRB5_CONFIG=str(config)).fails_at(
        "log-on", "no KDC of the domain answers: check the network, and the realm in krb5.conf"
    )


def test_realm_that_nobody_knows(ask: Ask) -> None:
    ask(f"username={USER}@NOWHERE.TEST", PASSWD=PASSWORD).fails_at(
        "log-on",
        "no KDC is known for the realm: name one in krb5.conf, or write the user as NAME@REALM",
    )


def test_krb5_conf_that_is_none(ask: Ask, cache: str, tmp_path: Path) -> None:
    (tmp_path / "krb5.conf").write_text("[libdefaults\n")
    ask(KRB5CCNAME=cache, KRB5_CONFIG=f"{tmp_path}/krb5.conf").fails_at("log-on", "krb5.conf is malformed")


def test_caches_of_no_use(ask: Ask, cache: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"nonsense")
    ask(KRB5CCNAME=f"FILE:{tmp_path}/cache").fails_at(
        "log-on", "the ticket cache cannot be used: run kinit, and check KRB5CCNAME"
    )
    ask(f"username={OTHER_USER}", KRB5CCNAME=cache).fails_at(
        "log-on", "the ticket cache holds no ticket of …: run kinit, or leave the user name out", OTHER_USER
    )


def test_caches_of_another_user_that_are_not_used(ask: Ask) -> None:
    owner = 65_000 + os.getpid() % 500
    path = Path(f"/tmp/krb5cc_{owner}")
    try:
        path.symlink_to("/etc/hostname")
        ask(f"cruid={owner}").fails_at("log-on", "cannot use the ticket cache …: …")
        path.unlink()
        path.write_text("")
        message = "the ticket cache … does not belong to user …, so it is not used"
        ask(f"cruid={owner}").fails_at("log-on", message)
    finally:
        path.unlink(missing_ok=True)


def test_keytabs_of_no_use(ask: Ask, keytab: Path, tmp_path: Path) -> None:
    ask(f"keytab={keytab}", f"username={OTHER_USER}").fails_at(
        "log-on", "the keytab has no key of …", OTHER_USER
    )
    for content, message in (
        (b"\5\2", "the keytab … is empty: check keytab="),
        (b"nonsense", "the keytab cannot be used: check keytab="),
    ):
        path = tmp_path / content.hex()
        path.touch(0o600)
        path.write_bytes(content)
        ask(f"keytab={path}").fails_at("log-on", message)


def test_without_the_packages(samba: SambaServer, tmp_path: Path) -> None:
    (tmp_path / "gssapi.py").write_text("raise ImportError('not here')")
    prefix = ("sh", "-c", f'PYTHONPATH={tmp_path}:$PYTHONPATH exec "$@"', "sh")
    examine("//localhost/data", "sec=krb5", f"port={samba.port}", prefix=prefix).fails_at(
        "log-on",
        "Kerberos needs Python packages that are not installed: run pip install 'smbmount[kerberos]'",
    )
