"""Python environments that the launcher made and that no cloud of this machine uses any more.

The launcher makes one for each lock file (bootstrap/environment.sh). Each cloud remembers the last
ones that it ran in; each environment has a list of who ran in it. One without such a list stays:
a launcher may be about to.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.state import State
from dozencloud.facts.processes import PROC, pids
from dozencloud.locks import open_lock
from dozencloud.private import write_private

KEPT = 2
"""The one that a cloud runs in, and the one before: for the way back from an upgrade."""
STATE = "environments"
"""In a cloud's state: names of those that it ran in, the last one first."""
USERS = ".clouds"
"""In an environment: a file for each cloud that ran in it, with the path of the cloud's state."""


def use(cloud: Cloud, state: State, environment: Path) -> None:
    """Note that the cloud runs in this environment."""
    if not _ours(environment):
        return
    before = state.get(STATE) or []
    names = [environment.name, *(name for name in before if name != environment.name)][:KEPT]
    if names != before:
        state.set(STATE, names)
    note, text = environment / USERS / cloud.name, f"{state.path}\n"
    if not note.exists() or note.read_text() != text:
        note.parent.mkdir(exist_ok=True)
        write_private(note, text, 0o644)


def _ours(environment: Path) -> bool:
    """The launcher made it, and not for tests."""
    return environment.name.startswith("env-")


def clear(own: Path) -> list[Path]:
    """Remove those beside `own`, which this process runs in, that nobody needs; returns them."""
    if not _ours(own):
        return []
    with open_lock(own.parent / "lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []  # a launcher is making one; the next run looks again
        gone = [
            folder for folder in sorted(own.parent.glob("env-*")) if folder != own and free(folder)
        ]
        for folder in gone:
            # Without it the launcher makes the environment anew: half of one is never used.
            for stamp in (".package", ".dependencies"):
                (folder / stamp).unlink(missing_ok=True)
            shutil.rmtree(folder)
        return gone


def free(folder: Path) -> bool:
    """Clouds have run in this environment, none would again, and no process does."""
    notes = folder / USERS
    return (
        notes.is_dir()
        and not any(folder.name in _names(note) for note in notes.iterdir())
        and not any(_in_use(folder, pid) for pid in pids())
    )


def users(own: Path) -> list[str]:
    """Paths of the states of clouds that would run in one of these environments again."""
    notes = [note for folder in own.parent.glob("env-*") for note in (folder / USERS).glob("*")]
    return sorted({note.read_text().strip() for note in notes if _names(note)})


def size(own: Path) -> int:
    """MiB of all that the launcher has made."""
    total = 0
    for top in _made(own):
        for folder, _, files in os.walk(top):
            for name in files:
                with suppress(OSError):
                    total += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118
    return total >> 20


def remove(own: Path) -> None:
    """Remove all that the launcher has made, also the environment that this process runs in.

    What the process needs afterwards has to be imported before.
    """
    for path in _made(own):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # something else is in there
        own.parent.rmdir()


def _made(own: Path) -> list[Path]:
    """What the launcher has made: environments, uv, downloads; those of tests stay."""
    if not _ours(own):
        return []
    shared = ("uv-*", "cache", "tmp", "lock", "*.lock", "setup.log", "requirements.txt")
    patterns = ("env-*", *(() if any(own.parent.glob("dev-*")) else shared))
    return [path for pattern in patterns for path in sorted(own.parent.glob(pattern))]


def _names(note: Path) -> list[str]:
    """What the cloud that wrote this note has run in; nothing if it is gone."""
    return State(Path(note.read_text().strip())).get(STATE) or []


def _in_use(folder: Path, pid: int) -> bool:
    """The process has a file of the environment as its program, or in its memory."""
    inside = f"{folder}/"
    try:
        place = PROC / str(pid)
        program = (place / "cmdline").read_text(errors="replace")
        return program.startswith(inside) or inside in (place / "maps").read_text(errors="replace")
    except OSError:
        return False
