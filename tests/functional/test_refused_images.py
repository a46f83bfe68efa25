"""What inspection refuses does not boot: right parts, wrongly put together, started all the same.

More of these, in a whole cloud: tests/e2e/test_images.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_build_boot import Machine, cache, disk_tools, drive, firmware, machines  # noqa: F401

from dozencloud.images import tiny, tiny_uefi
from dozencloud.images.debian import disk
from dozencloud.images.inspection.confine import extract_file, inspect_file
from dozencloud.images.inspection.model import Boot

pytestmark = [pytest.mark.functional, pytest.mark.timeout(240), disk_tools]

ESP_SIZE = 128 << 20
EPOCH = 1_700_000_000
IDENTITY = uuid.UUID(int=7)
ELF_AARCH64 = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\xb7\0" + bytes(44)
FIRMWARE_SAYS = r"UEFI Interactive Shell|No bootable option|failed to (?:load|start)"
PANIC = r"Unable to mount root fs|No working init|Cannot open root device"


@dataclass(frozen=True)
class Parts:
    """A loader with a kernel in it that boots, and the same kernel apart."""

    loader: Path
    kernel: tiny.TinyImage


@pytest.fixture(scope="module")
def parts(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Parts:  # noqa: F811
    loader = tmp_path_factory.mktemp("loader") / "loader.efi"
    extract_file(tiny_uefi.build(cache).disk, 1, "EFI/BOOT/BOOTAA64.EFI", loader)
    return Parts(loader, tiny.build("aarch64", cache))


def esp(folder: Path, *paths: str, loader: Path) -> Path:
    """A disk that is one EFI system partition, with the loader at these paths."""
    raw, image = folder / "esp.raw", folder / "esp.qcow2"
    with raw.open("wb") as file:
        file.truncate(ESP_SIZE)
    disk.make_esp(raw, 0, ESP_SIZE, 0x12345678, dict.fromkeys(paths, loader), EPOCH)
    disk.compress(raw, image)
    return image


def right(parts: Parts, folder: Path) -> Path:
    return esp(folder, "EFI/BOOT/BOOTAA64.EFI", loader=parts.loader)


def no_loader(parts: Parts, folder: Path) -> Path:
    return esp(folder, "README", loader=parts.kernel.disk)


def empty(_parts: Parts, folder: Path) -> Path:
    raw, image = folder / "empty.raw", folder / "empty.qcow2"
    with raw.open("wb") as file:
        file.truncate(ESP_SIZE)
    disk.compress(raw, image)
    return image


@pytest.mark.parametrize(
    ("make", "reason", "sign"),
    [
        (right, "", "login: "),
        (no_loader, "No EFI loader", FIRMWARE_SAYS),
        (empty, "The disk is empty", FIRMWARE_SAYS),
    ],
)
def test_disks(
    make: Callable[[Parts, Path], Path],
    reason: str,
    sign: str,
    parts: Parts,
    tmp_path: Path,
    machines: list[Machine],  # noqa: F811
) -> None:
    image = make(parts, tmp_path)
    found = inspect_file(image)
    assert (found.boot is Boot.NONE) == bool(reason), found.reason
    assert reason in found.reason
    machine = Machine("arm64", *firmware("arm64", tmp_path), *drive(image))
    machines.append(machine)
    machine.wait(sign, 90)


def test_a_kernel_whose_disk_driver_nobody_brings(
    parts: Parts,
    tmp_path: Path,
    machines: list[Machine],  # noqa: F811
) -> None:
    top = tmp_path / "root"
    (top / "boot").mkdir(parents=True)
    (top / "sbin").mkdir()
    (top / "sbin/init").write_bytes(ELF_AARCH64)
    (top / "boot/vmlinuz-6.12").write_bytes(parts.kernel.kernel.read_bytes())
    (top / "boot/config-6.12").write_text("CONFIG_VIRTIO_PCI=m\nCONFIG_VIRTIO_BLK=m\n")
    image = tmp_path / "root.qcow2"
    raw = tmp_path / "root.raw"
    size = 96 << 20
    with raw.open("wb") as file:
        file.truncate(size)
    disk.make_root(raw, 0, size, top, IDENTITY, EPOCH)
    disk.compress(raw, image)
    found = inspect_file(image)
    assert found.boot is Boot.NONE
    assert "and no initial RAM disk brings it" in found.reason
    kernel = ("-kernel", str(parts.kernel.kernel), "-append", "console=ttyAMA0 root=/dev/vda")
    machine = Machine("arm64", *kernel, *drive(image))
    machines.append(machine)
    machine.wait(PANIC, 60)
