"""File systems as stores of files (tree.Store), on the readers of the dissect project.

Each class says how its library lists, describes and opens an inode; what they share (walking
paths, bounds, the seam for errors) is in `Mounted`. The libraries are imported where they are
used: together they take half a second.
"""

from __future__ import annotations

import io
import itertools
import stat
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, BinaryIO

from dozencloud.images.inspection.streams import MAX_READ, printable, seam
from dozencloud.images.inspection.tree import BadImage, Node

MAX_DIRECTORY = 20_000
"""Entries of a directory that is searched: the largest of a distribution has some 7,000."""
MAX_DIRECTORY_BYTES = 16 << 20
"""Bytes of a directory: MAX_DIRECTORY of the longest names, twice."""
MAX_REMEMBERED = 40_000
"""Names in remembered listings; each takes about a KiB."""
MAX_DEPTH = 64
"""Components of a path. Kernels and modules lie eight deep."""
MAX_LINK = 4096
"""Bytes of a symbolic link's target (PATH_MAX)."""
MAX_FILE = 4 << 30
"""Bytes of a file that is opened: lists of blocks grow with it."""


class Mounted(ABC):
    """A store over the inodes of a library."""

    kind = ""
    label = ""
    uuid = ""
    used = 0
    """Bytes taken, as the superblock tells; 0 if it does not."""

    def __init__(self) -> None:
        self._listings: dict[str, dict[str, Any]] = {}
        self._unreadable: dict[str, BadImage] = {}
        self._opened: tuple[str, BinaryIO] | None = None

    @abstractmethod
    def _root(self) -> Any:
        """The inode of the root."""

    @abstractmethod
    def _entries(self, inode: Any) -> Iterator[tuple[str, Any]]:
        """Names and inodes in a directory."""

    @abstractmethod
    def _describe(self, inode: Any) -> Node:
        """The node of an inode."""

    @abstractmethod
    def _open(self, inode: Any) -> BinaryIO:
        """The content of a regular file."""

    def _folded(self, name: str) -> str:
        """The name as it is compared."""
        return name

    def node(self, path: str) -> Node | None:
        with seam(f"The {self.kind} file system"):
            inode = self._find(path)
            return None if inode is None else self._describe(inode)

    def names(self, path: str) -> Iterator[str]:
        with seam(f"The {self.kind} file system"):
            inode = self._find(path)
            listing = {} if inode is None else self._listing(path, inode)
            return iter([name for name, _ in listing.values()])

    def read(self, path: str, offset: int, length: int) -> bytes:
        with seam(f"The {self.kind} file system"):
            if self._opened is None or self._opened[0] != path:
                inode = self._find(path)
                if inode is None:
                    return b""
                size = self._describe(inode).size
                if size > MAX_FILE:
                    raise BadImage(f"/{path} is too large to be read: {size:,} bytes.")
                self._opened = path, self._open(inode)
            stream = self._opened[1]
            stream.seek(offset)
            return bytes(stream.read(min(length, MAX_READ)))

    def _find(self, path: str) -> Any:
        inode, here = self._root(), ""
        parts = path.split("/") if path else []
        if len(parts) > MAX_DEPTH:
            return None
        for part in parts:
            if not self._describe(inode).is_dir:
                return None
            found = self._listing(here, inode).get(self._folded(part))
            if found is None:
                return None
            inode, here = found[1], f"{here}/{part}" if here else part
        return inode

    def _listing(self, path: str, inode: Any) -> dict[str, Any]:
        """Entries by folded name, each with its own name and inode."""
        known = self._listings.get(path)
        if known is not None:
            return known
        if path in self._unreadable:
            raise self._unreadable[path]
        try:
            with seam(f"The {self.kind} file system"):
                listing = self._listed(path, inode)
        except BadImage as error:
            self._unreadable[path] = error
            raise
        while self._listings and len(listing) + self._remembered() > MAX_REMEMBERED:
            del self._listings[next(iter(self._listings))]
        self._listings[path] = listing
        return listing

    def _listed(self, path: str, inode: Any) -> dict[str, Any]:
        listing: dict[str, tuple[str, Any]] = {}
        for name, child in self._entries(inode):
            name = printable(name)
            if name in (".", "..", "") or "/" in name or "\0" in name:
                continue
            if len(listing) >= MAX_DIRECTORY:
                raise BadImage(f"The directory /{path} has more than {MAX_DIRECTORY:,} entries.")
            listing[self._folded(name)] = name, child
        return listing

    def _remembered(self) -> int:
        return sum(len(listing) for listing in self._listings.values())


