"""What an image file is, by its own bytes, and the disk, tree or kernel inside it."""

from __future__ import annotations

import re
import struct
import tarfile
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

from dissect.util.stream import AlignedStream, OverlayStream

from dozencloud.images.inspection import wholeness
from dozencloud.images.inspection.archives import read_archive
from dozencloud.images.inspection.filesystems import Squashfs, kind_of, size_of
from dozencloud.images.inspection.model import Arch, Compression, Format
from dozencloud.images.inspection.streams import (
    Cached,
    Scratch,
    Source,
    Spool,
    compression_of,
    ending,
    seam,
    unpacked_head,
)
from dozencloud.images.inspection.tables import read_table
from dozencloud.images.inspection.tree import BadImage, Tree

HEAD = 1 << 20
"""Bytes in which every format shows itself: a VMDK's descriptor lies within them."""
START = 1 << 20
"""Bytes at the front of a disk that must all be zero for it to count as empty."""
MAX_DISK = 64 << 40
"""Bytes of a virtual disk: what VMDK and VHDX can describe at most."""
MAX_L1 = 1 << 20
"""Entries of a qcow2's first table: a disk of 512 TiB with the usual clusters."""
VMDK_AT_END = (1 << 64) - 1
"""Where a VMDK's directory lies, if only the copy of its header at its end tells it."""
MAX_VHDX_ENTRIES = 2047
"""Of each of its tables (MS-VHDX 2.2.3.1)."""
NONE = Compression.NONE
SIZE_OF_TABLE = (
    "The size of the disk is what its partitions take: it was not unpacked to its end, which "
    "import will do."
)
UNPACK = {
    Compression.GZIP: "gunzip FILE",
    Compression.XZ: "unxz FILE",
    Compression.ZSTD: "unzstd FILE",
    Compression.BZIP2: "bunzip2 FILE",
}
PACKED = (
    ("lzma", b"\x5d\x00\x00", "unlzma"),
    ("lz4", b"\x02\x21\x4c\x18", "unlz4"),  # as Linux packs it
    ("lzop", b"\x89LZO", "lzop -d"),
)
"""(name, how it begins, what unpacks it): what may be an initial RAM disk, too."""


