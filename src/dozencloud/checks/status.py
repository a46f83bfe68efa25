"""What runs of a cloud and what it costs: the data behind `dozen status`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dozencloud.checks import reachable
from dozencloud.checks.reachable import Routers
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Plan
from dozencloud.errors import Problem
from dozencloud.facts.memory import disk
from dozencloud.host import processes
from dozencloud.services import services
from dozencloud.supervision.client import Process, Supervisor, last_lines, log_file
from dozencloud.supervision.service import Service

SUPERVISOR = "supervisor"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LITTLE_DISK = 100
"""MiB free, below which the disk counts as full: logs and databases soon cannot be written."""
FAILING = ("fatal", "backoff", "exited", "unknown")
"""supervisord's states of a service that died and was not asked to."""


@dataclass(frozen=True)
class ServiceStatus:
    """One service. Memory is its share (PSS) with all its helpers; pid 0: it does not run.

    failing: it keeps dying, also where it is started once more at this moment.
    last_lines: of its log, only if it is failing.   fault: what it lacks, though it runs.
    """

    name: str
    title: str
    state: str
    pid: int
    memory_mib: float
    uptime_s: int
    restarts: int
    listens: str
    failing: bool = False
    last_lines: str = ""
    fault: str = ""


@dataclass(frozen=True)
class SupervisorStatus:
    """The process that all services are children of."""

    state: str
    pid: int
    memory_mib: float
    uptime_s: int


@dataclass(frozen=True)
class Status:
    """The whole cloud at one moment. servers: how many run, and their memory.

    address: of the APIs; a node's are its controller's.
    disk_free: MiB, of the file system that holds servers.
    node: what the cloud calls this machine, if it is one that joined.
    """

    cloud: str
    address: str
    services: tuple[ServiceStatus, ...]
    supervisor: SupervisorStatus
    servers: int
    servers_mib: float
    disk_free: int
    routers: Routers = field(default_factory=Routers)
    node: str = ""

    @property
    def disk_full(self) -> bool:
        return self.disk_free < LITTLE_DISK

    @property
    def all_running(self) -> bool:
        """A first start counts: supervisor calls a service so in its first two seconds."""
        return all(
            s.state == "running" or (s.state == "starting" and not s.restarts)
            for s in self.services
        )

    @property
    def faults(self) -> dict[str, tuple[str, ...]]:
        """What does not work though the services run, a sentence each -> the command to mend it."""
        found: dict[str, tuple[str, ...]] = {}
        for service in self.services:
            if service.fault:
                found[f"{service.name} runs, but {service.fault}."] = ("start",)
        if self.routers.fault and not found:
            found[f"{self.routers.fault}."] = ("restart", "ovs-switch", "ovn-controller")
        return found

    @property
    def control_plane_mib(self) -> float:
        return sum(service.memory_mib for service in self.services) + self.supervisor.memory_mib

    def to_json(self) -> dict[str, Any]:
        """Plain values; memory rounded to 0.1 MiB."""
        control, servers = self.control_plane_mib, self.servers_mib
        values = {
            "cloud": self.cloud,
            "address": self.address,
            "node": self.node,
            "services": [asdict(service) for service in self.services],
            "servers": {"count": self.servers, "memory_mib": servers},
            "supervisor": asdict(self.supervisor),
            "disk_free_mib": self.disk_free,
            "faults": list(self.faults),
            "memory_mib": {
                "control_plane": control,
                "servers": servers,
                "total": control + servers,
            },
        }
        rounded: dict[str, Any] = json.loads(
            json.dumps(values), parse_float=lambda text: round(float(text), 1)
        )
        return rounded


# ---- whose process is it -------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A process as /proc shows it. marked: it carries the cloud's marker."""

    pid: int
    parent: int
    marked: bool = False
    service: str = ""
    """SUPERVISOR_PROCESS_NAME, which helpers inherit."""


def attribute(seen: Mapping[int, Seen], roots: Mapping[int, str]) -> dict[int, str]:
    """pid → service. roots: pid → service of the processes that the supervisor started.

    A descendant belongs to its nearest root. A helper that was handed to init (Neutron's haproxy,
    privsep daemons) belongs to the service it names, or else to the supervisor.
    """
    known = set(roots.values())
    result: dict[int, str] = {}
    for process in seen.values():
        at, passed = process.pid, set[int]()
        while at not in roots and at in seen and at not in passed:
            passed.add(at)
            at = seen[at].parent
        owner = roots.get(at, "")
        orphan = owner in ("", SUPERVISOR)
        if orphan and process.marked:
            owner = process.service if process.service in known else SUPERVISOR
        if owner:
            result[process.pid] = owner
    return result


