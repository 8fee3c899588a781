"""What `smbmountctl status` is told of a mount; the keys, which stay, are in docs/man/smbmountctl.1.

Nothing here asks the server or waits: a mount whose server is away answers all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from smbmount.dfs import dfs_status
from smbmount.service import describe

if TYPE_CHECKING:
    from engine import Condition, Share


def status_of(shares: Sequence[Share], kept: Mapping[str, int]) -> dict[str, object]:
    """The mounted share, the first one, and those behind its links; `kept` are handles for the next use."""
    share, *behind = shares
    condition, statistics = share.condition, share.statistics()
    return {
        "connection": {**_negotiated(share), **_standing(condition)},
        "reconnects": _reconnects(condition),
        "requests_in_flight": statistics.in_flight,
        "credits": {"held": statistics.credits, "in_use": statistics.credits_in_use},
        "leases": condition.leases,
        "handles": {
            "open": condition.handles,
            "durable": condition.durable_handles,
            "kept_files": kept["files"],
            "kept_folders": kept["folders"],
        },
        "behind_links": [_behind(one) for one in behind],
        "dfs": dfs_status(step for one in shares for step in one.dfs_steps()),
        "statistics": statistics.as_dict(),
    }


def _negotiated(share: Share) -> dict[str, object]:
    """What was agreed on: with the server of now, or with the one that is away."""
    connection = share.description
    return {
        "summary": describe(connection),
        "dialect": connection.dialect.name.removeprefix("SMB_").replace("_", "."),
        "signing": connection.signing,
        "cipher": connection.cipher,
        "encrypted": connection.encrypted,
        "guest": connection.guest,
        "authentication": connection.authentication,
        "ticket": connection.ticket and asdict(connection.ticket),
        "address": connection.address,
        "max_read": connection.max_read,
        "max_write": connection.max_write,
        "max_transact": connection.max_transact,
    }


def _standing(condition: Condition) -> dict[str, object]:
    history = condition.history
    return {
        "share": condition.name,
        "state": condition.state.value,
        "lost": condition.is_lost,
        "since": round(condition.since, 3),
        "silent_seconds": round(condition.silence, 3),
        "failures": history.failures,
        "obstacle": history.obstacle or None,
    }


def _reconnects(condition: Condition) -> dict[str, object]:
    history = condition.history
    return {
        "count": history.reconnects,
        "last_lost": None if history.lost_at is None else round(history.lost_at, 3),
        "last_returned": round(history.connected_at, 3) if history.reconnects else None,
        "reason": history.reason or None,
    }


def _behind(share: Share) -> dict[str, object]:
    condition = share.condition
    return {
        "connection": {**_negotiated(share), **_standing(condition)},
        "reconnects": _reconnects(condition),
        "leases": condition.leases,
    }
