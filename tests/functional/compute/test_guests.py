"""Every kind of server through our driver's own XML on a real libvirtd, to its prompt.

Only a start shows that libvirt and QEMU take the XML as it is meant, and that firmware's variables
stay.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("libvirt", reason="Debian's libvirt bindings need root once to be linked")

import foreign
from lxml import etree
from novakit import Disks, NovaKit, Server

from dozencloud.compute.libvirt import guest
from dozencloud.compute.refusal import Refused
from dozencloud.facts.kvm import kvm
from dozencloud.host.distributions import registry
from dozencloud.images.tiny import direct, uefi

pytestmark = [
    pytest.mark.functional,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        kvm().usable and platform.machine() == "aarch64",
        reason="the rows are those of a host that emulates",
    ),
]

COMMON = {
    "hw_machine_type": "virt",
    "hw_disk_bus": "virtio",
    "hw_rng_model": "virtio",
    "hw_video_model": "none",
    "hw_cdrom_bus": "scsi",
    "hw_scsi_model": "virtio-scsi",
}
EMULATORS = {"mipsel": "mipsel", "ppc64le": "ppc64", "s390x": "s390x"}


@pytest.fixture(scope="module")
def kit() -> Iterator[NovaKit]:
    with NovaKit() as made:
        yield made


def by_kernel(kit: NovaKit, image: direct.TinyImage, **properties: str) -> Server:
    return kit.server(
        {
            **COMMON,
            "hw_architecture": image.architecture,
            "os_command_line": image.command_line,
            **properties,
        },
        Disks(image.disk, image.kernel, image.initrd),
        vcpus=2,
    )


def threads(pid: int) -> set[str]:
    return {path.read_text().strip() for path in Path(f"/proc/{pid}/task").glob("*/comm")}


@pytest.mark.parametrize("architecture", ["aarch64", "armv7l"])
def test_by_kernel(architecture: str, kit: NovaKit, cache: Path) -> None:
    server = by_kernel(kit, direct.build(architecture, cache))
    kit.start(server)
    kit.wait(server, "login:")
    assert f"({architecture}, Linux" in server.console
    assert "EDK II" not in server.console and "UEFI firmware" not in server.console
    xml = etree.fromstring(kit.dumpxml(server).encode())
    assert xml.findtext("cpu/model") == guest.MACHINES[architecture].cpu
    ports = xml.xpath("devices/controller[@model='pcie-root-port']")
    assert len(ports) == 14
    pid = int((kit.folder / f"run/qemu/{server.instance.name}.pid").read_text())
    # One thread for each emulated CPU, not one for all.
    assert {"CPU 0/TCG", "CPU 1/TCG"} <= threads(pid)
    kit.destroy(server)


def variables(kit: NovaKit, server: Server) -> Path:
    return kit.folder / f"lib/qemu/nvram/{server.instance.name}_VARS.fd"


@pytest.mark.parametrize("architecture", ["aarch64", "armv7l"])
def test_by_uefi_with_variables_that_stay(architecture: str, kit: NovaKit, cache: Path) -> None:
    disk = uefi.build(cache).disk if architecture == "aarch64" else None
    # The disk of the 32-bit one is empty: its firmware's own shell is the prompt.
    prompt = "login:" if disk else r"UEFI Interactive Shell"
    properties = {**COMMON, "hw_architecture": architecture, "hw_firmware_type": "uefi"}
    server = kit.server(properties, Disks(disk))
    kit.start(server)
    if disk:
        kit.wait(server, r"EXT4-fs \(vda2\): mounted", 90)  # the state, on the second partition
    kit.wait(server, prompt, 90)
    before = variables(kit, server)
    file, written = before.stat().st_ino, before.read_bytes()
    template = etree.fromstring(kit.dumpxml(server).encode()).find("os/nvram").get("template")
    if template:  # libvirt 9 keeps it
        assert written != Path(template).read_bytes()

    kit.driver.reboot(
        kit.context, server.instance, server.network_info, "HARD", block_device_info={}
    )
    kit.wait(server, prompt, 90)
    assert variables(kit, server).stat().st_ino == file
    again = etree.fromstring(kit.dumpxml(server).encode())
    assert again.find("features/acpi") is not None
    assert again.find("os/loader") is not None

    kit.destroy(server)
    assert not variables(kit, server).exists()


@pytest.mark.parametrize("architecture", foreign.PORTS)
def test_other_processors(architecture: str, kit: NovaKit, cache: Path) -> None:
    if shutil.which(f"qemu-system-{EMULATORS[architecture]}") is None:
        pytest.skip(f"{registry.here().emulators[architecture]} is not installed")
    server = kit.server(
        {
            **COMMON,
            "hw_architecture": architecture,
            "hw_machine_type": foreign.PORTS[architecture].machine,
        },
        foreign.system(architecture, cache),
        memory=256 if architecture == "mipsel" else 512,
    )
    kit.start(server)
    kit.wait(server, "ready on " + ("mips" if architecture == "mipsel" else architecture), 90)
    kit.destroy(server)


def test_a_kernel_of_the_other_width_is_refused(kit: NovaKit, cache: Path) -> None:
    image = direct.build("armv7l", cache)
    server = by_kernel(kit, image, hw_architecture="aarch64")
    with pytest.raises(Refused, match="is aarch64, but its kernel is for armv7l") as caught:
        kit.start(server)
    assert len(caught.value.format_message()) <= 255  # what Nova keeps of a fault
    forced = by_kernel(kit, image, hw_architecture="aarch64", dozen_boot_check="skip")
    kit.start(forced)
    assert forced.console == ""
    kit.destroy(forced)


def test_a_disk_for_pcs_is_refused(kit: NovaKit, tmp_path: Path, cache: Path) -> None:
    wide = uefi.build(cache).disk
    properties = {**COMMON, "hw_architecture": "armv7l", "hw_firmware_type": "uefi"}
    server = kit.server(properties, Disks(wide))
    with pytest.raises(Refused, match="the EFI loader on its disk is for aarch64"):
        kit.start(server)


def test_riscv64_is_no_architecture_of_nova(kit: NovaKit) -> None:
    """Nova 34 has no name for it; this fails when it gets one."""
    with pytest.raises(ValueError, match="riscv64"):
        kit.xml(kit.server({**COMMON, "hw_architecture": "riscv64"}))
