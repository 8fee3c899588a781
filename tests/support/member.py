"""A throw-away file server that has joined the throw-away domain: the domain's users log on to it by ticket.

It has winbindd beside it, which asks the controller about them. Here all of them are one user.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.domain import ADMIN, ADMIN_PASSWORD, HOST, NETBIOS_DOMAIN, OTHER_USER, REALM, USER, Domain
from tests.support.private_view import entered, prepare_view
from tests.support.samba import SambaServer, ShareConfig
from tests.support.server import HarnessError, binary, free_address

_JOIN_DEADLINE: Final = 30.0

# Who logs on before winbindd listens is refused. It stays in the group of the server's processes, but is not
# its child, and ends as they do.
_SERVE: Final = """
rm -f "$1"
(winbindd --foreground --no-process-group -s "$2" </dev/null &)
while ! [ -S "$1" ]; do sleep 0.02; done
exec smbd --foreground --no-process-group -s "$2"
"""

_OPTIONS: Final[Mapping[str, str]] = {
    "server role": "member server",
    "security": "ads",
    "realm": REALM,
    "workgroup": NETBIOS_DOMAIN,
    "password server": HOST,
    "name resolve order": "host",
    "create krb5 conf": "no",
    "min domain uid": "0",
    "idmap config * : backend": "tdb",
    "idmap config * : range": "100000-200000",
    "client use spnego principal": "no",
}


class Member(SambaServer):
    """`name`.example.test, on an address of its own and the controller's port; shares `data` and `dfs`.

    `dfs` is the root of a distributed tree; `options` are added to those of both.
    """

    def __init__(self, domain: Domain, name: str, options: Mapping[str, str] | None = None) -> None:
        more = dict(options or {})
        super().__init__(
            {"data": ShareConfig(options=more), "dfs": ShareConfig(options={**more, "msdfs root": "yes"})},
            address=free_address(domain.port),
            port=domain.port,
        )
        self.domain = domain
        self.name = f"{name}.{REALM.lower()}"

    @property
    def environ(self) -> dict[str, str]:
        """That of the domain."""
        return self.domain.environ

    @property
    def credentials_file(self) -> Path:
        """That of the domain's user."""
        return self.domain.credentials_file

    def unc(self, share: str = "data") -> str:
        """`//name/share`."""
        return f"//{self.name}/{share}"

    @property
    def _command(self) -> Sequence[str | Path]:
        return [*entered(self.base), "sh", "-uc", _SERVE, "sh", "/run/samba/winbindd/pipe", self.conf]

    def _default_global_options(self) -> dict[str, str]:
        return {
            **super()._default_global_options(),
            **_OPTIONS,
            "netbios name": self.name.partition(".")[0].upper(),
            "interfaces": f"{self.address}/8",
            "username map": str(self.base / "users"),
        }

    def _prepare(self) -> None:
        prepare_view(self.base, self.address, {self.name: self.address, HOST: self.domain.address})
        theirs = " ".join(f"{NETBIOS_DOMAIN}\\{user}" for user in (USER, OTHER_USER))
        (self.base / "users").write_text(f"{self.user} = {theirs}\n")
        super()._prepare()
        self._join()

    def _join(self) -> None:
        """Join the domain, whose controller accepts connections before all of its services answer."""
        deadline = time.monotonic() + _JOIN_DEADLINE
        join = [
            *(binary("net"), "ads", "join", "-s", str(self.conf), "-S", HOST, "--no-dns-updates"),
            f"--user={ADMIN}%{ADMIN_PASSWORD}",
        ]
        while (done := self._run([*entered(self.base), *join], check=False)).returncode != 0:
            if time.monotonic() > deadline:
                raise HarnessError(f"{self.name} could not join the domain: {done.stdout}{done.stderr}")

    def set_password(self, password: str) -> None:
        """It has no accounts of its own."""
