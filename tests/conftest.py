"""What all tests share: which run beside each other, and how their data is called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

E2E = "tests/e2e/"
APART = tuple(f"{E2E}test_{name}.py" for name in ("nodes", "nodes_lost", "server_life"))
"""Share a cloud of their own: they take long, and so run beside the other files of `E2E`."""
LONGEST_NAME = 16
"""Bytes of data above which they are no name."""
LONG = os.environ.get("DOZEN_LONG") == "1"
"""Whether what takes long runs, too: `make nightly`."""


# Time on a busy machine says nothing; where an end is promised, the test says so.
hypothesis.settings.register_profile("dozencloud", deadline=None)
hypothesis.settings.load_profile("dozencloud")


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # untyped
    """A file runs in one process, and so does all that shares a cloud of `tests/e2e`."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file in APART:
            return APART[0]
        return E2E if file.startswith(E2E) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Files have the time in them, and each process of a run would call its tests differently."""
    return argname if isinstance(val, bytes) and len(val) > LONGEST_NAME else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if LONG:
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether the run may take long."""
    return LONG


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Small images and packages, made by the first who needs them, for all processes of a run.

    DOZEN_TEST_CACHE names a folder that keeps them between runs.
    """
    own = tmp_path_factory.getbasetemp()
    run = own if worker_id == "master" else own.parent
    return Path(os.environ.get("DOZEN_TEST_CACHE") or run, "images")
