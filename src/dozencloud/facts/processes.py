"""Small readings of /proc about processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def pids() -> Iterator[int]:
    """Every process that we can see."""
    for entry in os.scandir(PROC):
        if entry.name.isdigit():
            yield int(entry.name)


def parse_parent(stat: str) -> int:
    """The parent in /proc/PID/stat; the name before it may hold spaces and brackets."""
    return int(stat.rpartition(")")[2].split()[1])


def name(pid: int) -> str:
    """The short name (comm); empty if the process is gone."""
    try:
        return (PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def ancestors(pid: int) -> frozenset[int]:
    """`pid` and all its ancestors."""
    seen: set[int] = set()
    while pid > 0 and pid not in seen:
        seen.add(pid)
        try:
            pid = parse_parent((PROC / str(pid) / "stat").read_text(errors="replace"))
        except OSError:
            break
    return frozenset(seen)
