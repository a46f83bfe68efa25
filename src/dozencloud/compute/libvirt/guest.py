"""What a server's domain consists of on this host: mends what Nova wrote for other hosts.

Nova decides by "is it the host's own architecture", which is neither what KVM can run nor what an
emulated machine has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from nova.objects.fields import Architecture
from nova.virt.libvirt import config
from nova.virt.libvirt.driver import CONSOLE as EVERY_CONSOLE

from dozencloud.compute.abilities import ARM, X86, Abilities, Accelerator
from dozencloud.errors import Problem
from dozencloud.facts.firmware import Firmware
from dozencloud.images import properties

# Since this version libvirt accepts <loader secure='no'/> beside firmware='efi'.
# https://libvirt.org/news.html, 9.2.0; refused since 8.6.0.
LOADER_SECURE_ACCEPTED = (9, 2, 0)

GIC_V2_CPUS = 8
"""More CPUs than that need version 3 of the interrupt controller (GIC architecture, v2)."""


@dataclass(frozen=True)
class Machine:
    """What QEMU's machine for an architecture is.

    console: Linux's name of its first serial port.   cpu: the model that is emulated fastest (None:
        the machine's own).   pcie: devices can be plugged in while it runs, each into a port of its
        own.
    """

    console: str
    cpu: str | None = None
    pcie: bool = False


# Nova 34 has no name for riscv64: it refuses every image that says so.
MACHINES: Mapping[str, Machine] = {
    # `max` has pointer authentication, which in software makes a boot 4 to 5 times slower.
    Architecture.AARCH64: Machine("ttyAMA0", "cortex-a57", pcie=True),
    Architecture.ARMV7: Machine("ttyAMA0", "cortex-a15", pcie=True),
    Architecture.PPC64LE: Machine("hvc0", "POWER9"),
    Architecture.S390X: Machine("ttysclp0"),
    Architecture.MIPSEL: Machine("ttyS0"),
}


@dataclass(frozen=True)
class Host:
    """What the decisions rest on beside the guest.

    accepts_loader_secure: see LOADER_SECURE_ACCEPTED. firmware_armv7: None where not installed.
    tb_cache: MiB of translated code that an emulator may keep (0: its default).
    """

    abilities: Abilities
    accepts_loader_secure: bool
    firmware_armv7: Firmware | None
    tb_cache: int


def refuse_foreign(architecture: str, found: Abilities) -> None:
    """Problem where nothing on this host runs the architecture."""
    if architecture in found.runs:
        return
    from dozencloud.host.distributions import registry  # 5 MiB, which nova-compute does without

    system = registry.here()
    package = system.emulators.get(architecture)
    if package is None:
        raise Problem(
            f"No emulator here runs {architecture} servers.", "Take an image for another processor."
        )
    raise Problem(
        f"This node has no emulator for {architecture} servers.",
        f"Install it there: {system.manager.to_install(package)}, then restart nova-compute.",
    )


def refuse_unfit(architecture: str, image: Any) -> None:
    """Problem where the image asks for hardware of a PC. image: its properties, as Nova has them.

    libvirt would refuse it, too, on each node in turn, and in words about an emulator.
    """
    asked = {name: image.get(name) for name in ("hw_machine_type", *properties.NOT_ON_ARM)}
    name, value = properties.foreign(architecture, asked)
    if name:
        raise Problem(
            f"The image says {name}={value}, which no ARM server has.",
            f"Remove that (openstack image unset --property {name} IMAGE), then create the server "
            "anew.",
        )


def mend(guest: Any, host: Host) -> None:
    """Make Nova's description of a domain right for its architecture on this host."""
    accelerator = host.abilities.runs.get(guest.os_arch, Accelerator.QEMU)
    guest.virt_type = accelerator.value
    _features(guest, accelerator, host.tb_cache)
    if guest.os_arch in ARM:
        _no_ide(guest.devices)
    add_scsi_controller(guest.devices)
    if guest.os_arch in X86:
        return
    _processor(guest, accelerator)
    _firmware(guest, host)
    _acpi(guest)
    _clock(guest)
    _command_line(guest)


def _no_ide(devices: list[Any]) -> None:
    """A CD-ROM, such as the config drive, goes on SCSI: Nova takes IDE for 32-bit ARM servers."""
    disks = [each for each in devices if isinstance(each, config.LibvirtConfigGuestDisk)]
    taken = {disk.target_dev for disk in disks}
    names = (f"sd{letter}" for letter in ascii_lowercase if f"sd{letter}" not in taken)
    for disk in disks:
        if disk.target_bus == "ide":
            disk.target_bus, disk.target_dev = "scsi", next(names)


def add_scsi_controller(devices: list[Any]) -> None:
    """SCSI disks get virtio's controller; libvirt takes one that ARM guests have no driver for.

    Nova writes a controller only where the image names its model.
    """
    disks = any(
        isinstance(device, config.LibvirtConfigGuestDisk) and device.target_bus == "scsi"
        for device in devices
    )
    there = any(
        isinstance(device, config.LibvirtConfigGuestController) and device.type == "scsi"
        for device in devices
    )
    if disks and not there:
        controller = config.LibvirtConfigGuestController()
        controller.type, controller.model, controller.index = "scsi", "virtio-scsi", 0
        devices.append(controller)


