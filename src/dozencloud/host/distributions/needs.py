"""What a cloud needs of the system's packages. Each distribution says in which of its own it is."""

from __future__ import annotations

from enum import StrEnum


class Need(StrEnum):
    """The value says why, for the table of packages in docs/dependencies.md."""

    CERTIFICATES = "certificates of servers outside"
    ARCHIVE = "reads Debian's archive, which the ARM image is made from"
    ARCHIVE_KEYS = "Debian's signing keys, for the ARM image"
    FILE_SYSTEMS = "the file system of the ARM image's state disk"
    CONFIG_DRIVES = "config drives"
    LINKS = "namespaces, links, addresses"
    OPTION_ROM = "ROM of virtio-net; QEMU refuses to start without the file"
    STREAMS = "TLS for what nodes and the controller have from each other"
    SYSTEM_CALLS = "the lists of system calls that services may not use"
    VIRSH = "`virsh`: asks libvirt to look at the emulators before Nova does"
    LIBVIRT = "libvirtd, and virtlogd where that has no package of its own"
    LIBVIRT_QEMU = "QEMU for libvirt"
    LIBVIRT_STORAGE = "disks of servers go to another node by it"
    LIBVIRT_LOG = "virtlogd"
    LIBVIRT_USER = "makes the user that libvirt looks up at its start, whatever qemu.conf says"
    LIBVIRT_PYTHON = "libvirt for Python, compiled; PyPI has its source only"
    NFTABLES = "addresses of servers that go out"
    GATEWAY = "the gateway"
    SWITCH = "the switch"
    OVN_HOST = "OVN's controller"
    FIRMWARE_AARCH64 = "UEFI for AArch64 servers"
    FIRMWARE_ARMV7 = "UEFI for ARMv7 servers"
    EMULATORS = "the ARM machines"
    SCREENS = "the screens of ARM servers (virtio-gpu)"
    OWN_EMULATOR = (
        "libvirt reports no version where no emulator of the host's own architecture is installed"
    )
    DISKS = "disks of servers"
    CHECKSUMS = (
        "sees that packets to servers are complete where Open vSwitch moves them in user space"
    )
    PING = "asks the routers of all projects at once whether they answer"
    SIGNATURES = "checks the signatures of images that `dozen image get` fetches"
    METADATA = (
        "metadata proxy in each network; Neutron's agent starts it, as the user `dozen-metadata`"
    )
    METADATA_RULE = "checksum rule of the metadata namespaces, set by Neutron"
    DATABASE = "the database"
    DATABASE_CLIENT = "fills the databases"
    DATABASE_DUMP = "`mariadb-dump`, which keeps the databases before an upgrade"
    CACHE = "the token cache"
    SSH = "logs in to servers"
    OVN_CENTRAL = "OVN's databases and northd"
    BROKER = "calls among the services"
    IMAGE_BUILDER = "makes the root of a Debian image (`dozen image build`)"
    TIME = "keeps the clock, where nothing else does: certificates have times in them"


OF_MACHINES = frozenset(
    {
        Need.CERTIFICATES,
        Need.ARCHIVE_KEYS,
        Need.FILE_SYSTEMS,
        Need.LINKS,
        Need.SYSTEM_CALLS,
        Need.NFTABLES,
    }
)
"""What no service takes, but each machine of a cloud. What a service takes, its definition says."""
OF_CONTROLLERS = frozenset({Need.ARCHIVE, Need.CHECKSUMS, Need.PING, Need.SSH})
"""What no service takes, but commands on a controller."""
ON_DEMAND = frozenset({Need.IMAGE_BUILDER})
"""Not installed; the command that needs it says so."""
