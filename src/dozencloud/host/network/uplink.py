"""Floating IPs in the network of a card of this machine, where cloud.toml names one.

The card becomes a port of a bridge of the kernel, which gets its addresses (cardmove.py). What is
in there is linked to Open vSwitch:

    LAN | card | br-NAME-lan: this machine | veth | br-NAME-ex | routers of projects

The kernel's bridge, not one of Open vSwitch, because it needs no process: whoever is logged in over
the card stays so while Open vSwitch dies, stops, or moves packets in user space.
A card that is a bridge already is only linked.
"""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.errors import Exit, Problem
from dozencloud.facts.card import Card, card
from dozencloud.facts.run import ask
from dozencloud.host.network import namespace
from dozencloud.tasks.graph import Step
from dozencloud.verdicts import Level, Verdict

STATE = "provider-interface"
"""In the cloud's state: the card in whose network the floating IPs were registered."""
BRIDGED = ("", "vlan", "veth", "bond", "team", "dummy")
"""Kinds of devices whose packets have an Ethernet address that may be another's."""
OWN_BRIDGE = (
    "Make a bridge over it with the program that manages it, give that the address, and name the "
    "bridge in network.provider_interface (docs/operations.md, Floating IPs in your own network)."
)


def bridge(cloud: Cloud) -> str:
    """The bridge that is made above a card."""
    return f"br-{cloud.name}-lan"


def link_devices(cloud: Cloud) -> tuple[str, str]:
    """The kernel's end of the link to Open vSwitch, and the switch's."""
    return f"{cloud.name}-lk", f"{cloud.name}-ls"


def record(cloud: Cloud) -> Path:
    """What the card had before it was touched."""
    return cloud.lib / "card.json"


def look(cloud: Cloud, name: str) -> Card | None:
    return card(name, namespace.in_network(cloud, ()))


def judge(found: Card | None, cloud: Cloud) -> Verdict:
    """Whether the floating IPs can be in the network of this card."""
    name = cloud.settings.network.provider_interface
    ours = bridge(cloud)

    def bad(fact: str, mend: str) -> Verdict:
        return Verdict("card", Level.BAD, fact, mend)

    if found is None:
        mend = f"To see what there is: ip -br link. Then name it in {cloud.file}."
        return bad(f"There is no network card {name} (network.provider_interface).", mend)
    if found.wireless:
        return bad(
            f"{name} is wireless: its access point takes packets of this machine only, not those "
            "of floating IPs.",
            "Use a wired card, or empty network.provider_interface.",
        )
    if found.master == ours:
        return Verdict("card", Level.OK, f"The card {name} is a port of {ours}.")
    if found.master:
        return bad(
            f"{name} is a part of {found.master} already.",
            f"If {found.master} is a bridge or a bond, name that in network.provider_interface.",
        )
    if not found.ethernet or found.kind not in (*BRIDGED, "bridge"):
        kind = found.kind or "no Ethernet card"
        return bad(
            f"{name} cannot be a port of a bridge ({kind}).",
            "Name a wired network card in network.provider_interface.",
        )
    there = cloud.provider
    here = [text for text in found.addresses if ipaddress.IPv4Interface(text) in there]
    if not here:
        has = ", ".join(found.addresses) or "no IPv4 address"
        return bad(
            f"{name} has {has}, and {there} is to be its network (network.provider_cidr).",
            "Give it an address there, or mend that setting.",
        )
    first, last = map(ipaddress.IPv4Address, cloud.floating_range)
    taken = [text for text in here if first <= ipaddress.IPv4Interface(text).ip <= last]
    if taken:
        return bad(
            f"{taken[0]} is this machine's own address, and in network.floating_range.",
            "Choose a range of addresses that nobody has.",
        )
    if found.kind == "bridge":
        return Verdict("card", Level.OK, f"Floating IPs are in the network of the bridge {name}.")
    if found.manager:
        return bad(
            f"{found.manager} manages {name}, and would take back what is moved to a bridge.",
            OWN_BRIDGE,
        )
    if found.passing:
        return bad(
            f"{name} has its address from DHCP, which would not be renewed on a bridge.",
            f"Give it a fixed address. Or: {OWN_BRIDGE[0].lower()}{OWN_BRIDGE[1:]}",
        )
    fact = f"The card {name} becomes a port of {ours}, which gets its addresses."
    return Verdict("card", Level.NOTE, fact)


