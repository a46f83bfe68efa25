"""The ways into a server and out of it, and those that must not exist."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from testcloud import OPEN, Guest, Tenant, TestCloud, eventually, new_key, pings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CIDR = "10.50.0.0/24"
SCRIPT = "#!/bin/sh\necho script ran as $(id -un) > /tmp/from-user-data\n"


@dataclass(frozen=True)
class Servers:
    """`front` has a floating IP and user data; `back` has neither, but a config drive.

    `stranger` is another tenant's, in a network with the same addresses.
    """

    front: Guest
    back: Guest
    stranger: Guest


@pytest.fixture(scope="module")
def ours(tenant: Callable[[str], Tenant]) -> Tenant:
    return tenant("ours")


@pytest.fixture(scope="module")
def servers(
    ours: Tenant, tenant: Callable[[str], Tenant], tmp_path_factory: pytest.TempPathFactory
) -> Servers:
    """Three servers that boot at the same time."""
    theirs = tenant("theirs")
    path = tmp_path_factory.mktemp("key") / "own"
    ours.sdk.compute.create_keypair(name="own", public_key=new_key(path))
    ours.later(lambda: ours.sdk.compute.delete_keypair("own"))
    network, group = ours.network("ours", CIDR), ours.group("open", *OPEN)
    front = ours.create("front", network, group, key_name="own", user_data=SCRIPT)
    back = ours.create("back", network, group, config_drive=True)
    stranger = theirs.create("stranger", theirs.network("theirs", CIDR), theirs.group("in", *OPEN))
    ours.key = path
    inside = ours.guest(front).wait()
    ours.key = theirs.key
    return Servers(
        inside,
        ours.guest(back, floating=False, via=inside).wait(),
        theirs.guest(stranger).wait(),
    )


@pytest.fixture
def front(servers: Servers) -> Guest:
    return servers.front


@pytest.fixture
def back(servers: Servers) -> Guest:
    return servers.back


# ---- in -----------------------------------------------------------------------------------


def test_ping_and_ssh_to_the_floating_ip(front: Guest) -> None:
    assert pings(front.floating)
    assert front.run("uname -m") == "aarch64"


def test_dhcp_gives_the_fixed_ip_the_mtu_and_the_name_server(
    cloud: TestCloud, front: Guest, ours: Tenant
) -> None:
    assert f"inet {front.fixed}/24" in front.run("ip -4 -o addr show dev eth0")
    mtu = ours.sdk.network.find_network("ours").mtu
    assert front.run("cat /sys/class/net/eth0/mtu") == str(mtu)
    assert cloud.cloud.settings.network.dns[0] in front.run("cat /etc/resolv.conf")


def test_packets_of_the_whole_mtu_pass(front: Guest, back: Guest) -> None:
    """A download goes on where the first small packets went through."""
    assert len(front.run("yes 0123456789 | head -c 220000")) == 219999
    payload = int(front.run("cat /sys/class/net/eth0/mtu")) - 28  # IPv4 and ICMP headers
    front.run(f"ping -c 1 -W 3 -s {payload} {back.fixed}", user="root")


def test_metadata_gives_the_name_and_the_identity(front: Guest) -> None:
    assert front.run("hostname") == "front"
    data = json.loads(front.run("curl -sf http://169.254.169.254/openstack/latest/meta_data.json"))
    assert data["uuid"] == front.id
    ec2 = "curl -sf http://169.254.169.254/latest/meta-data/local-ipv4"
    assert front.run(ec2) == front.fixed


@pytest.mark.parametrize("name", ["Größe (1)", "front"])
def test_the_administrator_finds_it_by_any_name(
    name: str, cloud: TestCloud, front: Guest, ours: Tenant
) -> None:
    """Which its owner chose: here another, then again its own."""
    ours.sdk.compute.update_server(front.id, name=name)
    assert f"{name} ({front.id}): ACTIVE" in cloud.dozen("server", "explain", name).stdout


def test_only_the_chosen_key_opens_the_server(front: Guest, cloud: TestCloud) -> None:
    assert front.ask("true", user="root").returncode == 0
    refused = front.ask("true", key=cloud.key)
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr


def test_the_user_data_script_ran_once(front: Guest) -> None:
    assert front.run("cat /tmp/from-user-data") == "script ran as root"


def test_the_console_shows_the_login_prompt(front: Guest, ours: Tenant) -> None:
    def prompt() -> bool:
        output = ours.sdk.compute.get_server_console_output(front.id)["output"]
        return "front login:" in output[-200:]

    eventually(prompt, seconds=20, what="the prompt with the server's own name")


def test_a_config_drive_says_who_the_server_is(back: Guest, ours: Tenant) -> None:
    """The name and the key come from the drive; the metadata service is not asked."""
    assert back.run("hostname") == "back"
    console = ours.sdk.compute.get_server_console_output(back.id)["output"]
    assert "1 key(s) from the config drive" in console
    assert "metadata service" not in console


# ---- beside -------------------------------------------------------------------------------


def test_servers_of_one_network_reach_each_other_by_fixed_ip(front: Guest, back: Guest) -> None:
    front.run(f"ping -c 1 -W 3 {back.fixed}", user="root")
    back.run(f"ping -c 1 -W 3 {front.fixed}", user="root")
    assert back.run("hostname") == "back"  # SSH went through `front`


def test_security_groups_block_until_a_rule_opens_and_when_it_is_gone(
    front: Guest, ours: Tenant
) -> None:
    net = ours.sdk.network
    (port,) = net.ports(device_id=front.id)
    before = port.security_group_ids
    closed = ours.group("closed")
    net.update_port(port, security_groups=[closed.id])
    try:
        eventually(lambda: not pings(front.floating), seconds=10, what="ping is blocked")
        assert not front.answers()
        rules = [ours.allow(closed, **rule) for rule in OPEN]
        eventually(lambda: pings(front.floating), seconds=10, what="ping is let through")
        assert front.answers()
        for rule in rules:
            net.delete_security_group_rule(rule)
        eventually(lambda: not pings(front.floating), seconds=10, what="ping is blocked again")
        assert not front.answers()
    finally:
        net.update_port(port, security_groups=before)
    eventually(front.answers, seconds=15, what="SSH with the first group")


def test_a_rule_opens_one_port_only(front: Guest, back: Guest) -> None:
    """A program that listens on another port is reached from inside the server only."""
    serve = "while true; do echo hello | nc -l -p 8080; done"
    front.run(f"setsid sh -c '{serve}' >/dev/null 2>&1 </dev/null & sleep 1")
    reach = "nc -w 3 {} 8080 </dev/null"
    assert front.run(reach.format("127.0.0.1")) == "hello"
    assert back.ask(reach.format(front.fixed)).returncode == 1


# ---- not from one tenant to another -------------------------------------------------------


def test_no_way_to_another_tenants_fixed_ip(servers: Servers, ours: Tenant) -> None:
    """Both use the same addresses, and both let everybody in who reaches them."""
    front, stranger = servers.front, servers.stranger
    if front.fixed == stranger.fixed:
        pytest.skip("both servers were given the same address")
    for one, other in ((front, stranger), (stranger, front)):
        lost = one.ask(f"ping -c 2 -W 2 {other.fixed}", user="root")
        assert "100% packet loss" in lost.stdout
        assert one.ask(f"nc -w 3 {other.fixed} 22 </dev/null").returncode == 1


def test_another_tenant_sees_nothing_of_ours(
    servers: Servers, tenant: Callable[[str], Tenant]
) -> None:
    other = tenant("other")
    assert list(other.sdk.compute.servers()) == []
    assert {n.name for n in other.sdk.network.networks()} == {"public"}
    assert other.sdk.compute.find_server(servers.front.id) is None


# ---- out ----------------------------------------------------------------------------------


@contextmanager
def web_server(address: str) -> Iterator[tuple[int, list[str]]]:
    """A web server on this machine: its port, and who asked."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.client_address[0])
            body = b"hello from the host\n"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_without_floating_ip_reaches_out_by_the_routers_address(
    cloud: TestCloud, back: Guest, ours: Tenant
) -> None:
    address = cloud.cloud.link[0]
    with web_server(address) as (port, seen):
        assert back.run(f"curl -sf -m 20 http://{address}:{port}/") == "hello from the host"
    router = ours.sdk.network.find_router("ours")
    (outside,) = router.external_gateway_info["external_fixed_ips"]
    assert seen == [outside["ip_address"]]


def test_a_server_with_floating_ip_reaches_out_by_it(cloud: TestCloud, front: Guest) -> None:
    address = cloud.cloud.link[0]
    with web_server(address) as (port, seen):
        assert front.run(f"curl -sf -m 20 http://{address}:{port}/") == "hello from the host"
    assert seen == [front.floating]
