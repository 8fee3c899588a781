"""What was negotiated with a server, in words for logs and users."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from engine.client.kerberos import Ticket
from engine.client.tree import Tree
from engine.wire.constants import Dialect, ShareType


@dataclass(slots=True, frozen=True)
class ConnectionDescription:
    """What was negotiated, for logs and users."""

    dialect: Dialect
    cipher: str | None
    signing: str | None
    encrypted: bool
    guest: bool
    server_guid: UUID
    address: str
    max_read: int
    max_write: int
    max_transact: int
    share_type: ShareType = ShareType.DISK
    authentication: str = "none"
    ticket: Ticket | None = None


def describe(tree: Tree, max_read: int, max_write: int) -> ConnectionDescription:
    """The connection of a share, whose requests carry that many bytes."""
    session, negotiated = tree.session, tree.connection.negotiated
    assert negotiated is not None
    encrypted = tree.batch.sealed
    return ConnectionDescription(
        dialect=negotiated.dialect,
        cipher=str(negotiated.cipher) if encrypted and negotiated.cipher is not None else None,
        signing=str(negotiated.signing_algorithm) if session.state.signer is not None else None,
        encrypted=encrypted,
        guest=session.guest or session.anonymous,
        server_guid=negotiated.server_guid,
        address=tree.connection.remote_address,
        max_read=max_read,
        max_write=max_write,
        max_transact=negotiated.max_transact,
        share_type=tree.share_type,
        authentication=session.authentication,
        ticket=session.ticket,
    )
