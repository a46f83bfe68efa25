"""Images made of nothing: headers and trees as inspection sees them, right, wrong and hostile."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from dozencloud.images.formats import cpio
from dozencloud.images.inspection.formats import Opened
from dozencloud.images.inspection.model import Compression, Format, Partition
from dozencloud.images.inspection.tree import BadImage, Files, Node, Tree
from dozencloud.images.inspection.volumes import Disk, Volume

Content = dict[str, bytes | str | None]

AARCH64, ARM, X86_64, I386, RISCV = 0xAA64, 0x1C2, 0x8664, 0x14C, 0x5064
"""PE machines."""
GIB = 1 << 30


def pe(machine: int, sections: Mapping[str, bytes] | None = None) -> bytes:
    """An EFI program with nothing but headers and sections."""
    sections = sections or {}
    head = bytearray(1024)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 0x3C, 0x40)
    struct.pack_into("<4sHH", head, 0x40, b"PE\0\0", machine, len(sections))
    body = b""
    for number, (name, data) in enumerate(sections.items()):
        at = len(head) + len(body)
        fields = (name.encode(), len(data), 0x1000, len(data), at)
        struct.pack_into("<8sIIII", head, 0x58 + 40 * number, *fields)
        body += data
    return bytes(head) + body


def arm64_image(
    version: str = "6.12.0-arm64", *, big_endian: bool = False, said: str = ""
) -> bytes:
    """An uncompressed 64-bit kernel."""
    head = bytearray(64)
    struct.pack_into("<QQQ", head, 8, 0, 1 << 20, int(big_endian))
    head[0x38:0x3C] = b"ARM\x64"
    return bytes(head) + f"\0Linux version {version} (gcc)\0{said}\0".encode() + bytes(4096)


def kernel32(
    version: str = "6.12.0-armmp-lpae", *, generation: int = 7, lpae: bool | None = True
) -> bytes:
    """An unpacked 32-bit kernel."""
    fault = {True: "level 2 translation fault", False: "section translation fault", None: ""}[lpae]
    said = f"\0Linux version {version} (gcc)\0{version} SMP mod_unload ARMv{generation} p2v8 \0"
    return b"\x00\x90\x0f\xe1" + f"{said}{fault}\0".encode() + bytes(8192)


def zimage(
    inner: bytes | None = None,
    pack: Callable[[bytes], bytes] = gzip.compress,
    *,
    big_endian: bool = False,
) -> bytes:
    """A 32-bit kernel with the code that unpacks it in front."""
    packed = pack(kernel32() if inner is None else inner)
    head = bytearray(512)
    order = ">" if big_endian else "<"
    struct.pack_into(f"{order}IIII", head, 0x24, 0x016F2818, 0, 512 + len(packed), 0x04030201)
    return bytes(head) + packed + struct.pack("<I", 8192)


def uimage(
    data: bytes,
    arch: int = 2,
    *,
    name: bytes = b"Linux-6.12.0",
    kind: int = 2,
    packed: int = 0,
    crc: int | None = None,
) -> bytes:
    """U-Boot's header before a kernel (kind 2) or an initial RAM disk (3)."""

    def head(crc: int) -> bytes:
        addresses = (0x40008000, 0x40008000, zlib.crc32(data))
        numbers = (0x27051956, crc, 0, len(data), *addresses, 5, arch, kind, packed)
        return struct.pack(">7I4B32s", *numbers, name)

    return head(zlib.crc32(head(0)) if crc is None else crc) + data


def zboot(machine: int, inner: bytes, name: str = "gzip", *, size: int | None = None) -> bytes:
    """A kernel that unpacks itself as an EFI program."""
    packed = gzip.compress(inner)
    program = bytearray(pe(machine))
    length = len(packed) if size is None else size
    struct.pack_into("<4sII", program, 4, b"zimg", len(program), length)
    program[24:56] = name.encode().ljust(32, b"\0")
    return bytes(program) + packed


def bzimage(version: str = "6.12.0-amd64") -> bytes:
    """A kernel for x86-64."""
    head = bytearray(4096)
    head[:2] = b"MZ"
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x800)
    struct.pack_into("<H", head, 0x236, 1)
    head[0xA00 : 0xA00 + len(version)] = version.encode()
    return bytes(head)


