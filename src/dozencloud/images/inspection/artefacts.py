"""Kernels, EFI programs and user programs, told apart by their own bytes.

Sources: Linux Documentation/arch/arm64/booting.rst (Image), arch/arm/boot/compressed/head.S
(zImage), Documentation/arch/x86/boot.rst (bzImage), drivers/firmware/efi/libstub/zboot-header.S
(EFI zboot); U-Boot include/image.h (uImage); Microsoft's PE format; UAPI group specification
"Unified Kernel Image"; "Addenda to, and Errata in, the ABI for the Arm Architecture" (attributes).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dozencloud.images.formats.elf import Header, NotElf
from dozencloud.images.inspection.kconfig import Config
from dozencloud.images.inspection.model import Arch, Compression, KernelKind
from dozencloud.images.inspection.tree import BadImage
from dozencloud.images.inspection.unpack import Blob, Damaged, compression_of, unpack

HEAD = 4096
"""Bytes in which every header is that we know."""
KERNEL_LIMIT = 128 << 20
"""Largest kernel that is read or unpacked; Ubuntu's arm64 kernel takes 60 MiB."""
INITRD_LIMIT = 256 << 20
DEEP_LIMIT = 64 << 20
"""How far a kernel is searched for what it says of itself."""

PE_MACHINES = {
    0xAA64: Arch.AARCH64,
    0x1C0: Arch.ARMV7L,
    0x1C2: Arch.ARMV7L,
    0x1C4: Arch.ARMV7L,
    0x8664: Arch.X86_64,
    0x14C: Arch.I686,
    0x5064: Arch.RISCV64,
}
ELF_MACHINES = {
    (62, 64): Arch.X86_64,
    (3, 32): Arch.I686,
    (183, 64): Arch.AARCH64,
    (243, 64): Arch.RISCV64,
    (21, 64): Arch.PPC64LE,
    (22, 64): Arch.S390X,
    (8, 32): Arch.MIPSEL,
}
ELF_BIG_ENDIAN = {Arch.S390X}
EM_ARM = 40
EF_ARM_ABI_FLOAT_HARD = 0x400
SHT_ARM_ATTRIBUTES = 0x70000003
TAG_CPU_ARCH = 6
CPU_ARCH_V7 = 10
"""Value of Tag_CPU_arch from which on the code needs an ARMv7; smaller ones are ARMv6 and older."""

UIMAGE = struct.Struct(">IIIIIIIBBBB32s")
UIMAGE_MAGIC = 0x27051956
UIMAGE_ARM, UIMAGE_KERNEL, UIMAGE_RAMDISK, UIMAGE_LINUX = 2, 2, 3, 5
UIMAGE_ARCHES = {
    2: Arch.ARMV7L,
    3: Arch.I686,
    12: Arch.S390X,
    22: Arch.AARCH64,
    24: Arch.X86_64,
    26: Arch.RISCV64,
}
UIMAGE_COMPRESSIONS = {
    0: Compression.NONE,
    1: Compression.GZIP,
    2: Compression.BZIP2,
    3: Compression.LZMA,
    5: Compression.LZ4,
    6: Compression.ZSTD,
}
ZBOOT_COMPRESSIONS = {
    "gzip": Compression.GZIP,
    "lz4": Compression.LZ4,
    "lzma": Compression.LZMA,
    "xzkern": Compression.XZ,
    "zstd": Compression.ZSTD,
    "zstd22": Compression.ZSTD,
}

ZIMAGE_MAGIC = b"\x18\x28\x6f\x01"
ZIMAGE_MAGIC_BIG = ZIMAGE_MAGIC[::-1]
ZIMAGE_PAYLOADS = re.compile(
    rb"\x1f\x8b\x08\x00|\xfd7zXZ\x00|\x28\xb5\x2f\xfd|BZh9|\x02\x21\x4c\x18|\x5d\x00\x00.[\x00-\x08]\xff{8}",
    re.DOTALL,
)
ZIMAGE_STUB = 256 << 10
"""The unpacking code before the payload; 10 to 80 KB."""
ZIMAGE_TRIES = 16
"""The unpacking code itself contains the magic bytes it looks for, a few times."""

