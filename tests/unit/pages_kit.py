"""Pages of the documentation, their sections and tables."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

Row = tuple[str, ...]


def read(name: str) -> str:
    return (CHECKOUT / name).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """Text below a heading, up to the next one of the same or a higher level."""
    match = re.search(rf"^(#+) {re.escape(heading)}$", page, re.MULTILINE)
    assert match, f"no heading {heading!r}"
    rest = page[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[Row]:
    """Cells of all tables, without their heads."""
    lines = [line.strip() for line in text.splitlines()]
    found = []
    for number, line in enumerate(lines):
        rule = re.fullmatch(r"\|[\s:|-]+\|", line)
        head = number + 1 < len(lines) and re.fullmatch(r"\|[\s:|-]+\|", lines[number + 1])
        if line.startswith("|") and not rule and not head:
            found.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return found
