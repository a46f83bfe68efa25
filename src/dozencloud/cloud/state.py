"""What was done already, so that doing it again costs nothing."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any, Self

from dozencloud.cloud.installation import Cloud
from dozencloud.private import write_private

REGISTERED = "registered"
"""Name of `Cloud.registered` as it was when the first networks were made."""


def digest(*parts: object) -> str:
    """Fingerprint of values; bytes and paths' contents count, not their names."""
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()


class State:
    """Small facts about this cloud by name, in one JSON file that is never half written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    @classmethod
    def of(cls, cloud: Cloud) -> Self:
        return cls(cloud.lib / "state.json")

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            content = None
        # Losing it costs time, not data: every task looks for what is there.
        return content if isinstance(content, dict) else {}

    def get(self, name: str) -> Any:
        with self._lock:
            return self._read().get(name)

    def set(self, name: str, value: Any) -> None:
        with self._lock:
            content = self._read()
            content[name] = value
            write_private(self.path, json.dumps(content, indent=2, sort_keys=True) + "\n")
