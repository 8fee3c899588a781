"""The documents say what the code does: the option tables are up to date, the man page renders."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

import smbmount
from scripts.lib.option_tables import CHECKOUT, DOCUMENTS, updated

MAN_PAGES = {
    CHECKOUT / "docs/man/smbmount.8": "allow_other",
    CHECKOUT / "docs/man/smbmountctl.1": "daemon",
}
FAULTS = CHECKOUT / "docs/FAULTS.md"
TROUBLESHOOTING = CHECKOUT / "docs/TROUBLESHOOTING.md"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_option_tables_are_up_to_date(path: Path) -> None:
    assert path.read_text() == updated(path), "run: python -m scripts.lib.option_tables"


@pytest.mark.parametrize("page", MAN_PAGES, ids=lambda page: page.name)
def test_man_page_renders_without_a_warning(page: Path) -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-K", "utf8", "-ww", "-b", page],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert MAN_PAGES[page] in done.stdout


def test_versions_agree() -> None:
    assert f"## {smbmount.__version__}" in (CHECKOUT / "CHANGELOG.md").read_text()
    assert all(f"smbmount {smbmount.__version__}" in page.read_text() for page in MAN_PAGES)


def test_messages_explained_are_messages_we_have() -> None:
    headings = re.findall(r"^### `(.*)`$", TROUBLESHOOTING.read_text(), re.MULTILINE)
    assert len(headings) > 10
    ours = "\n".join(
        node.value
        for package in ("engine", "smbmount")
        for path in (CHECKOUT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    pieces = [piece.strip() for heading in headings for piece in heading.split("…")]
    assert [piece for piece in pieces if piece not in ours] == []


def test_every_fault_has_its_row_its_tests_and_its_state() -> None:
    defined = {
        node.name
        for path in (CHECKOUT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in FAULTS.read_text().splitlines()
        if re.match(r"\| \d", line)
    ]
    assert [row[0] for row in rows] == [str(number) for number in range(1, 25)]
    for number, _, _, shown_by, state in rows:
        named = set(re.findall(r"`(test_\w+)`", shown_by))
        assert not named - defined, f"row {number}: {named - defined} do not exist"
        assert state == "done" or state.startswith("part: "), f"row {number}: {state}"
        assert named, f"row {number} has no test"


def test_every_test_of_a_fault_is_in_its_row() -> None:
    rows = dict(re.findall(r"^\| (\d+) (.*)$", FAULTS.read_text(), re.MULTILINE))
    sources = "\n".join(path.read_text() for path in (CHECKOUT / "tests").rglob("test_*.py"))
    found = re.findall(r"^(?:async )?def (test_fault_(\d+)_\w+)", sources, re.MULTILINE)
    assert len(found) > 20
    missing = [name for name, number in found if f"`{name}`" not in rows[str(int(number))]]
    assert missing == []


def test_every_line_of_the_security_page_names_tests_that_exist() -> None:
    page = (CHECKOUT / "docs/SECURITY.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "| shown by |" not in line]
    assert len(rows) > 25
    sources = "\n".join(path.read_text() for path in (CHECKOUT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def (test_\w+)", sources))
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row.rpartition(" | ")[2])
        assert named, f"no test shows: {row}"
        assert not set(named) - defined, f"{set(named) - defined} do not exist"


def test_the_security_page_knows_every_test_of_an_attack() -> None:
    """Those of the man in the middle, of the impostors and of the hostile server."""
    page = (CHECKOUT / "docs/SECURITY.md").read_text()
    for path in (
        "unit/client/test_impostors.py",
        "unit/client/test_nonces.py",
        "integration/test_engine_downgrade.py",
        "mount/test_hostile_server.py",
    ):
        found = re.findall(r"def (test_\w+)", (CHECKOUT / "tests" / path).read_text())
        assert [name for name in found if f"`{name}`" not in page] == []
