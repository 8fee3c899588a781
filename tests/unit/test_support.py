"""The harness itself: a check that cannot fail would let everything behind it rot."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from tests.support.logcheck import collected_warnings
from tests.support.watchdog import DeadlineExceeded, hard_deadline


def test_deadline_ends_a_wait_that_would_last_for_ever(tmp_path: Path) -> None:
    with (
        (tmp_path / "report").open("wb") as report,
        pytest.raises(DeadlineExceeded, match=r"a wait did not end within 0\.05 s"),
        hard_deadline(0.05, "a wait", report.fileno()),
    ):
        threading.Event().wait()
    assert "test_deadline_ends_a_wait" in (tmp_path / "report").read_text()


def test_deadline_leaves_a_quick_block_alone(tmp_path: Path) -> None:
    with (tmp_path / "report").open("wb") as report, hard_deadline(60, "nothing", report.fileno()):
        pass
    assert (tmp_path / "report").read_text() == ""


@pytest.mark.parametrize("name", ["engine", "engine.client.connection", "smbmount.vfs"])
def test_undeclared_warning_is_a_complaint(name: str) -> None:
    with collected_warnings() as inner:
        record = logging.LogRecord(name, logging.WARNING, __file__, 1, "the server is %s", ("odd",), None)
        inner.records.append(record)
    assert inner.complaints() == [f"undeclared log record: WARNING {name}: the server is odd"]


@pytest.mark.expected_warnings("real one")
def test_records_of_our_loggers_are_collected() -> None:
    with collected_warnings() as inner:
        logging.getLogger("engine.client").warning("a real one")
        logging.getLogger("engine.client").info("no warning")
        logging.getLogger("somebody.else").warning("not ours")
    assert [record.getMessage() for record in inner.records] == ["a real one"]


def test_allowed_and_required_warnings() -> None:
    with collected_warnings() as inner:
        inner.allow("may come")
        inner.require("has to come")
    assert inner.complaints() == ["no log record matches the required 'has to come'"]
    inner.records.append(
        logging.LogRecord("engine", logging.ERROR, __file__, 1, "it has to come", None, None)
    )
    assert inner.complaints() == []