def look(cloud: Cloud) -> dict[int, Seen]:
    """Every process of the machine."""
    marker = cloud.marker.encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # pid (name) state ppid …: proc_pid_stat(5)
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            entries = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError, IndexError):
            continue
        name = b"SUPERVISOR_PROCESS_NAME="
        service = next((e[len(name) :].decode() for e in entries if e.startswith(name)), "")
        found[int(folder.name)] = Seen(int(folder.name), parent, marker in entries, service)
    return found


def parse_pss(rollup: str) -> float:
    """MiB of "Pss:  1234 kB" in /proc/PID/smaps_rollup (the unit is KiB)."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def memory(pids: Iterable[int]) -> float:
    """Proportional share of the memory, MiB; a process that has ended counts nothing."""
    total = 0.0
    for pid in pids:
        try:
            total += parse_pss(Path("/proc", str(pid), "smaps_rollup").read_text())
        except OSError:
            continue
    return total


def own_pids(cloud: Cloud) -> frozenset[int]:
    """All processes of the control plane, also those that hide their environment (nginx)."""
    pid = Supervisor(cloud).pid()
    return frozenset(attribute(look(cloud), {pid: SUPERVISOR} if pid else {}))


# ---- the whole -----------------------------------------------------------------------------


def make(
    service: Service, process: Process | None, mib: float, now: float, tail: str
) -> ServiceStatus:
    """One row. process: None if the supervisor does not know the service or is gone."""
    state = process.state if process else "stopped"
    pid = process.pid if process else 0
    failing = state in FAILING or (process is not None and process.dying)
    return ServiceStatus(
        name=service.name,
        title=service.title,
        state=state,
        pid=pid,
        memory_mib=mib,
        uptime_s=max(0, int(now - process.started)) if process and pid else 0,
        restarts=max(0, process.starts - 1) if process else 0,
        listens=service.reached,
        failing=failing,
        last_lines=tail if failing else "",
        fault=service.fault() if state == "running" else "",
    )


def collect(cloud: Cloud) -> Status:
    """Ask the supervisor and the kernel."""
    plan = Plan.kept(cloud)
    given = None if plan.controls else plan.given
    supervisor = Supervisor(cloud)
    try:
        supervised = supervisor.processes()
        pid = supervisor.pid() or 0
    except Problem:  # it is stopped: a status, not a failure
        supervised, pid = {}, 0
    roots = {p.pid: p.name for p in supervised.values() if p.pid} | (
        {pid: SUPERVISOR} if pid else {}
    )
    servers = set(processes.find(cloud, servers=True))
    members: dict[str, list[int]] = {}
    for member, owner in attribute(look(cloud), roots).items():
        if member not in servers:
            members.setdefault(owner, []).append(member)
    now = time.time()
    rows = [
        make(
            service,
            supervised.get(service.name),
            memory(members.get(service.name, ())),
            now,
            last_lines(log_file(cloud, service.name)),
        )
        for service in services(plan)
    ]
    started = (cloud.run / "supervisord.pid").stat().st_mtime if pid else now
    return Status(
        cloud=cloud.name,
        address=given.controller if given else cloud.public_url,
        services=tuple(rows),
        supervisor=SupervisorStatus(
            state="running" if pid else "stopped",
            pid=pid,
            memory_mib=memory(members.get(SUPERVISOR, ())),
            uptime_s=int(now - started),
        ),
        servers=len(servers),
        servers_mib=memory(servers),
        disk_free=disk(cloud.lib).free,
        routers=reachable.routers(cloud) if pid and plan.controls else Routers(),
        node=given.node if given else "",
    )


def losses(cloud: Cloud) -> str:
    """What a person loses with the cloud, as part of a sentence."""
    folders = {
        "server": cloud.lib / "compute" / "instances",
        "image": cloud.lib / "glance" / "images",
    }
    # Names are ids; beside them Nova keeps folders of its own (_base, locks).
    counts = {
        what: sum(1 for path in folder.glob("*") if UUID.fullmatch(path.name))
        for what, folder in folders.items()
    }
    parts = [f"{n} {what}{'' if n == 1 else 's'}" for what, n in counts.items()]
    return f"{' and '.join(parts)}, all databases and all settings"
