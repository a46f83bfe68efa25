"""Which addresses this machine reaches without its default route, and who answers for names."""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from dozencloud.facts.processes import PROC

RESOLVER = Path("/etc/resolv.conf")

_UP = 0x0001  # RTF_UP, include/uapi/linux/route.h


@dataclass(frozen=True)
class Route:
    """An IPv4 route. gateway: empty where the network is at the device itself."""

    network: ipaddress.IPv4Network
    device: str
    gateway: str = ""


def parse_routes(text: str) -> tuple[Route, ...]:
    """/proc/net/route: the main table; addresses are 32-bit words in the order of the host's bytes.

    Default routes are left out.
    """
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or not int(fields[3], 16) & _UP:
            continue
        network, gateway, mask = (_address(fields[n]) for n in (1, 2, 7))
        if mask != "0.0.0.0":  # noqa: S104
            away = "" if gateway == "0.0.0.0" else gateway  # noqa: S104
            found.append(Route(ipaddress.IPv4Network(f"{network}/{mask}"), fields[0], away))
    return tuple(found)


def _address(word: str) -> str:
    return socket.inet_ntoa(int(word, 16).to_bytes(4, sys.byteorder))


def parse_resolver(text: str) -> tuple[str, ...]:
    """Addresses of name servers in resolv.conf(5), IPv4."""
    found = re.findall(r"^\s*nameserver\s+([0-9.]+)\s*$", text, re.MULTILINE)
    return tuple(dict.fromkeys(found))


def routes() -> tuple[Route, ...]:
    """Those of the network namespace of this process."""
    try:
        return parse_routes((PROC / "net" / "route").read_text())
    except OSError:
        return ()


def name_servers() -> tuple[str, ...]:
    """Those of this machine."""
    try:
        return parse_resolver(RESOLVER.read_text(errors="replace"))
    except OSError:
        return ()
