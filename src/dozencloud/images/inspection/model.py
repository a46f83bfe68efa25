"""What inspection tells about an image. Plain values, so that they cross a process boundary."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Format(StrEnum):
    """What the file is, by its own first bytes."""

    QCOW2 = "qcow2"
    RAW = "raw"
    VMDK = "vmdk"
    VHDX = "vhdx"
    TAR = "tar"
    OCI = "oci"
    SQUASHFS = "squashfs"
    KERNEL = "kernel"
    INITRD = "initrd"
    UNKNOWN = "unknown"


class Compression(StrEnum):
    """What is wrapped around the file."""

    NONE = "none"
    GZIP = "gzip"
    XZ = "xz"
    ZSTD = "zstd"
    BZIP2 = "bzip2"
    LZ4 = "lz4"
    LZMA = "lzma"


class Boot(StrEnum):
    """How a server starts from the image."""

    UEFI = "uefi"
    KERNEL = "kernel"
    ROOTFS = "rootfs"
    NONE = "none"


class Arch(StrEnum):
    """Nova's names (nova/objects/fields.py, Architecture)."""

    AARCH64 = "aarch64"
    ARMV7L = "armv7l"
    ARMV6 = "armv6"
    X86_64 = "x86_64"
    I686 = "i686"
    RISCV64 = "riscv64"
    PPC64LE = "ppc64le"
    S390X = "s390x"
    MIPSEL = "mipsel"


class KernelKind(StrEnum):
    """The forms in which a kernel is handed to firmware or QEMU."""

    ARM64_IMAGE = "arm64 Image"
    ZIMAGE = "zImage"
    UIMAGE = "uImage"
    EFI_ZBOOT = "EFI zboot"
    UKI = "unified kernel image"
    BZIMAGE = "bzImage"
    ELF = "ELF"


@dataclass(frozen=True)
class Partition:
    """One partition. start, size: bytes. filesystem: its type, empty if unknown."""

    number: int
    start: int
    size: int
    type: str
    name: str = ""
    filesystem: str = ""
    label: str = ""
    uuid: str = ""


@dataclass(frozen=True)
class Loader:
    """An EFI program. path: in the EFI system partition, with its case. arch: of its PE header.

    scripted: the firmware's shell starts it, by startup.nsh.
    """

    path: str
    arch: Arch | None
    size: int
    scripted: bool = False


@dataclass(frozen=True)
class Kernel:
    """A kernel. where: partition number (0: no partitions). path: empty for a bare kernel.

    arch: from its header. version: as the kernel itself tells it, empty if it does not.
    compression: of a wrapped kernel, e.g. a gzip-compressed arm64 Image.
    virtio: whether virtio's PCI transport and block device are built in or are modules beside it
    (None: not known); modules: those of them that are modules, which an initrd must bring.
    """

    where: int
    path: str
    kind: KernelKind
    arch: Arch | None
    version: str = ""
    compression: Compression = Compression.NONE
    size: int = 0
    virtio: bool | None = None
    modules: tuple[str, ...] = ()
    lpae: bool | None = None
    """ARMv7: large physical addresses, without which no PCI device of `virt` is seen."""


@dataclass(frozen=True)
class Initrd:
    """An initial RAM disk. virtio: whether it, and what is loaded with it, carries the modules that
    its kernel lacks."""

    where: int
    path: str
    compression: Compression
    version: str = ""
    size: int = 0
    virtio: bool | None = None
    arch: Arch | None = None


@dataclass(frozen=True)
class System:
    """An operating system. id, version, name: of os-release(5)."""

    id: str = ""
    version: str = ""
    name: str = ""
    arch: Arch | None = None
    init: str = ""
    cloud_init: bool = False
    consoles: tuple[str, ...] = ()
    """console= arguments that its boot loader passes."""
    root: str = ""
    """root= argument that its boot loader passes, or one made from the root's UUID or label."""
    root_partition: int = 0
    used: int = 0
    """Bytes that its files take; 0 if not known."""


@dataclass(frozen=True)
class Inspection:
    """All that was found. size: bytes of the file; virtual_size: of the disk in it.

    reason: why boot is `none`, in a sentence; else empty. warnings: sentences on what will run,
    but not as one may expect. min_disk: GiB, min_memory: MiB.
    """

    format: Format
    boot: Boot
    reason: str = ""
    compression: Compression = Compression.NONE
    size: int = 0
    virtual_size: int = 0
    arch: Arch | None = None
    table: str = ""
    """Partition table: gpt, mbr, or empty."""
    sector: int = 512
    """Bytes of its disk's sectors: only a disk with such ones shows the same partitions."""
    mbr_boot_code: bool = False
    partitions: tuple[Partition, ...] = ()
    esp: int = 0
    """Number of the EFI system partition; 0 if there is none."""
    loaders: tuple[Loader, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    initrds: tuple[Initrd, ...] = ()
    """Those that the default kernel is started with, in the order in which they are loaded."""
    system: System | None = None
    kernel: Kernel | None = None
    """The one to boot, where boot is `kernel`."""
    command_line: str = ""
    min_disk: int = 0
    min_memory: int = 0
    warnings: tuple[str, ...] = field(default_factory=tuple)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Inspection:
        """The inverse of `to_json`; ValueError, KeyError or TypeError if it is not one."""
        return _inspection(json.loads(text))


def _arch(value: str | None) -> Arch | None:
    return None if value is None else Arch(value)


def _kernel(value: dict[str, Any]) -> Kernel:
    more = {
        "kind": KernelKind(value["kind"]),
        "arch": _arch(value["arch"]),
        "compression": Compression(value["compression"]),
        "modules": tuple(value["modules"]),
    }
    return Kernel(**{**value, **more})


def _initrd(value: dict[str, Any]) -> Initrd:
    more = {"compression": Compression(value["compression"]), "arch": _arch(value["arch"])}
    return Initrd(**{**value, **more})


def _system(value: dict[str, Any]) -> System:
    more = {"arch": _arch(value["arch"]), "consoles": tuple(value["consoles"])}
    return System(**{**value, **more})


def _inspection(value: dict[str, Any]) -> Inspection:
    more = {
        "format": Format(value["format"]),
        "boot": Boot(value["boot"]),
        "compression": Compression(value["compression"]),
        "arch": _arch(value["arch"]),
        "partitions": tuple(Partition(**each) for each in value["partitions"]),
        "loaders": tuple(
            Loader(**{**each, "arch": _arch(each["arch"])}) for each in value["loaders"]
        ),
        "kernels": tuple(_kernel(each) for each in value["kernels"]),
        "initrds": tuple(_initrd(each) for each in value["initrds"]),
        "system": value["system"] and _system(value["system"]),
        "kernel": value["kernel"] and _kernel(value["kernel"]),
        "warnings": tuple(value["warnings"]),
    }
    return Inspection(**{**value, **more})
