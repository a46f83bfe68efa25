"""The cache of unpacked images on a node, kept small.

Upstream's own manager removes what no server used for a day, however large, and nothing that a
killed download left (nova/virt/libvirt/imagecache.py). So who creates and deletes servers of one
new image after the other would fill the disk.
"""

from __future__ import annotations

import logging
import os
import re
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nova.utils import synchronized
from nova.virt.libvirt.imagecache import get_cache_fname

log = logging.getLogger(__name__)

IDLE = 3600
"""Seconds that a file stays which no server uses."""
SPACE = 4 << 30
"""Bytes that all of these may take; the oldest go first."""
YOUNG = 60
"""Seconds after its last use in which a server may just be about to use a file."""
PARTS = ("*.part", "*.converted")
_BASE = re.compile(r"[0-9a-f]{40}(?:_\d+)?")
_QCOW2 = struct.Struct(">4sIQI")


@dataclass(frozen=True)
class Unused:
    """A file that no disk is based on. idle: seconds since a server was made of it.

    doubtful: what was made of it failed.
    """

    path: Path
    size: int
    idle: float
    doubtful: bool


def doubt(folder: Path, images: Iterable[str]) -> None:
    """Note that a server of these images failed: unless others run from them, they go soon."""
    for image in images:
        with suppress(FileNotFoundError):
            os.utime(folder / get_cache_fname(image), (0, 0))


def backing(disk: Path) -> str:
    """Name of the file that a qcow2 is based on; empty for none."""
    with disk.open("rb") as file:
        head = file.read(_QCOW2.size)
        if len(head) < _QCOW2.size:
            return ""
        magic, _, offset, size = _QCOW2.unpack(head)
        if magic != b"QFI\xfb" or not offset or size > 1023:
            return ""
        file.seek(offset)
        return Path(file.read(size).decode(errors="replace")).name


def used(instances: Path) -> set[str]:
    """Names of the files that disks of this node are based on, also of servers that just moved."""
    found = set()
    for disk in instances.glob("*/disk*"):
        with suppress(FileNotFoundError):
            if disk.is_file():
                found.add(backing(disk))
    return found


def unused(instances: Path, cache: Path, now: float) -> Iterator[Unused]:
    taken = used(instances)
    for path in cache.iterdir() if cache.exists() else ():
        if not _BASE.fullmatch(path.name) or path.name in taken:
            continue
        with suppress(FileNotFoundError):
            state = path.stat()
            touched = max(state.st_mtime, state.st_ctime)
            yield Unused(path, state.st_blocks * 512, now - touched, not state.st_mtime)


def to_forget(files: Iterable[Unused]) -> list[Unused]:
    """Those that go now."""
    kept, gone = 0, []
    for each in sorted(files, key=lambda each: (each.doubtful, each.idle)):
        kept += each.size
        if each.idle > YOUNG and (each.doubtful or each.idle > IDLE or kept > SPACE):
            kept -= each.size
            gone.append(each)
    return gone


def forget(instances: Path, cache: Path) -> None:
    """Remove what is not worth its space; called once a minute."""
    for each in to_forget(unused(instances, cache, time.time())):
        _remove(instances, each.path)


def _remove(instances: Path, path: Path) -> None:
    # The lock under which Nova fetches the file, and bases disks on it.
    @synchronized(path.name, external=True, lock_path=str(instances / "locks"))  # type: ignore[untyped-decorator]  # nova is untyped
    def remove() -> None:
        state = path.stat()
        if time.time() - max(state.st_mtime, state.st_ctime) > YOUNG:
            log.info("Forgotten: %s", path.name)
            path.unlink()

    with suppress(FileNotFoundError):
        remove()


def forget_parts(cache: Path) -> None:
    """Remove what downloads left that were killed; for a start, when none is under way."""
    for pattern in PARTS:
        for path in cache.glob(pattern):
            path.unlink(missing_ok=True)
