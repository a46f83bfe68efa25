"""The Glance properties of what was found, and what the owner says besides."""

from __future__ import annotations

import pytest
from nova.objects.image_meta import ImageMetaProps
from os_traits import get_traits

from dozencloud.errors import Problem
from dozencloud.images.importing import formats_of
from dozencloud.images.inspection.model import Arch, Boot, Format, Inspection, System
from dozencloud.images.properties import merge, properties

SYSTEM = System(id="debian", version="13", name="Debian GNU/Linux 13 (trixie)")
UEFI = Inspection(Format.QCOW2, Boot.UEFI, arch=Arch.AARCH64, system=SYSTEM)
KERNEL = Inspection(Format.RAW, Boot.KERNEL, arch=Arch.ARMV7L, command_line="root=LABEL=x rw")
ROOTFS = Inspection(Format.TAR, Boot.ROOTFS, arch=Arch.ARMV6)
NONE = Inspection(Format.RAW, Boot.NONE, "It is empty.")


@pytest.mark.parametrize("inspection", [UEFI, KERNEL, ROOTFS, NONE])
def test_nova_knows_every_property_and_accepts_its_value(inspection: Inspection) -> None:
    found = properties(inspection)
    ours = {name: value for name, value in found.items() if name.startswith(("hw_", "img_"))}
    known = ImageMetaProps.from_dict(ours)
    assert {name for name in ours if not known.obj_attr_is_set(name)} == set()
    traits = [name.removeprefix("trait:") for name in found if name.startswith("trait:")]
    assert {name for name in traits if not name.startswith("CUSTOM_")} <= set(get_traits())


def test_uefi() -> None:
    found = properties(UEFI)
    assert found["hw_architecture"] == "aarch64"
    assert found["hw_firmware_type"] == "uefi"
    assert found["trait:COMPUTE_ARCH_AARCH64"] == "required"
    assert (found["os_distro"], found["os_version"], found["os_type"]) == ("debian", "13", "linux")
    assert formats_of(UEFI) == ("qcow2", "bare")


def test_kernel() -> None:
    found = properties(KERNEL)
    assert found["hw_architecture"] == "armv7l"
    assert found["os_command_line"] == "root=LABEL=x rw"
    assert found["trait:CUSTOM_COMPUTE_ARCH_ARMV7L"] == "required"
    assert "hw_firmware_type" not in found
    assert formats_of(KERNEL) == ("raw", "bare")


def test_a_root_file_system_is_for_containers_only() -> None:
    found = properties(ROOTFS)
    assert (found["img_hv_type"], found["hw_vm_mode"]) == ("lxc", "exe")
    assert "hw_machine_type" not in found
    assert formats_of(ROOTFS) == ("raw", "docker")


def test_what_cannot_start_gets_no_hardware() -> None:
    assert properties(NONE) == {}


def test_the_owner_s_word_stands() -> None:
    owner = {"hw_video_model": "none", "hw_architecture": "aarch64", "note": "mine"}
    found = merge(owner, properties(UEFI))
    assert not owner.keys() & found.keys()
    assert found["hw_firmware_type"] == "uefi"


@pytest.mark.parametrize("word", ["aarch64", "arm64", "ARM64", "AArch64"])
def test_other_words_for_the_same_architecture(word: str) -> None:
    assert "hw_disk_bus" in merge({"architecture": word}, properties(UEFI))


@pytest.mark.parametrize(
    ("name", "value", "truth"),
    [
        ("hw_architecture", "x86_64", "aarch64"),
        ("architecture", "amd64", "aarch64"),
        ("hw_emulation_architecture", "armv7l", "aarch64"),
        ("hw_firmware_type", "bios", "uefi"),
        ("hw_vm_mode", "exe", "hvm"),
    ],
)
def test_what_contradicts_the_bytes_is_refused(name: str, value: str, truth: str) -> None:
    with pytest.raises(Problem) as refused:
        merge({name: value}, properties(UEFI))
    assert refused.value.what == (
        f"The image's property {name} says {value}, but its bytes are {truth}."
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hw_machine_type", "q35"),
        ("hw_machine_type", "pc-i440fx-2.4"),
        ("hw_machine_type", "virtual"),
        ("hw_video_model", "qxl"),
        ("hw_disk_bus", "fdc"),
        ("hw_scsi_model", "buslogic"),
        ("hw_vif_model", "netfront"),
        ("hw_viommu_model", "intel"),
    ],
)
def test_hardware_that_no_arm_server_has_is_refused(name: str, value: str) -> None:
    ImageMetaProps.from_dict({name: value})
    with pytest.raises(Problem) as refused:
        merge({name: value}, properties(UEFI))
    assert refused.value.what == (
        f"The image's property {name} says {value}, which no ARM server has."
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hw_machine_type", "virt"),
        ("hw_machine_type", "virt-7.2"),
        ("hw_video_model", "bochs"),
        ("hw_disk_bus", "ide"),
        ("hw_disk_bus", "sata"),
        ("hw_vif_model", "e1000"),
    ],
)
def test_hardware_that_an_arm_server_has_is_the_owner_s_choice(name: str, value: str) -> None:
    assert name not in merge({name: value}, properties(UEFI))


def test_a_pc_has_its_hardware() -> None:
    pc = Inspection(Format.QCOW2, Boot.UEFI, arch=Arch.X86_64)
    assert "hw_machine_type" not in merge({"hw_machine_type": "q35"}, properties(pc))