@dataclass(frozen=True)
class Opened:
    """An image file opened for inspection: one of `disk`, `tree` and `head` is there.

    size: bytes of the file; virtual_size: of the disk in it, or of an archive's files.
    disk: seekable, read-only. head: a bare kernel or initrd from its first byte (seekable, still
    compressed if it came so). arch: as a container image's configuration tells it.
    None of the three: the format is not known.
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
    cut: str = ""
    """Why the file is not whole, in a sentence; empty if it is, as far as it was looked at."""


def open_image(file: BinaryIO, size: int, scratch: Scratch | None = None) -> Opened:
    """Open the image in `file` of `size` bytes; BadImage if it cannot be read.

    scratch: where a compressed image is unpacked to; a file in /var/tmp if it is not given.
    """
    if size == 0:
        raise BadImage("The file is empty.")
    source = cast(BinaryIO, Source(file, size))
    with seam("The image"):
        source.seek(0)
        head = source.read(HEAD)
        source.seek(max(0, size - FOOTER))
        _refuse_footer(source.read(FOOTER))
    scratch = scratch or Scratch()
    compression = compression_of(head)
    if compression is Compression.NONE:
        return _open(source, head, size, scratch)
    inside = unpacked_head(head, compression, HEAD)
    if within := _packed(inside):
        raise BadImage(
            f"The file is packed twice: with {compression}, and inside of that with {within}.",
            f"Unpack it once: {UNPACK[compression]}",
        )
    try:
        kind = _format(inside)
    except BadImage as bad:
        unpack = f"Unpack it: {UNPACK[compression]}"
        raise BadImage(str(bad), unpack) from bad
    if kind in (Format.KERNEL, Format.INITRD):
        ending(source, size, compression)
        source.seek(0)
        return Opened(kind, compression, size, head=source)
    return _unpack(source, inside, size, compression, scratch)


def _packed(head: bytes) -> str:
    """What bytes are packed with, read here or not; empty if they are not."""
    if (compression := compression_of(head)) is not NONE:
        return compression
    return next((name for name, magic, _ in PACKED if head.startswith(magic)), "")


def refuse_packed(head: bytes) -> None:
    """BadImage for what is packed in a way that only kernels and initial RAM disks are read in."""
    for name, magic, command in PACKED:
        if head.startswith(magic):
            raise _refused(f"packed with {name}", _UNPACK.format(command))


def _unpack(
    source: BinaryIO,
    inside: bytes,
    size: int,
    compression: Compression,
    scratch: Scratch,
) -> Opened:
    """An image in a wrapping. A disk is kept as far as it is read, all others to their end."""
    disk = _format(inside) is Format.UNKNOWN
    # Before the spool: both read the source from its beginning.
    end = ending(source, size, compression) if disk else None
    spool = Spool(source, compression, scratch)
    stream = cast(BinaryIO, spool)
    if end:
        with seam("The partition table"):
            table = read_table(stream, end.size or spool.size)
        opened = _raw(stream, end.size or table.end or spool.finish().size)
        if not end.size and table.end:
            opened = replace(opened, warnings=(SIZE_OF_TABLE,))
    else:
        end = spool.finish()
        opened = _open(stream, inside, end.size, scratch)
    warnings = opened.warnings
    if end.trailing:
        warnings += (f"Behind its end are {end.trailing:,} bytes of something else, left out.",)
    return replace(opened, compression=compression, size=size, warnings=warnings)


def _open(stream: BinaryIO, head: bytes, size: int, scratch: Scratch) -> Opened:
    match kind := _format(head):
        case Format.QCOW2 | Format.VMDK | Format.VHDX if len(head) < SECTOR:
            raise BadImage(wholeness.CUT)
        case Format.QCOW2:
            opened = _disk(kind, size, *_qcow2(stream, head))
            with seam("The qcow2 image"):
                return replace(opened, cut=wholeness.of_qcow2(stream, head, size))
        case Format.VMDK:
            disk, virtual = _vmdk(stream, head, size)
            with seam("The VMDK image"):
                cut = wholeness.of_vmdk(disk, stream, size)
            return replace(_disk(kind, size, disk, virtual), cut=cut)
        case Format.VHDX:
            disk, virtual = _vhdx(stream)
            with seam("The VHDX image"):
                cut = wholeness.of_vhdx(disk, size)
            return replace(_disk(kind, size, disk, virtual), cut=cut)
        case Format.TAR:
            cached = cast(BinaryIO, Cached(stream, size))
            store, arch, container = read_archive(cached, scratch)
            kind = Format.OCI if container else kind
            return Opened(kind, NONE, size, store.used, tree=Tree(store), arch=arch)
        case Format.SQUASHFS:
            with seam("The squashfs file system"):
                if size_of(stream) > size:
                    raise BadImage(wholeness.CUT)
                tree = Tree(Squashfs(cast(BinaryIO, Cached(stream, size))))
            return Opened(kind, NONE, size, size, tree=tree)
        case Format.KERNEL | Format.INITRD:
            stream.seek(0)
            return Opened(kind, NONE, size, size, head=stream)
        case _:
            return _raw(stream, size)


def _disk(kind: Format, size: int, stream: BinaryIO, virtual: int) -> Opened:
    return Opened(kind, NONE, size, virtual, disk=cast(BinaryIO, Cached(stream, virtual)))


def _raw(stream: BinaryIO, size: int) -> Opened:
    """A raw disk, if it shows a partition table or a file system that anyone knows."""
    if size > MAX_DISK:
        raise BadImage(f"The image is absurd: a disk of {size:,} bytes.")
    opened = _disk(Format.RAW, size, stream, size)
    disk = opened.disk
    assert disk is not None  # noqa: S101  (for the type checker)
    with seam("The disk"):
        known = read_table(disk, size).kind or kind_of(disk)
        disk.seek(0)
        # An empty disk is one all the same, as its reason will say.
        empty = size >= SECTOR and not disk.read(min(START, size)).strip(b"\0")
    if known == "iso9660":
        raise BadImage(
            "The file is an ISO 9660 image: a CD to install from, not a server's disk.",
            "Take the distribution's cloud image.",
        )
    return opened if known or empty else Opened(Format.UNKNOWN, NONE, size)


_MAGICS: tuple[tuple[int, bytes, Format], ...] = (
    (0, b"QFI\xfb", Format.QCOW2),
    (0, b"KDMV", Format.VMDK),
    (0, b"COWD", Format.VMDK),
    (0, b"# Disk DescriptorFile", Format.VMDK),
    (0, b"vhdxfile", Format.VHDX),
    (0, b"hsqs", Format.SQUASHFS),
    (0, b"070701", Format.INITRD),
    (0, b"070702", Format.INITRD),
    *((0, magic, Format.INITRD) for _, magic, _ in PACKED),
    (0x38, b"ARM\x64", Format.KERNEL),
    (0x24, b"\x18\x28\x6f\x01", Format.KERNEL),  # zImage
    (0x202, b"HdrS", Format.KERNEL),  # bzImage
    (0, b"\x7fELF", Format.KERNEL),
    (0, b"MZ", Format.KERNEL),  # unified kernel image, EFI zboot
    (257, b"ustar", Format.TAR),
)
_UIMAGE = b"\x27\x05\x19\x56"
_UIMAGE_RAMDISK = 3
"""Type of U-Boot's header, at byte 30 (include/image.h)."""

