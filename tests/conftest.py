"""What all tests share: which may run beside each other, and how their data is called."""

from __future__ import annotations

import pytest

LONG = 16
"""Bytes of data above which they are no name."""


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file runs in one process, and so does all that shares the cloud of `tests/e2e`.

    For pytest-xdist's `--dist loadgroup`.
    """
    for item in items:
        group = "e2e" if item.get_closest_marker("e2e") else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Files have the time in them, and each process of a run would call its tests differently."""
    return argname if isinstance(val, bytes) and len(val) > LONG else None
