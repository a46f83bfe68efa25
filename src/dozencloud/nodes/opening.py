"""What the controller opens when it has nodes, at run time: nothing is restarted for a join."""

from __future__ import annotations

import json

from dozencloud.bringup import environment
from dozencloud.cloud import Cloud
from dozencloud.membership import members
from dozencloud.nodes import authority
from dozencloud.secret import Secrets
from dozencloud.services.base import Node, Plan


def kept_node(cloud: Cloud) -> Node:
    """This machine as a member of the cloud, as the last `up` decided."""
    return Node(**json.loads((cloud.lib / "node.json").read_text()))


def plan(cloud: Cloud) -> Plan:
    """The controller's plan, with the nodes that there are now."""
    return Plan(
        cloud,
        kept_node(cloud),
        Secrets(cloud.etc / "secrets.json"),
        environment(),
        members=members(cloud),
        takes_nodes=True,
    )


def apply(plan: Plan) -> None:
    """Open, or close after the last node has left: the broker's gate, OVN, its tunnels."""
    if not authority.control_current(plan.cloud):
        authority.issue_control(plan.cloud)