_QEMU_IMG = "qemu-img convert -f {} -O qcow2 FILE FILE.qcow2"
_CONVERT = f"Convert it: {_QEMU_IMG}"
_TOGETHER = f"Convert it where its other files are: {_QEMU_IMG}"
_UNPACK = "Unpack it: {} FILE"
_FIT = "Take a disk image, or the kernel out of it: dumpimage -T flat_dt -p 0 -o FILE.kernel FILE"
_DECRYPT = (
    "Decrypt it with its passphrase in a file KEY: "
    "qemu-img convert --object secret,id=key,file=KEY --image-opts "
    "driver=qcow2,encrypt.key-secret=key,file.driver=file,file.filename=FILE "
    "-O qcow2 FILE.qcow2"
)
_PAGE = "Open the address in a browser: it may ask for something first, or name the real one."

_REFUSED: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"QED\0", "a QED image", _CONVERT.format("qed")),
    (0x40, b"\x7f\x10\xda\xbe", "a VDI image", _CONVERT.format("vdi")),
    (0, b"<<< Oracle", "a VDI image", _CONVERT.format("vdi")),
    (0, b"conectix", "a VHD image", _CONVERT.format("vpc")),
    (0, b"WithoutFreeSpace", "a Parallels image", _CONVERT.format("parallels")),
    (0, b"WithouFreSpacExt", "a Parallels image", _CONVERT.format("parallels")),
    (0, b"\x3a\xff\x26\xed", "an Android sparse image", "Convert it: simg2img FILE FILE.raw"),
    (0, b"LUKS\xba\xbe", "a LUKS-encrypted disk", "Decrypt it, or take another image."),
    (0, b"PK\x03\x04", "a zip archive", _UNPACK.format("unzip")),
    (0, b"PK\x05\x06", "a zip archive with nothing in it", "Get the image again."),
    (0, b"PK\x07\x08", "a zip archive", _UNPACK.format("unzip")),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK.format("7z x")),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK.format("unrar x")),
    (0, b"\x04\x22\x4d\x18", "packed with lz4", _UNPACK.format("unlz4")),
    (0, b"LZIP", "packed with lzip", _UNPACK.format("lzip -d")),
    (0, b"\x1f\x9d", "packed with compress", _UNPACK.format("gunzip")),
    (0, b"!<arch>\n", "a package or library (ar)", "Take the image itself."),
    (0, b"\xed\xab\xee\xdb", "an RPM package", "Take the image itself."),
    (0, b"\xd0\x0d\xfe\xed", "a FIT image or a device tree", _FIT),
    (0, b"version https://git-lfs", "a pointer of Git LFS", "Fetch it: git lfs pull"),
)
"""(offset, bytes, what it is, what to do)."""
_WEB_PAGE = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<(?:!doctype html|html)", re.IGNORECASE)
_XML = re.compile(rb"\s*<\?xml")
FOOTER = SECTOR = 512
"""Bytes at the end, in which a VHD of fixed size and an Apple disk image say what they are."""
_FOOTERS = (
    (b"conectix", "a VHD image", _CONVERT.format("vpc")),
    (b"koly", "an Apple disk image", _CONVERT.format("dmg")),
)


