"""OpenStack Keystone: who somebody is, what they may do, and where the services are."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from dozencloud.cloud.plan import Plan
from dozencloud.host.users import own
from dozencloud.private import write_private
from dozencloud.services.options import (
    LOG_OPTIONS,
    LOGINS,
    NO_NOTIFICATIONS,
    database_options,
    ini,
    memcached,
    policy_file,
    policy_option,
)
from dozencloud.supervision.ready import answers
from dozencloud.supervision.service import File, Folder, Role, Service, api_folder, python_wsgi

USER = "dozen-keystone"


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


def service(plan: Plan) -> Service:
    cloud = plan.cloud
    etc = cloud.etc / "keystone"
    keys = _key_folders(plan)
    return Service(
        name="keystone",
        title="Identity (Keystone)",
        role=Role.CONTROL,
        command=python_wsgi(
            plan, "keystone", "dozencloud.hooks.keystone:application", "/identity", LOGINS
        ),
        user=USER,
        environment={"OS_KEYSTONE_CONFIG_DIR": str(etc)},
        folders=(
            Folder(etc, USER, USER, 0o700),
            *(Folder(folder, USER, USER, 0o700) for folder in keys),
            api_folder(cloud, "keystone", USER),
            api_folder(cloud, LOGINS.name, USER),
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
                        "oslo_messaging_notifications": NO_NOTIFICATIONS,
                        "oslo_policy": policy_option(plan, "keystone"),
                    }
                ),
                owner=USER,
            ),
            policy_file(plan, "keystone", USER),
        ),
        prepare=lambda step: make_keys(plan),
        after=("mariadb", "memcached"),
        ready=answers(cloud, "keystone", "/identity/v3"),
        listens="/identity",
    )
