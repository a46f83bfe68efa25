"""One `dozen` at a time on a cloud, and in folders that are its own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.errors import Exit, Problem
from dozencloud.host import processes
from dozencloud.locks import open_lock
from dozencloud.verdicts import Level, Verdict

LOCK = "lock"


@contextmanager
def locked(cloud: Cloud) -> Iterator[None]:
    """Keep every other `dozen` from changing this cloud; the kernel drops the lock if we die.

    Commands that a killed one left at work are ended first. Problem if its folders are somebody
    else's.
    """
    if theirs := foreign_folders(cloud):
        raise Problem(theirs[0].fact, theirs[0].mend, code=Exit.UNFIT)
    made = [path for path in (cloud.lib, *cloud.lib.parents) if not path.exists()]
    cloud.lib.mkdir(parents=True, exist_ok=True)
    path = cloud.lib / LOCK
    with open_lock(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise Problem(
                f"Another dozen is at work on this cloud (pid {holder}).",
                "Wait until it has ended, then run this again.",
                code=Exit.BUSY,
            ) from None
        file.seek(0)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        processes.end_commands(cloud)
        name, _, value = cloud.run_marker.partition("=")
        os.environ[name] = value
        try:
            yield
        finally:
            del os.environ[name]
            if made and not cloud.exists and made[0].is_dir() and _names(cloud.lib) == [LOCK]:
                # Refused before any work: leave the machine as it was.
                path.unlink()
                with suppress(OSError):
                    for folder in made:
                        folder.rmdir()


def are_ours(cloud: Cloud) -> bool:
    """Whether a cloud made its folders. Of those below a root, the lock is the first file there."""
    return cloud.root is None or cloud.exists or (cloud.lib / LOCK).is_file()


def foreign_folders(cloud: Cloud) -> list[Verdict]:
    """Folders of the names that a cloud's have, with content, which no cloud made."""
    if are_ours(cloud):
        return []
    theirs = [str(folder) for folder in cloud.folders if folder.is_dir() and is_used(folder)]
    if not theirs:
        return []
    return [
        Verdict(
            "folder",
            Level.BAD,
            f"No cloud made {', '.join(theirs)}; one with this --root would take that for its own.",
            "Choose a folder for --root that is empty or not there yet.",
        )
    ]


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def is_used(folder: Path) -> bool:
    # A run that was killed at its very start leaves empty folders, the lock, a hidden half file.
    return any(n != LOCK and not n.startswith(".") for n in _names(folder))
