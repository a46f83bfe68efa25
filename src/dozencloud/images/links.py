"""What an image says of other images: its kernel and initrd, and what its volumes are made from.

Nova resolves these. They are UUIDs; upstream's Nova takes one with a slash for an address, to which
it sends tokens (hooks/nova/references.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from dozencloud.errors import Problem

LINKS = ("kernel_id", "ramdisk_id")
VOLUMES = "block_device_mapping"

_UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
SCHEMA: Mapping[str, Any] = {
    **{
        name: {
            "type": ["null", "string"],
            "pattern": f"^{_UUID}$",
            "description": "ID of an image with the kernel or initrd that this one starts with.",
        }
        for name in LINKS
    },
    VOLUMES: {
        "type": ["null", "string"],
        # Escapes, by which JSON could spell an address in other characters, are of no use in it.
        "pattern": rf'^(?![\s\S]*\\)(?![\s\S]*"image_id"\s*:(?!\s*(null|"{_UUID}")))',
        "description": "JSON: the volumes that a server of this image gets; images by their ID.",
    },
}
"""Glance's schema-image.json: it holds what users write into images to these."""


def check(properties: Mapping[str, Any]) -> None:
    """Problem if a property leads to anything but an image of this cloud, by its ID."""
    for name, value in _references(properties):
        if value and not _is_id(value):
            raise Problem(
                f"{name} says {str(value)[:80]!r}, which is not the ID of an image.",
                "Give the UUID of an image of this cloud: openstack image list",
            )


def _references(properties: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((name, properties.get(name)) for name in LINKS)
    text = properties.get(VOLUMES)
    if not text:
        return
    try:
        devices = json.loads(text) if isinstance(text, str) else text
        yield from ((f"image_id in {VOLUMES}", each.get("image_id")) for each in devices)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Problem(
            f"{VOLUMES} is no list of devices in JSON.", "Write it as Nova does, or leave it out."
        ) from error


def _is_id(value: object) -> bool:
    try:
        return str(UUID(str(value))) == str(value).lower()
    except ValueError:
        return False
