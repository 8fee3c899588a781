"""What `smbmountctl dfs` shows: the referrals of a distributed tree on the way to a share."""

from __future__ import annotations

import getpass
import os
import pwd
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from smbmount.failures import ExitCode, MountFailure

if TYPE_CHECKING:
    from engine import DfsStep
    from smbmount.plan import Plan


def dfs_status(steps: Iterable[DfsStep]) -> list[dict[str, object]]:
    """The referrals as plain values, for JSON."""
    return [
        {
            "name": step.name,
            "kind": "root" if step.is_root else "interlink" if step.is_interlink else "link",
            "seconds_left": round(step.seconds_left),
            "targets": [
                {"name": target.name, "site": target.site, "active": target.is_active}
                for target in step.targets
            ],
        }
        for step in steps
    ]


def dfs_lines_untrusted(steps: object) -> list[str]:
    """The same for a person, from what a daemon says; `ValueError` if that makes no sense."""
    try:
        if not isinstance(steps, list):
            raise TypeError("no list")
        if not steps:
            return ["no DFS referral led to this share: it is where its name says"]
        lines: list[str] = []
        for step in steps:
            left = int(step["seconds_left"])
            age = f"for {left} s" if left > 0 else "expired"
            lines.append(f"{step['name']}  {step['kind']}, {age}")
            for target in step["targets"]:
                mark = "*" if target["active"] else " "
                lines.append(f"  {mark} {target['name']}  site {int(target['site'])}")
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ValueError("that is no list of referrals") from error
    return lines


def find_steps(source: str, texts: Sequence[str]) -> list[dict[str, object]]:
    """Go to a share once, with the options of a mount; the referrals on the way. Raises `MountFailure`."""
    from smbmount import credentials, options, plan

    chosen = options.parse_options(*texts)
    if chosen.password is not None:
        raise MountFailure(
            "a password among the arguments can be seen by everyone: use credentials=FILE, or type it",
            ExitCode.USAGE,
        )
    source, unc = plan.read_source(source, chosen.port)
    prompt = getpass.getpass if sys.stdin is not None and sys.stdin.isatty() else None
    login = credentials.resolve_login(chosen, os.environ, prompt, _own_name())
    return _find(plan.Plan(source, unc, plan.read_prefix(unc, chosen), "", chosen, login))


def _find(decided: Plan) -> list[dict[str, object]]:
    import trio

    import engine
    from smbmount import plan
    from smbmount.explain import explain

    async def go() -> list[dict[str, object]]:
        unc = decided.unc._replace(prefix=decided.prefix)
        config = replace(plan.connect_config(decided), reconnect=False)
        async with engine.connect(unc, plan.credentials(decided.login), config) as share:
            return dfs_status(share.dfs_steps())

    try:
        return trio.run(go)
    except engine.SmbError as error:
        raise explain(error, decided, "follow") from None


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