def _refused(what: str, mend: str) -> BadImage:
    return BadImage(f"The file is {what}, which cannot be looked into as it is.", mend)


def _refuse_footer(tail: bytes) -> None:
    for magic, what, mend in _FOOTERS:
        if tail.startswith(magic):
            raise _refused(what, mend)


def _format(head: bytes) -> Format:
    for offset, magic, what, mend in _REFUSED:
        if head[offset : offset + len(magic)] == magic:
            raise _refused(what, mend)
    if _WEB_PAGE.match(head):
        raise BadImage("The file is a web page, not an image.", _PAGE)
    if _XML.match(head):
        raise BadImage("The file is a description in XML.", "Take the disk that it names.")
    if head.startswith(_UIMAGE) and len(head) > 64:
        return Format.INITRD if head[30] == _UIMAGE_RAMDISK else Format.KERNEL
    for offset, magic, kind in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return kind
    return Format.TAR if _is_old_tar(head) else Format.UNKNOWN


def _is_old_tar(head: bytes) -> bool:
    """Whether this is a tar as Unix's version 7 wrote it, which has a checksum for a magic."""
    block = head[: tarfile.BLOCKSIZE]
    try:
        return any(block[:1]) and tarfile.TarInfo.frombuf(block, "utf-8", "replace").size >= 0
    except tarfile.HeaderError:
        return False


