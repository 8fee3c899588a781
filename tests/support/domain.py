"""A throw-away Active Directory domain on a loopback address: one controller that is also a server.

It has its own address, folders, users and krb5.conf, and nothing of the machine is changed: no name service
knows its name, so whoever connects gives the address beside it (`ip=`), and finds the KDC by `KRB5_CONFIG`.
As the ports of a domain are fixed, only root can start one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.janitor import Janitor
from tests.support.samba import HarnessError, free_port
from tests.support.samba_defaults import DEFAULT_SHARE_OPTIONS

REALM: Final = "EXAMPLE.TEST"
HOST: Final = "dc1.example.test"
ALIAS: Final = "files.example.test"
"""A second name of the server, for which the domain has an SPN too."""

USER: Final = "alice"
PASSWORD: Final = "Correct, horse=battery 1"
OTHER_USER: Final = "bob"

_ADMIN_PASSWORD: Final = "Only-for-provisioning-1"
_START_DEADLINE: Final = 60.0
_STOP_DEADLINE: Final = 10.0
_COMMAND_DEADLINE: Final = 60.0
_PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
_KDC_PORT: Final = 88

_SMB_CONF: Final = """
[global]
    server role = active directory domain controller
    server services = s3fs, rpc, ldap, cldap, kdc, winbindd
    workgroup = EXAMPLE
    realm = {realm}
    netbios name = DC1
    interfaces = {address}/8
    bind interfaces only = yes
    disable netbios = yes
    server min protocol = SMB2_02
    smb ports = {port}
    load printers = no
    printing = bsd
    printcap name = /dev/null
    usershare max shares = 0
    max log size = 0
    log level = 1
    log file = {base}/log/log.%m
    private dir = {base}/ad/private
    state directory = {base}/ad/state
    lock directory = {base}/lock
    cache directory = {base}/cache
    pid directory = {base}/pid
    ncalrpc dir = {base}/ncalrpc
    binddns dir = {base}/ad/bind-dns
    kdc : user ticket lifetime = 10
{global_options}
[sysvol]
    path = {base}/ad/state/sysvol
    read only = no
[netlogon]
    path = {base}/ad/state/sysvol/example.test/scripts
    read only = no
[data]
    path = {base}/shares/data
{share_options}
"""

_KRB5_CONF: Final = """
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    default_ccache_name = FILE:{base}/no-such-cache
    kdc_timeout = 5
    max_retries = 1
[realms]
    {realm} = {{
        kdc = {kdc}
    }}
[domain_realm]
    .example.test = {realm}