def above(cloud: Cloud, found: Card) -> str:
    """The bridge that the card is a port of, or is."""
    return found.name if found.kind == "bridge" else bridge(cloud)


def in_place(cloud: Cloud) -> bool:
    """The card is a port, and the link to Open vSwitch is there."""
    found = look(cloud, cloud.settings.network.provider_interface)
    end = look(cloud, link_devices(cloud)[0])
    return (
        found is not None
        and end is not None
        and end.master == above(cloud, found)
        and found.master in ("", end.master)
        and (found.kind == "bridge" or bool(found.master))
    )


def connect(cloud: Cloud, step: Step) -> None:
    """Put the card into the bridge, and the bridge's end of the link; Problem if it cannot be."""
    name = cloud.settings.network.provider_interface
    found = look(cloud, name)
    verdict = judge(found, cloud)
    if verdict.level is Level.BAD or found is None:
        raise Problem(verdict.fact, verdict.mend, code=Exit.UNFIT)
    if found.kind != "bridge" and not found.master:
        step.note(f"{name} to become a port of {bridge(cloud)}")
        moved = step.run(_move(cloud, "take", name), check=False)
        if moved.returncode:
            raise Problem(
                f"{moved.stderr.strip() or f'{name} could not be moved'}.",
                "Empty network.provider_interface, network.provider_gateway and "
                f"network.floating_range in {cloud.file}, or mend what it says.",
            )
    _link(cloud, step, above(cloud, found))
    if cloud.namespace:
        step.run(namespace.nft(cloud, "-f", "-"), input=ruleset(cloud, above(cloud, found)))


def ruleset(cloud: Cloud, over: str) -> str:
    """nftables of a cloud's own namespace: the machine outside has no address in that network."""
    name = f"{cloud.table}-card"
    return f"""\
table inet {name}
delete table inet {name}
table inet {name} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {cloud.link[0]} oifname "{over}" masquerade
  }}
}}
"""


def _link(cloud: Cloud, step: Step, over: str) -> None:
    kernel, switch = link_devices(cloud)
    if look(cloud, kernel) is None:
        add = ("link", "add", kernel, "type", "veth", "peer", "name", switch)
        step.run(namespace.ip(cloud, *add))
    for device in (kernel, switch):
        step.run(namespace.ip(cloud, "link", "set", device, "addrgenmode", "none", "up"))
    # Open vSwitch in user space wants whole packets, with their checksums.
    step.run(namespace.there(cloud, "ethtool", "-K", kernel, "tx", "off"))
    step.run(namespace.ip(cloud, "link", "set", kernel, "master", over))


def _move(cloud: Cloud, *order: str) -> list[str]:
    # Without the mark of this run: the next one would end it.
    mark = cloud.run_marker.partition("=")[0]
    program = [sys.executable, "-P", "-m", "dozencloud.host.network.cardmove"]
    words = ["env", f"--unset={mark}", *program, *order, bridge(cloud), str(record(cloud))]
    return namespace.in_network(cloud, words)


def remove(cloud: Cloud) -> str:
    """Give the card back what it had, and remove the link; returns what could not be done."""
    if not namespace.namespace_exists(cloud):
        return ""
    end = link_devices(cloud)[0]
    if look(cloud, end):
        ask(*namespace.ip(cloud, "link", "delete", end), timeout=namespace.SECONDS)
    if look(cloud, bridge(cloud)) is None:
        return ""
    return ask(*_move(cloud, "give"), timeout=2 * namespace.SECONDS).error.strip()
