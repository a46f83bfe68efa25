"""Keeps servers from telling each other where the way out is, or which addresses they have.

OVN lets neighbour discovery pass before any ACL counts (northd.c, "Not to do conntrack on ND
packets", priority 65532, in all three ACL tables), so a server's router advertisement reaches
every other in its network. What router and DHCP server say comes from OVN itself, another node,
or the network outside. So it is dropped where a packet enters the integration bridge: before OVN
knows which port that is, so that a port is never without, and whatever else comes to OVN's flows.
Free of that are tunnels, the way outside, and ports without port security: only the owner of a
network may have these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

COOKIE = 0xD02E4
DROP, PASS = 65001, 65002
"""Priorities in the first table; OVN's are below 200."""
SEEN = "0xfff->OXM_OF_METADATA[0..11]"
"""Marks what may pass. OVN's own first table writes these bits, from each port."""
FIRST = "metadata=0"
CLAIMS = (
    "icmp6,icmp_type=134",  # router advertisement
    "icmp6,icmp_type=137",  # redirect
    "icmp,icmp_type=9",
    "icmp,icmp_type=5",
    # DHCP: a client asks who answers neither for its port nor for its address.
    *("udp,tp_src=67", "udp,tp_dst=68"),
    *("udp6,tp_src=547", "udp6,tp_dst=546"),
    # Parts have no ports or types to be seen. A router has a link-local address, and DHCP answers
    # go to one, or to all.
    *("icmp6,nw_frag=first,ipv6_src=fe80::/10", "udp6,nw_frag=first,ipv6_dst=fe80::/10"),
    "udp,nw_frag=first,nw_dst=255.255.255.255",
)
"""What only a router or a DHCP server says."""
BETWEEN = ("patch", "geneve", "vxlan")
"""Types of interfaces that lead out of this bridge, not to a server."""


def flows(free: Collection[int]) -> list[str]:
    """Flows of the bridge. free: OpenFlow ports from which everything may come."""
    common = f"cookie={COOKIE:#x},table=0,{FIRST}"
    return [
        *(f"{common},priority={DROP},{claim},actions=drop" for claim in CLAIMS),
        *(
            f"{common},priority={PASS},in_port={port},actions=load:{SEEN},resubmit(,0)"
            for port in sorted(free)
        ),
    ]


def secured(ports: Collection[tuple[str, bool, Collection[str]]]) -> dict[str, bool]:
    """Name of a port -> whether it is guarded.

    ports: name, whether it has port security, and the ports whose VLAN it is (its trunk's, or
    none). What comes from a trunk's port may be for the network of any of its VLANs, which may be
    another owner's: it is free where all of them are.
    """
    found = {name: own for name, own, _ in ports}
    for _, own, parents in ports:
        for parent in parents:
            found[parent] = own or found.get(parent, True)
    return found


def free_ports(
    interfaces: Collection[tuple[int, str, str]], secured: Mapping[str, bool]
) -> set[int]:
    """OpenFlow ports that need no guard.

    interfaces: port, type, and OVN's name of what is plugged in there. secured: of what OVN knows,
    whether it has port security. What it does not know yet may be anything.
    """
    return {
        port
        for port, kind, name in interfaces
        if port > 0 and (kind in BETWEEN or secured.get(name) is False)
    }
