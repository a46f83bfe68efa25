"""Machines whose services the tables show. None of them is there, and no file of theirs is read."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import Member, Membership
from dozencloud.cloud.plan import Node, Plan
from dozencloud.cloud.secret import Secrets
from dozencloud.cloud.settings import Settings

ADDRESS = "ADDRESS"
"""Stands for the machine's own."""
SETTINGS = Settings()
SETTINGS = replace(
    SETTINGS,
    gateway=replace(SETTINGS.gateway, address=ADDRESS),
    network=replace(
        SETTINGS.network,
        provider_interface="eth0",
        provider_cidr="192.0.2.0/24",
        provider_gateway="192.0.2.1",
        floating_range="192.0.2.200-192.0.2.230",
    ),
)
NODE = Node("node", "chassis", "kvm", "system", "aarch64", kvm_present=True, keeps_time=True)
MEMBER = Member("node", 1, "chassis", ADDRESS, "compute", secret="", key="", joined=0)
GIVEN = Membership(
    controller=f"https://{ADDRESS}",
    node="node",
    number=1,
    address=ADDRESS,
    broker=SETTINGS.nodes.broker,
    southbound=SETTINGS.nodes.southbound,
    mtu=1500,
    broker_password="",
    identity_password="",
    secret="",
    migration="trusted",
)


class NoSecrets(Secrets):
    """Real ones are kept in a file from the first question on."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere/secrets.json"))

    def __getitem__(self, name: str) -> str:
        return name


def alone() -> Plan:
    """A controller that has no nodes."""
    return Plan(Cloud(None, SETTINGS), NODE, NoSecrets(), Path(sys.prefix))


def controller() -> Plan:
    """A controller with all that it can have."""
    return replace(alone(), members=(MEMBER,), takes_nodes=True)


def joined() -> Plan:
    """A node that joined, and trusts others."""
    return replace(alone(), membership=GIVEN)
