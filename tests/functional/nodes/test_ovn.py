"""Networks across machines: tunnels, and what a node may do in OVN's southbound database.

The tests stand in the order of a cloud's life: alone, with a node, with the node shut out.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from nodekit import (
    CENTRE,
    CHASSIS,
    STEP,
    Machine,
    certify,
    controller_plan,
    machine,
    node_plan,
)

from dozencloud.checks import reachable
from dozencloud.cloud import certificates, tls
from dozencloud.cloud.membership import Member
from dozencloud.cloud.settings import GENEVE, VXLAN
from dozencloud.facts import gather
from dozencloud.host.network import switching, tunnels
from dozencloud.lifecycle.bringup import Bringup
from dozencloud.nodes.controller import authority
from dozencloud.services import ovn
from dozencloud.supervision.service import Service
from dozencloud.tasks.graph import Step

pytestmark = [pytest.mark.functional, pytest.mark.timeout(120)]

MTU = 1442  # what a network has on wires of 1500 bytes
NAME_OF = {"chassis-controller": "a", "chassis-1": "b"}
"""Chassis -> the server on it; MAC and address end with the place in the alphabet."""


class Killed(BaseException):
    """Ends what runs, as a signal would."""


@dataclass
class Pair:
    """A controller and a machine that joins it."""

    controller: Machine
    node: Machine
    member: Member

    @property
    def southbound(self) -> tuple[str, int]:
        cloud = self.controller.cloud
        return cloud.link[1], cloud.settings.nodes.southbound

    def central(self, program: str, *words: str) -> str:
        """ovn-nbctl or ovn-sbctl with all rights."""
        socket = self.controller.cloud.run / "ovn" / f"{program[4:6]}.sock"
        return self.controller.run(program, f"--db=unix:{socket}", "--timeout=20", *words).stdout

    def as_node(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """ovn-sbctl with the key in `folder`, from beyond the controller."""
        host, port = self.southbound
        command = [
            *("ovn-sbctl", f"--db=ssl:{host}:{port}", "--timeout=5"),
            *("-p", str(folder / "node.key"), "-c", str(folder / "node.crt")),
            *("-C", str(self.controller.cloud.ca), *words),
        ]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Both run; the controller has not heard of the node yet."""
    with tempfile.TemporaryDirectory(prefix="dzn", dir="/var/tmp") as folder, ExitStack() as stack:
        base = Path(folder)
        base.chmod(0o755)
        alone = controller_plan(base / "c")
        controller = machine(alone, [make(alone) for make in (*CENTRE, *CHASSIS)])
        plan, member = node_plan(base / "n", alone.cloud, 1)
        node = machine(plan, [make(plan) for make in CHASSIS])
        pair = Pair(stack.enter_context(controller), stack.enter_context(node), member)
        pair.controller.start()
        pair.node.start()
        yield pair


def plug(machine: Machine, chassis: str) -> None:
    """A "server": a namespace with a port on the integration bridge."""
    name = NAME_OF[chassis]
    number = ord(name) - ord("a") + 1
    mac, address = f"02:00:00:00:00:0{number}", f"10.0.0.{number}/24"
    machine.run("ip", "netns", "add", name)
    link = ("link", "add", f"{name}-o", "type", "veth", "peer", "name", "eth0")
    machine.run("ip", *link, "netns", name, "address", mac, "mtu", str(MTU))
    machine.run("ip", "link", "set", f"{name}-o", "up")
    machine.run("ip", "-n", name, "address", "add", address, "dev", "eth0")
    machine.run("ip", "-n", name, "link", "set", "eth0", "up")
    machine.run("ip", "netns", "exec", name, "ethtool", "-K", "eth0", "tx", "off")
    port = ("add-port", "br-int", f"{name}-o")
    interface = ("set", "interface", f"{name}-o", f"external-ids:iface-id={name}")
    machine.run(*switching.vsctl(machine.cloud, *port, "--", *interface))


def pings(machine: Machine, name: str, to: str, *words: str) -> bool:
    command = ("ip", "netns", "exec", name, "ping", "-c", "1", "-W", "1", *words, to)
    return machine.run(*command, check=False).returncode == 0


def listening(machine: Machine) -> str:
    """TCP ports that others can reach."""
    return machine.run("ss", "--listening", "--tcp", "--numeric", "--no-header").stdout


def pids(machine: Machine) -> dict[str, int]:
    return {name: process.pid for name, process in machine.supervisor.processes().items()}


# ---- alone --------------------------------------------------------------------------------


