"""Fedora. Not tried on a real one: its mirrors could not be reached where this was written.

Names and paths are from the specs of its packages, as they were in Rawhide on 2025-02-16 (which
became Fedora 42) and on 2026-08-22 (ten days after Fedora 45 was branched). What both agree in is
taken to hold between them. dnf itself runs in tests/functional/host/test_dnf.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from dozencloud.errors import Exit, Problem
from dozencloud.host.distributions.base import UNITS, Distribution, Paths, TimeService
from dozencloud.host.distributions.needs import Need
from dozencloud.host.packagemanagers.dnf import Dnf

FIRMWARE = Path("/usr/share/edk2/aarch64")

PACKAGES = {
    Need.CERTIFICATES: ("ca-certificates",),
    Need.ARCHIVE: ("apt", "dpkg"),
    Need.ARCHIVE_KEYS: ("debian-keyring",),
    Need.FILE_SYSTEMS: ("e2fsprogs",),
    Need.CONFIG_DRIVES: ("genisoimage",),
    Need.LINKS: ("iproute",),
    Need.OPTION_ROM: ("ipxe-roms-qemu",),
    Need.STREAMS: ("nginx-mod-stream",),
    Need.SYSTEM_CALLS: ("libseccomp",),
    Need.VIRSH: ("libvirt-client",),
    Need.LIBVIRT: ("libvirt-daemon",),
    Need.LIBVIRT_QEMU: ("libvirt-daemon-driver-qemu",),
    Need.LIBVIRT_STORAGE: ("libvirt-daemon-driver-storage-core",),
    Need.LIBVIRT_LOG: ("libvirt-daemon-log",),
    Need.NFTABLES: ("nftables",),
    # Without the unit and the start page, which are in `nginx`.
    Need.GATEWAY: ("nginx-core",),
    Need.SWITCH: ("openvswitch",),
    Need.OVN_HOST: ("ovn-host",),
    Need.FIRMWARE_AARCH64: ("edk2-aarch64",),
    Need.EMULATORS: ("qemu-system-aarch64-core", "qemu-system-arm-core"),
    # QEMU's devices are modules with packages of their own.
    Need.SCREENS: ("qemu-device-display-virtio-gpu", "qemu-device-display-virtio-gpu-pci"),
    Need.DISKS: ("qemu-img",),
    Need.CHECKSUMS: ("ethtool",),
    Need.PING: ("fping",),
    # gpgv was in `gnupg2` itself until its parts had packages of their own, which it requires.
    Need.SIGNATURES: ("gnupg2",),
    Need.METADATA: ("haproxy",),
    Need.METADATA_RULE: ("iptables-nft",),
    Need.DATABASE: ("mariadb-server",),
    Need.DATABASE_CLIENT: ("mariadb",),
    Need.DATABASE_DUMP: ("mariadb",),
    Need.CACHE: ("memcached",),
    Need.SSH: ("openssh-clients",),
    Need.OVN_CENTRAL: ("ovn-central",),
    Need.BROKER: ("rabbitmq-server",),
    Need.TIME: ("chrony",),
}
BY_MACHINE = {"x86_64": {Need.OWN_EMULATOR: ("qemu-system-x86-core",)}}

LACKS = {
    Need.FIRMWARE_ARMV7: (
        "Fedora has no UEFI firmware for 32-bit ARM servers (edk2-arm is gone since 42).",
        "Take an image whose kernel is apart from its disk, or a node with Debian.",
    ),
    Need.IMAGE_BUILDER: (
        "Fedora has no mmdebstrap, which makes the root of a Debian image.",
        "Build the image on a machine with Debian, then import its file: dozen image import",
    ),
}
"""What is wrong, and what to do."""


class Fedora(Distribution):
    id = "fedora"
    name = "Fedora"
    # Maintained at the end of 2026 by its published schedule; python3.13 is a package of both.
    versions = ("44", "45")
    untried = "DozenCloud was not tried on a real Fedora"
    manager = Dnf()
    paths = Paths(
        nginx_modules=Path("/usr/lib64/nginx/modules"),
        # The other build writes what it does to the console, and starts slower.
        firmware_aarch64=(
            (FIRMWARE / "QEMU_EFI-silent-pflash.raw", FIRMWARE / "vars-template-pflash.raw"),
        ),
        firmware_armv7=(),
    )
    time = TimeService("chronyd", "chrony")
    emulators: ClassVar[Mapping[str, str]] = {
        "aarch64": "qemu-system-aarch64-core",
        "armv7l": "qemu-system-arm-core",
        "ppc64le": "qemu-system-ppc-core",
        "s390x": "qemu-system-s390x-core",
        "mipsel": "qemu-system-mips-core",
    }
    units = (
        *UNITS,
        "mariadb.service",
        "openvswitch.service",
        "ovsdb-server.service",
        "ovs-vswitchd.service",
        "ovn-controller.service",
        "ovn-northd.service",
        "virtproxyd.service",
        "virtproxyd.socket",
        "virtproxyd-admin.socket",
        "virtproxyd-ro.socket",
        "virtqemud.service",
        "virtqemud.socket",
        "virtqemud-admin.socket",
        "virtqemud-ro.socket",
        "virtstoraged.service",
        "virtstoraged.socket",
        "virtstoraged-admin.socket",
        "virtstoraged-ro.socket",
    )

    def packages(self, need: Need, machine: str = "") -> tuple[str, ...]:
        return BY_MACHINE.get(machine, {}).get(need, PACKAGES.get(need, ()))

    def lacks(self, need: Need) -> Problem | None:
        return Problem(*LACKS[need], code=Exit.UNFIT) if need in LACKS else None

    def bind(self, environment: Path) -> None:
        """Nothing: the launcher compiles it for python3.13, which Fedora's own is not for."""
