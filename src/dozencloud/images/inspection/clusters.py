"""Chains of clusters in a FAT, which on bad bytes may have no end."""

from __future__ import annotations

from collections.abc import Iterator

from dissect.fat.fat import FAT

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