ZIMAGE_TABLE = struct.Struct("<II")
"""At 0x34 a word that says that there is a table, then where (arch/arm/boot/compressed/head.S)."""
ZIMAGE_TABLE_MAGIC, ZIMAGE_SIZES_MAGIC = 0x45454545, 0x5A534C4B
TEXT_OFFSET = 0x8000
"""How far behind the beginning of RAM most 32-bit kernels run; the others say it in that table."""
TEXT_OFFSETS = range(TEXT_OFFSET, 16 << 20)
VIRT_RAM = 0x40000000
"""Where RAM of QEMU's `virt` begins (hw/arm/virt.c)."""

LINUX_VERSION = re.compile(rb"Linux version (\S{1,128}) ")
VERMAGIC_ARM = re.compile(rb"[ -~]{1,160} ARMv([5-8]) ")
# The names of memory faults: arch/arm/mm/fsr-2level.c and fsr-3level.c; only LPAE has 3 levels.
LPAE_FAULT = b"level 2 translation fault"
NO_LPAE_FAULT = b"section translation fault"
BUILT_IN = (b"virtio_pci.force_legacy", b"virtio_blk.queue_depth")
"""Parameters carry their module's name only where it is built in."""
IKCONFIG = re.compile(rb"IKCFG_ST(\x1f\x8b\x08)")


@dataclass(frozen=True)
class Artefact:
    """A kernel as its bytes tell it.

    fault: a sentence on why nothing can start it, empty if nothing is known against it.
    config: its configuration, if it carries it. payload: where the wrapped kernel or, of a unified
    image, the kernel inside is. command_line, os_release: of a unified kernel image.
    """

    kind: KernelKind
    arch: Arch | None
    version: str = ""
    compression: Compression = Compression.NONE
    lpae: bool | None = None
    virtio: bool | None = None
    fault: str = ""
    config: Config = field(default_factory=Config)
    payload: tuple[int, int] = (0, 0)
    initrd: tuple[int, int] = (0, 0)
    command_line: str = ""
    os_release: str = ""


@dataclass(frozen=True)
class Program:
    """An EFI program. sections: offset and size in the file, by name."""

    machine: int
    sections: dict[str, tuple[int, int]]

    @property
    def arch(self) -> Arch | None:
        return PE_MACHINES.get(self.machine)


def efi_program(head: bytes) -> Program | None:
    """A PE file from its first bytes; None if it is none."""
    if head[:2] != b"MZ" or len(head) < 0x40:
        return None
    (at,) = struct.unpack_from("<I", head, 0x3C)
    if head[at : at + 4] != b"PE\0\0" or len(head) < at + 24:
        return None
    machine, count, optional = struct.unpack_from("<HH12xH", head, at + 4)
    table = at + 24 + optional
    sections = {}
    for number in range(count):
        raw = head[table + 40 * number : table + 40 * number + 40]
        if len(raw) < 40:
            break
        name, size, _, raw_size, offset = struct.unpack_from("<8sIIII", raw)
        # The size in memory is exact, the one in the file is rounded up.
        sections[name.rstrip(b"\0").decode("ascii", "replace")] = (offset, min(size, raw_size))
    return Program(machine, sections)


def identify(blob: Blob, *, deep: bool = False) -> Artefact | None:
    """What kernel this is; None if it is none that we know.

    deep: unpack and search it for its version and abilities too, which takes up to a second.
    """
    head = blob.read(0, HEAD)
    for known in (_uimage, _zboot, _arm64, _zimage, _bzimage, _unified, _elf_kernel, _wrapped):
        found = known(blob, head)
        if found is not None:
            return _look_inside(found, blob) if deep else found
    return None


