"""What a service is: a long-running process as data."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from dozencloud.cloud import tls
from dozencloud.cloud.installation import REGION, Cloud
from dozencloud.cloud.membership import Member, Membership, members, membership, nodes_folder
from dozencloud.cloud.secret import Secrets
from dozencloud.cloud.settings import GENEVE, VXLAN
from dozencloud.errors import Problem
from dozencloud.host.confinement import ORDINARY, Confinement, Unconfined
from dozencloud.host.network import namespace
from dozencloud.releases import known
from dozencloud.services import accounts
from dozencloud.tasks.graph import Step

GROUP = "dozen"
"""Group of all service users: it may use the sockets, never read another one's files."""


class Role(StrEnum):
    """What a node does for the cloud."""

    CONTROL = "control"
    COMPUTE = "compute"


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
    mtu: int = namespace.ETHERNET
    keeps_time: bool = False
    encapsulation: str = GENEVE


@dataclass(frozen=True)
class Plan:
    """All that a service's description is made from.

    membership: what this machine was given when it joined; None on the controller.
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
        return self.membership.encapsulations if self.membership else self.spoken

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


@dataclass(frozen=True)
class File:
    """A rendered file; `owner` is a user, the group is root's unless the mode gives it rights."""

    path: Path
    content: str
    owner: str = "root"
    mode: int = 0o600


@dataclass(frozen=True)
class Folder:
    path: Path
    owner: str = "root"
    group: str = "root"
    mode: int = 0o700


@dataclass(frozen=True)
class Service:
    """One long-running process.

    command: argument list. A command of `python_main`/`python_wsgi` is forked from the
        preloaded parent instead of executed.
    after: services that must be ready before this one is started.
    prepare: brings what the process needs into being; idempotent, runs before every start.
    ready: true as soon as the service does its work; cheap.
    settle: does what has to be done once it is ready; idempotent.
    fault: what is not (any more) as `settle` left it, though the service runs: a sentence without
        its dot; empty if nothing. Cheap.
    reads: files of others' making that it reads when it starts.
    reload: makes the running process (its pid) use changed files, without an end to what it is
        doing; false if it could not. Without, the service is restarted.
    listens: where it is reached, for people.
    confinement: what it and all that it starts cannot do.
    patience: s until it must be ready; a small board needs its time.
    """

    name: str
    title: str
    role: Role
    command: Sequence[str]
    ready: Callable[[], bool]
    after: tuple[str, ...] = ()
    user: str = "root"
    environment: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[Folder, ...] = ()
    files: tuple[File, ...] = ()
    reads: tuple[Path, ...] = ()
    reload: Callable[[int], bool] | None = None
    prepare: Callable[[Step], None] | None = None
    settle: Callable[[Step], None] | None = None
    fault: Callable[[], str] = lambda: ""
    listens: str = ""
    umask: int = 0o007
    nice: int = 0
    stop_seconds: int = 10
    patience: int = 180
    confinement: Confinement | Unconfined = ORDINARY


def ini(sections: Mapping[str, Mapping[str, object]]) -> str:
    """oslo.config's INI: true/false in lower case, lists joined by commas."""

    def text(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list | tuple):
            return ",".join(map(str, value))
        return str(value)

    blocks = [
        "\n".join([f"[{name}]", *(f"{key} = {text(value)}" for key, value in options.items())])
        for name, options in sections.items()
    ]
    return "\n\n".join(blocks) + "\n"


# ---- the command of a Python service ------------------------------------------------------

# -P: not the folder that `dozen` was called in; it may be anybody's.
SERVE = ("-P", "-m", "dozencloud.supervision.serve")


def python_main(plan: Plan, target: str, *arguments: str) -> list[str]:
    return [plan.python, *SERVE, "main", target, *arguments]


@dataclass(frozen=True)
class Lane:
    """A second socket of an API, for requests that must not hold up those of the first.

    threads: at most. wrapper: `module:function`, put around the application there.
    """

    name: str
    threads: int
    wrapper: str


LOGINS = Lane("keystone-logins", 160, "dozencloud.hooks.logins:Guarded")
"""Passwords cost time, and whoever guesses them waits."""
IMAGE_DATA = Lane("glance-data", 320, "dozencloud.hooks.transfers:bounded")
"""Uploads and downloads take as long as their clients like."""


def python_wsgi(
    plan: Plan, name: str, target: str, prefix: str, lane: Lane | None = None
) -> list[str]:
    cloud = plan.cloud
    beside = [str(api_socket(cloud, lane.name)), str(lane.threads), lane.wrapper] if lane else []
    return [
        *(plan.python, *SERVE, "wsgi", target),
        *(str(api_socket(cloud, name)), prefix, str(cloud.settings.services.threads), *beside),
    ]


def api_socket(cloud: Cloud, name: str) -> Path:
    return cloud.run / "api" / name / "api.sock"


def api_folder(cloud: Cloud, name: str, user: str = "root") -> Folder:
    """What the socket is in: no other service could put its own there (2: so becomes the group)."""
    return Folder(api_socket(cloud, name).parent, user, GROUP, 0o2750)


