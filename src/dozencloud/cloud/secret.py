"""Random secrets of a cloud, kept in one file that only root can read."""

from __future__ import annotations

import json
import secrets
import threading
from pathlib import Path

from dozencloud.errors import Problem
from dozencloud.private import write_private


def _parse(text: str) -> dict[str, str]:
    content = json.loads(text)
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise ValueError("it is not a table of texts")
    return content


class Secrets:
    """Named random passwords (48 hex digits, 192 bits); made at first use, then kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._values: dict[str, str] = {}
        if path.exists():
            try:
                self._values = _parse(path.read_text())
            except PermissionError as error:
                raise Problem(f"{path} cannot be read.", "Use sudo.") from error
            except ValueError as error:
                raise Problem(
                    f"{path} is damaged: {error}.",
                    "Restore it from a backup; without it the cloud's passwords are lost.",
                ) from error

    def __getitem__(self, name: str) -> str:
        with self._lock:
            if name not in self._values:
                self._values[name] = secrets.token_hex(24)
                self._save()
            return self._values[name]

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_private(self.path, json.dumps(self._values, indent=2, sort_keys=True) + "\n")
