"""What `smbmountctl dfs` shows: the referrals of a distributed tree on the way to a share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine import DfsStep


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
    import trio

    import engine
    from smbmount import visits
    from smbmount.explain import explain

    decided = visits.decide(source, texts)

    async def go() -> list[dict[str, object]]:
        async with visits.connected(decided) as share:
            return dfs_status(share.dfs_steps())

    try:
        return trio.run(go)
    except engine.SmbError as error:
        raise explain(error, decided, "follow") from None
