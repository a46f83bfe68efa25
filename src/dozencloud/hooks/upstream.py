"""Every private name of the pinned releases that the hooks replace or call, and how it looks.

A test holds each against what is installed. What the compute driver relies on: compute/upstream.py.
"""

from __future__ import annotations

from collections.abc import Mapping

REPLACED: Mapping[str, tuple[str, ...]] = {
    "glance.api.v2.image_data:ImageDataController.upload": (
        *("self", "req", "image_id", "data", "size"),
    ),
    "glance.api.v2.image_data:ImageDataController.stage": (
        *("self", "req", "image_id", "data", "size"),
    ),
    "glance.async_.flows._internal_plugins.web_download:get_flow": ("kwargs",),
    "glance.common.scripts.utils:open_external_uri": ("uri_or_request",),
    "glance.common.utils:get_validated_address": ("uri",),
    "glance.location:ImageProxy.set_data": ("self", "data", "size", "backend", "set_active"),
    "nova.compute.utils:exception_to_dict": ("fault", "message"),
    "nova.virt.images:do_image_deep_inspection": ("img", "image_href", "path"),
    "nova.virt.libvirt.utils:fetch_image": ("context", "target", "image_id", "trusted_certs"),
    "nova.virt.libvirt.utils:fetch_raw_image": ("context", "target", "image_id", "trusted_certs"),
}
"""module:name -> names of its parameters."""

USED: tuple[str, ...] = (
    "glance.async_.flows._internal_plugins.base_download:BaseDownload.revert",
    "glance.async_.flows._internal_plugins.web_download:_WebDownload.execute",
    "glance.async_.flows._internal_plugins.web_download:lf.Flow",
    "glance.common.exception:ImportTaskError",
    "glance.common.exception:InvalidImageData",
    "glance.common.exception:StorageQuotaFull",
    "glance.common.scripts.utils:SafeRedirectHandler",
    "glance.common.scripts.utils:_ValidatedExternalHTTPHandler",
    "glance.common.scripts.utils:_ValidatedExternalHTTPSHandler",
    "glance.db.sqlalchemy.api:user_get_staging_usage",
    "glance.db.sqlalchemy.api:user_get_storage_usage",
    "nova.virt.images:IMAGE_API",
    "nova.virt.libvirt.imagecache:ImageCacheManager.cache_dir",
    "oslo_limit.limit:Enforcer.get_project_limits",
)
"""Called, read or subclassed."""
