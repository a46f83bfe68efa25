"""What a network card is, and who looks after it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dozencloud.facts.run import ask

NETWORKD = Path("/run/systemd/netif/links")
"""One file for each device, by number: what systemd-networkd knows of it."""
SYSFS = Path("/sys/class/net")


@dataclass(frozen=True)
class Card:
    """A network device.

    kind: as ip(8) names it (bridge, vlan, tun ...); empty for a real card.
    master: the bridge or bond that it is a part of; empty if of none.
    addresses: IPv4, with their lengths.   passing: one of them comes from DHCP.
    manager: the program that looks after it; empty for ifupdown, or a person.
    """

    name: str
    ethernet: bool
    kind: str
    master: str
    wireless: bool
    addresses: tuple[str, ...]
    passing: bool
    manager: str


def card(name: str, enter: Sequence[str] = ()) -> Card | None:
    """The device of that name; None if there is none.

    enter: beginning of a command line that leads to its network namespace.
    """
    answer = ask(*enter, "ip", "-json", "-details", "address", "show", "dev", name)
    if not answer.ok:
        return None
    (found,) = json.loads(answer.output)
    ipv4 = [info for info in found["addr_info"] if info["family"] == "inet"]
    return Card(
        name=name,
        ethernet=found["link_type"] == "ether",
        kind=found.get("linkinfo", {}).get("info_kind", ""),
        master=found.get("master", ""),
        wireless=not enter and (SYSFS / name / "wireless").exists(),
        addresses=tuple(f"{info['local']}/{info['prefixlen']}" for info in ipv4),
        passing=any(info.get("dynamic") for info in ipv4),
        # They know the devices of the machine's own namespace, by numbers that others use too.
        manager="" if enter else _manager(name, found["ifindex"]),
    )


def _manager(name: str, number: int) -> str:
    state = ask("nmcli", "--get-values", "GENERAL.STATE", "device", "show", name)
    if state.ok and not state.output.startswith("10 "):  # unmanaged
        return "NetworkManager"
    try:
        text = (NETWORKD / str(number)).read_text()
    except OSError:
        return ""
    return "" if re.search(r"^ADMIN_STATE=unmanaged$", text, re.MULTILINE) else "systemd-networkd"
