"""Debian."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from dozencloud.host.distributions.base import UNITS, Distribution, Paths, TimeService
from dozencloud.host.distributions.needs import Need
from dozencloud.host.packagemanagers.apt import Apt

MODULES = Path("/usr/lib/python3/dist-packages")
"""Modules of the system's own Python, which the environment is made from."""
FIRMWARE = Path("/usr/share/AAVMF")

PACKAGES = {
    Need.CERTIFICATES: ("ca-certificates",),
    Need.FILE_SYSTEMS: ("e2fsprogs",),
    Need.CONFIG_DRIVES: ("genisoimage",),
    Need.LINKS: ("iproute2",),
    Need.OPTION_ROM: ("ipxe-qemu",),
    Need.STREAMS: ("libnginx-mod-stream",),
    Need.SYSTEM_CALLS: ("libseccomp2",),
    Need.VIRSH: ("libvirt-clients",),
    Need.LIBVIRT: ("libvirt-daemon",),
    Need.LIBVIRT_QEMU: ("libvirt-daemon-driver-qemu",),
    Need.LIBVIRT_PYTHON: ("python3-libvirt",),
    Need.NFTABLES: ("nftables",),
    Need.GATEWAY: ("nginx",),
    Need.SWITCH: ("openvswitch-switch",),
    Need.OVN_HOST: ("ovn-host",),
    Need.FIRMWARE_AARCH64: ("qemu-efi-aarch64",),
    Need.FIRMWARE_ARMV7: ("qemu-efi-arm",),
    Need.EMULATORS: ("qemu-system-arm",),
    Need.DISKS: ("qemu-utils",),
    Need.CHECKSUMS: ("ethtool",),
    Need.PING: ("fping",),
    Need.SIGNATURES: ("gpgv",),
    Need.METADATA: ("haproxy",),
    Need.METADATA_RULE: ("iptables",),
    Need.DATABASE: ("mariadb-server-core",),
    Need.DATABASE_CLIENT: ("mariadb-client-core",),
    Need.DATABASE_DUMP: ("mariadb-client",),
    Need.CACHE: ("memcached",),
    Need.SSH: ("openssh-client",),
    Need.OVN_CENTRAL: ("ovn-central",),
    Need.BROKER: ("rabbitmq-server",),
    Need.IMAGE_BUILDER: ("mmdebstrap", "arch-test"),
    Need.TIME: ("chrony",),
}
BY_MACHINE = {"x86_64": {Need.OWN_EMULATOR: ("qemu-system-x86",)}}
BY_VERSION = {
    # From Debian 13 on the driver's own package makes the user.
    "12": {Need.LIBVIRT_USER: ("libvirt-daemon-system",)},
    # Packages of their own since libvirt 10.6.
    "13": {
        Need.LIBVIRT_STORAGE: ("libvirt-daemon-driver-storage",),
        Need.LIBVIRT_LOG: ("libvirt-daemon-log",),
    },
}


class Debian(Distribution):
    id = "debian"
    name = "Debian"
    versions: ClassVar[tuple[str, ...]] = ("12", "13")
    # Debian 13 has no Open vSwitch for armhf.
    board_versions: ClassVar[tuple[str, ...]] = ("12",)
    manager = Apt()
    paths = Paths(
        nginx_modules=Path("/usr/lib/nginx/modules"),
        firmware_aarch64=(
            (FIRMWARE / "AAVMF_CODE.no-secboot.fd", FIRMWARE / "AAVMF_VARS.fd"),
            (FIRMWARE / "AAVMF_CODE.fd", FIRMWARE / "AAVMF_VARS.fd"),
        ),
        firmware_armv7=((FIRMWARE / "AAVMF32_CODE.fd", FIRMWARE / "AAVMF32_VARS.fd"),),
    )
    time = TimeService("chrony", "_chrony")
    emulators: ClassVar[Mapping[str, str]] = {
        "aarch64": "qemu-system-arm",
        "armv7l": "qemu-system-arm",
        "ppc64le": "qemu-system-ppc",
        "s390x": "qemu-system-misc",
        "mipsel": "qemu-system-mips",
    }
    units = (
        *UNITS,
        "nginx.service",
        "openvswitch-switch.service",
        "ovn-central.service",
        "ovn-host.service",
    )

    def packages(self, need: Need, machine: str = "") -> tuple[str, ...]:
        for table in (BY_VERSION.get(self.version, {}), BY_MACHINE.get(machine, {}), PACKAGES):
            if need in table:
                return table[need]
        return ()

    def bind(self, environment: Path) -> None:
        """Link Debian's package into it."""
        (target,) = environment.glob("lib/python3.*/site-packages")
        for path in [*MODULES.glob("libvirt*.py"), *MODULES.glob("libvirtmod*.so")]:
            link = target / path.name
            if not link.is_symlink():
                link.unlink(missing_ok=True)
                link.symlink_to(path)
