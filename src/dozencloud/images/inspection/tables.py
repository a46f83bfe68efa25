"""Partition tables: GPT, MBR and both at once.

Read here rather than by dissect.volume, which trusts the count of entries, follows extended
partitions in circles, numbers logical partitions otherwise than Linux, and loses a sector of each
GPT partition.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from dissect.util.stream import RangeStream

from dozencloud.images.inspection.filesystems import KIND_BYTES, is_fat, kind_of
from dozencloud.images.inspection.model import Partition
from dozencloud.images.inspection.tree import BadImage

SECTORS = (512, 4096)
"""Bytes in a sector: of disks, and of those with large sectors."""
GPT_BYTES = 34 * 512
"""At the front of a disk: the protective MBR, the header, 128 entries."""
MAX_GPT_ENTRIES = 1024
"""Everyone writes 128."""
MAX_SECTORS = 1 << 55
"""More than any disk has."""
MAX_LOGICAL = 60
"""Logical partitions, the number that Linux reads."""
ESP_TYPES = ("C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "0xef")
PROTECTIVE = 0xEE
EXTENDED = (0x05, 0x0F, 0x85)
BOOT_CODE = 440
"""Bytes at the start of an MBR that a BIOS runs."""
_PARTED_STUB = bytes.fromhex("fab800108ed0bc00b0b800008ed88ec0fb")
"""libparted writes this on every label that it makes: it says nothing about the image."""


@dataclass(frozen=True)
class Table:
    """kind: gpt, mbr, or empty. partitions: as the table tells them, ends unchecked.

    sector: bytes of the disk's sectors, in which a GPT counts. claimed: bytes of the disk, as GPT
    tells where its copy lies; 0 if it does not.
    """

    kind: str = ""
    boot_code: bool = False
    partitions: tuple[Partition, ...] = ()
    warnings: tuple[str, ...] = ()
    sector: int = 512
    claimed: int = 0

    @property
    def end(self) -> int:
        """Bytes that a disk must have for all partitions, and GPT's copy behind them."""
        last = max((p.start + p.size for p in self.partitions), default=0)
        behind = 128 * 128 // self.sector + 1 if self.kind == "gpt" else 0
        return max(last + behind * self.sector, self.claimed)

    def cut(self, size: int, whole: Collection[int] = ()) -> str:
        """Why a disk of `size` bytes is not whole, in a sentence; empty if it is.

        whole: numbers of partitions that may end behind it, as what is in them does not.
        """
        for each in self.partitions:
            if each.start + each.size > size and each.number not in whole:
                return (
                    f"The image is cut off: it has {size:,} bytes, and partition {each.number} "
                    f"ends at {each.start + each.size:,}."
                )
        if self.claimed > size:
            return (
                f"The image is cut off: it has {size:,} bytes, and its partition table is of a "
                f"disk of {self.claimed:,}."
            )
        return ""

    @property
    def esp(self) -> int:
        """Number of the EFI system partition, 0 if there is none."""
        return next((p.number for p in self.partitions if p.type in ESP_TYPES), 0)


def read_table(disk: BinaryIO, size: int) -> Table:
    """Read the table; an empty one where the disk has none. BadImage if it is absurd."""
    disk.seek(0)
    first = disk.read(512)
    if len(first) < 512 or first[510:] != b"\x55\xaa" or _is_volume(first):
        return Table()
    entries = _entries(first)
    if any(status & 0x7F for status, *_ in entries):
        return Table()
    code = first[:BOOT_CODE]
    boot_code = any(code) and not code.startswith(_PARTED_STUB)
    plain = [entry for entry in entries if entry[1] not in (0, PROTECTIVE)]
    if any(kind == PROTECTIVE for _, kind, *_ in entries):
        table, warnings = _gpt(disk, size)
        if table is not None:
            return replace(table, boot_code=boot_code, warnings=warnings)
        if not plain and size < GPT_BYTES:
            raise BadImage(
                f"The image is cut off: it has {size:,} bytes, and ends in its partition table."
            )
        if not plain:
            raise BadImage(
                "The GPT partition table is damaged: neither it nor its copy at the end of the "
                "disk has a valid checksum."
            )
        return Table("mbr", boot_code, _mbr(disk, size, entries), warnings)
    if not plain:
        return Table("mbr", boot_code) if boot_code and not is_fat(first) else Table()
    for sector in SECTORS:
        partitions = _mbr(disk, size, entries, sector)
        if any(_is_known(disk, each.start) for each in partitions):
            return Table("mbr", boot_code, partitions, sector=sector)
    return Table("mbr", boot_code, _mbr(disk, size, entries))


