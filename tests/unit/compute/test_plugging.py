"""What a server's network card is told where Open vSwitch moves packets in user space."""

from __future__ import annotations

import pytest
from nova.virt.libvirt.config import LibvirtConfigGuestInterface

from dozencloud.compute.libvirt.plugging import OFFLOADS, complete_packets


@pytest.mark.parametrize("driver", ["qemu", None])
def test_the_server_leaves_no_work_to_its_card(driver: str | None) -> None:
    card = LibvirtConfigGuestInterface()
    card.net_type, card.mac_addr, card.model = "ethernet", "02:00:00:00:00:01", "virtio"
    card.driver_name = driver
    complete_packets(card)
    made = card.format_dom()
    assert dict(made.find("driver/host").attrib) == dict.fromkeys(OFFLOADS, "off")
    assert made.find("driver").get("name") == driver
