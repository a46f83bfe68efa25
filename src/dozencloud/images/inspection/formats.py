"""What an image file is, by its own bytes, and the disk, tree or kernel inside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from dozencloud.images.inspection.model import Arch, Compression, Format
from dozencloud.images.inspection.tree import Tree


@dataclass(frozen=True)
class Opened:
    """An image file opened for inspection: one of `disk`, `tree` and `head` is there.

    size: bytes of the file; virtual_size: of the disk in it, or of an archive's files.
    disk: seekable, read-only. head: a bare kernel or initrd from its first byte (seekable, still
    wrapped if the compression belongs to it). arch: as an OCI archive's configuration tells it.
    """

    format: Format
    compression: Compression
    size: int
    virtual_size: int = 0
    disk: BinaryIO | None = None
    tree: Tree | None = None
    head: BinaryIO | None = None
    arch: Arch | None = None
    warnings: tuple[str, ...] = ()


def open_image(file: BinaryIO, size: int) -> Opened:
    """Open the image in `file` of `size` bytes; BadImage if it cannot be read."""
    raise NotImplementedError
