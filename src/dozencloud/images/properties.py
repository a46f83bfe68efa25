"""Glance properties that OpenStack defines, for what was found in an image.

Names and values: glance/etc/metadefs (hw_*, os_*) and nova/objects/image_meta.py of the pinned
releases; traits: os-traits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dozencloud.errors import Problem
from dozencloud.images.inspection.model import Arch, Boot, Format, Inspection, System

MACHINES = {
    Arch.AARCH64: "virt",
    Arch.ARMV7L: "virt",
    Arch.ARMV6: "virt",
    Arch.RISCV64: "virt",
    Arch.PPC64LE: "pseries",
    Arch.S390X: "s390-ccw-virtio",
    Arch.MIPSEL: "malta",
}
"""QEMU's machine for each architecture."""

TRAITS = {
    Arch.AARCH64: "COMPUTE_ARCH_AARCH64",
    Arch.ARMV7L: "CUSTOM_COMPUTE_ARCH_ARMV7L",
    Arch.RISCV64: "COMPUTE_ARCH_RISCV64",
    Arch.PPC64LE: "COMPUTE_ARCH_PPC64LE",
    Arch.S390X: "COMPUTE_ARCH_S390X",
    Arch.MIPSEL: "COMPUTE_ARCH_MIPSEL",
}
"""Traits of hosts that start such servers, in hardware or by emulation.

os-traits has none for 32-bit ARM; our driver publishes one. HW_ARCH_ARMV7 would exclude emulation.
"""

DISK_FORMATS = {Format.QCOW2: "qcow2", Format.VMDK: "vmdk", Format.VHDX: "vhdx"}
"""What Nova's libvirt driver takes beside raw."""


def disk_format(inspection: Inspection) -> str:
    """Glance's name for the format of the (unpacked) file."""
    return DISK_FORMATS.get(inspection.format, "raw")


def properties(inspection: Inspection) -> dict[str, str]:
    """What the image says about itself to Nova; without the links to kernel and initrd."""
    found: dict[str, str] = {}
    if inspection.arch:
        found["hw_architecture"] = inspection.arch.value
    found |= _origin(inspection.system)
    if inspection.boot is Boot.ROOTFS:
        return found | {"img_hv_type": "lxc", "hw_vm_mode": "exe"}
    if inspection.boot is Boot.NONE or inspection.arch is None:
        return found
    found |= {
        "img_hv_type": "qemu",
        "hw_vm_mode": "hvm",
        "hw_machine_type": MACHINES.get(inspection.arch, "virt"),
        "hw_disk_bus": "virtio",
        "hw_vif_model": "virtio",
        "hw_rng_model": "virtio",
        # A config drive: Nova would choose IDE by the host's architecture, and ARM has none.
        "hw_cdrom_bus": "scsi",
        "hw_scsi_model": "virtio-scsi",
    }
    if trait := TRAITS.get(inspection.arch):
        found[f"trait:{trait}"] = "required"
    if inspection.boot is Boot.UEFI:
        # No VGA on ARM: its memory type is not coherent with what KVM maps.
        found |= {"hw_firmware_type": "uefi", "hw_video_model": "virtio"}
    else:
        found |= {"hw_video_model": "none", "os_command_line": inspection.command_line}
    return {name: value for name, value in found.items() if value}


def _origin(system: System | None) -> dict[str, str]:
    if system is None:
        return {}
    named = {"os_distro": system.id, "os_version": system.version}
    return {name: value for name, value in named.items() if value} | {"os_type": "linux"}


CONTRADICTIONS = (
    "hw_architecture",
    "hw_emulation_architecture",
    "architecture",
    "hw_firmware_type",
    "hw_vm_mode",
)
"""Properties in which the owner cannot be right against the bytes."""

ALIASES = {
    "arm64": "aarch64",
    "armv8l": "aarch64",
    "armhf": "armv7l",
    "armv7": "armv7l",
    "amd64": "x86_64",
    "i386": "i686",
}


ARM = (Arch.AARCH64, Arch.ARMV7L, Arch.ARMV6)
NOT_ON_ARM: Mapping[str, frozenset[str]] = {
    "hw_video_model": frozenset({"gop", "qxl", "xen"}),
    "hw_disk_bus": frozenset({"fdc", "lxc", "uml", "xen"}),
    "hw_cdrom_bus": frozenset({"fdc", "lxc", "uml", "xen"}),
    "hw_scsi_model": frozenset({"buslogic", "ibmvscsi"}),
    "hw_vif_model": frozenset({"lan9118", "netfront", "spapr-vlan"}),
    "hw_viommu_model": frozenset({"intel"}),
}
"""Values that Nova knows, and QEMU's or libvirt's ARM machine `virt` has not (both of Debian 12).

IDE is not among them: where it is asked for there is SCSI (compute/libvirt/guest.py).
"""


def foreign(arch: str, properties: Mapping[str, str | None]) -> tuple[str, str]:
    """Property and value that no ARM server can have; empty where there is none."""
    if arch not in ARM:
        return "", ""
    machine = properties.get("hw_machine_type")
    if machine and not re.fullmatch(r"virt(-\d.*)?", machine):
        return "hw_machine_type", machine
    for name, values in NOT_ON_ARM.items():
        value = properties.get(name)
        if value in values:
            return name, str(value)
    return "", ""


def merge(owner: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """What is to be set: the owner's word stands; Problem where it contradicts the bytes."""
    for name in CONTRADICTIONS:
        said = owner.get(name, "")
        known = found.get("hw_architecture" if "architecture" in name else name, "")
        if said and known and ALIASES.get(said.lower(), said.lower()) != known:
            raise Problem(
                f"The image's property {name} says {said}, but its bytes are {known}.",
                f"Remove the property, or set it to {known}.",
            )
    name, value = foreign(found.get("hw_architecture", ""), owner)
    if name:
        better = f", or set it to {found[name]}" if name in found else ""
        raise Problem(
            f"The image's property {name} says {value}, which no ARM server has.",
            f"Remove the property{better}.",
        )
    return {name: value for name, value in found.items() if name not in owner}
