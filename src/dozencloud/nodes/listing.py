"""What a person wants to know of the machines of a cloud: from Nova, and from their reports."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dozencloud import RELEASE
from dozencloud.access import administrator
from dozencloud.checks import reachable, status
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import Member, members
from dozencloud.cloud.plan import Plan
from dozencloud.cloud.settings import OLDEST_OVN
from dozencloud.compute.hang.symptoms import Finding
from dozencloud.errors import Exit, Problem
from dozencloud.nodes import reports
from dozencloud.nodes.joined import agent
from dozencloud.nodes.joined.joining import MOST_OFF, set_clock, span
from dozencloud.nodes.reports import Report
from dozencloud.releases import Standing, standing
from dozencloud.services import ovnseries


class Condition(StrEnum):
    """What a node is doing."""

    UP = "up"
    DRAINED = "drained"
    """It runs, but takes no new servers."""
    CUT_OFF = "no network"
    """It runs, but the cloud's networks do not reach its servers."""
    DOWN = "down"
    """Nova hears nothing of it; its servers may still run."""
    JOINING = "joining"
    """It has been let in, and Nova has not heard of it yet."""


@dataclass(frozen=True)
class Row:
    """One machine.

    member: None for the controller, and for a node that was shut out with servers on it.
    report: the newest; None if none came since the controller started.
    unread: its OVN does not take up what the controller's says.
    """

    name: str
    role: str
    address: str
    condition: Condition
    unread: bool
    servers: tuple[str, ...]
    member: Member | None
    report: Report | None

    @property
    def controls(self) -> bool:
        return self.role != "compute"

    @property
    def seen(self) -> float | None:
        """Seconds since its last report."""
        return time.time() - self.report.seen if self.report else None

    @property
    def silent(self) -> bool:
        """A node that does not report. Where none came yet the controller has just started."""
        return self.member is not None and self.seen is not None and self.seen > reports.SILENT

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is wrong with the machine, a sentence each with its mend."""
        report, found = self.report, []
        if self.condition is Condition.CUT_OFF:
            found.append(self._cut_off())
        if report is None:
            return tuple(found)
        if report.free < status.LITTLE_DISK:
            found.append(
                f"{self.name}: only {report.free} MiB of its disk are free. Make room;"
                " what waits for that goes on by itself."
            )
        off = report.clock - report.seen
        if self.member and abs(off) > MOST_OFF:
            found.append(
                f"{self.name}: its clock is {span(off)} this machine's."
                f" On it, run: {set_clock(off)}"
            )
        if self.member and (words := _release(report.release)):
            found.append(f"{self.name}: {words}")
        return tuple(found)

    def _cut_off(self) -> str:
        if not self.unread and self.report:
            return (
                f"{self.name}: its OVN ({self.report.networks}) is older than the controller's, so"
                f' its servers have no network. On the controller, set ovn = "{OLDEST_OVN}" under'
                " [nodes] in its cloud.toml, then: sudo ./dozen up"
            )
        return (
            f"{self.name}: its OVN does not take up the cloud's networks, so its servers may have"
            " none. On it: sudo ./dozen restart ovn-controller; then: sudo ./dozen logs"
            " ovn-controller"
        )

    def to_json(self) -> dict[str, Any]:
        report = self.report
        return {
            "name": self.name,
            "role": self.role,
            "address": self.address,
            "condition": str(self.condition),
            "networks": report.networks if report else None,
            "servers": list(self.servers),
            "architecture": report.architecture if report else None,
            "board": report.board if report else None,
            "clusters": [list(c) for c in report.clusters] if report else None,
            "kvm": kvm(report) if report else None,
            "memory_mib": report.memory if report else None,
            "memory_available_mib": report.available if report else None,
            "disk_mib": report.disk if report else None,
            "disk_free_mib": report.free if report else None,
            "encapsulation": report.encapsulation if report else None,
            "temperature": report.temperature if report else None,
            "release": report.release if report else None,
            "troubles": list(self.troubles),
            "seen_seconds_ago": round(self.seen) if self.seen is not None else None,
        }


def _release(release: str) -> str:
    """What to do about a node of that release, a sentence or two; empty for one of our series."""
    match standing(release):
        case Standing.SAME:
            return ""
        case Standing.BEFORE:
            text = f"its release is {release}, the controller's {RELEASE}."
            return f"{text} On it: git pull && sudo ./dozen upgrade"
        case Standing.TOO_OLD:
            text = f"its release {release} is too old for the controller's, {RELEASE}."
            return f"{text} On it: git pull && sudo ./dozen upgrade"
        case Standing.NEWER:
            text = f"its release {release} is newer than the controller's, {RELEASE}."
            return f"{text} On the controller: git pull && sudo ./dozen upgrade"


def rows(cloud: Cloud) -> list[Row]:
    """All machines, the controller first."""
    sdk = administrator.connect(cloud)
    services = {s.host: s for s in sdk.compute.services(binary="nova-compute")}
    there: dict[str, list[str]] = {}
    for server in sdk.compute.servers(all_projects=True):
        there.setdefault(server.compute_host or "", []).append(server.name)

    plan, joined = Plan.kept(cloud), members(cloud)
    own = plan.node.name
    chassis = {own: plan.node.chassis} | {member.name: member.chassis for member in joined}
    ours = ovnseries.written(cloud)
    up = {name for name, service in services.items() if service.state == "up"}
    late = reachable.behind(cloud, [each for name, each in chassis.items() if name in up]) or ()

    def row(name: str, address: str, member: Member | None, report: Report | None) -> Row:
        role = "control, compute" if name == own else "compute"
        servers = tuple(sorted(there.get(name, ())))
        unread, condition = chassis.get(name) in late, _condition(services.get(name))
        readable = ovnseries.reads(report.networks if report else "", ours)
        if condition is Condition.UP and (unread or not readable):
            condition = Condition.CUT_OFF
        return Row(name, role, address, condition, unread, servers, member, report)

    shut_out = sorted(services.keys() - {own} - {member.name for member in joined})
    return [
        row(own, cloud.address, None, agent.observed(cloud)),
        *(row(m.name, m.address, m, reports.last(cloud, m.name)) for m in joined),
        *(row(name, "", None, None) for name in shut_out),
    ]


def _condition(service: Any) -> Condition:
    if service is None:
        return Condition.JOINING
    if service.state != "up":
        return Condition.DOWN
    return Condition.UP if service.status == "enabled" else Condition.DRAINED


def find(cloud: Cloud, name: str) -> Row:
    """The machine of that name; Problem if there is none."""
    found = rows(cloud)
    for row in found:
        if row.name == name:
            return row
    raise Problem(
        f"There is no node called {name}.",
        f"There are: {', '.join(row.name for row in found)}.",
        code=Exit.USAGE,
    )


def kvm(report: Report) -> str:
    """In a word or two, whether its KVM runs ARM servers."""
    if not report.kvm:
        return "no"
    return "64 and 32 bit" if report.aarch32 else "64 bit"


def cpus(report: Report) -> str:
    """`4x Cortex-A53 + 2x Cortex-A72`"""
    counted = Counter[str]()
    for model, number in report.clusters:
        counted[model] += number
    return " + ".join(f"{number}x {model}" for model, number in counted.items())


def ago(seconds: float | None) -> str:
    """How long ago, for people."""
    if seconds is None:
        return "never"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def of_its_node(row: Row, status: str) -> Finding | None:
    """What is wrong with a server because of the node that it is on; only an administrator sees."""
    if status != "ACTIVE":
        return None
    if row.condition is Condition.CUT_OFF:
        return Finding("no-network", row.troubles[0], "")
    if row.condition is Condition.DOWN:
        return Finding(
            "node-down",
            f"Nova has heard nothing of its node {row.name} for more than a minute.",
            "See: dozen node list, and docs/nodes.md, When a node has trouble.",
        )
    return None
