"""What inspection refuses does not boot: right parts, wrongly put together, started all the same.

More of these, in a whole cloud: tests/e2e/test_images.py.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from bootkit import Machine, disk_tools, drive, firmware

from dozencloud.images.debian import disk
from dozencloud.images.formats import uki
from dozencloud.images.inspection.confine import extract_file, inspect_file
from dozencloud.images.inspection.model import Boot, Inspection
from dozencloud.images.packages import apt, debs
from dozencloud.images.tiny import direct, uefi

pytestmark = [pytest.mark.functional, pytest.mark.timeout(240), disk_tools]

ESP_SIZE = 128 << 20
ROOT_SIZE = 128 << 20
EPOCH = 1_700_000_000
IDENTITY = uuid.UUID(int=7)
ELF_ARM = b"\x7fELF\1\1\1" + bytes(9) + b"\2\0\x28\0" + bytes(44)
ELF_AARCH64 = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\xb7\0" + bytes(44)
FIRMWARE_SAYS = r"UEFI Interactive Shell|No bootable option|failed to (?:load|start)"
PANIC = r"Unable to mount root fs|No working init|Cannot open root device"
NO_PCI = "pci-host-generic.* failed with error"
EARLY = "earlycon console=ttyAMA0"
SILENCE = 15
"""Seconds in which a right kernel has long filled the console."""


@dataclass(frozen=True)
class Parts:
    """A loader with a kernel in it that boots, and kernels apart."""

    loader: Path
    kernel: direct.TinyImage
    kernel32: direct.TinyImage
    packages: Callable[[str, str], Path]
    """(Debian's architecture, package) -> the folder in which it is unpacked."""


@pytest.fixture(scope="module")
def parts(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    loader = tmp_path_factory.mktemp("loader") / "loader.efi"
    extract_file(uefi.build(cache).disk, 1, "EFI/BOOT/BOOTAA64.EFI", loader)

    def packages(architecture: str, name: str) -> Path:
        root = cache / f"unpacked-{architecture}-{name}"
        if not root.exists():
            work = tmp_path_factory.mktemp("apt")
            source = apt.Source("http://deb.debian.org/debian", "trixie", direct.KEYRING)
            found = debs.fetch(source, architecture, [name], work, without=direct.NOT_FETCHED)
            debs.unpack(found, work / "root")
            (work / "root").rename(root)
        return root

    return Parts(loader, direct.build("aarch64", cache), direct.build("armv7l", cache), packages)


def kernel_of(root: Path) -> Path:
    """The kernel in a folder in which its package is unpacked."""
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    return kernel


def systemd_efi(parts: Parts, architecture: str, name: str) -> Path:
    return parts.packages(architecture, "systemd-boot-efi") / "usr/lib/systemd/boot/efi" / name


def esp(folder: Path, files: dict[str, Path]) -> Path:
    """A disk that is one EFI system partition. files: path in it, source."""
    raw, image = folder / "esp.raw", folder / "esp.qcow2"
    with raw.open("wb") as file:
        file.truncate(ESP_SIZE)
    disk.make_esp(raw, 0, ESP_SIZE, 0x12345678, files, EPOCH)
    disk.compress(raw, image)
    return image


def root_disk(folder: Path, files: dict[str, bytes]) -> Path:
    """A disk that is one ext4 root file system."""
    top = folder / "root"
    for name, data in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
    raw, image = folder / "root.raw", folder / "root.qcow2"
    with raw.open("wb") as file:
        file.truncate(ROOT_SIZE)
    disk.make_root(raw, 0, ROOT_SIZE, top, IDENTITY, EPOCH)
    disk.compress(raw, image)
    return image


def right(parts: Parts, folder: Path) -> Path:
    return esp(folder, {"EFI/BOOT/BOOTAA64.EFI": parts.loader})


def no_loader(parts: Parts, folder: Path) -> Path:
    return esp(folder, {"README": parts.kernel.disk})


def loader_elsewhere(parts: Parts, folder: Path) -> Path:
    loader = systemd_efi(parts, "arm64", "systemd-bootaa64.efi")
    return esp(folder, {"EFI/debian/grubaa64.efi": loader})


def x86_under_an_arm_name(parts: Parts, folder: Path) -> Path:
    loader = systemd_efi(parts, "amd64", "systemd-bootx64.efi")
    return esp(folder, {"EFI/BOOT/BOOTAA64.EFI": loader})


def wide_under_a_narrow_name(parts: Parts, folder: Path) -> Path:
    loader = systemd_efi(parts, "arm64", "systemd-bootaa64.efi")
    return esp(folder, {"EFI/BOOT/BOOTARM.EFI": loader})


def unified_of_two_widths(parts: Parts, folder: Path) -> Path:
    stub = systemd_efi(parts, "arm64", "linuxaa64.efi.stub").read_bytes()
    loader = folder / "loader.efi"
    sections = {".cmdline": EARLY.encode(), ".linux": parts.kernel32.kernel.read_bytes()}
    loader.write_bytes(uki.build(stub, sections))
    return esp(folder, {"EFI/BOOT/BOOTAA64.EFI": loader})


def wide_loader_narrow_kernel(parts: Parts, folder: Path) -> Path:
    entry, choice = folder / "tiny.conf", folder / "loader.conf"
    entry.write_text(f"title tiny\nlinux /vmlinuz\noptions {EARLY}\n")
    choice.write_text("default tiny.conf\ntimeout 0\n")
    files = {
        "EFI/BOOT/BOOTAA64.EFI": systemd_efi(parts, "arm64", "systemd-bootaa64.efi"),
        "vmlinuz": parts.kernel32.kernel,
        "loader/entries/tiny.conf": entry,
        "loader/loader.conf": choice,
    }
    return esp(folder, files)


def root_without_kernel(_parts: Parts, folder: Path) -> Path:
    return root_disk(folder, {"sbin/init": ELF_AARCH64})


def noise(_parts: Parts, folder: Path) -> Path:
    raw, image = folder / "noise.raw", folder / "noise.qcow2"
    raw.write_bytes(os.urandom(8 << 20))
    disk.compress(raw, image)
    return image


def empty(_parts: Parts, folder: Path) -> Path:
    raw, image = folder / "empty.raw", folder / "empty.qcow2"
    with raw.open("wb") as file:
        file.truncate(ESP_SIZE)
    disk.compress(raw, image)
    return image


@pytest.mark.parametrize(
    ("make", "machine", "reason", "sign"),
    [
        (right, "arm64", "", "login: "),
        (no_loader, "arm64", "No EFI loader", FIRMWARE_SAYS),
        (loader_elsewhere, "arm64", "is not where firmware looks", FIRMWARE_SAYS),
        (x86_under_an_arm_name, "arm64", "x86-64 loader only", FIRMWARE_SAYS),
        (wide_under_a_narrow_name, "armhf", "not for armv7l as its name says", FIRMWARE_SAYS),
        (unified_of_two_widths, "arm64", "is for aarch64, the kernel in it for", FIRMWARE_SAYS),
        (wide_loader_narrow_kernel, "arm64", "the loader cannot start it", "Unsupported"),
        (root_without_kernel, "arm64", "No EFI loader and no kernel", FIRMWARE_SAYS),
        (noise, "arm64", "No file system in it is known", FIRMWARE_SAYS),
        (empty, "arm64", "The disk is empty", FIRMWARE_SAYS),
    ],
)
def test_disks(
    make: Callable[[Parts, Path], Path],
    machine: str,
    reason: str,
    sign: str,
    parts: Parts,
    tmp_path: Path,
    machines: list[Machine],
) -> None:
    image = make(parts, tmp_path)
    said_of(image, reason)
    started = Machine(machine, *firmware(machine, tmp_path), *drive(image))
    machines.append(started)
    started.wait(sign, 90)


def said_of(image: Path, reason: str) -> Inspection:
    """What inspection finds; it refuses just what has a reason."""
    found = inspect_file(image)
    assert (found.boot is Boot.NONE) == bool(reason), found.reason
    assert reason in found.reason
    return found


def started_by_kernel(
    architecture: str, kernel: Path, image: Path, initrd: Path | None = None
) -> Machine:
    how = ("-kernel", str(kernel), "-append", f"{EARLY} root=/dev/vda")
    more = ("-initrd", str(initrd)) if initrd else ()
    return Machine(architecture, *how, *more, *drive(image))


def test_a_kernel_whose_disk_driver_nobody_brings(
    parts: Parts,
    tmp_path: Path,
    machines: list[Machine],
) -> None:
    files = {
        "sbin/init": ELF_AARCH64,
        "boot/vmlinuz-6.12": parts.kernel.kernel.read_bytes(),
        "boot/config-6.12": b"CONFIG_VIRTIO_PCI=m\nCONFIG_VIRTIO_BLK=m\n",
    }
    image = root_disk(tmp_path, files)
    said_of(image, "and no initial RAM disk brings it")
    machine = started_by_kernel("arm64", parts.kernel.kernel, image)
    machines.append(machine)
    machine.wait(PANIC, 60)


def test_a_32_bit_kernel_cannot_run_a_64_bit_system(
    parts: Parts,
    tmp_path: Path,
    machines: list[Machine],
) -> None:
    files = {
        "sbin/init": ELF_AARCH64,
        "boot/vmlinuz-6.12": parts.kernel32.kernel.read_bytes(),
        "boot/initrd.img-6.12": parts.kernel.initrd.read_bytes(),
    }
    image = root_disk(tmp_path, files)
    said_of(image, "The kernel is for armv7l, but the system's programs are for aarch64")
    machine = started_by_kernel("armhf", parts.kernel32.kernel, image, parts.kernel.initrd)
    machines.append(machine)
    machine.wait(PANIC, 60)


def test_a_kernel_without_large_addresses_finds_neither_disk_nor_network(
    parts: Parts,
    tmp_path: Path,
    machines: list[Machine],
) -> None:
    package = parts.packages("armhf", "linux-image-armmp")
    kernel = kernel_of(package)
    (config,) = (package / "boot").glob("config-*")
    files = {
        "sbin/init": ELF_ARM,
        f"boot/{kernel.name}": kernel.read_bytes(),
        f"boot/{config.name}": config.read_bytes(),
    }
    image = root_disk(tmp_path, files)
    said_of(image, "The ARMv7 kernel has no LPAE")
    machine = started_by_kernel("armhf", kernel, image)
    machines.append(machine)
    machine.wait(NO_PCI, 60)
    machine.wait(PANIC, 60)


def test_an_armv6_kernel_is_silent(
    parts: Parts,
    tmp_path: Path,
    machines: list[Machine],
) -> None:
    kernel = kernel_of(parts.packages("armel", "linux-image-rpi"))
    files = {"sbin/init": ELF_ARM, f"boot/{kernel.name}": kernel.read_bytes()}
    image = root_disk(tmp_path, files)
    said_of(image, "The kernel is for ARMv6")
    machine = started_by_kernel("armhf", kernel, image)
    machines.append(machine)
    assert not machine.sees(".", SILENCE), machine.matched