def elf(
    machine: int, bits: int = 64, *, flags: int = 0, cpu: int | None = None, big: bool = False
) -> bytes:
    """A program. cpu: Tag_CPU_arch of an ARM program's attributes."""
    order = ">" if big else "<"
    head = bytearray(64)
    head[:6] = b"\x7fELF" + bytes((bits // 32, 2 if big else 1))
    struct.pack_into(f"{order}H", head, 18, machine)
    if bits == 32:
        struct.pack_into(f"{order}I", head, 36, flags)
    if cpu is None:
        return bytes(head)
    pairs = b"\x05Cortex\0" + bytes((6, cpu))
    inner = b"aeabi\0" + b"\1" + struct.pack("<I", 5 + len(pairs)) + pairs
    section = b"A" + struct.pack("<I", 4 + len(inner)) + inner
    struct.pack_into("<I", head, 32, 64 + len(section))
    struct.pack_into("<HH", head, 46, 40, 1)
    table = struct.pack("<4xI8xII16x", 0x70000003, 64, len(section))
    return bytes(head) + section + table


ELF64 = elf(183)
ELF7 = elf(40, 32, flags=0x5000400, cpu=10)
ELF6 = elf(40, 32, flags=0x5000200, cpu=4)
ELF_X86 = elf(62)


def initrd(*modules: str, version: str = "6.12.0-arm64", program: bytes = ELF64) -> bytes:
    """An initial RAM disk, not compressed."""
    out = io.BytesIO()
    entries = [cpio.file("usr/bin/busybox", program), cpio.symlink("init", "usr/bin/busybox")]
    folder = f"usr/lib/modules/{version}/kernel"
    entries += [cpio.file(f"{folder}/{name}.ko.xz", b"\xfd7zXZ") for name in ("dummy", *modules)]
    cpio.write(out, entries)
    return out.getvalue()


BUILT_IN = "CONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_NET=m\n"
AS_MODULE = "CONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=m\nCONFIG_VIRTIO_NET=m\n"
NO_VIRTIO = "CONFIG_SMP=y\n# CONFIG_VIRTIO_PCI is not set\n"

OS_RELEASE = b'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n'


def root(program: bytes = ELF64, **more: bytes | str | None) -> Content:
    """A Debian-like root with cloud-init. more: further files, `__` for `/` in their names."""
    files: Content = {
        "etc/os-release": "../usr/lib/os-release",
        "usr/lib/os-release": OS_RELEASE,
        "usr/sbin/init": "../lib/systemd/systemd",
        "sbin": "usr/sbin",
        "usr/lib/systemd/systemd": program,
        "usr/bin/cloud-init": b"#!/usr/bin/python3\n",
    }
    return files | {name.replace("__", "/"): content for name, content in more.items()}


def with_kernel(
    kernel: bytes | None = None,
    config: str = AS_MODULE,
    ramdisk: bytes | None = None,
    *,
    version: str = "6.12.0-arm64",
) -> Content:
    """Files in /boot: a kernel, its configuration, its initial RAM disk (b"": none)."""
    files: Content = {
        f"boot/vmlinuz-{version}": arm64_image(version) if kernel is None else kernel,
        f"boot/config-{version}": config.encode(),
    }
    if ramdisk != b"":
        files[f"boot/initrd.img-{version}"] = ramdisk or initrd("virtio_blk", version=version)
    return files


def grub(version: str = "6.12.0-arm64", arguments: str = "root=UUID=r-uuid ro") -> Content:
    """A grub.cfg with one entry."""
    text = (
        'set default="0"\n'
        "menuentry 'Debian' --class debian {\n"
        "\tsearch --no-floppy --fs-uuid --set=root r-uuid\n"
        f"\tlinux /boot/vmlinuz-{version} {arguments}\n"
        f"\tinitrd /boot/initrd.img-{version}\n"
        "}\n"
    )
    return {"boot/grub/grub.cfg": text.encode()}


@dataclass(frozen=True)
class Part:
    """A partition with its files; files None: a file system that no reader knows."""

    files: Content | None
    kind: str = "ext4"
    uuid: str = ""
    label: str = ""
    trouble: str = ""


def esp(*programs: tuple[str, bytes], **more: bytes) -> Part:
    """An EFI system partition."""
    return Part({**dict(programs), **{k.replace("__", "/"): v for k, v in more.items()}}, "vfat")


def disk(
    *parts: Part,
    table: str = "gpt",
    boot_code: bool = False,
    esp_number: int | None = None,
    cut: str = "",
) -> Disk:
    """A disk with these partitions, numbered from 1; the first FAT one is the ESP."""
    volumes = []
    for number, part in enumerate(parts, 1):
        tree = None
        if part.files is not None:
            tree = Tree(Files(part.files, part.kind, part.label, part.uuid))
        about = Partition(number, number << 20, 1 << 30, "", "", part.kind, part.label, part.uuid)
        volumes.append(Volume(about, tree, 0, part.trouble))
    fat = [v.partition.number for v in volumes if v.partition.filesystem == "vfat"]
    number = (fat[0] if fat and table == "gpt" else 0) if esp_number is None else esp_number
    return Disk(table, boot_code, number, tuple(volumes), cut=cut)


class Unreadable(Files):
    """A tree in which some places cannot be read."""

    def __init__(self, files: Content, places: Collection[str], kind: str = "ext4") -> None:
        super().__init__(files, kind)
        self._places = places

    def _tried(self, path: str) -> None:
        if path in self._places:
            raise BadImage(f"/{path} is damaged.")

    def node(self, path: str) -> Node | None:
        self._tried(path)
        return super().node(path)

    def names(self, path: str) -> Iterator[str]:
        self._tried(path)
        return super().names(path)

    def read(self, path: str, offset: int, length: int) -> bytes:
        if f"{path}: content" in self._places:
            raise BadImage(f"/{path} is damaged.")
        return super().read(path, offset, length)


def opened(format: Format = Format.QCOW2, *, virtual_size: int = 3 * GIB) -> Opened:
    """The outside of an image."""
    return Opened(format, Compression.NONE, 100 << 20, virtual_size)
