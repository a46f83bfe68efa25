"""Who belongs to a cloud: on a node what the controller gave it, on the controller its nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dozencloud.cloud.installation import MEMBERSHIP_FILE, Cloud
from dozencloud.cloud.settings import GENEVE
from dozencloud.errors import Problem
from dozencloud.locks import open_lock
from dozencloud.private import write_private
from dozencloud.releases import known


@dataclass(frozen=True)
class Membership:
    """What a machine that joined was given; kept on it, readable by root only.

    controller: URL of the gateway.   address: where the others reach this machine.
    number: unique among the cloud's nodes, from 1.
    broker, southbound: TLS ports of the controller.
    mtu: bytes, of the wires between the nodes.
    broker_password, identity_password: of the account `user` in RabbitMQ and in Keystone.
    secret: by which the controller knows this node's reports.
    migration: which nodes it trusts, as the controller named it; empty: none but the controller.
    encapsulations: what tunnels it is to speak, if it can receive Geneve (`Plan.spoken`).
    roles: what it does for the cloud (Role in cloud/plan.py), with commas between.
    """

    controller: str
    node: str
    number: int
    address: str
    broker: int
    southbound: int
    mtu: int
    broker_password: str = field(repr=False)
    identity_password: str = field(repr=False)
    secret: str = field(repr=False)
    migration: str = ""
    encapsulations: str = GENEVE
    roles: str = "compute"

    @property
    def host(self) -> str:
        """The controller's address or name."""
        return str(urlsplit(self.controller).hostname)

    @property
    def user(self) -> str:
        return account(self.node)


@dataclass(frozen=True)
class Member:
    """A node, as the controller knows it.

    chassis: system-id of its OVN chassis, and the subject of its certificate.
    secret: SHA-256, in hex, of the secret that its reports carry.
    key: SHA-256, in hex, of the public key with which it joined.
    joined: seconds since the epoch.
    encapsulation: of tunnels to it, as it reports.
    """

    name: str
    number: int
    chassis: str
    address: str
    role: str
    secret: str
    key: str
    joined: float
    encapsulation: str = GENEVE


def account(node: str) -> str:
    """Name of the node's own account in RabbitMQ and in Keystone."""
    return f"node-{node}"


def console_name(address: str) -> str:
    """Name in a node's certificate by which the controller knows its gate for consoles.

    In the place of the star is the port. nginx knows names only, and makes this one from the
    address (services/gateway.py).
    """
    return f"*.{address.replace('.', '-')}.node"


def membership_file(cloud: Cloud) -> Path:
    return cloud.etc / MEMBERSHIP_FILE


def membership(cloud: Cloud) -> Membership | None:
    """What this machine was given; None on a controller and on a machine that never joined."""
    path = membership_file(cloud)
    try:
        return known(Membership, json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise Problem(f"{path} cannot be read.", "Use sudo.") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise Problem(
            f"{path} is damaged: {error}.",
            "Remove this node on the controller, run `dozen leave` here, and join anew.",
        ) from error


def keep(cloud: Cloud, given: Membership) -> None:
    write_private(membership_file(cloud), json.dumps(asdict(given), indent=2) + "\n")


# ---- on the controller --------------------------------------------------------------------


def nodes_folder(cloud: Cloud) -> Path:
    """Tokens, nodes, and their certificate authority; there from the first token on."""
    return cloud.etc / "nodes"


def members(cloud: Cloud) -> tuple[Member, ...]:
    """The nodes that joined, in the order in which they did."""
    return tuple(known(Member, row) for row in _read(cloud, "members"))


@contextmanager
def changing(cloud: Cloud, name: str) -> Iterator[list[dict[str, Any]]]:
    """The rows of a table, to be changed; written back at the end, unless an error passes."""
    folder = nodes_folder(cloud)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open_lock(folder / ".lock") as lock:
        flock(lock, LOCK_EX)
        rows = _read(cloud, name)
        before = json.dumps(rows)
        yield rows
        if json.dumps(rows) != before:
            write_private(folder / f"{name}.json", json.dumps(rows, indent=2) + "\n")


def _read(cloud: Cloud, name: str) -> list[dict[str, Any]]:
    path = nodes_folder(cloud) / f"{name}.json"
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except PermissionError as error:
        raise Problem(f"{path} cannot be read.", "Use sudo.") from error
    except ValueError as error:
        raise Problem(f"{path} is damaged: {error}.", "Restore it from a backup.") from error
    return rows
