"""What inspection says of each kind of image: right, wrong and hostile."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images_kit import (
    AARCH64,
    ARM,
    AS_MODULE,
    BUILT_IN,
    ELF6,
    ELF7,
    ELF64,
    ELF_X86,
    GIB,
    I386,
    NO_VIRTIO,
    RISCV,
    X86_64,
    Content,
    Part,
    Unreadable,
    arm64_image,
    bzimage,
    disk,
    elf,
    esp,
    grub,
    initrd,
    kernel32,
    opened,
    pe,
    root,
    uimage,
    with_kernel,
    zboot,
    zimage,
)

from dozencloud.images.inspection.assemble import inspect, inspect_disk
from dozencloud.images.inspection.model import Arch, Boot, Format, Inspection
from dozencloud.images.inspection.tree import BadImage, Files, Tree
from dozencloud.images.inspection.unpack import Blob
from dozencloud.images.inspection.volumes import Disk

BOOTAA64 = ("EFI/BOOT/BOOTAA64.EFI", pe(AARCH64))
BOOTARM = ("EFI/BOOT/BOOTARM.EFI", pe(ARM))
BOOTX64 = ("EFI/BOOT/BOOTX64.EFI", pe(X86_64))
GRUBAA64 = ("EFI/debian/grubaa64.efi", pe(AARCH64))
LPAE = f"{AS_MODULE}CONFIG_CPU_V7=y\nCONFIG_ARM_LPAE=y\n"
NO_LPAE = f"{AS_MODULE}CONFIG_CPU_V7=y\n"
START = b"\xeb"
V32 = "6.12.0-armmp-lpae"


def debian(**more: bytes | str | None) -> Part:
    return Part({**root(**more), **with_kernel(), **grub()}, uuid="r-uuid")


def debian32(config: str = LPAE, program: bytes = ELF7) -> Part:
    kernel = with_kernel(zimage(), config, version=V32)
    return Part({**root(program), **kernel, **grub(V32)}, uuid="r-uuid")


def rooted(*contents: Content) -> Part:
    files: Content = {}
    for each in contents:
        files |= each
    return Part(files, uuid="r-uuid")


def unified(machine: int, kernel: bytes, command_line: str = "root=LABEL=root rw") -> bytes:
    sections = {
        ".osrel": b"ID=debian\n",
        ".uname": b"6.12.0-arm64",
        ".cmdline": command_line.encode(),
        ".linux": kernel,
        ".initrd": initrd("virtio_blk"),
    }
    return pe(machine, sections)


@dataclass(frozen=True)
class Case:
    """An image, and what is to be said of it. said: part of the reason, or of a warning."""

    name: str
    disk: Disk
    boot: Boot
    arch: Arch | None
    said: str = ""


def two_initrds(first: str, second: str) -> Content:
    """A kernel whose loader names two initrds, each with a module."""
    text = (
        "menuentry x {\nlinux /boot/vmlinuz-6.12.0-arm64 root=UUID=r-uuid\n"
        "initrd /boot/first.img /boot/second.img\n}\n"
    )
    return with_kernel(ramdisk=b"") | {
        "boot/grub/grub.cfg": text.encode(),
        "boot/first.img": initrd(first),
        "boot/second.img": initrd(second),
    }


def untold_initrds() -> Content:
    """A kernel whose loader takes the initrd with the drivers only on a condition."""
    text = (
        "menuentry x {\nlinux /boot/vmlinuz-6.12.0-arm64 root=UUID=r-uuid\n"
        "if keystatus --shift; then initrd /boot/second.img; else initrd /boot/first.img; fi\n}\n"
    )
    return two_initrds("ext4", "virtio_blk") | {"boot/grub/grub.cfg": text.encode()}


def with_modules() -> Content:
    """A kernel beside its modules, which no loader sees, and no initrd."""
    folder = "usr/lib/modules/6.12.0-arm64"
    return {f"{folder}/vmlinuz": arm64_image(), f"{folder}/config": AS_MODULE.encode()}


DISKS = (
    # --- right ---------------------------------------------------------------------------------
    Case("arm64, UEFI", disk(esp(BOOTAA64), debian()), Boot.UEFI, Arch.AARCH64),
    Case("armhf, UEFI", disk(esp(BOOTARM), debian32()), Boot.UEFI, Arch.ARMV7L),
    Case(
        "arm64 and x86 loaders",
        disk(esp(BOOTAA64, BOOTX64), debian()),
        Boot.UEFI,
        Arch.AARCH64,
    ),
    Case(
        "both ARM loaders, 32-bit system",
        disk(esp(BOOTAA64, BOOTARM), debian32()),
        Boot.UEFI,
        Arch.ARMV7L,
    ),
    Case(
        "lower-case names in the ESP",
        disk(esp(("efi/boot/bootaa64.efi", pe(AARCH64))), debian()),
        Boot.UEFI,
        Arch.AARCH64,
    ),
    Case(
        "FAT partition of an MBR disk",
        disk(esp(BOOTAA64), debian(), table="mbr"),
        Boot.UEFI,
        Arch.AARCH64,
    ),
    Case(
        "unified kernel image alone",
        disk(esp(("EFI/BOOT/BOOTAA64.EFI", unified(AARCH64, arm64_image())))),
        Boot.UEFI,
        Arch.AARCH64,
    ),
    Case(
        "EFI zboot kernel as loader",
        disk(esp(("EFI/BOOT/BOOTAA64.EFI", zboot(AARCH64, arm64_image())))),
        Boot.UEFI,
        Arch.AARCH64,
        "Whether its kernel has virtio is not known.",
    ),
    Case("arm64 by kernel", disk(debian()), Boot.KERNEL, Arch.AARCH64),
    Case("whole disk one file system", disk(debian(), table=""), Boot.KERNEL, Arch.AARCH64),
    Case("armhf by kernel", disk(debian32(), table="mbr"), Boot.KERNEL, Arch.ARMV7L),
    Case("armel on an ARMv7 kernel", disk(debian32(LPAE, ELF6)), Boot.KERNEL, Arch.ARMV7L),
    Case(
        "kernel with virtio built in, no initrd",
        disk(rooted(root(), with_kernel(None, BUILT_IN, b""))),
        Boot.KERNEL,
        Arch.AARCH64,
    ),
    Case(
        "BIOS boot code, but an ARM kernel inside",
        disk(debian(), table="mbr", boot_code=True),
        Boot.KERNEL,
        Arch.AARCH64,
    ),
    Case(
        "loader in no removable place",
        disk(esp(GRUBAA64), debian()),
        Boot.KERNEL,
        Arch.AARCH64,
        "Firmware does not find the EFI loader EFI/debian/grubaa64.efi",
    ),
    Case(
        "two initrds, the drivers in the first",
        disk(esp(BOOTAA64), rooted(root(), two_initrds("virtio_blk", "ext4"))),
        Boot.UEFI,
        Arch.AARCH64,
    ),
    Case(
        "two initrds by kernel, the drivers in the second",
        disk(rooted(root(), two_initrds("ext4", "virtio_blk"))),
        Boot.KERNEL,
        Arch.AARCH64,
    ),
    Case(
        "initrds that only a running GRUB could tell",
        disk(esp(BOOTAA64), rooted(root(), untold_initrds())),
        Boot.UEFI,
        Arch.AARCH64,
        "Its initial RAM disks could not be told for sure or read whole",
    ),
    Case(
        "unified kernel image in a loader's menu, bare kernel in the root",
        disk(
            esp(BOOTAA64, ("EFI/Linux/debian.efi", unified(AARCH64, arm64_image()))),
            rooted(root(), with_modules()),
        ),
        Boot.UEFI,
        Arch.AARCH64,
    ),
    Case(
        "unified kernel image that a loader's entry names",
        disk(
            esp(
                BOOTAA64,
                ("debian.efi", unified(AARCH64, arm64_image())),
                **{"loader/entries/a.conf": b"efi \\debian.efi\noptions root=LABEL=root\n"},
            ),
            rooted(root(), with_modules()),
        ),
        Boot.UEFI,
        Arch.AARCH64,
    ),
    Case(
        "unified kernel image that startup.nsh starts",
        disk(
            esp(
                ("debian.efi", unified(AARCH64, arm64_image())),
                **{"startup.nsh": rb"fs0:\debian.efi root=LABEL=root"},
            ),
            rooted(root(), with_modules()),
        ),
        Boot.UEFI,
        Arch.AARCH64,
        "Firmware's shell starts debian.efi, as startup.nsh says",
    ),
    Case(
        "loader that startup.nsh starts",
        disk(esp(GRUBAA64, **{"startup.nsh": rb"FS0:\EFI\debian\grubaa64.efi"}), debian()),
        Boot.UEFI,
        Arch.AARCH64,
        "Firmware's shell starts EFI/debian/grubaa64.efi",
    ),
    Case(
        "/boot of its own, BLS entries",
        disk(
            esp(BOOTAA64),
            Part(
                {
                    "vmlinuz-6.12.0-300.fc43.aarch64": arm64_image("6.12.0-300.fc43.aarch64"),
                    "initramfs-6.12.0-300.fc43.aarch64.img": initrd("virtio_blk"),
                    "config-6.12.0-300.fc43.aarch64": AS_MODULE.encode(),
                    "loader/entries/abc-6.12.0-300.fc43.aarch64.conf": (
                        b"title Fedora\nlinux /vmlinuz-6.12.0-300.fc43.aarch64\n"
                        b"initrd /initramfs-6.12.0-300.fc43.aarch64.img\n"
                        b"options root=UUID=b-uuid rootflags=subvol=root $extra\n"
                    ),
                }
            ),
            Part(root(), "btrfs", "b-uuid"),
        ),
        Boot.UEFI,
        Arch.AARCH64,
    ),
    # --- right, with a warning -----------------------------------------------------------------
    Case(
        "64-bit kernel, 32-bit programs",
        disk(esp(BOOTAA64), debian(**{"usr__lib__systemd__systemd": ELF7})),
        Boot.UEFI,
        Arch.AARCH64,
        "A 64-bit kernel with 32-bit programs",
    ),
    Case(
        "console on a PC's serial port",
        disk(
            esp(BOOTAA64),
            rooted(
                root(), with_kernel(), grub(arguments="root=UUID=r-uuid console=ttyS0,115200n8")
            ),
        ),
        Boot.UEFI,
        Arch.AARCH64,
        "Its console is ttyS0,115200n8, not ttyAMA0",
    ),
    Case(
        "no cloud-init",
        disk(
            esp(BOOTAA64),
            rooted(
                {path: file for path, file in root().items() if "cloud-init" not in path},
                with_kernel(),
                grub(),
            ),
        ),
        Boot.UEFI,
        Arch.AARCH64,
        "No cloud-init in it: it takes neither keys nor a name from the cloud.",
    ),
    Case(
        "root that no reader knows",
        disk(esp(BOOTAA64), Part(None, "crypto_LUKS")),
        Boot.UEFI,
        Arch.AARCH64,
        "No operating system was found in it",
    ),
    # --- wrong ---------------------------------------------------------------------------------
    Case(
        "x86, UEFI",
        disk(
            esp(BOOTX64),
            rooted(root(ELF_X86), with_kernel(bzimage(), version="6.12.0-amd64")),
            boot_code=True,
        ),
        Boot.NONE,
        Arch.X86_64,
        "x86-64 loader only: this image cannot start on ARM.",
    ),
    Case(
        "x86, UEFI of both widths",
        disk(esp(BOOTX64, ("EFI/BOOT/BOOTIA32.EFI", pe(I386))), rooted(root(ELF_X86))),
        Boot.NONE,
        Arch.X86_64,
        "32-bit x86 and x86-64 loader only",
    ),
    Case(
        "x86, BIOS",
        disk(rooted(root(ELF_X86)), table="mbr", boot_code=True),
        Boot.NONE,
        Arch.X86_64,
        "This is a system for x86-64: this image cannot start on ARM.",
    ),
    Case(
        "x86 loader under an ARM loader's name",
        disk(esp(("EFI/BOOT/BOOTAA64.EFI", pe(X86_64)))),
        Boot.NONE,
        Arch.X86_64,
        "x86-64 loader only",
    ),
    Case(
        "64-bit loader under the 32-bit one's name",
        disk(esp(("EFI/BOOT/BOOTARM.EFI", pe(AARCH64)))),
        Boot.NONE,
        Arch.AARCH64,
        "The EFI loader EFI/BOOT/BOOTARM.EFI is for aarch64, not for armv7l",
    ),
    Case(
        "riscv64",
        disk(esp(("EFI/BOOT/BOOTRISCV64.EFI", pe(RISCV))), rooted(root(elf(243)))),
        Boot.NONE,
        Arch.RISCV64,
        "riscv64 loader only",
    ),
    Case(
        "s390x", disk(rooted(root(elf(22, big=True)))), Boot.NONE, Arch.S390X, "a system for s390x"
    ),
    Case(
        "BIOS boot code and nothing of ARM",
        disk(Part({"data": b""}), table="mbr", boot_code=True),
        Boot.NONE,
        None,
        "MBR boot code and no EFI system partition: ARM has no BIOS.",
    ),
    Case(
        "BIOS boot code and a root without kernel",
        disk(rooted(root()), table="mbr", boot_code=True),
        Boot.NONE,
        Arch.AARCH64,
        "ARM has no BIOS.",
    ),
    Case(
        "64-bit loader, 32-bit kernel",
        disk(esp(BOOTAA64), debian32()),
        Boot.NONE,
        Arch.ARMV7L,
        "The EFI loader is for aarch64, but the kernel in the image is for armv7l",
    ),
    Case(
        "64-bit loader, 32-bit system without kernel",
        disk(esp(BOOTAA64), rooted(root(ELF7))),
        Boot.NONE,
        Arch.ARMV7L,
        "The EFI loader is for aarch64, but the system in it is armv7l: no kernel",
    ),
    Case(
        "32-bit kernel, 64-bit system",
        disk(debian32(LPAE, ELF64)),
        Boot.NONE,
        Arch.ARMV7L,
        "The kernel is for armv7l, but the system's programs are for aarch64",
    ),
    Case(
        "big-endian kernel",
        disk(rooted(root(), with_kernel(arm64_image(big_endian=True)), grub())),
        Boot.NONE,
        Arch.AARCH64,
        "The kernel is big-endian",
    ),
    Case(
        "kernel without virtio",
        disk(esp(BOOTAA64), rooted(root(), with_kernel(None, NO_VIRTIO), grub())),
        Boot.NONE,
        Arch.AARCH64,
        "has no virtio: it sees neither disk nor network",
    ),
    Case(
        "virtio as a module, no initrd",
        disk(rooted(root(), with_kernel(None, AS_MODULE, b""))),
        Boot.NONE,
        Arch.AARCH64,
        "has virtio_blk as a module, and no initial RAM disk brings it",
    ),
    Case(
        "virtio as a module, initrd without it",
        disk(rooted(root(), with_kernel(None, AS_MODULE, initrd("ext4")), grub())),
        Boot.NONE,
        Arch.AARCH64,
        "has virtio_blk as a module, and its initial RAM disk lacks it",
    ),
    Case(
        "ARMv7 without LPAE",
        disk(esp(BOOTARM), debian32(NO_LPAE)),
        Boot.NONE,
        Arch.ARMV7L,
        "The ARMv7 kernel has no LPAE",
    ),
    Case(
        "ARMv6",
        disk(debian32(f"{AS_MODULE}CONFIG_CPU_V6=y\n", ELF6), table="mbr"),
        Boot.NONE,
        Arch.ARMV6,
        "The kernel is for ARMv6",
    ),
    Case(
        "loader in no removable place, no kernel",
        disk(esp(GRUBAA64), rooted(root())),
        Boot.NONE,
        Arch.AARCH64,
        "EFI/debian/grubaa64.efi is not where firmware looks",
    ),
    Case(
        "ESP without loader",
        disk(esp(startup__nsh=b""), rooted(root())),
        Boot.NONE,
        Arch.AARCH64,
        "The EFI system partition holds no loader",
    ),
    Case(
        "root without kernel",
        disk(rooted(root())),
        Boot.NONE,
        Arch.AARCH64,
        "No EFI loader and no kernel",
    ),
    Case(
        "kernel without root",
        disk(rooted(with_kernel())),
        Boot.NONE,
        Arch.AARCH64,
        "a kernel without a root file system",
    ),
    Case(
        "unified kernel image of two widths",
        disk(esp(("EFI/BOOT/BOOTAA64.EFI", unified(AARCH64, zimage())))),
        Boot.NONE,
        Arch.AARCH64,
        "The unified kernel image is for aarch64, the kernel in it for armv7l.",
    ),
    Case(
        "unreadable root",
        disk(Part(None, "ext4", trouble="The ext4 file system ends before its size.")),
        Boot.NONE,
        None,
        "not all could be read: The ext4 file system ends before its size.",
    ),
    Case(
        "unknown file systems",
        disk(Part(None, "")),
        Boot.NONE,
        None,
        "No file system in it is known",
    ),
    Case(
        "loader in no removable place, kernel without root",
        disk(esp(GRUBAA64), Part(with_kernel())),
        Boot.NONE,
        Arch.AARCH64,
        "there is no root file system that its kernel could be started with instead.",
    ),
    Case(
        "two initrds, the drivers in neither",
        disk(rooted(root(), two_initrds("ext4", "xfs"))),
        Boot.NONE,
        Arch.AARCH64,
        "its initial RAM disks lack it.",
    ),
    # --- hostile -------------------------------------------------------------------------------
    Case(
        "links in circles",
        disk(
            rooted(
                {
                    "boot": "boot",
                    "etc/os-release": "../../../../etc/os-release",
                    "sbin/init": "init2",
                    "sbin/init2": "init",
                }
            )
        ),
        Boot.NONE,
        None,
        "No EFI loader and no kernel",
    ),
    Case(
        "10,000 files in the ESP",
        disk(
            esp(*((f"EFI/{n}/{n}.efi", pe(X86_64)) for n in range(10_000)), BOOTAA64),
            debian(),
        ),
        Boot.UEFI,
        Arch.AARCH64,
    ),
    Case(
        "10,000 other files beside the loader",
        disk(esp(*((f"EFI/BOOT/A{n}.EFI", b"x") for n in range(10_000)), BOOTAA64), debian()),
        Boot.UEFI,
        Arch.AARCH64,
    ),
    Case(
        "10,000 files that are called kernels",
        disk(rooted(root(), {f"boot/vmlinuz-{n}": b"x" for n in range(10_000)})),
        Boot.NONE,
        Arch.AARCH64,
        "No EFI loader and no kernel",
    ),
    Case(
        "loader cut short",
        disk(esp(("EFI/BOOT/BOOTAA64.EFI", b"MZ" + bytes(60)))),
        Boot.NONE,
        None,
        "The EFI system partition holds no loader",
    ),
)


@pytest.mark.parametrize("case", DISKS, ids=lambda case: case.name)
def test_disks(case: Case) -> None:
    found = inspect_disk(opened(), case.disk, start=START)
    assert (found.boot, found.arch) == (case.boot, case.arch), found.reason
    assert case.said in " ".join((found.reason, *found.warnings))
    assert bool(found.reason) == (case.boot is Boot.NONE)
    assert found.reason == "" or found.reason.endswith(".")
    assert all(warning.endswith(".") for warning in found.warnings)
    assert Inspection.from_json(found.to_json()) == found


PATHS = (
    *("EFI/BOOT/BOOTAA64.EFI", "EFI/BOOT/BOOTARM.EFI", "EFI/Linux/a.efi", "EFI/debian/grub.cfg"),
    *("boot/vmlinuz-6.1", "boot/initrd.img-6.1", "boot/config-6.1", "boot/grub/grub.cfg"),
    *("boot/grub/grubenv", "loader/entries/a.conf", "loader/loader.conf", "etc/os-release"),
    *("etc/fstab", "sbin/init", "bin/sh", "lib/modules/6.1/modules.dep", "lib/modules/6.1/vmlinuz"),
    *("lib/modules/6.1/modules.builtin", "extlinux/extlinux.conf", "config.txt", "cmdline.txt"),
)
CONTENTS: tuple[bytes | str | None, ...] = (
    *(pe(AARCH64), pe(ARM), unified(AARCH64, arm64_image()), arm64_image(), zimage(), bzimage()),
    *(zboot(AARCH64, b"x"), uimage(kernel32()), initrd("virtio_blk"), ELF64, ELF7, ELF_X86),
    *(LPAE.encode(), b"ID=debian", b"linux /boot/vmlinuz-6.1 root=x\ninitrd /boot/initrd.img-6.1"),
    *(
        b"\xff" * 99,
        b"",
        None,
        "/",
        "..",
        "/boot",
        "vmlinuz-6.1",
        "/sbin/init",
        "/EFI/BOOT/BOOTARM.EFI",
    ),
)


@settings(derandomize=True, deadline=timedelta(seconds=2), max_examples=200)
@given(st.lists(st.dictionaries(st.sampled_from(PATHS), st.sampled_from(CONTENTS)), max_size=3))
def test_any_mixture_of_files_ends_in_a_sentence(contents: list[Content]) -> None:
    kinds = ("vfat", "ext4", "btrfs")
    image = disk(*(Part(files, kind) for files, kind in zip(contents, kinds, strict=False)))
    found = inspect_disk(opened(), image, start=START)
    assert bool(found.reason) == (found.boot is Boot.NONE)
    assert (found.kernel is not None) == (found.boot is Boot.KERNEL)
    assert Inspection.from_json(found.to_json()) == found


def test_an_empty_disk() -> None:
    found = inspect_disk(opened(), disk(table=""), start=bytes(1 << 20))
    assert found.reason == "The disk is empty: it has no partition table and no file system."


def test_an_installation_medium() -> None:
    start = bytes(0x8001) + b"CD001"
    found = inspect_disk(opened(), disk(esp(BOOTAA64)), start=start)
    assert (found.boot, found.arch) == (Boot.NONE, Arch.AARCH64)
    assert found.reason.startswith("This is an installation medium: it installs a system")


@pytest.mark.parametrize("line", ["linux x y\n", "menuentry '\n", "{", "set a=$a$a$a$a$a\n"])
def test_a_grub_configuration_of_100_mb(line: str) -> None:
    config = (line.encode() * ((100 << 20) // len(line)))[: 100 << 20]
    image = disk(rooted(root(), with_kernel(), {"boot/grub/grub.cfg": config}))
    assert inspect_disk(opened(), image, start=START).boot is Boot.KERNEL


KERNEL = "boot/vmlinuz-6.12.0-arm64"
RAMDISK = "boot/initrd.img-6.12.0-arm64"
DAMAGED = "Not all in it could be read: /{} is damaged."


@pytest.mark.parametrize(
    ("place", "boot", "said"),
    [
        ("usr", Boot.UEFI, DAMAGED.format("usr")),
        ("boot", Boot.UEFI, DAMAGED.format("boot")),
        ("etc/os-release", Boot.UEFI, DAMAGED.format("etc/os-release")),
        ("startup.nsh: content", Boot.UEFI, DAMAGED.format("startup.nsh")),
        ("boot/grub/grub.cfg: content", Boot.UEFI, DAMAGED.format("boot/grub/grub.cfg")),
        (f"{KERNEL}: content", Boot.UEFI, DAMAGED.format(KERNEL)),
        (f"{RAMDISK}: content", Boot.UEFI, DAMAGED.format(RAMDISK)),
        ("EFI/BOOT/BOOTAA64.EFI: content", Boot.KERNEL, DAMAGED.format("EFI/BOOT/BOOTAA64.EFI")),
    ],
)
def test_one_place_that_cannot_be_read(place: str, boot: Boot, said: str) -> None:
    image = disk(esp(BOOTAA64, **{"startup.nsh": b"x.efi"}), debian())
    volumes = tuple(
        replace(each, tree=Tree(Unreadable(part, [place], each.partition.filesystem)))
        for each in image.volumes
        for part in [each.tree.store._content]
    )
    found = inspect_disk(opened(), replace(image, volumes=volumes), start=START)
    assert found.boot is boot, found.reason
    assert said in found.warnings


def test_a_kernel_is_not_started_without_the_initrd_that_cannot_be_read() -> None:
    part = debian()
    store = Unreadable(part.files or {}, [f"{RAMDISK}: content"])
    (volume,) = disk(part).volumes
    image = replace(disk(), volumes=(replace(volume, tree=Tree(store)),))
    found = inspect_disk(opened(), image, start=START)
    assert found.boot is Boot.NONE
    assert f"could be read: /{RAMDISK} is damaged." in found.reason


BARE = (
    ("arm64 Image", arm64_image(), Boot.KERNEL, Arch.AARCH64, ""),
    ("zImage with LPAE", zimage(), Boot.KERNEL, Arch.ARMV7L, ""),
    ("uImage", uimage(kernel32()), Boot.KERNEL, Arch.ARMV7L, ""),
    ("EFI zboot", zboot(AARCH64, arm64_image()), Boot.KERNEL, Arch.AARCH64, ""),
    ("UKI", unified(AARCH64, arm64_image()), Boot.KERNEL, Arch.AARCH64, ""),
    ("zImage without LPAE", zimage(kernel32(lpae=False)), Boot.NONE, Arch.ARMV7L, "no LPAE"),
    ("zImage of ARMv6", zimage(kernel32(generation=6)), Boot.NONE, Arch.ARMV6, "for ARMv6"),
    ("big-endian zImage", zimage(big_endian=True), Boot.NONE, Arch.ARMV7L, "big-endian"),
    ("damaged zImage", zimage(pack=lambda _: bytes(900)), Boot.NONE, Arch.ARMV7L, "not unpack"),
    ("bzImage", bzimage(), Boot.NONE, Arch.X86_64, "This is a kernel for x86-64"),
    ("uImage, wrong checksum", uimage(b"x", crc=1), Boot.NONE, Arch.ARMV7L, "checksum"),
    ("initrd", initrd(), Boot.NONE, Arch.AARCH64, "an initial RAM disk alone"),
    ("uInitrd", uimage(initrd(), kind=3), Boot.NONE, Arch.AARCH64, "an initial RAM disk alone"),
    ("program", ELF64, Boot.NONE, Arch.AARCH64, "This is a program (ELF)"),
    ("EFI program", pe(AARCH64), Boot.NONE, Arch.AARCH64, "This is an EFI program for aarch64"),
    ("zboot cut short", zboot(AARCH64, b"", size=1 << 30), Boot.NONE, Arch.AARCH64, "truncated"),
    ("text", b"hello\n" * 99, Boot.NONE, None, "The bytes are of no kind that is known"),
    ("nothing", b"", Boot.NONE, None, "The bytes are of no kind that is known"),
)


@pytest.mark.parametrize(
    ("data", "boot", "arch", "said"), [case[1:] for case in BARE], ids=[case[0] for case in BARE]
)
def test_bare_files(data: bytes, boot: Boot, arch: Arch | None, said: str) -> None:
    found = inspect(replace(opened(Format.KERNEL), head=io.BytesIO(data)))
    assert (found.boot, found.arch) == (boot, arch), found.reason
    assert said in found.reason
    assert Inspection.from_json(found.to_json()) == found


def tiny_root(program: bytes) -> Content:
    return {"bin/sh": "busybox", "bin/busybox": program}


TREES: tuple[tuple[str, Content, Arch | None, Boot, Arch | None, str], ...] = (
    ("arm64 root", root(), None, Boot.ROOTFS, Arch.AARCH64, ""),
    ("armhf root", root(ELF7), None, Boot.ROOTFS, Arch.ARMV7L, ""),
    ("armel root", root(ELF6), None, Boot.ROOTFS, Arch.ARMV6, ""),
    ("busybox alone", tiny_root(ELF7), None, Boot.ROOTFS, Arch.ARMV7L, ""),
    ("one static program", {"hello": ELF64}, Arch.AARCH64, Boot.ROOTFS, Arch.AARCH64, ""),
    ("x86 root", root(ELF_X86), None, Boot.NONE, Arch.X86_64, "a root file system for x86-64"),
    ("says arm64, is x86", root(ELF_X86), Arch.AARCH64, Boot.NONE, Arch.X86_64, "says aarch64"),
    ("other files", {"README": b"x"}, None, Boot.NONE, None, "This is no root file system"),
    (
        "no program",
        {"etc/os-release": b"ID=debian\n"},
        None,
        Boot.NONE,
        None,
        "cannot be told",
    ),
)


@pytest.mark.parametrize(
    ("files", "claimed", "boot", "arch", "said"),
    [case[1:] for case in TREES],
    ids=[case[0] for case in TREES],
)
def test_root_file_systems(
    files: Content, claimed: Arch | None, boot: Boot, arch: Arch | None, said: str
) -> None:
    image = replace(opened(Format.TAR), tree=Tree(Files(files)), arch=claimed)
    found = inspect(image)
    assert (found.boot, found.arch) == (boot, arch), found.reason
    assert said in found.reason


@pytest.mark.parametrize(
    ("files", "disk"),
    [
        ({"disk.raw": b""}, "(disk.raw)"),
        ({"README": b"x", "img-1.0/a.vdi": b""}, "(img-1.0/a.vdi)"),
        ({"core-image.wic": b""}, "(core-image.wic)"),
        ({"disk.img.xz": b""}, "(disk.img.xz)"),
        ({"ova.xml": b"", "Ref:1/00000000": b""}, "(in pieces in Ref:1, as XenServer exports it)"),
    ],
)
def test_archives_of_a_disk(files: Content, disk: str) -> None:
    image = replace(opened(Format.TAR), tree=Tree(Files(files)))
    with pytest.raises(BadImage, match=re.escape(f"an archive of a disk image {disk}")) as caught:
        inspect(image)
    assert caught.value.mend == "Unpack it: tar -xf FILE"


def test_what_is_needed_to_start_the_kernel_inside() -> None:
    arguments = "root=/dev/sda2 console=tty0 quiet net.ifnames=0"
    part = rooted(root(), with_kernel(), grub(arguments=arguments))
    found = inspect_disk(opened(virtual_size=2 * GIB + 1), disk(part), start=START)
    assert found.kernel is not None
    assert found.kernel.path == "boot/vmlinuz-6.12.0-arm64"
    assert found.kernel.version == "6.12.0-arm64"
    assert found.kernel.modules == ("virtio_blk",)
    (ramdisk,) = found.initrds
    assert (ramdisk.path, ramdisk.virtio) == ("boot/initrd.img-6.12.0-arm64", True)
    # /dev/sda2 is a device of other hardware.
    assert found.command_line == "root=UUID=r-uuid rw net.ifnames=0 console=ttyAMA0"
    assert (found.min_disk, found.min_memory) == (3, 512)
    assert found.system is not None
    assert found.system.consoles == ("tty0",)
    assert found.system.name == "Debian GNU/Linux 13 (trixie)"


def test_a_kernel_without_initrd_gets_a_device_that_it_knows() -> None:
    part = rooted(root(), with_kernel(None, BUILT_IN, b""))
    found = inspect_disk(opened(), disk(Part({}, "ext4"), part), start=START)
    assert found.command_line == "root=/dev/vda2 rw console=ttyAMA0"


def test_a_unified_kernel_image_is_kernel_initrd_and_system_in_one() -> None:
    image = disk(esp(("EFI/Linux/debian.efi", unified(AARCH64, arm64_image())), BOOTAA64))
    found = inspect_disk(opened(), image, start=START)
    assert found.system is not None
    assert (found.system.id, found.system.arch) == ("debian", Arch.AARCH64)
    (ramdisk,) = found.initrds
    assert (ramdisk.path, ramdisk.virtio) == ("EFI/Linux/debian.efi", True)
    assert found.kernels[0].version == "6.12.0-arm64"
    assert found.warnings == ()


def test_a_bare_kernel_is_searched_for_what_it_says_of_itself() -> None:
    said = "virtio_pci.force_legacy\0virtio_blk.queue_depth"
    found = inspect(replace(opened(), head=io.BytesIO(arm64_image("6.1.7", said=said))))
    assert found.kernel is not None
    assert (found.kernel.version, found.kernel.virtio) == ("6.1.7", True)


def test_blobs_end_where_the_image_ends() -> None:
    blob = Blob.of(b"0123456789").part(8, 1 << 60)
    assert (blob.size, blob.read(1, 1 << 40), blob.read(-1, 4)) == (2, b"9", b"")


def rows() -> list[str]:
    """DISKS as the table in docs/images.md shows them."""
    lines = []
    for case in DISKS:
        found = inspect_disk(opened(), case.disk, start=START)
        said = " ".join((found.reason, *found.warnings)).strip()
        how = "no" if found.boot is Boot.NONE else found.boot.value
        lines.append(f"| {case.name} | {found.arch or ''} | {how} | {said} |")
    return lines


def test_the_table_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "images.md").read_text()
    table = [line for line in page.splitlines() if line.startswith("| ")]
    assert table[-len(DISKS) :] == rows()
