"""A throw-away Active Directory domain on a loopback address: one controller that is also a server.

It has its own address, folders, users and krb5.conf, and nothing of the machine is changed: no name service
knows its name, so whoever connects gives the address beside it (`ip=`), and finds the KDC by `KRB5_CONFIG`.
As the ports of a domain are fixed, only root can start one.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.private_view import entered, prepare_view
from tests.support.samba_defaults import DEFAULT_SHARE_OPTIONS
from tests.support.server import ThrowAwayServer, binary, free_address, free_port, is_free, sections

REALM: Final = "EXAMPLE.TEST"
HOST: Final = "dc1.example.test"
ALIAS: Final = "files.example.test"
"""A second name of the server, for which the domain has an SPN too."""

USER: Final = "alice"
PASSWORD: Final = "Correct, horse=battery 1"
OTHER_USER: Final = "bob"

NETBIOS_DOMAIN: Final = "EXAMPLE"
ADMIN: Final = "Administrator"
ADMIN_PASSWORD: Final = "Only-for-provisioning-1"

_KDC_PORT: Final = 88
_LDAP_PORT: Final = 389
_SMB_PORT: Final = 445
"""Where servers that join the domain look for it."""

_OPTIONS: Final[Mapping[str, str]] = {
    "server role": "active directory domain controller",
    "server services": "s3fs, rpc, ldap, cldap, kdc, winbindd",
    "workgroup": NETBIOS_DOMAIN,
    "realm": REALM,
    "netbios name": "DC1",
    "bind interfaces only": "yes",
    "disable netbios": "yes",
    "server min protocol": "SMB2_02",
    "load printers": "no",
    "printing": "bsd",
    "printcap name": "/dev/null",
    "usershare max shares": "0",
    "max log size": "0",
    "log level": "1",
    # A key for it takes seconds to make, and nobody here speaks LDAP over TLS.
    "tls enabled": "no",
    "kdc : user ticket lifetime": "10",
}

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
cache, host, seconds = sys.argv[1:]
kerberos = gssapi.MechType.kerberos
credentials = gssapi.Credentials(usage="initiate", mechs=[kerberos], store={"ccache": cache})
name = gssapi.Name(f"cifs@{host}", gssapi.NameType.hostbased_service)
gssapi.SecurityContext(name=name, creds=credentials, mech=kerberos, lifetime=int(seconds)).step()
tickets, service = krb5.cc_resolve(krb5.init_context(), cache.encode()), f"cifs/{host}@".encode()
print(max(ticket.times.endtime for ticket in tickets if ticket.server.name.startswith(service)))
"""


