"""Every private name of the pinned releases that the hooks replace or call, and how it looks.

A test holds each against what is installed. What the compute driver relies on: compute/upstream.py.
"""

from __future__ import annotations

from collections.abc import Mapping

REPLACED: Mapping[str, tuple[str, ...]] = {
    "nova.api.openstack.compute.server_external_events:ServerExternalEventsController."
    "_get_instances_all_cells": ("self", "context", "instance_uuids", "instance_mappings"),
    "nova.image.glance:get_remote_image_service": ("context", "image_href"),
}
"""module:name -> names of its parameters."""

USED: tuple[str, ...] = ("nova.exception:ImageUnacceptable",)
"""Called, read or subclassed."""
