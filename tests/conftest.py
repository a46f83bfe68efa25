"""What all tests share: which run beside each other, and how their data is called."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

E2E = "tests/e2e/"
LONG = 16
"""Bytes of data above which they are no name."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # untyped
    """A file runs in one process, and so does all that shares the cloud of `tests/e2e`."""

    def _split_scope(self, nodeid: str) -> str:
        return E2E if nodeid.startswith(E2E) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Files have the time in them, and each process of a run would call its tests differently."""
    return argname if isinstance(val, bytes) and len(val) > LONG else None
