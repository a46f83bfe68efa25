"""Writes the archive format that Linux unpacks as its first root: cpio "newc".

Format: Documentation/driver-api/early-userspace/buffer-format.rst in the Linux source.
Owner, times, inode numbers and order depend on nothing but the names, so the same tree gives the
same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

MAGIC = b"070701"
TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One name in the archive; mode holds the file type too, as in stat(2)."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)
    uid: int = 0
    gid: int = 0


def file(name: str, data: bytes, mode: int = 0o644, *, uid: int = 0, gid: int = 0) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | mode, data, uid=uid, gid=gid)


def directory(name: str, mode: int = 0o755, *, uid: int = 0, gid: int = 0) -> Entry:
    """A directory."""
    return Entry(name, stat.S_IFDIR | mode, uid=uid, gid=gid)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    """A character device node."""
    return Entry(name, stat.S_IFCHR | mode, device=(major, minor))


def with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """The entries sorted by name, with every missing parent directory added.

    Raises ValueError if a name is used twice or is not a plain relative path.
    """
    found: dict[str, Entry] = {}
    for entry in entries:
        path = PurePosixPath(entry.name)
        if path.is_absolute() or ".." in path.parts or str(path) != entry.name:
            raise ValueError(f"not a plain relative path: {entry.name!r}")
        if entry.name in found:
            raise ValueError(f"twice in the archive: {entry.name}")
        found[entry.name] = entry
    for name in list(found):
        for parent in PurePosixPath(name).parents:
            if str(parent) != "." and str(parent) not in found:
                found[str(parent)] = directory(str(parent))
    # A parent's name is a prefix of its children's, so sorting puts it first.
    return [found[name] for name in sorted(found)]


def write(out: BinaryIO, entries: Iterable[Entry]) -> None:
    """Write the archive, parents first."""
    for chunk in _chunks(with_parents(entries)):
        out.write(chunk)


def _chunks(entries: list[Entry]) -> Iterator[bytes]:
    for number, entry in enumerate(entries, start=1):
        yield from _record(entry, number)
    yield from _record(Entry(TRAILER, 0), 0)


def _record(entry: Entry, number: int) -> Iterator[bytes]:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        number,
        entry.mode,
        entry.uid,
        entry.gid,
        links,
        0,  # modification time: fixed, so that equal input gives equal bytes
        len(entry.data),
        0,
        0,
        *entry.device,
        len(name),
        0,
    )
    header = MAGIC + b"".join(b"%08x" % field for field in fields) + name
    yield header + _padding(len(header))
    if entry.data:
        yield entry.data
        yield _padding(len(entry.data))


def _padding(length: int) -> bytes:
    """Header and data each end on a multiple of 4 bytes."""
    return b"\0" * (-length % 4)
