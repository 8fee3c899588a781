"""A domain's own name instead of a server's: which of its controllers is it that answers there?

Kerberos knows servers, not domains: no domain has a service `cifs/example.com`. So the server that the name
leads to is asked what it is called. Nothing protects its answer, and it need not: whoever logs on there
demands of the domain that this is a controller's name, and of the server that it has that controller's key
(`Kerberos`, with a `domain`).
"""

from __future__ import annotations

import logging
import re
from typing import Final

from engine import ntstatus
from engine.client.anonymous import negotiate_message
from engine.client.connection import Batch, Connection
from engine.errors import RemoteProtocolError
from engine.proto.inflight import SessionState
from engine.wire.ntlm_challenge import ChallengeMessage
from engine.wire.session import SessionSetupRequest, SessionSetupResponse

log = logging.getLogger(__name__)

_LABELS: Final = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63}){1,16}")


async def controller_behind(connection: Connection) -> str:
    """What the server says that it is called, if that could be a controller of the domain whose name it was
    connected to by; else "" (one round trip).

    It is asked by the first message of NTLM, which holds nothing; the log-on is not gone on with. Raises
    `TransportError`, and `RemoteProtocolError` for an answer that makes no sense.
    """
    assert connection.negotiated is not None
    request = SessionSetupRequest(
        security_mode=connection.negotiated.client_security_mode & 0xFF, security_buffer=negotiate_message()
    )
    reply = await connection.request(request, Batch(SessionState()))
    if reply.header.status != ntstatus.STATUS_MORE_PROCESSING_REQUIRED:
        return ""
    buffer = SessionSetupResponse.decode_untrusted(reply.message).security_buffer
    try:
        name = ChallengeMessage.decode_untrusted(memoryview(buffer)).dns_computer_name
    except RemoteProtocolError as error:
        log.debug("%s does not say what it is called: %s", connection.server, error)
        return ""
    return name if is_below(name, connection.server) else ""


def is_below(name: str, domain: str) -> bool:
    """Whether a name is a host's in a domain, and of letters that a principal's name takes as they are."""
    folded = name.casefold()
    return bool(_LABELS.fullmatch(folded)) and folded.endswith(f".{domain.rstrip('.').casefold()}")
