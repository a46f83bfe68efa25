"""A node's account in RabbitMQ: made when it joins, deleted when it is removed.

It may declare, bind and delete nothing. It takes from its own queues, which stand here, calls the
conductor, and answers who called it. Where nodes trust each other it also calls and answers them.
Nova declares what it uses; on a node it does not (compute/joined/nodebus.py).
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from dozencloud.cloud.installation import BROKER_ANSWERS, Cloud
from dozencloud.cloud.membership import account, members
from dozencloud.errors import Problem
from dozencloud.host.distributions import registry
from dozencloud.host.network import namespace
from dozencloud.services.rabbitmq import (
    CALLS,
    TO_NODES,
    VIRTUAL_HOST,
    binding,
    environment,
    password_hash,
    queue,
)

CONNECTIONS = 64
"""At one time; nova-compute has up to 30, and those of the one before it may not be gone yet."""
SECONDS = 60.0
"""Within which rabbitmqctl ends; Erlang takes a second to start, a slow board ten."""
NO_USER, NO_QUEUE = "does not exist", "Queue not found"
"""What rabbitmqctl says where the user or the queue is not there."""


def calls(node: str) -> tuple[str, ...]:
    """Queues of what the node is called to do; the second while nova-compute stops."""
    return (f"compute.{node}", f"compute-alt.{node}")


def answers(user: str) -> str:
    """Queue of the answers that the account's node gets."""
    return f"reply_{user}"


def definitions(node: str, password: str) -> dict[str, Any]:
    """All that is a node's in RabbitMQ, as `rabbitmqctl import_definitions` reads it.

    It trusts no other node (`permit`).
    """
    user = account(node)
    queues = (*calls(node), answers(user))
    return {
        "users": [
            {
                "name": user,
                "password_hash": password_hash(password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
                "limits": {"max-connections": CONNECTIONS},
            }
        ],
        "permissions": [
            {
                "user": user,
                "vhost": VIRTUAL_HOST,
                "configure": "^$",
                "write": _one_of(CALLS, BROKER_ANSWERS),
                "read": _one_of(*queues),
            }
        ],
        "topic_permissions": topics(node),
        "queues": [queue(name, {}) for name in queues],
        "bindings": [binding(TO_NODES, "queue", name, name) for name in calls(node)],
    }


def topics(node: str, peers: Iterable[str] = ()) -> list[dict[str, str]]:
    """What it may say to whom. peers: the nodes that it trusts."""
    user, others = account(node), [peer for peer in peers if peer != node]
    # Itself: Nova resizes a server on its own host by messages to it.
    called = [name for each in (node, *others) for name in calls(each)]
    # The controller's processes have such names for their queues; nodes do not.
    answered = ["^reply_[0-9a-f]{32}$", *(f"^{re.escape(answers(account(o)))}$" for o in others)]
    return [
        _topics(user, CALLS, _one_of("conductor", *called)),
        _topics(user, BROKER_ANSWERS, "|".join(answered)),
    ]


def _one_of(*names: str) -> str:
    return f"^({'|'.join(map(re.escape, names))})$"


def _topics(user: str, exchange: str, write: str) -> dict[str, str]:
    return {
        "user": user,
        "vhost": VIRTUAL_HOST,
        "exchange": exchange,
        "write": write,
        "read": "^$",
    }


def grant(cloud: Cloud, node: str, password: str) -> None:
    """Let the node in with this password; RabbitMQ keeps that."""
    _define(cloud, definitions(node, password))


def permit(cloud: Cloud) -> None:
    """Let nodes call each other if the setting says so; else see that they cannot."""
    names = [member.name for member in members(cloud)]
    trusting = cloud.settings.nodes.migration
    said = [each for name in names for each in topics(name, names if trusting else ())]
    _define(cloud, {"topic_permissions": said})
    if not trusting:
        # What a connection was once allowed RabbitMQ does not look up again.
        for name in names:
            why = "Nodes do not call each other any more."
            _control(cloud, "close_all_user_connections", account(name), why)


def revoke(cloud: Cloud, node: str) -> None:
    """Shut the node out: what it has open is cut, what waits for it is dropped."""
    user = account(node)
    _control(cloud, "delete_user", user, unless=NO_USER)
    _control(cloud, "close_all_user_connections", user, "This node was removed from the cloud.")
    for name in (*calls(node), answers(user)):
        _control(cloud, "delete_queue", name, unless=NO_QUEUE)


def _define(cloud: Cloud, said: Mapping[str, Any]) -> None:
    """Add definitions to RabbitMQ's. From a file: from 4.0 on it never reads standard input."""
    with tempfile.NamedTemporaryFile("w", dir=cloud.run, suffix=".json") as file:  # mode 0600
        json.dump(said, file)
        file.flush()
        _control(cloud, "import_definitions", file.name)


def _control(cloud: Cloud, *words: str, unless: str | None = None) -> None:
    """rabbitmqctl. unless: an error that is none."""
    control = registry.here().paths.rabbitmq / "rabbitmqctl"
    try:
        result = subprocess.run(
            namespace.in_network(cloud, [str(control), "--quiet", *words]),
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG": "C.UTF-8",
                **environment(cloud),
            },
            stdin=subprocess.DEVNULL,
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Problem(
            f"RabbitMQ did not do {words[0]} within {SECONDS:g} s.",
            f"See: {cloud.command('logs', 'rabbitmq')}",
        ) from None
    if result.returncode and not (unless and unless in result.stderr):
        raise Problem(
            f"RabbitMQ refused {words[0]}.",
            f"See: {cloud.command('status')}",
            detail=(result.stderr or result.stdout).strip(),
        )