def _arm64(_blob: Blob, head: bytes) -> Artefact | None:
    if head[0x38:0x3C] != b"ARM\x64":
        # The same header with another word: Documentation/arch/riscv/boot-image-header.rst.
        if head[0x38:0x3C] == b"RSC\x05":
            return Artefact(KernelKind.ARM64_IMAGE, Arch.RISCV64)
        return None
    (flags,) = struct.unpack_from("<Q", head, 0x18)
    fault = "The kernel is big-endian: no firmware or system here starts it." if flags & 1 else ""
    return Artefact(KernelKind.ARM64_IMAGE, Arch.AARCH64, fault=fault)


def _wrapped(blob: Blob, head: bytes) -> Artefact | None:
    """An arm64 Image as a whole in gzip or the like, as many distributions install it."""
    compression = compression_of(head)
    if compression is Compression.NONE:
        return None
    try:
        inner = unpack(blob, compression, HEAD)
    except Damaged:
        return None
    found = _arm64(blob, inner) or _elf_kernel(blob, inner)
    return found and replace(found, compression=compression, payload=(0, blob.size))


def _zboot(blob: Blob, head: bytes) -> Artefact | None:
    if head[:2] != b"MZ" or head[4:8] != b"zimg" or len(head) < 64:
        return None
    offset, size = struct.unpack_from("<II", head, 8)
    name = head[24:56].split(b"\0")[0].decode("ascii", "replace")
    program = efi_program(head)
    compression = ZBOOT_COMPRESSIONS.get(name)
    fault = ""
    if compression is None:
        fault = f"The kernel is compressed with {name!r}, which is not known here."
    elif offset + size > blob.size:
        fault = "The kernel is truncated: it ends before its compressed part does."
    return Artefact(
        KernelKind.EFI_ZBOOT,
        program.arch if program else None,
        compression=compression or Compression.NONE,
        fault=fault,
        payload=(offset, size),
    )


def _zimage(blob: Blob, head: bytes) -> Artefact | None:
    magic = head[0x24:0x28]
    if magic not in (ZIMAGE_MAGIC, ZIMAGE_MAGIC_BIG) or len(head) < 0x40:
        return None
    big = magic == ZIMAGE_MAGIC_BIG or head[0x30:0x34] == b"\x04\x03\x02\x01"
    start, end = struct.unpack_from(">II" if magic == ZIMAGE_MAGIC_BIG else "<II", head, 0x28)
    fault = ""
    if big:
        fault = "The kernel is big-endian: no firmware or system here starts it."
    elif end - start > blob.size:
        fault = "The kernel is truncated: it is smaller than its header says."
    return Artefact(KernelKind.ZIMAGE, Arch.ARMV7L, fault=fault)


def _uimage(blob: Blob, head: bytes) -> Artefact | None:
    if len(head) < UIMAGE.size:
        return None
    magic, crc, _, size, _, _, _, os, arch, kind, packed, name = UIMAGE.unpack_from(head)
    if magic != UIMAGE_MAGIC or kind == UIMAGE_RAMDISK:
        return None
    machine = UIMAGE_ARCHES.get(arch)
    fault = ""
    if zlib.crc32(head[:4] + bytes(4) + head[8 : UIMAGE.size]) != crc:
        fault = "The uImage header is damaged: its checksum is wrong."
    elif kind != UIMAGE_KERNEL or os != UIMAGE_LINUX:
        fault = "The uImage holds no Linux kernel."
    elif size > blob.size - UIMAGE.size:
        fault = "The uImage is truncated: it is smaller than its header says."
    title = name.split(b"\0")[0].decode("ascii", "replace")
    version = re.fullmatch(r"Linux[- ](\d\S*)", title)
    return Artefact(
        KernelKind.UIMAGE,
        machine,
        version=version[1] if version else "",
        compression=UIMAGE_COMPRESSIONS.get(packed, Compression.NONE),
        fault=fault,
        payload=(UIMAGE.size, size),
    )


def is_uimage_ramdisk(head: bytes) -> bool:
    """Whether this is U-Boot's wrapping around an initial RAM disk."""
    if len(head) < UIMAGE.size:
        return False
    fields = UIMAGE.unpack_from(head)
    return bool(fields[0] == UIMAGE_MAGIC and fields[9] == UIMAGE_RAMDISK)


