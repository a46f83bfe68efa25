"""Machines join: nodes on this machine, each under a root and in a namespace of its own.

Only whole nodes show that a server goes on, with its data, network and console, when nodes join,
are drained, shut out or given new certificates.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from keystoneauth1.exceptions import Unauthorized
from openstack.connection import Connection
from openstack.exceptions import ForbiddenException, NotFoundException
from stranger import everything, unlisted
from testcloud import Guest, Tenant, TestCloud, eventually, pings, settle
from testnext import Next
from testnodes import Node, condition, listening, server_on, token

from dozencloud import RELEASE, facts
from dozencloud.cloud.installation import LIBVIRT_PORT
from dozencloud.cloud.membership import Membership, members
from dozencloud.errors import Exit
from dozencloud.host.network import switching
from dozencloud.lifecycle import preflight

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def nodes(cloud: TestCloud, machine: Callable[[str], Node]) -> Iterator[tuple[Node, Node]]:
    """Two nodes of the cloud; it has none again afterwards."""
    pair = machine("pi-1"), machine("pi-2")
    try:
        for node in pair:
            node.dozen(*token(cloud), "--name", node.name)
        yield pair
    finally:
        for member in members(cloud.cloud):
            cloud.dozen("node", "remove", member.name, "--revoke")


@pytest.fixture(scope="module")
def servers(
    cloud: TestCloud, nodes: tuple[Node, Node], admin: Tenant
) -> Iterator[tuple[Guest, Guest]]:
    """A server on each node, both in one network."""
    one, two = (server_on(cloud, node, admin, f"on-{node.name}") for node in nodes)
    yield one, two
    # Before the nodes go, which is refused while they have servers.
    admin.clear()


def host(cloud: TestCloud, guest: Guest) -> str:
    return str(cloud.sdk.compute.get_server(guest.id).compute_host)


def test_both_joined_and_are_seen(cloud: TestCloud, nodes: tuple[Node, Node]) -> None:
    for node in nodes:
        assert condition(cloud, node) == "up"
        running = {s["name"] for s in node.status()["services"] if s["state"] == "running"}
        assert {"nova-compute", "ovn-controller", "node-agent", "libvirtd"} <= running
        assert not {"mariadb", "rabbitmq", "keystone", "ovn-agent"} & running
        shown = cloud.dozen("node", "show", node.name).stdout
        assert facts.gather().system.architecture.kernel in shown
    told = cloud.dozen("node", "list").stdout
    assert all(node.name in told for node in nodes)


def test_the_same_line_again_changes_nothing(cloud: TestCloud, nodes: tuple[Node, Node]) -> None:
    node = nodes[0]
    before = node.pids()
    again = node.dozen(*token(cloud), "--name", node.name)
    assert f"Nothing to change: the node {node.name} runs." in again.stdout
    assert "Nothing to change" in node.dozen("up").stdout
    assert node.pids() == before


def test_a_node_is_not_upgraded_before_its_controller(
    cloud: TestCloud, nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    newer = Next(nodes[0].root, tmp_path, "99.0.0")
    refused = newer.dozen("upgrade", code=Exit.UNFIT)
    assert f"The controller has release {RELEASE}" in refused.stderr
    assert f"is of release {RELEASE}" in newer.dozen("up", code=Exit.UNFIT).stderr
    assert "Nothing to change" in nodes[0].dozen("upgrade").stdout


def test_a_taken_name_and_an_unknown_token_are_refused(
    cloud: TestCloud, nodes: tuple[Node, Node], machine: Callable[[str], Node]
) -> None:
    third = machine("third")
    words = token(cloud)
    refused = third.dozen(*words, "--name", nodes[0].name, code=Exit.FAILED)
    assert f"has a node called {nodes[0].name} already" in refused.stderr
    last = "0" if words[-1][-1] != "0" else "1"
    refused = third.dozen(*words[:-1], words[-1][:-1] + last, "--name", "third", code=Exit.FAILED)
    assert "does not know this token" in refused.stderr
    assert facts.find_traces(preflight.markers(third.cloud)).empty


def shown(cloud: TestCloud, guest: Guest) -> set[str]:
    """All addresses that `server list` shows."""
    networks = cloud.sdk.compute.get_server(guest.id).addresses
    return {each["addr"] for addresses in networks.values() for each in addresses}


def test_servers_on_two_nodes_reach_each_other_and_are_reached(
    cloud: TestCloud, nodes: tuple[Node, Node], servers: tuple[Guest, Guest]
) -> None:
    one, two = servers
    assert [host(cloud, guest) for guest in servers] == [node.name for node in nodes]
    for guest in servers:
        guest.wait()
        # The node's own account has looked it up.
        assert guest.floating in shown(cloud, guest)
    through = two.inside(one)
    assert through.run("hostname") == two.name
    # Packets of the largest size: too large for the wires they would be lost in silence.
    assert len(through.run("tr '\\0' x < /dev/zero | head -c 3000000")) == 3_000_000


def test_three_nodes_reach_each_other_and_one_that_is_cut_off_takes_nobody_along(
    cloud: TestCloud,
    nodes: tuple[Node, Node],
    servers: tuple[Guest, Guest],
    machine: Callable[[str], Node],
    admin: Tenant,
) -> None:
    third = machine("pi-3")
    third.dozen(*token(cloud), "--name", third.name)
    guest = server_on(cloud, third, admin, "on-third").wait()
    three = (*servers, guest)
    pairs = [(a, b) for a in three for b in three if a is not b]
    assert [b.inside(a).run("hostname") for a, b in pairs] == [b.name for _, b in pairs]
    third.cut_power()
    assert not pings(guest.floating)
    one, two = servers
    assert two.inside(one).run("hostname") == two.name
    third.dozen("start")
    guest.wait()
    assert one.inside(guest).run("hostname") == one.name
    compute = cloud.sdk.compute
    compute.delete_server(guest.id)
    eventually(lambda: compute.find_server(guest.id) is None, seconds=60, what="it is gone")
    third.dozen("leave")
    assert condition(cloud, third) == ""


def test_its_account_is_no_administrator(cloud: TestCloud, nodes: tuple[Node, Node]) -> None:
    sdk = as_node(cloud, nodes[0].given)
    (flavor, *_), first = cloud.sdk.compute.flavors(), cloud.first()
    image = cloud.sdk.image.find_image("tiny-arm64")
    for what in (
        lambda: list(sdk.identity.users()),
        lambda: sdk.identity.delete_user(cloud.sdk.identity.find_user("admin").id),
        lambda: list(sdk.compute.servers(all_projects=True)),
        lambda: sdk.compute.delete_flavor(flavor.id, ignore_missing=False),
        lambda: sdk.compute.stop_server(first.id),
        lambda: sdk.compute.disable_service(next(cloud.sdk.compute.services())),
        lambda: sdk.image.delete_image(image.id, ignore_missing=False),
        lambda: sdk.network.delete_network("private", ignore_missing=False),
    ):
        with pytest.raises((ForbiddenException, NotFoundException)):
            what()


def test_its_console_comes_through_the_controller(
    cloud: TestCloud, servers: tuple[Guest, Guest]
) -> None:
    log = cloud.sdk.compute.get_server_console_output(servers[0].id)["output"]
    assert "login:" in log
    url = cloud.dozen("console", "--url", servers[0].name).stdout.strip()
    assert url.startswith(f"{cloud.cloud.public_url}/console/serial/")


def migration(cloud: TestCloud, nodes: tuple[Node, Node], *, on: bool) -> None:
    """Change the setting on the controller; both nodes follow by themselves."""
    wanted = f"migration = {str(on).lower()}"
    settle(cloud, wanted)

    def followed() -> bool:
        return all(
            bool(node.given.migration) == on
            and not (node.cloud.run / "node-agent.todo").exists()
            and condition(cloud, node) == "up"
            for node in nodes
        )

    eventually(followed, seconds=90, what=f"the nodes take up {wanted}")


@pytest.fixture(scope="module")
def trusting(cloud: TestCloud, nodes: tuple[Node, Node]) -> Iterator[None]:
    """The nodes trust each other; in the end they do not."""
    running = [node.pids() for node in nodes]
    migration(cloud, nodes, on=True)
    for node, before in zip(nodes, running, strict=True):
        after = node.pids()
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {"libvirtd", "nova-compute"}
    one, two = nodes
    one.share_paths(two)
    two.share_paths(one)
    yield
    if cloud.cloud.settings.nodes.migration:
        migration(cloud, nodes, on=False)


def migrate(cloud: TestCloud, *words: str, code: int = 0) -> str:
    """What `openstack server migrate --live-migration` says."""
    asked = ("openstack", "--os-compute-api-version", "2.56", "server", "migrate", "--wait")
    return cloud.dozen(*asked, "--live-migration", *words, code=code).stderr


def becomes(cloud: TestCloud, guest: Guest, status: str, node: str) -> None:
    """Wait until it is at rest, with this status, there."""

    def there() -> bool:
        found = cloud.sdk.compute.get_server(guest.id)
        return not found.task_state and (found.status, found.compute_host) == (status, node)

    eventually(there, seconds=60, what=f"{guest.name} is {status} on {node}")


@pytest.mark.shows("live migration", "AArch64 by kernel")
def test_it_goes_to_another_node_while_it_runs(
    cloud: TestCloud, nodes: tuple[Node, Node], servers: tuple[Guest, Guest], trusting: None
) -> None:
    guest = servers[0]
    guest.wait()
    drive = guest.run("sha256sum /dev/sr0", user="root")
    # In its memory and on its disk.
    guest.run("yes not-for-others | head -c 3000000 > /home/dozen/secret && sync")
    before = guest.uptime()
    with listening(nodes[1].cloud.link_devices[0], b"not-for-others") as heard:
        migrate(cloud, guest.id)
    assert host(cloud, guest) == nodes[1].name
    assert heard.size > 10_000_000
    assert not heard.found
    guest.wait()
    assert guest.uptime() > before
    guest.run("echo 3 > /proc/sys/vm/drop_caches; echo arrived > /dev/console", user="root")
    assert guest.run("sha256sum /dev/sr0", user="root") == drive
    output = cloud.sdk.compute.get_server_console_output
    eventually(
        lambda: "arrived" in output(guest.id)["output"], seconds=20, what="its console is logged"
    )


def test_a_stranger_on_a_node_reaches_only_what_the_list_says(
    cloud: TestCloud, nodes: tuple[Node, Node], servers: tuple[Guest, Guest], trusting: None
) -> None:
    """Nor more of the controller, now that it has nodes."""
    for machine in (*nodes, cloud):
        assert unlisted(machine.cloud) == {}
    inside = {path.name for path in everything(nodes[1].cloud.lib)}
    assert {"disk", "disk.config", "console.log", "kernel"} <= inside
    assert (nodes[1].cloud.etc / "peers" / "streams" / "server-key.pem").exists()


@pytest.mark.shows("cold migration", "AArch64 by kernel")
@pytest.mark.parametrize("end", ["confirm", "revert"])
def test_it_goes_to_another_node_and_starts_there(
    cloud: TestCloud,
    nodes: tuple[Node, Node],
    servers: tuple[Guest, Guest],
    trusting: None,
    end: str,
) -> None:
    guest = servers[0]
    source = host(cloud, guest)
    guest.run(f"echo {end} > /home/dozen/moved && sync")
    (target,) = {node.name for node in nodes} - {source}
    compute = cloud.sdk.compute
    compute.migrate_server(guest.id)
    becomes(cloud, guest, "VERIFY_RESIZE", target)
    if end == "confirm":
        compute.confirm_server_resize(guest.id)
    else:
        compute.revert_server_resize(guest.id)
    left = target if end == "confirm" else source
    becomes(cloud, guest, "ACTIVE", left)
    guest.wait()
    assert guest.run("cat /home/dozen/moved") == end
    kept = [n.name for n in nodes if (n.cloud.lib / "compute" / "instances" / guest.id).exists()]
    assert kept == [left]


def test_drained_its_servers_go_on_running_elsewhere(
    cloud: TestCloud, servers: tuple[Guest, Guest], trusting: None
) -> None:
    guest = servers[0]
    source, before = host(cloud, guest), guest.uptime()
    said = cloud.dozen("node", "drain", source, timeout=600).stdout
    assert f"{guest.name}: went on running" in said
    assert host(cloud, guest) != source
    guest.wait()
    assert guest.uptime() > before
    cloud.dozen("node", "undrain", source)
    migrate(cloud, guest.id)
    assert host(cloud, guest) == source


def test_a_refusal_to_move_says_what_the_other_node_said(
    cloud: TestCloud, servers: tuple[Guest, Guest], trusting: None
) -> None:
    guest = servers[1]
    cloud.dozen("debug", guest.id, "--stop-at-start")
    assert "gdb has stopped the server" in migrate(cloud, guest.id, code=1)
    cloud.dozen("debug", guest.id, "--close")
    guest.wait()


def test_the_controller_takes_no_part_in_it(
    cloud: TestCloud, servers: tuple[Guest, Guest], trusting: None
) -> None:
    controller = host(cloud, cloud.first())
    for words in (
        (cloud.first().id,),
        ("--host", controller, servers[0].id),
    ):
        assert "the controller" in migrate(cloud, *words, code=1)


def test_without_the_setting_it_stays(
    cloud: TestCloud, nodes: tuple[Node, Node], servers: tuple[Guest, Guest], trusting: None
) -> None:
    migration(cloud, nodes, on=False)
    assert "nodes.migration is false" in migrate(cloud, servers[0].id, code=1)
    for node in nodes:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((node.given.address, LIBVIRT_PORT), timeout=10)
    servers[0].wait()


def test_drained_its_servers_go_elsewhere_with_their_data(
    cloud: TestCloud, nodes: tuple[Node, Node], servers: tuple[Guest, Guest]
) -> None:
    node, guest = nodes[0], servers[0]
    guest.run("echo kept > /home/dozen/kept && sync")
    assert "1 server(s) moved" in cloud.dozen("node", "drain", node.name, timeout=600).stdout
    assert condition(cloud, node) == "drained"
    assert host(cloud, guest) != node.name
    guest.wait()
    assert guest.run("cat /home/dozen/kept") == "kept"
    cloud.dozen("node", "undrain", node.name)
    assert condition(cloud, node) == "up"


def test_all_its_processes_killed_it_comes_back_with_its_servers(
    cloud: TestCloud, nodes: tuple[Node, Node], servers: tuple[Guest, Guest]
) -> None:
    node, guest = nodes[1], servers[1]
    node.cut_power()
    node.dozen("start")
    guest.wait()
    eventually(lambda: condition(cloud, node) == "up", seconds=60, what=f"{node.name} is up")


def test_new_certificates_for_all_cut_nobody_off(
    cloud: TestCloud, nodes: tuple[Node, Node], servers: tuple[Guest, Guest]
) -> None:
    old = [(node.cloud.etc / "tls" / "node.crt").read_bytes() for node in nodes]
    said = cloud.dozen("certs", "rotate").stdout
    assert "Not heard of" not in said
    assert [(n.cloud.etc / "tls" / "node.crt").read_bytes() for n in nodes] != old
    servers[1].wait()
    assert all(condition(cloud, node) == "up" for node in nodes)


def tunnels(machine: TestCloud) -> list[str]:
    """Kinds of its tunnels to the other machines."""
    ask = ("--bare", "--columns=type", "find", "interface", "options:key=flow")
    said = subprocess.run(
        switching.vsctl(machine.cloud, *ask), check=True, capture_output=True, text=True
    ).stdout
    return sorted(said.split())


def test_a_node_without_geneve_is_reached_by_vxlan(
    cloud: TestCloud, nodes: tuple[Node, Node], servers: tuple[Guest, Guest]
) -> None:
    """As with a kernel that moves packets and has no Geneve; the other two keep to theirs."""

    def speak(kind: str, *, mixed: list[str], other: list[str]) -> None:
        settle(nodes[1], f'tunnels = "{kind}"')
        expected = [mixed, mixed, other]
        eventually(
            lambda: [tunnels(each) for each in (cloud, *nodes)] == expected,
            seconds=60,
            what=f"tunnels for {kind}",
        )
        eventually(lambda: "10" in through.run("seq 10"), seconds=30, what="the way")
        assert len(through.run("tr '\\0' x < /dev/zero | head -c 3000000")) == 3_000_000

    one, two = servers
    through = two.inside(one)
    speak("vxlan", mixed=["geneve", "vxlan"], other=["vxlan", "vxlan"])
    two.wait()
    shown = json.loads(cloud.dozen("node", "show", nodes[1].name, "--json").stdout)
    assert shown["encapsulation"] == "vxlan"
    speak("auto", mixed=["geneve", "geneve"], other=["geneve", "geneve"])


def test_a_stolen_board_is_shut_out_and_the_other_stays(
    cloud: TestCloud, nodes: tuple[Node, Node], servers: tuple[Guest, Guest]
) -> None:
    stolen, other = nodes[0], nodes[1]
    given = stolen.given

    assert as_node(cloud, given).session.get_token()
    cloud.dozen("node", "remove", stolen.name, "--revoke")
    with pytest.raises(Unauthorized):
        as_node(cloud, given).session.get_token()
    assert condition(cloud, stolen) == ""
    refused = stolen.dozen("join", given.controller, "--token", token(cloud)[-1], code=None)
    assert "does not know the node" in refused.stderr
    eventually(
        lambda: (
            (other.cloud.etc / "tls" / "node.crt").stat().st_mtime
            > (cloud.cloud.etc / "nodes" / "ca.crt").stat().st_mtime
        ),
        seconds=60,
        what="the other node has a certificate of the new authority",
    )
    servers[1].wait()
    # Its OVN connects anew with that.
    eventually(lambda: condition(cloud, other) == "up", seconds=60, what="the other node is up")


def as_node(cloud: TestCloud, given: Membership) -> Connection:
    """A connection with the account of a node."""
    return Connection(
        auth={
            **{"username": given.user, "password": given.identity_password},
            **{"project_name": "service", "user_domain_id": "default"},
            "project_domain_id": "default",
            "auth_url": f"{given.controller}/identity/v3",
        },
        region_name="RegionOne",
        cacert=str(cloud.cloud.ca),
    )
