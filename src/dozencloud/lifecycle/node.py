"""What this machine is for the cloud: decided at the first `up`, then kept where it must."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from dozencloud.checks.judges import size
from dozencloud.cloud import folders
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Node, Plan, Role
from dozencloud.cloud.settings import parse_cpus, template
from dozencloud.errors import Exit, Problem
from dozencloud.facts import Cpu, Facts
from dozencloud.host import machine, packages
from dozencloud.host.network import dataplane, namespace
from dozencloud.private import write_private
from dozencloud.services import needs
from dozencloud.supervision.service import GROUP


def decide_node(cloud: Cloud, facts: Facts) -> Node:
    """What this machine is for the cloud: decided at the first `up`, then kept where it must."""
    path = cloud.lib / "node.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    virt_type = cloud.settings.compute.virt_type
    architecture = facts.system.architecture.kernel
    if virt_type == "auto":
        # KVM of another architecture than ARM cannot run ARM servers.
        virt_type = "kvm" if facts.kvm.for_servers and architecture != "x86_64" else "qemu"
    shared, dedicated = divide_cpus(cloud, facts.cpu)
    return Node(
        name=kept.get("name") or socket.gethostname(),
        chassis=kept.get("chassis") or str(uuid.uuid4()),
        virt_type=virt_type,
        datapath=dataplane.datapath(cloud, facts.network),
        encapsulation=dataplane.encapsulation(cloud, facts.network),
        architecture=architecture,
        kvm_present=Path("/dev/kvm").exists(),
        shared_cpus=shared,
        dedicated_cpus=dedicated,
        mtu=namespace.mtu_of(namespace.own_address(cloud)),
        keeps_time=packages.keeps_time(cloud, facts) and not facts.system.systemd,
    )


def needed_packages(cloud: Cloud, found: Facts, roles: frozenset[Role]) -> tuple[str, ...]:
    """Names of the system's packages that a machine with these roles needs."""
    return packages.names(found, needs(roles, time=packages.keeps_time(cloud, found)))


def divide_cpus(cloud: Cloud, cpu: Cpu) -> tuple[str, str]:
    """CPUs that servers share, and those that they get alone; both empty where nothing is said."""
    dedicated = parse_cpus(cloud.settings.compute.dedicated_cpus, str(cloud.file))

    def numbers(cpus: Iterable[int]) -> str:
        return ",".join(map(str, sorted(cpus)))

    if not dedicated:
        return "", ""
    if wrong := size.dedicated_cpus(cpu, dedicated, cloud.file):
        raise Problem(wrong.fact, wrong.mend, code=Exit.UNFIT)
    return numbers(cpu.numbers - dedicated), numbers(dedicated)


def make_plan(cloud: Cloud, facts: Facts) -> Plan:
    """The plan of this node; its secrets and its identity are written at once."""
    folders.make_folders(cloud, GROUP)
    machine.enter(cloud)
    if not cloud.file.exists():
        write_private(cloud.file, template(cloud.settings), 0o644)
    node = decide_node(cloud, facts)
    text = json.dumps(asdict(node), indent=2) + "\n"
    path = cloud.lib / "node.json"
    if not path.exists() or path.read_text() != text:
        write_private(path, text)
    return Plan.of(cloud, node)
