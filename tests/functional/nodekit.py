"""Networks of machines that are a cloud's: each with a root, and so a namespace, of its own."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from dozencloud.cloud import certificates, tls
from dozencloud.cloud.installation import CONSOLE_USER, Cloud
from dozencloud.cloud.membership import Member, Membership
from dozencloud.cloud.plan import Node, Plan
from dozencloud.cloud.secret import Secrets
from dozencloud.facts.routes import routes
from dozencloud.host import users
from dozencloud.host.network import namespace, wayout
from dozencloud.lifecycle import destroy
from dozencloud.lifecycle.services import make_folder
from dozencloud.nodes.controller import authority
from dozencloud.services import ovn
from dozencloud.supervision.client import Supervisor, clean_environment
from dozencloud.supervision.service import GROUP, Service
from dozencloud.tasks.graph import Step

STEP = Step(io.StringIO())
CENTRE = (ovn.northbound, ovn.southbound, ovn.northd)
CHASSIS = (ovn.switch_database, ovn.switch, ovn.controller)


@dataclass
class Machine:
    """One machine, its supervisor, and its services, that run."""

    plan: Plan
    supervisor: Supervisor
    services: Sequence[Service]

    @property
    def cloud(self) -> Cloud:
        return self.plan.cloud

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command where the machine's services run."""
        pid = self.supervisor.pid()
        assert pid
        command = namespace.inside(self.cloud, pid, words)
        return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60)

    def start(self) -> None:
        """Start the services in their order; each is given what its description says."""
        for service in self.services:
            if service.prepare:
                service.prepare(STEP)
            self.supervisor.start(service.name)
            STEP.until(service.ready, seconds=30, what=service.title)
            if service.settle:
                service.settle(STEP)


@contextmanager
def machine(plan: Plan, services: Sequence[Service]) -> Iterator[Machine]:
    """A machine with a supervisor and nothing that runs yet."""
    cloud, supervisor = plan.cloud, Supervisor(plan.cloud)
    with ExitStack() as stack:
        stack.callback(partial(_clear, cloud, supervisor))
        for folder in [folder for service in services for folder in service.folders]:
            make_folder(folder)
        namespace.make_namespace(cloud, STEP, floating=plan.membership is None)
        wayout.open_way_out(cloud, STEP)
        supervisor.write_config(services)
        daemon = [sys.executable, "-P", "-m", "dozencloud.supervision.daemon", "-c"]
        subprocess.run(
            namespace.enter(cloud, [*daemon, str(supervisor.config)]),
            env={**clean_environment(cloud), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            check=True,
        )
        STEP.until(supervisor.alive, seconds=20, what="The supervisor")
        yield Machine(plan, supervisor, services)


def _clear(cloud: Cloud, supervisor: Supervisor) -> None:
    pid = supervisor.pid()
    supervisor.shutdown(20)
    if pid and Path("/proc", str(pid)).exists():
        os.kill(pid, signal.SIGKILL)
    wayout.close_way_out(cloud, last=not destroy.other_clouds(cloud))
    namespace.remove_devices(cloud, [])


def free(root: Path) -> Path:
    """That root, or one like it whose floating IPs no other cloud of this machine has."""
    names = (root, *(root.with_name(f"{root.name}{number}") for number in range(256)))
    taken = [route.network for route in routes()]
    return next(n for n in names if not any(map(Cloud(n).provider.overlaps, taken)))


def controller_plan(root: Path, members: Sequence[Member] = ()) -> Plan:
    """Of a cloud below `root`, which its nodes reach at the inner end of its link."""
    users.create(STEP, {ovn.USER: GROUP, CONSOLE_USER: GROUP})
    cloud = Cloud(free(root))
    for path in cloud.folders:
        path.mkdir(parents=True, exist_ok=True)
    tls.folder(cloud).mkdir(exist_ok=True)
    authority.issue_control(cloud)
    node = Node("controller", "chassis-controller", "qemu", "netdev", "x86_64", kvm_present=False)
    secrets = Secrets(cloud.etc / "secrets.json")
    return Plan(cloud, node, secrets, Path(sys.prefix), members=tuple(members))


def certify(issuer: certificates.Authority, folder: Path, chassis: str) -> None:
    """node.key and node.crt of a chassis."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = issuer.issue(chassis, [], key.public_key(), [certificates.CLIENT])
    certificates.replace_pair(folder / "node", certificates.pem(leaf), key)


def node_plan(root: Path, controller: Cloud, number: int) -> tuple[Plan, Member]:
    """Of a node that has joined, with its certificate; and how the controller knows it."""
    cloud = Cloud(root)
    for path in cloud.folders:
        path.mkdir(parents=True, exist_ok=True)
    tls.folder(cloud).mkdir(exist_ok=True)
    cloud.ca.write_bytes(controller.ca.read_bytes())
    name, chassis = f"node-{number}", f"chassis-{number}"
    certify(authority.authority(controller), tls.folder(cloud), chassis)
    membership = Membership(
        controller=controller.public_url,
        node=name,
        number=number,
        address=cloud.link[1],
        broker=controller.settings.nodes.broker,
        southbound=controller.settings.nodes.southbound,
        mtu=1500,
        broker_password="",
        identity_password="",
        secret="",
    )
    node = Node(name, chassis, "qemu", "netdev", "x86_64", kvm_present=False)
    secrets = Secrets(cloud.etc / "secrets.json")
    plan = Plan(cloud, node, secrets, Path(sys.prefix), membership=membership)
    return plan, Member(name, number, chassis, cloud.link[1], "compute", "", "", 0.0)
