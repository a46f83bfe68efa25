"""Runs of the task graph: up, start, restart; each locked, logged, timed."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from dozencloud import RELEASE, facts
from dozencloud.access import ssh
from dozencloud.access.client import refusal
from dozencloud.checks import doctor
from dozencloud.cloud import lineage
from dozencloud.cloud.installation import Cloud, load
from dozencloud.cloud.membership import Membership
from dozencloud.content import first
from dozencloud.errors import Exit, Problem
from dozencloud.host import environments, processes
from dozencloud.lifecycle import lock, preflight
from dozencloud.lifecycle.bringup import Bringup
from dozencloud.lifecycle.node import make_plan
from dozencloud.lifecycle.services import configure
from dozencloud.nodes.joined import joining, peers
from dozencloud.nodes.joined.client import Controller
from dozencloud.nodes.tokens import Token
from dozencloud.supervision import client
from dozencloud.tasks.graph import Graph, RunFailed, Step, Task
from dozencloud.tasks.timings import RunReport, TaskState
from dozencloud.tasks.view import make_listener
from dozencloud.verdicts import Verdict

WAITS = {"compute-node", "floating-ips"}
"""Tasks that wait for something and change nothing."""
ASK_SECONDS = 5.0  # s between two looks into Nova's list of servers
CLEARING = {"up", "join", "upgrade"}
"""Commands after which Python environments go that no cloud needs any more."""
KEPT = 5  # runs whose task logs are kept
ADDRESS = "first-address"
"""Floating IP of the first server in the cloud's state."""


@dataclass(frozen=True)
class Outcome:
    """A run that reached its end.

    login: the command that logs in to `first`, or empty.   warnings: of what this machine is.
    """

    cloud: Cloud
    report: RunReport
    changed: bool
    login: str = ""
    warnings: tuple[Verdict, ...] = ()


def up(cloud: Cloud, *, first_server: bool, verbose: bool) -> Outcome:
    """Bring the cloud up; nothing is changed on a machine that is not fit."""
    with lock.locked(cloud):
        lineage.need_release(cloud)
        found, verdicts = preflight.examine(cloud)
        doctor.need_fit(verdicts)
        bringup = Bringup(make_plan(cloud, found), found)
        bringup.state.set(lineage.MADE_BY, RELEASE)
        tasks = bringup.tasks(first_server=first_server)
        report = run(cloud, tasks, "up", found, verbose)
        changed = worked(report, tasks)
        wanted = first_server and bringup.plan.controls
        login = _login(bringup, ask=changed) if wanted else ""
        heard = preflight.warnings(cloud, found, verdicts, node=not bringup.plan.controls)
        return Outcome(cloud, report, changed, login, heard)


def join(
    cloud: Cloud,
    url: str,
    token: Token,
    *,
    name: str,
    address: str,
    say: Callable[[str], None],
    verbose: bool,
) -> tuple[Outcome, Membership]:
    """Make this machine a node of the cloud at `url`; nothing is changed on one that is not fit."""
    with lock.locked(cloud):
        lineage.need_release(cloud)
        found, verdicts = preflight.examine(cloud, joining=True)
        doctor.need_fit(verdicts)
        for line in joining.abilities(found):
            say(f"This machine will run: {line}.")
        given = joining.enrol(cloud, url, token, name=name, address=address)
        if not given.migration:
            given = peers.meet(cloud, given, Controller(url, cloud.ca))
        joining.wires_fit(given)
        cloud = load(cloud.root)
        bringup = Bringup(make_plan(cloud, found), found)
        bringup.state.set(lineage.MADE_BY, RELEASE)
        tasks = bringup.tasks()
        report = run(cloud, tasks, "join", found, verbose)
        heard = preflight.warnings(cloud, found, verdicts, node=True)
        return Outcome(cloud, report, worked(report, tasks), warnings=heard), given


def take_nodes(cloud: Cloud) -> None:
    """Start what machines join by; costs nothing where it runs."""
    with lock.locked(cloud):
        lineage.need_release(cloud)
        found = facts.gather()
        bringup = Bringup(make_plan(cloud, found), found)
        client.need_started(cloud)
        process = bringup.running.supervisor.processes().get("nodes")
        if process is None or process.state != "running":
            run(cloud, bringup.control_tasks(), "start", found, stderr=True)


