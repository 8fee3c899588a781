"""Every promise of docs/SEMANTICS.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]


def test_every_promise_has_its_test() -> None:
    page = (CHECKOUT / "docs/SEMANTICS.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if row != "| promise | shown by |"]
    assert len(promises) > 40
    sources = "\n".join(path.read_text() for path in (CHECKOUT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def (test_\w+)", sources))
    for promise in promises:
        named = re.findall(r"`(test_\w+)`", promise)
        assert named, f"no test shows: {promise}"
        assert not set(named) - defined, f"{set(named) - defined} do not exist"
