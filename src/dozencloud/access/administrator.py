"""The cloud's administrator: who that is for clients, and a connection as him."""

from __future__ import annotations

from typing import Any

from dozencloud.cloud.installation import REGION, Cloud
from dozencloud.cloud.secret import Secrets

CLOUD_NAME = "dozen"
"""Name in clouds.yaml: `openstack --os-cloud dozen`."""


def clouds_yaml(cloud: Cloud, password: str) -> dict[str, Any]:
    """Content of clouds.yaml for the administrator (openstacksdk's format)."""
    return {
        "clouds": {
            CLOUD_NAME: {
                "auth": {
                    "auth_url": f"{cloud.public_url}/identity/v3",
                    "username": "admin",
                    "password": password,
                    "project_name": "admin",
                    "user_domain_id": "default",
                    "project_domain_id": "default",
                },
                "region_name": REGION,
                "interface": "public",
                "identity_api_version": 3,
                "cacert": str(cloud.ca),
            }
        }
    }


def connect(cloud: Cloud, **more: Any) -> Any:
    """openstacksdk connection as the administrator, over the public port."""
    import openstack

    password = Secrets(cloud.secrets_file)["keystone.admin"]
    (options,) = clouds_yaml(cloud, password)["clouds"].values()
    return openstack.connect(
        **options, **more, load_yaml_config=False, load_envvars=False, app_name="dozen"
    )
