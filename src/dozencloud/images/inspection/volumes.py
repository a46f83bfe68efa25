"""The partitions of a disk and the file systems in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from dissect.util.stream import RangeStream

from dozencloud.images.inspection.filesystems import READERS, kind_of, size_of
from dozencloud.images.inspection.model import Partition
from dozencloud.images.inspection.streams import seam
from dozencloud.images.inspection.tables import read_table
from dozencloud.images.inspection.tree import BadImage, Tree

BEYOND = "Partition {} ends behind the end of the disk, though its file system does not."


@dataclass(frozen=True)
class Volume:
    """A partition (number 0: the whole disk is one file system).

    tree: None where no reader knows the file system or it cannot be read; trouble: then why, in a
    sentence (empty where there is simply nothing to read). used: bytes, 0 if not known.
    subvolume: of btrfs, if the root lies in one that the kernel must be told of.
    """

    partition: Partition
    tree: Tree | None = None
    used: int = 0
    trouble: str = ""
    subvolume: str = ""


@dataclass(frozen=True)
class Disk:
    """table: gpt, mbr, or empty. esp: number of the EFI system partition, 0 if there is none.

    sector: bytes of its sectors. cut: why it is not whole, in a sentence; empty if it is.
    """

    table: str
    mbr_boot_code: bool
    esp: int
    volumes: tuple[Volume, ...]
    warnings: tuple[str, ...] = ()
    sector: int = 512
    cut: str = ""


def read_disk(disk: BinaryIO, size: int) -> Disk:
    """Read the partition table of a disk of `size` bytes and open what is in its partitions."""
    with seam("The partition table"):
        table = read_table(disk, size)
    if table.kind:
        # The end of a disk with a GPT is its copy: what lacks that is cut off.
        beyond = [p for p in table.partitions if p.start + p.size > size and table.kind == "mbr"]
        fitting = {p.number: _within(p, size) for p in beyond if _is_whole(disk, _within(p, size))}
        volumes = tuple(_open(disk, size, fitting.get(p.number, p)) for p in table.partitions)
        return Disk(
            table.kind,
            table.boot_code,
            table.esp,
            volumes,
            (*table.warnings, *(BEYOND.format(number) for number in fitting)),
            table.sector,
            table.cut(size, fitting),
        )
    whole = _open(disk, size, Partition(0, 0, size, ""))
    if not whole.partition.filesystem:
        return Disk("", False, 0, ())
    with seam("The file system"):
        needed = size_of(disk)
    cut = ""
    if needed > size:
        cut = f"The image is cut off: it has {size:,} bytes, and its file system {needed:,}."
    return Disk("", False, 0, (whole,), cut=cut)


def _within(partition: Partition, size: int) -> Partition:
    """As much of it as a disk of `size` bytes has: Linux cuts it in the same way."""
    return replace(partition, size=max(0, size - partition.start))


def _is_whole(disk: BinaryIO, partition: Partition) -> bool:
    """Whether a file system is known to need no more than this."""
    with seam(f"Partition {partition.number}"):
        needed = size_of(cast(BinaryIO, RangeStream(disk, partition.start, partition.size)))
    return 0 < needed <= partition.size


def _open(disk: BinaryIO, size: int, partition: Partition) -> Volume:
    name = f"Partition {partition.number}" if partition.number else "The disk"
    if partition.start + partition.size > size:
        return Volume(
            partition, trouble=f"{name} reaches beyond the end of the disk of {size:,} bytes."
        )
    stream = cast(BinaryIO, RangeStream(disk, partition.start, partition.size))
    try:
        with seam(name):
            kind = kind_of(stream)
        partition = replace(partition, filesystem=kind)
        reader = READERS.get(kind)
        if reader is None:
            return Volume(partition)
        with seam(f"{name}, {kind},"):
            store = reader(stream)
    except BadImage as error:
        return Volume(partition, trouble=str(error))
    partition = replace(partition, filesystem=store.kind, label=store.label, uuid=store.uuid)
    return Volume(
        partition, Tree(store), store.used, subvolume=str(getattr(store, "subvolume", ""))
    )
