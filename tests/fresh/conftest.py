"""What tests in fresh machines share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def workdir() -> Iterator[Path]:
    """A directory on a real disk: /tmp may be memory."""
    with tempfile.TemporaryDirectory(prefix="fresh-", dir="/var/tmp") as directory:
        yield Path(directory)
