"""Where log lines go, and that no password is in them, at any level and in no traceback."""

from __future__ import annotations

import errno
import logging
import logging.handlers
import os
from collections.abc import Iterable
from typing import Final

from smbmount.secret import MASK, Secret

SYSLOG_SOCKET: Final = "/dev/log"

_STDERR_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_SYSLOG_FORMAT: Final = "smbmount[%(process)d]: %(name)s: %(message)s"


class MaskingFormatter(logging.Formatter):
    """Formats a record, traceback and all, then masks every registered secret in the text."""

    def __init__(self, layout: str, secrets: Iterable[Secret]) -> None:
        super().__init__(layout)
        self._needles = _spellings(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text without secrets."""
        text = super().format(record)
        for needle in self._needles:
            text = text.replace(needle, MASK)
        return text


def _spellings(secrets: Iterable[Secret]) -> list[str]:
    """How each secret may stand in a text: plain, as in `repr`, as in the `repr` of its bytes."""
    found = set()
    for secret in secrets:
        text = secret.reveal()
        for encoding in ("utf-8", "utf-16-le"):
            found.add(repr(text.encode(encoding, "surrogatepass"))[2:-1])
            found.add(text.encode(encoding, "surrogatepass").hex())
        found |= {text, repr(text)[1:-1]}
    return sorted(found - {""}, key=len, reverse=True)


class _RequestsGivenUp(logging.Filter):
    """Drops pyfuse3's errors about replies that nobody wants any more, as at an unmount: ENOENT says so."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to keep the record."""
        return not record.getMessage().endswith(f"fuse_reply_* failed with {os.strerror(errno.ENOENT)}")


def set_up_logging(level: int, secrets: Iterable[Secret], *, to_stderr: bool, to_syslog: bool) -> None:
    """Send what is at least `level` to stderr and to syslog, as asked; syslog only where it listens."""
    handlers: list[logging.Handler] = []
    if to_stderr:
        # A descriptor of its own, as stderr itself is sometimes caught or sent to nowhere.
        stream = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        handlers.append(_masked(logging.StreamHandler(stream), _STDERR_FORMAT, secrets))
    if to_syslog and os.path.exists(SYSLOG_SOCKET):
        syslog = logging.handlers.SysLogHandler(
            SYSLOG_SOCKET, facility=logging.handlers.SysLogHandler.LOG_DAEMON
        )
        handlers.append(_masked(syslog, _SYSLOG_FORMAT, secrets))
    logging.basicConfig(level=level, handlers=handlers or [logging.NullHandler()], force=True)
    logging.getLogger("pyfuse3").addFilter(_RequestsGivenUp())
    logging.captureWarnings(True)
    logging.raiseExceptions = False


def _masked(handler: logging.Handler, layout: str, secrets: Iterable[Secret]) -> logging.Handler:
    handler.setFormatter(MaskingFormatter(layout, secrets))
    return handler
