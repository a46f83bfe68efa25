"""OpenStack Keystone: who somebody is, what they may do, and where the services are."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

from dozencloud.cloud.installation import REGION
from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.users import own
from dozencloud.private import write_private
from dozencloud.services.accounts import LIMIT_CHECK, TOKEN_CHECK
from dozencloud.services.options import (
    LOG_OPTIONS,
    NO_NOTIFICATIONS,
    database_options,
    ini,
    memcached,
    policy_file,
    policy_option,
)
from dozencloud.supervision.ready import answers
from dozencloud.supervision.service import (
    Api,
    Definition,
    File,
    Folder,
    Lane,
    Service,
    Tool,
    api_folders,
    python_wsgi,
)

USER = "dozen-keystone"


LOGINS = Lane("keystone-logins", 160, "dozencloud.hooks.logins:Guarded")
"""Passwords cost time, and whoever guesses them waits."""

_READERS = "rule:admin_required or (role:reader and system_scope:all)"
"""People who look at the whole cloud."""

RULES: Mapping[str, str] = {
    "identity:validate_token": f"{_READERS} or rule:service_role or rule:token_subject "
    f"or role:{TOKEN_CHECK}",
    # Limits of other projects are shown by the scope, and need no right.
    **{
        f"identity:{look_up}": f"{_READERS} or (role:{LIMIT_CHECK} and system_scope:all)"
        for look_up in ("list_services", "list_endpoints")
    },
    # Swift's and Keystone's own of before.
    "identity:ec2tokens_validate": "rule:admin_required",
    "identity:s3tokens_validate": "rule:admin_required",
    "identity:list_revoke_events": "rule:admin_required",
    "identity:revocation_list": "rule:admin_required",
}
"""Who may what, where it is not what upstream says."""


def _key_folders(plan: Plan) -> tuple[Path, Path]:
    etc = plan.cloud.etc / "keystone"
    return etc / "fernet-keys", etc / "credential-keys"


def make_keys(plan: Plan) -> None:
    """The two keys that `keystone-manage fernet_setup` makes: 0 staged, 1 primary."""
    for folder in _key_folders(plan):
        for number in ("0", "1"):
            path = folder / number
            if not path.exists():
                write_private(path, base64.urlsafe_b64encode(os.urandom(32)))
                own(path, USER)


def describe(plan: Plan) -> Service:
    cloud = plan.cloud
    etc = cloud.etc / "keystone"
    keys = _key_folders(plan)
    return Service(
        KEYSTONE,
        command=python_wsgi(plan, KEYSTONE, "dozencloud.hooks.keystone:application"),
        user=USER,
        environment={"OS_KEYSTONE_CONFIG_DIR": str(etc)},
        folders=(
            Folder(etc, USER, USER, 0o700),
            *(Folder(folder, USER, USER, 0o700) for folder in keys),
            *api_folders(cloud, KEYSTONE, USER),
        ),
        files=(
            File(
                etc / "keystone.conf",
                ini(
                    {
                        # A password that is too long is refused, not cut.
                        "DEFAULT": {**LOG_OPTIONS, "strict_password_check": True},
                        "database": database_options(plan, "keystone"),
                        "token": {"provider": "fernet", "expiration": 4 * 3600},
                        "fernet_tokens": {"key_repository": keys[0]},
                        "fernet_receipts": {"key_repository": keys[0]},
                        "credential": {"key_repository": keys[1]},
                        # bcrypt alone ends after 72 bytes; Keystone's own secrets of application
                        # credentials have 86.
                        "identity": {"password_hash_algorithm": "bcrypt_sha256"},
                        "cache": {
                            "enabled": True,
                            "backend": "dogpile.cache.memcached",
                            "memcache_servers": memcached(cloud),
                        },
                        # Of two at a time who read the catalogue and change it, the reader may keep
                        # what was there before, for ten minutes (keystone/catalog/core.py).
                        "catalog": {"caching": False},
                        "oslo_messaging_notifications": NO_NOTIFICATIONS,
                        "oslo_policy": policy_option(plan, "keystone"),
                    }
                ),
                owner=USER,
            ),
            policy_file(plan, "keystone", USER, RULES),
        ),
        prepare=lambda step: make_keys(plan),
        after=("mariadb", "memcached"),
        ready=answers(cloud, "keystone", "/identity/v3"),
    )


def _bootstrap(plan: Plan, database: str) -> tuple[tuple[str, ...]]:
    public, internal = (
        f"{url}/identity/v3" for url in (plan.cloud.public_url, plan.cloud.internal_url)
    )
    return (
        (
            *("bootstrap", "--bootstrap-region-id", REGION, "--bootstrap-admin-url", internal),
            *("--bootstrap-public-url", public, "--bootstrap-internal-url", internal),
        ),
    )


TOOL = Tool(
    "keystone-manage",
    "keystone",
    ("keystone.conf",),
    {"keystone": ("db_sync",)},
    first=_bootstrap,
)
IDENTITY = Api(
    "identity",
    # Tokens, users; a mapping or an access rule is some KiB.
    body="128k",
    kind="identity",
    name="keystone",
    version="/v3",
    lane=LOGINS,
)

KEYSTONE = Definition(
    name="keystone",
    title="Identity (Keystone)",
    describe=describe,
    roles=frozenset((Role.CONTROL,)),
    api=IDENTITY,
    rules=RULES,
    tool=TOOL,
)
