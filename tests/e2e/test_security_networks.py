"""In a network that projects share nobody but its owner says where the way out is."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import packets
import pytest
from openstack.exceptions import ForbiddenException, HttpException
from testcloud import Guest, Tenant, TestCloud, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CIDR, CIDR6, ROGUE = "10.52.0.0/24", "fd52::/64", "fdba:d::"
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
EVERYBODY = ("ff:ff:ff:ff:ff:ff", "255.255.255.255")


@dataclass(frozen=True)
class Shared:
    """owner: has the network, its router, and the server `victim`. stranger: has `rogue` in it.

    mac: of each server.
    """

    owner: Tenant
    stranger: Tenant
    victim: Guest
    rogue: Guest
    mac: dict[str, str]
    ports: dict[str, Any]

    def counter(self, name: str) -> int:
        """One of the kernel's counters of packets that came in at the victim."""
        words = (
            "cat /proc/net/snmp6; awk '{ if (h[$1]) { split(h[$1], n); for (i = 2; i <= NF; i++) "
            "print $1 n[i], $i } else h[$1] = $0 }' /proc/net/snmp"
        )
        lines = self.victim.run(words).splitlines()
        found = dict(line.split() for line in lines if len(line.split()) == 2)
        return int(found.get(name, "0"))

    def send(self, *frames: bytes, by: Guest | None = None) -> None:
        (by or self.rogue).run(packets.sending(*frames), "root")

    def six(self, proto: int, upper: bytes, *more: tuple[int, bytes], to: str = "") -> bytes:
        """A frame of the rogue server; `to` all nodes, or the victim's link-local address."""
        rogue, victim = self.mac["rogue"], self.mac["victim"]
        if to:
            return packets.ipv6(rogue, to, victim, proto, upper, *more)
        return packets.ipv6(rogue, ALL_NODES, ALL_NODES_MAC, proto, upper, *more)

    def four(self, proto: int, upper: bytes, to: tuple[str, str] | None = None) -> bytes:
        target = to or (self.mac["victim"], self.victim.fixed)
        return packets.ipv4((self.mac["rogue"], self.rogue.fixed), target, proto, upper)


def _fixed4(port: Any) -> str:
    return next(str(ip["ip_address"]) for ip in port.fixed_ips if ":" not in ip["ip_address"])


@pytest.fixture(scope="module")
def shared(
    cloud: TestCloud, tenant: Callable[[str], Tenant], tmp_path_factory: pytest.TempPathFactory
) -> Shared:
    """Two servers of two projects in one network; groups let in and out all there is."""
    owner, stranger = tenant("owner"), tenant("rogue")
    net = owner.sdk.network
    network = owner.network("shared", CIDR)
    six = net.create_subnet(
        network_id=network.id,
        ip_version=6,
        cidr=CIDR6,
        ipv6_ra_mode="slaac",
        ipv6_address_mode="slaac",
    )
    router = net.find_router("shared")
    net.add_interface_to_router(router, subnet_id=six.id)
    owner.later(lambda: net.remove_interface_from_router(router, subnet_id=six.id))
    policy = net.create_rbac_policy(
        object_type="network",
        object_id=network.id,
        action="access_as_shared",
        target_project_id=stranger.project,
    )
    owner.later(lambda: net.delete_rbac_policy(policy))
    guests, ports = {}, {}
    servers = {}
    for name, project in (("victim", owner), ("rogue", stranger)):
        group = project.group(name, {})
        project.sdk.network.create_security_group_rule(
            security_group_id=group.id, direction="ingress", ether_type="IPv6"
        )
        servers[name] = project.create(name, network, group)
    for name, project in (("victim", owner), ("rogue", stranger)):
        compute = project.sdk.compute
        server = compute.wait_for_server(servers[name], interval=0.3, wait=150)
        (ports[name],) = project.sdk.network.ports(device_id=server.id)
        guests[name] = Guest(server.id, name, _fixed4(ports[name]), "", project.key)
    ip = net.create_ip(
        floating_network_id=net.find_network("public").id,
        port_id=ports["victim"].id,
        fixed_ip_address=guests["victim"].fixed,
    )
    owner.later(lambda: net.delete_ip(ip))
    victim = Guest(
        guests["victim"].id, "victim", guests["victim"].fixed, ip.floating_ip_address, owner.key
    ).wait()
    rogue = guests["rogue"].inside(victim).wait()
    for guest in (victim, rogue):
        packets.install(guest, tmp_path_factory.mktemp("sender"))
    macs = {name: port.mac_address for name, port in ports.items()}
    return Shared(owner, stranger, victim, rogue, macs, ports)


