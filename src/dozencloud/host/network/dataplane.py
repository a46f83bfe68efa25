"""How packets of servers are moved and carried: what the settings say, or what the kernel has."""

from __future__ import annotations

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.settings import GENEVE, VXLAN
from dozencloud.facts import Datapath, Network


def datapath(cloud: Cloud, found: Network) -> str:
    """Of Open vSwitch: what the settings say, or what the kernel has."""
    chosen = cloud.settings.network.datapath
    if chosen != "auto":
        return chosen
    # A namespace of its own is on a machine where another cloud may have the kernel's.
    return "netdev" if cloud.namespace else str(found.datapath)


def encapsulation(cloud: Cloud, found: Network) -> str:
    """Of other nodes' tunnels to this machine: what the settings say, or what it can receive."""
    chosen = cloud.settings.network.tunnels
    if chosen != "auto":
        return chosen
    # Raspberry Pi's kernel is so.
    without = datapath(cloud, found) == Datapath.SYSTEM and not found.geneve
    return VXLAN if without else GENEVE
