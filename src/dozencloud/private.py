"""Files that nobody else may read, and that are never half there."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path


def aside(path: Path) -> Path:
    """Where a file is made before it takes its name."""
    return path.with_name(f".{path.name}.new")


def write_private(
    path: Path, content: str | bytes, mode: int = 0o600, owner: str | None = None
) -> None:
    """Write a file that is never readable by others and never half there (rename(2)).

    owner: a user, whose group gets no rights beyond the mode's.
    """
    new = aside(path)
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    os.fchmod(descriptor, mode)  # whatever the umask is
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    if owner:
        shutil.chown(new, owner, pwd.getpwnam(owner).pw_gid)
    new.rename(path)
