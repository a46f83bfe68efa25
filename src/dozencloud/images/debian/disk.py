"""Disks from a root directory, without loop devices or kernel drivers for the file systems."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dozencloud.images.debian import tools

MIB = 1 << 20
SECTOR = 512
BLOCK = 4096
INODE_RATIO = 16384
"""Bytes of the file system for each inode (ext4's default)."""

ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
ESP_START = MIB
ESP_SIZE = 64 * MIB
"""FAT32 begins at 65525 clusters: 33 MiB of one sector each."""
TAIL = MIB
"""Room for GPT's second copy."""

EXT4_FEATURES = (
    *("none", "has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent"),
    *("64bit", "flex_bg", "sparse_super", "large_file", "huge_file", "dir_nlink", "extra_isize"),
    "metadata_csum",
)
"""Named in full: a newer mke2fs would take features that Debian 12's GRUB and fsck do not know."""


@dataclass(frozen=True)
class Layout:
    """A GPT disk with an EFI system partition and a root; bytes, all multiples of 1 MiB.

    The root comes last, so that it can grow when the disk does.
    """

    esp_start: int
    esp_size: int
    root_start: int
    root_size: int
    size: int


def layout(root_size: int) -> Layout:
    """Where the partitions of a disk are."""
    start = ESP_START + ESP_SIZE
    return Layout(ESP_START, ESP_SIZE, start, root_size, start + root_size + TAIL)


def root_size(used: int) -> int:
    """Size of a file system for so many bytes of files, with room to work in: bytes."""
    metadata = used // 20 + 64 * MIB  # inode tables, journal, directories
    free = max(256 * MIB, used // 4)
    return -(-(used + metadata + free) // (64 * MIB)) * 64 * MIB


def used(root: Path) -> int:
    """Bytes that a tree's files take in blocks."""
    total = 0
    for folder, folders, names in os.walk(root):
        total += BLOCK * (1 + len(folders))
        for name in names:
            about = (Path(folder) / name).lstat()
            if stat.S_ISREG(about.st_mode) and about.st_nlink == 1:
                total += -(-about.st_size // BLOCK) * BLOCK
            elif stat.S_ISREG(about.st_mode):
                total += about.st_size // about.st_nlink + BLOCK
    return total


def partition_script(
    plan: Layout, root_type: str, disk: uuid.UUID, esp: uuid.UUID, root: uuid.UUID
) -> str:
    """What sfdisk reads."""
    parts = (
        (plan.esp_start, plan.esp_size, ESP_TYPE, esp, "esp"),
        (plan.root_start, plan.root_size, root_type, root, "root"),
    )
    return f"label: gpt\nlabel-id: {disk}\nunit: sectors\n" + "".join(
        f"start={start // SECTOR}, size={size // SECTOR}, type={kind}, uuid={identity},"
        f' name="{name}"\n'
        for start, size, kind, identity, name in parts
        if size
    )


def make_gpt(image: Path, size: int, script: str) -> None:
    """Make a sparse file with a partition table."""
    with image.open("wb") as stream:
        stream.truncate(size)
    tools.run(
        ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", image],
        "the partition table",
        stdin=script,
    )


def make_esp(
    image: Path,
    start: int,
    size: int,
    serial: int,
    files: Mapping[str, Path],
    epoch: int,
) -> None:
    """Make a FAT32 file system in a part of an image.

    files: path in the file system, source.
    """
    tools.run(
        [
            *("mkfs.vfat", "-F", "32", "-s", "1", "-n", "ESP", "--invariant"),
            *("-i", f"{serial:08x}", "--offset", str(start // SECTOR), image, str(size // 1024)),
        ],
        "the EFI system partition",
    )
    where = f"{image}@@{start}"
    # mtools dates what it writes by this variable.
    extra = {"SOURCE_DATE_EPOCH": str(epoch), "MTOOLS_SKIP_CHECK": "1"}
    for folder in sorted({up for name in files for up in Path(name).parents if up.name}):
        tools.run(["mmd", "-i", where, f"::/{folder}"], "the EFI system partition", extra=extra)
    for name, source in sorted(files.items()):
        tools.run(
            ["mcopy", "-i", where, source, f"::/{name}"], "the EFI system partition", extra=extra
        )


def make_root(
    image: Path, start: int, size: int, root: Path, identity: uuid.UUID, epoch: int
) -> None:
    """Make an ext4 file system with a tree's files in a part of an image."""
    tools.run(
        [
            *("mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-I", "256", "-m", "1"),
            *("-i", str(INODE_RATIO), "-J", "size=32", "-O", ",".join(EXT4_FEATURES)),
            *("-U", str(identity), "-L", "root", "-d", root),
            "-E",
            f"offset={start},hash_seed={identity},root_owner=0:0,nodiscard,"
            "lazy_itable_init=0,lazy_journal_init=0",
            *(image, f"{size // 1024}k"),
        ],
        "the root file system",
        extra=_fixed_time(epoch),
    )
    _date_inodes(image, start, epoch)


def _date_inodes(image: Path, start: int, epoch: int) -> None:
    """Replace the times that tell when the tree was unpacked; nobody can set those of a file."""
    where = f"{image}?offset={start}"
    free = tools.run(["debugfs", "-R", "stats", where], "the root file system")
    count = _number(free, "Inode count:")
    inodes = tools.run(
        ["debugfs", "-f", "-", where],
        "the root file system",
        stdin="".join(f"testi <{n}>\n" for n in range(11, count + 1)),
    )
    marked = [line.split()[1] for line in inodes.splitlines() if line.endswith("marked in use")]
    fields = ("atime", "ctime", "crtime")
    tools.run(
        ["debugfs", "-w", "-f", "-", where],
        "the root file system",
        stdin="".join(
            f"sif <{n}> {field} @{epoch}\nsif <{n}> {field}_extra 0\n"
            for n in marked
            for field in fields
        ),
        extra=_fixed_time(epoch),
    )


def _number(text: str, label: str) -> int:
    return next(int(line.split()[-1]) for line in text.splitlines() if line.startswith(label))


def _fixed_time(epoch: int) -> dict[str, str]:
    return {
        "E2FSPROGS_FAKE_TIME": str(epoch),
        "SOURCE_DATE_EPOCH": str(epoch),
        "MKE2FS_CONFIG": "/dev/null",
        "DEBUGFS_PAGER": "cat",
    }


def compress(raw: Path, target: Path) -> None:
    """Convert a sparse raw disk to a compressed qcow2."""
    tools.run(
        ["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, target],
        "the compressed disk",
    )