def believes(guest: Guest) -> bool:
    """It has an address or a route by the rogue prefix."""
    return ROGUE.rstrip(":") in guest.run("ip -6 address; ip -6 route")


def test_the_networks_router_is_heard(shared: Shared) -> None:
    """What OVN itself says reaches both servers: addresses, and the way out."""
    for guest in (shared.victim, shared.rogue):
        eventually(
            lambda guest=guest: "fd52:" in guest.run("ip -6 address"),  # type: ignore[misc]
            seconds=30,
            what="an address by the router's advertisement",
        )
        assert "default via fe80:" in guest.run("ip -6 route")


def test_a_server_is_no_router(shared: Shared) -> None:
    """Advertisements to all and to one; behind extension headers; in parts."""
    rogue = shared.mac["rogue"]
    said = packets.advertisement(rogue, ROGUE)
    nothing = bytes([0, 1, 4, 0, 0, 0, 0])  # one option that is padding (RFC 8200, 4.2)
    direct = str(packets.link_local(shared.mac["victim"]))
    for frames in (
        [shared.six(58, said)],
        [shared.six(58, said, to=direct)],
        [shared.six(58, said, (0, nothing))],
        [shared.six(58, said, (60, nothing))],
        [shared.six(58, said, (60, nothing), (60, nothing), to=direct)],
        packets.fragments(shared.six(58, said, (60, nothing * 1)), 24),
        packets.fragments(shared.six(58, said, to=direct), 32),
    ):
        shared.send(*frames)
    time.sleep(1)
    assert not believes(shared.victim)


def test_a_server_does_not_redirect(shared: Shared) -> None:
    before = shared.counter("Icmp6InRedirects"), shared.counter("IcmpMsg:InType5")
    direct = str(packets.link_local(shared.mac["victim"]))
    way = str(packets.link_local(shared.mac["rogue"]))
    shared.send(
        shared.six(58, packets.redirect("2001:db8::1", way), to=direct),
        shared.four(1, packets.icmp4(5, IPv4Address(shared.rogue.fixed).packed + b"\0" * 28)),
        shared.four(1, packets.icmp4(9, b"\x01\x02\x00\x3c" + b"\0" * 8)),
    )
    time.sleep(1)
    assert (shared.counter("Icmp6InRedirects"), shared.counter("IcmpMsg:InType5")) == before
    assert shared.counter("IcmpMsg:InType9") == 0


def test_a_server_is_no_dhcp_server(shared: Shared) -> None:
    """Nothing reaches a client's port, and nothing comes from a server's; all else does."""
    direct = str(packets.link_local(shared.mac["victim"]))
    four, six = shared.counter("Udp:NoPorts"), shared.counter("Udp6NoPorts")
    shared.send(
        *(shared.four(17, packets.udp(*ports)) for ports in ((67, 68), (1067, 68), (67, 2068))),
        *(shared.four(17, packets.udp(*ports), EVERYBODY) for ports in ((67, 68), (1067, 68))),
        *(
            shared.six(17, packets.udp(*ports), to=direct)
            for ports in ((547, 546), (1547, 546), (547, 2546))
        ),
        *packets.fragments(shared.six(17, packets.udp(547, 546), to=direct), 64),
    )
    time.sleep(1)
    assert (shared.counter("Udp:NoPorts"), shared.counter("Udp6NoPorts")) == (four, six)
    shared.send(
        shared.four(17, packets.udp(1067, 2068)),
        shared.six(17, packets.udp(1547, 2546), to=direct),
    )
    eventually(
        lambda: shared.counter("Udp:NoPorts") > four and shared.counter("Udp6NoPorts") > six,
        seconds=5,
        what="what is no DHCP to arrive",
    )


