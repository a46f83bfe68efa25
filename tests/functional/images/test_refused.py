"""What inspection refuses does not boot: right parts, wrongly put together.

Each is refused in every run; that it really does not boot is tried in a long one. More of these, in
a whole cloud: tests/e2e/test_images.py.
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
from dozencloud.images.inspection.model import Boot
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


DISKS = [
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
]
"""Makes it; whose firmware starts it; what inspection says; what the console says."""


@pytest.mark.parametrize(("make", "reason"), [(make, reason) for make, _, reason, _ in DISKS])
def test_inspection_says_what_is_wrong_with_a_disk(
    make: Callable[[Parts, Path], Path], reason: str, parts: Parts, tmp_path: Path
) -> None:
    said_of(make(parts, tmp_path), reason)


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "machine", "sign"), [(make, machine, sign) for make, machine, _, sign in DISKS]
)
def test_such_a_disk_does_not_boot(
    make: Callable[[Parts, Path], Path],
    machine: str,
    sign: str,
    parts: Parts,
    tmp_path: Path,
    machines: list[Machine],
) -> None:
    started = Machine(machine, *firmware(machine, tmp_path), *drive(make(parts, tmp_path)))
    machines.append(started)
    started.wait(sign, 90)


def said_of(image: Path, reason: str) -> None:
    """What inspection finds; it refuses just what has a reason."""
    found = inspect_file(image)
    assert (found.boot is Boot.NONE) == bool(reason), found.reason
    assert reason in found.reason


# ---- kernels that are started by QEMU -----------------------------------------------------


@dataclass(frozen=True)
class Board:
    """A root file system with a kernel in it, and what starts that."""

    image: Path
    architecture: str
    kernel: Path
    initrd: Path | None = None

    def start(self) -> Machine:
        how = ("-kernel", str(self.kernel), "-append", f"{EARLY} root=/dev/vda")
        more = ("-initrd", str(self.initrd)) if self.initrd else ()
        return Machine(self.architecture, *how, *more, *drive(self.image))


def whose_disk_driver_nobody_brings(parts: Parts, folder: Path) -> Board:
    files = {
        "sbin/init": ELF_AARCH64,
        "boot/vmlinuz-6.12": parts.kernel.kernel.read_bytes(),
        "boot/config-6.12": b"CONFIG_VIRTIO_PCI=m\nCONFIG_VIRTIO_BLK=m\n",
    }
    return Board(root_disk(folder, files), "arm64", parts.kernel.kernel)


def of_32_bits_with_a_64_bit_system(parts: Parts, folder: Path) -> Board:
    files = {
        "sbin/init": ELF_AARCH64,
        "boot/vmlinuz-6.12": parts.kernel32.kernel.read_bytes(),
        "boot/initrd.img-6.12": parts.kernel.initrd.read_bytes(),
    }
    image = root_disk(folder, files)
    return Board(image, "armhf", parts.kernel32.kernel, parts.kernel.initrd)


def without_large_addresses(parts: Parts, folder: Path) -> Board:
    """It finds neither disk nor network."""
    package = parts.packages("armhf", "linux-image-armmp")
    kernel = kernel_of(package)
    (config,) = (package / "boot").glob("config-*")
    files = {
        "sbin/init": ELF_ARM,
        f"boot/{kernel.name}": kernel.read_bytes(),
        f"boot/{config.name}": config.read_bytes(),
    }
    return Board(root_disk(folder, files), "armhf", kernel)


def for_armv6(parts: Parts, folder: Path) -> Board:
    """It is silent."""
    kernel = kernel_of(parts.packages("armel", "linux-image-rpi"))
    files = {"sbin/init": ELF_ARM, f"boot/{kernel.name}": kernel.read_bytes()}
    return Board(root_disk(folder, files), "armhf", kernel)


KERNELS = [
    (whose_disk_driver_nobody_brings, "and no initial RAM disk brings it", (PANIC,)),
    (
        of_32_bits_with_a_64_bit_system,
        "The kernel is for armv7l, but the system's programs are for aarch64",
        (PANIC,),
    ),
    (without_large_addresses, "The ARMv7 kernel has no LPAE", (NO_PCI, PANIC)),
    (for_armv6, "The kernel is for ARMv6", ()),
]
"""Makes it; what inspection says; what the console says, of which nothing means silence."""


@pytest.mark.parametrize(("make", "reason"), [(make, reason) for make, reason, _ in KERNELS])
def test_inspection_says_what_is_wrong_with_a_kernel(
    make: Callable[[Parts, Path], Board], reason: str, parts: Parts, tmp_path: Path
) -> None:
    said_of(make(parts, tmp_path).image, reason)


@pytest.mark.long
@pytest.mark.parametrize(("make", "signs"), [(make, signs) for make, _, signs in KERNELS])
def test_such_a_kernel_gets_nowhere(
    make: Callable[[Parts, Path], Board],
    signs: tuple[str, ...],
    parts: Parts,
    tmp_path: Path,
    machines: list[Machine],
) -> None:
    started = make(parts, tmp_path).start()
    machines.append(started)
    for sign in signs:
        started.wait(sign, 60)
    if not signs:
        assert not started.sees(".", SILENCE), started.matched
