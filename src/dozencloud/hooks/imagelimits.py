"""The limits of projects for images: Keystone is asked once, and its answer is good for a while.

Upstream asks anew at each check, of which an image has several: for the service, its endpoint, the
limits of the project, and those of all projects (oslo_limit/limit.py, _EnforcerUtils). Uploads
that others abandoned kept Keystone busy for minutes by that.
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
    """Upstream's; it also remembers that a project has no limits of its own."""

    def __init__(self) -> None:
        super().__init__(cache=True)
        self._asked: set[str] = set()

    def _get_project_limit(self, project_id: str, resource_name: str) -> Any:
        if project_id not in self._asked:
            # All of the project's go into the cache.
            super()._get_project_limit(project_id, resource_name)
            self._asked.add(project_id)
        return self.plimit_cache.get(project_id, {}).get(resource_name)


class Shared:
    """One for all checks, and another after a while."""

    def __init__(
        self,
        make: Callable[[], Any] = Remembering,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make, self._clock = make, clock
        self._lock = threading.Lock()
        self._kept: Any = None
        self._made = 0.0

    def get(self, cache: bool = True) -> Any:
        """What upstream makes for each check."""
        with self._lock:
            if self._kept is None or self._clock() - self._made > KEPT:
                self._kept, self._made = self._make(), self._clock()
            return self._kept


def use() -> None:
    """Put it in upstream's place."""
    setattr(limit, "_EnforcerUtils", Shared().get)  # noqa: B010  (a class to mypy)
