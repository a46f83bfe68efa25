"""What a service may fetch on the word of a user: from public addresses, and what settings allow.

An address (URL) is judged by the IP addresses that its name has just now, and the caller connects
to one of exactly these.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS = {"http": 80, "https": 443}
REFUSED = (
    "Images are fetched from public addresses only, by http or https and their usual ports: take "
    "another address, or upload the image."
)
"""The one answer, so that nobody learns which inner address is which."""
NOT_PUBLIC = tuple(
    map(
        ipaddress.IPv4Network,
        # Python's is_global forgets these: protocol assignments, 6to4 relays, multicast.
        ("192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4"),
    )
)
PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
"""All that is assigned; outside are IPv4 in disguise (mapped, NAT64), private and local ones."""
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_AUTHORITY = re.compile(rf"(?:{_HOST.pattern})(?::[0-9]{{1,5}})?")


@dataclass(frozen=True)
class Allowed:
    """A place that a setting allows. port: 0 for the usual ones."""

    network: IPNetwork
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Allowed:
        """Of ADDRESS, NETWORK, ADDRESS:PORT or [ADDRESS]:PORT; ValueError if it is none."""
        place, colon, port = text.rpartition(":")
        if not colon or ("]" not in place and ":" in place) or not port.isdecimal():
            place, port = text, "0"
        if not 0 <= int(port) < 65536:
            raise ValueError(f"{port} is no port")
        return cls(ipaddress.ip_network(place.strip("[]")), int(port))

    def holds(self, address: IPAddress, port: int) -> bool:
        inside = address.version == self.network.version and address in self.network
        return inside and (port == self.port or (not self.port and port in PORTS.values()))


@dataclass(frozen=True)
class Rules:
    """allowed: in spite of all else. own: the cloud's networks, which are not even if public."""

    allowed: Sequence[Allowed] = ()
    own: Sequence[IPNetwork] = ()
    is_here: Callable[[IPAddress], bool] = lambda _: False
    """Whether an address is this machine's."""

    def allow(self, address: IPAddress, port: int) -> bool:
        if any(each.holds(address, port) for each in self.allowed):
            return True
        return (
            port in PORTS.values()
            and is_public(address)
            and not any(address in each for each in self.own if each.version == address.version)
            and not self.is_here(address)
        )


def is_public(address: IPAddress) -> bool:
    """Whether it is one of the Internet's, of one machine, and no other one in disguise."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in each for each in NOT_PUBLIC)
    return address in PUBLIC_IPV6 and not address.sixtofour and not address.teredo


def is_here(address: IPAddress) -> bool:
    """Whether this machine has the address: one can listen there, or the way to it begins there.

    connect(2) on a datagram socket sends nothing, it only asks the routing table.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    anywhere = Path(f"/proc/sys/net/ipv{address.version}/ip_nonlocal_bind")
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            if anywhere.exists() and anywhere.read_text().strip() == "0":
                probe.bind((str(address), 0))
                return True
            probe.connect((str(address), 9))
            source = str(probe.getsockname()[0])
    except OSError:
        return False
    return ipaddress.ip_address(source.partition("%")[0]) == address


def judge(
    url: str, rules: Rules, resolve: Callable[..., Sequence[Any]] = socket.getaddrinfo
) -> list[str]:
    """The IP addresses to connect to; ValueError (REFUSED) unless all that it has are allowed.

    All, since who names a public and an inner one does so on purpose.
    """
    host, port = _place(url)
    try:
        found = {
            ipaddress.ip_address(str(answer[4][0]).partition("%")[0])
            for answer in resolve(host, port, type=socket.SOCK_STREAM)
        }
    except (OSError, ValueError):
        raise ValueError(REFUSED) from None
    if not found or not all(rules.allow(each, port) for each in found):
        raise ValueError(REFUSED)
    return [str(each) for each in sorted(found, key=lambda each: (each.version, int(each)))]


def _place(url: str) -> tuple[str, int]:
    """Host and port. Whatever two parsers could read in two ways is refused."""
    if not url.isascii() or not url.isprintable() or set(' \\"<>^`{|}') & set(url):
        raise ValueError(REFUSED)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(REFUSED) from None
    if parts.scheme not in PORTS or not host or not _AUTHORITY.fullmatch(parts.netloc):
        raise ValueError(REFUSED)
    return host, PORTS[parts.scheme] if port is None else port
