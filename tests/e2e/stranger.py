"""A user of the machine who has nothing to do with the cloud: what can he open, and lock?"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from dozencloud.cloud import folders
from dozencloud.cloud.installation import Cloud

NOBODY = 65534


def as_stranger(work: Callable[[], Any]) -> Any:
    """What `work` returns (as JSON) in a child that is nobody, in no group."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with os.fdopen(writing, "w") as file:
                json.dump(work(), file)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return json.loads(said)


def everything(*folders: Path) -> Iterator[Path]:
    """All that is there now, of every kind; symbolic links are not followed."""
    for folder in folders:
        yield folder
        for place, inside, names in os.walk(folder):
            yield from (Path(place, name) for name in (*inside, *names))


def reached(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Path -> what a stranger can do with it: list, read, write, lock, connect."""
    there = [(str(path), os.lstat(path).st_mode) for path in paths if os.path.lexists(path)]

    def look() -> dict[str, list[str]]:
        found = {path: _ways(path, mode) for path, mode in there}
        return {path: ways for path, ways in found.items() if ways}

    found: dict[str, list[str]] = as_stranger(look)
    return found


def _ways(path: str, mode: int) -> list[str]:
    if stat.S_ISLNK(mode):
        return []  # what it leads to is another path
    if stat.S_ISSOCK(mode):
        return ["connect"] if _connects(Path(path)) else []
    flags = os.O_NONBLOCK | os.O_CLOEXEC
    if stat.S_ISDIR(mode):
        tries = {"list": os.O_RDONLY | os.O_DIRECTORY}
    else:
        tries = {"read": os.O_RDONLY, "write": os.O_WRONLY}
    ways = []
    for name, how in tries.items():
        with suppress(OSError):
            descriptor = os.open(path, how | flags)
            ways.append(name)
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ways.append("lock")
            os.close(descriptor)
    if stat.S_ISDIR(mode) and os.access(path, os.W_OK | os.X_OK):
        ways.append("make")
    return sorted(set(ways))


def _connects(path: Path) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as client, suppress(PermissionError):
            client.settimeout(1)
            place = os.open(path.parent, os.O_PATH)
            try:
                # Names of sockets may have 107 bytes only.
                client.connect(f"/proc/self/fd/{place}/{path.name}")
                return True
            except OSError as error:
                # Only because it is busy, or nobody listens any more.
                if error.errno in (errno.EAGAIN, errno.ECONNREFUSED):
                    return True
            finally:
                os.close(place)
    return False


def unlisted(cloud: Cloud) -> dict[str, list[str]]:
    """What he reaches of a cloud, or of a node of one, which cloud/folders.py does not list."""
    got = reached(everything(*cloud.folders))
    listed = {str(path) for path in folders.readable(cloud)}
    assert listed & set(got), "the list itself holds"
    return {path: ways for path, ways in got.items() if path not in listed or "write" in ways}


def status_of(pid: int) -> dict[str, Any]:
    """/proc/PID/status as a table."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
