"""Ubuntu: Debian's packages, of a time between two of its releases."""

from __future__ import annotations

from dozencloud.host.distributions.debian import Debian
from dozencloud.host.distributions.needs import Need

BY_VERSION = {
    "24.04": {
        Need.ARCHIVE_KEYS: ("debian-archive-keyring",),
        Need.LIBVIRT_USER: ("libvirt-daemon-system",),
    },
}


class Ubuntu(Debian):
    id = "ubuntu"
    name = "Ubuntu"
    versions = ("24.04",)
    board_versions = ()

    def packages(self, need: Need, machine: str = "") -> tuple[str, ...]:
        return BY_VERSION.get(self.version, {}).get(need) or super().packages(need, machine)
