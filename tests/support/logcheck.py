"""No test may log a warning that it did not announce."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

OUR_LOGGERS: Final = ("engine", "smbmount")


class ExpectedWarnings:
    """What a test announces: patterns (regular expressions) of the warnings that our loggers will get."""

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []
        self._required: list[str] = []
        self._allowed: list[str] = []

    def require(self, *patterns: str) -> None:
        """Each pattern has to be found in at least one warning, or the test fails."""
        self._required += patterns

    def allow(self, *patterns: str) -> None:
        """Warnings in which a pattern is found may be logged or not."""
        self._allowed += patterns

    def complaints(self) -> list[str]:
        """One line for every unannounced warning and for every required one that did not come."""
        lines = [f"{record.levelname} {record.name}: {record.getMessage()}" for record in self.records]
        known = self._required + self._allowed
        undeclared = [line for line in lines if not any(re.search(pattern, line) for pattern in known)]
        missing = [
            pattern for pattern in self._required if not any(re.search(pattern, line) for line in lines)
        ]
        return [f"undeclared log record: {line}" for line in undeclared] + [
            f"no log record matches the required {pattern!r}" for pattern in missing
        ]


class _Collector(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.WARNING)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


@contextmanager
def collected_warnings() -> Iterator[ExpectedWarnings]:
    """Collect what our loggers get at WARNING and above while the block runs."""
    expected = ExpectedWarnings()
    collector = _Collector(expected.records)
    loggers = [logging.getLogger(name) for name in OUR_LOGGERS]
    for logger in loggers:
        logger.addHandler(collector)
    try:
        yield expected
    finally:
        for logger in loggers:
            logger.removeHandler(collector)