def start(cloud: Cloud, *, verbose: bool) -> Outcome:
    """Start the services of a cloud that was stopped, and wait for its servers."""
    with lock.locked(cloud):
        lineage.need_release(cloud)
        found = facts.gather()
        bringup = Bringup(make_plan(cloud, found), found)
        tasks = bringup.control_tasks()
        waits: list[Task] = []
        if not bringup.plan.controls:
            waits = [bringup.node_task()]
        elif bringup.state.get("catalogue"):
            names = tuple(task.name for task in tasks)
            back = partial(_servers_back, bringup)
            waits = [
                Task("compute-node", "This node takes servers", bringup.content.await_node, names),
                Task("servers", "Servers that ran before", back, names),
            ]
        report = run(cloud, [*tasks, *waits], "start", found, verbose)
        return Outcome(cloud, report, worked(report, tasks))


def restart(cloud: Cloud, names: Sequence[str], *, verbose: bool) -> Outcome:
    """Stop these services, start them as they are described now, wait until they are ready."""
    with lock.locked(cloud):
        lineage.need_release(cloud)
        found = facts.gather()
        bringup = Bringup(make_plan(cloud, found), found)
        known = {service.name for service in bringup.services}
        for name in names:
            if name not in known:
                raise Problem(
                    f"There is no service called {name}.",
                    f"Known: {', '.join(sorted(known))}.",
                    code=Exit.USAGE,
                )
        client.need_started(cloud)
        tasks = [
            replace(
                task,
                run=partial(_again, bringup, task),
                after=tuple(n for n in task.after if n in names),
                done=None,
            )
            for task in bringup.control_tasks()
            if task.name in names
        ]
        return Outcome(cloud, run(cloud, tasks, "restart", found, verbose), True)


def _again(bringup: Bringup, task: Task, step: Step) -> None:
    step.note("to stop")
    bringup.running.supervisor.stop(task.name)
    configure([s for s in bringup.services if s.name == task.name], step)
    task.run(step)


def run(
    cloud: Cloud,
    tasks: Sequence[Task],
    command: str,
    found: facts.Facts,
    verbose: bool = False,
    *,
    stderr: bool = False,
) -> RunReport:
    """Run tasks, shown and logged as those of `dozen COMMAND`."""
    timings = cloud.lib / "timings.json"
    graph = Graph(tasks, previous=_previous(timings))
    try:
        report = graph.run(
            make_listener(graph, Console(stderr=stderr), verbose=verbose),
            log_dir=_new_folder(cloud.log / command),
            command=shlex.join(["dozen", command]),
            machine=machine(found),
            refusal=partial(refusal, cloud=cloud),
        )
    except RunFailed as failure:
        if command == "up":
            failure.report.save(timings)
        raise
    if command == "up" and worked(report, tasks):
        report.save(timings)
    if command in CLEARING:
        environments.clear(Path(sys.prefix))
    return report


def worked(report: RunReport, tasks: Sequence[Task]) -> bool:
    """Whether a task found work to do; one without a check always runs, and tells nothing."""
    checked = {task.name for task in tasks if task.done} - WAITS
    return any(r.name in checked and r.state is TaskState.DONE for r in report.records)


def _previous(path: Path) -> RunReport | None:
    try:
        return RunReport.from_json(path.read_text())
    except (OSError, Problem):  # it only makes the order better
        return None


def _new_folder(parent: Path) -> Path:
    """Folder for the logs of this run, the oldest ones removed."""
    runs = sorted(path for path in parent.glob("*") if path.is_dir())
    for old in runs[: max(0, len(runs) - KEPT + 1)]:
        shutil.rmtree(old)
    return parent / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def machine(found: facts.Facts) -> dict[str, Any]:
    """What the timing report says about this machine."""
    return {
        "system": found.system.distribution.pretty,
        "CPUs": f"{found.cpu.usable:g}",
        "memory": f"{found.memory.total / 1024:.0f} GiB",
        "KVM": "yes" if found.kvm.usable else "no",
    }


def _login(bringup: Bringup, *, ask: bool) -> str:
    address = "" if ask else bringup.state.get(ADDRESS) or ""
    if ask:
        address = first.address(bringup.content.sdk)
        bringup.state.set(ADDRESS, address)
    return shlex.join(ssh.ssh(bringup.cloud, address)) if address else ""


def _servers_back(bringup: Bringup, step: Step) -> None:
    """Until every server that Nova believes to be active on this node has its process.

    Nova is asked now and then only: on two cores each question delays what it asks for.
    """
    compute, host = bringup.content.sdk.compute, bringup.plan.node.name
    wanted, asked = 0, -math.inf

    def back() -> bool | str:
        nonlocal wanted, asked
        if time.monotonic() - asked > ASK_SECONDS:
            servers = compute.servers(details=True, all_projects=True)
            wanted = sum(s.status == "ACTIVE" and s.compute_host == host for s in servers)
            asked = time.monotonic()
        running = len(list(processes.find(bringup.cloud, servers=True)))
        return running >= wanted or f"{wanted - running} of {wanted} servers to run"

    step.until(back, seconds=180, every=0.3, what="A server that ran before")
