"""Settings of cloud.toml."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from dozencloud.cloud.settings import Settings, as_toml
from made.markdown import code, table

PAGE = "operations.md"
"""Where the table is: links to it need no name."""


def settings_table() -> str:
    return table(("setting", "default", "meaning", "applied by"), _rows())


def _rows() -> Iterator[tuple[str, str, str, str]]:
    for section in fields(Settings):
        for item in fields(getattr(Settings(), section.name)):
            told = item.metadata
            see = told["see"].removeprefix(PAGE)
            more = f" [More]({see})" if see else ""
            name = code(f"{section.name}.{item.name}")
            yield name, code(as_toml(item.default)), told["doc"] + more, told["applied"]
