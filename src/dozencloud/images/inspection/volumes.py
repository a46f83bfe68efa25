"""Partition tables and the file systems on a disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from dozencloud.images.inspection.model import Partition
from dozencloud.images.inspection.tree import Tree


@dataclass(frozen=True)
class Volume:
    """A partition (number 0: the whole disk is one file system).

    tree: None where no reader knows the file system or it cannot be read; trouble: then why, in a
    sentence (empty where there is simply nothing to read). used: bytes, 0 if not known.
    """

    partition: Partition
    tree: Tree | None = None
    used: int = 0
    trouble: str = ""


@dataclass(frozen=True)
class Disk:
    """table: gpt, mbr, or empty. esp: number of the EFI system partition, 0 if there is none."""

    table: str
    mbr_boot_code: bool
    esp: int
    volumes: tuple[Volume, ...]
    warnings: tuple[str, ...] = ()


def read_disk(disk: BinaryIO, size: int) -> Disk:
    """Read the partition table of a disk of `size` bytes and open what is in its partitions."""
    raise NotImplementedError