def _bzimage(blob: Blob, head: bytes) -> Artefact | None:
    if head[0x202:0x206] != b"HdrS" or len(head) < 0x238:
        return None
    (offset,) = struct.unpack_from("<H", head, 0x20E)
    text = blob.read(offset + 0x200, 128) if offset else b""
    (flags,) = struct.unpack_from("<H", head, 0x236)
    version = text.split(b"\0")[0].split(b" ")[0].decode("ascii", "replace")
    # Bit 0: the kernel has a 64-bit entry point.
    arch = Arch.X86_64 if flags & 1 else Arch.I686
    return Artefact(KernelKind.BZIMAGE, arch, version=version)


def _unified(blob: Blob, head: bytes) -> Artefact | None:
    program = efi_program(head)
    if program is None or ".linux" not in program.sections:
        return None

    def text(name: str) -> str:
        offset, size = program.sections.get(name, (0, 0))
        return blob.read(offset, min(size, HEAD)).rstrip(b"\0\n ").decode("utf-8", "replace")

    where = program.sections[".linux"]
    inner = identify(blob.part(*where)) if where[1] < blob.size else None
    fault = ""
    if sum(where) > blob.size or sum(program.sections.get(".initrd", (0, 0))) > blob.size:
        fault = "The unified kernel image is truncated: it ends before its sections do."
    elif inner and program.arch and inner.arch is not program.arch:
        fault = (
            f"The unified kernel image is for {program.arch}, the kernel in it for {inner.arch}."
        )
    return Artefact(
        KernelKind.UKI,
        program.arch,
        version=text(".uname"),
        lpae=inner.lpae if inner else None,
        fault=fault or (inner.fault if inner else ""),
        payload=where,
        initrd=program.sections.get(".initrd", (0, 0)),
        command_line=text(".cmdline"),
        os_release=text(".osrel"),
    )


def _elf_kernel(_blob: Blob, head: bytes) -> Artefact | None:
    try:
        header = Header.of(head)
    except NotElf:
        return None
    return Artefact(KernelKind.ELF, _elf_machine(header))


def _look_inside(found: Artefact, blob: Blob) -> Artefact:
    """The artefact with what the kernel itself says: version, ARM generation, LPAE, virtio."""
    if found.kind is KernelKind.BZIMAGE or found.fault:
        return found
    try:
        data = linux(found, blob, DEEP_LIMIT)
    except BadImage as error:
        return replace(found, fault=str(error))
    version = LINUX_VERSION.search(data)
    config = _own_config(data)
    virtio = config.virtio_built_in if config.known else None
    if virtio is None and all(name in data for name in BUILT_IN):
        virtio = True
    found = replace(
        found,
        version=version[1].decode("ascii", "replace") if version else found.version,
        config=config,
        virtio=virtio,
    )
    return _arm_generation(found, data) if found.arch is Arch.ARMV7L else found


def _arm_generation(found: Artefact, data: bytes) -> Artefact:
    """ARMv6 or ARMv7, and LPAE, of a 32-bit kernel's unpacked bytes."""
    magic = VERMAGIC_ARM.search(data)
    generation = int(magic[1]) if magic else None
    if found.config.known:
        generation = 7 if found.config.enabled("CPU_V7") else 6
    lpae: bool | None = None
    if found.config.known:
        lpae = found.config.enabled("ARM_LPAE")
    elif LPAE_FAULT in data or NO_LPAE_FAULT in data:
        lpae = LPAE_FAULT in data
    old = generation is not None and generation < 7
    # LPAE exists from ARMv7 on.
    return replace(found, arch=Arch.ARMV6 if old else found.arch, lpae=False if old else lpae)


def _own_config(data: bytes) -> Config:
    found = IKCONFIG.search(data)
    if found is None:
        return Config()
    try:
        text = unpack(Blob.of(data[found.start(1) :]), Compression.GZIP, 1 << 20)
    except Damaged:
        return Config()
    return Config.parse(text.decode("utf-8", "replace"))