class Domain(ThrowAwayServer):
    """The domain. Its controller has the shares `data`, and `dfs`, which is the root of a distributed tree.

    `global_options` go into `smb.conf`. Members join it (`can_be_joined`) unless another server, such as the
    machine's own Samba, has the port at which they look for it on all addresses. It has the users `USER` and
    `OTHER_USER`, both with `PASSWORD`.
    """

    def __init__(self, global_options: Mapping[str, str] | None = None) -> None:
        super().__init__(free_address(_KDC_PORT, _LDAP_PORT), free_port(), global_options)
        self.can_be_joined = is_free(self.address, _SMB_PORT)

    # What it is

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

    def adopt(self, path: Path) -> None:
        """Let the domain's users change `path` and everything below."""
        for entry in (path, *path.rglob("*")):
            if not entry.is_symlink():
                entry.chmod(0o777 if entry.is_dir() else 0o666)

    # What can be done with it

    def kinit(
        self, cache: Path | str, *arguments: str, user: str = USER, environ: Mapping[str, str] | None = None
    ) -> str:
        """Put a ticket of `user` into a cache, as kinit(1) with `arguments`; returns the cache's name."""
        name = cache if isinstance(cache, str) else f"FILE:{cache}"
        self._run(
            [binary("kinit"), "-c", name, *arguments, f"{user}@{REALM}"],
            stdin=f"{PASSWORD}\n",
            environ=environ or {},
        )
        return name

    def kdestroy(self, cache: str) -> None:
        """Remove a cache and the tickets in it."""
        self._run([binary("kdestroy"), "-q", "-c", cache])

    def get_service_ticket(self, cache: str, seconds: int, host: str = HOST) -> float:
        """Put a ticket for a file server, valid so long, into a cache with one of its user; the second
        behind its end is given.

        A domain gives nothing for a user's ticket that ends within two minutes, so a session that is to end
        soon takes this.
        """
        command = [sys.executable, "-c", _GET_SERVICE_TICKET, cache, host, str(seconds)]
        return float(self._run(command).stdout) + 1

    def make_keytab(self, path: Path, *, user: str = USER) -> Path:
        """Write `user`'s keys into a new keytab that nobody else can read."""
        self.samba_tool("domain", "exportkeytab", str(path), f"--principal={user}@{REALM}")
        path.chmod(0o600)
        return path

    def samba_tool(self, *arguments: str) -> str:
        """Run samba-tool on this domain's own database."""
        return self._run([binary("samba-tool"), *arguments, "-s", str(self.conf)]).stdout

    def write_krb5_conf(self, path: Path, *, kdc: str | None = None, extra: str = "") -> Path:
        """Write a krb5.conf of this domain, with another KDC or more lines in [libdefaults]."""
        text = _KRB5_CONF.format(realm=REALM, kdc=kdc or self.address, base=self.base)
        path.write_text(text.replace("[libdefaults]\n", f"[libdefaults]\n{extra}\n", 1))
        return path

    @property
    def _command(self) -> Sequence[str | Path]:
        return [
            *entered(self.base),
            *(binary("samba"), "--foreground", "--no-process-group", "-s", self.conf),
        ]

    @property
    def _ports(self) -> Sequence[int]:
        return (_KDC_PORT, _LDAP_PORT, self.port)

    def _make_base(self) -> Path:
        base = Path(tempfile.mkdtemp(prefix="smbmount-domain-", dir="/var/tmp"))
        base.chmod(0o755)
        return base

    def _prepare(self) -> None:
        for name in ("lock", "cache", "pid", "ncalrpc", "log", "shares/data", "shares/dfs"):
            (self.base / name).mkdir(parents=True)
        self.adopt(self.base / "shares")
        prepare_view(self.base, self.address, {HOST: self.address})
        self.write_krb5_conf(self.krb5_conf)
        self.conf.write_text(self._render_conf())
        self._provision()
        self.credentials_file.touch(mode=0o600)
        self.credentials_file.write_text(f"username={USER}\npassword={PASSWORD}\ndomain={NETBIOS_DOMAIN}\n")

    def _provision(self) -> None:
        # The configuration is our own, as that of the machine would leak into what is written here.
        empty = self.base / "empty.conf"
        empty.touch()
        self._run(
            [
                *(binary("samba-tool"), "domain", "provision"),
                *(f"--targetdir={self.base / 'ad'}", f"--realm={REALM}", f"--domain={NETBIOS_DOMAIN}"),
                *("--server-role=dc", "--dns-backend=NONE", "--host-name=dc1"),
                *(f"--host-ip={self.address}", f"--adminpass={ADMIN_PASSWORD}", f"--configfile={empty}"),
                *(f"--option=interfaces={self.address}/8", "--option=bind interfaces only=yes"),
            ]
        )
        for user in (USER, OTHER_USER):
            self.samba_tool("user", "create", user, PASSWORD)
        self.samba_tool("spn", "add", f"cifs/{ALIAS}", "DC1$")

    def _render_conf(self) -> str:
        folders = {
            "private dir": "ad/private",
            "state directory": "ad/state",
            "binddns dir": "ad/bind-dns",
            "lock directory": "lock",
            "cache directory": "cache",
            "pid directory": "pid",
            "ncalrpc dir": "ncalrpc",
            "log file": "log/log.%m",
        }
        own = {
            "interfaces": f"{self.address}/8",
            "smb ports": f"{self.port} {_SMB_PORT}" if self.can_be_joined else str(self.port),
            **{name: str(self.base / folder) for name, folder in folders.items()},
        }
        sysvol = str(self.base / "ad/state/sysvol")
        return sections(
            {
                "global": {**_OPTIONS, **own, **self._global_options},
                "sysvol": {"path": sysvol, "read only": "no"},
                "netlogon": {"path": f"{sysvol}/{REALM.lower()}/scripts", "read only": "no"},
                "data": {"path": str(self.share_path()), **DEFAULT_SHARE_OPTIONS},
                "dfs": {"path": str(self.share_path("dfs")), **DEFAULT_SHARE_OPTIONS, "msdfs root": "yes"},
            }
        )


def _without_kerberos(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("KRB5")}