def _limited(size: int) -> None:
    if size > MAX_DIRECTORY_BYTES:
        raise BadImage(f"A directory takes {size:,} bytes.")


class Inodes(Mounted):
    """A file system that dissect shows as inodes of one shape: ext and XFS."""

    _fs: Any

    def _mode(self, inode: Any) -> int:
        raise NotImplementedError

    def _root(self) -> Any:
        return self._fs.root

    def _entries(self, inode: Any) -> Iterator[tuple[str, Any]]:
        _limited(inode.size)
        return ((each.filename, each) for each in inode.iterdir())

    def _describe(self, inode: Any) -> Node:
        mode = self._mode(inode)
        if stat.S_ISLNK(mode):
            return Node(mode, inode.size, printable(inode.link) if inode.size <= MAX_LINK else "")
        return Node(mode, inode.size)

    def _open(self, inode: Any) -> BinaryIO:
        stream: BinaryIO = inode.open()
        return stream


class Ext(Inodes):
    """ext2, ext3, ext4."""

    def __init__(self, volume: BinaryIO) -> None:
        super().__init__()
        from dissect.extfs.extfs import ExtFS

        volume.seek(1024)
        superblock = volume.read(1024)
        (log_block,) = struct.unpack_from("<I", superblock, 24)
        compat, incompat, ro_compat = struct.unpack_from("<III", superblock, 92)
        self.kind = "ext4" if incompat & 0x40 else "ext3" if compat & 0x4 else "ext2"
        if log_block > 6:
            raise BadImage(f"The {self.kind} file system has blocks of an impossible size.")
        if ro_compat & BIGALLOC:
            raise BadImage(
                f"The {self.kind} file system uses bigalloc, which is not read here.",
                "Take an image made without it.",
            )
        self._fs = ExtFS(volume)
        self.label = self._fs.volume_name
        self.uuid = str(self._fs.uuid)
        free = self._fs.sb.s_free_blocks_count_hi << 32 | self._fs.sb.s_free_blocks_count_lo
        self.used = max(0, self._fs.block_count - free) * self._fs.block_size

    def _mode(self, inode: Any) -> int:
        return int(inode.inode.i_mode)

    def _entries(self, inode: Any) -> Iterator[tuple[str, Any]]:
        if not _is_inline(inode):
            return super()._entries(inode)
        data = _inline_data(inode)
        # The number of the parent; then entries in what is left of the inode's block map, and
        # others in the attribute (Linux, Documentation/filesystems/ext4/inlinedata.rst).
        return itertools.chain(
            self._inline_entries(data[4:INLINE_BLOCK]), self._inline_entries(data[INLINE_BLOCK:])
        )

    def _inline_entries(self, data: bytes) -> Iterator[tuple[str, Any]]:
        at = 0
        while at + 8 <= len(data):
            number, length, name_length = struct.unpack_from("<IHB", data, at)
            if number and at + 8 + name_length <= len(data):
                name = data[at + 8 : at + 8 + name_length].decode(errors="surrogateescape")
                yield name, self._fs.get_inode(number, name)
            if length < 8:
                return
            at += length

    def _describe(self, inode: Any) -> Node:
        mode = self._mode(inode)
        if stat.S_ISLNK(mode) and _is_inline(inode):
            return Node(mode, inode.size, printable(_inline_data(inode).decode(errors="replace")))
        return super()._describe(inode)

    def _open(self, inode: Any) -> BinaryIO:
        return io.BytesIO(_inline_data(inode)) if _is_inline(inode) else super()._open(inode)


