"""How the Open vSwitch and the OVN of a cloud are reached."""

from __future__ import annotations

import socket as sockets
from collections.abc import Mapping
from pathlib import Path

from dozencloud.cloud import tls
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Plan
from dozencloud.host.network import namespace


def switch_socket(cloud: Cloud) -> Path:
    return cloud.run / "openvswitch" / "db.sock"


def northbound_socket(cloud: Cloud) -> Path:
    return cloud.run / "ovn" / "nb.sock"


def southbound_socket(cloud: Cloud) -> Path:
    return cloud.run / "ovn" / "sb.sock"


def environment(cloud: Cloud) -> Mapping[str, str]:
    """What makes every Open vSwitch and OVN program look below our own folders."""
    return {
        "OVS_RUNDIR": str(cloud.run / "openvswitch"),
        "OVS_LOGDIR": str(cloud.log),
        "OVS_DBDIR": str(cloud.lib / "openvswitch"),
        "OVN_RUNDIR": str(cloud.run / "ovn"),
        "OVN_LOGDIR": str(cloud.log),
        "OVN_DBDIR": str(cloud.lib / "ovn"),
    }


def vsctl(cloud: Cloud, *words: str) -> list[str]:
    return ["ovs-vsctl", f"--db=unix:{switch_socket(cloud)}", "--timeout=30", *words]


def tunnel_address(plan: Plan) -> str:
    """Where the other nodes' tunnels to this one end; loopback as long as there are none."""
    if not plan.controls:
        return plan.given.address
    return namespace.own_address(plan.cloud) if plan.has_nodes else "127.0.0.1"


def southbound_remote(plan: Plan) -> str:
    if plan.controls:
        return f"unix:{southbound_socket(plan.cloud)}"
    # OVN takes no host names.
    return f"ssl:{sockets.gethostbyname(plan.given.host)}:{plan.given.southbound}"


def node_identity(plan: Plan) -> tuple[Path, Path, Path] | None:
    """Key, certificate and authority for the southbound database, on a node that joined."""
    place = tls.folder(plan.cloud)
    return None if plan.controls else (place / "node.key", place / "node.crt", plan.cloud.ca)
