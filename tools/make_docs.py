"""Make the tables in docs/ that repeat code, from that code.

A table stands between two lines that GitHub does not show; its name is one of made/registry.py:

    <!-- made: settings -->
    <!-- end -->

    make docs               make them anew
    tools/docs --check      say which are not as the code is

Exit status: 0 if all is as the code is, 1 if not.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from made.registry import TABLES

DOCS = Path(__file__).resolve().parents[1] / "docs"
PLACE = re.compile(
    r"^<!-- made: (?P<name>[^\n]+) -->\n(?P<text>.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL
)
BEGIN, END = "<!-- made:", "<!-- end -->"

Tables = Mapping[str, Callable[[], str]]


class Misplaced(Exception):
    """Marks that do not fit the tables there are; a sentence."""


def places(page: str) -> list[re.Match[str]]:
    """Where tables are to be; Misplaced if a mark has no counterpart."""
    found = list(PLACE.finditer(page))
    if not len(found) == page.count(BEGIN) == page.count(END):
        raise Misplaced(f"Each mark `{BEGIN} NAME -->` needs one `{END}` after it, on lines alone.")
    return found


def made(page: str, tables: Tables) -> str:
    """The page, with its tables as the code is now."""

    def renewed(place: re.Match[str]) -> str:
        # An empty line on both sides: not every reader of Markdown ends a table at a comment.
        return f"<!-- made: {place['name']} -->\n\n{tables[place['name']]()}\n\n{END}"

    found = places(page)
    if unknown := [place["name"] for place in found if place["name"] not in tables]:
        raise Misplaced(f"There is no table called {unknown[0]}. Known: {', '.join(tables)}.")
    return PLACE.sub(renewed, page)


def differing(page: str, tables: Tables) -> Iterator[str]:
    """Names of the tables in the page that are not as the code is."""
    now = places(made(page, tables))
    for old, new in zip(places(page), now, strict=True):
        if old["text"] != new["text"]:
            yield old["name"]


def pages(folder: Path, tables: Tables) -> dict[Path, str]:
    """All documents; Misplaced unless each table has one place in them."""
    found = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))}
    named = [place["name"] for text in found.values() for place in places(text)]
    if wrong := [name for name in tables if named.count(name) != 1]:
        raise Misplaced(f"Not in one place in the documents: {', '.join(wrong)}.")
    return found


def check(folder: Path, tables: Tables) -> list[str]:
    """Lines about the tables that differ."""
    return [
        f"{path.name}: the table `{name}` is not as the code is. Run: make docs"
        for path, text in pages(folder, tables).items()
        for name in differing(text, tables)
    ]


def renew(folder: Path, tables: Tables) -> list[str]:
    """Write the pages that change; their names."""
    changed = []
    for path, text in pages(folder, tables).items():
        if (new := made(text, tables)) != text:
            path.write_text(new, encoding="utf-8")
            changed.append(path.name)
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say which differ")
    only = parser.parse_args().check
    try:
        said = check(DOCS, TABLES) if only else renew(DOCS, TABLES)
    except Misplaced as error:
        sys.exit(str(error))
    print("\n".join(said) or "All tables are as the code is.")
    sys.exit(bool(said) and only)


if __name__ == "__main__":
    main()
