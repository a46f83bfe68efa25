"""Memory and disk space. All sizes in MiB."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """From /proc/meminfo."""

    total: int
    available: int
    """What programs can still get without swapping, as the kernel estimates it."""
    swap: int


@dataclass(frozen=True)
class Disk:
    """Space for `path`, measured at its nearest parent that exists."""

    path: Path
    at: Path
    total: int
    free: int
    """For root, without the blocks that the file system holds back."""
    inodes_free: int | None
    """None where the file system makes them as needed (btrfs)."""


def parse_meminfo(text: str) -> Memory:
    """Read /proc/meminfo, whose "kB" are KiB."""
    values = {name: int(kib) // 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}
    return Memory(
        total=values.get("MemTotal", 0),
        available=values.get("MemAvailable", values.get("MemFree", 0)),
        swap=values.get("SwapTotal", 0),
    )


def memory() -> Memory:
    """Read the facts of this machine."""
    return parse_meminfo(Path("/proc/meminfo").read_text())


def disk(path: Path) -> Disk:
    """Measure the file system on which `path` is or would be made."""
    path = path.absolute()
    at = next(place for place in (path, *path.parents) if place.exists())
    found = os.statvfs(at)
    return Disk(
        path=path,
        at=at,
        total=found.f_blocks * found.f_frsize // _MIB,
        free=found.f_bavail * found.f_frsize // _MIB,
        inodes_free=found.f_favail if found.f_files else None,
    )