def test_settling_waits_for_a_bridge_that_the_database_has_and_the_machine_has_not(
    pair: Pair,
) -> None:
    """As after a power cut."""
    machine = pair.controller
    (switch,) = [service for service in machine.services if service.name == "ovs-switch"]
    assert switch.settle
    machine.supervisor.stop(switch.name)
    machine.run("ip", "link", "delete", machine.cloud.provider_bridge, check=False)
    assert "is gone" in switch.fault()
    with ThreadPoolExecutor() as pool:
        settled = pool.submit(switch.settle, STEP)
        with pytest.raises(TimeoutError):
            settled.result(1)
        machine.supervisor.start(switch.name)
        settled.result(30)
    assert switch.fault() == ""


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("link", "set", "BRIDGE", "down"), "is down"),
        (("address", "flush", "dev", "BRIDGE"), "has lost its address 198.19."),
    ],
)
def test_what_becomes_of_the_bridge_is_seen_and_mended(
    pair: Pair, words: tuple[str, ...], fault: str
) -> None:
    machine = pair.controller
    (switch,) = [service for service in machine.services if service.name == "ovs-switch"]
    assert switch.settle
    assert switch.fault() == ""
    machine.run("ip", *(w.replace("BRIDGE", machine.cloud.provider_bridge) for w in words))
    assert fault in switch.fault()
    switch.settle(STEP)
    assert switch.fault() == ""


def test_what_a_killed_up_left_unsettled_is_settled_by_the_next(pair: Pair) -> None:
    """OVN's controller makes no flow before the database says what this node is."""
    machine = pair.controller
    (database,) = [service for service in machine.services if service.name == "ovs-db"]
    known = ("get", "Open_vSwitch", ".", "external_ids:ovn-remote")

    def killed(_step: Step) -> None:
        raise Killed

    def up(service: Service) -> bool:
        """Whether there was nothing to do."""
        bringup = Bringup(machine.plan, gather())
        task = bringup.running.task(service)
        assert task.done
        if not (done := task.done()):
            task.run(STEP)
        return done

    (machine.cloud.lib / "node.json").touch()
    wished = machine.run(*switching.vsctl(machine.cloud, *known)).stdout
    machine.run(
        *switching.vsctl(machine.cloud, "remove", "open", ".", "external_ids", "ovn-remote")
    )
    machine.supervisor.stop(database.name)
    with pytest.raises(Killed):
        up(replace(database, settle=killed))
    pid = machine.supervisor.process(database.name).pid
    assert not up(database)
    assert machine.run(*switching.vsctl(machine.cloud, *known)).stdout == wished
    assert machine.supervisor.process(database.name).pid == pid
    assert up(database)


def test_a_router_that_does_not_answer_is_named(pair: Pair) -> None:
    """A network of the provider, and a router on it, as Neutron makes them (OVN driver)."""
    cloud, address = pair.controller.cloud, pair.controller.cloud.provider[77]
    port = "-- lrp-set-gateway-chassis out chassis-controller -- set logical_router_port out"
    words = rf"""lr-add router -- lrp-add router out 02:00:00:00:00:77 {address}/24 {port}
        external_ids:neutron\:is_ext_gw=True external_ids:neutron\:network_name=outside
        -- ls-add outside -- set logical_switch outside external_ids:neutron\:network_name=public
        -- lsp-add outside wire
        -- lr-route-add router 0.0.0.0/0 {cloud.provider_address}
        -- lsp-set-type wire localnet -- lsp-set-addresses wire unknown
        -- lsp-set-options wire network_name=public -- lsp-add outside hole
        -- lsp-set-type hole router -- lsp-set-addresses hole router
        -- lsp-set-options hole router-port=out"""
    other = str(cloud.provider[78])
    silent = rf"""lr-add second -- lrp-add second far 02:00:00:00:00:78 {other}/24
        -- set logical_router_port far external_ids:neutron\:is_ext_gw=True
        external_ids:neutron\:network_name=outside
        -- lr-add third -- lrp-add third own 02:00:00:00:00:79 {cloud.provider[79]}/24
        -- set logical_router_port own external_ids:neutron\:is_ext_gw=True
        external_ids:neutron\:network_name=own"""
    try:
        pair.central("ovn-nbctl", *words.split())
        whole = reachable.Routers((str(address),))
        STEP.until(lambda: reachable.routers(cloud) == whole, seconds=20, what="The router")
        # One whose project has another network between, and one on a network of a project's own.
        pair.central("ovn-nbctl", *silent.split())
        found = reachable.routers(cloud)
        assert set(found.addresses) == {str(address), other}
        assert (found.silent, found.fault) == ((other,), "")
        assert found.some_silent.startswith(
            f"No answer came from the router with the address {other},"
        )
        pair.controller.run("ip", "link", "set", cloud.provider_bridge, "down")
        assert set(reachable.routers(cloud).silent) == {str(address), other}
        pair.central("ovn-nbctl", "set", "logical_router", "second", "enabled=false")
        assert reachable.routers(cloud).fault == (
            f"No answer came from the router with the address {address}, so floating IPs behind it"
            " cannot be reached"
        )
        pair.central("ovn-nbctl", "set", "logical_router", "router", "enabled=false")
        assert reachable.routers(cloud) == reachable.Routers()
    finally:
        for each in ("lr-del router", "lr-del second", "lr-del third", "ls-del outside"):
            pair.central("ovn-nbctl", "--if-exists", *each.split())
        pair.controller.run("ip", "link", "set", cloud.provider_bridge, "up")