def _is_known(disk: BinaryIO, start: int) -> bool:
    """Whether a file system begins there: an MBR does not tell how large its sectors are."""
    return bool(kind_of(cast(BinaryIO, RangeStream(disk, start, KIND_BYTES))))


def _is_volume(first: bytes) -> bool:
    """A file system's first sector ends with the same mark as a partition table's."""
    return (
        first[54:57] == b"FAT"
        or first[82:85] == b"FAT"
        or first[3:7] == b"NTFS"
        or first[3:8] == b"EXFAT"
    )


def _entries(sector: bytes) -> list[tuple[int, int, int, int]]:
    """(status, type, first sector, sectors) of the four entries."""
    return [struct.unpack_from("<B3xB3xII", sector, 446 + 16 * n) for n in range(4)]


def _mbr(
    disk: BinaryIO, size: int, entries: list[tuple[int, int, int, int]], sector: int = 512
) -> tuple[Partition, ...]:
    found = []
    extended = 0
    for number, (_, kind, start, count) in enumerate(entries, 1):
        if kind in EXTENDED:
            extended = extended or start
        elif kind not in (0, PROTECTIVE) and count:
            found.append(_mbr_partition(number, kind, start, count, sector))
    if extended:
        found += _logical(disk, size, extended, sector)
    return tuple(found)


def _logical(disk: BinaryIO, size: int, extended: int, width: int) -> list[Partition]:
    """Each logical partition has a table of its own, which names the next one."""
    found: list[Partition] = []
    seen: set[int] = set()
    here = extended
    while here not in seen and len(seen) < MAX_LOGICAL and here * width + 512 <= size:
        seen.add(here)
        disk.seek(here * width)
        sector = disk.read(512)
        if len(sector) < 512 or sector[510:] != b"\x55\xaa":
            break
        following = 0
        for _, kind, start, count in _entries(sector)[:2]:
            if kind in EXTENDED:
                following = extended + start
            elif kind and count:
                found.append(_mbr_partition(5 + len(found), kind, here + start, count, width))
        if not following:
            break
        here = following
    return found


def _mbr_partition(number: int, kind: int, start: int, count: int, sector: int) -> Partition:
    return Partition(number, start * sector, count * sector, f"0x{kind:02x}")


def _gpt(disk: BinaryIO, size: int) -> tuple[Table | None, tuple[str, ...]]:
    for sector in SECTORS:
        found = _gpt_at(disk, size, sector, sector)
        if found is not None:
            return found, ()
    for sector in SECTORS:
        found = _gpt_at(disk, size, size - sector, sector)
        if found is not None:
            return found, ("The first GPT partition table is damaged; its copy was read.",)
    return None, ("The GPT partition table is damaged; the MBR beside it was read.",)


def _gpt_at(disk: BinaryIO, size: int, offset: int, sector: int) -> Table | None:
    """UEFI specification, 5.3.2 (header) and 5.3.3 (entries); None if it is not valid."""
    if offset < 0:
        return None
    disk.seek(offset)
    header = disk.read(512)
    if len(header) < 92 or not header.startswith(b"EFI PART"):
        return None
    length, checksum = struct.unpack_from("<II", header, 12)
    here, other = struct.unpack_from("<QQ", header, 24)
    where, count, width, entries_checksum = struct.unpack_from("<QIII", header, 72)
    if not 92 <= length <= 512:
        return None
    if zlib.crc32(header[:16] + bytes(4) + header[20:length]) != checksum:
        return None
    if count > MAX_GPT_ENTRIES or not 128 <= width <= 4096:
        raise BadImage(
            f"The GPT partition table is absurd: {count:,} entries of {width:,} bytes each."
        )
    if where * sector + count * width > size:
        return None
    disk.seek(where * sector)
    table = disk.read(count * width)
    if zlib.crc32(table) != entries_checksum:
        return None
    entries = (table[n * width : n * width + 128] for n in range(count))
    partitions = tuple(
        _gpt_partition(number, entry, sector)
        for number, entry in enumerate(entries, 1)
        if any(entry[:16])
    )
    last = max(here, other)
    claimed = (last + 1) * sector if last < MAX_SECTORS else 0
    return Table("gpt", partitions=partitions, sector=sector, claimed=claimed)


def _gpt_partition(number: int, entry: bytes, sector: int) -> Partition:
    first, last = struct.unpack_from("<QQ", entry, 32)
    return Partition(
        number,
        first * sector,
        max(0, last - first + 1) * sector,
        str(uuid.UUID(bytes_le=entry[:16])).upper(),
        name=entry[56:128].decode("utf-16-le", "replace").split("\0")[0],
    )
