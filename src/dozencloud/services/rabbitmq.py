"""RabbitMQ: remote calls among the Nova and Neutron processes. On loopback only.

The controller's services share one account, which may do everything. Each node has its own
(nodes/controller/broker.py), which must not: by the default exchange, through which answers go, it
could write into every queue. So nodes answer through an exchange BROKER_ANSWERS, where the queue is
a routing key, to which a topic permission can hold them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

from dozencloud.cloud.installation import BROKER_ANSWERS, Cloud
from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.needs import Need
from dozencloud.services.options import to_json
from dozencloud.supervision.ready import listening
from dozencloud.supervision.service import Definition, File, Folder, Service

USER = "dozen-rabbitmq"
VIRTUAL_HOST = "/"
ACCOUNT = "dozen"
CALLS = "nova"
"""Nova's exchange (control_exchange of [DEFAULT])."""
TO_NODES = "dozen-nodes"
"""Exchange between Nova's, which is gone with each end of RabbitMQ, and the queues of nodes."""


def password_hash(password: str) -> str:
    """RabbitMQ's rabbit_password_hashing_sha256: base64(salt + sha256(salt + password)).

    The salt comes from the password, which is random itself, so that the file is stable.
    https://www.rabbitmq.com/docs/passwords#computing-password-hash
    """
    salt = hashlib.sha256(b"salt" + password.encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def environment(cloud: Cloud) -> Mapping[str, str]:
    """What leads Erlang's programs to this cloud's RabbitMQ."""
    return {
        "HOME": str(cloud.lib / "rabbitmq"),
        "RABBITMQ_NODENAME": "dozen@localhost",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "ERL_EPMD_PORT": str(cloud.settings.internal.broker_names),
        # Each Erlang that runs listens, also rabbitmqctl and the one that RabbitMQ starts in its
        # first second to see whether epmd is there (rabbit_nodes_common:ensure_epmd).
        "ERL_AFLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }


def exchange(name: str, *, durable: bool = True) -> dict[str, object]:
    """A topic exchange, as RabbitMQ's definitions write it."""
    return {
        "name": name,
        "vhost": VIRTUAL_HOST,
        "type": "topic",
        "durable": durable,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    }


def queue(name: str, arguments: Mapping[str, object], *, durable: bool = True) -> dict[str, object]:
    """A queue, as RabbitMQ's definitions write it."""
    return {
        "name": name,
        "vhost": VIRTUAL_HOST,
        "durable": durable,
        "auto_delete": False,
        "arguments": dict(arguments),
    }


def binding(source: str, kind: str, destination: str, key: str) -> dict[str, object]:
    """What leads from an exchange to a queue or (kind) an exchange."""
    return {
        "source": source,
        "vhost": VIRTUAL_HOST,
        "destination": destination,
        "destination_type": kind,
        "routing_key": key,
        "arguments": {},
    }


def _ways(controller: str) -> dict[str, object]:
    """How calls reach the controller's own services, and nodes.

    Nova's processes declare their queues when they connect; what is said before that is lost, and a
    server that is asked for while RabbitMQ comes back would end in ERROR. So these queues are there
    from RabbitMQ's first moment. They are not durable, or each call would be written to the disk
    (4.7 kB).
    """
    heard = ("conductor", "scheduler", f"compute.{controller}")
    return {
        "exchanges": [
            # As oslo.messaging declares it.
            exchange(CALLS, durable=False),
            exchange(TO_NODES),
            exchange(BROKER_ANSWERS),
        ],
        "queues": [
            *(queue(name, {}, durable=False) for name in heard),
            # A message is dead as it arrives, and goes by its routing key to the queue of that
            # name: the default exchange cannot be bound to another in any other way.
            queue(BROKER_ANSWERS, {"x-message-ttl": 0, "x-dead-letter-exchange": ""}),
        ],
        "bindings": [
            *(binding(CALLS, "queue", name, name) for name in heard),
            binding(CALLS, "exchange", TO_NODES, "compute.#"),
            binding(CALLS, "exchange", TO_NODES, "compute-alt.#"),
            binding(BROKER_ANSWERS, "queue", BROKER_ANSWERS, "#"),
        ],
    }


def _definitions(plan: Plan) -> dict[str, object]:
    """Account, exchanges and queues, there from the first moment."""
    return {
        "users": [
            {
                "name": ACCOUNT,
                "password_hash": password_hash(plan.secrets["rabbitmq"]),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
            }
        ],
        "vhosts": [{"name": VIRTUAL_HOST}],
        "permissions": [
            {
                "user": ACCOUNT,
                "vhost": VIRTUAL_HOST,
                "configure": ".*",
                "write": ".*",
                "read": ".*",
            }
        ],
        **_ways(plan.node.name),
    }


def _config(plan: Plan) -> str:
    """rabbitmq.conf"""
    etc, ports = plan.cloud.etc / "rabbitmq", plan.cloud.settings.internal
    return f"""\
listeners.tcp.local = 127.0.0.1:{ports.broker}
load_definitions = {etc}/definitions.json
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 100MB
log.console = true
log.console.level = warning
log.file = false
"""


def describe(plan: Plan) -> Service:
    cloud = plan.cloud
    etc, data, ports = cloud.etc / "rabbitmq", cloud.lib / "rabbitmq", cloud.settings.internal
    erlang = " ".join(
        [
            # One scheduler that sleeps instead of spinning: the load is tiny.
            "+S 1:1 +SDio 4 +sbwt none +sbwtdcpu none +sbwtdio none",
            f"-kernel inet_dist_listen_min {ports.broker_cluster}",
            f"-kernel inet_dist_listen_max {ports.broker_cluster}",
        ]
    )
    return Service(
        RABBITMQ,
        command=[str(registry.here().paths.rabbitmq / "rabbitmq-server")],
        user=USER,
        environment={
            **environment(cloud),
            "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(data / "log"),
            "RABBITMQ_PID_FILE": str(cloud.run / "rabbitmq" / "pid"),
            "RABBITMQ_CONFIG_FILE": str(etc / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(etc / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(etc / "enabled_plugins"),
            "RABBITMQ_DIST_PORT": str(ports.broker_cluster),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": erlang,
        },
        folders=(
            Folder(etc, USER, USER, 0o750),
            Folder(data, USER, USER, 0o700),
            Folder(cloud.run / "rabbitmq", USER, USER, 0o750),
        ),
        files=(
            File(etc / "rabbitmq.conf", _config(plan), owner=USER),
            File(etc / "enabled_plugins", "[].\n", owner=USER),
            File(etc / "definitions.json", to_json(_definitions(plan)), owner=USER),
        ),
        after=("epmd",),
        ready=listening(cloud, ports.broker),
        listens=f"127.0.0.1:{ports.broker}",
        # Everything waits for it, and its start is the longest.
        nice=-10,
        stop_seconds=20,
    )


def names(plan: Plan) -> Service:
    """epmd, supervised: left to RabbitMQ it would outlive it and listen on every address."""
    port = plan.cloud.settings.internal.broker_names
    return Service(
        NAMES,
        command=["epmd", "-address", "127.0.0.1", "-port", str(port)],
        user=USER,
        ready=listening(plan.cloud, port),
        listens=f"127.0.0.1:{port}",
    )


RABBITMQ = Definition(
    name="rabbitmq",
    title="Message broker (RabbitMQ)",
    describe=describe,
    roles=frozenset((Role.CONTROL,)),
    needs=(Need.BROKER,),
    foundation=True,
)
NAMES = Definition(
    name="epmd",
    title="Erlang's port mapper (epmd)",
    describe=names,
    roles=frozenset((Role.CONTROL,)),
    foundation=True,
)