"""


_GET_SERVICE_TICKET: Final = """
import sys
import gssapi
import krb5
cache, service, seconds = sys.argv[1:]
kerberos = gssapi.MechType.kerberos
credentials = gssapi.Credentials(usage="initiate", mechs=[kerberos], store={"ccache": cache})
name = gssapi.Name(service, gssapi.NameType.hostbased_service)
gssapi.SecurityContext(name=name, creds=credentials, mech=kerberos, lifetime=int(seconds)).step()
tickets = krb5.cc_resolve(krb5.init_context(), cache.encode())
print(max(ticket.times.endtime for ticket in tickets if ticket.server.name.startswith(b"cifs/")))
"""


class Domain:
    """The domain; a context manager. `stop()` ends every process it started and removes every folder it made.

    `global_options` go into `smb.conf`. It has the users `USER` and `OTHER_USER`, both with `PASSWORD`.
    """

    def __init__(self, global_options: Mapping[str, str] | None = None) -> None:
        self.address = ""
        self.port = 0
        self._global_options = dict(global_options or {})
        self._base: Path | None = None
        self._janitor: Janitor | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self.resume_service()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # Life and death

    def resume_service(self) -> None:
        """Start the servers on the folders that are there and wait until they accept connections."""
        # In the foreground it ends when a pipe at its standard input does, so it cannot outlive us. It finds
        # its winbindd in a folder of /run that no option names, so it gets a /run of its own. Mounts of other
        # tests it lets go: they would outlive their unmounting here.
        with (self.base / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [
                    *(
                        "unshare",
                        "--mount",
                        "sh",
                        "-c",
                        'umount --lazy --all --types fuse.smbmount; mount --bind "$0" /run && exec "$@"',
                        self.base / "run",
                    ),
                    *(_binary("samba"), "--foreground", "--no-process-group", "-s", self.conf),
                ],
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=console,
                env=self.environ,
                start_new_session=True,
            )
        assert self._janitor is not None
        self._janitor.watch(self._process.pid)
        deadline = time.monotonic() + _START_DEADLINE
        while not all(self._accepts(port) for port in (_KDC_PORT, self.port)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise HarnessError(f"the domain did not start on {self.address}:\n{self.log_text()[-4000:]}")

    def stop_service(self) -> None:
        """End the servers with all their connections; the folders stay."""
        process, self._process = self._process, None
        if process is None:
            return
        # Until the leader is reaped, its id and that of its group cannot be anyone else's.
        if process.returncode is None:
            os.kill(process.pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_DEADLINE
            while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert self._janitor is not None
        self._janitor.watch(None)
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pid = int((self.base / "pid" / "samba-dcerpcd.pid").read_text())
            if os.fsencode(self.conf) in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.killpg(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the domain and remove what it left; harmless when it never started."""
        self.stop_service()
        if self._base is not None:
            shutil.rmtree(self._base, ignore_errors=True)
            self._base = None
        if self._janitor is not None:
            self._janitor.dismiss()
            self._janitor = None

    # What it is

    @property
    def base(self) -> Path:
        """The folder that holds everything of this domain."""
        if self._base is None:
            raise HarnessError("this Domain was not started")
        return self._base

    @property
    def conf(self) -> Path:
        """Its `smb.conf`."""
        return self.base / "smb.conf"

    @property
    def krb5_conf(self) -> Path:
        """What `KRB5_CONFIG` has to name."""
        return self.base / "krb5.conf"

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a process that is in this domain and has no ticket."""
        return {**_without_kerberos(os.environ), "KRB5_CONFIG": str(self.krb5_conf)}

    @property
    def credentials_file(self) -> Path:
        """A file with `USER`'s name and password that nobody else can read."""
        return self.base / "credentials"

    def unc(self, share: str = "data") -> str:
        """`//name/share`; the name is one for Kerberos alone, to connect takes `address` too."""
        return f"//{HOST}/{share}"

    def share_path(self, share: str = "data") -> Path:
        """The local folder that `share` shows."""
        return self.base / "shares" / share

    def log_text(self) -> str:
        """Everything that the servers have logged so far."""
        if self._base is None:
            return ""
        files = [self._base / "console", *sorted((self._base / "log").glob("*"))]
        return "\n".join(file.read_text(errors="replace") for file in files if file.is_file())

    # What can be done with it

    def kinit(
        self, cache: Path | str, *arguments: str, user: str = USER, environ: Mapping[str, str] | None = None
    ) -> str:
        """Put a ticket of `user` into a cache, as kinit(1) with `arguments`; returns the cache's name."""
        name = cache if isinstance(cache, str) else f"FILE:{cache}"
        self._run(
            [_binary("kinit"), "-c", name, *arguments, f"{user}@{REALM}"],
            stdin=f"{PASSWORD}\n",
            environ=environ or {},
        )
        return name

    def kdestroy(self, cache: str) -> None:
        """Remove a cache and the tickets in it."""
        self._run([_binary("kdestroy"), "-q", "-c", cache])

    def get_service_ticket(self, cache: str, seconds: int) -> float:
        """Put a ticket for the file server, valid so long, into a cache with one of its user; the second
        behind its end is given.

        A domain gives nothing for a user's ticket that ends within two minutes, so a session that is to end
        soon takes this.
        """
        command = [sys.executable, "-c", _GET_SERVICE_TICKET, cache, f"cifs@{HOST}", str(seconds)]
        return float(self._run(command)) + 1

    def make_keytab(self, path: Path, *, user: str = USER) -> Path:
        """Write `user`'s keys into a new keytab that nobody else can read."""
        self.samba_tool("domain", "exportkeytab", str(path), f"--principal={user}@{REALM}")
        path.chmod(0o600)
        return path

    @contextlib.contextmanager
    def configured(self, **options: str) -> Iterator[None]:
        """Have the file server follow other options, `_` being a blank, until the block ends."""
        before = self._global_options
        try:
            self._configure({**before, **{name.replace("_", " "): value for name, value in options.items()}})
            yield
        finally:
            self._configure(before)

    def _configure(self, options: dict[str, str]) -> None:
        self._global_options = options
        self.conf.write_text(self._render_conf())
        control = [_binary("smbcontrol"), "-s", str(self.conf), "smbd"]
        self._run([*control, "reload-config"])
        # Messages are answered in their order, so after this it has been read.
        self._run([*control, "ping"])

    def smbstatus(self, *arguments: str) -> str:
        """What `smbstatus` says: connections, shares in use, open files."""
        return self._run([_binary("smbstatus"), "-s", str(self.conf), *arguments])

    def samba_tool(self, *arguments: str) -> str:
        """Run samba-tool on this domain's own database."""
        return self._run([_binary("samba-tool"), *arguments, "-s", str(self.conf)])

    def write_krb5_conf(self, path: Path, *, kdc: str | None = None, extra: str = "") -> Path:
        """Write a krb5.conf of this domain, with another KDC or more lines in [libdefaults]."""
        text = _KRB5_CONF.format(realm=REALM, kdc=kdc or self.address, base=self.base)
        path.write_text(text.replace("[libdefaults]\n", f"[libdefaults]\n{extra}\n", 1))
        return path

    def _prepare(self) -> None:
        self.address, self.port = _free_address(), free_port()
        self._base = Path(tempfile.mkdtemp(prefix="smbmount-domain-", dir="/var/tmp"))
        self._base.chmod(0o755)
        self._janitor = Janitor(self._base)
        for name in ("lock", "cache", "pid", "ncalrpc", "log", "run/samba", "shares/data"):
            (self._base / name).mkdir(parents=True)
        self.share_path().chmod(0o777)
        self.write_krb5_conf(self.krb5_conf)
        self.conf.write_text(self._render_conf())
        self._provision()
        self.credentials_file.touch(mode=0o600)
        self.credentials_file.write_text(f"username={USER}\npassword={PASSWORD}\ndomain=EXAMPLE\n")

    def _provision(self) -> None:
        # The configuration is our own, as that of the machine would leak into what is written here.
        empty = self.base / "empty.conf"
        empty.touch()
        self._run(
            [
                *(_binary("samba-tool"), "domain", "provision"),
                *(f"--targetdir={self.base / 'ad'}", f"--realm={REALM}", "--domain=EXAMPLE"),
                *("--server-role=dc", "--dns-backend=NONE", "--host-name=dc1"),
                *(f"--host-ip={self.address}", f"--adminpass={_ADMIN_PASSWORD}", f"--configfile={empty}"),
                *(f"--option=interfaces={self.address}/8", "--option=bind interfaces only=yes"),
            ]
        )
        for user in (USER, OTHER_USER):
            self.samba_tool("user", "create", user, PASSWORD)
        self.samba_tool("spn", "add", f"cifs/{ALIAS}", "DC1$")

    def _render_conf(self) -> str:
        def lines(options: Mapping[str, str]) -> str:
            return "".join(f"    {name} = {value}\n" for name, value in options.items())

        return _SMB_CONF.format(
            realm=REALM,
            address=self.address,
            port=self.port,
            base=self.base,
            global_options=lines(self._global_options),
            share_options=lines(DEFAULT_SHARE_OPTIONS),
        )

    def _accepts(self, port: int) -> bool:
        try:
            socket.create_connection((self.address, port), timeout=1.0).close()
        except OSError:
            time.sleep(0.01)
            return False
        return True

    def _run(
        self, command: Sequence[str], *, stdin: str = "", environ: Mapping[str, str] | None = None
    ) -> str:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_DEADLINE,
            env={**self.environ, **(environ or {})},
            check=False,
        )
        if done.returncode != 0:
            raise HarnessError(f"{Path(command[0]).name} failed: {done.stdout}{done.stderr}")
        return done.stdout


def _without_kerberos(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("KRB5")}


def _binary(name: str) -> str:
    path = shutil.which(name, path=_PATH)
    if path is None:
        raise HarnessError(f"{name} is not installed: run scripts/test as root")
    return path


def _free_address() -> str:
    """An address of the loopback network on which nobody has a domain, of this test run or another."""
    for _ in range(100):
        address = ".".join(("127", *(str(random.randint(1, 254)) for _ in range(3))))
        try:
            with socket.socket() as probe:
                probe.bind((address, _KDC_PORT))
        except OSError:
            continue
        return address
    raise HarnessError(f"no loopback address has port {_KDC_PORT} free: is a KDC running on all addresses?")
