"""The tables of mount options in README.md and in the man page, made from the table in smbmount/options.py.

python -m scripts.lib.option_tables     writes both anew; a unit test says when that is due
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from smbmount.options import OPTIONS, REFUSED, Option

CHECKOUT: Final = Path(__file__).resolve().parents[2]


def markdown_tables() -> str:
    """All options as a Markdown table, and the refused ones as a second."""
    lines = ["| option | what it does |", "|---|---|"]
    lines += [f"| {_markdown_names(row)} | {_markdown(row.help)} |" for row in OPTIONS]
    lines += ["", "Known, and refused by name because what they ask for is not there:", ""]
    lines += ["| option | instead |", "|---|---|"]
    lines += [f"| `{row.names[0]}` | {_markdown(row.advice)} |" for row in REFUSED]
    return "\n".join(lines) + "\n"


def roff_tables() -> str:
    """The same as tagged paragraphs for man(7)."""
    lines = []
    for row in OPTIONS:
        names = ", ".join(rf"\fB{_roff(name)}\fR{_roff_argument(row)}" for name in row.names)
        lines += [".TP", names, _roff(row.help)]
    lines += [".PP", "Known, and refused by name because what they ask for is not there:"]
    for refused in REFUSED:
        lines += [".TP", rf"\fB{_roff(refused.names[0])}\fR", _roff(refused.advice)]
    return "\n".join(lines) + "\n"


DOCUMENTS: Final[Mapping[Path, tuple[str, str, Callable[[], str]]]] = {
    CHECKOUT / "README.md": ("<!-- options: begin -->\n", "<!-- options: end -->\n", markdown_tables),
    CHECKOUT / "docs/man/smbmount.8": ('.\\" options: begin\n', '.\\" options: end\n', roff_tables),
}
"""For each document the lines between which the tables stand, and what makes them."""


def updated(path: Path) -> str:
    """The text of the document at `path` with tables that are up to date."""
    begin, end, make = DOCUMENTS[path]
    before, _, rest = path.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{path} has no lines {begin.strip()} and {end.strip()}")
    return before + begin + make() + end + after


def _markdown_names(row: Option) -> str:
    return ", ".join(f"`{name}={row.argument}`" if row.argument else f"`{name}`" for name in row.names)


def _markdown(text: str) -> str:
    return re.sub(r"([\\|<>*_])", r"\\\1", text)


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def _roff_argument(row: Option) -> str:
    return rf"=\fI{_roff(row.argument)}\fR" if row.argument else ""


def main() -> None:
    for path in DOCUMENTS:
        path.write_text(updated(path))


if __name__ == "__main__":
    main()