BIGALLOC = 0x200
"""Clusters of several blocks (Linux, fs/ext4/ext4.h, EXT4_FEATURE_RO_COMPAT_BIGALLOC)."""
INLINE_BLOCK = 60
"""Bytes of an inode's block map, in which a small file's content is."""
INLINE_FLAG = 0x10000000
MAX_INODE = 64 << 10
"""Bytes: a block, the largest one."""
XATTR = struct.Struct("<BBHIII")
"""Length of the name, its prefix, where the value is, its inode, its size, a hash."""
XATTR_MAGIC = b"\x00\x00\x02\xea"
XATTR_SYSTEM = 7


def _is_inline(inode: Any) -> bool:
    return bool(inode.inode.i_flags & INLINE_FLAG)


def _inline_data(inode: Any) -> bytes:
    """The content of an ext4 file that is in its inode: the library reads its first part alone."""
    return (bytes(inode.inode.i_block) + _system_data(_whole_inode(inode)))[: inode.size]


def _whole_inode(inode: Any) -> bytes:
    """An inode's bytes: the library takes each for one of 256."""
    fs = inode.extfs
    group, index = divmod(inode.inum - 1, fs.sb.s_inodes_per_group)
    about = fs._read_group_desc(group)
    block = about.bg_inode_table_lo | getattr(about, "bg_inode_table_hi", 0) << 32
    fs.fh.seek(block * fs.block_size + index * fs.sb.s_inode_size)
    return bytes(fs.fh.read(min(fs.sb.s_inode_size, MAX_INODE)))