# ---- from one machine to two --------------------------------------------------------------


def test_without_nodes_nothing_listens(pair: Pair) -> None:
    assert listening(pair.controller) == ""
    assert listening(pair.node) == ""
    assert tunnels.bridge(pair.controller.cloud) not in pair.controller.run("ip", "link").stdout


def test_a_node_is_met_without_a_restart(pair: Pair) -> None:
    before = pids(pair.controller)
    pair.controller.plan = replace(pair.controller.plan, members=(pair.member,))
    ovn.meet_nodes(pair.controller.plan, STEP)
    assert f"0.0.0.0:{pair.southbound[1]} " in listening(pair.controller)

    def chassis() -> bool:
        found = pair.central("ovn-sbctl", "--bare", "--columns=ip", "list", "Encap").split()
        return sorted(found) == sorted(m.cloud.link[1] for m in (pair.controller, pair.node))

    STEP.until(chassis, seconds=20, what="Both machines in OVN")
    assert pids(pair.controller) == before


def test_a_chassis_that_takes_up_nothing_is_told_from_one_that_does(pair: Pair) -> None:
    cloud, both = pair.controller.cloud, ["chassis-controller", "chassis-1"]
    assert reachable.behind(cloud, both, 20) == set()
    deaf = pair.node.supervisor.process("ovn-controller").pid
    os.kill(deaf, signal.SIGSTOP)
    try:
        assert reachable.behind(cloud, both, 1) == {"chassis-1"}
    finally:
        os.kill(deaf, signal.SIGCONT)
    assert reachable.behind(cloud, both, 20) == set()
    assert reachable.behind(cloud, ["never-seen"], 0) == {"never-seen"}


def test_only_the_controller_is_the_way_out(pair: Pair) -> None:
    for each, expected in ((pair.controller, True), (pair.node, False)):
        known = each.run(*switching.vsctl(each.cloud, "get", "open", ".", "external-ids")).stdout
        assert ("enable-chassis-as-gw" in known) is expected
        assert ("ovn-bridge-mappings" in known) is expected
        assert (each.cloud.provider_bridge in each.run("ip", "link").stdout) is expected


@pytest.fixture(scope="module")
def servers(pair: Pair) -> Pair:
    """A network with a server on each machine."""
    words = ["ls-add", "net"]
    for number, name in enumerate(NAME_OF.values(), 1):
        words += ["--", "lsp-add", "net", name, "--", "lsp-set-addresses", name]
        words += [f"02:00:00:00:00:0{number} 10.0.0.{number}"]
    pair.central("ovn-nbctl", *words)
    plug(pair.controller, "chassis-controller")
    plug(pair.node, "chassis-1")
    STEP.until(lambda: pings(pair.controller, "a", "10.0.0.2"), seconds=20, what="The way")
    return pair


