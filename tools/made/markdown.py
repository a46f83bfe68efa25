"""Tables as GitHub's Markdown has them (GFM, 4.10)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of a table; ValueError for a row that has not one cell for each of the head."""
    lines = [line(head), "|" + "---|" * len(head)]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"{len(head)} cells are needed: {row}")
        lines.append(line(row))
    return "\n".join(lines)


def line(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {shown} " if (shown := escaped(cell)) else " " for cell in cells) + "|"


def escaped(cell: str) -> str:
    """A cell is one line, and ends at a bar, also within code."""
    return " ".join(cell.split()).replace("|", r"\|")


def code(word: str) -> str:
    return f"`{word}`"


def codes(words: Iterable[str]) -> str:
    return ", ".join(map(code, words))
