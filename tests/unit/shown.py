"""pytest plugin: says which cells of the table in docs/servers.md the collected tests prove."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def pytest_collection_finish(session: pytest.Session) -> None:
    for item in session.items:
        kind = item.path.relative_to(TESTS).parts[0]
        for mark in item.iter_markers("shows"):
            print("SHOWS", kind, *mark.args, sep="\t")
