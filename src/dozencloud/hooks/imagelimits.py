"""The limits of projects for images: Keystone is asked once, and its answer is good for a while.

Upstream asks anew at each check, of which an image has several: for the model of enforcement, the
service, its endpoint, the limits of the project, and those of all projects (oslo_limit/limit.py,
Enforcer, _EnforcerUtils). Uploads that others abandoned kept Keystone busy for minutes by that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from oslo_limit import limit

KEPT = 10.0
"""s after which a limit that an administrator has changed counts."""


class Remembering(limit._EnforcerUtils):
    """Upstream's; it also remembers that a project has no limits of its own.

    Of many who want to know the same at a time, one asks.
    """

    def __init__(self, cache: bool = True) -> None:
        super().__init__(cache=True)
        self._asked: set[str] = set()
        self._lock = threading.Lock()

    def _get_project_limit(self, project_id: str, resource_name: str) -> Any:
        with self._lock:
            if project_id not in self._asked:
                # All of the project's go into the cache.
                super()._get_project_limit(project_id, resource_name)
                self._asked.add(project_id)
            return self.plimit_cache.get(project_id, {}).get(resource_name)

    def _get_registered_limit(self, resource_name: str) -> Any:
        with self._lock:
            return super()._get_registered_limit(resource_name)


def for_a_while(
    ask: Callable[..., Any], clock: Callable[[], float] = time.monotonic
) -> Callable[..., Any]:
    """`ask`, whose answer is the one for everybody until it is KEPT old."""
    lock = threading.Lock()
    answer, since = None, float("-inf")

    def get(*arguments: Any, **options: Any) -> Any:
        nonlocal answer, since
        with lock:
            if clock() - since > KEPT:
                answer, since = ask(*arguments, **options), clock()
            return answer

    return get


def use() -> None:
    """Put these in upstream's place."""
    setattr(limit, "_EnforcerUtils", for_a_while(Remembering))  # noqa: B010  (a class to mypy)
    model = for_a_while(limit.Enforcer._get_enforcement_model)
    setattr(limit.Enforcer, "_get_enforcement_model", model)  # noqa: B010  (a method to mypy)