def linux(found: Artefact, blob: Blob, limit: int = KERNEL_LIMIT) -> bytes:
    """The kernel itself, out of all that is wrapped around it; at most `limit` bytes."""
    if found.kind is KernelKind.ZIMAGE:
        return _zimage_payload(blob.read(0, limit), limit)
    if found.kind in (KernelKind.UIMAGE, KernelKind.UKI):
        inner = blob.part(*found.payload)
        if found.compression is not Compression.NONE:
            return unpack(inner, found.compression, limit)
        nested = identify(inner)
        # One level: a kernel in a kernel in a kernel is nobody's.
        if nested is None or nested.kind in (KernelKind.UIMAGE, KernelKind.UKI):
            return inner.read(0, limit)
        return linux(nested, inner, limit)
    if found.compression is not Compression.NONE:
        return unpack(blob.part(*found.payload), found.compression, limit)
    return blob.read(0, limit)


def unpack_zimage(data: bytes) -> bytes:
    """The kernel in a zImage, as the code in front of it would unpack it; BadImage if it cannot."""
    if data[0x24:0x28] != ZIMAGE_MAGIC:
        raise BadImage("This is no zImage for a little-endian ARM.")
    return _zimage_payload(data, KERNEL_LIMIT)


def _zimage_payload(data: bytes, limit: int) -> bytes:
    for at in _payloads(data):
        compression = compression_of(data[at : at + 16])
        try:
            out = unpack(Blob.of(data[at:]), compression, limit)
        except Damaged:
            continue
        # Bytes that look like a magic may unpack to something, yet not to a kernel.
        if len(out) > len(data) // 2 and LINUX_VERSION.search(out):
            return out
    raise BadImage("The zImage does not unpack: it is damaged, or compressed in an unknown way.")


def _payloads(data: bytes) -> Iterator[int]:
    for number, found in enumerate(ZIMAGE_PAYLOADS.finditer(data, 0, ZIMAGE_STUB)):
        if number >= ZIMAGE_TRIES:
            return
        yield found.start()


def uncompressed_uimage(zimage: bytes) -> bytes:
    """The kernel of a zImage, unpacked, in the wrapping from which QEMU starts it.

    It saves unpacking at every boot (more than a second under emulation).
    """
    kernel = unpack_zimage(zimage)
    address = VIRT_RAM + text_offset(zimage)
    version = LINUX_VERSION.search(kernel)
    name = b"Linux-" + (version[1] if version else b"")

    def header(crc: int) -> bytes:
        return UIMAGE.pack(
            *(UIMAGE_MAGIC, crc, 0, len(kernel), address, address),
            *(zlib.crc32(kernel), UIMAGE_LINUX, UIMAGE_ARM, UIMAGE_KERNEL, 0, name[:31]),
        )

    return header(zlib.crc32(header(0))) + kernel


def for_qemu(blob: Blob) -> bytes:
    """A kernel in the form that QEMU starts soonest; BadImage if it has none.

    QEMU unpacks no EFI zboot before version 8.1, no kernel in xz or zstd, and no unified image. A
    zImage unpacks itself, at every boot again.
    """
    found = identify(blob)
    if found is None or found.kind in (KernelKind.BZIMAGE, KernelKind.ELF):
        raise BadImage("This is no kernel for ARM.")
    if found.fault:
        raise BadImage(found.fault)
    if found.kind is KernelKind.ZIMAGE:
        return uncompressed_uimage(blob.read(0, KERNEL_LIMIT))
    if found.kind in (KernelKind.UIMAGE, KernelKind.UKI):
        inner = blob.part(*found.payload)
        nested = identify(inner)
        if nested is not None and nested.kind not in (KernelKind.UIMAGE, KernelKind.UKI):
            return for_qemu(inner)
        if found.kind is KernelKind.UKI:
            raise BadImage("The unified kernel image holds no kernel that is known.")
        return blob.read(0, KERNEL_LIMIT)
    return linux(found, blob)


