"""Which leases a connection can ask for, and which one an answer grants."""

from __future__ import annotations

import enum
from typing import TypeAlias

from engine.errors import RemoteProtocolError
from engine.proto.negotiation import Negotiated
from engine.wire.constants import Dialect
from engine.wire.create import CreateResponse
from engine.wire.create_contexts import Lease, LeaseV2

GrantContext: TypeAlias = Lease | LeaseV2


class LeaseKind(enum.Enum):
    """What the connection's dialect and server offer."""

    NONE = enum.auto()
    OPLOCK = enum.auto()
    V1 = enum.auto()
    V2 = enum.auto()


def lease_kind(negotiated: Negotiated) -> LeaseKind:
    """What can be asked for on a connection ([MS-SMB2] 3.2.4.3.8)."""
    if negotiated.dialect is Dialect.SMB_2_0_2:
        return LeaseKind.OPLOCK
    if not negotiated.leasing:
        return LeaseKind.NONE
    return LeaseKind.V2 if negotiated.dialect >= Dialect.SMB_3_0 else LeaseKind.V1


def only_grant_untrusted(response: CreateResponse, key: bytes, kind: LeaseKind) -> GrantContext | None:
    """The lease that a CREATE was answered with, if any ([MS-SMB2] 3.2.5.7).

    Raises `RemoteProtocolError` if it is none that was asked for.
    """
    grants = [context for context in response.contexts if isinstance(context, Lease | LeaseV2)]
    if not grants:
        return None
    if len(grants) > 1 or grants[0].lease_key != key:
        raise RemoteProtocolError("the server granted a lease under another key than it was asked for")
    if isinstance(grants[0], LeaseV2) is not (kind is LeaseKind.V2):
        raise RemoteProtocolError("the server granted a lease of another version than it was asked for")
    return grants[0]
