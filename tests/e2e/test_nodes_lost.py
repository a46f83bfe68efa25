"""A node is lost in many ways; the cloud goes on, and the node is in service again by itself.

A long run makes ten cuts instead of two, and evacuates a lost node.
DOZEN_SEED chooses others.

Only cuts of what runs show that all of it finds back by itself.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from openstack.exceptions import SDKException
from testcloud import Guest, Tenant, TestCloud, eventually, pings
from testnodes import Node, condition, server_on, token

from dozencloud.nodes import listing
from dozencloud.nodes.joined import leaving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

USUAL = 2
"""Cuts of a run that is not long."""
CHANCE = random.Random(int(os.environ.get("DOZEN_SEED", "8")))  # noqa: S311 (no secret)
BACK_SECONDS = 120
"""Within them all is as it was; a server starts in 15 s on an idle machine."""


@pytest.fixture(scope="module")
def node(cloud: TestCloud, machine: Callable[[str], Node]) -> Iterator[Node]:
    """A node of the cloud, which has none again afterwards."""
    made = machine("lost-1")
    try:
        made.dozen(*token(cloud), "--name", made.name)
        yield made
    finally:
        cloud.dozen("node", "remove", made.name, "--revoke", code=None)


@pytest.fixture(scope="module")
def server(cloud: TestCloud, node: Node, admin: Tenant) -> Iterator[Guest]:
    """A server on that node."""
    yield server_on(cloud, node, admin, "stays").wait()
    # Before the node goes, which is refused while it has servers.
    admin.clear()


# ---- cuts ---------------------------------------------------------------------------------


def power(cloud: TestCloud, node: Node, server: Guest) -> None:
    node.cut_power()
    assert not pings(server.floating)
    node.dozen("start")


def network(cloud: TestCloud, node: Node, server: Guest) -> None:
    device = node.cloud.link_devices[0]
    subprocess.run(["ip", "link", "set", device, "down"], check=True)
    try:
        assert not pings(server.floating)
        time.sleep(CHANCE.uniform(20, 40))
    finally:
        subprocess.run(["ip", "link", "set", device, "up"], check=True)


def broker(cloud: TestCloud, node: Node, server: Guest) -> None:
    kill(cloud, "rabbitmq")


def southbound(cloud: TestCloud, node: Node, server: Guest) -> None:
    kill(cloud, "ovn-sb")


def gateway(cloud: TestCloud, node: Node, server: Guest) -> None:
    kill(cloud, "gateway")


def compute(cloud: TestCloud, node: Node, server: Guest) -> None:
    kill(node, "nova-compute")


def kill(where: TestCloud, service: str) -> None:
    before = where.pids()[service]
    os.kill(before, signal.SIGKILL)
    eventually(
        lambda: where.pids().get(service, before) != before,
        seconds=BACK_SECONDS,
        what=f"{service} is started again",
    )


KINDS = (power, network, broker, southbound, gateway, compute)
CUTS = (*CHANCE.sample(KINDS, len(KINDS)), *CHANCE.choices(KINDS, k=10 - len(KINDS)))


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(cut, id=f"{n}-{cut.__name__}", marks=[pytest.mark.long] * (n > USUAL))
        for n, cut in enumerate(CUTS, 1)
    ],
)
def test_after_a_cut_all_is_in_service_again(
    cloud: TestCloud,
    node: Node,
    server: Guest,
    first: Guest,
    cut: Callable[[TestCloud, Node, Guest], None],
) -> None:
    cut(cloud, node, server)
    server.wait(BACK_SECONDS)
    first.wait(BACK_SECONDS)
    eventually(lambda: in_service(cloud, server), seconds=BACK_SECONDS, what="Nova works again")
    assert node.status()["servers"]["count"] == 1


def in_service(cloud: TestCloud, server: Guest) -> bool:
    """All of Nova is up, the server active, and its node answers by the broker."""
    with suppress(SDKException):
        return (
            all(service.state == "up" for service in cloud.sdk.compute.services())
            and cloud.sdk.compute.get_server(server.id).status == "ACTIVE"
            and "login:" in cloud.sdk.compute.get_server_console_output(server.id)["output"]
        )
    return False


def test_nothing_was_lost_and_the_node_takes_new_servers(
    cloud: TestCloud, node: Node, server: Guest, admin: Tenant
) -> None:
    states = {s.name: s.status for s in cloud.sdk.compute.servers(all_projects=True)}
    assert {"first", server.name} <= states.keys()
    assert set(states.values()) == {"ACTIVE"}
    assert server_on(cloud, node, admin, "new").wait().run("hostname") == "new"
    cloud.sdk.compute.delete_server(cloud.sdk.compute.find_server("new"))
    eventually(lambda: leaving.disks(node.cloud) == [server.id], seconds=60, what="it is gone")


def silent(cloud: TestCloud, node: Node) -> bool:
    return listing.find(cloud.cloud, node.name).silent


@pytest.mark.long  # Nova notices a lost node after 90 s
def test_evacuated_its_servers_run_elsewhere_and_it_removes_its_copies(
    cloud: TestCloud, node: Node, server: Guest, admin: Tenant
) -> None:
    compute = cloud.sdk.compute
    paused, goes = (server_on(cloud, node, admin, name).wait() for name in ("paused", "goes"))
    compute.pause_server(paused.id)
    compute.wait_for_server(compute.get_server(paused.id), "PAUSED", wait=60)
    compute.delete_server(goes.id)  # which has only begun when the power goes
    node.cut_power()
    eventually(lambda: silent(cloud, node), seconds=60, what=f"{node.name} is silent")
    said = cloud.dozen("node", "evacuate", node.name, "--from-image").stdout
    assert "2 server(s) rebuilt elsewhere" in said
    assert compute.find_server("goes") is None
    assert paused.wait().run("hostname") == "paused"
    assert str(compute.get_server(server.id).compute_host) != node.name
    assert server.wait().run("hostname") == server.name
    assert {server.id, paused.id} <= set(leaving.disks(node.cloud))
    node.dozen("start")
    eventually(lambda: not leaving.disks(node.cloud), seconds=60, what="its copy is gone")
    eventually(lambda: condition(cloud, node) == "up", seconds=60, what=f"{node.name} is up")
    assert node.status()["servers"]["count"] == 0
    assert server.answers()
