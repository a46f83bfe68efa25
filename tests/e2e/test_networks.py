"""A project's first server, and what Neutron has beside routers, with packets.

Only packets of servers show what OVN makes of Neutron's models.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import packets
import pytest
from openstack.exceptions import BadRequestException, ForbiddenException
from testcloud import FLAVOR, IMAGE, Guest, Tenant, TestCloud, eventually

from dozencloud.host.network import namespace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

MBIT = 4
SENT = 1 << 20
"""Bytes, of which a limit lets the first eighth of a second pass at once."""


@dataclass(frozen=True)
class Student:
    """A project in which nothing was made but one server, without a word of networks."""

    project: Tenant
    guest: Guest
    port: Any
    ip: Any


@pytest.fixture(scope="module")
def student(cloud: TestCloud, tenant: Callable[[str], Tenant]) -> Student:
    project = tenant("student")
    sdk = project.sdk
    project.later(lambda: cloud.sdk.network.delete_auto_allocated_topology(project.project))
    guest = project.guest(project.create("one", None, networks="auto")).wait()
    (port,) = sdk.network.ports(device_id=guest.id)
    (ip,) = sdk.network.ips(port_id=port.id)
    return Student(project, guest, port, ip)


def test_the_first_server_of_a_project_needs_no_network_command(
    cloud: TestCloud, student: Student
) -> None:
    """It is let into by SSH, gets out, and its project's network is nobody else's."""
    assert student.guest.run("hostname") == "one"
    mine = list(student.project.sdk.network.networks(project_id=student.project.project))
    assert [(net.name, net.is_shared) for net in mine] == [("auto_allocated_network", False)]
    pool = cloud.cloud.projects
    assert student.guest.fixed.startswith(".".join(str(pool[0]).split(".")[:2]))
    assert (
        student.guest.ask(f"ping -c 1 -W 5 {cloud.cloud.provider_gateway}", "root").returncode == 0
    )


def test_first_servers_asked_for_soon_after_each_other_get_one_network(
    cloud: TestCloud, tenant: Callable[[str], Tenant]
) -> None:
    """Nova refuses a server while it sees two."""

    def there() -> set[str]:
        return {net.id for net in cloud.sdk.network.networks(project_id=project.project)}

    project = tenant("hasty")
    network = project.sdk.network
    project.later(lambda: cloud.sdk.network.delete_auto_allocated_topology(project.project))
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(network.get_auto_allocated_topology)]
        while not (seen := there()):  # it is being built
            assert not asked[0].done()
        asked += [pool.submit(network.get_auto_allocated_topology) for _ in range(4)]
        while not all(each.done() for each in asked):
            seen |= there()
    assert {each.result().id for each in asked} == seen
    assert len(seen) == 1


def test_the_words_of_the_readme_work_whatever_students_call_theirs(
    cloud: TestCloud, admin: Tenant, student: Student
) -> None:
    """For an administrator, who sees everybody's."""
    project = student.project
    project.group("ssh")
    for name in ("private", "router"):
        made = project.sdk.network.create_network(name=name)
        project.later(lambda made=made: project.sdk.network.delete_network(made))  # type: ignore[misc]
    with pytest.raises(BadRequestException, match="give yours another name"):
        project.sdk.network.create_network(name="public")
    with pytest.raises(BadRequestException, match="give yours another name"):
        project.sdk.network.update_network(made, name="public")
    words = ["--image", IMAGE, "--flavor", FLAVOR, "--key-name", "dozen", "-f", "json"]
    made = json.loads(cloud.dozen("openstack", "server", "create", *words, "readme").stdout)
    admin.later(lambda: cloud.sdk.compute.delete_server(made["id"], ignore_missing=True))
    address = cloud.dozen(
        *("openstack", "floating", "ip", "create", "public", "-f", "value"),
        *("-c", "floating_ip_address"),
    ).stdout.strip()
    admin.later(lambda: cloud.sdk.network.delete_ip(cloud.sdk.network.find_ip(address)))
    cloud.sdk.compute.wait_for_server(cloud.sdk.compute.get_server(made["id"]), interval=0.3)
    cloud.dozen("openstack", "server", "add", "floating", "ip", "readme", address)
    Guest(made["id"], "readme", "", address, cloud.key).wait()


@pytest.mark.parametrize("how", ["a server", "an interface"])
def test_no_server_of_a_project_is_in_the_network_of_the_floating_ips(
    student: Student, how: str
) -> None:
    """It is refused before there is a server that ends in ERROR."""
    project, public = student.project, student.ip.floating_network_id
    compute = project.sdk.compute
    with pytest.raises(ForbiddenException, match=r"floating IPs|external network"):
        if how == "a server":
            project.create("outside", None, networks=[{"uuid": public}])
        else:
            compute.create_server_interface(student.guest.id, net_id=public)
    assert [server.name for server in compute.servers()] == ["one"]


def test_servers_know_each_other_by_name(student: Student) -> None:
    """OVN answers, whatever name server they ask."""
    found = student.guest.ask("nslookup one").stdout
    assert student.guest.fixed in found


def test_a_port_of_a_floating_ip_leads_to_a_server(student: Student) -> None:
    """A server whose address is forwarded has no floating IP of its own."""
    net, guest, ip = student.project.sdk.network, student.guest, student.ip
    net.update_ip(ip, port_id=None)
    lead = net.create_floating_ip_port_forwarding(
        ip,
        internal_port_id=student.port.id,
        internal_ip_address=guest.fixed,
        internal_port=22,
        external_port=2222,
        protocol="tcp",
    )

    def answers() -> bool:
        words = [*guest.login("dozen", guest.key, "-p", "2222"), "hostname"]
        return subprocess.run(words, check=False, capture_output=True).stdout == b"one\n"

    try:
        eventually(answers, seconds=30, what="SSH by the port")
        assert not guest.answers()  # by any other
    finally:
        net.delete_floating_ip_port_forwarding(ip, lead.id)
        net.update_ip(ip, port_id=student.port.id)
    guest.wait(30)


