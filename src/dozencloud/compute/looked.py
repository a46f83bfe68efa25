"""What the bytes of a server's image say where its properties say nothing.

An image that was uploaded, not imported, may have no properties. Nova takes its servers for such of
the host's own kind, and starts an ARM disk as a PC, which is silent. What is found is kept with the
server, as if its image had said it: all later starts, also on other nodes, read it there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nova.virt.libvirt import config

from dozencloud.compute.abilities import ARM, X86
from dozencloud.errors import Problem
from dozencloud.images.inspection.model import Boot, Inspection
from dozencloud.images.properties import properties

ARCHITECTURES = ("hw_architecture", "hw_emulation_architecture")
OF_ARM = (
    "hw_machine_type",
    "hw_firmware_type",
    "hw_video_model",
    "hw_rng_model",
    "hw_cdrom_bus",
    "hw_scsi_model",
)
"""Properties that make an ARM server of one that Nova takes for a PC."""
KNOWN = (*ARCHITECTURES, *OF_ARM)
ROOT_DISKS = ("disk", "disk.rescue")
"""Names of the disks that are made from an image."""


def missing(
    said: Mapping[str, Any], found: Inspection | None, machine: str, *, kernel: bool
) -> dict[str, str]:
    """The properties that a server lacks, by its bytes; none where they say nothing certain.

    said: what it has. machine: the host's architecture. kernel: it starts from one beside its disk,
    which then is what was looked at. Problem where it cannot start without one.
    """
    if found is None or found.arch is None or any(said.get(name) for name in ARCHITECTURES):
        return {}
    if found.arch in X86 and machine in X86:
        return {}  # as Nova does it
    lacking = {"hw_architecture": found.arch.value}
    if found.arch not in ARM:
        return lacking
    if found.boot is Boot.KERNEL and not kernel:
        raise Problem(
            "This image starts by the kernel inside of it alone, which only an import takes out.",
            "Import it: openstack image create --import, or dozen image import.",
        )
    known = properties(replace(found, boot=Boot.KERNEL if kernel else Boot.UEFI))
    wanted = {name: known[name] for name in OF_ARM if name in known}
    kept = {name: value for name, value in wanted.items() if not said.get(name)}
    # The machine may be what an earlier start left, as that of a PC.
    return lacking | kept | {"hw_machine_type": wanted["hw_machine_type"]}


def large_sectors(devices: list[Any], sector_of: Callable[[Path], int]) -> None:
    """Give a disk the sectors that its image was made for: with others no partition is found."""
    for disk in devices:
        if not isinstance(disk, config.LibvirtConfigGuestDisk) or disk.source_type != "file":
            continue
        path = Path(disk.source_path or "")
        if path.name in ROOT_DISKS and (size := sector_of(path)) != 512:
            disk.logical_block_size = disk.physical_block_size = str(size)