def _system_data(inode: bytes) -> bytes:
    """The attribute with the rest of a file's content (Linux, fs/ext4/xattr.h)."""
    (extra,) = struct.unpack_from("<H", inode, 128)
    first = 128 + extra + 4
    if inode[first - 4 : first] != XATTR_MAGIC:
        return b""
    at = first
    while at + XATTR.size <= len(inode):
        length, kind, offset, _, size, _ = XATTR.unpack_from(inode, at)
        if not (length or kind or offset):
            return b""
        name = inode[at + XATTR.size : at + XATTR.size + length]
        if (kind, name) == (XATTR_SYSTEM, b"data"):
            return inode[first + offset : first + offset + size]
        at += XATTR.size + -(-length // 4) * 4
    return b""


class Xfs(Inodes):
    """XFS."""

    kind = "xfs"

    def __init__(self, volume: BinaryIO) -> None:
        super().__init__()
        from dissect.xfs.xfs import XFS

        self._fs = XFS(volume)
        self.label = self._fs.name
        self.uuid = str(self._fs.uuid)
        blocks = self._fs.sb.sb_dblocks - self._fs.sb.sb_fdblocks
        self.used = max(0, blocks) * self._fs.block_size

    def _mode(self, inode: Any) -> int:
        return int(inode.inode.di_mode)


SQUASHFS_NO_FRAGMENT = 0xFFFFFFFF
"""In an inode: all of the file is in blocks of its own."""
ROOT_SUBVOLUMES = ("@", "root", "@rootfs")
"""Where Ubuntu (and Arch), Fedora, and Debian put the root if it is not the default subvolume."""


class Btrfs(Mounted):
    """btrfs: its default subvolume, or the one that distributions mount as root.

    subvolume: the name of the latter, which the kernel must be told (rootflags=subvol=).
    """

    kind = "btrfs"
    subvolume = ""

    def __init__(self, volume: BinaryIO) -> None:
        super().__init__()
        from dozencloud.images.inspection.btrees import BoundedBtrfs

        self._fs = BoundedBtrfs(volume)
        self.label = self._fs.label
        self.uuid = str(self._fs.uuid)
        self.used = self._fs.sb.bytes_used
        self._top = self._fs.root
        entries = self._listing("", self._top)
        if self._fs.default_subvolume.objectid != self._fs.fs_tree.objectid or "etc" in entries:
            return
        for name in ROOT_SUBVOLUMES:
            if name in entries and entries[name][1].subvolume.objectid != self._fs.fs_tree.objectid:
                self.subvolume, self._top = name, entries[name][1]
                self._listings.clear()
                return

    def _root(self) -> Any:
        return self._top

    def _entries(self, inode: Any) -> Iterator[tuple[str, Any]]:
        _limited(inode.size)
        entries: Iterator[tuple[str, Any]] = inode.iterdir()
        return entries

    def _describe(self, inode: Any) -> Node:
        if stat.S_ISLNK(inode.mode):
            return Node(
                inode.mode, inode.size, printable(inode.link) if inode.size <= MAX_LINK else ""
            )
        return Node(inode.mode, inode.size)

    def _open(self, inode: Any) -> BinaryIO:
        stream: BinaryIO = inode.open()
        return stream


class Squashfs(Mounted):
    """squashfs 4."""

    kind = "squashfs"

    def __init__(self, volume: BinaryIO) -> None:
        super().__init__()
        from dissect.squashfs.squashfs import SquashFS

        volume.seek(0)
        self._fs = SquashFS(volume)
        if not 4096 <= self._fs.block_size <= 1 << 20:
            raise BadImage("The squashfs file system has blocks of an impossible size.")
        # The library keeps 1024 blocks, which may be a GiB.
        self._fs._read_block = lru_cache(48)(SquashFS._read_block.__get__(self._fs))
        self.used = self._fs.size

    def _root(self) -> Any:
        return self._fs.root

    def _entries(self, inode: Any) -> Iterator[tuple[str, Any]]:
        _limited(inode.size)
        return ((each.name, each) for each in inode.iterdir())

    def _describe(self, inode: Any) -> Node:
        size = inode.size or 0
        if inode.is_symlink():
            return Node(inode.mode, size, printable(inode.link) if size <= MAX_LINK else "")
        return Node(inode.mode, size)

    def _open(self, inode: Any) -> BinaryIO:
        header = inode.header
        if header.fragment != SQUASHFS_NO_FRAGMENT and inode.size < self._fs.block_size:
            # The library reads the end of a file once for each time that it fits into a block.
            return io.BytesIO(self._fs._read_fragment(header.fragment, header.offset, inode.size))
        stream: BinaryIO = inode.open()
        return stream


class Fat(Mounted):
    """FAT12, FAT16, FAT32. Names are compared without regard to case."""

    kind = "vfat"

    def __init__(self, volume: BinaryIO) -> None:
        super().__init__()
        from dissect.fat.fat import FATFS

        from dozencloud.images.inspection.clusters import BoundedFat, entries

        self._fs = FATFS(volume)
        self._entries_of = entries
        self._fs.fat = BoundedFat(self._fs.fat.fh, self._fs.type)
        self.uuid = (
            f"{self._fs.bpb_ext.BS_VolID >> 16:04X}-{self._fs.bpb_ext.BS_VolID & 0xFFFF:04X}"
        )
        label = self._fs.volume_label.strip("\0 ")
        self.label = "" if label == "NO NAME" else label

    def _folded(self, name: str) -> str:
        return name.casefold()

    def _root(self) -> Any:
        return self._fs.root

    def _entries(self, inode: Any) -> Iterator[tuple[str, Any]]:
        _limited(inode.size)
        found = self._entries_of(self._fs, inode)
        return ((_fat_name(each), each) for each in found if not each.is_volume_id())

    def _describe(self, inode: Any) -> Node:
        if inode.is_directory():
            return Node(stat.S_IFDIR | 0o755)
        return Node(stat.S_IFREG | 0o755, inode.size)

    def _open(self, inode: Any) -> BinaryIO:
        stream: BinaryIO = inode.open()
        return stream


def _fat_name(entry: Any) -> str:
    """An entry's name; a short one's case is in two bits, which the library does not read.

    Source: Linux, fs/fat/fat.h (CASE_LOWER_BASE, CASE_LOWER_EXT).
    """
    if entry.ldirents:
        return str(entry.name)
    base, dot, extension = str(entry.short_name).partition(".")
    base = base.lower() if entry.dirent.DIR_NTRes & 0x08 else base
    extension = extension.lower() if entry.dirent.DIR_NTRes & 0x10 else extension
    return f"{base}{dot}{extension}"


READERS: dict[str, Callable[[BinaryIO], Mounted]] = {
    "ext": Ext,
    "xfs": Xfs,
    "btrfs": Btrfs,
    "squashfs": Squashfs,
    "vfat": Fat,
}

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"LUKS\xba\xbe", "crypto_LUKS"),
    (0, b"XFSB", "xfs"),
    (0, b"hsqs", "squashfs"),
    (0x438, b"\x53\xef", "ext"),
    (0x10040, b"_BHRfS_M", "btrfs"),
    (3, b"NTFS    ", "ntfs"),
    (3, b"EXFAT   ", "exfat"),
    (54, b"FAT", "vfat"),
    (82, b"FAT32", "vfat"),
    (0x400, b"\x10\x20\xf5\xf2", "f2fs"),
    (0x400, b"\xe2\xe1\xf5\xe0", "erofs"),
    (4096 - 10, b"SWAPSPACE2", "swap"),
    (65536 - 10, b"SWAPSPACE2", "swap"),
    (4096, b"\xfc\x4e\x2b\xa9", "linux_raid_member"),
    (0x8001, b"CD001", "iso9660"),
)
"""(offset, bytes, name as blkid gives it; "ext" for the three of them)."""