@pytest.fixture(params=[GENEVE, VXLAN])
def joined(servers: Pair, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """With each kind of tunnel to the node. With VXLAN it is as one whose kernel has no Geneve."""
    controller, node, kind = servers.controller, servers.node, str(request.param)
    before = controller.plan, node.plan

    def speak() -> None:
        for each in (controller, node):
            ovn.introduce(each.plan, STEP)

    def changed() -> bool:
        ask = ("--bare", "--columns=type", "find", "interface", "options:key=flow")
        types = [
            each.run(*switching.vsctl(each.cloud, *ask)).stdout.split()
            for each in (controller, node)
        ]
        return types == [[kind], [kind]]

    member = replace(servers.member, encapsulation=kind)
    controller.plan = replace(controller.plan, members=(member,))
    node.plan = replace(node.plan, node=replace(node.plan.node, encapsulation=kind))
    speak()
    STEP.until(changed, seconds=20, what=f"A tunnel of {kind}")
    STEP.until(lambda: pings(controller, "a", "10.0.0.2"), seconds=20, what="The way")
    yield servers
    controller.plan, node.plan = before
    speak()


def test_the_largest_packet_passes_between_servers(joined: Pair) -> None:
    largest = str(MTU - 28)  # bytes, less headers of IP and ICMP
    assert pings(joined.controller, "a", "10.0.0.2", "-M", "do", "-s", largest)
    assert pings(joined.node, "b", "10.0.0.1", "-M", "do", "-s", largest)


SEND = """
import socket
with socket.create_connection(("10.0.0.2", 5000), timeout=20) as there:
    there.sendall(bytes(8_000_000))
"""
RECEIVE = """
import socket
with socket.create_server(("10.0.0.2", 5000)) as server:
    print("ready", flush=True)
    there = server.accept()[0]
    print(sum(map(len, iter(lambda: there.recv(65536), b""))))
"""


def test_a_long_tcp_transfer_passes(joined: Pair) -> None:
    pid = joined.node.supervisor.pid()
    assert pid
    words = ["ip", "netns", "exec", "b", "timeout", "30", "python3", "-c", RECEIVE]
    enter = ["nsenter", f"--target={pid}", "--mount", "--net"]
    with subprocess.Popen([*enter, *words], stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout
        assert receiver.stdout.readline() == "ready\n"
        joined.controller.run("ip", "netns", "exec", "a", "python3", "-c", SEND)
        assert receiver.stdout.read() == "8000000\n"


@pytest.mark.parametrize("which", ["controller", "node"])
def test_the_way_is_found_again_after_the_switch_died(joined: Pair, which: str) -> None:
    supervisor = getattr(joined, which).supervisor
    before = supervisor.process("ovs-switch").pid
    os.kill(before, signal.SIGKILL)

    def back() -> bool:
        return supervisor.process("ovs-switch").pid not in (0, before)

    STEP.until(back, seconds=20, what="The switch")
    STEP.until(lambda: pings(joined.controller, "a", "10.0.0.2"), seconds=20, what="The way")
    # What the machine sends to floating IPs fits into tunnels again.
    bridge = joined.controller.cloud.provider_bridge
    features = joined.controller.run("ethtool", "--show-features", bridge).stdout
    assert "tx-checksumming: off" in features


def test_meeting_the_same_nodes_again_cuts_nobody_off(servers: Pair) -> None:
    def connections() -> str:
        port = f"sport = :{servers.southbound[1]}"
        ask = ("ss", "--tcp", "--numeric", "--no-header", "state", "established", port)
        return servers.controller.run(*ask).stdout.split()[-1]

    before = connections()
    ovn.meet_nodes(servers.controller.plan, STEP)
    assert connections() == before
    assert pings(servers.controller, "a", "10.0.0.2")


# ---- what a node may do -------------------------------------------------------------------


@pytest.fixture(scope="module")
def identity(pair: Pair) -> Path:
    """Where the node's key and certificate are."""
    return tls.folder(pair.node.cloud)


@pytest.mark.parametrize("table", ["Chassis", "Logical_Flow", "Port_Binding"])
def test_a_node_may_read(servers: Pair, identity: Path, table: str) -> None:
    listed = servers.as_node(identity, "--bare", "--columns=_uuid", "list", table)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.strip()


def test_a_node_may_write_about_itself(servers: Pair, identity: Path) -> None:
    done = servers.as_node(identity, "set", "Chassis", "chassis-1", "other-config:test=1")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "destroy Chassis chassis-controller",
        "destroy Chassis_Private chassis-controller",
        "set Chassis chassis-controller hostname=other",
        "create Chassis name=another encaps=@e -- --id=@e create Encap type=geneve ip=10.9.9.9",
        "set Encap {encap} ip=10.9.9.9",
        "set Logical_Flow {flow} actions=another;",
        "destroy Logical_Flow {flow}",
        "destroy Datapath_Binding net",
        "set SB_Global . options:test=1",
        "del-connection",
        "set-connection role= ptcp:6999",
        "set-ssl /a /b /c",
        "destroy RBAC_Role ovn-controller",
        "set RBAC_Permission Chassis authorization=[]",
    ],
)
def test_a_node_may_not(servers: Pair, identity: Path, words: str) -> None:
    where = f"ip={servers.controller.cloud.link[1]}"
    find = ("--bare", "--columns=_uuid", "find")
    known = {
        "encap": servers.central("ovn-sbctl", *find, "Encap", where).strip(),
        "flow": servers.central("ovn-sbctl", *find, "Logical_Flow").split()[0],
    }
    done = servers.as_node(identity, *words.format(**known).split())
    assert done.returncode != 0
    assert "not allowed" in done.stderr or "permission error" in done.stderr, done.stderr


