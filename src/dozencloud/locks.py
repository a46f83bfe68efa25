"""Files to lock. Whoever can open a file can lock it, and keep out all who wait for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO


def open_lock(path: Path) -> TextIO:
    """The file, for its owner only; what is in it stays."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.fstat(descriptor).st_uid == os.geteuid():
        os.fchmod(descriptor, 0o600)  # of a release before
    return os.fdopen(descriptor, "r+")
