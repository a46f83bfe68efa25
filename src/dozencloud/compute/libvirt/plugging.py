"""Servers' network devices, plugged into Open vSwitch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lxml import etree
from nova.virt.libvirt.config import LibvirtConfigGuestInterface
from nova.virt.libvirt.vif import LibvirtGenericVIFDriver
from oslo_log import log
from vif_plug_ovs import linux_net

LOG = log.getLogger(__name__)

UP, PROMISCUOUS = 0x1, 0x100
"""Flags of a network device (IFF_UP, IFF_PROMISC in linux/if.h)."""
OFFLOADS = ("csum", "gso", "tso4", "tso6", "ecn", "ufo")
"""Work that a server may leave to its virtio card (libvirt's names)."""
SECONDS = 5.0
"""How long Open vSwitch may take for a new port: some 20 ms, more on a busy machine."""


class VIFDriver(LibvirtGenericVIFDriver):  # type: ignore[misc]  # nova is untyped
    """Upstream's, with devices that are up in the end and whose packets fit into tunnels."""

    def get_config(
        self, instance: Any, vif: Any, image_meta: Any, flavor: Any, virt_type: Any
    ) -> Any:
        made = super().get_config(instance, vif, image_meta, flavor, virt_type)
        if vif["details"].get("datapath_type") == "netdev" and made.model == "virtio":
            complete_packets(made)
        return made

    def plug(self, instance: Any, vif: Any) -> None:
        super().plug(instance, vif)
        keep_up(self.get_vif_devname(vif))


def complete_packets(card: LibvirtConfigGuestInterface) -> None:
    """Have the server of this virtio card compute checksums and cut segments itself.

    What is left to the card Open vSwitch drops in user space where a tunnel begins, before its
    version 3.3: "Tunneling packets with HW offload flags is not supported". The card keeps its
    class, by which upstream looks for it when it is detached.
    """
    upstream = card.format_dom

    def format_dom() -> Any:
        made = upstream()
        driver = made.find("driver")
        if driver is None:
            driver = etree.SubElement(made, "driver")
        etree.SubElement(driver, "host", dict.fromkeys(OFFLOADS, "off"))
        return made

    card.format_dom = format_dom


def keep_up(device: str) -> None:
    """See that a plugged device is up once Open vSwitch is done with it.

    os-vif makes the device and sets it up; at the same time vswitchd, in user space, reads its
    flags and writes them back with IFF_PROMISC. Of 100 devices one stayed down, and its server
    without network. After IFF_PROMISC vswitchd writes no more.
    """
    path = Path("/sys/class/net", device, "flags")
    end = time.monotonic() + SECONDS
    while path.exists():
        flags = int(path.read_text(), 16)
        if flags & PROMISCUOUS or time.monotonic() > end:
            if not flags & UP:
                LOG.info("Open vSwitch had set %s down; it is set up again.", device)
                linux_net.set_interface_state(device, "up")
            return
        time.sleep(0.005)