def has_hotplug_ports(guest: Any) -> bool:
    """Whether its machine is one whose PCI Express ports must be there from the beginning."""
    machine = MACHINES.get(guest.os_arch)
    virt = (guest.os_mach_type or "").startswith("virt")
    return machine is not None and machine.pcie and virt


def _without(guest: Any, *kinds: type) -> None:
    guest.features = [each for each in guest.features if not isinstance(each, kinds)]


def _features(guest: Any, accelerator: Accelerator, tb_cache: int) -> None:
    _without(guest, config.LibvirtConfigGuestFeatureTCG)
    if accelerator is Accelerator.KVM:
        return
    # Its counters would count nothing true, and most machines have none.
    _without(guest, config.LibvirtConfigGuestFeaturePMU)
    if tb_cache:
        guest.features.append(config.LibvirtConfigGuestFeatureTCG(tb_cache))
    if guest.os_arch in ARM and guest.vcpus > GIC_V2_CPUS:
        guest.features.append(InterruptController(3))


class InterruptController(config.LibvirtConfigGuestFeature):  # type: ignore[misc]
    """<gic version='N'/>, which Nova never writes; libvirt takes version 2 for emulated guests."""

    def __init__(self, version: int) -> None:
        super().__init__("gic")
        self.version = version

    def format_dom(self) -> Any:
        root = super().format_dom()
        root.set("version", str(self.version))
        return root


def _processor(guest: Any, accelerator: Accelerator) -> None:
    cpu = guest.cpu
    if cpu is None:
        return
    if accelerator is Accelerator.KVM:
        if guest.os_arch in ARM:  # KVM on ARM offers no other
            cpu.mode, cpu.model = "host-passthrough", None
        if guest.os_arch == Architecture.ARMV7:
            # libvirt makes `-cpu host,aarch64=off` of it, which QEMU refuses where KVM offers SVE.
            cpu.add_feature(config.LibvirtConfigGuestCPUFeature("sve", policy="disable"))
    elif cpu.mode != "custom":  # the operator's own choice
        machine = MACHINES.get(guest.os_arch)
        cpu.mode, cpu.model = None, machine.cpu if machine else None


def _firmware(guest: Any, host: Host) -> None:
    if guest.os_kernel is not None:
        # QEMU starts the kernel itself; firmware in front of it only costs 5 s.
        _no_firmware(guest)
        return
    if guest.os_arch == Architecture.ARMV7 and guest.os_loader is None:
        _name_firmware(guest, host.firmware_armv7)
    refused = guest.os_firmware == "efi" and not host.accepts_loader_secure
    if refused and not guest.os_loader_secure:
        guest.os_loader_secure = None


def _no_firmware(guest: Any) -> None:
    guest.os_firmware = guest.os_firmware_secure = None
    guest.os_loader = guest.os_loader_type = guest.os_loader_readonly = None
    guest.os_loader_secure = guest.os_loader_stateless = None
    guest.os_nvram = guest.os_nvram_template = None


def _name_firmware(guest: Any, firmware: Firmware | None) -> None:
    """libvirt makes a copy of the variables for each server, which goes with its domain."""
    if firmware is None:
        from dozencloud.host.distributions import registry
        from dozencloud.host.distributions.needs import Need

        system, need = registry.here(), Need.FIRMWARE_ARMV7
        raise system.lacks(need) or Problem(
            "This node has no UEFI firmware for 32-bit ARM servers.",
            f"Install it there: {system.to_install(need)}",
        )
    _no_firmware(guest)
    guest.os_loader, guest.os_loader_type = str(firmware.code), "pflash"
    guest.os_loader_readonly = True
    guest.os_nvram_template = str(firmware.variables)


def _acpi(guest: Any) -> None:
    """An ARM guest without UEFI gets a device tree, others nothing; libvirt refuses ACPI there."""
    _without(guest, config.LibvirtConfigGuestFeatureAPIC)
    uefi = guest.os_firmware is not None or guest.os_loader is not None
    if not (uefi and guest.os_arch in ARM):
        _without(guest, config.LibvirtConfigGuestFeatureACPI)


def _clock(guest: Any) -> None:
    """Nova's timers are a PC's."""
    if guest.clock is not None:
        guest.clock.timers = []


def _command_line(guest: Any) -> None:
    """Without the owner's own arguments Nova names the consoles of a PC."""
    machine = MACHINES.get(guest.os_arch)
    if machine and guest.os_cmdline and EVERY_CONSOLE in guest.os_cmdline:
        line = guest.os_cmdline.replace(EVERY_CONSOLE, f"console={machine.console}")
        guest.os_cmdline = line.removesuffix(" no_timer_check")
