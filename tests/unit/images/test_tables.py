"""Partition tables made byte by byte: right, wrong and absurd."""

import io
import struct
import uuid
import zlib

import pytest

from dozencloud.images.inspection.tables import Table, read_table
from dozencloud.images.inspection.tree import BadImage
from dozencloud.images.inspection.volumes import read_disk

MIB = 1 << 20
SIZE = 16 * MIB
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"


def mbr(*entries: tuple[int, int, int], code: bytes = b"", status: int = 0) -> bytes:
    packed = b"".join(struct.pack("<B3xB3xII", status, *each) for each in entries)
    return code.ljust(446, b"\0") + packed.ljust(64, b"\0") + b"\x55\xaa"


def gpt(
    *partitions: tuple[str, int, int], lba: int = 1, count: int = 128, width: int = 128
) -> tuple[bytes, bytes]:
    """Header and entries."""
    entries = b"".join(
        uuid.UUID(kind).bytes_le
        + bytes(16)
        + struct.pack("<QQQ", first, last, 0)
        + b"r\0t\0".ljust(72, b"\0")
        for kind, first, last in partitions
    ).ljust(128 * 128, b"\0")

    def pack(crc: int) -> bytes:
        start = struct.pack("<8sIIII", b"EFI PART", 0x10000, 92, crc, 0)
        middle = struct.pack("<QQQQ16sQ", lba, 0, 34, 0, bytes(16), 2 if lba == 1 else lba - 32)
        return start + middle + struct.pack("<III", count, width, zlib.crc32(entries))

    return pack(zlib.crc32(pack(0))), entries


def disk(first: bytes, *parts: tuple[int, bytes], size: int = SIZE) -> Table:
    content = bytearray(size)
    for offset, data in ((0, first), *parts):
        content[offset : offset + len(data)] = data
    return read_table(io.BytesIO(content), size)


def gpt_disk(first: bytes, header: bytes, entries: bytes) -> Table:
    return disk(first, (512, header), (1024, entries))


PROTECTIVE = mbr((0xEE, 1, 0xFFFFFFFF))
TWO = ((ESP, 2048, 4095), (LINUX, 4096, 8191))


def test_gpt() -> None:
    table = gpt_disk(PROTECTIVE, *gpt(*TWO))
    esp, root = table.partitions
    assert (table.kind, table.esp, table.boot_code) == ("gpt", 1, False)
    assert (esp.start, esp.size, esp.type) == (1 * MIB, 1 * MIB, ESP)
    assert (root.number, root.start, root.size, root.name) == (2, 2 * MIB, 2 * MIB, "rt")
    assert table.end == 4 * MIB + 33 * 512


def test_copy_at_the_end_is_read_where_the_first_is_damaged() -> None:
    last = SIZE // 512 - 1
    header, entries = gpt(*TWO, lba=last)
    broken = gpt(*TWO)[0][:40] + b"\xff" + gpt(*TWO)[0][41:]
    table = disk(PROTECTIVE, (512, broken), ((last - 32) * 512, entries), (last * 512, header))
    assert [p.number for p in table.partitions] == [1, 2]
    assert "copy" in table.warnings[0]


def test_hybrid_is_gpt_for_the_firmware_and_mbr_if_that_is_all_that_is_left() -> None:
    hybrid = mbr((0x0C, 2048, 2048), (0xEE, 1, 2047), code=b"\xeb\x63")
    table = gpt_disk(hybrid, *gpt(*TWO))
    assert (table.kind, table.boot_code, len(table.partitions)) == ("gpt", True, 2)
    table = disk(hybrid)
    assert (table.kind, [p.type for p in table.partitions]) == ("mbr", ["0x0c"])
    assert table.warnings


@pytest.mark.parametrize(
    ("first", "parts", "sentence"),
    [
        (PROTECTIVE, (), "damaged"),
        (PROTECTIVE, ((512, gpt(*TWO, count=4_000_000_000)[0]),), "4,000,000,000 entries"),
        (PROTECTIVE, ((512, gpt(*TWO, width=0)[0]),), "of 0 bytes"),
        (PROTECTIVE, ((512, gpt(*TWO)[0]), (1024, b"other entries")), "damaged"),
    ],
)
def test_bad_gpt(first: bytes, parts: tuple[tuple[int, bytes], ...], sentence: str) -> None:
    with pytest.raises(BadImage, match=sentence):
        disk(first, *parts)