def test_a_limit_of_bandwidth_counts(cloud: TestCloud, student: Student) -> None:
    """The administrator's, of a student's port."""
    net, guest = cloud.sdk.network, student.guest

    def megabits() -> float:
        words = [*guest.login("dozen", guest.key), f"head -c {SENT} /dev/zero"]
        start = time.monotonic()
        sent = subprocess.run(words, check=True, capture_output=True).stdout
        assert len(sent) == SENT
        return SENT * 8e-6 / (time.monotonic() - start)

    with pytest.raises(ForbiddenException):
        student.project.sdk.network.create_qos_policy(name="mine")
    policy = net.create_qos_policy(name="slow", is_shared=True)
    student.project.later(lambda: net.delete_qos_policy(policy))
    limit = {"max_kbps": MBIT * 250, "max_burst_kbps": MBIT * 50, "direction": "egress"}
    net.create_qos_bandwidth_limit_rule(policy, **limit)
    free = megabits()
    student.project.later(lambda: net.update_port(student.port, qos_policy_id=None))
    net.update_port(student.port, qos_policy_id=policy.id)
    eventually(lambda: megabits() < MBIT / 4 * 1.3, seconds=30, what=f"less than {free} Mbit/s")


# ---- trunks -------------------------------------------------------------------------------

VLAN = 7
SOL_PACKET, PACKET_AUXDATA, VLAN_VALID = 263, 8, 0x10
"""linux/socket.h and linux/if_packet.h."""


@contextmanager
def plugged(cloud: TestCloud, port: Any) -> Iterator[socket.socket]:
    """A card of the port, in the switch of this machine, and a socket for its frames."""
    name = f"tt{port.id[:8]}"
    switch = f"--db=unix:{cloud.cloud.run}/openvswitch/db.sock"
    vsctl = ["ovs-vsctl", switch, "--timeout=10"]
    add = ["--", "add-port", "br-int", name, "--", "set", "Interface", name, "type=internal"]
    cloud.inside(*vsctl, *add, f"external_ids:iface-id={port.id}")
    try:
        cloud.inside("ip", "link", "set", name, "address", port.mac_address, "up")
        with namespace.within(cloud.cloud):
            card = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            card.bind((name, 0))
            card.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        with card:
            card.settimeout(1)
            yield card
    finally:
        cloud.inside(*vsctl, "--if-exists", "del-port", "br-int", name)


def tagged(frame: bytes) -> bytes:
    return frame[:12] + b"\x81\x00" + VLAN.to_bytes(2, "big") + frame[12:]


def echo(source: tuple[str, str], target: tuple[str, str]) -> bytes:
    return packets.ipv4(source, target, 1, packets.icmp4(8, b"\x00\x01\x00\x01" + b"e" * 16))


def returns(card: socket.socket, sent: bytes) -> bool:
    """The router's answer to an echo comes back, with the tag that was sent."""
    tag = sent[12:16] if sent[12:14] == b"\x81\x00" else b""
    card.send(sent)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            got, told, _, _ = card.recvmsg(2048, 64)
        except TimeoutError:
            break
        if got[:6] == sent[6:12] and got.endswith(b"e" * 16):
            return taken_out(told) == tag
    return False


def taken_out(told: list[tuple[int, int, bytes]]) -> bytes:
    """The VLAN tag of a frame, which the kernel tells apart (packet(7), struct tpacket_auxdata)."""
    for _, kind, data in told:
        status, *_, tag, _ = struct.unpack("=IIIHHHH", data)
        if kind == PACKET_AUXDATA and status & VLAN_VALID:
            return b"\x81\x00" + struct.pack("!H", tag)
    return b""


def test_a_trunk_carries_a_second_network(
    cloud: TestCloud, tenant: Callable[[str], Tenant]
) -> None:
    """Frames with its VLAN are in that network, frames without are in the port's own."""
    project = tenant("trunks")
    net = project.sdk.network
    ports, routers = [], []
    for name, cidr in (("parent", "10.61.0.0/24"), ("child", "10.62.0.0/24")):
        network = project.network(name, cidr)
        ports.append(net.create_port(network_id=network.id, name=name))
        project.later(lambda port=ports[-1]: net.delete_port(port))  # type: ignore[misc]
        (router,) = net.ports(network_id=network.id, device_owner="network:router_interface")
        routers.append((router.mac_address, router.fixed_ips[0]["ip_address"]))
    parent, child = ports
    trunk = net.create_trunk(
        port_id=parent.id,
        sub_ports=[{"port_id": child.id, "segmentation_type": "vlan", "segmentation_id": VLAN}],
    )
    project.later(lambda: net.delete_trunk(trunk))
    mine = [(port.mac_address, port.fixed_ips[0]["ip_address"]) for port in ports]
    with plugged(cloud, parent) as card:
        plain = echo(mine[0], routers[0])
        eventually(lambda: returns(card, plain), seconds=30, what="the way of the port itself")
        inside = tagged(echo(mine[1], routers[1]))
        eventually(lambda: returns(card, inside), seconds=30, what="the way of the VLAN")
        assert not returns(card, echo(mine[1], routers[1]))
        assert not returns(card, tagged(plain))
