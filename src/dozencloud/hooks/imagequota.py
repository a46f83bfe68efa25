"""How much image data a project may send at a time, counted while it comes.

Upstream compares a size that the request names with the project's limit, before the first byte
(glance/api/v2/image_data.py, upload and stage). Data in pieces (Transfer-Encoding: chunked) and
downloads (web-download) have no size then, and requests beside each other are each compared
with what was there before. So all that flows for a project is counted together.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glance.common.exception import StorageQuotaFull

DISK_LEFT = 256 << 20
"""Bytes of the disk that images never take: the databases are on it, too."""
STEP = 16 << 20
"""Bytes after which the disk is looked at again."""


class Full(StorageQuotaFull):  # type: ignore[misc]  # glance is untyped
    """The project, or the disk, has no room for more; the message is for the user."""


@dataclass
class Ledger:
    """What flows now. room: bytes that each project had left when its newest stream began."""

    _flowing: dict[str, int] = field(default_factory=dict)
    _room: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def stream(self, key: str, room: int | None) -> Iterator[Callable[[int], None]]:
        """Yields what is to be called with the size of each piece. room: None for no limit.

        What came stays counted until the database is asked anew, unless it failed.
        """
        came = 0
        with self._lock:
            if room is None:
                self._room.pop(key, None)
            else:
                self._room[key] = room

        def take(size: int) -> None:
            nonlocal came
            with self._lock:
                came += size
                flowing = self._flowing[key] = self._flowing.get(key, 0) + size
                if key in self._room and flowing > self._room[key]:
                    raise Full("The project's limit for images is reached.")

        try:
            yield take
        except BaseException:
            self._end(key, came)
            raise
        self._end(key, came)
        with self._lock:
            if key in self._room:
                self._room[key] -= came

    def _end(self, key: str, came: int) -> None:
        with self._lock:
            left = self._flowing.pop(key, 0) - came
            if left:
                self._flowing[key] = left


class Counted:
    """Image data on its way: whatever reads it tells `take` how much came."""

    def __init__(self, data: Any, take: Callable[[int], None], folder: Path) -> None:
        self._data, self._take, self._folder = data, take, folder
        self._until_look = 0

    def _count(self, piece: bytes) -> bytes:
        self._take(len(piece))
        self._until_look -= len(piece)
        if self._until_look <= 0:
            self._until_look = STEP
            state = os.statvfs(self._folder)
            if state.f_bavail * state.f_frsize < DISK_LEFT:
                raise Full("The disk for images is full.")
        return piece

    def read(self, size: int = -1) -> bytes:
        return self._count(self._data.read(size))

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._data:
            yield self._count(piece)

    def close(self) -> None:
        if hasattr(self._data, "close"):
            self._data.close()
