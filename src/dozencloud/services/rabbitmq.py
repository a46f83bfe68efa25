"""RabbitMQ: remote calls among the Nova and Neutron processes. Loopback only, one user."""

from __future__ import annotations

import base64
import hashlib

from dozencloud.services.base import File, Folder, Plan, Role, Service, listening, to_json

USER = "dozen-rabbitmq"
VIRTUAL_HOST = "/"


def password_hash(password: str) -> str:
    """RabbitMQ's rabbit_password_hashing_sha256: base64(salt + sha256(salt + password)).

    The salt comes from the password, which is random itself, so that the file is stable.
    https://www.rabbitmq.com/docs/passwords#computing-password-hash
    """
    salt = hashlib.sha256(b"salt" + password.encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def service(plan: Plan) -> Service:
    cloud = plan.cloud
    etc, data, ports = cloud.etc / "rabbitmq", cloud.lib / "rabbitmq", cloud.settings.internal
    definitions = {
        "users": [
            {
                "name": "dozen",
                "password_hash": password_hash(plan.secrets["rabbitmq"]),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
            }
        ],
        "vhosts": [{"name": VIRTUAL_HOST}],
        "permissions": [
            {
                "user": "dozen",
                "vhost": VIRTUAL_HOST,
                "configure": ".*",
                "write": ".*",
                "read": ".*",
            }
        ],
    }
    config = f"""\
listeners.tcp.local = 127.0.0.1:{ports.broker}
load_definitions = {etc}/definitions.json
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 100MB
log.console = true
log.console.level = warning
log.file = false
"""
    erlang = " ".join(
        [
            # One scheduler that sleeps instead of spinning: the load is tiny.
            "+S 1:1 +SDio 4 +sbwt none +sbwtdcpu none +sbwtdio none",
            f"-kernel inet_dist_listen_min {ports.broker_cluster}",
            f"-kernel inet_dist_listen_max {ports.broker_cluster}",
            "-kernel inet_dist_use_interface {127,0,0,1}",
        ]
    )
    return Service(
        name="rabbitmq",
        title="Message broker (RabbitMQ)",
        role=Role.CONTROL,
        command=["/usr/lib/rabbitmq/bin/rabbitmq-server"],
        user=USER,
        environment={
            "HOME": str(data),
            "RABBITMQ_NODENAME": "dozen@localhost",
            "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(data / "log"),
            "RABBITMQ_PID_FILE": str(cloud.run / "rabbitmq" / "pid"),
            "RABBITMQ_CONFIG_FILE": str(etc / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(etc / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(etc / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(ports.broker_cluster),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": erlang,
            "ERL_EPMD_PORT": str(ports.broker_names),
        },
        folders=(
            Folder(etc, USER, USER, 0o750),
            Folder(data, USER, USER, 0o700),
            Folder(cloud.run / "rabbitmq", USER, USER, 0o750),
        ),
        files=(
            File(etc / "rabbitmq.conf", config, owner=USER),
            File(etc / "enabled_plugins", "[].\n", owner=USER),
            File(etc / "definitions.json", to_json(definitions), owner=USER),
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
        name="epmd",
        title="Erlang's port mapper (epmd)",
        role=Role.CONTROL,
        command=["epmd", "-address", "127.0.0.1", "-port", str(port)],
        user=USER,
        ready=listening(plan.cloud, port),
        listens=f"127.0.0.1:{port}",
    )
