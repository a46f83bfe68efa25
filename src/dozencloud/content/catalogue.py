"""Which APIs a new cloud has and where they are, and how much of them a project may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dozencloud.cloud.installation import REGION, Cloud
from dozencloud.services import catalogued

IMAGE_LIMITS: Mapping[str, int] = {
    "image_size_total": 10240,
    "image_stage_total": 10240,
    "image_count_total": 100,
    "image_count_uploading": 10,
}
"""Of a project: MiB of images, MiB on their way into the cloud, images, and uploads at a time."""


def register(identity: Any, cloud: Cloud) -> None:
    """Services and endpoints; corrects addresses that have changed."""
    for api in catalogued():
        _endpoint(identity, cloud, api.name, api.kind, f"/{api.path}{api.version}")


def limit_images(identity: Any) -> None:
    """What a project may have in Glance; limits that are there stay as somebody set them.

    The administrator's own project has none: whoever is root puts images where there is room.
    """
    service = next(iter(identity.services(type="image")))
    where = {"service_id": service.id, "region_id": REGION}
    there = {limit.resource_name for limit in identity.registered_limits(**where)}
    for name, most in IMAGE_LIMITS.items():
        if name not in there:
            identity.create_registered_limit(resource_name=name, default_limit=most, **where)
    project = identity.find_project("admin").id
    there = {limit.resource_name for limit in identity.limits(project_id=project, **where)}
    for name in IMAGE_LIMITS:
        if name not in there:
            identity.create_limit(
                resource_name=name, resource_limit=-1, project_id=project, **where
            )


def _endpoint(identity: Any, cloud: Cloud, name: str, kind: str, path: str) -> None:
    service = next(iter(identity.services(type=kind)), None)
    service = service or identity.create_service(name=name, type=kind)
    there = {e.interface: e for e in identity.endpoints(service_id=service.id)}
    for interface, base in (
        ("public", cloud.public_url),
        ("internal", cloud.internal_url),
        ("admin", cloud.internal_url),
    ):
        if interface not in there:
            identity.create_endpoint(
                service_id=service.id, interface=interface, url=base + path, region_id=REGION
            )
        elif there[interface].url != base + path:
            identity.update_endpoint(there[interface], url=base + path)
