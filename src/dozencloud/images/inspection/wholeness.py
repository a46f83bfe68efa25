"""Whether a virtual disk's file has all that its tables refer to: a cut download has not."""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterator
from typing import Any, BinaryIO

from backports import zstd

CUT = "The image is cut off: its tables refer to bytes beyond its end."
MAX_ENTRIES = 2 << 20
"""Entries of tables that are looked at: 128 GiB in the usual clusters."""
SECTOR = 512


def of_qcow2(stream: BinaryIO, head: bytes, size: int) -> str:
    """Why a qcow2 is not whole, in a sentence; else empty (QEMU, docs/interop/qcow2.txt)."""
    version, bits = struct.unpack_from(">I12xI", head, 4)
    virtual, l1_size, l1_offset = struct.unpack_from(">Q4xIQ", head, 24)
    cluster, seen, packed = 1 << bits, 0, 0
    first = _numbers(stream, l1_offset, l1_size)
    if len(first) < l1_size:
        return CUT
    for number, entry in enumerate(first):
        offset = entry & OFFSET
        if not offset:
            continue
        second = _numbers(stream, offset, cluster // 8)
        seen += len(second)
        if seen > MAX_ENTRIES:
            return ""
        if len(second) < cluster // 8:
            return CUT
        where = number * (cluster // 8) * cluster
        if _qcow2_end(second, where, virtual, bits, version > 2) > size:
            return CUT
        packed = max(packed, max((e & _start(bits) for e in second if e & COMPRESSED), default=0))
    if packed and packed + cluster > size and not _unpacks(stream, packed, cluster):
        return CUT
    return ""


def _start(bits: int) -> int:
    """The bits of an entry that tell where a compressed cluster begins."""
    return (1 << 62 - (bits - 8)) - 1


def _unpacks(stream: BinaryIO, offset: int, cluster: int) -> bool:
    """Whether the last compressed cluster is whole, which its entry tells by half a KiB only."""
    stream.seek(offset)
    data = stream.read(cluster)
    try:
        if data.startswith(ZSTD):
            return len(zstd.ZstdDecompressor().decompress(data, cluster)) == cluster
        return len(zlib.decompressobj(-15).decompress(data, cluster)) == cluster
    except (zlib.error, zstd.ZstdError):
        return False


OFFSET = 0x00FFFFFFFFFFFE00
COMPRESSED = 1 << 62
ZSTD = b"\x28\xb5\x2f\xfd"


def _qcow2_end(
    table: Iterator[int] | array[int], at: int, virtual: int, bits: int, zero: bool
) -> int:
    """Bytes that a file must have for the clusters of one table. at: where they are on the disk."""
    end, shift = 0, 62 - (bits - 8)
    for entry in table:
        if entry & COMPRESSED:
            offset = entry & _start(bits)
            sectors = (entry >> shift & (1 << (bits - 8)) - 1) + 1
            # Its last sector may hold a single byte of it.
            last = offset // SECTOR * SECTOR + sectors * SECTOR - (SECTOR - 1)
        elif entry & OFFSET and not (zero and entry & 1):
            last = (entry & OFFSET) + max(0, min(1 << bits, virtual - at))
        else:
            last = 0
        end = max(end, last)
        at += 1 << bits
    return end


def _numbers(stream: BinaryIO, offset: int, count: int) -> array[int]:
    """Big-endian numbers of 64 bits; fewer where the file ends."""
    stream.seek(offset)
    data = stream.read(count * 8)
    found = array("Q", data[: len(data) // 8 * 8])
    if sys.byteorder == "little":
        found.byteswap()
    return found


def of_vmdk(disk: Any, stream: BinaryIO, size: int) -> str:
    """Why a VMDK (of dissect) with all in one file is not whole; else empty."""
    for extent in disk.disks:
        if not hasattr(extent, "_lookup_grain_table"):
            continue
        last, seen = 0, 0
        for number in range(extent._grain_directory_size):
            table = extent._lookup_grain_table(number) or ()
            seen += len(table)
            if seen > MAX_ENTRIES:
                return ""
            last = max(last, max(table, default=0))
        if last > 1 and last * SECTOR + _grain_size(extent, stream, last) > size:
            return CUT
    return ""


HAS_COMPRESSED_GRAINS = 1 << 16


def _grain_size(extent: Any, stream: BinaryIO, where: int) -> int:
    """Bytes that the grain at that sector takes, with its header where it is compressed."""
    if not extent.header.flags & HAS_COMPRESSED_GRAINS:
        return int(extent.header.grain_size) * SECTOR
    stream.seek(where * SECTOR)
    head = stream.read(12)
    return 12 + int(struct.unpack("<8xI", head)[0]) if len(head) == 12 else 12


VHDX_PRESENT = 6
"""A block that is there as a whole (MS-VHDX 2.5.1.1)."""


def of_vhdx(disk: Any, size: int) -> str:
    """Why a VHDX (of dissect) is not whole; else empty."""
    blocks = -(-disk.size // disk.block_size)
    for number in range(min(blocks, MAX_ENTRIES >> 6)):
        entry = disk.bat.pb(number)
        if entry.state == VHDX_PRESENT and (entry.file_offset_mb << 20) + disk.block_size > size:
            return CUT
    return ""
