"""What Keystone is asked of limits, and for how long its answer is good."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_limit import limit

from dozencloud.hooks.imagelimits import KEPT, Remembering, for_a_while


class Keystone:
    """Counts what it is asked. A mock: the real one is in tests/e2e/test_security_images.py."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.pause = 0.0

    def limits(self, project_id: str, **_: Any) -> list[Any]:
        self.asked.append(project_id)
        time.sleep(self.pause)
        own = SimpleNamespace(resource_name="images", resource_limit=7)
        return [own] if project_id == "own" else []

    def registered_limits(self, **_: Any) -> list[Any]:
        self.asked.append("all")
        time.sleep(self.pause)
        return [SimpleNamespace(resource_name="images", default_limit=100)]


@pytest.fixture
def keystone(monkeypatch: pytest.MonkeyPatch) -> Keystone:
    made = Keystone()
    endpoint = SimpleNamespace(service_id="s", region_id="r")
    monkeypatch.setattr(limit, "_get_keystone_connection", lambda: made)
    monkeypatch.setattr(limit._EnforcerUtils, "_get_endpoint", lambda self: endpoint)
    return made


def test_a_project_is_asked_for_once_whether_it_has_limits_or_not(keystone: Keystone) -> None:
    utils = Remembering()
    for _ in range(3):
        assert utils.get_project_limits("own", ["images"]) == [("images", 7)]
        assert utils.get_project_limits("other", ["images"]) == [("images", 100)]
    assert keystone.asked == ["own", "other", "all"]


def test_of_many_at_a_time_one_asks(keystone: Keystone) -> None:
    keystone.pause = 0.05
    utils = Remembering()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: utils.get_project_limits("b", ["images"]), range(8)))
    assert answers == [[("images", 100)]] * 8
    assert keystone.asked == ["b", "all"]


def test_what_was_changed_counts_after_a_while() -> None:
    now = [0.0]
    get = for_a_while(object, lambda: now[0])
    first = get()
    now[0] = KEPT
    assert get() is first
    now[0] = KEPT + 0.1
    assert get() is not first


def test_what_failed_is_asked_again() -> None:
    answers = [OSError("away"), "flat"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    get = for_a_while(ask)
    with pytest.raises(OSError, match="away"):
        get()
    assert get() == get() == "flat"