def test_mbr_numbers_logical_partitions_from_five() -> None:
    first = mbr((0xEF, 2048, 2048), (0x83, 4096, 2048), (0x05, 8192, 8192), code=b"\xfa")
    table = disk(
        first,
        (8192 * 512, mbr((0x83, 2, 100), (0x05, 1024, 1024))),
        (9216 * 512, mbr((0x82, 2, 100))),
    )
    assert [(p.number, p.start // 512, p.type) for p in table.partitions] == [
        (1, 2048, "0xef"),
        (2, 4096, "0x83"),
        (5, 8194, "0x83"),
        (6, 9218, "0x82"),
    ]
    assert (table.kind, table.esp, table.boot_code) == ("mbr", 1, True)


@pytest.mark.parametrize("step", [0, 1024], ids=["to itself", "back to the first"])
def test_circle_of_logical_partitions_ends(step: int) -> None:
    table = disk(
        mbr((0x05, 8192, 8192)),
        (8192 * 512, mbr((0x83, 2, 100), (0x05, step, 1024))),
        (9216 * 512, mbr((0x83, 2, 100), (0x05, 0, 1024))),
    )
    assert len(table.partitions) == (2 if step else 1)


def test_chain_of_logical_partitions_is_cut_off() -> None:
    links = [((8192 + n) * 512, mbr((0x83, 1, 1), (0x05, n + 1, 1))) for n in range(300)]
    assert len(disk(mbr((0x05, 8192, 8192)), *links).partitions) == 60


@pytest.mark.parametrize(
    "first",
    [
        b"",
        bytes(512),
        b"\xeb\x58\x90mkfs.fat".ljust(82, b"\0") + b"FAT32".ljust(428, b"\0") + b"\x55\xaa",
        mbr((0x83, 2048, 2048), status=0x12),
        mbr(),
    ],
    ids=["nothing", "zeros", "FAT", "text where the status is", "empty table"],
)
def test_no_table(first: bytes) -> None:
    assert disk(first) == Table()


def test_boot_code_without_partitions_and_partitions_beyond_the_end() -> None:
    assert disk(mbr(code=b"\xfa\x33")) == Table("mbr", True)
    (far,) = disk(mbr((0x83, 0xFFFFFF00, 0xFFFFFFFF))).partitions
    assert far.start > SIZE
    stub = bytes.fromhex("fab800108ed0bc00b0b800008ed88ec0fb")
    assert not disk(mbr((0x83, 2048, 1), code=stub)).boot_code


def test_disk_shorter_than_a_sector() -> None:
    assert read_table(io.BytesIO(b"\x55\xaa"), 2) == Table()


def sectors_4096(total: int = SIZE, *, at_the_end: bool = False) -> tuple[tuple[int, bytes], ...]:
    """Where header and entries of a GPT in sectors of 4096 bytes lie."""
    last = total // 4096 - 1
    entries = (
        uuid.UUID(ESP).bytes_le + bytes(16) + struct.pack("<QQQ72s", 256, 511, 0, b"")
    ).ljust(128 * 128, b"\0")
    here, other, where = (last, 1, last - 4) if at_the_end else (1, last, 2)

    def pack(crc: int) -> bytes:
        start = struct.pack("<8sIIII", b"EFI PART", 0x10000, 92, crc, 0)
        middle = struct.pack("<QQQQ16sQ", here, other, 6, last - 5, bytes(16), where)
        return start + middle + struct.pack("<III", 128, 128, zlib.crc32(entries))

    return (here * 4096, pack(zlib.crc32(pack(0)))), (where * 4096, entries)


@pytest.mark.parametrize("at_the_end", [False, True])
def test_gpt_in_sectors_of_4096_bytes(at_the_end: bool) -> None:
    table = disk(PROTECTIVE, *sectors_4096(at_the_end=at_the_end))
    (part,) = table.partitions
    assert (table.sector, part.start, part.size, table.claimed) == (4096, MIB, MIB, SIZE)
    assert table.cut(SIZE) == ""


def test_mbr_in_sectors_of_4096_bytes() -> None:
    first = mbr((0x83, 256, 512))
    known = (MIB + 0x438, b"\x53\xef")
    table = disk(first, known)
    assert (table.sector, table.partitions[0].start) == (4096, MIB)
    table = disk(first, (256 * 512 + 0x438, b"\x53\xef"))
    assert (table.sector, table.partitions[0].start) == (512, 256 * 512)


@pytest.mark.parametrize("missing", [1, 512, 4096, 9 * MIB, 14 * MIB])
def test_a_disk_that_is_cut_off(missing: int) -> None:
    content = bytearray(SIZE)
    for offset, data in ((0, PROTECTIVE), *sectors_4096()):
        content[offset : offset + len(data)] = data
    size = SIZE - missing
    table = read_table(io.BytesIO(content[:size]), size)
    assert table.cut(size).startswith(f"The image is cut off: it has {size:,} bytes")


def test_a_partition_beyond_the_end() -> None:
    table = disk(mbr((0x83, 2048, 8192), (0x83, 10240, 1 << 20)))
    assert table.cut(SIZE).endswith(f"partition 2 ends at {(10240 + (1 << 20)) * 512:,}.")
    assert disk(mbr((0x83, 2048, 8192))).cut(SIZE) == ""


def test_bigalloc_is_no_damage() -> None:
    volume = bytearray(1 << 20)
    struct.pack_into("<H", volume, 0x438, 0xEF53)
    struct.pack_into("<III", volume, 1024 + 92, 0, 0x40, 0x200)
    (found,) = read_disk(io.BytesIO(volume), len(volume)).volumes
    assert found.trouble == "The ext4 file system uses bigalloc, which is not read here."


@pytest.mark.parametrize(("blocks", "cut"), [(2048, False), (2049, True), (0, True)])
def test_a_partition_beyond_the_end_whose_file_system_is_not(blocks: int, cut: bool) -> None:
    content = bytearray(3 * MIB)
    content[:512] = mbr((0x83, 2048, 4096 + 8))
    struct.pack_into("<I", content, MIB + 1024 + 4, blocks)
    struct.pack_into("<H", content, MIB + 0x438, 0xEF53)
    found = read_disk(io.BytesIO(content), len(content))
    assert bool(found.cut) is cut
    assert "Partition 1 ends behind" in " ".join(found.warnings) or cut


def long_name(text: str, checksum: int, ordinal: int = 0x41) -> bytes:
    wide = (text.encode("utf-16-le") + b"\0\0").ljust(26, b"\xff")
    head = bytes([ordinal]) + wide[:10] + bytes([0x0F, 0, checksum])
    return head + wide[10:22] + bytes(2) + wide[22:]


def fat(*records: bytes) -> bytes:
    """A FAT12 with these records in its root, which nowhere says that it is one."""
    volume = bytearray(64 * 512)
    volume[:3] = b"\xeb\x3c\x90"
    struct.pack_into("<HBHBHHBH", volume, 11, 512, 1, 1, 1, 16, 64, 0xF8, 1)
    volume[62:80] = b"This is boot code."
    volume[510:512] = b"\x55\xaa"
    volume[512:517] = b"\xf8\xff\xff\xff\x0f"
    volume[1024 : 1024 + 32 * len(records)] = b"".join(records)
    volume[1536:1539] = b"abc"
    return bytes(volume)


SHORT = b"README~1TXT\x20".ljust(26, b"\0") + struct.pack("<HI", 2, 3)
OWNED = 0x6B
"""The checksum of the name in SHORT."""


@pytest.mark.parametrize(
    ("records", "name"),
    [
        ((SHORT,), "README~1.TXT"),
        ((long_name("readme.text", OWNED), SHORT), "readme.text"),
        ((long_name("other.text", 1), SHORT), "README~1.TXT"),
        ((long_name("other", 1), long_name("readme.text", OWNED), SHORT), "readme.text"),
        ((long_name("first part", OWNED, 1), SHORT), "README~1.TXT"),
        ((long_name("x", OWNED), b"\xe5" + SHORT[1:], SHORT), "README~1.TXT"),
    ],
)
def test_fat_by_its_first_sector_and_its_names_by_their_checksums(
    records: tuple[bytes, ...], name: str
) -> None:
    volume = fat(*records)
    (found,) = read_disk(io.BytesIO(volume), len(volume)).volumes
    assert found.tree is not None, found.trouble
    assert found.tree.names("") == [name]
    assert found.tree.read(name.lower(), 9) == b"abc"
