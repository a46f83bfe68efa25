"""What the controller opens when it has nodes, at run time: nothing is restarted for a join."""

from __future__ import annotations

from dataclasses import asdict, replace

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import Member, changing
from dozencloud.cloud.plan import Plan
from dozencloud.errors import Problem
from dozencloud.nodes.controller import authority
from dozencloud.private import write_private
from dozencloud.services import gateway, ovn, services
from dozencloud.supervision.client import Supervisor
from dozencloud.tasks.graph import Step


def apply(plan: Plan) -> None:
    """Open, or close after the last node has left: the broker's gate, OVN, its tunnels."""
    if not authority.control_current(plan.cloud):
        authority.issue_control(plan.cloud)
    with (plan.cloud.log / "nodes-opening.log").open("w") as log:
        ovn.meet_nodes(plan, Step(log))
    _gateway(plan)


def speak(cloud: Cloud, member: Member, encapsulation: str) -> str:
    """What nodes are to speak now that this one receives that; the controller does at once."""
    plan = Plan.kept(cloud)
    if member.encapsulation == encapsulation:
        return plan.spoken
    now = replace(member, encapsulation=encapsulation)
    plan = replace(plan, members=tuple(now if m == member else m for m in plan.members))
    with (cloud.log / "nodes-opening.log").open("a") as log:
        ovn.introduce(plan, Step(log))
    # Last, so that a failure is tried again with the next report.
    with changing(cloud, "members") as rows:
        rows[:] = [asdict(now) if row["name"] == now.name else row for row in rows]
    return plan.spoken


def _gateway(plan: Plan) -> None:
    """Let nginx use its files of now; a gateway that does not run reads them when it starts."""
    (described,) = (each for each in services(plan) if each.name == "gateway")
    for file in described.files:
        write_private(file.path, file.content, file.mode)
    pid = Supervisor(plan.cloud).process("gateway").pid
    if pid and not gateway.reload(pid):
        raise Problem(
            "The gateway did not take up its new settings.",
            f"See: {plan.cloud.command('logs', 'gateway')}",
        )
