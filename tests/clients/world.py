"""What the clients' own tests find in a cloud: the names that DevStack gives."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from openstack.exceptions import SDKException
from testcloud import IMAGE, TestCloud

ADMIN, SYSTEM = "devstack-admin", "devstack-system-admin"
PEOPLE = {"devstack": "demo", "devstack-alt": "alt_demo"}
"""Cloud in clouds.yaml -> its user, and the project of the same name, of which it is a member."""
FLAVOR, DISK = "m1.tiny", "cirros-tiny-uec"
"""The tests of openstackclient look for these; both are our small ones under another name."""


@contextmanager
def world(cloud: TestCloud) -> Iterator[dict[str, Any]]:
    """Make it; yields the content of a clouds.yaml. Removed at the end."""
    with ExitStack() as last:
        clouds = {}
        admin = json.loads((cloud.cloud.etc / "clouds.yaml").read_text())["clouds"]["dozen"]
        clouds[ADMIN] = admin
        whole = {key: admin["auth"][key] for key in ("auth_url", "username", "password")}
        whole |= {"user_domain_id": "default", "system_scope": "all"}
        clouds[SYSTEM] = admin | {"auth": whole}
        for name, user in PEOPLE.items():
            clouds[name] = admin | {"auth": admin["auth"] | _person(cloud.sdk, user, last)}
        _flavor(cloud.sdk, last)
        _image(cloud.sdk, last)
        functional = {"image_name": DISK, "flavor_name": FLAVOR}
        yield {"clouds": clouds, "functional": functional}


def _person(sdk: Any, name: str, last: ExitStack) -> dict[str, str]:
    identity, password = sdk.identity, secrets.token_hex(16)
    project = identity.create_project(name=name, domain_id="default")
    last.callback(identity.delete_project, project)
    last.callback(_empty, sdk, project.id)
    user = identity.create_user(
        name=name, password=password, domain_id="default", default_project_id=project.id
    )
    last.callback(identity.delete_user, user)
    identity.assign_project_role_to_user(project, user, identity.find_role("member"))
    return {"username": name, "password": password, "project_name": name}


def _empty(sdk: Any, project: str) -> None:
    """What Neutron made by itself; what tests that failed left in it stays."""
    with suppress(SDKException):
        sdk.network.delete_auto_allocated_topology(project)
    for group in sdk.network.security_groups(project_id=project):
        with suppress(SDKException):
            sdk.network.delete_security_group(group)


def _flavor(sdk: Any, last: ExitStack) -> None:
    made = sdk.compute.create_flavor(name=FLAVOR, ram=256, disk=1, vcpus=1)
    last.callback(sdk.compute.delete_flavor, made)


def _image(sdk: Any, last: ExitStack) -> None:
    image = sdk.image
    small = image.find_image(IMAGE)
    properties = {k: v for k, v in small.properties.items() if not k.startswith(("os_hash", "st"))}
    links = {"kernel_id": small.kernel_id, "ramdisk_id": small.ramdisk_id}
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder, "disk")
        image.download_image(small, output=str(disk))
        made = image.create_image(
            DISK,
            filename=str(disk),
            disk_format=small.disk_format,
            container_format="bare",
            visibility="public",
            allow_duplicates=True,
            meta=None,
            **properties,
            **links,
        )
    last.callback(image.delete_image, made.id)
