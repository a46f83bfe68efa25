"""Make the tables and pictures in docs/ that repeat code, from that code.

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

from made.registry import PICTURES, TABLES

DOCS = Path(__file__).resolve().parents[1] / "docs"
PLACE = re.compile(
    r"^<!-- made: (?P<name>[^\n]+) -->\n(?P<text>.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL
)
END = "<!-- end -->"
MARK = re.compile(r"^<!-- (?:made:|end -->)", re.MULTILINE)
"""At the begin of a line: text may speak of marks."""

Tables = Mapping[str, Callable[[], str]]


class Misplaced(Exception):
    """Marks that do not fit the tables there are; a sentence."""


def places(page: str) -> list[re.Match[str]]:
    """Where tables are to be; Misplaced if a mark has no counterpart."""
    found = list(PLACE.finditer(page))
    if 2 * len(found) != len(MARK.findall(page)):
        raise Misplaced(f"Each line `<!-- made: NAME -->` needs a line `{END}` after it.")
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


def check(folder: Path, tables: Tables, pictures: Tables) -> list[str]:
    """Lines about the tables and pictures that differ."""
    wrong = [
        f"{path.name}: the table `{name}` is not as the code is. Run: make docs"
        for path, text in pages(folder, tables).items()
        for name in differing(text, tables)
    ]
    drawn = ((folder / name, picture()) for name, picture in pictures.items())
    return wrong + [
        f"{path.name} is not as the code is. Run: make docs"
        for path, text in drawn
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def renew(folder: Path, tables: Tables, pictures: Tables) -> list[str]:
    """Write the files that change; their names."""
    new = {path: made(text, tables) for path, text in pages(folder, tables).items()}
    new |= {folder / name: picture() for name, picture in pictures.items()}
    changed = []
    for path, text in new.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path.name)
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say which differ")
    only = parser.parse_args().check
    try:
        said = (check if only else renew)(DOCS, TABLES, PICTURES)
    except Misplaced as error:
        sys.exit(str(error))
    print("\n".join(said) or "All tables and pictures are as the code is.")
    sys.exit(bool(said) and only)


if __name__ == "__main__":
    main()