def initrd_of(blob: Blob) -> bytes | None:
    """The initial RAM disk in a unified kernel image or in U-Boot's wrapping; else None."""
    if is_uimage_ramdisk(blob.read(0, UIMAGE.size)):
        return blob.part(UIMAGE.size, INITRD_LIMIT).read(0, INITRD_LIMIT)
    found = identify(blob)
    if found is None or found.kind is not KernelKind.UKI or not found.initrd[1]:
        return None
    return blob.part(*found.initrd).read(0, INITRD_LIMIT)


def text_offset(zimage: bytes) -> int:
    """How far behind the beginning of RAM the kernel in a zImage runs.

    A kernel that also serves some of Qualcomm's boards, as Debian's does, leaves 2 MiB free; put
    elsewhere it begins to boot and then hangs (arch/arm/Makefile, textofs-y).
    """
    magic, table = ZIMAGE_TABLE.unpack_from(zimage, 0x34)
    if magic != ZIMAGE_TABLE_MAGIC or table + 20 > len(zimage):
        return TEXT_OFFSET
    sizes, offset = struct.unpack_from("<4xI8xI", zimage, table)
    return offset if sizes == ZIMAGE_SIZES_MAGIC and offset in TEXT_OFFSETS else TEXT_OFFSET


def elf_arch(blob: Blob) -> Arch | None:
    """The architecture that a program needs; None if it is no program or not known.

    A 32-bit ARM program that does not say its generation counts as ARMv7 if it passes floating
    point numbers in registers (Debian's armhf), else as ARMv6 (armel).
    """
    try:
        header = Header.of(blob.read(0, 64))
    except NotElf:
        return None
    if header.machine != EM_ARM or header.big_endian or header.bits != 32:
        return _elf_machine(header)
    generation = _arm_cpu(blob, header)
    if generation is not None:
        return Arch.ARMV7L if generation >= CPU_ARCH_V7 else Arch.ARMV6
    return Arch.ARMV7L if header.flags & EF_ARM_ABI_FLOAT_HARD else Arch.ARMV6


def _elf_machine(header: Header) -> Arch | None:
    if header.machine == EM_ARM and header.bits == 32 and not header.big_endian:
        return Arch.ARMV7L
    arch = ELF_MACHINES.get((header.machine, header.bits))
    return arch if arch and header.big_endian == (arch in ELF_BIG_ENDIAN) else None


def _arm_cpu(blob: Blob, header: Header) -> int | None:
    """Tag_CPU_arch of an ARM ELF file."""
    if header.section_size < 40:
        return None
    table = blob.read(header.sections, min(header.section_count, 256) * header.section_size)
    for at in range(0, len(table) - 39, header.section_size):
        kind, offset, size = struct.unpack_from("<4xI8xII", table, at)
        if kind == SHT_ARM_ATTRIBUTES:
            return cpu_architecture(blob.read(offset, min(size, HEAD)))
    return None


def cpu_architecture(section: bytes) -> int | None:
    """Tag_CPU_arch in the content of a section .ARM.attributes; None if it is not there."""
    vendor = section.find(b"aeabi\0")
    # "A", length, vendor; then the attributes of the whole file: tag 1, length, pairs.
    at = vendor + 6
    if section[:1] != b"A" or vendor != 5 or section[at : at + 1] != b"\1":
        return None
    at += 5
    try:
        while at < len(section):
            tag, at = _uleb128(section, at)
            # CPU_raw_name, CPU_name and, from 32 on, odd tags are strings; 32 is a number and one.
            if tag in (4, 5) or (tag > 32 and tag % 2):
                at = section.index(b"\0", at) + 1
                continue
            value, at = _uleb128(section, at)
            if tag == TAG_CPU_ARCH:
                return value
            if tag == 32:
                at = section.index(b"\0", at) + 1
    except (IndexError, ValueError):
        return None
    return None


def _uleb128(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80 or shift > 35:
            return value, at
