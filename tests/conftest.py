"""Which tests may run beside each other, for pytest-xdist's `--dist loadgroup`."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file runs in one process, and so does all that shares the cloud of `tests/e2e`."""
    for item in items:
        group = "e2e" if item.get_closest_marker("e2e") else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
