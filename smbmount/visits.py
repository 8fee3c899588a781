"""Going to a share once, without mounting it, with the options that a mount has."""

from __future__ import annotations

import getpass
import os
import pwd
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import engine
from smbmount import credentials, options, plan
from smbmount.failures import ExitCode, MountFailure
from smbmount.plan import Plan


def decide(source: str, texts: Sequence[str]) -> Plan:
    """What a mount of `source` with these texts of options would do, but for the place; the password is asked
    for on a terminal. Raises `MountFailure`."""
    chosen = options.parse_options(*texts)
    if chosen.password is not None:
        raise MountFailure(
            "a password among the arguments can be seen by everyone: use credentials=FILE, or type it",
            ExitCode.USAGE,
        )
    source, unc = plan.read_source(source, chosen.port)
    prompt = getpass.getpass if sys.stdin is not None and sys.stdin.isatty() else None
    login = credentials.resolve_login(chosen, os.environ, prompt, _own_name())
    return Plan(source, unc, plan.read_prefix(unc, chosen), "", chosen, login)


def connected(decided: Plan) -> AbstractAsyncContextManager[engine.Share]:
    """Connect to the share, for as long as its connection lasts."""
    unc = decided.unc._replace(prefix=decided.prefix)
    config = replace(plan.connect_config(decided), reconnect=False)
    return engine.connect(unc, plan.credentials(decided.login), config)


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
