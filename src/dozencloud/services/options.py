"""Configuration that several services have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dozencloud.cloud import tls
from dozencloud.cloud.installation import REGION, Cloud
from dozencloud.cloud.plan import Plan
from dozencloud.supervision.service import File


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
    if not plan.controls:
        given = plan.given
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
    if not plan.controls:
        given = plan.given
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


def policy_file(plan: Plan, service: str, owner: str, rules: Mapping[str, str]) -> File:
    """Who may do what more than upstream's policies say; `policy_option` names it."""
    # JSON is YAML.
    return File(_policy(plan, service), to_json(dict(rules)), owner=owner)


def policy_option(plan: Plan, service: str) -> dict[str, object]:
    """[oslo_policy]"""
    return {"policy_file": _policy(plan, service)}


def _policy(plan: Plan, service: str) -> Path:
    return plan.cloud.etc / service / "policy.yaml"


LOG_OPTIONS: dict[str, object] = {"use_stderr": True, "log_color": False}
NO_NOTIFICATIONS: dict[str, object] = {"driver": "noop"}


def to_json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
