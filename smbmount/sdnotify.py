"""Telling systemd how it goes: sd_notify(3), one datagram to the socket in NOTIFY_SOCKET."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

logger = logging.getLogger(__name__)


def notify(*assignments: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send `READY=1`, `STATUS=…` and the like; returns whether anybody was there to be told.

    A name that begins with `@` is an abstract socket. A socket that fails is logged and no error: the mount
    works without it.
    """
    name = environ.get("NOTIFY_SOCKET", "")
    if not name:
        return False
    address = f"\0{name[1:]}" if name.startswith("@") else name
    message = "\n".join(assignment.replace("\n", " ") for assignment in assignments)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.connect(address)
            sock.send(message.encode("utf-8", "replace"))
    except OSError as error:
        logger.warning("cannot tell systemd through %s: %s", name, error.strerror)
        return False
    return True
