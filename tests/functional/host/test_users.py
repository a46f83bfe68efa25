"""Users of services, which all clouds of a machine share."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dozencloud.host import users
from dozencloud.tasks.graph import Step

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
PREFIX, GROUP = "dztest-", "dztest"


@pytest.fixture
def wanted() -> Iterator[dict[str, str]]:
    yield {f"{PREFIX}{number}": GROUP for number in range(4)}
    users.remove(PREFIX, GROUP)


def test_two_clouds_may_make_them_at_once(wanted: dict[str, str]) -> None:
    def make(_number: int) -> None:
        users.create(Step(io.StringIO()), wanted)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(make, range(3)))
    assert users.missing(wanted) == set()
    make(0)
    assert users.remove(PREFIX, GROUP) == sorted(wanted)
    assert users.missing(wanted) == wanted.keys()
