"""A FAT as Linux and firmware read it: chains of clusters that end, names that belong to files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from dissect.fat.fat import FAT, DirectoryEntry

from dozencloud.images.inspection.tree import BadImage

MAX_CLUSTERS = 1 << 20
"""Of one file: 4 GiB of the usual ones."""


class BoundedFat(FAT):  # type: ignore[misc]
    """The library's table, with chains that end and neighbours that are read at once."""

    def chain(self, cluster: int) -> Iterator[int]:
        top = (1 << self.bits_per_entry) - 1 & 0x0FFFFFFF
        for _ in range(MAX_CLUSTERS):
            if cluster >= (top & ~0xF) | 0x7 or (top == 0xFFF and cluster == 0xFF0):
                return
            if cluster < 2:
                raise BadImage("The vfat file system has a file of clusters that are free.")
            yield cluster
            cluster = self.get(cluster)
        raise BadImage("The vfat file system has a chain of clusters without an end.")

    def runlist(self, cluster: int) -> Iterator[tuple[int, int]]:
        """(first cluster, clusters), counted from the first that holds data."""
        start = count = 0
        for each in self.chain(cluster):
            if count and each == start + count:
                count += 1
                continue
            if count:
                yield start - 2, count
            start, count = each, 1
        if count:
            yield start - 2, count


RECORD = 32
"""Bytes of an entry, and of each part of a long name before it."""
MAX_LONG_NAME = 20 * RECORD
DELETED, LAST_PART, LONG_NAME = 0xE5, 0x40, 0x0F


def entries(fs: Any, directory: Any) -> Iterator[DirectoryEntry]:
    """The entries of a directory, without the long names that belong to no short one.

    Programs that know no long names leave such behind. The library would give them to whatever
    comes next (Linux, fs/fat/dir.c, fat_parse_long).
    """
    stream = directory.open()
    long = b""
    while len(record := stream.read(RECORD)) == RECORD and record[0]:
        if record[0] == DELETED:
            long = b""
        elif record[11] & 0x3F == LONG_NAME:
            begins = bool(record[0] & LAST_PART)
            long = record if begins else (long and long + record)[:MAX_LONG_NAME]
        else:
            owned = all(each == _checksum(record[:11]) for each in long[13::RECORD])
            yield DirectoryEntry(fs, io.BytesIO(long * owned + record), directory)
            long = b""


def _checksum(short: bytes) -> int:
    total = 0
    for byte in short:
        total = ((total >> 1 | total << 7) + byte) & 0xFF
    return total
