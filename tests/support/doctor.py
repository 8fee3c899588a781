"""Asking `smbmountctl doctor`, and comparing what it says with docs/MESSAGES.md."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from smbmount import ctl
from tests.support.mounting import CHECKOUT
from tests.support.samba import SambaServer

STEPS: Final = ["name", "TCP", "negotiate", "log-on", "share", "read", "DFS"]

_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of it."""

    code: int
    findings: list[dict[str, Any]]
    complaint: str

    @property
    def well(self) -> list[str]:
        """The steps that are well."""
        return [one["step"] for one in self.findings if one["ok"]]

    @property
    def said(self) -> str:
        """What is said of the step that is not, behind its name; "" if all are well."""
        failed = [f"{one['step']}: {one['said']}" for one in self.findings if not one["ok"]]
        assert len(failed) <= 1
        return "".join(failed)

    def of(self, step: str) -> dict[str, Any]:
        """The finding of a step."""
        (found,) = (one for one in self.findings if one["step"] == step)
        return found

    def fails_at(self, step: str, message: str, *words: str) -> None:
        """It ended at that step, with that message of docs/MESSAGES.md, and these words in it."""
        assert (self.code, self.well) == (2, STEPS[: STEPS.index(step)]), self
        assert self.said.startswith(f"{step}: ")
        assert "\n" not in self.said
        assert says(self.said, message), f"{self.said!r} is not {message!r}"
        for word in words:
            assert word in self.said


def says(said: str, message: str) -> bool:
    """Whether a line has a message in it; `…` is anything."""
    return re.search(".*".join(map(re.escape, message.split("…"))), said) is not None


def account(server: SambaServer) -> str:
    """The option for the server's user."""
    return f"credentials={server.credentials_file}"


def examine(source: str, *options: str, prefix: Sequence[str] = (), **variables: str) -> Examined:
    """Run it: here, which spares the start of Python, unless a program goes before it or it is to have
    `variables` in its environment, which then has no account in it."""
    arguments = ["doctor", "--json", "-o", ",".join(options), source]
    if prefix or variables:
        return _examine_apart(prefix, arguments, variables)
    output, complaint = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(complaint):
        code = ctl.main(arguments)
    return _examined(code, output.getvalue(), complaint.getvalue())


def _examine_apart(prefix: Sequence[str], arguments: Sequence[str], variables: Mapping[str, str]) -> Examined:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("USER", "PASSWD", "KRB5"))
    }
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "smbmount.ctl", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        env={**kept, "PYTHONPATH": str(CHECKOUT), **variables},
    )
    return _examined(done.returncode, done.stdout, done.stderr)


def _examined(code: int, output: str, complaint: str) -> Examined:
    assert "Traceback" not in complaint, complaint
    return Examined(code, json.loads(output) if output else [], complaint)


def examine_at(server: SambaServer, *options: str, share: str = "data", host: str = "") -> Examined:
    """Run it for a share of a server, which may be called by another name."""
    return examine(f"//{host or server.address}/{share}", f"port={server.port}", *options)


def credentials(path: Path, username: str, password: str) -> str:
    """The option that names a new file with these."""
    path.touch(0o600)
    path.write_text(f"username={username}\npassword={password}\n")
    return f"credentials={path}"
