"""The documents say what the code does: the option tables are up to date, the man page renders."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import smbmount
from scripts.lib.option_tables import CHECKOUT, DOCUMENTS, updated

MAN_PAGES = {
    CHECKOUT / "docs/man/smbmount.8": "allow_other",
    CHECKOUT / "docs/man/smbmountctl.1": "daemon",
}
FAULTS = CHECKOUT / "docs/FAULTS.md"
MESSAGES = CHECKOUT / "docs/MESSAGES.md"

ON_THE_WAY: Final = (
    *(
        f"engine/client/{name}.py"
        for name in ("establish", "session", "kerberos", "kerberos_errors", "tickets")
    ),
    *(f"engine/client/{name}.py" for name in ("ntlm", "dfs", "transport")),
    *(f"engine/proto/{name}.py" for name in ("negotiation", "referrals")),
    *(f"smbmount/{name}.py" for name in ("doctor", "explain")),
)
"""Where the messages come from that `smbmountctl doctor` says."""

NO_MESSAGES: Final = {
    "… to …",
    "… is …",
    "… is not wanted any more",
    "… … ……",
    "; but …",
    "leave out nodfs",
    ", … for …",
    "without an account (…)",
    "the folder is listed",
    "the folder is listed, and … is read",
    "the folder is listed, and has no file to be read",
    "… is not looked up, as ip= names an address",
    "… answers on port … after … ms",
    "it is …, at …",
    "a share of named pipes",
    "no other target of … is known",
    "it was left for another target just now",
    ", which leads to …",
    "cannot … ……: ……",
    "cannot mount …: …",
    "check that the server runs, and that no firewall is in the way",
    "ask for the right to use the share, or log on as somebody else than …",
    "ask whether … may log on over the network",
    "ask who keeps the distributed tree",
    "use vers=3 and an account, or leave out seal if this network can be trusted",
    "if this network can be trusted, run again with -d and report it",
    "; if the server demands encryption, use an account",
    "; if the server demands encryption, use vers=3",
}
"""What is well, what messages are made of, what is added to them, advice that explains itself, and what
nobody sees but in the log of -d."""


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


def explained() -> list[str]:
    """The messages that the page explains: its headings, and the lines of its list."""
    return of_doctor() + others() + _listed(_parts()[2])


def of_doctor() -> list[str]:
    """Those in the sections of doctor's steps."""
    return re.findall(r"^### `(.*)`$", _parts()[0], re.MULTILINE)


def others() -> list[str]:
    """Those of servers that break the protocol, and those that are seldom seen."""
    return _listed(_parts()[1])


def _listed(part: str) -> list[str]:
    lines = re.findall(r"^- (`.*`)(?:: .*)?$", part, re.MULTILINE)
    listed = [message for line in lines for message in re.findall(r"`(.*?)`", line)]
    return re.findall(r"^### `(.*)`$", part, re.MULTILINE) + listed


def _parts() -> tuple[str, str, str]:
    before, _, behind = MESSAGES.read_text().partition("## The server breaks the protocol\n")
    rarer, _, rest = behind.partition("## Options, credentials and the mount point\n")
    return before, rarer, rest


def strings(path: Path) -> list[str]:
    """The strings in a module that are no documentation of it; `…` is what is filled in."""
    tree = ast.parse(path.read_text())
    inner = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr | ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node and (isinstance(node, ast.JoinedStr) or node.value is part)
        if isinstance(part, ast.Constant | ast.JoinedStr)
    }
    texts = [_text(node) for node in ast.walk(tree) if id(node) not in inner]
    return [re.sub(r"\{\w+\}", "…", text) for text in texts if text]


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def logged(path: Path) -> Iterator[str]:
    """What a module writes to the log."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and _name(node.func).startswith(("log.", "logger.")):
            yield from (_text(argument) for argument in node.args)


def _name(node: ast.expr) -> str:
    return ast.unparse(node)


def test_messages_explained_are_messages_we_have() -> None:
    ours = "\n".join(
        text
        for package in ("engine", "smbmount")
        for path in (CHECKOUT / package).rglob("*.py")
        for text in strings(path)
    )
    pieces = [piece.strip() for message in explained() for piece in message.split("…")]
    assert [piece for piece in pieces if piece not in ours] == []


def pattern(message: str) -> re.Pattern[str]:
    """What finds a message of the page in a text."""
    return re.compile(".*".join(map(re.escape, message.split("…"))))


def test_every_message_on_the_way_to_a_share_is_explained() -> None:
    known = [pattern(message) for message in explained()]
    missing = [
        text
        for name in ON_THE_WAY
        for text in strings(CHECKOUT / name)
        if len(text.split()) > 2 and text not in set(logged(CHECKOUT / name)) | NO_MESSAGES
        if not any(message.search(text) for message in known)
    ]
    assert missing == []


def test_every_message_explained_is_provoked() -> None:
    """Those of doctor's steps by a test that has them whole, others by one that knows their words."""
    told = {path: strings(path) for path in (CHECKOUT / "tests").rglob("test_*.py") if path != Path(__file__)}
    by_doctor = {
        text for path, texts in told.items() if path.name.startswith("test_doctor") for text in texts
    }
    assert len(of_doctor()) > 50
    assert [message for message in of_doctor() if message not in by_doctor] == []
    texts = {re.sub(r"\\(.)", r"\1", text) for texts in told.values() for text in texts}
    words = {word for text in texts for word in text.split("|") if len(word) > 9}
    assert len(others()) > 30
    assert [message for message in others() if not any(_knows(word, message) for word in words)] == []


def _knows(word: str, message: str) -> bool:
    """Whether a test that looks for `word` looks for that message."""
    return word in message or pattern(message).search(word) is not None or _longest(message) in word


def _longest(message: str) -> str:
    return max(message.split("…"), key=len).strip()


def test_every_code_explained_is_provoked() -> None:
    codes = re.findall(
        r"STATUS_[A-Z_]+", " ".join(re.findall(r"^\| (STATUS.*?) \|", MESSAGES.read_text(), re.M))
    )
    told = "".join(path.read_text() for path in (CHECKOUT / "tests/mount").glob("test_doctor*.py"))
    assert len(codes) > 10
    assert [code for code in codes if code not in told] == []


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


@pytest.mark.parametrize(("name", "least"), [("SECURITY", 25), ("KERBEROS", 15), ("DFS", 10)])
def test_every_line_of_a_page_of_claims_names_tests_that_exist(name: str, least: int) -> None:
    page = (CHECKOUT / f"docs/{name}.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "| shown by |" not in line]
    assert len(rows) > least
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
