"""What the services of a machine are described from: the cloud, and what this machine is in it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from dozencloud.cloud import installation
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import Member, Membership, members, membership, nodes_folder
from dozencloud.cloud.secret import Secrets
from dozencloud.cloud.settings import GENEVE, VXLAN
from dozencloud.errors import Problem
from dozencloud.releases import known


class Role(StrEnum):
    """What a node does for the cloud."""

    CONTROL = "control"
    COMPUTE = "compute"


FIRST = frozenset(Role)
"""Roles of the machine on which the cloud began."""
JOINED = frozenset((Role.COMPUTE,))
"""Roles of one that joins."""


@dataclass(frozen=True)
class Node:
    """This machine as a member of the cloud, decided once and kept.

    name: host name in Nova and Neutron; it stays when the machine is renamed.
    chassis: system-id of the OVN chassis.
    virt_type: kvm or qemu.   datapath: system or netdev.
    encapsulation: of tunnels to this machine, geneve or vxlan.
    architecture: kernel machine name (x86_64, aarch64, armv7l).
    kvm_present: /dev/kvm exists, usable or not.
    shared_cpus, dedicated_cpus: as Nova reads them (0,1); both empty where servers share all.
    mtu: bytes that packets between the nodes may have.
    keeps_time: nothing else keeps the clock, and there is no systemd to start what would.
    """

    name: str
    chassis: str
    virt_type: str
    datapath: str
    architecture: str
    kvm_present: bool
    shared_cpus: str = ""
    dedicated_cpus: str = ""
    mtu: int = installation.ETHERNET
    keeps_time: bool = False
    encapsulation: str = GENEVE


@dataclass(frozen=True)
class Plan:
    """All that a service's description is made from.

    membership: what it was given when it joined; None where the cloud began.
    members: on the controller, the nodes that joined.
    takes_nodes: on the controller, whether a token was ever made, so that nodes may join.
    """

    cloud: Cloud
    node: Node
    secrets: Secrets
    environment: Path
    membership: Membership | None = None
    members: tuple[Member, ...] = ()
    takes_nodes: bool = False

    @classmethod
    def of(cls, cloud: Cloud, node: Node) -> Self:
        """The plan of this machine, from what the cloud's files say now."""
        return cls(
            cloud,
            node,
            Secrets(cloud.secrets_file),
            # The Python environment that this process runs in, and so do the services.
            Path(sys.prefix),
            membership=membership(cloud),
            members=members(cloud),
            takes_nodes=nodes_folder(cloud).exists(),
        )

    @classmethod
    def kept(cls, cloud: Cloud) -> Self:
        """The plan as the last `up` left it; changes nothing."""
        try:
            node = known(Node, json.loads((cloud.lib / "node.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise Problem(
                "This cloud was never brought up completely.", f"Run: {cloud.command('up')}"
            ) from error
        return cls.of(cloud, node)

    @property
    def roles(self) -> frozenset[Role]:
        """What this machine does for the cloud; these decide what it has."""
        return frozenset(map(Role, self.membership.roles.split(","))) if self.membership else FIRST

    @property
    def controls(self) -> bool:
        """Whether APIs, databases, the broker and the way out are here."""
        return Role.CONTROL in self.roles

    @property
    def given(self) -> Membership:
        """What this machine was given when it joined; ValueError where the cloud began."""
        if self.membership is None:
            raise ValueError("only a machine that joined was given something")
        return self.membership

    @property
    def has_nodes(self) -> bool:
        return bool(self.members)

    @property
    def spoken(self) -> str:
        """On the controller, what machines that can receive Geneve are to speak.

        OVN takes the first that both ends have (encaps.c, preferred_encap). VXLAN has room for
        few networks, so it is spoken only once a machine needs it.
        """
        needed = {self.node.encapsulation, *(each.encapsulation for each in self.members)}
        return f"{GENEVE},{VXLAN}" if VXLAN in needed else GENEVE

    @property
    def encapsulations(self) -> str:
        """Of the tunnels of this machine, as OVN wants them."""
        if self.node.encapsulation == VXLAN:
            return VXLAN
        return self.spoken if self.controls else self.given.encapsulations

    @property
    def trusting(self) -> Membership | None:
        """On a node that trusts others, what it was given when it joined."""
        return self.membership if self.membership and self.membership.migration else None

    @property
    def python(self) -> str:
        return str(self.environment / "bin" / "python")

    def script(self, name: str) -> str:
        return str(self.environment / "bin" / name)

    def share(self, *parts: str) -> Path:
        """A configuration file that an upstream package ships (its data_files)."""
        return self.environment.joinpath("etc", *parts)