# ---- who gets in --------------------------------------------------------------------------


class Refused(Exception):
    """The server ended the handshake, or the connection."""


def trusting(pair: Pair, folder: Path | None) -> ssl.SSLContext:
    """What a client needs, with the key in `folder`, or with none."""
    context = ssl.create_default_context(cafile=str(pair.controller.cloud.ca))
    if folder:
        context.load_cert_chain(folder / "node.crt", folder / "node.key")
    return context


def databases(
    pair: Pair, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[list[str], ssl.SSLSession | None]:
    """The answer to a question, and the session that a client may try to resume."""
    with socket.create_connection(pair.southbound, timeout=10) as plain:
        host = pair.southbound[0]
        try:
            with context.wrap_socket(plain, server_hostname=host, session=session) as secure:
                assert secure.version() in ("TLSv1.2", "TLSv1.3")
                secure.sendall(b'{"method": "list_dbs", "params": [], "id": 1}')
                answer = secure.recv(65536)
                if not answer:
                    raise Refused
                return json.loads(answer)["result"], secure.session
        except (ssl.SSLError, ConnectionError) as error:
            raise Refused from error


def test_without_a_certificate_of_the_nodes_authority_nobody_gets_in(
    pair: Pair, identity: Path, tmp_path: Path
) -> None:
    assert "OVN_Southbound" in databases(pair, trusting(pair, identity))[0]
    with pytest.raises(Refused):
        databases(pair, trusting(pair, None))
    # Not even with a certificate of the authority that the controller's own is of.
    for issuer in (
        certificates.authority(pair.controller.cloud),
        certificates.Authority.made(tmp_path / "ca.crt", tmp_path / "ca.key", "nodes"),
    ):
        certify(issuer, tmp_path, "chassis-1")
        with pytest.raises(Refused):
            databases(pair, trusting(pair, tmp_path))


def test_a_new_authority_shuts_out_at_once_and_without_a_restart(
    servers: Pair, identity: Path
) -> None:
    before = pids(servers.controller)
    log = servers.node.cloud.log / "ovn-controller.log"
    old = trusting(servers, identity)
    session = databases(servers, old)[1]
    host = servers.southbound[0]
    with (
        socket.create_connection(servers.southbound, timeout=10) as plain,
        old.wrap_socket(plain, server_hostname=host) as held,
    ):
        held.sendall(b'{"method": "list_dbs", "params": [], "id": 1}')
        assert held.recv(65536)
        authority.replace(servers.controller.cloud, keep_old=False)
        ovn.meet_nodes(servers.controller.plan, STEP)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            if not held.recv(65536):
                raise ConnectionResetError
    for tried in (None, session):
        with pytest.raises(Refused):
            databases(servers, old, tried)
    # What was there goes on.
    assert pings(servers.controller, "a", "10.0.0.2")
    # A node with a certificate of the new one is back by itself.
    certify(authority.authority(servers.controller.cloud), identity, "chassis-1")
    end = len(log.read_text())
    STEP.until(lambda: ": connected" in log.read_text()[end:], seconds=40, what="The node")
    assert pids(servers.controller) == before


def test_without_the_last_node_it_is_closed(pair: Pair) -> None:
    ovn.meet_nodes(replace(pair.controller.plan, members=()), STEP)
    assert listening(pair.controller) == ""
    assert pair.central("ovn-sbctl", "--bare", "--columns=name", "list", "Chassis").split() == [
        "chassis-controller"
    ]


# In a network namespace of its own, as the cloud of that machine.
MADE_AND_REMOVED = """
import io, subprocess
from dozencloud.host.network import tunnels
from dozencloud.cloud.installation import Cloud
from dozencloud.tasks.graph import Step

def there():
    listed = ("ip -brief link", "nft list tables")
    return [subprocess.check_output(words.split(), text=True) for words in listed]

cloud, step, before = Cloud(), Step(io.StringIO()), there()
tunnels.make_link(cloud, step)
step.run(["nft", "-f", "-"], input=tunnels.ruleset(cloud, "192.0.2.1"))
during = there()
assert tunnels.link_devices(cloud)[0] in during[0]
assert tunnels.table(cloud) in during[1]
for _ in range(2):
    tunnels.remove(cloud)
    assert there() == before
"""


def test_on_the_machine_itself_nothing_is_left() -> None:
    inside = ["unshare", "--net", "--mount", "sh", "-c", 'mount -t sysfs sysfs /sys; exec "$@"']
    done = subprocess.run(
        [*inside, "sh", sys.executable, "-c", MADE_AND_REMOVED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