# ---- options that several services share --------------------------------------------------


def memcached(cloud: Cloud) -> str:
    return f"unix:{cloud.run}/memcached/memcached.sock"


def database_url(plan: Plan, database: str, user: str | None = None) -> str:
    """SQLAlchemy URL over MariaDB's Unix socket."""
    user = user or database
    password = plan.secrets[f"mariadb.{user}"]
    sock = plan.cloud.run / "mariadb" / "mariadb.sock"
    return f"mysql+pymysql://{user}:{password}@localhost/{database}?unix_socket={sock}&charset=utf8"


def database_options(plan: Plan, database: str, user: str | None = None) -> dict[str, object]:
    # One API process has few threads; idle connections cost MariaDB memory.
    return {
        "connection": database_url(plan, database, user),
        "max_pool_size": 4,
        "max_overflow": 16,
        "connection_recycle_time": 600,
    }


def broker_url(plan: Plan) -> str:
    if given := plan.membership:
        return f"rabbit://{given.user}:{given.broker_password}@{given.host}:{given.broker}/"
    port = plan.cloud.settings.internal.broker
    return f"rabbit://dozen:{plan.secrets['rabbitmq']}@127.0.0.1:{port}/"


def broker_over_tls(plan: Plan) -> dict[str, object]:
    """[oslo_messaging_rabbit] of a node; a cut network is noticed, and mended, in seconds."""
    place = tls.folder(plan.cloud)
    return {
        "ssl": True,
        "ssl_ca_file": plan.cloud.ca,
        "ssl_cert_file": place / "node.crt",
        "ssl_key_file": place / "node.key",
        "heartbeat_timeout_threshold": 10,
        "rabbit_retry_backoff": 1,
        "rabbit_interval_max": 3,
    }


def credentials(plan: Plan, user: str) -> dict[str, object]:
    """keystoneauth options with which a service speaks to the others.

    On a node that joined all of them use its own account, over the public port.
    """
    if given := plan.membership:
        return {
            "auth_type": "password",
            "auth_url": f"{given.controller}/identity/v3",
            "username": given.user,
            "password": given.identity_password,
            "project_name": "service",
            "user_domain_id": "default",
            "project_domain_id": "default",
            "region_name": REGION,
            "valid_interfaces": "public",
            "cafile": plan.cloud.ca,
        }
    return {
        "auth_type": "password",
        "auth_url": f"{plan.cloud.internal_url}/identity/v3",
        "username": user,
        "password": plan.secrets[f"keystone.{user}"],
        "project_name": "service",
        "user_domain_id": "default",
        "project_domain_id": "default",
        "region_name": REGION,
        "valid_interfaces": "internal",
    }


def token_check(plan: Plan, user: str) -> dict[str, object]:
    """[keystone_authtoken]: how a service checks the token of a request."""
    own = credentials(plan, user)
    del own["valid_interfaces"]
    return {
        **own,
        "interface": "internal",
        "www_authenticate_uri": f"{plan.cloud.public_url}/identity/v3",
        "memcached_servers": memcached(plan.cloud),
        "service_token_roles": "service",
        "service_token_roles_required": True,
    }


def policy_file(plan: Plan, service: str, owner: str) -> File:
    """Who may do what more than upstream's policies say; `policy_option` names it."""
    # JSON is YAML.
    return File(_policy(plan, service), to_json(accounts.RULES[service]), owner=owner)


def policy_option(plan: Plan, service: str) -> dict[str, object]:
    """[oslo_policy]"""
    return {"policy_file": _policy(plan, service)}


def _policy(plan: Plan, service: str) -> Path:
    return plan.cloud.etc / service / "policy.yaml"


LOG_OPTIONS: dict[str, object] = {"use_stderr": True, "log_color": False}
NO_NOTIFICATIONS: dict[str, object] = {"driver": "noop"}


# ---- readiness ----------------------------------------------------------------------------


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def http_status(path: Path, url: str, timeout: float = 15) -> int:
    """Status of a GET over a Unix socket; 0 where nobody answers."""
    connection = _UnixConnection(path, timeout)
    try:
        connection.request("GET", url)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def answers(cloud: Cloud, name: str, url: str) -> Callable[[], bool]:
    """Ready when the API says anything but a server error."""
    return lambda: 0 < http_status(api_socket(cloud, name), url) < 500


def listening(cloud: Cloud, port: int, address: str = "127.0.0.1") -> Callable[[], bool]:
    """Ready when somebody accepts connections on the port of an address of this machine."""

    def probe() -> bool:
        with namespace.within(cloud):
            client = socket.socket()
        with client:
            client.settimeout(2)
            return client.connect_ex((address, port)) == 0

    return probe


def accepting(path: Path) -> Callable[[], bool]:
    """Ready when somebody accepts connections on the Unix socket."""

    def probe() -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            return client.connect_ex(str(path)) == 0

    return probe


def to_json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
