"""btrfs, whose trees on bad bytes may be empty, too deep, or circles."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import dissect.btrfs.btrfs as library
from dissect.btrfs.tree import BTree, Cursor

from dozencloud.images.inspection.tree import BadImage

MAX_LEVEL = 8
"""BTRFS_MAX_LEVEL."""
MAX_STEPS = 1_000_000
"""Nodes entered in one inspection; a large root file system takes some ten thousand."""
NODES_KEPT = 512
"""Per tree: 8 MiB of the usual nodes. The library keeps 16 times as many."""


class _BoundedCursor(Cursor):  # type: ignore[misc]
    def push(self, address: int, initial_index: int = 0) -> None:
        super().push(address, initial_index)
        self.btree.btrfs.steps += 1
        if len(self._path) > MAX_LEVEL + 1 or self.btree.btrfs.steps > MAX_STEPS:
            raise BadImage("The btrfs file system has a tree that leads back into itself.")
        if not self._header.nritems:
            raise BadImage("The btrfs file system has an empty tree node.")


class _BoundedTree(BTree):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_node = lru_cache(NODES_KEPT)(BTree._read_node.__get__(self))

    def cursor(self) -> _BoundedCursor:
        return _BoundedCursor(self)


class BoundedBtrfs(library.Btrfs):  # type: ignore[misc]
    """The library's reader over bounded trees."""

    steps = 0


# The library makes its trees by this name and has no other way to give it one's own.
library.BTree = _BoundedTree
