"""What a server's domain consists of: a row for each kind of server on each kind of host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from nova.objects.fields import Architecture
from nova.objects.image_meta import ImageMetaProps
from nova.virt.libvirt import config
from nova.virt.libvirt.driver import CONSOLE

from dozencloud.compute.abilities import Abilities, Accelerator
from dozencloud.compute.libvirt import guest
from dozencloud.errors import Problem
from dozencloud.facts.firmware import Firmware

AARCH64, ARMV7, X86_64 = Architecture.AARCH64, Architecture.ARMV7, Architecture.X86_64
KVM, QEMU = Accelerator.KVM, Accelerator.QEMU
FIRMWARE = Firmware(Path("/aavmf32/code.fd"), Path("/aavmf32/vars.fd"))

ON_X86: Mapping[str, Accelerator] = dict.fromkeys((X86_64, AARCH64, ARMV7, *guest.MACHINES), QEMU)
ON_ARM_KVM = {AARCH64: KVM, ARMV7: KVM, X86_64: QEMU}
ON_ARM_64_ONLY = {AARCH64: KVM, ARMV7: QEMU}
ON_ARM_WITHOUT_KVM = {AARCH64: QEMU, ARMV7: QEMU}


def host(
    runs: Mapping[str, Accelerator] = ON_X86,
    *,
    accepts: bool = True,
    firmware: Firmware | None = FIRMWARE,
    tb_cache: int = 256,
) -> guest.Host:
    machine = X86_64 if runs is ON_X86 else AARCH64
    return guest.Host(Abilities(machine, runs, ()), accepts, firmware, tb_cache)


def upstream(arch: str, **fields: object) -> Any:
    """A domain as Nova leaves it: with what is right for a PC."""
    made = config.LibvirtConfigGuest()
    made.uuid, made.name, made.memory, made.vcpus = "u", "n", 1024, 1
    made.virt_type, made.os_type, made.os_arch = "kvm", "hvm", arch
    made.os_mach_type = "virt"
    made.cpu = config.LibvirtConfigGuestCPU()
    made.cpu.mode = "host-passthrough"
    made.features = [
        config.LibvirtConfigGuestFeatureACPI(),
        config.LibvirtConfigGuestFeatureAPIC(),
        config.LibvirtConfigGuestFeaturePMU(True),
    ]
    made.clock = config.LibvirtConfigGuestClock()
    made.clock.add_timer(config.LibvirtConfigGuestTimer())
    for name, value in fields.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


def mended(arch: str, where: guest.Host, **fields: object) -> Any:
    made = upstream(arch, **fields)
    guest.mend(made, where)
    return etree.fromstring(made.to_xml())


@pytest.mark.parametrize(
    ("arch", "runs", "kind", "mode", "model"),
    [
        (AARCH64, ON_ARM_KVM, "kvm", "host-passthrough", None),
        (ARMV7, ON_ARM_KVM, "kvm", "host-passthrough", None),
        (AARCH64, ON_ARM_64_ONLY, "kvm", "host-passthrough", None),
        (ARMV7, ON_ARM_64_ONLY, "qemu", None, "cortex-a15"),
        (AARCH64, ON_ARM_WITHOUT_KVM, "qemu", None, "cortex-a57"),
        (ARMV7, ON_ARM_WITHOUT_KVM, "qemu", None, "cortex-a15"),
        (AARCH64, ON_X86, "qemu", None, "cortex-a57"),
        (ARMV7, ON_X86, "qemu", None, "cortex-a15"),
        (Architecture.PPC64LE, ON_X86, "qemu", None, "POWER9"),
        (Architecture.S390X, ON_X86, "qemu", None, None),
        (Architecture.MIPSEL, ON_X86, "qemu", None, None),
    ],
)
def test_accelerator_and_processor(
    arch: str, runs: Mapping[str, Accelerator], kind: str, mode: str | None, model: str | None
) -> None:
    xml = mended(arch, host(runs))
    assert xml.get("type") == kind
    assert xml.find("cpu").get("mode") == mode
    assert xml.findtext("cpu/model") == model
    features = [(each.get("name"), each.get("policy")) for each in xml.iterfind("cpu/feature")]
    assert features == ([("sve", "disable")] if (arch, kind) == (ARMV7, "kvm") else [])


def test_the_operators_own_model_stays() -> None:
    cpu = config.LibvirtConfigGuestCPU()
    cpu.mode, cpu.model = "custom", "neoverse-n1"
    assert mended(AARCH64, host(), cpu=cpu).findtext("cpu/model") == "neoverse-n1"


def test_a_machine_without_models_has_none() -> None:
    assert mended(Architecture.MIPSEL, host(), cpu=None).find("cpu") is None


@pytest.mark.parametrize(
    ("arch", "runs", "firmware", "kept"),
    [
        (AARCH64, ON_X86, "efi", {"acpi", "tcg"}),
        (AARCH64, ON_X86, None, {"tcg"}),
        (ARMV7, ON_X86, "efi", {"acpi", "tcg"}),
        (AARCH64, ON_ARM_KVM, "efi", {"acpi", "pmu"}),
        (ARMV7, ON_ARM_KVM, "efi", {"acpi", "pmu"}),
        (AARCH64, ON_ARM_WITHOUT_KVM, "efi", {"acpi", "tcg"}),
        (Architecture.S390X, ON_X86, None, {"tcg"}),
        (X86_64, ON_X86, None, {"acpi", "apic", "tcg"}),
    ],
)
def test_features(
    arch: str, runs: Mapping[str, Accelerator], firmware: str | None, kept: set[str]
) -> None:
    xml = mended(arch, host(runs), os_firmware=firmware)
    assert {each.tag for each in xml.find("features")} == kept


def test_the_cache_of_translated_code_is_the_operators() -> None:
    assert mended(AARCH64, host(tb_cache=64)).findtext("features/tcg/tb-cache") == "64"
    assert mended(AARCH64, host(tb_cache=0)).find("features/tcg") is None


@pytest.mark.parametrize(
    ("arch", "runs", "vcpus", "version"),
    [
        (AARCH64, ON_X86, 8, None),
        (AARCH64, ON_X86, 9, "3"),
        (AARCH64, ON_ARM_KVM, 9, None),  # libvirt takes what KVM has
        (Architecture.PPC64LE, ON_X86, 9, None),
    ],
)
def test_more_than_eight_cpus_need_another_interrupt_controller(
    arch: str, runs: Mapping[str, Accelerator], vcpus: int, version: str | None
) -> None:
    gic = mended(arch, host(runs), vcpus=vcpus).find("features/gic")
    assert (None if gic is None else gic.get("version")) == version


@pytest.mark.parametrize(
    ("secure", "accepts", "loader_secure"),
    [
        # libvirt of Debian 12 refuses secure='no' beside firmware='efi'.
        (False, False, None),
        (False, True, "no"),
        # What was asked for is never dropped in silence.
        (True, False, "yes"),
        (True, True, "yes"),
        (None, False, None),
    ],
)
def test_secure_boot_of_firmware_that_libvirt_chooses(
    secure: bool | None, accepts: bool, loader_secure: str | None
) -> None:
    xml = mended(AARCH64, host(accepts=accepts), os_firmware="efi", os_loader_secure=secure)
    assert xml.find("os").get("firmware") == "efi"
    loader = xml.find("os/loader")
    assert (None if loader is None else loader.get("secure")) == loader_secure


@pytest.mark.parametrize("arch", [AARCH64, ARMV7])
def test_a_kernel_has_no_firmware_in_front_of_it(arch: str) -> None:
    xml = mended(
        arch,
        host(),
        os_kernel="/k",
        os_firmware="efi",
        os_loader_secure=False,
        os_loader="/code",
        os_nvram="/vars",
        os_nvram_template="/template",
    )
    assert xml.find("os").get("firmware") is None
    assert [each.tag for each in xml.find("os")] == ["type", "kernel"]
    assert xml.find("features/acpi") is None


def test_firmware_of_32_bit_servers_is_named() -> None:
    xml = mended(ARMV7, host(accepts=False), os_firmware="efi", os_loader_secure=False)
    loader, nvram = xml.find("os/loader"), xml.find("os/nvram")
    assert xml.find("os").get("firmware") is None
    assert (loader.text, loader.get("type"), loader.get("readonly")) == (
        *("/aavmf32/code.fd", "pflash", "yes"),
    )
    assert loader.get("secure") is None
    assert (nvram.text, nvram.get("template")) == (None, "/aavmf32/vars.fd")


def test_firmware_that_a_server_had_before_stays() -> None:
    before = {
        "os_loader": "/old/code.fd",
        "os_loader_type": "pflash",
        "os_nvram": "/nvram/n_VARS.fd",
        "os_nvram_template": "/old/vars.fd",
    }
    for arch in (AARCH64, ARMV7):
        xml = mended(arch, host(), **before)
        assert xml.findtext("os/loader") == "/old/code.fd"
        assert xml.findtext("os/nvram") == "/nvram/n_VARS.fd"
        assert xml.find("features/acpi") is not None  # also after a hard reboot


def test_missing_firmware_is_said() -> None:
    with pytest.raises(Problem, match=r"no UEFI firmware for 32-bit ARM.*qemu-efi-arm"):
        mended(ARMV7, host(firmware=None))


@pytest.mark.parametrize(
    ("arch", "given", "line"),
    [
        (AARCH64, f"root=/dev/vda {CONSOLE} no_timer_check", "root=/dev/vda console=ttyAMA0"),
        (ARMV7, f"root=/dev/vda {CONSOLE}", "root=/dev/vda console=ttyAMA0"),
        (Architecture.S390X, f"root=/dev/vda {CONSOLE}", "root=/dev/vda console=ttysclp0"),
        (AARCH64, "console=tty0 quiet", "console=tty0 quiet"),
        (X86_64, f"root=/dev/vda {CONSOLE}", f"root=/dev/vda {CONSOLE}"),
    ],
)
def test_the_console_is_the_machines_own(arch: str, given: str, line: str) -> None:
    assert mended(arch, host(), os_kernel="/k", os_cmdline=given).findtext("os/cmdline") == line


def test_a_pcs_timers_go() -> None:
    assert mended(AARCH64, host(ON_ARM_KVM)).find("clock/timer") is None
    assert mended(X86_64, host()).find("clock/timer") is not None


@pytest.mark.parametrize(
    ("arch", "machine", "has"),
    [
        (AARCH64, "virt", True),
        (AARCH64, "virt-7.2", True),
        (ARMV7, "virt", True),
        (AARCH64, "raspi3b", False),
        (AARCH64, None, False),
        (Architecture.PPC64LE, "pseries", False),
        (X86_64, "pc", False),
    ],
)
def test_ports_for_plugging_in(arch: str, machine: str | None, has: bool) -> None:
    assert guest.has_hotplug_ports(upstream(arch, os_mach_type=machine)) is has


@pytest.mark.parametrize(
    ("arch", "package"),
    [
        (Architecture.PPC64LE, "qemu-system-ppc"),
        (Architecture.S390X, "qemu-system-misc"),
        (Architecture.MIPSEL, "qemu-system-mips"),
    ],
)
def test_a_missing_emulator_is_named(arch: str, package: str) -> None:
    found = Abilities(AARCH64, ON_ARM_KVM, ())
    with pytest.raises(Problem, match=f"no emulator for {arch} servers.*install {package},"):
        guest.refuse_foreign(arch, found)
    guest.refuse_foreign(AARCH64, found)


def test_an_architecture_that_nobody_emulates() -> None:
    with pytest.raises(Problem, match="No emulator here runs alpha servers"):
        guest.refuse_foreign("alpha", Abilities(AARCH64, ON_ARM_KVM, ()))


def test_hardware_of_a_pc_is_refused_before_libvirt_sees_it() -> None:
    image = ImageMetaProps.from_dict({"hw_machine_type": "q35", "hw_video_model": "qxl"})
    with pytest.raises(Problem, match=r"hw_machine_type=q35, which no ARM server has.*--property"):
        guest.refuse_unfit(AARCH64, image)
    guest.refuse_unfit(X86_64, image)
    guest.refuse_unfit(AARCH64, ImageMetaProps.from_dict({"hw_machine_type": "virt-7.2"}))
    guest.refuse_unfit(AARCH64, ImageMetaProps())


def disk(bus: str) -> Any:
    made = config.LibvirtConfigGuestDisk()
    made.target_bus = bus
    return made


def controller(kind: str, model: str | None = None) -> Any:
    made = config.LibvirtConfigGuestController()
    made.type, made.model = kind, model
    return made


@pytest.mark.parametrize(
    ("devices", "added"),
    [
        ([], False),
        ([disk("virtio")], False),
        ([disk("scsi")], True),
        ([disk("virtio"), disk("scsi"), disk("scsi")], True),
        ([disk("scsi"), controller("scsi", "lsilogic")], False),
        ([disk("scsi"), controller("usb")], True),
        ([controller("usb")], False),
    ],
)
def test_scsi_disks_get_a_controller(devices: list[Any], added: bool) -> None:
    made = list(devices)
    guest.add_scsi_controller(made)
    new = made[len(devices) :]
    assert made[: len(devices)] == devices
    assert len(new) == added
    for one in new:
        assert 'type="scsi"' in one.to_xml()
        assert 'model="virtio-scsi"' in one.to_xml()


@pytest.mark.parametrize(
    ("arch", "buses", "found"),
    [
        (ARMV7, ["virtio", "ide"], [("a", "virtio"), ("sda", "scsi")]),
        (ARMV7, ["scsi", "ide", "ide"], [("a", "scsi"), ("sda", "scsi"), ("sdb", "scsi")]),
        (AARCH64, ["virtio"], [("a", "virtio")]),
        (Architecture.MIPSEL, ["ide"], [("a", "ide")]),
        (X86_64, ["ide"], [("a", "ide")]),
    ],
)
def test_arm_has_no_ide(arch: str, buses: list[str], found: list[tuple[str, str]]) -> None:
    devices: list[Any] = []
    for name, bus in zip("abc", buses, strict=False):
        one = disk(bus)
        one.target_dev = name
        devices.append(one)
    made = upstream(arch, devices=devices)
    guest.mend(made, host())
    disks = made.devices[: len(buses)]
    assert [(each.target_dev, each.target_bus) for each in disks] == found
    added = made.devices[len(buses) :]
    assert bool(added) is any(bus == "scsi" for _, bus in found)