KIND_BYTES = 0x10048
"""Bytes in which all of them show themselves."""


def size_of(volume: BinaryIO) -> int:
    """Bytes that the file system needs, as its superblock says; 0 if that is not known here."""
    volume.seek(0)
    head = volume.read(0x10400).ljust(0x10400, b"\0")
    kind = kind_of(volume)
    if kind == "ext":
        low, log_block = struct.unpack_from("<I16xI", head, 1024 + 4)
        high = struct.unpack_from("<I", head, 1024 + 0x150)[0] if head[1024 + 0x60] & 0x80 else 0
        return (low | high << 32) * (1024 << min(log_block, 6)) if high < 1 << 16 else 0
    if kind == "xfs":
        block, blocks = struct.unpack_from(">IQ", head, 4)
        return int(block * blocks)
    if kind == "btrfs":
        (total,) = struct.unpack_from("<Q", head, 0x10000 + 0x70)
        return int(total)
    if kind == "squashfs":
        (used,) = struct.unpack_from("<Q", head, 40)
        return int(used)
    if kind == "vfat":
        (sector,) = struct.unpack_from("<H", head, 11)
        few, many = struct.unpack_from("<H11xI", head, 19)
        return int(sector * (few or many))
    return 0


def kind_of(volume: BinaryIO) -> str:
    """Which file system (or other content) the volume holds; empty if it is not known."""
    volume.seek(0)
    head = volume.read(KIND_BYTES)
    for offset, magic, kind in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return kind
    for sector in range(0, 2048, 512):
        label = head[sector : sector + 32]
        if label.startswith(b"LABELONE") and label[24:] == b"LVM2 001":
            return "LVM2_member"
    return "vfat" if is_fat(head) else ""


def is_fat(head: bytes) -> bool:
    """Whether a first sector describes a FAT; Linux and firmware ask nothing else.

    Its words "FAT16" or "FAT32" count for nothing (Linux, fs/fat/inode.c, fat_read_bpb).
    """
    if len(head) < 512 or head[0] not in (0xEB, 0xE9):
        return False
    sector, cluster, reserved, fats, _, few, media = struct.unpack_from("<HBHBHHB", head, 11)
    (many,) = struct.unpack_from("<I", head, 32)
    return (
        sector in (512, 1024, 2048, 4096)
        and cluster.bit_count() == 1
        and reserved > 0
        and fats in (1, 2)
        and (media >= 0xF8 or media == 0xF0)
        and (few or many) > 0
    )