def test_no_moment_is_without_the_guard(cloud: TestCloud, shared: Shared) -> None:
    """OVN's controller, the guard and the switch start anew while a server goes on."""
    frame = shared.six(58, packets.advertisement(shared.mac["rogue"], ROGUE))
    words = packets.sending(frame)
    for service in ("ovn-controller", "port-guard", "ovs-switch", "ovn-controller"):
        loop = f"(for n in $(seq 400); do {words}; sleep 0.02; done) >/dev/null 2>&1 </dev/null &"
        shared.rogue.run(loop, "root")
        cloud.dozen("restart", service)
        shared.victim.wait(60)
        shared.rogue.wait(60)
        shared.rogue.ask("killall -q sh seq sleep", "root")
        assert not believes(shared.victim), service


def test_the_guard_holds_at_once_again(cloud: TestCloud) -> None:
    """Flows that somebody removed are back before one could look."""
    environment = {"OVS_RUNDIR": str(cloud.cloud.run / "openvswitch"), "PATH": "/usr/sbin:/usr/bin"}

    def ofctl(*words: str) -> str:
        return subprocess.run(
            ["ovs-ofctl", *words], check=True, capture_output=True, text=True, env=environment
        ).stdout

    there = ofctl("dump-flows", "br-int", "cookie=0xd02e4/-1").count("priority=65001")
    assert there > 5
    ofctl("del-flows", "br-int", "cookie=0xd02e4/-1")
    eventually(
        lambda: ofctl("dump-flows", "br-int", "cookie=0xd02e4/-1").count("priority=65001") == there,
        seconds=2,
        what="the flows to be back",
        every=0.05,
    )


def test_who_is_not_the_owner_cannot_take_the_guard_off(shared: Shared) -> None:
    net, port = shared.stranger.sdk.network, shared.ports["rogue"]
    for change in (
        {"port_security_enabled": False, "security_groups": []},
        {"device_owner": "network:dhcp"},
        {"device_owner": "network:router_interface"},
        {"allowed_address_pairs": [{"ip_address": "0.0.0.0/0"}]},
        {"mac_address": shared.mac["victim"]},
    ):
        with pytest.raises((ForbiddenException, HttpException)) as refused:
            net.update_port(port, **change)
        assert 400 <= (refused.value.status_code or 0) < 500, change
    assert not believes(shared.victim)


def test_the_owner_can(shared: Shared) -> None:
    """A server of the owner's may be the network's router, if the owner says so."""
    frame = packets.ipv6(
        shared.mac["victim"],
        ALL_NODES,
        ALL_NODES_MAC,
        58,
        packets.advertisement(shared.mac["victim"], ROGUE),
    )
    shared.send(frame, by=shared.victim)
    time.sleep(1)
    assert not believes(shared.rogue)
    net, port = shared.owner.sdk.network, shared.ports["victim"]
    net.update_port(port, port_security_enabled=False, security_groups=[])

    def heard() -> bool:
        shared.send(frame, by=shared.victim)
        return believes(shared.rogue)

    eventually(heard, seconds=20, what="the owner's own router to be heard")


ROUTERS = (
    *("network:router_interface", "network:router_gateway", "network:router_centralized_snat"),
    *("network:router_interface_distributed", "network:ha_router_replicated_interface"),
)


def test_a_port_of_a_router_needs_one(cloud: TestCloud, tenant: Callable[[str], Tenant]) -> None:
    """Whoever says so, in its own network, of whichever router but its own; no log fills."""
    project = tenant("odd")
    net = project.sdk.network
    network = project.network("odd", "10.53.0.0/24")
    port = net.create_port(network_id=network.id)
    project.later(lambda: net.delete_port(port))
    theirs = cloud.sdk.network.find_router("router").id
    log = cloud.cloud.log / "neutron.log"
    before = log.stat().st_size
    for owner in ROUTERS:
        for device in ("", "x", "[" * 200, theirs, network.id):
            said = {"device_owner": owner, "device_id": device}
            made = net.post("/ports", json={"port": {"network_id": network.id, **said}})
            changed = net.put(f"/ports/{port.id}", json={"port": said})
            assert (made.status_code, changed.status_code) == (400, 400), said
            assert "device_id names one of yours" in made.json()["NeutronError"]["message"]
    with log.open("rb") as file:
        file.seek(before)
        assert b"Traceback" not in file.read()
