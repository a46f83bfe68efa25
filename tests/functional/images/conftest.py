"""What tests that build and start images share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bootkit import Machine


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    started: list[Machine] = []
    yield started
    for machine in started:
        machine.stop()
