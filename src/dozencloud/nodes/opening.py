"""What the controller opens when it has nodes, at run time: nothing is restarted for a join."""

from __future__ import annotations

import sys

from dozencloud.graph import Step
from dozencloud.nodes import authority
from dozencloud.services import ovn
from dozencloud.services.base import Plan


def apply(plan: Plan) -> None:
    """Open, or close after the last node has left: the broker's gate, OVN, its tunnels."""
    if not authority.control_current(plan.cloud):
        authority.issue_control(plan.cloud)
    ovn.meet_nodes(plan, Step(sys.stderr))
