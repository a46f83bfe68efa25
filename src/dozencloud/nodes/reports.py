"""How nodes are: what each says of itself, kept by the controller; and what Nova says of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dozencloud.access import administrator
from dozencloud.checks import reachable
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import Member
from dozencloud.cloud.settings import GENEVE
from dozencloud.nodes import schemas
from dozencloud.nodes.tokens import Refused
from dozencloud.private import write_private
from dozencloud.releases import known

SILENT = 40.0
"""s after which a node that does not report is called silent; it reports every 20 s."""


@dataclass(frozen=True)
class Report:
    """What a node says of itself.

    memory, available, disk, free: MiB; the last two of the file system that holds servers.
    clusters: (model of the CPU, number of CPUs).   aarch32: KVM runs 32-bit servers.
    temperature: degrees Celsius, of the hottest sensor; None without one.
    issuer: which authority its certificate is from (`authority.identifier`).
    clock: seconds since the epoch, by the node's clock.   seen: by the controller's.
    encapsulation: of tunnels to it.   networks: its series of OVN; empty where it does not say.
    """

    release: str
    architecture: str
    board: str
    clusters: tuple[tuple[str, int], ...]
    kvm: bool
    aarch32: bool
    memory: int
    available: int
    disk: int
    free: int
    temperature: float | None
    issuer: str
    clock: float
    encapsulation: str = GENEVE
    networks: str = ""
    seen: float = 0.0

    @classmethod
    def read(cls, data: object) -> Report:
        """From JSON that a node sent; ValueError where it is no report."""
        if said := schemas.wrong(schemas.REPORT, data):
            raise ValueError(said)
        return cls.kept(data)

    @classmethod
    def kept(cls, data: Any) -> Report:
        """From JSON that was read before."""
        clusters = tuple((model, int(cpus)) for model, cpus in data["clusters"])
        return known(cls, {**data, "clusters": clusters})


def _file(cloud: Cloud, name: str) -> Path:
    return cloud.run / "nodes" / f"{name}.json"


def keep(cloud: Cloud, member: Member, data: object) -> Report:
    """Keep a node's report, in memory: it is anew every few seconds. Returns it."""
    try:
        report = Report.read(data)
    except ValueError as error:
        raise Refused(f"The report of {member.name} cannot be read: {error}.") from error
    path = _file(cloud, member.name)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, json.dumps(asdict(report) | {"seen": time.time()}))
    return report


def last(cloud: Cloud, name: str) -> Report | None:
    """The node's newest report; None if it has not reported since the controller started."""
    try:
        return Report.kept(json.loads(_file(cloud, name).read_text()))
    except FileNotFoundError:
        return None


def providers(sdk: Any) -> dict[str, str]:
    """Node -> what Placement calls it: the name that libvirt finds, which may have a domain."""
    return {
        each.service_details["host"]: each.name for each in sdk.compute.hypervisors(details=True)
    }


def lacks(cloud: Cloud, member: Member) -> str:
    """What servers on the node would wait for, or miss; empty if they can be placed there."""
    sdk = administrator.connect(cloud)
    services = sdk.compute.services(binary="nova-compute", host=member.name)
    if not any(service.state == "up" for service in services):
        return "Nova to list this node as up"
    own = providers(sdk).get(member.name)
    if not any(provider.name == own for provider in sdk.placement.resource_providers()):
        return "Placement to know what this node has"
    late = reachable.behind(cloud, [member.chassis])
    if late is None or late:
        return "its OVN to take up the cloud's networks"
    return ""
