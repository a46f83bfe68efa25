"""The broker and consoles for nodes, through the real RabbitMQ, nginx and oslo.messaging."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import amqp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from dozencloud.cloud import certificates, tls
from dozencloud.cloud.installation import NODE_CONSOLES_PORT, Cloud
from dozencloud.cloud.membership import Member, Membership, changing, console_name
from dozencloud.cloud.plan import Node, Plan
from dozencloud.cloud.secret import Secrets
from dozencloud.cloud.settings import parse
from dozencloud.hooks.nova.consoleproxy import destination
from dozencloud.host import users
from dozencloud.host.network import namespace
from dozencloud.nodes.controller import authority, broker
from dozencloud.private import write_private
from dozencloud.services import ALL, gate, gateway, ovn, rabbitmq
from dozencloud.services.gateway import GROUP
from dozencloud.services.gateway import USER as GATEWAY_USER
from dozencloud.services.options import broker_over_tls, broker_url, ini
from dozencloud.supervision.service import Service
from dozencloud.tasks.graph import Step

pytestmark = [
    pytest.mark.functional,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed"),
]

GATEWAY = ALL[0]
PEER = Path(__file__).with_name("brokerpeer.py")
MACHINE = Node("ctl", "chassis", "qemu", "netdev", "x86_64", kvm_present=False)
ADDRESSES = {"arm-1": "192.0.2.11", "arm-2": "192.0.2.12"}
SECONDS = 30


def eventually(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def _gone(group: int) -> bool:
    """No process of that group is left, with its ports."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def certify(place: Path, issuer: certificates.Authority, name: str, address: str) -> None:
    """A node's key and certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [address, console_name(address)]
    leaf = issuer.issue(name, names, key.public_key(), [certificates.SERVER, certificates.CLIENT])
    place.mkdir(parents=True, exist_ok=True)
    certificates.save_key(place / "node.key", key)
    write_private(place / "node.crt", certificates.pem(leaf))


@dataclass
class Peer:
    """A running brokerpeer.py."""

    process: subprocess.Popen[str]

    def ask(self, kind: str, topic: str = "", server: str = "", text: str = "") -> Any:
        assert self.process.stdin
        self.process.stdin.write(json.dumps([kind, topic, server, text]) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline() or '"it ended"')


class Machines:
    """A controller with RabbitMQ and gateway, and nodes, in one network namespace."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.stack = stack
        self.cloud = Cloud(folder / "ctl")
        self.plan = Plan(
            self.cloud,
            MACHINE,
            Secrets(self.cloud.etc / "secrets.json"),
            Path(sys.prefix),
            members=tuple(
                Member(name, number, name, address, "compute", "", "", 0.0)
                for number, (name, address) in enumerate(ADDRESSES.items(), 1)
            ),
        )
        self.passwords = {name: os.urandom(24).hex() for name in ADDRESSES}
        self.services: dict[str, tuple[Service, subprocess.Popen[bytes]]] = {}
        space = self.cloud.namespace
        assert space
        subprocess.run(["ip", "netns", "add", space], check=True)
        stack.callback(subprocess.run, ["ip", "netns", "delete", space], check=False)
        for words in (
            ("link", "set", "lo", "up"),
            *(
                ("address", "add", f"{address}/32", "dev", "lo")
                for address in (self.cloud.address, *ADDRESSES.values())
            ),
        ):
            subprocess.run(namespace.ip(self.cloud, *words), check=True)
        self.certificates(folder)

    def certificates(self, folder: Path) -> None:
        self.cloud.etc.mkdir(parents=True)
        certificates.issue_gateway(self.cloud)
        users.create(Step(io.StringIO()), {ovn.USER: GROUP})
        authority.issue_control(self.cloud)
        self.nodes = {name: self.node(folder, name) for name in ADDRESSES}

    def node(self, folder: Path, name: str) -> Plan:
        # The same name for both: they are in one namespace.
        cloud = Cloud(folder / name)
        certify(tls.folder(cloud), authority.authority(self.cloud), name, ADDRESSES[name])
        shutil.copy(self.cloud.ca, cloud.ca)
        given = Membership(
            controller=self.cloud.public_url,
            node=name,
            number=1,
            address=ADDRESSES[name],
            broker=self.cloud.settings.nodes.broker,
            southbound=0,
            mtu=1500,
            broker_password=self.passwords[name],
            identity_password="",
            secret="",
        )
        return replace(self.plan, cloud=cloud, membership=given, members=())

    def start(self, service: Service) -> None:
        """As the supervisor would, but as root."""
        for folder in service.folders:
            folder.path.mkdir(parents=True, exist_ok=True)
        self.write(service)
        process = subprocess.Popen(
            namespace.in_network(self.cloud, service.command),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **service.environment},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.services[service.name] = service, process
        self.stack.callback(self.stop, service.name)

    def write(self, service: Service) -> None:
        """Its files. The services' users may not be there."""
        for file in service.files:
            content = file.content
            for user in (GATEWAY_USER, gate.CONSOLE_USER):
                content = content.replace(f"user {user} {GROUP};", "user root root;")
            write_private(file.path, content)

    def answers(self, address: str, port: int) -> bool:
        """Whether somebody listens there."""
        with namespace.within(self.cloud), socket.socket() as probe:
            return probe.connect_ex((address, port)) == 0

    def stop(self, name: str) -> None:
        _, process = self.services[name]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        eventually(lambda: _gone(process.pid), f"the end of {name}'s children")

    def wait(self, name: str, ready: Callable[[], bool]) -> None:
        _, process = self.services[name]
        eventually(lambda: ready() or process.poll() is not None, name)
        assert process.poll() is None, f"{name} ended"

    def start_gate(self, name: str, plan: Plan, address: str) -> None:
        assert plan.membership
        at = replace(plan, membership=replace(plan.membership, address=address))
        made = gate.describe(at)
        self.start(replace(made, definition=replace(made.definition, name=name)))

        self.wait(name, lambda: self.answers(address, NODE_CONSOLES_PORT))

    def peer(self, plan: Plan, topic: str, name: str, *words: str) -> Peer:
        options = plan.cloud.etc / "peer.conf"
        options.write_text(
            ini({"oslo_messaging_rabbit": broker_over_tls(plan) if plan.membership else {}})
        )
        command = [sys.executable, str(PEER), str(options), broker_url(plan), topic, name, *words]
        process = subprocess.Popen(
            namespace.in_network(self.cloud, command),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        peer = Peer(process)
        assert peer.answer() == "ready"
        return peer

    def trusting(self, place: Path | None) -> ssl.SSLContext:
        """A client's side of TLS, with the certificate in that folder."""
        context = ssl.create_default_context(cafile=str(self.cloud.ca))
        if place:
            context.load_cert_chain(place / "node.crt", place / "node.key")
        return context

    def connect(self, address: str, port: int) -> socket.socket:
        with namespace.within(self.cloud):
            return socket.create_connection((address, port), timeout=SECONDS)

    def amqp(self, name: str) -> amqp.Connection:
        """A node's account, free to try what Nova never would."""
        plan = self.nodes[name]
        assert plan.membership
        place = tls.folder(plan.cloud)
        connection = amqp.Connection(
            f"{self.cloud.address}:{plan.membership.broker}",
            userid=plan.membership.user,
            password=plan.membership.broker_password,
            ssl={
                "ca_certs": str(self.cloud.ca),
                "certfile": str(place / "node.crt"),
                "keyfile": str(place / "node.key"),
                "server_hostname": self.cloud.address,
            },
            connect_timeout=SECONDS,
            read_timeout=SECONDS,
            confirm_publish=True,
        )
        with namespace.within(self.cloud):
            connection.connect()
        return connection


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with tempfile.TemporaryDirectory(prefix="dzb", dir="/var/tmp") as folder, ExitStack() as stack:
        made = Machines(Path(folder), stack)
        made.start(rabbitmq.names(made.plan))
        made.start(rabbitmq.describe(made.plan))
        made.start(GATEWAY.describe(made.plan))
        made.start_gate("node-gate", made.nodes["arm-1"], ADDRESSES["arm-1"])
        made.wait("rabbitmq", made.services["rabbitmq"][0].ready)
        for name in ADDRESSES:
            broker.grant(made.cloud, name, made.passwords[name])
        yield made


@pytest.fixture(scope="module")
def conductor(machines: Machines) -> Peer:
    return machines.peer(machines.plan, "conductor", "ctl")


@pytest.fixture(scope="module")
def compute(machines: Machines) -> Peer:
    return machines.peer(machines.nodes["arm-1"], "compute", "arm-1", "--node")


# ---- what a node needs --------------------------------------------------------------------


def test_node_and_conductor_call_each_other(conductor: Peer, compute: Peer) -> None:
    assert compute.ask("call", "conductor", "", "one") == "ctl heard one"
    assert conductor.ask("call", "compute", "arm-1", "two") == "arm-1 heard two"
    compute.ask("cast", "conductor", "", "three")
    conductor.ask("cast", "compute", "arm-1", "four")
    eventually(lambda: conductor.ask("heard") == ["three"], "the conductor hears")
    eventually(lambda: compute.ask("heard") == ["four"], "the node hears")
    compute.ask("cast", "compute", "arm-1", "five")
    eventually(lambda: compute.ask("heard") == ["four", "five"], "the node hears itself")


@pytest.mark.parametrize("topic, server", [("compute", "arm-2"), ("scheduler", "")])
def test_nova_on_a_node_is_told_what_it_may_not(compute: Peer, topic: str, server: str) -> None:
    answer = compute.ask("call", topic, server, "x")
    assert "MessageDeliveryFailure" in answer["error"]
    assert "ACCESS_REFUSED" in answer["error"]


# ---- what it must not ---------------------------------------------------------------------


def publish(exchange: str, key: str) -> Callable[[Any], object]:
    return lambda channel: channel.basic_publish(amqp.Message("x"), exchange, key)


FORBIDDEN: dict[str, Callable[[Any], object]] = {
    **{
        f"publish to {key!r} by {exchange!r}": publish(exchange, key)
        for exchange, key in (
            ("", "compute.arm-2"),
            ("", "compute.arm-1"),
            ("", "conductor"),
            ("", "reply_node-arm-2"),
            ("nova", "compute.arm-2"),
            ("nova", "compute-alt.arm-2"),
            ("nova", "compute"),
            ("nova", "scheduler"),
            ("nova", "scheduler.ctl"),
            ("nova", "conductor.ctl"),
            ("dozen-answers", "compute.arm-2"),
            ("dozen-answers", "conductor"),
            ("dozen-answers", "reply_node-arm-2"),
            ("dozen-nodes", "compute.arm-2"),
            ("conductor_fanout", "conductor"),
            ("amq.topic", "x"),
        )
    },
    **{
        f"{what} {queue}": take
        for queue in ("conductor", "compute.arm-2", "reply_node-arm-2", "dozen-answers")
        for what, take in (
            ("get from", lambda channel, queue=queue: channel.basic_get(queue)),
            ("consume", lambda channel, queue=queue: channel.basic_consume(queue)),
            ("purge", lambda channel, queue=queue: channel.queue_purge(queue)),
            ("delete", lambda channel, queue=queue: channel.queue_delete(queue)),
            ("bind", lambda channel, queue=queue: channel.queue_bind(queue, "nova", "#")),
        )
    },
    "delete its own queue": lambda channel: channel.queue_delete("compute.arm-1"),
    "hear what others are told": lambda channel: channel.queue_bind("compute.arm-1", "nova", "#"),
    "declare the conductor's queue": lambda channel: channel.queue_declare("conductor"),
    "declare a queue": lambda channel: channel.queue_declare(""),
    # What it dies of would be published without a look at topics.
    "declare a queue that passes on": lambda channel: channel.queue_declare(
        "compute.arm-1",
        durable=True,
        auto_delete=False,
        arguments={"x-dead-letter-exchange": "nova", "x-dead-letter-routing-key": "scheduler"},
    ),
    "declare an exchange": lambda channel: channel.exchange_declare("x", "topic"),
    "delete Nova's exchange": lambda channel: channel.exchange_delete("nova"),
    "join exchanges": lambda channel: channel.exchange_bind("dozen-answers", "nova", "#"),
}


@pytest.fixture(scope="module")
def stolen(machines: Machines, conductor: Peer) -> Iterator[amqp.Connection]:
    """A node's credentials in other hands. The queues that they must not reach are there."""
    connection = machines.amqp("arm-1")
    yield connection
    connection.collect()


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_node_s_credentials_are_not_enough_to(stolen: amqp.Connection, what: str) -> None:
    channel = stolen.channel()
    with pytest.raises(amqp.AccessRefused):
        FORBIDDEN[what](channel)


def test_what_a_node_has_is_its_own(stolen: amqp.Connection) -> None:
    channel = stolen.channel()
    for queue in ("compute.arm-1", "compute-alt.arm-1", "reply_node-arm-1"):
        assert channel.queue_declare(queue, passive=True).queue == queue


# ---- the port -----------------------------------------------------------------------------


def answered(
    machines: Machines, context: ssl.SSLContext, address: str, port: int, name: str
) -> bytes:
    """What is said there to AMQP's greeting; empty where the other side hangs up."""
    plain = machines.connect(address, port)
    # nginx reads a certificate that it does not accept, and hangs up then.
    with plain, suppress(OSError), context.wrap_socket(plain, server_hostname=name) as end:
        end.sendall(b"AMQP\x00\x00\x09\x01")
        return end.recv(64)
    return b""


def test_a_certificate_of_the_nodes_own_authority_opens_the_port(
    machines: Machines, tmp_path: Path
) -> None:
    address = machines.cloud.address
    broker_port = (address, machines.cloud.settings.nodes.broker, address)
    own = tls.folder(machines.nodes["arm-2"].cloud)
    assert answered(machines, machines.trusting(own), *broker_port)
    for name, issuer in (
        (
            "stranger",
            certificates.Authority.made(tmp_path / "ca.crt", tmp_path / "ca.key", "nodes"),
        ),
        ("user", certificates.authority(machines.cloud)),
    ):
        certify(tmp_path / name, issuer, "arm-2", ADDRESSES["arm-2"])
        assert answered(machines, machines.trusting(tmp_path / name), *broker_port) == b""
    assert answered(machines, machines.trusting(None), *broker_port) == b""


def test_rabbitmq_itself_stays_on_loopback(machines: Machines) -> None:
    command = namespace.in_network(machines.cloud, ["ss", "-Hltn"])
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    listening = {line.split()[3] for line in shown.splitlines()}
    assert {each for each in listening if not each.startswith(("127.", "[::1]"))} == {
        "0.0.0.0:443",
        f"0.0.0.0:{machines.cloud.settings.nodes.broker}",
        f"{ADDRESSES['arm-1']}:{NODE_CONSOLES_PORT}",
    }


def test_a_reload_cuts_nothing(machines: Machines) -> None:
    """Not even one that closes the port, after the last node, and opens it again."""
    _, nginx = machines.services["gateway"]

    def is_open() -> bool:
        return machines.answers(machines.cloud.address, machines.cloud.settings.nodes.broker)

    with machines.amqp("arm-1") as connection:
        for members in ((), machines.plan.members):
            machines.write(GATEWAY.describe(replace(machines.plan, members=members)))
            assert gateway.reload(nginx.pid)
            assert is_open() == bool(members)
            queue = connection.channel().queue_declare("compute.arm-1", passive=True)
            assert queue.queue == "compute.arm-1"


# ---- consoles -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def console(machines: Machines) -> Iterator[int]:
    """The port of a server's console on the node's loopback: it greets, then repeats."""
    with namespace.within(machines.cloud):
        listener = socket.create_server(("127.0.0.1", 20003))

    def serve() -> None:
        while True:
            try:
                end, _ = listener.accept()
            except OSError:
                return
            with end:
                end.sendall(b"login: ")
                while data := end.recv(4096):
                    end.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    yield 20003
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def through_gateway(machines: Machines, host: str, port: int) -> bytes:
    """What the console proxy hears from there, and again what it says."""
    end = machines.connect("127.0.0.1", machines.cloud.settings.internal.node_consoles)
    with end:
        end.sendall(destination(host, port))
        heard = end.recv(64)
        if heard:
            end.sendall(b"root")
            heard += end.recv(64)
        return heard


def test_the_controller_reaches_a_console_of_a_node(machines: Machines, console: int) -> None:
    assert through_gateway(machines, ADDRESSES["arm-1"], console) == b"login: root"


def test_a_gate_must_be_of_the_node_that_has_the_address(
    machines: Machines, console: int, tmp_path: Path
) -> None:
    """The certificate of arm-1 is good for its own address only."""
    for address in (machines.cloud.address, ADDRESSES["arm-2"]):
        assert through_gateway(machines, address, console) == b""
    true = machines.nodes["arm-1"]
    imposter = replace(true, cloud=Cloud(tmp_path))
    shutil.copytree(tls.folder(true.cloud), tls.folder(imposter.cloud))
    machines.start_gate("imposter", imposter, ADDRESSES["arm-2"])
    try:
        assert through_gateway(machines, ADDRESSES["arm-2"], console) == b""
    finally:
        machines.stop("imposter")


@pytest.mark.parametrize("port", [22, 17672, 19999])
def test_the_gate_leads_to_consoles_only(machines: Machines, port: int) -> None:
    assert through_gateway(machines, ADDRESSES["arm-1"], port) == b""


def test_only_the_controller_comes_through_the_gate(machines: Machines, console: int) -> None:
    """Not another node, whose certificate is another authority's."""
    for place in (None, tls.folder(machines.nodes["arm-2"].cloud)):
        context = machines.trusting(place)
        context.load_verify_locations(authority.trusted(machines.cloud))
        name = console_name(ADDRESSES["arm-1"]).replace("*", str(console))
        gate_port = (ADDRESSES["arm-1"], NODE_CONSOLES_PORT, name)
        assert answered(machines, context, *gate_port) == b""


# ---- nodes that trust each other ----------------------------------------------------------


def permit(machines: Machines, *, migration: bool) -> None:
    cloud = replace(machines.cloud, settings=parse({"nodes": {"migration": migration}}))
    with changing(cloud, "members") as rows:
        rows[:] = [asdict(member) for member in machines.plan.members]
    broker.permit(cloud)


def test_nodes_call_each_other_if_they_are_let(machines: Machines, compute: Peer) -> None:
    machines.peer(machines.nodes["arm-2"], "compute", "arm-2", "--node")
    permit(machines, migration=True)
    # What was refused to a connection is looked up again.
    assert compute.ask("call", "compute", "arm-2", "move") == "arm-2 heard move"
    for topic, server in (("compute", "ctl"), ("scheduler", "")):
        assert "ACCESS_REFUSED" in compute.ask("call", topic, server, "x")["error"]
    permit(machines, migration=False)

    def refused() -> bool:
        answer = compute.ask("call", "compute", "arm-2", "x")
        return "ACCESS_REFUSED" in (answer["error"] if isinstance(answer, dict) else "")

    eventually(refused, "the node is refused again")


# ---- in the end ---------------------------------------------------------------------------


def test_what_is_said_after_rabbitmq_was_killed_waits_for_who_is_to_hear_it(
    machines: Machines, conductor: Peer
) -> None:
    api = machines.peer(machines.plan, "api", "ctl")
    conductor.process.send_signal(signal.SIGSTOP)
    try:
        _, process = machines.services["rabbitmq"]
        os.killpg(process.pid, signal.SIGKILL)
        machines.stop("rabbitmq")
        machines.start(rabbitmq.describe(machines.plan))
        machines.wait("rabbitmq", machines.services["rabbitmq"][0].ready)
        api.ask("cast", "conductor", "", "early")
    finally:
        conductor.process.send_signal(signal.SIGCONT)
    eventually(lambda: conductor.ask("heard")[-1:] == ["early"], "it is heard")


def test_a_node_is_let_in_after_rabbitmq_was_started_anew(
    machines: Machines, conductor: Peer, compute: Peer
) -> None:
    machines.stop("rabbitmq")
    machines.start(rabbitmq.describe(machines.plan))
    machines.wait("rabbitmq", machines.services["rabbitmq"][0].ready)

    def called() -> bool:
        return conductor.ask("call", "compute", "arm-1", "again") == "arm-1 heard again"

    eventually(called, "the node is called")
    assert compute.ask("call", "conductor", "", "again") == "ctl heard again"


def test_a_node_that_is_shut_out_is_cut_off(machines: Machines, compute: Peer) -> None:
    connection, neighbour = machines.amqp("arm-1"), machines.amqp("arm-2")
    broker.revoke(machines.cloud, "arm-1")
    with pytest.raises((OSError, amqp.ConnectionError)):
        connection.drain_events(timeout=SECONDS)
    with pytest.raises((OSError, amqp.AccessRefused)):
        machines.amqp("arm-1")
    assert "error" in compute.ask("call", "conductor", "", "x")
    with neighbour:
        assert neighbour.channel().queue_declare("compute.arm-2", passive=True)
    broker.revoke(machines.cloud, "arm-1")  # again is no error