class Whole(AlignedStream):  # type: ignore[misc]
    """The file under a virtual disk: what it refers to must be there."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        super().__init__(size)
        self._stream = stream

    def read(self, n: int = -1) -> bytes:
        if n and self.tell() >= self.size:
            raise BadImage("The image is cut off: it refers to bytes beyond its end.")
        return cast(bytes, super().read(n))

    def _read(self, offset: int, length: int) -> bytes:
        self._stream.seek(offset)
        return self._stream.read(length)


def _checked(kind: str, head: bytes, tail: bytes) -> None:
    """The checks that Glance makes of an uploaded image."""
    from oslo_utils.imageutils import format_inspector

    found = format_inspector.get_inspector(kind)
    if found is None:
        raise BadImage(f"Glance has no checks for {kind}.")
    inspector = found()
    inspector.eat_chunk(head)
    inspector.eat_chunk(tail)
    inspector.finish()
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        told = "; ".join(str(each) for each in error.failures.values())
        raise BadImage(f"Glance would refuse this {kind} image: {told}.") from None


def _qcow2(stream: BinaryIO, head: bytes) -> tuple[BinaryIO, int]:
    with seam("The qcow2 image"):
        (version,) = struct.unpack_from(">I", head, 4)
        backing, _, _, virtual, encrypted, l1 = struct.unpack_from(">QIIQII", head, 8)
        features = struct.unpack_from(">Q", head, 72)[0] if version > 2 else 0
    together = _TOGETHER.format("qcow2")
    if version < 2:
        raise _refused("a qcow image of version 1", _CONVERT.format("qcow"))
    if backing:
        raise BadImage("The qcow2 image needs a backing file: it is not whole.", together)
    if features & 4:
        raise BadImage("The qcow2 image keeps its data in another file: it is not whole.", together)
    if encrypted:
        raise BadImage("The qcow2 image is encrypted.", _DECRYPT)
    if features & 16:
        raise BadImage(
            "The qcow2 image has extended L2 entries, which cannot be looked into as they are.",
            _CONVERT.format("qcow2"),
        )
    if virtual > MAX_DISK or l1 > MAX_L1:
        raise BadImage(f"The qcow2 image is absurd: a disk of {virtual:,} bytes.")
    with seam("The qcow2 image"):
        from dissect.hypervisor.disk.qcow2 import QCow2

        _checked("qcow2", head, b"")
        whole = Whole(stream, _size(stream))
        file = whole if version > 2 else _version3(whole, head)
        return cast(BinaryIO, QCow2(cast(BinaryIO, file)).open()), virtual


def _version3(whole: BinaryIO, head: bytes) -> BinaryIO:
    """The library reads the fields that version 3 added, where version 2 has something else."""
    fields = struct.pack(">QQQII", 0, 0, 0, 4, 104)
    overlay = OverlayStream(whole, _size(whole))
    overlay.add(4, struct.pack(">I", 3))
    overlay.add(72, fields + bytes(16))
    return cast(BinaryIO, overlay)


def _size(stream: BinaryIO) -> int:
    return cast(int, cast(Any, stream).size)


def _vmdk(stream: BinaryIO, head: bytes, size: int) -> tuple[BinaryIO, int]:
    # Where in the file the description lies (VMware, Virtual Disk Format 5.0).
    if head.startswith(b"COWD") or (head[:4] == b"KDMV" and not any(head[28:36])):
        raise BadImage(
            "The file is one part of a VMDK image in several files.",
            "Convert the small .vmdk file that names them, with all of them beside it: "
            "qemu-img convert -f vmdk -O qcow2 NAMES.vmdk NAMES.qcow2",
        )
    if not head.startswith(b"KDMV"):
        raise BadImage(
            "The VMDK file only describes a disk whose content is in other files.",
            _TOGETHER.format("vmdk"),
        )
    with seam("The VMDK image"):
        if _is_cut_vmdk(stream, head, size):
            raise BadImage(wholeness.CUT)
    parent = re.search(rb"^\s*parentCID\s*=\s*(\w+)", head, re.MULTILINE)
    if parent and parent[1].lower() != b"ffffffff":
        raise BadImage(
            "The VMDK image needs a parent image: it is not whole.",
            _TOGETHER.format("vmdk"),
        )
    if len(re.findall(rb"^(?:RW|RDONLY|NOACCESS) \d+ \w+", head, re.MULTILINE)) > 1:
        raise BadImage(
            "The VMDK image keeps parts of its data in other files: it is not whole.",
            _TOGETHER.format("vmdk"),
        )
    with seam("The VMDK image"):
        from dissect.hypervisor.disk.vmdk import VMDK

        stream.seek(max(0, size - HEAD))
        _checked("vmdk", head, stream.read(HEAD) if size > HEAD else b"")
        disk = VMDK(Whole(stream, size))
        if disk.size > MAX_DISK:
            raise BadImage(f"The VMDK image is absurd: a disk of {disk.size:,} bytes.")
        return cast(BinaryIO, disk), disk.size


def _is_cut_vmdk(stream: BinaryIO, head: bytes, size: int) -> bool:
    """Whether a VMDK lacks the end of its description, or the copy of its header at its end."""
    description, sectors, directory = struct.unpack_from("<QQ12xQ", head, 28)
    if (description + sectors) * SECTOR > size:
        return True
    stream.seek(max(0, size - 2 * SECTOR))
    return bool(directory == VMDK_AT_END and stream.read(4) != b"KDMV")


def _vhdx(stream: BinaryIO) -> tuple[BinaryIO, int]:
    with seam("The VHDX image"):
        from dissect.hypervisor.disk import c_vhdx, vhdx

        whole = Whole(stream, _size(stream))
        regions = 3 * c_vhdx.ALIGNMENT
        _counted(whole, regions + 8, "<I")
        where = vhdx.RegionTable(whole, regions).get(c_vhdx.METADATA_REGION_GUID)
        _counted(whole, where.file_offset + 10, "<H")
        metadata = vhdx.MetadataTable(whole, where.file_offset, where.length)
        if metadata.get(c_vhdx.FILE_PARAMETERS_GUID).has_parent:
            raise BadImage(
                "The VHDX image needs a parent image: it is not whole.",
                "Merge it with its parent first, where it was made (Hyper-V: Convert-VHD).",
            )
        whole.seek(0)
        disk = vhdx.VHDX(whole)
        if disk.size > MAX_DISK:
            raise BadImage(f"The VHDX image is absurd: a disk of {disk.size:,} bytes.")
        return cast(BinaryIO, disk), disk.size


def _counted(stream: BinaryIO, offset: int, form: str) -> None:
    stream.seek(offset)
    (count,) = struct.unpack(form, stream.read(struct.calcsize(form)))
    if count > MAX_VHDX_ENTRIES:
        raise BadImage(f"The VHDX image has a table of {count:,} entries.")
