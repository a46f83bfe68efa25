"""pytest plugin: says which cells of the table in docs/servers.md the collected tests prove."""

from __future__ import annotations

import pytest


def pytest_collection_finish(session: pytest.Session) -> None:
    for item in session.items:
        kind = item.path.parent.name
        for mark in item.iter_markers("shows"):
            print("SHOWS", kind, *mark.args, sep="\t")
