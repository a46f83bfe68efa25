"""Servers whose images have no properties: what their bytes say is what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nova.objects.image_meta import ImageMetaProps
from nova.virt.libvirt import config

from dozencloud.compute import bootfiles, looked
from dozencloud.errors import Problem
from dozencloud.images.inspection.model import Arch, Boot, Format, Inspection

UEFI = {
    "hw_machine_type": "virt",
    "hw_firmware_type": "uefi",
    "hw_video_model": "virtio",
    "hw_rng_model": "virtio",
    "hw_cdrom_bus": "scsi",
    "hw_scsi_model": "virtio-scsi",
}
KERNEL = {k: v for k, v in UEFI.items() if k != "hw_firmware_type"} | {"hw_video_model": "none"}


def found(boot: Boot, arch: Arch | None) -> Inspection:
    return Inspection(Format.RAW, boot, arch=arch)


@pytest.mark.parametrize(
    ("inspection", "machine", "kernel", "properties"),
    [
        (found(Boot.UEFI, Arch.AARCH64), "x86_64", False, {"hw_architecture": "aarch64"} | UEFI),
        (found(Boot.UEFI, Arch.ARMV7L), "x86_64", False, {"hw_architecture": "armv7l"} | UEFI),
        (found(Boot.UEFI, Arch.ARMV7L), "aarch64", False, {"hw_architecture": "armv7l"} | UEFI),
        (found(Boot.UEFI, Arch.AARCH64), "aarch64", False, {"hw_architecture": "aarch64"} | UEFI),
        # What does not start is refused by who asks before each start (bootcheck).
        (found(Boot.NONE, Arch.AARCH64), "x86_64", False, {"hw_architecture": "aarch64"} | UEFI),
        (found(Boot.KERNEL, Arch.AARCH64), "x86_64", True, {"hw_architecture": "aarch64"} | KERNEL),
        (found(Boot.NONE, Arch.X86_64), "x86_64", False, {}),
        (found(Boot.NONE, Arch.I686), "x86_64", False, {}),
        (found(Boot.NONE, Arch.X86_64), "aarch64", False, {"hw_architecture": "x86_64"}),
        (found(Boot.NONE, Arch.PPC64LE), "x86_64", False, {"hw_architecture": "ppc64le"}),
        (found(Boot.NONE, None), "x86_64", False, {}),
        (None, "x86_64", False, {}),
    ],
)
def test_what_an_image_without_properties_is(
    inspection: Inspection | None, machine: str, kernel: bool, properties: dict[str, str]
) -> None:
    lacking = looked.missing({}, inspection, machine, kernel=kernel)
    assert lacking == properties
    for name, value in lacking.items():
        setattr(ImageMetaProps(), name, value)  # Nova takes them


@pytest.mark.parametrize("name", looked.ARCHITECTURES)
def test_the_owners_word_stands(name: str) -> None:
    image = found(Boot.UEFI, Arch.AARCH64)
    assert looked.missing({name: "x86_64"}, image, "x86_64", kernel=False) == {}


def test_the_owners_devices_stay_but_a_pcs_machine_does_not() -> None:
    said = {"hw_video_model": "none", "hw_machine_type": "pc"}
    lacking = looked.missing(said, found(Boot.UEFI, Arch.AARCH64), "x86_64", kernel=False)
    assert lacking["hw_machine_type"] == "virt"
    assert "hw_video_model" not in lacking


def test_a_disk_that_needs_its_kernel_taken_out_is_refused() -> None:
    with pytest.raises(Problem, match="only an import takes out"):
        looked.missing({}, found(Boot.KERNEL, Arch.AARCH64), "x86_64", kernel=False)


def disk(path: str, kind: str = "file") -> Any:
    made = config.LibvirtConfigGuestDisk()
    made.source_type, made.source_path = kind, path
    made.driver_format, made.target_dev, made.target_bus = "qcow2", "vda", "virtio"
    return made


def test_a_disk_gets_the_sectors_of_its_image() -> None:
    large, small = disk("/i/large/disk"), disk("/i/small/disk")
    others = [disk("/i/large/disk.config"), disk("/i/large/disk.eph0"), disk("x", "network")]
    devices = [large, small, *others, config.LibvirtConfigGuestInterface()]
    looked.large_sectors(devices, lambda path: 4096 if "large" in str(path) else 512)
    assert '<blockio logical_block_size="4096" physical_block_size="4096"/>' in large.to_xml()
    assert not any("blockio" in each.to_xml() for each in (small, *others[:2]))


def test_a_second_server_of_an_image_costs_no_inspection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, asked = tmp_path / "base", []
    base.write_bytes(b"x" * 512)

    def inspect(file: Path, *, seconds: float) -> Inspection:
        asked.append(file)
        return found(Boot.UEFI, Arch.AARCH64)

    monkeypatch.setattr(bootfiles, "inspect_file", inspect)
    # qemu-img tells it, of qcow2 files that only Nova makes.
    monkeypatch.setattr(bootfiles, "get_disk_backing_file", lambda *_, **__: str(base))
    for number in range(3):
        (tmp_path / f"disk{number}").touch()
        base.touch()  # as Nova does for every server
        assert bootfiles.of_disk(tmp_path / f"disk{number}") is not None
    assert asked == [base]
